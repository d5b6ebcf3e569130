"""Test the life of a stream: its objects are freed without the garbage collector."""

from __future__ import annotations

import gc
import logging
import socket as stdlib
import weakref
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import ContentLengthMismatch, IncompleteBody, PrematureClose, StreamError
from geventnode.stream import finished
from tests.http2.client import Client, Connect
from tests.servers import Log, Serve
from tests.sockets import settle, until


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def reset_early(client: Client) -> None:
    number = client.start('POST', '/read')
    client.send_data(number, b'abc')
    client.reset(number)


ENDS = {
    'response': lambda client: client.response(client.get('/end')),
    'response to a body': lambda client: client.response(client.post(bytes(1000), '/read')),
    'unread body': lambda client: client.response(client.post(bytes(1000), '/end')),
    'exception': lambda client: client.response(client.get('/fail')),
    'exception after the head': lambda client: client.response(client.get('/late')),
    'reset by the client': reset_early,
    'malformed body': lambda client: client.response(client.post(b'abc', '/read', ('content-length', '5'))),
    'closed connection': lambda client: (client.start('POST', '/read'), settle(), client.close()),
}


@pytest.mark.parametrize('end', ENDS.values(), ids=ENDS)
@pytest.mark.usefixtures('without_collector')
def test_objects_are_freed(connect_h2: Connect, caplog: pytest.LogCaptureFixture, end: Any) -> None:
    # a record of an exception keeps its frames
    caplog.set_level(logging.CRITICAL, 'geventnode.error')
    alive: list[weakref.ref[Any]] = []

    def listener(request: Any, response: Any) -> None:
        alive.extend((weakref.ref(request), weakref.ref(response)))
        if request.url == '/fail':
            raise ValueError
        if request.url == '/late':
            response.write(b'x')
            raise ValueError
        response.end(request.read() if request.url == '/read' else b'x')

    client = connect_h2(listener)
    end(client)
    until(lambda: alive)
    until(lambda: not any(each() for each in alive))
    until(lambda: not client.site.server._connections() or not client.site.server._connections()[0].streams)


def test_response_can_end_after_its_listener(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        gevent.spawn(lambda: response.end(request.read()))

    client = connect_h2(listener)
    assert client.response(client.post(b'later')).body == b'later'


def test_events_of_a_body(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('data', log.append)
        request.on('end', lambda: response.end(b'ended'))

    client = connect_h2(listener)
    assert client.response(client.post(b'abc')).body == b'ended'
    assert b''.join(log) == b'abc'


def test_pipe_of_a_body(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: request.pipe(response) and None)
    assert client.response(client.post(bytes(200_000))).body == bytes(200_000)


def test_body_is_read_while_the_response_has_ended(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        reading = gevent.spawn(lambda: log.append(request.read()))
        gevent.sleep(0)
        response.end(b'early')
        reading.join()

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.until(lambda: client.responses[number].ended)
    client.send_data(number, b'late', end=True)
    log.wait_for(b'late')
    assert client.responses[number].reset is None


def test_body_cannot_be_read_after_it_was_discarded(connect_h2: Connect) -> None:
    log = Log()
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        response.end(b'early')
        go_on.wait()
        try:
            request.read()
        except StreamError as error:
            log.append(str(error))

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.until(lambda: client.responses[number].ended)
    client.send_data(number, b'late', end=True)
    settle()
    go_on.set()
    log.wait_for_length(1)
    assert 'discarded' in log[0]


def test_reader_gets_the_error_of_a_reset(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.read1())
        try:
            request.read1()
        except IncompleteBody as error:
            log.append(str(error))
            raise

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.send_data(number, b'abc')
    log.wait_for(b'abc')
    client.reset(number, 2)
    log.wait_for('the client has reset the stream (INTERNAL_ERROR)')


def test_destroyed_request_resets_its_stream_only(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/destroy':
            request.destroy()
        else:
            response.end(b'x')

    client = connect_h2(listener)
    assert client.response(client.post(b'abc', '/destroy')).reset == 8
    assert client.response(client.get()).body == b'x'


def test_killed_greenlet_resets_its_stream(connect_h2: Connect) -> None:
    greenlets: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        greenlets.append(gevent.getcurrent())
        if request.url == '/kill':
            gevent.sleep(60)
        response.end(b'x')

    client = connect_h2(listener)
    number = client.get('/kill')
    until(lambda: greenlets)
    greenlets[0].kill()
    assert client.response(number).reset == 2
    assert client.response(client.get()).body == b'x'


def test_connection_is_lost_with_the_end_of_a_response(connect_h2: Connect, serve: Serve) -> None:
    """The bytes are in the queue of the socket, and the stream has ended on both sides."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('close', log.note('close'))
        # else the output of this turn of the loop is sent together
        settle()
        response.end(bytes(60_000))
        log.append('queued')
        with pytest.raises(PrematureClose):
            finished(response, readable=False)
        log.append('not finished')

    site = serve(listener, http2=True)
    # so that the kernel does not take all of it
    site.server.on('connection', lambda socket: socket._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 8192))
    client = connect_h2(site, client={'receive_buffer': 4096})
    client.get()
    log.wait_for('queued')
    assert site.server._connections()[0].idle
    client.abort()
    log.wait_for('not finished')
    assert log == ['queued', 'close', 'not finished']


@pytest.mark.parametrize('end', ['short', 'failed'])
def test_response_that_does_not_finish_is_closed_once(connect_h2: Connect, end: str) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('finish', log.note('finish')).on('close', log.note('close'))
        finished(response, lambda error: log.append(type(error)), readable=False)
        if end == 'failed':
            raise ValueError('a fault of the test')
        response.set_header('Content-Length', '10')
        response.end(b'abc')

    client = connect_h2(listener)
    number = client.start('POST', '/')
    error = PrematureClose if end == 'failed' else ContentLengthMismatch
    log.wait_for(error)
    if end == 'failed':
        assert client.response(number).status == 500
        # within the body
        client.abort()
        until(lambda: not client.site.server._connections())
    settle()
    assert log == ['close', error]
