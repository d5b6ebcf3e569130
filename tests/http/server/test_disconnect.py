"""Clients that disconnect: the events, the exceptions, and the responses that still arrive."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest

from geventnode.errors import ConnectionClosed, IncompleteBody
from geventnode.stream import finished
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from tests.servers import Log, Serve, get, post
from tests.sockets import settle, until

GOING = ['close', 'abort', 'half_close']


def watched(log: Log, request: Any, response: Any, *events: str) -> None:
    """Note the events of both."""
    for event in ('aborted', 'close', 'end', *events):
        request.on(event, log.note(f'request {event}'))
    for event in ('close', 'finish'):
        response.on(event, log.note(f'response {event}'))


@pytest.mark.parametrize('going', GOING)
def test_disconnect_during_a_response_emits_events_in_order(serve: Serve, going: str) -> None:
    """The request emits 'aborted', then the response 'close', then the request 'close'; ``aborted`` is true."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        watched(log, request, response)
        log.append('waiting')
        log.wait_for('request close')
        log.append(request.aborted)

    client = serve(listener).send(get())
    log.wait_for('waiting')
    getattr(client, going)()
    log.wait_for(True)
    assert log == ['waiting', 'request aborted', 'response close', 'request close', True]


def test_error_is_emitted_before_close(serve: Serve) -> None:
    """The error has Node's code, and is emitted only to a listener."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        watched(log, request, response)
        request.on('error', lambda error: log.append(error.code))
        log.append('waiting')
        log.wait_for('request close')

    client = serve(listener).send(get())
    log.wait_for('waiting')
    client.close()
    log.wait_for('request close')
    assert log == ['waiting', 'request aborted', 'response close', 'ECONNRESET', 'request close']


def test_close_is_not_emitted_after_a_complete_exchange(serve: Serve) -> None:
    """A message emits 'close' if the connection was lost before the message was complete."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        watched(log, request, response)
        request.read()
        response.end('x')

    site = serve(listener)
    client = site.connect()
    client.get()
    client.close()
    site.server.stop(5)
    assert log == ['request end', 'response finish']


def test_half_closed_client_gets_its_response(serve: Serve) -> None:
    """Writing stays possible, and 'finish' follows the 'close'."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        watched(log, request, response)
        log.wait_for('request close')
        response.write('late ')
        response.end('answer')

    client = serve(listener).send(get()).half_close()
    assert client.response().body == b'late answer'
    assert client.rest() == b''
    assert log == ['request aborted', 'response close', 'request close', 'response finish']


def test_pipelined_requests_of_a_half_closed_client_get_responses(serve: Serve) -> None:
    """``printf ... | nc -N`` works, with delayed responses, too."""

    def listener(request: Any, response: Any) -> None:
        gevent.spawn(lambda: (gevent.sleep(0), response.end(request.url)))

    client = serve(listener).send(get('/1'), get('/2'), get('/3')).half_close()
    assert [client.response().body for _ in range(3)] == [b'/1', b'/2', b'/3']
    assert client.rest() == b''


@pytest.mark.parametrize('going', ['close', 'abort'])
def test_writing_to_a_disconnected_client_raises(serve: Serve, going: str) -> None:
    """This can take several writes. It is not logged as a failure of the listener."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', log.note('aborted'))
        log.append('waiting')
        log.wait_for('aborted')
        try:
            while True:
                response.write(b'x' * 1000)
                gevent.sleep(0)
        except ConnectionClosed as error:
            log.append(error.code)
            raise

    client = serve(listener).send(get())
    log.wait_for('waiting')
    getattr(client, going)()
    log.wait_for('EPIPE')


def test_disconnect_is_not_logged_as_a_failure(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """One line, without a traceback, which the access log has, too."""
    caplog.set_level(logging.DEBUG, 'geventnode.error')
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append('waiting')
        try:
            request.read()
        finally:
            log.append('over')

    client = serve(listener).send(post(b'abc', length=10))
    log.wait_for('waiting')
    client.abort()
    log.wait_for('over')
    gevent.idle()
    assert [record.levelname for record in caplog.records] == ['DEBUG']
    assert caplog.records[0].exc_info is None
    assert 'POST /: the client went away' in caplog.text


@pytest.mark.parametrize('going', GOING)
def test_reading_an_incomplete_body_raises(serve: Serve, going: str) -> None:
    """It never looks complete: ``read`` raises, ``complete`` is false, there is no 'end'."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('end', log.note('end'))
        log.append(request.read(3))
        try:
            request.read()
        except IncompleteBody as error:
            log.append((error.code, request.complete))

    client = serve(listener).send(post(b'abc', length=10))
    log.wait_for(b'abc')
    getattr(client, going)()
    log.wait_for(('ECONNRESET', False))
    assert log == [b'abc', ('ECONNRESET', False)]


def test_disconnect_behind_an_unread_body_is_noticed_by_reading(serve: Serve) -> None:
    """The kernel reports the end after the bytes before it, which stay there while the body has no reader."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        watched(log, request, response)
        until(lambda: request.socket._protocol.parser.buffered >= DEFAULT_HIGH_WATER_MARK)
        log.append('full')
        log.wait_for('reading')
        with pytest.raises(IncompleteBody):
            request.read()
        log.append('raised')

    client = serve(listener).send(post(b'x' * (4 * DEFAULT_HIGH_WATER_MARK), length=10_000_000))
    log.wait_for('full')
    client.close()
    settle()
    assert log == ['full']
    log.append('reading')
    log.wait_for('raised')
    assert log[2:4] == ['request aborted', 'response close']


def test_half_closed_client_with_an_incomplete_body_gets_400(serve: Serve) -> None:
    """It can still read that its request was bad (RFC 9112, section 8)."""
    client = serve(lambda request, response: request.read()).send(post(b'abc', length=10)).half_close()
    reply = client.response()
    assert reply.status == 400
    assert reply.closes
    assert client.rest() == b''


def test_incomplete_body_emits_aborted_and_error(serve: Serve) -> None:
    """They replace 'end'; data that arrived is delivered before."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('data', log.append)
        for event in ('end', 'aborted', 'error'):
            request.on(event, log.note(event))

    client = serve(listener).send(post(b'abc', length=10))
    log.wait_for(b'abc')
    client.close()
    log.wait_for('error')
    gevent.idle()
    assert log == [b'abc', 'aborted', 'error']


def test_complete_body_never_raises(serve: Serve) -> None:
    """Later errors of the socket have no effect on it."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', log.note('aborted'))
        log.append('waiting')
        log.wait_for('aborted')
        log.append(request.read())

    client = serve(listener).send(post(b'abc'))
    log.wait_for('waiting')
    client.close()
    log.wait_for(b'abc')


def test_complete_body_before_a_reset_never_raises(serve: Serve) -> None:
    """The body includes all bytes that were received before the reset."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.socket.destroyed)
        log.append('waiting')
        request.socket.on('close', log.note('gone'))
        log.wait_for('gone')
        log.append(request.read())

    client = serve(listener).send(post(b'abc' * 1000))
    log.wait_for('waiting')
    gevent.idle()
    client.abort()
    log.wait_for(b'abc' * 1000)


def test_unsent_response_emits_close_without_finish(serve: Serve) -> None:
    """This is so although ``end()`` was called, and ``finished()`` does not wait for ever."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        watched(log, request, response)
        response.end(b'x' * 10_000_000)
        log.append('ended')
        try:
            finished(response)
        except ConnectionError:
            log.append('not finished')

    client = serve(listener).send(get())
    log.wait_for('ended')
    client.abort()
    log.wait_for('not finished')
    assert 'response close' in log
    assert 'response finish' not in log


def test_blocked_write_raises_when_the_client_disconnects(serve: Serve) -> None:
    """It raises ``ConnectionClosed``."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            while True:
                response.write(b'x' * 100_000)
                log.append(response.writable_need_drain)
        except ConnectionClosed:
            log.append('closed')

    client = serve(listener).send(get())
    log.wait_for(True)
    client.abort()
    log.wait_for('closed')
