"""Test tunnels: the listeners are those of HTTP/1.1."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import ConnectionClosed, IncompleteBody, InvalidInput
from tests.http2.client import Client, Connect
from tests.servers import Log, Serve, ok
from tests.sockets import settle

ESTABLISHED = b'HTTP/1.1 200 Connection Established\r\nX-Proxy: test\r\n\r\n'
#: More bytes than the window of the client allows.
BIG = 66_000
TARGET = [(b':method', b'CONNECT'), (b':authority', b'example.org:443')]


@pytest.fixture
def tunnel(connect_h2: Connect, serve: Serve) -> Any:
    def start(listener: Any) -> Client:
        server = http.create_server(ok, http2=True)
        if listener is not None:
            server.on('connect', listener)
        return connect_h2(serve(server))

    return start


def test_listener_gets_a_duplex(tunnel: Any) -> None:
    def listener(request: Any, socket: Any, head: bytes) -> None:
        assert request.upgrade
        assert socket is request.socket
        assert (request.url, request.host, head) == ('example.org:443', 'example.org:443', b'')
        assert socket.remote_address == '127.0.0.1'
        socket.write(ESTABLISHED)
        socket.pipe(socket)

    client = tunnel(listener)
    number = client.start_fields(TARGET, end=False)
    response = client.responses[number]
    client.until(lambda: response.status)
    assert (response.status, response.headers['x-proxy']) == (200, 'test')
    assert 'content-length' not in response.headers
    piece = bytes(range(256)) * 1000
    client.send_data(number, piece)
    client.until(lambda: len(response.body) == len(piece))
    assert response.body == piece
    assert not response.over
    # other requests go on
    assert client.response(client.get()).body == b'GET /'
    client.send_data(number, b'end', end=True)
    assert client.response(number).ended


def test_end_of_both_sides_waits_for_the_window(tunnel: Any) -> None:
    log = Log()

    def listener(request: Any, socket: Any, head: bytes) -> None:
        socket.on('finish', log.note('finish'))
        socket.on('close', log.note('close'))
        socket.write(ESTABLISHED)
        assert socket.read() == b'abc'
        socket.end(bytes(BIG))

    client = tunnel(listener)
    client.credit = False
    number = client.start_fields(TARGET, end=False)
    response = client.responses[number]
    client.send_data(number, b'abc', end=True)
    client.until(lambda: len(response.body) == 65535)
    settle()
    assert log == []
    client.h2.increment_flow_control_window(BIG)
    client.h2.increment_flow_control_window(BIG, number)
    client.flush()
    assert client.response(number).ended
    assert len(response.body) == BIG
    log.wait_for('close')
    assert log == ['finish', 'close']


def test_reset_before_the_end_is_sent(tunnel: Any) -> None:
    log = Log()

    def listener(request: Any, socket: Any, head: bytes) -> None:
        socket.on('finish', log.note('finish'))
        with pytest.raises(ConnectionClosed):
            socket.end(bytes(BIG))
        log.append('closed')

    client = tunnel(listener)
    client.credit = False
    number = client.start_fields(TARGET)
    client.until(lambda: len(client.responses[number].body) == 65535)
    client.reset(number)
    log.wait_for('closed')
    settle()
    assert log == ['closed']


@pytest.mark.parametrize('pieces', [[b'SSH-2.0'], [b'HTTP/1.1 20', b'0 OK\r', b'\n\r\nSSH-2.0'], [b'H', b'TTQSSH']])
def test_head_of_the_listener(tunnel: Any, pieces: list[bytes]) -> None:
    def listener(request: Any, socket: Any, head: bytes) -> None:
        for piece in pieces:
            socket.write(piece)
        socket.end()

    client = tunnel(listener)
    response = client.response(client.start_fields(TARGET, end=False))
    assert response.status == 200
    assert response.body == (b'HTTQSSH' if pieces[0] == b'H' else b'SSH-2.0')
    assert response.ended


def test_listener_can_refuse(tunnel: Any) -> None:
    def listener(request: Any, socket: Any, head: bytes) -> None:
        socket.end(b'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno')

    client = tunnel(listener)
    response = client.response(client.start_fields(TARGET))
    assert (response.status, response.body, response.headers.get('content-length')) == (403, b'no', '2')
    assert 'connection' not in response.headers


BAD_HEADS = {
    'no status': b'HTTP/1.1 \r\n\r\n',
    'no number': b'HTTP/1.1 OK\r\n\r\n',
    'two digits': b'HTTP/1.1 20 OK\r\n\r\n',
    'another protocol': b'HTTP/1.1 101 Switching Protocols\r\n\r\n',
    'a line without a colon': b'HTTP/1.1 200 OK\r\nX\r\n\r\n',
    'a pseudo-header field': b'HTTP/1.1 200 OK\r\n:status: 204\r\n\r\n',
    'a blank in a name': b'HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n',
    'LF in a value': b'HTTP/1.1 200 OK\r\nX: 1\n2\r\n\r\n',
    'no end': b'HTTP/1.1 403 Forbidden\r\n',
    'no end of the first line': b'HTTP/1.1 ',
}


@pytest.mark.parametrize('head', BAD_HEADS.values(), ids=BAD_HEADS)
def test_malformed_head_of_the_listener_resets_the_stream(
    tunnel: Any, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = tunnel(lambda request, socket, rest: socket.end(head))
    response = client.response(client.start_fields(TARGET, end=False))
    assert (response.status, response.body, response.reset) == (None, b'', 8)
    assert client.response(client.get()).status == 200
    assert 'the response to CONNECT has ' in caplog.text


def test_beginning_of_a_head_is_data(tunnel: Any) -> None:
    client = tunnel(lambda request, socket, head: socket.end(b'HTTP'))
    response = client.response(client.start_fields(TARGET))
    assert (response.status, response.body, response.ended) == (200, b'HTTP', True)


def test_listener_sends_informational_heads(tunnel: Any) -> None:
    hints = b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'

    def listener(request: Any, socket: Any, head: bytes) -> None:
        socket.write(hints)
        socket.end(hints + ESTABLISHED + b'data')

    client = tunnel(listener)
    response = client.response(client.start_fields(TARGET))
    assert response.informational == [(103, {'link': '</a>'})] * 2
    assert (response.status, response.body) == (200, b'data')


def test_without_a_listener_the_stream_is_reset(tunnel: Any) -> None:
    client = tunnel(None)
    assert client.response(client.start_fields(TARGET, end=False)).reset == 10
    assert client.response(client.get()).status == 200


def test_failed_listener_resets_the_stream(tunnel: Any) -> None:
    def listener(request: Any, socket: Any, head: bytes) -> None:
        raise ValueError

    client = tunnel(listener)
    assert client.response(client.start_fields(TARGET, end=False)).reset == 8
    assert client.response(client.get()).status == 200


def test_reset_reaches_the_reader(tunnel: Any) -> None:
    log = Log()

    def listener(request: Any, socket: Any, head: bytes) -> None:
        socket.on('close', log.note('close'))
        socket.write(ESTABLISHED)
        with pytest.raises(InvalidInput):
            socket.set_timeout(5)
        try:
            log.append(socket.read())
        except IncompleteBody:
            log.append('reset')

    client = tunnel(listener)
    number = client.start_fields(TARGET, end=False)
    client.until(lambda: client.responses[number].status)
    client.reset(number)
    log.wait_for('reset')
    log.wait_for('close')


def test_destroyed_socket_resets_the_stream(tunnel: Any) -> None:
    client = tunnel(lambda request, socket, head: socket.write(ESTABLISHED) and gevent.spawn(socket.destroy) and None)
    assert client.response(client.start_fields(TARGET, end=False)).reset == 8
