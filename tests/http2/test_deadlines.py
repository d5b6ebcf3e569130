"""Test the time limits of streams that other tests do not reach."""

from __future__ import annotations

import socket as stdlib
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import RequestTimeout
from geventnode.http2.codes import ErrorCode
from geventnode.integrations.wsgi import wsgi
from tests.http2.client import Connect
from tests.servers import Log, Serve, ok, repeating
from tests.sockets import until


def test_reader_gets_the_timeout(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            request.read()
        except RequestTimeout as error:
            log.append(str(error))
            raise

    client = connect_h2(listener, request_timeout=0.1)
    assert client.response(client.start('POST', '/')).status == 408
    assert 'request_timeout' in log[0]


def test_late_bodies_of_all_streams_end_together(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: response.end(request.read()), request_timeout=60)
    client.response(client.get())
    numbers = [client.start('POST', '/') for _ in range(5)]
    other = client.start('POST', '/')
    [connection] = client.site.server._connections()
    until(lambda: len([stream for stream in connection.streams.values() if stream.reader]) == 6)
    connection.streams[other].began += 60
    connection._on_deadline(monotonic() + 61)
    assert [client.response(number).status for number in numbers] == [408] * 5
    client.send_data(other, b'in time', end=True)
    assert client.response(other).body == b'in time'


def test_late_body_after_the_head_is_reset(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        response.flush_headers()
        request.read()

    client = connect_h2(listener, request_timeout=0.1)
    response = client.response(client.start('POST', '/'))
    assert (response.status, response.reset) == (200, ErrorCode.INTERNAL_ERROR)


def test_slow_body_is_refused(connect_h2: Connect) -> None:
    client = connect_h2(
        lambda request, response: response.end(request.read()), request_timeout=0.2, min_body_rate=1_000_000
    )
    number = client.start('POST', '/')
    client.send_data(number, b'slow')
    assert client.response(number).status == 408


def test_unread_body_is_not_slow(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(str(len(request.read())))

    client = connect_h2(listener, request_timeout=0.1, min_body_rate=1)
    number = client.start('POST', '/')
    client.send_data(number, bytes(65535))
    gevent.spawn_later(0.5, go_on.set)
    go_on.wait()
    client.send_data(number, b'', end=True)
    assert client.response(number).body == b'65535'


def test_slow_application_exceeds_no_limit(connect_h2: Connect) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        gevent.sleep(0.6)
        start_response('200 OK', [])
        return [environ['wsgi.input'].read()]

    client = connect_h2(wsgi(app), timeout=0.2, request_timeout=0.2)
    assert client.response(client.post(b'abc')).body == b'abc'


@pytest.mark.parametrize('owner', ['request', 'response', 'server'])
def test_listener_for_timeout_decides(connect_h2: Connect, owner: str) -> None:
    log = Log()
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if owner != 'server':
            {'request': request, 'response': response}[owner].set_timeout(0.1, lambda socket: log.append('timeout'))
        go_on.wait()
        response.end(b'late')

    client = connect_h2(listener, **({'timeout': 0.1} if owner == 'server' else {}))
    if owner == 'server':
        client.site.server.on('timeout', lambda socket: log.append('timeout'))
    number = client.start('POST', '/')
    log.wait_for('timeout')
    go_on.set()
    response = client.responses[number]
    client.until(lambda: response.body)
    assert response.body == b'late'


def test_unsent_rest_of_a_body_is_not_awaited_for_long(connect_h2: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('geventnode.http2.deadlines.DISCARD_TIME', 0.1)
    client = connect_h2(ok, keep_alive_timeout=0.3)
    number = client.start('POST', '/', ('content-length', '10'))
    client.until(lambda: client.responses[number].reset is not None)
    assert client.responses[number].reset == ErrorCode.NO_ERROR


# -- clients that send and do not receive -----------------------------------------------------------------------------

PING = b'\x00\x00\x08\x06\x00\x00\x00\x00\x00geventno'


def small_buffer(socket: Any) -> None:
    """Let the kernel hold little, so that the socket has a queue."""
    socket._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 8192)


@pytest.mark.parametrize('state', ['open', 'lingering'])
def test_pings_do_not_keep_a_client_that_does_not_receive(serve: Serve, connect_h2: Connect, state: str) -> None:
    """The response has ended, and is in the queue of the socket."""
    log = Log()
    site = serve(
        lambda request, response: response.end(bytes(60_000)),
        http2=True,
        timeout=0.2,
        max_requests_per_socket=1 if state == 'lingering' else 0,
    )
    site.server.on('connection', small_buffer)
    site.server.on('connection', lambda socket: socket.once('close', log.note('closed')))
    client = connect_h2(site, client={'receive_buffer': 4096})
    client.get()

    until(
        lambda: any(
            not getattr(each, 'streams', True) and each.socket.writable_length and each.state.value == state
            for each in site.server._connections()
        )
    )
    with repeating(lambda: client.send_raw(PING)):
        log.wait_for('closed')


def test_slow_client_gets_the_whole_response(serve: Serve, connect_h2: Connect) -> None:
    """It takes longer than the timeout, and makes progress."""
    size = 1_000_000
    site = serve(lambda request, response: response.end(bytes(size)), http2=True, timeout=0.5)
    site.server.on('connection', small_buffer)
    client = connect_h2(site, client={'receive_buffer': 65536})
    number = client.get()
    response = client.responses[number]
    while not response.over:
        before = len(response.body)
        client.until(lambda before=before: len(response.body) > before or response.over)  # type: ignore[misc]
        gevent.sleep(0.03)
    assert response.ended
    assert len(response.body) == size


@pytest.mark.parametrize('reads', [False, True])
def test_bytes_of_a_body_without_a_reader_do_not_keep_it(
    connect_h2: Connect, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """Whether or not the listener was reading when its response ended."""
    monkeypatch.setattr('geventnode.http2.deadlines.DISCARD_TIME', 0.3)

    def listener(request: Any, response: Any) -> None:
        if not reads:
            response.end(b'early')
            return
        reading = gevent.spawn(request.read1, 5)
        gevent.idle()
        response.end(b'early')
        reading.join()

    client = connect_h2(listener, request_timeout=0.6)
    number = client.start('POST', '/', ('content-length', '10000'))
    with repeating(lambda: client.send_data(number, b'x')):
        response = client.response(number)
        client.until(lambda: response.reset is not None)
    assert (response.body, response.ended, response.reset) == (b'early', True, ErrorCode.NO_ERROR)


def test_body_does_not_keep_an_error_response_that_waits_for_its_window(connect_h2: Connect) -> None:
    """The body is discarded; only the response counts."""
    client = connect_h2(
        lambda request, response: response.end(bytes(100_000)), client={'credit': False}, timeout=0.2, request_timeout=0
    )
    number = client.start('POST', '/', ('content-length', '10000'))
    with repeating(lambda: client.send_data(number, b'x')):
        client.until(lambda: client.responses[number].reset is not None or client.goaways)
    assert not client.responses[number].ended
