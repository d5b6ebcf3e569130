"""The testing kit: sites, connections in memory, raw exchanges.

Most tests run twice, through the kernel and in memory, with the same result.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

import geventnode.testing
from geventnode import http, https, net, tls
from geventnode.errors import InvalidInput, UnknownOption
from geventnode.testing import (
    ListeningSite,
    MemorySite,
    RawConnection,
    raw_request,
    serving,
    serving_in_memory,
)
from tests.certificates import tls_certificates
from tests.servers import ok
from tests.sockets import until

Serve = Callable[..., contextlib.AbstractContextManager[Any]]
BOTH = pytest.mark.parametrize('serve', [serving, serving_in_memory])


def echo(request: Any, response: Any) -> None:
    response.end(request.read())


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [environ['PATH_INFO'].encode()]


# -- targets ----------------------------------------------------------------------------------------------------------


@BOTH
def test_listener_is_served(serve: Serve) -> None:
    with serve(ok) as site:
        answer = site.get('/path', 'X-Field: 1')
    assert (answer.version, answer.status, answer.reason, answer.body) == ('HTTP/1.1', 200, 'OK', b'GET /path')
    assert answer.values('content-length') == ['9']
    assert not answer.closes


@BOTH
def test_application_is_served(serve: Serve) -> None:
    with serve(application) as site:
        assert site.get('/wsgi').body == b'/wsgi'


@BOTH
def test_server_keeps_its_settings(serve: Serve) -> None:
    with serve(http.create_server(ok, keep_alive_timeout=7)) as site:
        assert site.get().values('Keep-Alive') == ['timeout=7']


@BOTH
def test_options_are_applied(serve: Serve) -> None:
    with serve(ok, max_request_line=20) as site:
        assert site.get('/' + 'x' * 30).status == 414


@BOTH
def test_bad_target_or_option_is_refused(serve: Serve) -> None:
    with (
        pytest.raises(TypeError, match='Server has its own settings; remove timeout'),
        serve(http.create_server(ok), timeout=1),
    ):
        pass
    with pytest.raises(UnknownOption, match='timeout'), serve(ok, timeuot=1):
        pass
    with pytest.raises(InvalidInput), serve(ok, timeout=-1):
        pass


@BOTH
def test_net_server_is_served(serve: Serve) -> None:
    with serve(net.create_server(lambda socket: socket.end(socket.read()), allow_half_open=True)) as site:
        assert site.send(b'to', b'gether').half_close().rest() == b'together'


def test_certificate_makes_an_https_server() -> None:
    certificates = tls_certificates()
    with serving(ok, certfile=certificates.server) as site:
        assert isinstance(site.server, https.Server)
        assert site.url == f'https://127.0.0.1:{site.port}'
        with https.Agent(ca=certificates.ca) as agent:
            assert https.get(f'{site.url}/', agent=agent).get_response().read() == b'GET /'


def test_server_can_be_served_again_in_memory() -> None:
    server = http.create_server(ok)
    with serving(server) as site:
        site.get()
    with serving_in_memory(server) as site, site.connect() as client:
        assert [client.get().closes for _ in range(2)] == [False, False]


@BOTH
def test_plain_request_to_an_https_server_gets_a_400(serve: Serve) -> None:
    with serve(ok, certfile=tls_certificates().server) as site:
        response = site.get('/')
        assert (response.status, response.closes) == (400, True)


def test_tls_in_memory() -> None:
    certificates = tls_certificates()
    with (
        serving_in_memory(ok, certfile=certificates.server) as site,
        tls.connect(socket=site.create_connection({}), host='localhost', ca=certificates.ca) as client,
    ):
        client.write(raw_request('/', 'Connection: close'))
        assert client.read().endswith(b'GET /')


def test_listening_server_is_served(tmp_path: pathlib.Path) -> None:
    with serving(http.create_server(ok).listen(0, '0.0.0.0')) as site:
        assert site.host == '127.0.0.1'
        assert site.get().status == 200
    path = str(tmp_path / 'socket')
    with serving(http.create_server(ok).listen(path)) as site:
        assert site.where == path
        assert site.get().status == 200
        with pytest.raises(TypeError, match='Unix socket'):
            _ = site.url


def test_every_site_has_its_own_port() -> None:
    with serving(ok) as one, serving(ok) as other:
        assert one.url == f'http://127.0.0.1:{one.port}'
        assert one.port != other.port
        assert http.get(f'{one.url}/x').get_response().read() == b'GET /x'
    http.global_agent.destroy()


@BOTH
def test_end_of_the_block_closes_everything(serve: Serve) -> None:
    """Active requests are aborted, and the test itself can close the server."""

    def never(request: Any, response: Any) -> None:
        request.read()

    with serve(never) as site:
        waiting, idle = site.send(raw_request(method='POST', body=b'x')[:-1]), site.connect()
        until(lambda: site.server.get_connections() == 2)
    assert site.server.get_connections() == 0
    for connection in (waiting, idle):
        with pytest.raises(OSError, match=r'closed|descriptor'):
            connection.receive()
    with serve(ok) as site:
        site.close()


def test_server_in_memory_does_not_listen() -> None:
    with serving_in_memory(ok) as site:
        connection = site.connect()
        assert not site.server.listening
        assert connection.fileno() == -1
        assert connection.get().status == 200


# -- exchanges --------------------------------------------------------------------------------------------------------


@BOTH
def test_requests_can_be_pipelined_and_cut(serve: Serve) -> None:
    with serve(echo) as site:
        client = site.connect()
        client.send(raw_request(method='POST', body=b'one') + raw_request(method='POST', body=b'two'))
        assert [client.response().body for _ in range(2)] == [b'one', b'two']
        client.send(raw_request('/', 'Transfer-Encoding: chunked', method='POST'), b'3\r\n', b'abc\r\n', b'0\r\n\r\n')
        assert client.response().body == b'abc'
        client.send(raw_request('/', 'Connection: close', method='HEAD'))
        assert client.response('HEAD').closes
        client.assert_closed(reset=False)


@BOTH
def test_request_can_be_sent_byte_by_byte(serve: Serve) -> None:
    with serve(echo) as site:
        request = raw_request(method='POST', body=b'body')
        assert site.send(*(bytes([each]) for each in request)).response().body == b'body'


@BOTH
def test_bad_input_gets_a_400(serve: Serve) -> None:
    with serve(ok) as site:
        client = site.send(b'nonsense\r\n\r\n')
        assert client.response().status == 400
        client.half_close().assert_closed()


@BOTH
def test_informational_response_is_a_head(serve: Serve) -> None:
    with serve(echo) as site:
        client = site.send(raw_request('/', 'Content-Length: 4', 'Expect: 100-continue', method='POST'))
        assert client.head().status == 100
        assert client.send(b'body').response().body == b'body'
        early = site.send(raw_request('/', 'Expect: 100-continue', method='POST', body=b'body'))
        assert early.response().status == 200


@BOTH
def test_response_has_trailers(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        response.set_header('Trailer', 'X-Sum')
        response.write(b'abc')
        response.write(b'def')
        response.add_trailers({'X-Sum': '6'})
        response.end()

    with serve(listener) as site:
        answer = site.get()
    assert (answer.body, answer.trailers) == (b'abcdef', [('X-Sum', '6')])


@BOTH
def test_body_can_end_with_the_connection(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write(b'abc')
        response.end(b'def')

    with serve(listener) as site:
        client = site.send(raw_request(version='1.0'))
        assert client.response().body == b'abcdef'
        client.assert_closed(reset=False)


@BOTH
def test_truncated_response_raises(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write(b'abc')
        response.destroy()

    with serve(listener) as site:
        client = site.send(raw_request())
        with pytest.raises(EOFError):
            client.response()
        resetting = site.send(raw_request(version='1.0'))
        resetting.rest()
        assert resetting.reset


@BOTH
def test_client_can_abort_or_close(serve: Serve) -> None:
    seen: list[str] = []

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', lambda: seen.append(request.url))
        request.on('error', lambda error: None)
        until(lambda: request.aborted)

    with serve(listener) as site:
        one, other = site.send(raw_request('/abort')), site.send(raw_request('/close'))
        until(lambda: site.server.statistics()['handling'] == 2)
        one.abort()
        until(lambda: seen)
        other.close()
        until(lambda: len(seen) == 2)
    assert seen == ['/abort', '/close']


@BOTH
def test_upgraded_connection_is_raw(serve: Serve) -> None:
    server = http.create_server(ok)

    @server.on('upgrade')
    def upgrade(request: Any, socket: Any, head: bytes) -> None:
        socket.write(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n')
        socket.write(head)
        for data in socket:
            socket.write(data.upper())
        socket.end()

    with serve(server) as site:
        client = site.send(raw_request('/', 'Connection: Upgrade', 'Upgrade: x') + b'head')
        assert client.head().status == 101
        assert client.exactly(4) == b'head'
        assert client.send(b'more').until(b'E') == b'MORE'
        client.half_close().assert_closed()


@BOTH
def test_file_is_received(serve: Serve, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'content' * 1000)

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            response.send_file(file)

    with serve(listener) as site:
        assert site.get().body == path.read_bytes()


@BOTH
def test_assert_closed_fails_with_a_reason(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        response.end('x')
        response.socket.end()

    with serve(listener) as site:
        with pytest.raises(AssertionError, match='before it closed the connection'):
            site.send(raw_request()).assert_closed()
        with pytest.raises(AssertionError, match='without a reset'):
            site.connect().half_close().assert_closed(reset=True)
        with pytest.raises(TimeoutError):
            site.connect(timeout=0.01).assert_closed()


# -- the module -------------------------------------------------------------------------------------------------------


def test_every_name_is_imported_on_use() -> None:
    for name in geventnode.testing.__all__:
        assert getattr(geventnode.testing, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = geventnode.testing.nothing


def test_repr_has_the_state() -> None:
    with serving_in_memory(ok) as site, serving(ok) as other:
        assert repr(site) == f'<MemorySite of {site.server!r}>'
        assert repr(other) == f'<ListeningSite of {other.server!r}>'
        connection = other.connect()
        assert repr(connection) == '<RawConnection open unread=0>'
        connection.send(raw_request()).until(b'\r\n\r\n')
        connection.abort()
        assert repr(connection) == '<RawConnection closed unread=5>'
    assert isinstance(site, MemorySite)
    assert isinstance(other, ListeningSite)
    assert isinstance(connection, RawConnection)
