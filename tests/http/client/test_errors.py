"""The errors of requests: each failure is one typed error, is reported once, and leaves nothing."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import re
import socket as stdlib
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http, https, net, websocket
from geventnode.errors import (
    ConnectError,
    ConnectionRefused,
    GeventnodeError,
    NameNotResolved,
    ParseError,
    QueueFull,
    SocketHangUp,
)
from geventnode.net import Socket
from tests.origins import MakeOrigin, Peer, noted, silent
from tests.servers import Log
from tests.sockets import settle, until

# -- errors -----------------------------------------------------------------------------------------------------------


def test_refused_connection_is_reported() -> None:
    request = http.get('http://127.0.0.1:1/')
    log = noted(request)
    with pytest.raises(ConnectionRefused) as raised:
        request.get_response()
    assert (raised.value.code, raised.value.port, raised.value.phase) == ('ECONNREFUSED', 1, 'connect')
    log.wait_for('close')
    assert log == ['socket', 'error', 'close']


def test_unknown_name_is_reported() -> None:
    with pytest.raises(NameNotResolved) as raised:
        http.get('http://name.invalid/').get_response()
    assert (raised.value.code, raised.value.host, raised.value.phase) == ('ENOTFOUND', 'name.invalid', 'resolve')


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (
            lambda: stdlib.gaierror(stdlib.EAI_AGAIN, 'the name server is asleep'),
            'the name server is asleep (KeyError: 17)',
        ),
        # such as those of gevent's resolver "dnspython"
        (lambda: stdlib.gaierror(stdlib.EAI_AGAIN), 'Temporary failure in name resolution (KeyError: 17)'),
        (lambda: stdlib.gaierror(stdlib.EAI_FAMILY), 'EAI_FAMILY (KeyError: 17)'),
        (lambda: UnicodeError('label too long'), 'label too long'),
    ],
)
@pytest.mark.parametrize(
    'call',
    [
        lambda: net.connect(80, 'a.invalid').wait_connected(),
        lambda: net.create_server().listen(0, 'a.invalid'),
        lambda: http.get('http://a.invalid/').get_response(),
        lambda: http.get('http://127.0.0.1/', agent=http.Agent(proxy='http://a.invalid:80')).get_response(),
        lambda: https.get('https://127.0.0.1/', agent=https.Agent(proxy='http://a.invalid:80')).get_response(),
        lambda: websocket.connect('ws://a.invalid/'),
    ],
    ids=['net.connect', 'listen', 'http.get', 'proxy', 'tunnel', 'websocket'],
)
def test_cause_of_an_unknown_name_is_in_the_text(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any], error: Callable[[], Exception], text: str
) -> None:
    def fail(*args: Any) -> None:
        try:
            raise KeyError(17)
        except KeyError:
            raise error()  # noqa: B904 - dnspython does the same

    monkeypatch.setattr('geventnode.net.address.getaddrinfo', fail)
    with pytest.raises(ConnectError, match=re.escape(text)) as raised:
        call()
    assert (raised.value.code, raised.value.phase) == ('ENOTFOUND', 'resolve')
    assert 'a.invalid' in str(raised.value)


def test_unusable_address_is_reported() -> None:
    with pytest.raises(ConnectError):
        http.get('http://127.0.0.1:1/', local_address='203.0.113.1').get_response()


def test_missing_unix_socket_is_reported(tmp_path: Any) -> None:
    with pytest.raises(ConnectError) as raised:
        http.get(socket_path=str(tmp_path / 'none')).get_response()
    assert raised.value.code == 'ENOENT'


@pytest.mark.parametrize(
    ('options', 'host', 'port'), [({'port': 81}, '127.0.0.1', 81), ({'socket_path': '/missing'}, '/missing', None)]
)
def test_failed_connect_is_no_hang_up(options: Any, host: str, port: int | None) -> None:
    """For each way to make the socket, and to give it up."""
    reason = OSError(errno.ENETDOWN, 'Network is down')
    with pytest.raises(ConnectError) as raised:
        http.get('http://127.0.0.1/', create_connection=lambda _: Socket().destroy(reason), **options).get_response()
    error = raised.value
    assert (error.code, error.host, error.port, error.phase) == ('ENETDOWN', host, port, 'connect')
    assert error.__cause__ is reason


@pytest.mark.parametrize(
    ('said', 'code'),
    [
        (b'garbage\r\n\r\n', 'HPE_INVALID_CONSTANT'),
        (b'HTTP/2.0 200 OK\r\n\r\n', 'HPE_INVALID_VERSION'),
        (b'HTTP/1.1 20 OK\r\n\r\n', 'HPE_INVALID_STATUS'),
        (b'HTTP/1.1 200 OK\r\nA : b\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN'),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 'HPE_UNEXPECTED_CONTENT_LENGTH'),
        (
            b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
            'HPE_INVALID_TRANSFER_ENCODING',
        ),
        (b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n', 'HPE_INVALID_STATUS'),
        (b'HTTP/1.1 200 OK\r\nA: ' + b'x' * 20000, 'HPE_HEADER_OVERFLOW'),
        (b'HTTP/1.1 200 OK\r\n' + b'A: b\r\n' * 1001 + b'\r\n', 'HPE_HEADER_OVERFLOW'),
        (b'\r\n' * 1000, 'HPE_INVALID_CONSTANT'),
    ],
)
def test_malformed_head_is_reported(origin: MakeOrigin, agent: Any, said: bytes, code: str) -> None:
    pool = agent(keep_alive=True)
    server = origin(said)
    request = http.get(server.url, agent=pool)
    log = noted(request)
    with pytest.raises(ParseError) as raised:
        request.get_response()
    assert (raised.value.code, raised.value.port, raised.value.phase) == (code, server.port, 'response')
    log.wait_for('close')
    assert log[-2:] == ['error', 'close']
    assert not pool.total_socket_count


@pytest.mark.parametrize(
    ('said', 'code'),
    [
        (b'zz\r\n', 'HPE_INVALID_CHUNK_SIZE'),
        (b'5\r\nhelloXX', 'HPE_STRICT'),
        (b'0\r\n' + b'A: b\r\n' * 3000 + b'\r\n', 'HPE_HEADER_OVERFLOW'),
    ],
)
def test_malformed_body_is_reported(origin: MakeOrigin, said: bytes, code: str) -> None:
    head = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
    response = http.get(origin(head + said).url).get_response()
    with pytest.raises(ParseError) as raised:
        response.read()
    assert raised.value.phase == 'body'
    assert raised.value.code.startswith('HPE_')
    assert response.aborted


@pytest.mark.parametrize('said', [b'H', b'HTTP/1.1 200 OK', b'HTTP/1.1 200 OK\r\nA: b\r\n'])
def test_incomplete_head_is_reported(origin: MakeOrigin, said: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(said)

    with pytest.raises(SocketHangUp, match='within a head'):
        http.get(origin(script).url).get_response()


def test_limits_of_the_head_can_be_changed(origin: MakeOrigin) -> None:
    server = origin(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ' + b'x' * 1000 + b'\r\n\r\n')
    with pytest.raises(ParseError, match='max_header_size'):
        http.get(server.url, max_header_size=500).get_response()
    with pytest.raises(ParseError, match='max_headers_count'):
        http.get(server.url, max_headers_count=1).get_response()
    request = http.request(server.url)
    request.max_headers_count = 1
    request.end()
    with pytest.raises(ParseError, match='max_headers_count'):
        request.get_response()
    assert http.get(server.url).get_response().read() == b''


def test_unretrieved_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    requests = [http.get('http://127.0.0.1:1/')]
    until(lambda: requests[0]._failure)
    with caplog.at_level(logging.ERROR):
        settle()
        assert not caplog.records, 'the error can still be retrieved'
        requests.clear()
        until(lambda: gc.collect() is not None and caplog.records)
    assert len(caplog.records) == 1
    assert 'ECONNREFUSED' in caplog.text or 'Connection refused' in caplog.text


@pytest.mark.parametrize('way', ['get_response', 'error', 'abort', 'destroy'])
def test_retrieved_error_is_not_logged(caplog: pytest.LogCaptureFixture, way: str) -> None:
    request = http.get('http://127.0.0.1:1/')
    if way == 'get_response':
        with pytest.raises(ConnectionRefused):
            request.get_response()
    elif way == 'error':
        log = Log()
        request.on('error', log.append)
        log.wait_for_length(1)
    else:
        getattr(request, way)()
    del request
    settle()
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize(
    'script',
    [
        silent,
        b'garbage\r\n\r\n',
        lambda peer: peer.abort(),
        b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nx',
    ],
)
def test_exchange_leaves_no_cycles(origin: MakeOrigin, script: Any) -> None:
    server = origin(script)
    gc.collect()
    gc.disable()
    try:
        before = _alive()
        for _ in range(3):
            request = http.get(server.url, timeout=0.02)
            try:
                with gevent.Timeout(0.1, False):
                    request.get_response().read()
            except GeventnodeError:
                pass
            del request
        until(lambda: _alive() <= before)
    finally:
        gc.enable()


@pytest.mark.parametrize('begin', ['end', 'flush_headers'])
def test_refused_request_leaves_no_cycle(origin: MakeOrigin, agent: Any, begin: str) -> None:
    """Under the load that fills the queue, the collector would have to free each of them."""
    pool, server = agent(max_sockets=1, max_queued=0), origin(silent)
    http.get(server.url, agent=pool)
    settle()
    gc.collect()
    gc.disable()
    try:
        before = _alive()
        request = http.request(server.url, agent=pool, method='POST')
        with contextlib.suppress(QueueFull):
            getattr(request, begin)()
        assert request.destroyed
        del request
        settle()
        assert _alive() == before
    finally:
        gc.enable()


def _alive() -> int:
    """Return the number of live requests, responses and sockets."""
    return sum(isinstance(each, (http.ClientRequest, http.IncomingMessage, Socket)) for each in gc.get_objects())


def test_every_error_is_a_geventnode_error(origin: MakeOrigin) -> None:
    for script in (silent, b'garbage\r\n\r\n', lambda peer: peer.abort()):
        with pytest.raises(GeventnodeError):
            http.get(origin(script).url, timeout=0.05).get_response()


@pytest.mark.parametrize('end', ['abort', 'destroy'])
@pytest.mark.parametrize('phase', ['queue', 'connect', 'send', 'response'])
def test_phase_of_a_request_that_is_given_up(origin: MakeOrigin, agent: Any, phase: str, end: str) -> None:
    """By it, a program knows whether the server can have received the request."""
    pool, server = agent(max_sockets=1), origin(silent)
    if phase == 'queue':
        http.get(server.url, agent=pool)
    request = http.request(server.url, agent=pool, method='POST')
    request.write('x')
    if phase not in ('connect', 'queue'):
        until(lambda: request.writable_length == 0)
    if phase != 'send':
        request.end()
    getattr(request, end)()
    with pytest.raises(GeventnodeError) as raised:
        request.get_response()
    assert (raised.value.phase, raised.value.port) == (phase, server.port)


@pytest.mark.parametrize('end', ['timeout', 'get_response', 'abort', 'close'])
def test_phase_while_the_server_does_not_receive(origin: MakeOrigin, end: str) -> None:
    """The body is queued: the server cannot have received the request."""
    go_on = Event()

    def script(peer: Peer) -> None:
        go_on.wait()

    request = http.request(origin(script).url, method='POST', body=bytes(20_000_000))
    until(lambda: not request.socket.pending)
    if end == 'timeout':
        request.set_timeout(0.02)
    elif end == 'abort':
        request.abort()
    elif end == 'close':
        go_on.set()
    with pytest.raises(GeventnodeError) as raised:
        request.get_response(0.02 if end == 'get_response' else None)
    assert raised.value.phase == 'send'
    go_on.set()


def test_phase_of_a_wait_for_a_queued_request(origin: MakeOrigin, agent: Any) -> None:
    pool, server = agent(max_sockets=1), origin(silent)
    http.get(server.url, agent=pool)
    with pytest.raises(GeventnodeError, match=r'get_response\(\)') as raised:
        http.get(server.url, agent=pool).get_response(0.001)
    assert raised.value.phase == 'queue'


def test_phase_of_a_connection_that_is_lost_while_it_sends(origin: MakeOrigin) -> None:
    request = http.request(origin(lambda peer: peer.until(b'x')).url, method='POST')
    request.write('x')
    with pytest.raises(SocketHangUp) as raised:
        request.get_response()
    assert raised.value.phase == 'send'
