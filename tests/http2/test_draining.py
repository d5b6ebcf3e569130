"""Test how a server with HTTP/2 closes its connections: no request is lost, and each client gets GOAWAY."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import gevent
import pytest
from gevent.event import Event
from h2.events import PingAckReceived
from h2.settings import SettingCodes

from geventnode import http, https
from tests.certificates import Certificates
from tests.http2.client import Client, Connect, Response
from tests.http2.test_tls import handshake
from tests.servers import Serve, ok
from tests.sockets import until

LAST = 2**31 - 1


def test_requests_in_progress_are_finished(connect_h2: Connect) -> None:
    begun, go_on = Event(), Event()

    def listener(request: Any, response: Any) -> None:
        begun.set()
        go_on.wait()
        response.end(b'finished')

    client = connect_h2(listener)
    server = client.site.server
    first = client.get()
    begun.wait()
    closing = gevent.spawn(server.stop)
    client.until(lambda: client.goaways)
    assert client.goaways == [(0, LAST)]
    # the client knows of the end: the server names the last request
    client.until(lambda: len(client.goaways) == 2)
    assert client.goaways[1] == (0, first)
    go_on.set()
    assert client.response(first).body == b'finished'
    client.wait_closed()
    client.close()
    closing.join()


def test_goaway_follows_the_responses_in_progress(connect_h2: Connect) -> None:
    """A client that gives up its requests at GOAWAY, as those of h2 do, has lost none."""
    begun, go_on = Event(), Event()

    def listener(request: Any, response: Any) -> None:
        begun.set()
        go_on.wait()
        response.end(bytes(100_000))

    client = connect_h2(listener)
    server = client.site.server
    numbers = [client.get() for _ in range(3)]
    begun.wait()
    closing = gevent.spawn(server.stop)
    gevent.idle()
    go_on.set()
    client.wait_closed()
    assert [len(client.responses[number].body) for number in numbers] == [100_000] * 3
    names = [type(event).__name__ for event in client.events]
    assert names.count('StreamEnded') == 3
    assert max(index for index, name in enumerate(names) if name == 'StreamEnded') < names.index('ConnectionTerminated')
    client.close()
    closing.join()


def test_request_on_its_way_is_served(connect_h2: Connect) -> None:
    client = connect_h2(ok)
    client.response(client.get())
    server = client.site.server
    closing = gevent.spawn(server.stop)
    # the client has not read the GOAWAY
    number = client.get('/late')
    assert client.response(number).body == b'GET /late'
    client.wait_closed()
    assert client.goaways == [(0, LAST), (0, number)]
    client.close()
    closing.join()


@pytest.mark.parametrize('trailers', [False, True])
def test_request_after_the_last_one_is_ignored(connect_h2: Connect, trailers: bool) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(request.url)

    client = connect_h2(listener)
    server = client.site.server
    first = client.get('/first')
    closing = gevent.spawn(server.stop)
    client.until(lambda: len(client.goaways) == 2)
    # a client that does not look at GOAWAY
    head = client.h2.encoder.encode(client.head('POST', '/refused'))
    client.send_raw(len(head).to_bytes(3, 'big') + b'\x01\x04\x00\x00\x00\x03' + head)
    if trailers:
        client.send_raw(b'\x00\x00\x05\x00\x00\x00\x00\x00\x03hello')
        block = client.h2.encoder.encode([(b'x-sum', b'1')])
        client.send_raw(len(block).to_bytes(3, 'big') + b'\x01\x05\x00\x00\x00\x03' + block)
    else:
        client.send_raw(b'\x00\x00\x05\x00\x01\x00\x00\x00\x03hello')
    client.h2.ping(b'have you')
    client.flush()
    client.until(lambda: any(isinstance(event, PingAckReceived) for event in client.events))
    go_on.set()
    assert client.response(first).body == b'/first'
    client.wait_closed()
    client.close()
    closing.join()


def test_idle_connection_closes_at_once_without_an_answer(connect_h2: Connect) -> None:
    client = connect_h2(ok)
    client.response(client.get())
    server = client.site.server
    # this client answers no PING: it does not read
    server.close()
    gevent.sleep(0)
    client.wait_closed()
    assert client.goaways[-1] == (0, 1)


def test_close_idle_connections(connect_h2: Connect) -> None:
    client = connect_h2(ok)
    client.response(client.get())
    client.site.server.close_idle_connections()
    assert client.goaway() == 0
    client.wait_closed()


def test_idle_connection_is_closed_in_time(connect_h2: Connect) -> None:
    client = connect_h2(ok, keep_alive_timeout=0.1, keep_alive_timeout_buffer=0.0)
    client.response(client.get())
    client.wait_closed()
    assert client.goaways == [(0, 1)]


def test_connection_without_a_request_is_closed_in_time(connect_h2: Connect) -> None:
    client = connect_h2(ok, headers_timeout=0.1)
    client.wait_closed()
    assert client.goaways == [(0, 0)]


def test_requests_per_socket_are_limited(connect_h2: Connect) -> None:
    client = connect_h2(ok, max_requests_per_socket=2)
    assert [client.response(client.get()).status for _ in range(2)] == [200, 200]
    client.wait_closed()
    assert client.goaways == [(0, 3)]
    # the last response was complete before
    assert [type(event).__name__ for event in client.events][-2:] == ['StreamEnded', 'ConnectionTerminated']


def test_request_above_the_limit_is_named_by_goaway(connect_h2: Connect) -> None:
    go_on = Event()
    urls: list[str] = []

    def listener(request: Any, response: Any) -> None:
        urls.append(request.url)
        go_on.wait()
        response.end(b'x')

    client = connect_h2(listener, max_requests_per_socket=2)
    numbers = [client.get(path) for path in ('/1', '/2', '/3')]
    # GOAWAY comes in time although no request ends
    client.until(lambda: client.goaways)
    assert client.goaways == [(0, numbers[1])]
    go_on.set()
    assert [client.response(number).body for number in numbers[:2]] == [b'x', b'x']
    client.wait_closed()
    assert urls == ['/1', '/2']
    assert client.responses[numbers[2]].status is None


@pytest.mark.parametrize('ends', [True, False])
def test_client_that_ends_its_direction_gets_its_response(connect_h2: Connect, ends: bool) -> None:
    go_on = Event()
    aborted: list[bool] = []

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        aborted.append(request.aborted)
        response.end(b'whole')

    client: Client = connect_h2(listener)
    number = client.get()
    if ends:
        client.end_output()
        client.until(lambda: aborted or go_on.set() or True)
    go_on.set()
    assert client.response(number).body == b'whole'


# -- streams in each state when the server closes ---------------------------------------------------------------------


def closing(client: Client) -> Any:
    """Close the server, and return the greenlet when the client knows the last request."""
    server = client.site.server
    stopping = gevent.spawn(server.stop)
    client.until(lambda: len(client.goaways) == 2)
    return stopping


def over(client: Client, stopping: Any) -> None:
    """Check that the server ends after its last stream."""
    client.wait_closed()
    client.close()
    stopping.join()


@pytest.mark.parametrize('expect', [False, True])
def test_upload_in_progress_is_finished(connect_h2: Connect, expect: bool) -> None:
    """Also one of which the client waits for 100."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(str(len(request.read())))

    client = connect_h2(listener)
    fields = [('expect', '100-continue')] if expect else []
    number = client.start('POST', '/', *fields)
    if not expect:
        client.send_data(number, b'first')
    stopping = closing(client)
    go_on.set()
    if expect:
        client.until(lambda: client.responses[number].informational)
    client.send_data(number, b'other', end=True)
    assert client.response(number).body == (b'5' if expect else b'10')
    over(client, stopping)


@pytest.mark.parametrize('size', [10_000, 1_000_000])
def test_response_that_waits_for_its_window_is_finished(connect_h2: Connect, size: int) -> None:
    client = connect_h2(
        lambda request, response: response.end(bytes(size)), client={'settings': {SettingCodes.INITIAL_WINDOW_SIZE: 0}}
    )
    number = client.get()
    client.until(lambda: client.responses[number].status)
    stopping = closing(client)
    assert client.responses[number].body == b''
    client.h2.increment_flow_control_window(size, number)
    client.flush()
    assert len(client.response(number).body) == size
    over(client, stopping)


def test_closed_window_does_not_keep_the_server(connect_h2: Connect) -> None:
    client = connect_h2(
        lambda request, response: response.end(b'body'),
        client={'settings': {SettingCodes.INITIAL_WINDOW_SIZE: 0}},
        timeout=0.2,
    )
    number = client.get()
    stopping = closing(client)
    assert client.response(number).reset == 8
    over(client, stopping)


def test_reset_is_the_end_of_a_stream(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: None)
    number = client.get()
    stopping = closing(client)
    client.reset(number)
    over(client, stopping)


def test_unread_body_does_not_keep_the_server(connect_h2: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response has ended, and the client does not end its request."""
    monkeypatch.setattr('geventnode.http2.deadlines.DISCARD_TIME', 0.1)
    client = connect_h2(ok)
    number = client.start('POST', '/', ('content-length', '10'))
    client.until(lambda: client.responses[number].ended)
    stopping = closing(client)
    client.until(lambda: client.responses[number].reset is not None)
    assert client.responses[number].reset == 0
    over(client, stopping)


def test_tunnel_is_kept(connect_h2: Connect, serve: Serve) -> None:
    server = http.create_server(ok, http2=True)
    server.on('connect', lambda request, socket, head: socket.pipe(socket))
    client = connect_h2(serve(server))
    number = client.start_fields([(b':method', b'CONNECT'), (b':authority', b'localhost:1')], end=False)
    client.send_data(number, b'before ')
    client.until(lambda: client.responses[number].body)
    stopping = closing(client)
    client.send_data(number, b'after', end=True)
    assert client.response(number).body == b'before after'
    over(client, stopping)


def test_stop_resets_nothing_that_ends_in_time_and_destroys_the_rest(connect_h2: Connect) -> None:
    left: list[str] = []

    def listener(request: Any, response: Any) -> None:
        if request.url == '/never':
            response.on('close', lambda: left.append(request.url))
        else:
            response.end(b'in time')

    client = connect_h2(listener)
    never, other = client.get('/never'), client.get('/other')
    server = client.site.server
    stopping = gevent.spawn(server.stop, 0.2)
    assert client.response(other).body == b'in time'
    client.wait_closed()
    stopping.join()
    assert not client.responses[never].over
    gevent.sleep(0)
    assert left == ['/never']


def test_requests_beyond_the_limit_are_left_to_another_connection(connect_h2: Connect) -> None:
    """They arrive together; GOAWAY names the last one that is served."""
    served: list[str] = []

    def listener(request: Any, response: Any) -> None:
        served.append(request.url)
        response.end(request.read())

    client = connect_h2(listener, max_requests_per_socket=2)
    for number in range(1, 10, 2):
        client.responses[number] = Response()
        client.h2.send_headers(number, client.head('POST', f'/{number}'), end_stream=False)
    client.flush()
    for number in (1, 3):
        client.send_data(number, b'x', end=True)
        assert client.response(number).body == b'x'
    client.wait_closed()
    assert client.goaways == [(0, 3)]
    assert served == ['/1', '/3']


# -- idle connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', ['handling', 'reading', 'window', 'tunnel'])
def test_open_stream_is_no_idle_connection(connect_h2: Connect, serve: Serve, kind: str) -> None:
    """The connection is closed only after its stream has ended."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if kind == 'handling':
            go_on.wait()
        response.end(request.read() or b'x')

    server = http.create_server(listener, http2=True, keep_alive_timeout=0.1, keep_alive_timeout_buffer=0)
    server.on('connect', lambda request, socket, head: socket.pipe(socket))
    settings = {SettingCodes.INITIAL_WINDOW_SIZE: 0} if kind == 'window' else {}
    client = connect_h2(serve(server), client={'settings': settings})
    if kind == 'tunnel':
        number = client.start_fields([(b':method', b'CONNECT'), (b':authority', b'localhost:1')], end=False)
    else:
        number = client.start('POST' if kind == 'reading' else 'GET', '/', end=kind != 'reading')
    gevent.sleep(0.5)
    assert client.goaways == []
    go_on.set()
    if kind in ('reading', 'tunnel'):
        client.send_data(number, b'x', end=True)
    elif kind == 'window':
        client.h2.increment_flow_control_window(1, number)
        client.flush()
    assert client.response(number).body == b'x'
    client.wait_closed()
    assert client.goaways == [(0, number)]


def test_pings_do_not_keep_an_idle_connection(connect_h2: Connect) -> None:
    client = connect_h2(ok, keep_alive_timeout=0.2, keep_alive_timeout_buffer=0, http2_max_control_frames=10**9)
    client.response(client.get())
    while not client.closed:
        client.h2.ping(b'geventno')
        client.flush_acks()
        client.receive()
        # not a flood
        gevent.sleep(0.01)
    assert client.goaways == [(0, 1)]


# -- connections that are destroyed -----------------------------------------------------------------------------------


def crowded(listener: Any, buffer: float) -> Any:
    """Return a server with one place, of which no other deadline passes."""
    server = http.create_server(
        listener, http2=True, max_connections=1, wait_when_full=True, keep_alive_timeout_buffer=buffer
    )
    server._shortest_timeout = 10**6
    return server


@pytest.mark.parametrize('buffer', [0.0, 0.1])
def test_idle_connection_makes_room_with_goaway(
    connect_h2: Connect, serve: Serve, buffer: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next client does not wait until the first one has closed its side."""
    monkeypatch.setattr('geventnode.http2.deadlines.LINGER_TIME', 10**6)
    client = connect_h2(serve(crowded(ok, buffer)))
    assert client.response(client.get()).status == 200
    other = connect_h2(client.site)
    assert other.response(other.get()).status == 200
    client.wait_closed()
    assert client.goaways == [(0, 1)]


def test_connection_makes_room_after_its_last_response(connect_h2: Connect, serve: Serve) -> None:
    """The next client was waiting before."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(b'whole')

    client = connect_h2(serve(crowded(listener, 0.1)))
    number = client.get()
    site = client.site
    until(lambda: site.server.statistics()['handling'])
    other = connect_h2(site)
    waiting = other.get()
    until(lambda: site.server._at_capacity)
    go_on.set()
    assert client.response(number).body == b'whole'
    assert other.response(waiting).body == b'whole'
    client.wait_closed()
    assert client.goaways == [(0, 1)]


def destroy(server: Any, request: Any, how: str) -> None:
    if how == 'stop':
        server.stop(0)
    elif how == 'close_all_connections':
        server.close_all_connections()
    else:
        request.socket.destroy(ValueError('broken') if how == 'error' else None)


@pytest.mark.parametrize('encrypted', [False, True])
@pytest.mark.parametrize(
    ('how', 'goaways'),
    [
        ('stop', [(0, 3)]),
        ('close_all_connections', [(0, 3)]),
        ('socket', [(0, 3)]),
        ('error', [(2, 3)]),
    ],
)
def test_destroyed_connection_gets_goaway(
    connect_h2: Connect,
    serve: Serve,
    certificates: Certificates,
    how: str,
    goaways: list[tuple[int, int]],
    encrypted: bool,
) -> None:
    """Its client knows that the server has seen no later request."""
    requests: list[Any] = []
    arrived = Event()

    def listener(request: Any, response: Any) -> None:
        requests.append(request)
        response.write(b'begun')
        if len(requests) == 2:
            arrived.set()

    options: dict[str, Any] = {'http2': True}
    client: dict[str, Any] = {}
    if encrypted:
        server: Any = https.create_server(listener, certfile=certificates.server, **options)
        client['wrap'] = lambda raw: handshake(raw, certificates, 'h2')
    else:
        server = http.create_server(listener, **options)
    connected = connect_h2(serve(server), client=client)
    numbers = [connected.get(), connected.get()]
    arrived.wait()
    connected.until(lambda: all(connected.responses[number].body for number in numbers))
    gevent.spawn(destroy, server, requests[0], how).join()
    with contextlib.suppress(ssl.SSLEOFError):
        connected.wait_closed()
    assert connected.goaways == goaways
    assert not any(connected.responses[number].over for number in numbers)
    gevent.sleep(0)
    assert not server._sockets
