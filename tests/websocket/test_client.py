"""WebSockets of a client, with scripted servers and with the server of the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

pytest.importorskip('wsproto', reason='wsproto is not installed; it is in the extra "test"')

from geventnode import http, https, websocket
from geventnode.errors import (
    CertificateError,
    ConnectionRefused,
    InvalidInput,
    ParseError,
    ProxyError,
    RequestTimeout,
    UnknownOption,
    WebSocketClosed,
    WebSocketHandshakeError,
)
from geventnode.testing import serving, websocket_pair
from geventnode.websocket.handshake import accept_token
from tests.certificates import Certificates
from tests.http_proxies import Proxy
from tests.https_sites import tls_script
from tests.origins import MakeOrigin, Peer
from tests.servers import Log, Serve, Site
from tests.websocket.frames import frame, masked

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def url_of(site: Site, path: str = '/') -> str:
    return f'ws://127.0.0.1:{site.where[1]}{path}'


def echo(ws: Any) -> None:
    for message in ws:
        ws.send(message)


def echo_site(serve: Serve, **options: Any) -> Site:
    server = http.create_server()
    server.on('upgrade', websocket.listener(echo, **options))
    return serve(server)


def shaking(then: Callable[[Peer], None], *fields: str, accept: str | None = None) -> Callable[[Peer], None]:
    """Return a script for an origin: respond to the handshake, and go on with ``then``."""

    def script(peer: Peer) -> None:
        head = peer.until(b'\r\n\r\n').decode()
        key = next(line[19:] for line in head.split('\r\n') if line.startswith('Sec-WebSocket-Key: '))
        lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
        lines += [f'Sec-WebSocket-Accept: {accept or accept_token(key)}', *fields, '\r\n']
        peer.send('\r\n'.join(lines).encode())
        then(peer)

    return script


def read_masked(peer: Peer) -> tuple[int, bytes]:
    """Return the first byte and the payload of a short frame of a client."""
    first, second = peer.exactly(2)
    assert second & 0x80, 'a frame of a client is masked'
    mask = peer.exactly(4)
    return first, masked(peer.exactly(second & 0x7F), mask) if second & 0x7F else b''


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('compression', [False, True, {'client_no_context_takeover': True, 'minimum_size': 0}])
def test_messages_are_echoed(serve: Serve, compression: Any) -> None:
    sent = ['hello', '', b'', b'\x00\xff', 'ä€' * 65536, bytes(range(256)) * 3000, 'abc' * 100, 'abc' * 100]
    with websocket.connect(url_of(echo_site(serve, compression=True)), compression=compression) as ws:
        for message in sent:
            ws.send(message)
            assert ws.receive() == message
        assert ws.response.status_code == 101
    assert ws.close_code == 1000


def test_many_messages_at_once(serve: Serve) -> None:
    """The answers wait in the buffers of both sides, in order."""
    site = echo_site(serve)
    with websocket.connect(url_of(site)) as ws:
        sender = gevent.spawn(lambda: [ws.send(str(number)) for number in range(5000)])
        assert [ws.receive() for _ in range(5000)] == [str(number) for number in range(5000)]
        sender.get()


def test_messages_by_events(serve: Serve) -> None:
    log = Log()
    ws = websocket.connect(url_of(echo_site(serve)))
    ws.on('message', log.append)
    ws.on('close', lambda code, reason: log.append(code))
    ws.send('one')
    ws.send(b'two')
    log.wait_for(b'two')
    ws.close(4000)
    log.wait_for(4000)
    assert log == ['one', b'two', 4000]


def test_frames_are_masked(origin: MakeOrigin) -> None:
    log = Log()

    def then(peer: Peer) -> None:
        log.append(read_masked(peer))
        peer.send(frame(b'p', PING, mask=None))
        log.append(read_masked(peer))
        peer.send(frame(b'\x03\xe8', CLOSE, mask=None))
        log.append(read_masked(peer))

    ws = websocket.connect(f'ws://127.0.0.1:{origin(shaking(then)).port}/')
    ws.send('hello')
    assert list(ws) == []
    log.wait_for_length(3)
    assert log == [(0x81, b'hello'), (0x8A, b'p'), (0x88, b'\x03\xe8')]
    ws.close()


def test_handshake_of_http_1_0_is_refused(origin: MakeOrigin) -> None:
    """HTTP/1.0 has no upgrade (RFC 9110, section 7.8)."""

    def script(peer: Peer) -> None:
        request = peer.request()
        token = accept_token(request.value('Sec-WebSocket-Key'))
        peer.send(
            b'HTTP/1.0 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
            b'Sec-WebSocket-Accept: ' + token.encode() + b'\r\n\r\n'
        )
        peer.closed()

    with pytest.raises(ParseError, match=r'101 Switching Protocols in HTTP/1\.0'):
        websocket.connect(f'ws://127.0.0.1:{origin(script).port}/')


def test_masked_frames_of_a_server_are_refused(origin: MakeOrigin) -> None:
    log = Log()

    def then(peer: Peer) -> None:
        peer.send(frame(b'x', TEXT))
        log.append(read_masked(peer)[1][:2])

    ws = websocket.connect(f'ws://127.0.0.1:{origin(shaking(then)).port}/')
    with pytest.raises(websocket.WebSocketProtocolError, match='masked') as caught:
        ws.receive()
    assert caught.value.close_code == 1002
    log.wait_for(b'\x03\xea')
    ws.close()


def test_the_first_frame_can_arrive_with_the_response(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        shaking(lambda peer: peer.send(frame(b'early', TEXT, mask=None)))(peer)
        peer.rest()

    ws = websocket.connect(f'ws://127.0.0.1:{origin(script).port}/')
    assert ws.receive() == 'early'
    ws.destroy()
    assert ws.close_code == 1006


# -- the handshake ----------------------------------------------------------------------------------------------------


def test_a_message_before_an_error_can_be_answered(origin: MakeOrigin) -> None:
    """Also if both have arrived with the response."""
    log = Log()

    def script(peer: Peer) -> None:
        head = peer.until(b'\r\n\r\n').decode()
        key = next(line[19:] for line in head.split('\r\n') if line.startswith('Sec-WebSocket-Key: '))
        lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
        response = '\r\n'.join([*lines, f'Sec-WebSocket-Accept: {accept_token(key)}', '\r\n']).encode()
        peer.send(response + frame(b'x', TEXT, mask=None) + frame(b'y', TEXT, mask=None, rsv=0x20))
        log.append(read_masked(peer))
        log.append(read_masked(peer)[0])

    ws = websocket.connect(f'ws://127.0.0.1:{origin(script).port}/')
    ws.send(ws.receive())
    with pytest.raises(websocket.WebSocketProtocolError):
        ws.receive()
    log.wait_for_length(2)
    assert log == [(0x80 | TEXT, b'x'), 0x80 | CLOSE]


def test_the_request(origin: MakeOrigin) -> None:
    log = Log()

    def script(peer: Peer) -> None:
        log.append(peer.until(b'\r\n\r\n').decode())
        peer.send(b'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX: y\r\n\r\nno')

    port = origin(script).port
    with pytest.raises(WebSocketHandshakeError, match='403 instead of') as caught:
        websocket.connect(
            f'ws://127.0.0.1:{port}/path?query',
            headers={'Origin': 'http://here', 'Sec-WebSocket-Version': '8'},
            subprotocols=['b', 'a'],
            compression=True,
        )
    assert (caught.value.status, caught.value.headers['x']) == (403, 'y')
    lines = log[0].split('\r\n')
    assert lines[0] == 'GET /path?query HTTP/1.1'
    assert f'Host: 127.0.0.1:{port}' in lines
    for line in (
        'Upgrade: websocket',
        'Connection: Upgrade',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Protocol: b, a',
        (
            'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=12, '
            'permessage-deflate; client_max_window_bits'
        ),
        'Origin: http://here',
    ):
        assert line in lines


@pytest.mark.parametrize(
    ('fields', 'accept', 'problem'),
    [
        ([], 'wrong', 'wrong Sec-WebSocket-Accept'),
        (['Sec-WebSocket-Protocol: c'], None, 'a subprotocol that was not offered'),
        (['Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=16'], None, 'invalid parameters'),
        (['Sec-WebSocket-Extensions: permessage-deflate'], None, 'offered limits'),
        (['Sec-WebSocket-Extensions: permessage-deflate; other'], None, 'invalid parameters'),
        (['Sec-WebSocket-Extensions: other'], None, 'extensions that were not offered'),
        (['Sec-WebSocket-Extensions: ;'], None, 'malformed'),
    ],
)
def test_a_wrong_response_is_refused(origin: MakeOrigin, fields: list[str], accept: str | None, problem: str) -> None:
    closed = Log()

    def then(peer: Peer) -> None:
        closed.append(peer.rest())

    port = origin(shaking(then, *fields, accept=accept)).port
    with pytest.raises(WebSocketHandshakeError, match=problem) as caught:
        websocket.connect(f'ws://127.0.0.1:{port}/', subprotocols=['a'], compression={'server_max_window_bits': 12})
    assert caught.value.status == 101
    closed.wait_for(b'')


def test_extensions_without_an_offer_are_refused(origin: MakeOrigin) -> None:
    port = origin(shaking(lambda peer: None, 'Sec-WebSocket-Extensions: permessage-deflate')).port
    with pytest.raises(WebSocketHandshakeError, match='not offered'):
        websocket.connect(f'ws://127.0.0.1:{port}/')


def test_an_empty_list_of_extensions_is_none(origin: MakeOrigin) -> None:
    port = origin(shaking(lambda peer: peer.send(frame(b'x', TEXT, mask=None)), 'Sec-WebSocket-Extensions: ,')).port
    ws = websocket.connect(f'ws://127.0.0.1:{port}/')
    assert ws.receive() == 'x'
    ws.destroy()


def test_another_protocol_is_refused(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n')

    with pytest.raises(WebSocketHandshakeError, match='another protocol'):
        websocket.connect(f'ws://127.0.0.1:{origin(script).port}/')


def test_a_redirect_is_named(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 302 Found\r\nLocation: wss://other/\r\nContent-Length: 0\r\n\r\n')

    with pytest.raises(WebSocketHandshakeError, match="redirects to 'wss://other/'"):
        websocket.connect(f'ws://127.0.0.1:{origin(script).port}/')


def test_a_failed_handshake_leaves_no_connection(serve: Serve, agent: Callable[..., http.Agent]) -> None:
    """The connection serves no other request (and no body that the server sends later)."""
    keeping = agent(keep_alive=True)
    site = serve(lambda request, response: response.end('page'))
    with pytest.raises(WebSocketHandshakeError, match='200'):
        websocket.connect(url_of(site), agent=keeping)
    found = keeping.statistics()
    assert (found['active'], found['idle'], found['opened']) == (0, 0, 1)


def test_a_websocket_is_no_connection_of_the_agent(serve: Serve, agent: Callable[..., http.Agent]) -> None:
    few = agent(max_sockets=1)
    site = echo_site(serve)
    with websocket.connect(url_of(site), agent=few) as first, websocket.connect(url_of(site), agent=few) as second:
        second.send('x')
        first.send('y')
        assert (first.receive(), second.receive()) == ('y', 'x')


def test_handshake_timeout(origin: MakeOrigin) -> None:
    script = origin(lambda peer: peer.rest())
    with pytest.raises(RequestTimeout):
        websocket.connect(f'ws://127.0.0.1:{script.port}/', handshake_timeout=0.05)


def test_a_refused_connection() -> None:
    with pytest.raises(ConnectionRefused):
        websocket.connect('ws://127.0.0.1:1/')


@pytest.mark.parametrize('url', ['ftp://x/', '/path', 'ws://x/#fragment', 'example.org'])
def test_wrong_urls_raise(url: str) -> None:
    with pytest.raises(InvalidInput, match='WebSocket'):
        websocket.connect(url)


def test_misspelled_options_raise() -> None:
    with pytest.raises(UnknownOption, match='subprotocols'):
        websocket.connect('ws://x/', sub_protocols=['a'])  # type: ignore[call-arg]
    with pytest.raises(UnknownOption, match='method'):
        websocket.connect('ws://x/', method='POST')


def test_over_tls(certificates: Certificates) -> None:
    server = https.create_server(certfile=certificates.server)
    server.on('upgrade', websocket.listener(echo, compression=True))
    with serving(server) as site:
        url = f'wss://localhost:{site.where[1]}/'
        with websocket.connect(url, ca=certificates.ca, compression=True) as ws:
            for message in ('hello' * 1000, bytes(500_000)):
                ws.send(message)
                assert ws.receive() == message
        with pytest.raises(CertificateError):
            websocket.connect(url)


@pytest.mark.parametrize('secure', [False, True], ids=['ws', 'wss'])
@pytest.mark.parametrize('proxy_tls', [False, True], ids=['http', 'https'])
def test_through_a_proxy(
    serve: Serve, origin: MakeOrigin, certificates: Certificates, secure: bool, proxy_tls: bool
) -> None:
    """A tunnel, with and without TLS on either part of the way; the server does not learn the credentials."""
    server = https.create_server(certfile=certificates.server) if secure else http.create_server()
    seen: list[Any] = []

    @server.on('upgrade')
    @websocket.listener
    def serve_one(ws: Any) -> None:
        seen.append(ws.request.headers.get('proxy-authorization'))
        echo(ws)

    port = serve(server).where[1]
    script = Proxy('Basic dXNlcjpzZWNyZXQ=')
    where = origin(tls_script(certificates, script) if proxy_tls else script)
    made: Any = https.Agent if secure else http.Agent
    options: dict[str, Any] = {'proxy_tls': {'ca': certificates.ca}} if proxy_tls else {}
    scheme = 'https' if proxy_tls else 'http'
    with made(proxy=f'{scheme}://user:secret@localhost:{where.port}', **options) as agent:
        tls = {'ca': certificates.ca} if secure else {}
        url = f'{"wss" if secure else "ws"}://localhost:{port}/'
        with websocket.connect(url, agent=agent, **tls) as ws:
            for message in ('hello', bytes(200_000)):
                ws.send(message)
                assert ws.receive() == message
    assert script.lines == [f'CONNECT localhost:{port} HTTP/1.1']
    assert seen == [None]


def test_a_proxy_that_refuses_is_named(origin: MakeOrigin) -> None:
    where = origin(Proxy('Basic dXNlcjpzZWNyZXQ='))
    with http.Agent(proxy=f'http://user:wrong@127.0.0.1:{where.port}') as agent:
        with pytest.raises(ProxyError, match=rf'^proxy {where.url}: refused a tunnel to a.example:80: 407') as caught:
            websocket.connect('ws://a.example/', agent=agent)
        assert 'wrong' not in str(caught.value)
        assert agent.total_socket_count == 0


def test_global_proxies_are_used(serve: Serve, origin: MakeOrigin) -> None:
    script = Proxy()
    port = echo_site(serve).where[1]
    restore = http.set_global_proxy_from_env({'http_proxy': origin(script).url})
    try:
        with websocket.connect(f'ws://127.0.0.1:{port}/') as ws:
            ws.send('hello')
            assert ws.receive() == 'hello'
    finally:
        restore()
    assert script.lines == [f'CONNECT 127.0.0.1:{port} HTTP/1.1']


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_server_that_disconnects_raises(origin: MakeOrigin) -> None:
    port = origin(shaking(lambda peer: peer.send(frame(b'x', TEXT, mask=None)))).port
    ws = websocket.connect(f'ws://127.0.0.1:{port}/')
    found: list[Any] = []
    with pytest.raises(WebSocketClosed) as caught:
        found.extend(iter(ws.receive, None))
    assert caught.value.close_code == 1006
    with pytest.raises(WebSocketClosed):
        ws.send('x')


def test_the_client_waits_for_the_server_to_end(origin: MakeOrigin) -> None:
    """RFC 6455, section 7.1.1; a server that does not is left after close_timeout."""
    log = Log()

    def then(peer: Peer) -> None:
        log.append(read_masked(peer))
        peer.send(frame(b'\x03\xe8', CLOSE, mask=None))
        log.append(peer.rest())

    ws = websocket.connect(f'ws://127.0.0.1:{origin(shaking(then)).port}/', close_timeout=0.05)
    ws.close()
    assert ws.close_code == 1000
    log.wait_for(b'')


def test_a_block_that_fails_closes_with_1011(serve: Serve) -> None:
    log = Log()
    server = http.create_server()
    server.on(
        'upgrade',
        websocket.listener(lambda ws: (ws.on('message', print), ws.on('close', lambda code, reason: log.append(code)))),
    )
    url = url_of(serve(server))
    with pytest.raises(KeyError), websocket.connect(url):
        raise KeyError(1)
    log.wait_for(1011)


# -- the testing kit --------------------------------------------------------------------------------------------------


def test_a_pair_in_memory() -> None:
    with websocket_pair(max_message_size=10) as (client, server):
        client.send('hello')
        assert server.receive() == 'hello'
        server.send(b'answer')
        assert client.receive() == b'answer'
        client.send('x' * 11)
        with pytest.raises(websocket.MessageTooBig):
            server.receive()
        with pytest.raises(WebSocketClosed) as caught:
            client.receive()
        assert caught.value.close_code == 1009
