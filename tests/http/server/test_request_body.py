"""Test bodies without a reader: they are discarded, awaited with Expect, or end the connection."""

from __future__ import annotations

import contextlib
from typing import Any

import gevent
import pytest

from geventnode.errors import StreamError
from geventnode.stream import Writable
from tests.servers import Log, Response, Serve, get, ok, post

# -- unread bodies --------------------------------------------------------------------------------------------------


def test_an_unread_body_is_discarded(serve: Serve) -> None:
    """The connection stays open if the body is within the limit."""
    client = serve(ok).send(post(b'x' * 60_000), get('/next'))
    assert client.response().body == b'POST /'
    assert client.response().body == b'GET /next'


def test_an_unread_body_is_discarded_as_it_arrives(serve: Serve) -> None:
    client = serve(ok).send(post(b'x' * 10, length=60_000))
    assert client.response().status == 200
    client.send(b'x' * 59_990, get('/next'))
    assert client.response().body == b'GET /next'


@pytest.mark.parametrize('chunked', [False, True])
def test_an_unread_body_beyond_max_unread_body_closes(serve: Serve, chunked: bool) -> None:
    """The connection closes after the response, and no further request is served."""
    seen = []

    def listener(request: Any, response: Any) -> None:
        seen.append(request.url)
        response.end('enough')

    site = serve(listener, max_unread_body=1000)
    client = site.connect()
    body = b'x' * 200_000
    if chunked:
        data = get('/', 'Transfer-Encoding: chunked', method='POST') + b'%x\r\n%b\r\n0\r\n\r\n' % (len(body), body)
    else:
        data = post(body)
    feeder = gevent.spawn(_send_as_far_as_possible, client, data + get('/next'))
    assert client.response().body == b'enough'
    assert client.rest() == b''
    feeder.join()
    assert seen == ['/']


def _send_as_far_as_possible(client: Any, data: bytes) -> None:
    # the server can close before it has received everything, and should
    with contextlib.suppress(OSError):
        client.send(data)


def test_reading_a_discarded_body_raises(serve: Serve) -> None:
    """It is not an empty body."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.end()
        try:
            request.read()
        except StreamError:
            log.append('raised')

    serve(listener).send(post(b'abc')).response()
    log.wait_for('raised')


def test_a_reader_that_stops_does_not_stall_the_connection(serve: Serve) -> None:
    """It was reading when the response ended. The rest is discarded, and the connection stays open."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        def reader() -> None:
            log.append('reading')
            log.append(request.read1())

        if request.url == '/first':
            gevent.spawn(reader)
            log.wait_for('reading')
        response.end('done')

    client = serve(listener).send(post(b'', '/first', length=6))
    assert client.response().body == b'done'
    client.send(b'abc')
    log.wait_for(b'abc')
    client.send(b'def', get('/next'))
    assert client.response().body == b'done'


# -- Expect ---------------------------------------------------------------------------------------------------------

EXPECT = 'Expect: 100-continue'


def test_a_reader_in_another_greenlet_gets_an_error_after_a_500(serve: Serve) -> None:
    """The rest of the body will not be received."""
    log = Log()

    def read(request: Any) -> None:
        with pytest.raises(StreamError, match='error response'):
            request.read()
        log.append('raised')

    def listener(request: Any, response: Any) -> None:
        gevent.spawn(read, request)
        while not request.socket._protocol.waits_for_client:
            gevent.idle()
        raise ValueError('on purpose')

    client = serve(listener).send(post(b'a', length=2))
    assert client.response().status == 500
    log.wait_for('raised')


def expecting(*fields: str, version: str = '1.1') -> bytes:
    """Return the head of a request with ``Expect`` and a body of four bytes."""
    return get('/', 'Content-Length: 4', *fields, method='POST', version=version)


@pytest.mark.parametrize('size', [60_000, 10_000_000])
def test_a_pipe_that_stops_does_not_stall_the_connection(serve: Serve, size: int) -> None:
    """The response can have ended before. The rest is discarded, or the connection closes."""

    def listener(request: Any, response: Any) -> None:
        sink = Writable(lambda chunk: request.unpipe(sink) and None)
        if request.method == 'POST':
            request.pipe(sink)
        response.end('early')

    client = serve(listener).send(post(b'x' * 100, length=size))
    assert client.response().body == b'early'
    if size == 60_000:
        client.send(b'x' * (size - 100), get('/next'))
        assert client.response().body == b'early'
    else:
        assert client.rest() == b''


def test_100_continue_is_sent_when_the_body_is_read(serve: Serve) -> None:
    """It is sent once, and not before."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.write_early_hints({'link': '</a>'})
        log.append(request.read())
        request.read()
        response.end('thanks')

    client = serve(listener).send(expecting(EXPECT))
    assert client.head().status == 103
    assert client.until(b'\r\n\r\n') == b'HTTP/1.1 100 Continue\r\n\r\n'
    client.send(b'body')
    assert client.head().status == 200
    assert client.exactly(6) == b'thanks'
    assert log == [b'body']
    assert client.get().status == 200


def test_100_continue_is_sent_for_a_data_listener(serve: Serve) -> None:

    def listener(request: Any, response: Any) -> None:
        request.on('data', response.write)
        request.on('end', response.end)

    client = serve(listener).send(expecting(EXPECT))
    assert client.head().status == 100
    assert client.send(b'body').response().body == b'body'


def test_100_continue_is_sent_after_write_head(serve: Serve) -> None:
    """The head is fixed, but not sent."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(201)
        response.end(request.read())

    client = serve(listener).send(expecting(EXPECT))
    assert client.head().status == 100
    assert client.send(b'body').response().status == 201


def test_a_final_response_without_100_closes(serve: Serve) -> None:
    """It is unknown whether the client sends the body (RFC 9110, section 10.1.1)."""
    client = serve(ok).send(expecting(EXPECT))
    reply = client.response()
    assert reply.status == 200
    assert reply.closes
    client.send(get('/evil'))
    assert client.rest() == b''


def test_check_continue_replaces_request(serve: Serve) -> None:
    """The listener calls ``write_continue``."""
    log = Log()
    site = serve(lambda request, response: log.append('request'))

    @site.server.on('checkContinue')
    def check(request: Any, response: Any) -> None:
        response.write_continue(log.note('sent'))
        response.write_continue()
        response.end(request.read())

    client = site.send(expecting(EXPECT))
    assert client.head().status == 100
    assert client.send(b'body').head().status == 200
    assert client.exactly(4) == b'body'
    assert log == ['sent']


def test_a_check_continue_listener_can_send_an_error(serve: Serve) -> None:
    """The connection closes after the final status."""
    site = serve(ok)
    site.server.on('checkContinue', lambda request, response: response.write_head(413).end())
    client = site.send(expecting(EXPECT))
    reply: Response = client.response()
    assert reply.status == 413
    assert reply.closes
    assert client.rest() == b''


def test_a_body_that_was_sent_at_once_needs_no_100(serve: Serve) -> None:
    """It is read all the same. At most one 100 precedes the response."""
    client = serve(lambda request, response: response.end(request.read())).send(expecting(EXPECT) + b'body')
    assert client.response().body == b'body'
    assert client.get().status == 200


def test_an_unknown_expectation_gets_417(serve: Serve) -> None:
    """The connection closes, unless there is a ``'checkExpectation'`` listener."""
    site = serve(ok)
    client = site.send(expecting('Expect: a-miracle'))
    reply = client.response()
    assert reply.status == 417
    assert reply.closes
    site.server.on('checkExpectation', lambda request, response: response.end(request.headers['expect']))
    assert site.send(get('/', 'Expect: a-miracle')).response().body == b'a-miracle'


def test_an_expectation_in_http_1_0_is_ignored(serve: Serve) -> None:
    client = serve(lambda request, response: response.end(request.read())).send(expecting(EXPECT, version='1.0'))
    assert client.send(b'body').head().status == 200


def test_the_case_of_an_expectation_is_ignored(serve: Serve) -> None:
    """See RFC 9110, section 10.1.1."""
    client = serve(lambda request, response: response.end(request.read())).send(expecting('Expect: 100-Continue'))
    assert client.head().status == 100
    assert client.send(b'body').response().body == b'body'


# -- giving up ------------------------------------------------------------------------------------------------------


def test_destroying_an_unread_request_destroys_the_connection(serve: Serve) -> None:
    """The request emits ``'aborted'``."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', log.note('aborted'))
        response.on('close', log.note('response close'))
        request.destroy()

    assert serve(listener).send(post(b'abc', length=10)).rest() == b''
    log.wait_for('response close')
    assert log == ['aborted', 'response close']


def test_destroying_a_read_request_keeps_the_connection(serve: Serve) -> None:
    """The response can be sent."""

    def listener(request: Any, response: Any) -> None:
        request.read()
        request.destroy()
        response.end('still here')

    assert serve(listener).send(post(b'abc')).response().body == b'still here'


def test_the_order_of_events_of_an_exchange(serve: Serve) -> None:
    """It is ``'finish'``, then ``'end'`` of the request when its body was discarded; no ``'close'``, no
    ``'aborted'``."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        for event in ('end', 'close', 'aborted'):
            request.on(event, log.note(f'request {event}'))
        for event in ('finish', 'close'):
            response.on(event, log.note(f'response {event}'))
        response.end()

    client = serve(listener).send(post(b'abc'))
    client.response()
    log.wait_for_length(2)
    assert log == ['response finish', 'request end']
