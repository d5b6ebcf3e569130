"""WebSockets of a server, with a client that sends and receives bytes."""

from __future__ import annotations

import contextlib
import logging
import socket as stdlib
import zlib
from typing import Any

import gevent
import gevent.event
import pytest

pytest.importorskip('wsproto', reason='wsproto is not installed; it is in the extra "test"')

from geventnode import http, websocket
from geventnode.errors import (
    InvalidInput,
    PingTimeout,
    SendQueueFull,
    SendTimeout,
    StreamModeError,
    UnknownOption,
    WebSocketClosed,
)
from tests.servers import Client, Log, Serve, Site, get, repeating
from tests.sockets import shrink, until
from tests.websocket.frames import HANDSHAKE, TOKEN, close_frame, frame, read_frame

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def site_for(serve: Serve, handler: Any, **options: Any) -> Site:
    """Return a site that calls ``handler`` with each WebSocket."""
    server = http.create_server(lambda request, response: response.end('plain'))
    server.on('upgrade', websocket.listener(handler, **options))
    return serve(server)


def opened(site: Site, *fields: str, data: bytes = b'', receive_buffer: int | None = None) -> Client:
    """Return a client after its handshake."""
    client = site.connect(receive_buffer).send(get('/', *HANDSHAKE, *fields) + data)
    assert client.head().status == 101
    return client


def echo(ws: Any) -> None:
    for message in ws:
        ws.send(message)


def finish(client: Client) -> bytes:
    """Close in order, and return the bytes that the server has sent since."""
    return client.send(close_frame()).rest()


def test_messages_are_echoed(serve: Serve) -> None:
    client = opened(site_for(serve, echo))
    client.send(frame('ä€'.encode(), TEXT) + frame(b'\x00\xff', BINARY))
    assert read_frame(client) == (0x81, 'ä€'.encode())
    assert read_frame(client) == (0x82, b'\x00\xff')
    assert finish(client) == b'\x88\x02\x03\xe8'


def test_the_handshake_has_the_token(serve: Serve) -> None:
    """The example of RFC 6455, section 1.3; the first frame arrives with the request."""
    site = site_for(serve, echo)
    client = site.send(get('/', *HANDSHAKE) + frame(b'early', TEXT))
    head = client.head()
    assert head.values('Sec-WebSocket-Accept') == [TOKEN]
    assert head.values('Upgrade') == ['websocket']
    assert head.values('Connection') == ['Upgrade']
    assert client.exactly(7) == b'\x81\x05early'
    assert finish(client) == b'\x88\x02\x03\xe8'


def test_messages_by_events(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        ws.on('message', lambda message: (log.append(message), ws.send(message)))
        ws.on('ping', lambda payload: log.append(('ping', payload)))
        ws.on('close', lambda code, reason: log.append((code, reason)))
        ws.on('error', log.append)

    client = opened(site_for(serve, handler))
    client.send(frame(b'one', TEXT) + frame(b'two', BINARY))
    assert [read_frame(client), read_frame(client)] == [(0x81, b'one'), (0x82, b'two')]
    client.send(frame(b'p', PING))
    assert read_frame(client) == (0x8A, b'p')
    log.wait_for(('ping', b'p'))
    assert client.send(close_frame(4000, b'enough')).rest() == b'\x88\x02\x0f\xa0'
    client.half_close()
    log.wait_for((4000, 'enough'))
    assert log == ['one', b'two', ('ping', b'p'), (4000, 'enough')]


def test_an_idle_websocket_has_no_greenlet(serve: Serve) -> None:
    sockets: list[Any] = []

    def handler(ws: Any) -> None:
        sockets.append(ws)
        ws.on('message', ws.send)

    client = opened(site_for(serve, handler))
    client.send(frame(b'x', TEXT))
    read_frame(client)
    (ws,) = sockets
    gevent.idle()
    assert (ws._emitter, ws._receiver, ws._reader._protocol) == (None, None, None)
    finish(client)


def test_pings_are_answered_while_the_handler_works(serve: Serve) -> None:
    done = gevent.event.Event()
    client = opened(site_for(serve, lambda ws: done.wait()))
    client.send(frame(b'one', PING) + frame(b'two', PING))
    assert [read_frame(client), read_frame(client)] == [(0x8A, b'one'), (0x8A, b'two')]
    done.set()
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


# -- refused handshakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('fields', 'status'),
    [
        (['Connection: Upgrade', 'Upgrade: websocket', HANDSHAKE[3]], 426),
        (['Connection: Upgrade', 'Upgrade: websocket', HANDSHAKE[3], 'Sec-WebSocket-Version: 8'], 426),
        ([*HANDSHAKE[:3]], 400),
        ([*HANDSHAKE[:3], 'Sec-WebSocket-Key: short'], 400),
        ([*HANDSHAKE[:3], 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j'], 400),
        ([*HANDSHAKE[:3], 'Sec-WebSocket-Key: ' + 'A' * 21 + '!=='], 400),
        ([*HANDSHAKE, HANDSHAKE[3]], 400),
        ([*HANDSHAKE, 'Sec-WebSocket-Extensions: ;'], 400),
        ([*HANDSHAKE, 'Sec-WebSocket-Protocol: a b'], 400),
        ([*HANDSHAKE, 'Origin: https://other.example'], 403),
        ([*HANDSHAKE, 'Origin: null'], 403),
        ([*HANDSHAKE, 'Origin: http://['], 403),
    ],
)
def test_a_wrong_handshake_is_refused(serve: Serve, fields: list[str], status: int) -> None:
    """The connection serves no further request."""
    site = site_for(serve, echo)
    client = site.send(get('/', *fields) + get('/second'))
    answer = client.response()
    assert answer.status == status
    assert 'close' in answer.values('Connection')[0]
    assert answer.values('Sec-WebSocket-Version') == (['13'] if status == 426 else [])
    assert client.rest() == b''
    assert site.server.refusals['websocket'] == 1


def test_empty_list_elements_are_ignored(serve: Serve) -> None:
    """A recipient must accept them (RFC 9110, section 5.6.1.2)."""
    client = site_for(serve, echo, compression=True).send(
        get(
            '/',
            'Connection: , Upgrade,',
            'Upgrade: ,, websocket',
            *HANDSHAKE[2:],
            'Sec-WebSocket-Extensions:',
            'Sec-WebSocket-Extensions: permessage-deflate,',
        )
    )
    head = client.head()
    assert head.status == 101
    assert head.values('Sec-WebSocket-Extensions') == ['permessage-deflate; server_max_window_bits=12']
    finish(client)


def test_other_methods_are_refused(serve: Serve) -> None:
    client = site_for(serve, echo).send(get('/', *HANDSHAKE, method='DELETE'))
    assert client.response().status == 400
    assert client.rest() == b''


@pytest.mark.parametrize('upgrade', ['h2c', 'echo/1, echo/2', 'websockets'])
def test_requests_for_other_protocols_are_ordinary(serve: Serve, upgrade: str) -> None:
    """As those of Java's client, which offers HTTP/2: a listener for WebSockets does not want them."""
    site = site_for(serve, echo)
    client = site.send(get('/', 'Connection: Upgrade, HTTP2-Settings', f'Upgrade: {upgrade}'), get('/second'))
    assert [client.response().body, client.response().body] == [b'plain', b'plain']
    assert 'websocket' not in site.server.refusals


@pytest.mark.parametrize('upgrade', ['WebSocket', 'h2c, websocket'])
def test_websockets_are_recognized(serve: Serve, upgrade: str) -> None:
    """In any case, and beside other protocols (RFC 9110, section 7.8)."""
    client = site_for(serve, echo).connect()
    client.send(get('/', *[each.replace('Upgrade: websocket', f'Upgrade: {upgrade}') for each in HANDSHAKE]))
    assert client.head().status == 101
    finish(client)


def test_callback_decides_before_the_listener(serve: Serve) -> None:
    site = site_for(serve, echo)
    site.server.should_upgrade_callback = lambda request: True
    client = site.send(get('/', 'Connection: Upgrade', 'Upgrade: h2c'))
    assert client.response().status == 426
    assert client.rest() == b''


def test_requests_without_an_upgrade_are_ordinary(serve: Serve) -> None:
    assert site_for(serve, echo).get().body == b'plain'


@pytest.mark.parametrize(
    ('origins', 'origin', 'status'),
    [
        (None, 'http://HOST', 101),
        (None, 'https://HOST', 101),
        (None, 'http://HOST:81', 403),
        (None, 'http://user@other', 403),
        ('*', 'https://other.example', 101),
        ({'https://other.example'}, 'https://other.example', 101),
        ({'https://other.example'}, 'http://other.example', 403),
        ({'https://other.example'}, None, 101),
        (lambda request: 'origin' in request.headers, 'null', 101),
        (lambda request: 'origin' in request.headers, None, 403),
    ],
)
def test_origins(serve: Serve, origins: Any, origin: str | None, status: int) -> None:
    client = site_for(serve, echo, origins=origins).connect()
    fields = [] if origin is None else [f'Origin: {origin.replace("HOST", "example.org")}']
    request = get('/', *HANDSHAKE, *fields).replace(b'Host: x\r\n', b'Host: example.org\r\n')
    assert client.send(request).head().status == status
    client.abort()


@pytest.mark.parametrize(
    ('supported', 'offered', 'chosen'),
    [
        (['b', 'a'], 'a, b', ['b']),
        (['c'], 'a, b', []),
        ([], 'a', []),
        (['a'], '', []),
        (lambda offered: offered[-1], 'a, b', ['b']),
        (lambda offered: offered[-1], ',a,, b\t, ', ['b']),
        (['a'], ',', []),
    ],
)
def test_subprotocols(serve: Serve, supported: Any, offered: str, chosen: list[str]) -> None:
    log = Log()
    fields = [f'Sec-WebSocket-Protocol: {offered}'] if offered else []
    site = site_for(serve, lambda ws: log.append(ws.subprotocol), subprotocols=supported)
    client = site.send(get('/', *HANDSHAKE, *fields))
    assert client.head().values('Sec-WebSocket-Protocol') == chosen
    log.wait_for(chosen[0] if chosen else None)
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


def test_further_headers(serve: Serve) -> None:
    site = site_for(serve, lambda ws: None, headers={'Set-Cookie': 'a=b'})
    client = site.send(get('/', *HANDSHAKE))
    assert client.head().values('Set-Cookie') == ['a=b']
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


def test_misspelled_options_raise(serve: Serve) -> None:
    with pytest.raises(UnknownOption, match='max_message_size'):
        websocket.listener(echo, max_mesage_size=1)
    with pytest.raises(UnknownOption, match='client_max_window_bits'):
        websocket.listener(echo, compression={'client_max_windowbits': 12})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(InvalidInput, match='from 9 to 15'):
        websocket.listener(echo, compression={'client_max_window_bits': 8})
    with pytest.raises(TypeError, match='compression'):
        websocket.listener(echo, compression='deflate')  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match='close_timeout'):
        websocket.listener(echo, close_timeout=-1)
    with pytest.raises(TypeError, match='async def'):

        @websocket.listener
        async def handler(ws: Any) -> None:
            pass


# -- the end ----------------------------------------------------------------------------------------------------------


def test_the_handler_ends_the_websocket(serve: Serve) -> None:
    client = opened(site_for(serve, lambda ws: None))
    assert read_frame(client) == (0x88, b'\x03\xe8')
    assert finish(client) == b''


def test_a_failed_handler_closes_with_1011(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def handler(ws: Any) -> None:
        raise KeyError('secret')

    client = opened(site_for(serve, handler))
    assert read_frame(client) == (0x88, b'\x03\xf3')
    assert finish(client) == b''
    assert 'the WebSocket handler failed' in caplog.text


@pytest.mark.leaks('the hub keeps the exception of the listener')
def test_a_failed_listener_closes_with_1011(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    def handler(ws: Any) -> None:
        ws.on('message', lambda message: 1 / 0)

    client = opened(site_for(serve, handler))
    client.send(frame(b'x', TEXT))
    assert read_frame(client) == (0x88, b'\x03\xf3')
    assert finish(client) == b''
    assert 'ZeroDivisionError' in capsys.readouterr().err


def test_a_lost_connection_raises(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The messages before it arrive; the end does not look like an orderly one."""
    log = Log()

    def handler(ws: Any) -> None:
        try:
            for message in ws:
                log.append(message)
        except WebSocketClosed as error:
            log.append(error.close_code)
            raise

    client = opened(site_for(serve, handler))
    client.send(frame(b'x', TEXT)).half_close()
    log.wait_for(1006)
    assert log == ['x', 1006]
    assert 'failed' not in caplog.text


@pytest.mark.parametrize('code', [1000, 1001, None])
def test_iteration_ends_with_an_orderly_close(serve: Serve, code: int | None) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        log.append([*ws, ws.close_code])

    client = opened(site_for(serve, handler))
    client.send(frame(b'x', TEXT) + close_frame(code))
    log.wait_for(['x', 1005 if code is None else code])
    assert client.rest() == (b'\x88\x00' if code is None else b'\x88\x02' + code.to_bytes(2, 'big'))


def test_iteration_raises_for_other_codes(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        with pytest.raises(WebSocketClosed, match='closed with 4001: why') as caught:
            list(ws)
        log.append((caught.value.close_code, caught.value.close_reason))

    client = opened(site_for(serve, handler))
    client.send(close_frame(4001, b'why')).rest()
    log.wait_for((4001, 'why'))


def test_close_waits_for_the_client_only_for_a_time(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        ws.close(1001, 'bye')
        log.append(ws.close_code)

    client = opened(site_for(serve, handler, close_timeout=0.05))
    assert read_frame(client) == (0x88, b'\x03\xe9bye')
    log.wait_for(1006)
    assert client.rest() == b''


def test_messages_before_the_peers_close_frame_are_discarded_by_close(serve: Serve) -> None:
    """Also if they are more than wait for a reader."""
    closed = Log()

    def handler(ws: Any) -> None:
        ws.close()
        closed.append(ws.close_code)

    client = opened(site_for(serve, handler))
    client.send(frame(b'x' * 1000, TEXT) * 300 + close_frame(3000)).rest()
    client.half_close()
    closed.wait_for(3000)


def test_wrong_close_codes_raise(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        for code in (999, 1004, 1005, 1006, 1015, 2999, 5000, '1000'):
            with pytest.raises(InvalidInput, match='close code'):
                ws.close(code)
        with pytest.raises(InvalidInput, match='123 bytes'):
            ws.close(1000, 'ä' * 62)
        log.append('done')

    client = opened(site_for(serve, handler))
    log.wait_for('done')
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


def test_closed_websockets_refuse_messages(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        with pytest.raises(WebSocketClosed):
            ws.receive()
        for call in (lambda: ws.send('x'), lambda: ws.send_nowait('x'), ws.ping, ws.receive):
            with pytest.raises(WebSocketClosed) as caught:
                call()
            assert caught.value.close_code == 1001
        ws.close()
        log.append('done')

    client = opened(site_for(serve, handler))
    client.send(close_frame(1001)).rest()
    client.half_close()
    log.wait_for('done')


@pytest.mark.parametrize(
    ('data', 'options', 'code'),
    [
        (frame(b'x', TEXT, mask=None), {}, 1002),
        (frame(b'\xff', TEXT), {}, 1007),
        (frame(b'x' * 101, TEXT), {'max_message_size': 100}, 1009),
        (frame(b'x', TEXT, fin=False) + frame(b'x', 0, fin=False), {'max_fragments': 1}, 1008),
    ],
)
def test_the_connection_fails_with_a_code(serve: Serve, data: bytes, options: dict[str, Any], code: int) -> None:
    """The reader gets the error after the messages before it, and the client can read the close frame."""
    log = Log()

    def handler(ws: Any) -> None:
        log.append(ws.receive())
        with pytest.raises(WebSocketClosed) as caught:
            ws.receive()
        log.append((caught.value.close_code, ws.close_code))

    client = opened(site_for(serve, handler, **options))
    client.send(frame(b'first', TEXT) + data + bytes(100_000))
    first, payload = read_frame(client)
    assert (first, payload[:2]) == (0x88, code.to_bytes(2, 'big'))
    assert client.rest() == b''
    client.close()
    log.wait_for((code, code))
    assert log == ['first', (code, code)]


def test_an_error_is_emitted(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        ws.on('message', log.append)
        ws.on('error', lambda error: log.append(type(error)))
        ws.on('close', lambda code, reason: log.append(code))

    client = opened(site_for(serve, handler))
    client.send(frame(b'x', TEXT) + frame(b'\xff', TEXT)).rest()
    client.close()
    log.wait_for(1007)
    assert log == ['x', websocket.WebSocketProtocolError, 1007]


def test_a_draining_server_closes_with_1001(serve: Serve) -> None:
    """Messages that the client sends until it has closed arrive."""
    log = Log()

    def handler(ws: Any) -> None:
        log.append('open')
        log.append([*ws, ws.close_code])

    site = site_for(serve, handler)
    client = opened(site)
    log.wait_for('open')
    site.server.close()
    assert read_frame(client) == (0x88, b'\x03\xe9')
    client.send(frame(b'late', TEXT) + close_frame(1001)).rest()
    client.half_close()
    log.wait_for(['late', 1001])
    site.server.stop()


def test_a_draining_server_waits_for_a_time(serve: Serve) -> None:
    site = site_for(serve, lambda ws: ws.on('message', ws.send), close_timeout=0.05)
    client = opened(site)
    site.server.stop()
    assert read_frame(client) == (0x88, b'\x03\xe9')
    assert client.rest() == b''


# -- modes ------------------------------------------------------------------------------------------------------------


def test_calls_and_events_do_not_mix(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        with pytest.raises(TimeoutError, match='no message'):
            ws.receive(timeout=0.001)
        with pytest.raises(StreamModeError, match='receive'):
            ws.on('message', print)
        waiting = gevent.spawn(ws.receive)
        gevent.idle()
        with pytest.raises(StreamModeError, match='another greenlet'):
            ws.receive()
        log.append('waiting')
        log.append(waiting.get())

    def by_events(ws: Any) -> None:
        ws.on('message', log.append)
        with pytest.raises(StreamModeError, match='events'):
            ws.receive()

    client = opened(site_for(serve, handler))
    log.wait_for('waiting')
    client.send(frame(b'x', TEXT))
    log.wait_for('x')
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)
    other = opened(site_for(serve, by_events))
    other.send(frame(b'y', TEXT))
    log.wait_for('y')
    finish(other)


def test_an_interrupted_receive_loses_nothing(serve: Serve) -> None:
    def handler(ws: Any) -> None:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                ws.receive(timeout=0.001)
        ws.send('ready')
        ws.send(ws.receive(timeout=30))

    client = opened(site_for(serve, handler))
    assert read_frame(client) == (0x81, b'ready')
    client.send(frame(b'x', TEXT))
    assert read_frame(client) == (0x81, b'x')
    finish(client)


# -- back-pressure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('by_events', [False, True])
def test_a_slow_reader_pauses_the_socket(serve: Serve, by_events: bool) -> None:
    started, going = gevent.event.Event(), gevent.event.Event()
    sizes: list[int] = []
    sockets: list[Any] = []
    total = 2000

    def take(message: Any) -> None:
        started.set()
        going.wait()
        sizes.append(len(message))

    def handler(ws: Any) -> None:
        sockets.append(ws)
        if by_events:
            ws.on('message', take)
        else:
            for message in ws:
                take(message)

    client = opened(site_for(serve, handler))
    sender = gevent.spawn(client.send, frame(bytes(10_000), BINARY, mask=bytes(4)) * total + close_frame())
    started.wait()
    (ws,) = sockets
    while ws.socket._read_watcher.active:
        gevent.idle()
    assert len(ws._messages) <= 64
    assert ws.socket.bytes_read < 1_000_000
    going.set()
    sender.get()
    client.rest()
    assert sizes == [10_000] * total


def test_a_slow_peer_blocks_send(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        for number in range(400):
            ws.send(bytes(100_000))
            log.append(number)

    client = opened(site_for(serve, handler), receive_buffer=4096)
    log.wait_for(0)
    for _ in range(200):
        gevent.idle()
    assert len(log) < 200
    for _ in range(400):
        assert read_frame(client) == (0x82, bytes(100_000))
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


def test_a_slow_peer_exceeds_send_timeout(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        ws.send(bytes(50_000_000))
        with pytest.raises(SendTimeout, match=r'send_timeout \(0.05 seconds\)'):
            ws.send(b'')
        log.append(ws.close_code)

    client = opened(site_for(serve, handler, send_timeout=0.05), receive_buffer=4096)
    log.wait_for(1006)
    client.abort()


def test_send_nowait_has_a_limit(serve: Serve) -> None:
    """The connection stays open."""
    log = Log()

    def handler(ws: Any) -> None:
        while ws.buffered_amount < 1_000_000:
            ws.send_nowait(bytes(100_000))
        with pytest.raises(SendQueueFull, match=r'max_send_queue \(1000000 bytes\)'):
            ws.send_nowait(b'')
        assert 1_000_000 <= ws.buffered_amount < 1_100_100
        assert not ws.closed
        log.append('full')
        ws.receive()

    client = opened(site_for(serve, handler, max_send_queue=1_000_000), receive_buffer=4096)
    log.wait_for('full')
    client.send(frame(b'', TEXT))
    while (received := read_frame(client))[0] != 0x88:
        assert received == (0x82, bytes(100_000))
    finish(client)


def test_a_flood_of_pings_fills_no_queue(serve: Serve) -> None:
    """While the client does not read, only the last ping is answered later (RFC 6455, section 5.5.3)."""
    sockets: list[Any] = []
    done = gevent.event.Event()

    def handler(ws: Any) -> None:
        sockets.append(ws)
        done.wait()

    site = site_for(serve, handler)
    # the kernel then takes an eighth of the pongs
    site.server.on('connection', lambda socket: shrink(socket._raw))
    client = opened(site, receive_buffer=4096)
    count = 20_000
    sender = gevent.spawn(client.send, frame(b'x' * 100, PING, mask=bytes(4)) * count + frame(b'last', PING))
    sender.get()
    while sockets[0]._late_pong != b'last':
        gevent.idle()
    assert sockets[0].buffered_amount < 200_000
    answered = 0
    while read_frame(client)[1] != b'last':
        answered += 1
    assert answered < count
    done.set()
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


def test_a_flood_delays_no_other_connection(serve: Serve) -> None:
    """Between the messages of one connection, others have their turn."""
    log = Log()

    def handler(ws: Any) -> None:
        for message in ws:
            log.append((ws.request.url, message))

    site = site_for(serve, handler, max_message_size=1000)
    flood, other = site.connect(), site.connect()
    for name, client in (('/flood', flood), ('/other', other)):
        assert client.send(get(name, *HANDSHAKE)).head().status == 101
    flood.send(frame(b'x', TEXT) * 8000)
    other.send(frame(b'y', TEXT))
    log.wait_for(('/other', 'y'))
    assert len(log) < 8001
    log.wait_for_length(8001)
    finish(flood)
    finish(other)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Return a log of the turns that a connection leaves to others; each of its turns is as short as possible."""
    log = Log()
    wait_for_turn = websocket.WebSocket._wait_for_turn

    def note(ws: websocket.WebSocket) -> None:
        log.append('turn')
        wait_for_turn(ws)

    monkeypatch.setattr(websocket.WebSocket, '_wait_for_turn', note)
    monkeypatch.setattr('geventnode.websocket.connection.TURN_TIME', -1.0)
    return log


def test_large_messages_take_turns_with_other_connections(serve: Serve, turns: Log) -> None:
    """A few bytes can become megabytes, so the time is checked after each of them."""

    def handler(ws: Any) -> None:
        for message in ws:
            turns.append(len(message))

    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    client = opened(site_for(serve, handler, compression=True), 'Sec-WebSocket-Extensions: permessage-deflate')
    payload = (packer.compress(bytes(100_000)) + packer.flush(zlib.Z_FULL_FLUSH))[:-4]
    client.send(frame(payload, BINARY, rsv=0x40) * 10)
    turns.wait_for_length(15)
    assert turns == [100_000, 100_000, 'turn'] * 5
    finish(client)


def test_fragments_take_turns_with_other_connections(serve: Serve, turns: Log) -> None:
    """Thousands of them are a single message."""
    client = opened(site_for(serve, lambda ws: turns.append(ws.receive())))
    client.send(frame(b'x', TEXT, fin=False) + frame(b'', CONTINUATION, fin=False) * 98 + frame(b'y', CONTINUATION))
    turns.wait_for('xy')
    assert turns == ['turn', 'turn', 'turn', 'xy']
    finish(client)


# -- pings ------------------------------------------------------------------------------------------------------------


def test_ping_returns_the_round_trip(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        both = [gevent.spawn(ws.ping, 30), gevent.spawn(ws.ping)]
        log.append([0 < each.get() < 30 for each in both])
        ws.receive()

    client = opened(site_for(serve, handler))
    (_, first), (_, second) = read_frame(client), read_frame(client)
    assert first != second
    # one pong answers the earlier pings, too
    client.send(frame(b'unsolicited', PONG) + frame(second, PONG))
    log.wait_for([True, True])
    finish(client)


def test_ping_without_a_pong_closes(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        with pytest.raises(PingTimeout, match=r'0\.05 seconds') as caught:
            ws.ping(timeout=0.05)
        log.append(caught.value.close_code)

    client = opened(site_for(serve, handler))
    assert read_frame(client)[0] == 0x89
    log.wait_for(1011)
    assert client.rest()[:4] == b'\x88\x0e\x03\xf3'


def test_a_dead_client_is_closed(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        with pytest.raises(PingTimeout, match='ping_timeout'):
            ws.receive()
        log.append(ws.close_code)

    client = opened(site_for(serve, handler, ping_interval=0.02, ping_timeout=0.02))
    log.wait_for(1011)
    assert client.rest().startswith(b'\x89\x00\x88\x0e\x03\xf3')


def test_a_living_client_is_kept(serve: Serve) -> None:
    client = opened(site_for(serve, echo, ping_interval=0.01, ping_timeout=30))
    for _ in range(5):
        assert read_frame(client) == (0x89, b'')
        client.send(frame(b'', PONG))
    client.send(frame(b'x', TEXT))
    while (received := read_frame(client)) == (0x89, b''):
        client.send(frame(b'', PONG))
    assert received == (0x81, b'x')
    client.abort()


# -- compression ------------------------------------------------------------------------------------------------------

OFFER = 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits'


def test_compression(serve: Serve) -> None:
    site = site_for(serve, echo, compression=True)
    client = site.send(get('/', *HANDSHAKE, OFFER))
    assert client.head().values('Sec-WebSocket-Extensions') == [
        'permessage-deflate; server_max_window_bits=12; client_max_window_bits=12'
    ]
    packer, unpacker = zlib.compressobj(9, zlib.DEFLATED, -12), zlib.decompressobj(-12)
    for _ in range(3):
        payload = (packer.compress(b'x' * 5000) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        client.send(frame(payload, TEXT, rsv=0x40))
        first, answer = read_frame(client)
        assert first == 0xC1
        assert unpacker.decompress(answer + b'\x00\x00\xff\xff') == b'x' * 5000
    # short messages are not compressed
    client.send(frame(b'short', TEXT))
    assert read_frame(client) == (0x81, b'short')
    assert finish(client) == b'\x88\x02\x03\xe8'


def test_without_the_option_nothing_is_compressed(serve: Serve) -> None:
    client = site_for(serve, echo).send(get('/', *HANDSHAKE, OFFER))
    assert client.head().values('Sec-WebSocket-Extensions') == []
    client.send(frame(b'x', TEXT, rsv=0x40))
    assert read_frame(client)[1][:2] == b'\x03\xea'
    client.abort()


# -- request listeners, counters --------------------------------------------------------------------------------------


def test_upgrade_in_a_request_listener(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/ws':
            with websocket.upgrade(response, subprotocols=['chat']) as ws:
                ws.send(ws.receive())
        else:
            response.end('page')

    site = serve(listener)
    assert site.get().body == b'page'
    client = site.send(get('/ws', *HANDSHAKE, 'Sec-WebSocket-Protocol: chat') + frame(b'x', TEXT))
    head = client.head()
    assert (head.status, head.values('Sec-WebSocket-Protocol')) == (101, ['chat'])
    assert read_frame(client) == (0x81, b'x')
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


def test_a_refusal_in_a_request_listener(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        with pytest.raises(websocket.WebSocketHandshakeError):
            websocket.upgrade(response)

    site = serve(listener)
    answer = site.send(get('/', *HANDSHAKE[:2])).response()
    assert (answer.status, answer.values('Sec-WebSocket-Version')) == (426, ['13'])
    answer = site.get()
    assert answer.status == 426
    assert site.server.refusals['websocket'] == 2


def test_accept_in_an_upgrade_listener(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is counted and not logged as an error of the listener."""
    server = http.create_server()

    @server.on('upgrade')
    def listener(request: Any, socket: Any, head: bytes) -> None:
        websocket.accept(request, socket, head).close(4000)

    site = serve(server)
    with caplog.at_level(logging.INFO):
        assert site.send(get('/', *HANDSHAKE[:3])).response().status == 400
    assert [record.levelname for record in caplog.records] == ['INFO']
    client = opened(site)
    assert read_frame(client) == (0x88, b'\x0f\xa0')
    finish(client)


def test_websockets_are_counted(serve: Serve) -> None:
    site = site_for(serve, echo)
    client = opened(site)
    client.send(frame('ä'.encode(), TEXT) + frame(bytes(70_000), BINARY))
    assert read_frame(client) == (0x81, 'ä'.encode())
    assert read_frame(client) == (0x82, bytes(70_000))
    assert site.server.statistics()['websocket'] == 1
    assert site.server.websocket_statistics() == {
        'accepted': 1,
        'messages_received': 2,
        'messages_sent': 2,
        'bytes_received': 70_002,
        'bytes_sent': 70_002,
    }
    finish(client)


def test_what_can_be_sent(serve: Serve) -> None:
    log = Log()

    class Text(str):
        __slots__ = ()

    def handler(ws: Any) -> None:
        for message in (bytearray(b'1'), memoryview(b'2'), Text('3')):
            ws.send(message)
        for wrong in (None, 1, ['x']):
            with pytest.raises(TypeError, match='must be str or bytes'):
                ws.send(wrong)
        with pytest.raises(InvalidInput, match='UTF-8'):
            ws.send('\ud800')
        log.append('done')

    client = opened(site_for(serve, handler))
    assert [read_frame(client) for _ in range(3)] == [(0x82, b'1'), (0x82, b'2'), (0x81, b'3')]
    log.wait_for('done')
    assert read_frame(client) == (0x88, b'\x03\xe8')
    finish(client)


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ({'origins': 'https://example.org'}, InvalidInput),
        ({'origins': ''}, InvalidInput),
        ({'subprotocols': 'chat'}, TypeError),
    ],
)
def test_a_text_is_no_collection(options: dict[str, Any], error: type[Exception]) -> None:
    """``'https://example.o'`` is a part of an allowed origin, and another one."""
    with pytest.raises(error, match='put it into a'):
        websocket.listener(echo, **options)


def test_a_slow_peer_gets_the_keep_alive_ping(serve: Serve) -> None:
    """It follows the queued data, however much there is."""
    sockets: list[Any] = []

    def handler(ws: Any) -> None:
        sockets.append(ws)
        while True:
            ws.send(bytes(65536))

    client = opened(site_for(serve, handler, ping_interval=0.05, ping_timeout=30), receive_buffer=4096)
    while not (sockets and sockets[0]._probing):
        gevent.sleep(0.01)
    first = BINARY
    while first & 15 != PING:
        first, payload = read_frame(client)
    assert payload == b''
    sockets[0].destroy()


def in_its_turn(sockets: list[Any], client: Client, data: bytes) -> Any:
    """Return the WebSocket, which has so much input that others have their turn; the rest of it is ``data``."""
    client.send(frame(b'', PONG) * 9000)
    while not (sockets and sockets[0]._turn is not None):
        gevent.sleep(0)
    (ws,) = sockets
    ws._reader._position = len(ws._reader._data)
    ws._reader.feed(data)
    return ws


def test_destroy_returns_while_a_message_arrives(serve: Serve) -> None:
    sockets: list[Any] = []
    log = Log()

    def handler(ws: Any) -> None:
        sockets.append(ws)
        log.append(ws.receive())
        with pytest.raises(WebSocketClosed):
            ws.receive()
        log.append('lost')

    client = opened(site_for(serve, handler))
    ws = in_its_turn(sockets, client, frame(b'x', TEXT))
    destroyer = gevent.spawn(ws.destroy)
    log.wait_for('lost')
    assert log == ['x', 'lost']
    assert destroyer.get(timeout=10) is ws


def test_close_is_emitted_after_a_flood_without_messages(serve: Serve) -> None:
    sockets: list[Any] = []
    log = Log()

    def handler(ws: Any) -> None:
        sockets.append(ws)
        ws.on('message', log.append)
        ws.on('error', lambda error: None)
        ws.on('close', lambda code, reason: log.append(code))

    client = opened(site_for(serve, handler))
    in_its_turn(sockets, client, frame(b'', PONG) * 9000).destroy()
    log.wait_for(1006)


def test_receive_raises_after_a_flood_without_messages(serve: Serve) -> None:
    sockets: list[Any] = []
    log = Log()

    def handler(ws: Any) -> None:
        sockets.append(ws)
        with pytest.raises(WebSocketClosed):
            ws.receive()
        log.append('lost')

    client = opened(site_for(serve, handler))
    in_its_turn(sockets, client, frame(b'', PONG) * 9000).destroy()
    log.wait_for('lost')


def test_blocked_ping_listeners_pause_the_socket(serve: Serve) -> None:
    """Otherwise each ping of a flood has a greenlet that waits."""
    sockets: list[Any] = []
    go_on = gevent.event.Event()
    log = Log()

    def on_ping(payload: bytes) -> None:
        log.append(payload)
        go_on.wait()

    def handler(ws: Any) -> None:
        sockets.append(ws)
        ws.on('message', log.append).on('ping', on_ping)

    client = opened(site_for(serve, handler))
    client.send(frame(b'', PING) * 1000 + frame(b'after', TEXT))
    while not (sockets and sockets[0]._held and sockets[0]._turn is None):
        gevent.sleep(0)
    gevent.sleep(0)
    assert len(log) < 100
    go_on.set()
    log.wait_for('after')
    assert log.count(b'') == 1000
    client.close()


# -- peers that send and do not receive -------------------------------------------------------------------------------


def small_buffer(socket: Any) -> None:
    """Let the kernel hold little, so that the socket has a queue."""
    socket._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 8192)


def send_all(ws: Any, log: Log) -> None:
    """Send messages for ever, and note the code of the end."""
    try:
        while True:
            ws.send(bytes(20_000))
    except WebSocketClosed as error:
        log.append(error.close_code)
        raise


@pytest.mark.parametrize('data', [frame(b'', PONG), frame(b'x', TEXT)])
def test_input_does_not_keep_a_peer_that_does_not_receive(serve: Serve, data: bytes) -> None:
    log = Log()
    site = site_for(serve, lambda ws: send_all(ws, log), ping_interval=0.1, ping_timeout=0.1)
    site.server.on('connection', small_buffer)
    client = opened(site, receive_buffer=4096)

    with repeating(lambda: client.send(data), 0.03):
        log.wait_for(1011)


def test_a_slow_peer_without_messages_is_kept(serve: Serve) -> None:
    """The data before the keep-alive ping takes longer than its limit, and makes progress."""
    size, count = 20_000, 40
    log = Log()

    def handler(ws: Any) -> None:
        for _ in range(count):
            ws.send_nowait(bytes(size))
        log.append('sent')
        with contextlib.suppress(WebSocketClosed):
            ws.receive()
        log.append(ws.close_code)

    site = site_for(serve, handler, ping_interval=0.1, ping_timeout=0.5, max_send_queue=size * count)
    site.server.on('connection', small_buffer)
    client = opened(site, receive_buffer=65536)
    log.wait_for('sent')
    received = 0
    while received < count:
        first, _ = read_frame(client)
        received += first == 0x82
        gevent.sleep(0.04)
    client.send(close_frame())
    log.wait_for_length(2)
    assert log[1] == 1000


def test_a_pong_does_not_extend_the_closing_handshake(serve: Serve) -> None:
    log = Log()

    def handler(ws: Any) -> None:
        until(lambda: ws._probing)
        # as if the ping had just been sent, with an interval that no test waits for
        ws._settings = ws._settings._replace(ping_interval=3600)
        ws.close()
        log.append(ws.close_code)

    client = opened(site_for(serve, handler, ping_interval=0.02, ping_timeout=30, close_timeout=0.2))
    assert read_frame(client) == (0x89, b'')
    client.send(frame(b'', PONG))
    log.wait_for(1006)
