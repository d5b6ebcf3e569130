"""Test that a connection stays open after a response without ``close``, until it is idle for too long, or a drain.

See RFC 9112, section 9.6. The matrix is the general rule: each way to send a body, to leave it unread, and to respond.
The other tests are about each decision of the server to close.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import gevent
import pytest

from geventnode.errors import RequestTimeout
from geventnode.integrations.wsgi import wsgi
from tests.servers import Client, Log, Serve, get, ok, post

DISCARD = 1000

Framed = tuple[bytes, bytes, bytes]


# -- ways to send a body: the head, the bytes sent with it, and the rest after the response --


def _length(body: bytes, now: int) -> Framed:
    return get('/', f'Content-Length: {len(body)}', method='POST'), body[:now], body[now:]


def _chunks(body: bytes, now: int) -> Framed:
    data = b'%x\r\n%b\r\n' % (len(body), body) if body else b''
    data += b'0\r\n\r\n'
    return get('/', 'Transfer-Encoding: chunked', method='POST'), data[:now], data[now:]


# -- ways to leave a body -------------------------------------------------------------------------------------------


def _none(request: Any) -> None:
    """It is not touched."""


def _part(request: Any) -> None:
    request.read(10)


def _all_that_is_there(request: Any) -> None:
    request.read1()


def _complete(request: Any) -> None:
    request.read()


# -- ways to respond ------------------------------------------------------------------------------------------------


def _at_once(response: Any) -> None:
    response.end('answer')


def _head_first(response: Any) -> None:
    response.flush_headers()
    response.end('answer')


def _in_pieces(response: Any) -> None:
    response.write('ans')
    response.write('wer')
    response.end()


def _declared(response: Any) -> None:
    response.set_header('Content-Length', 6)
    response.write('ans')
    response.end('wer')


def _a_file(response: Any) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b'answer')
        file.seek(0)
        response.send_file(file)


def _own_keep_alive(response: Any) -> None:
    response.set_header('Connection', 'keep-alive')
    response.end('answer')


def _without_connection(response: Any) -> None:
    response.remove_header('Connection')
    response.end('answer')


LEAVINGS = (_none, _part, _all_that_is_there, _complete)
ANSWERS = (_at_once, _head_first, _in_pieces, _declared, _a_file, _own_keep_alive, _without_connection)


def _keeps(client: Client, reply: Any, rest: bytes) -> bool:
    """Return whether the connection was kept as declared in ``reply``, and whether it was kept."""
    if reply.closes:
        client.send(rest)
        client.assert_closed()
        return False
    client.send(rest, get('/next'))
    assert client.response().body == b'/next'
    return True


@pytest.mark.parametrize('answer', ANSWERS)
@pytest.mark.parametrize('leave', LEAVINGS)
@pytest.mark.parametrize('frame', [_length, _chunks])
def test_a_connection_does_what_its_response_declares(
    serve: Serve, frame: Callable[[bytes, int], Framed], leave: Callable[[Any], None], answer: Callable[[Any], None]
) -> None:
    """The bodies have any size, and any part of them has arrived when the head of the response is made."""

    def listener(request: Any, response: Any) -> None:
        if request.method == 'GET':
            response.end(request.url)
            return
        leave(request)
        answer(response)

    site = serve(listener, max_unread_body=DISCARD)
    kept = set()
    for size, now in itertools.product((0, 1, 500, DISCARD, DISCARD + 1, 5000), (0, 1, 100, 10_000)):
        head, sent, rest = frame(b'x' * size, now)
        if rest and leave is not _none and (leave is _complete or now < 20):
            # the listener waits for more
            continue
        client = site.send(head + sent)
        reply = client.response()
        assert reply.body == b'answer'
        if _keeps(client, reply, rest):
            kept.add((size, bool(rest)))
    # no connection closes without need
    assert {(0, False), (500, False), (DISCARD, False)} <= kept
    if frame is _length and leave is not _complete:
        assert (500, True) in kept


@pytest.mark.parametrize('size', [500, 5000])
@pytest.mark.parametrize('chunked', [False, True])
@pytest.mark.parametrize('lazy', [False, True])
def test_a_connection_does_what_its_wsgi_response_declares(serve: Serve, size: int, chunked: bool, lazy: bool) -> None:
    """The application returns its body or yields it, and is called before the body of the request has ended."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', [])
        body = [environ['PATH_INFO'].encode()] if environ['REQUEST_METHOD'] == 'GET' else [b'ans', b'wer']
        return iter(body) if lazy else body

    site = serve(wsgi(application, buffer_chunked=False), max_unread_body=DISCARD)
    for now in (0, 100, 10_000):
        head, sent, rest = (_chunks if chunked else _length)(b'x' * size, now)
        client = site.send(head + sent)
        kept = _keeps(client, client.response(), rest)
        assert kept or size > DISCARD or (chunked and rest)


def test_a_reader_can_stop_after_the_head_was_sent(serve: Serve) -> None:
    """The head without ``close`` was sent while the body was read. The rest is discarded, however long it is."""

    def listener(request: Any, response: Any) -> None:
        if request.method == 'GET':
            response.end(request.url)
            return
        request.read(10)
        response.write('begun')
        request.read(10)
        response.end()

    client = serve(listener, max_unread_body=DISCARD).send(post(b'x' * 20, length=100_000))
    reply = client.response()
    assert (reply.body, reply.closes) == (b'begun', False)
    assert _keeps(client, reply, b'x' * 99_980)


def test_a_whole_response_before_a_long_rest_closes(serve: Serve) -> None:
    """It has ``close`` if the rest is longer than ``max_unread_body``, even with a reader."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        def reader() -> None:
            log.append('reading')
            log.append(len(request.read()))

        gevent.spawn(reader)
        log.wait_for('reading')
        response.end('early')

    client = serve(listener, max_unread_body=DISCARD).send(post(b'', length=5000))
    reply = client.response()
    assert (reply.body, reply.closes) == (b'early', True)
    client.send(b'x' * 5000)
    log.wait_for(5000)
    client.assert_closed()


def test_a_discarded_body_can_arrive_slowly(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the limits of a request and of an idle connection apply to it."""
    monkeypatch.setattr('geventnode.http.server.deadlines.DISCARD_TIME', 0.0)
    client = serve(ok, keep_alive_timeout=60).send(post(b'x', length=3))
    reply = client.response()
    for _ in range(2):
        # the interval in which deadlines are checked
        gevent.sleep(0.6)
        client.send(b'x')
    assert not reply.closes
    assert client.get('/next').body == b'GET /next'


def test_an_idle_connection_in_the_middle_of_a_body_is_closed(serve: Serve) -> None:
    """It closes after ``keep_alive_timeout``, as any other idle connection."""
    client = serve(ok, keep_alive_timeout=0.2, keep_alive_timeout_buffer=0).send(post(b'x', length=3))
    assert not client.response().closes
    client.assert_closed()


def test_request_timeout_applies_to_a_discarded_body(serve: Serve) -> None:
    client = serve(ok, request_timeout=0.3, keep_alive_timeout=60).send(post(b'x', length=3))
    assert not client.response().closes
    client.assert_closed()


def _upload_part(request: Any, response: Any) -> None:
    response.write('begun')
    with contextlib.suppress(RequestTimeout):
        request.read(10)
    response.end()


def test_a_late_body_is_no_failure_of_the_next_request(serve: Serve) -> None:
    """It has arrived after all."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/next':
            log.append('reading')
            response.end(request.read())
        else:
            _upload_part(request, response)

    client = serve(listener, request_timeout=0.2).send(post(b'x', length=3))
    assert client.response().body == b'begun'
    client.send(b'xx', get('/next', 'Content-Length: 3', method='POST'))
    log.wait_for('reading')
    assert client.send(b'abc').response().body == b'abc'


def test_the_wait_for_a_body_does_not_count_for_the_next_one(serve: Serve) -> None:

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response('200 OK', [])
        return [environ['wsgi.input'].read(2)]

    site = serve(wsgi(application))
    client = site.send(post(b'x', length=3))
    while not (sinks := site.server._protocols()) or sinks[0].activity != 'reading':
        gevent.idle()
    connection: Any = sinks[0]
    connection.body.awaited = 1000.0
    assert client.send(b'x').response().body == b'xx'
    client.send(b'x', post(b'y', length=2))
    while connection.served < 2 or connection.activity != 'reading':
        gevent.idle()
    connection._on_deadline(monotonic())
    assert client.send(b'y').response().body == b'yy'


def test_a_discarded_body_above_the_minimum_rate_can_take_long(serve: Serve) -> None:
    """The same applies to a body that is read."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.url)

    client = serve(
        listener, request_timeout=0.2, min_body_rate=10, keep_alive_timeout=60, max_unread_body=100_000
    ).send(post(b'', length=90_000))
    reply = client.response()
    assert not reply.closes
    began = monotonic()
    sent = 0
    while monotonic() - began < 1.0:
        client.send(b'x' * 100)
        sent += 100
        gevent.sleep(0.02)
    assert _keeps(client, reply, b'x' * (90_000 - sent))


@pytest.mark.parametrize('method', ['HEAD', 'GET'])
@pytest.mark.parametrize('lazy', [False, True])
def test_a_listener_that_fails_after_all_bytes_were_sent(
    serve: Serve, method: str, lazy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The response is one to HEAD, or one with all of its declared length, so that the connection stays open."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 6)
        response.write('ans')
        response.write('wer')
        raise RuntimeError('fails late')

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', [('Content-Length', '6')])
        yield b'ans'
        yield b'wer'
        raise RuntimeError('fails late')

    client = serve(wsgi(application) if lazy else listener).connect()
    for _ in range(2):
        reply = client.send(get('/', method=method)).response(method)
        assert (reply.status, reply.body, reply.closes) == (200, b'answer' if method == 'GET' else b'', False)
    assert caplog.text.count('RuntimeError: fails late') == 2


def test_a_listener_that_fails_before_all_bytes_were_sent(serve: Serve) -> None:
    """The connection is destroyed, for any declared length."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 6)
        response.write('ans')
        raise RuntimeError('fails in the middle')

    client = serve(listener).send(get('/'))
    with pytest.raises(EOFError):
        client.response()


# -- each decision to close -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('request_bytes', 'options'),
    [
        pytest.param(get('/', version='1.0'), {}, id='HTTP/1.0'),
        pytest.param(get('/', 'Connection: close'), {}, id='the client closes'),
        pytest.param(get('/'), {'max_requests_per_socket': 1}, id='max_requests_per_socket'),
        pytest.param(post(b'x' * 2000), {'max_unread_body': DISCARD}, id='unread body'),
        pytest.param(post(b'', length=2000), {'max_unread_body': DISCARD}, id='unread body to come'),
        pytest.param(get('/', 'Transfer-Encoding: chunked', method='POST'), {}, id='unread chunks to come'),
        pytest.param(get('/', 'Content-Length: 3', 'Expect: 100-continue', method='POST'), {}, id='no 100 Continue'),
        pytest.param(get('/', 'Expect: a-miracle'), {}, id='expectation'),
        pytest.param(get('/', 'Host: again'), {}, id='bad request'),
        pytest.param(post(b'x' * 9), {'max_body_size': 8}, id='max_body_size'),
        pytest.param(b'GET / HTTP/1.1\r\n', {'headers_timeout': 0.1}, id='headers_timeout'),
        pytest.param(get('/fail'), {}, id='listener fails'),
        pytest.param(get('/wait', 'Content-Length: 3', method='POST'), {'request_timeout': 0.1}, id='request_timeout'),
        pytest.param(get('/drain'), {}, id='draining'),
        pytest.param(get('/crowd'), {'max_connections': 1, 'wait_when_full': True}, id='at capacity'),
        pytest.param(get('/close'), {}, id='application'),
    ],
)
def test_a_decision_to_close_is_declared(serve: Serve, request_bytes: bytes, options: dict[str, Any]) -> None:
    """The response declares it, and then the connection closes."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/fail':
            raise RuntimeError('fails')
        if request.url == '/wait':
            request.read()
        if request.url == '/drain':
            site.server.close()
        if request.url == '/close':
            response.should_keep_alive = False
        if request.url == '/crowd':
            site.connect()
            while not site.server._at_capacity:
                gevent.sleep(0.01)
        response.end('answer')

    site = serve(listener, **options)
    client = site.send(request_bytes)
    assert client.response().closes
    client.assert_closed()


def test_remove_header_does_not_hide_close(serve: Serve) -> None:
    """It removes the field of connections that stay open."""

    def listener(request: Any, response: Any) -> None:
        response.remove_header('Connection')
        response.end('answer')

    client = serve(listener, max_requests_per_socket=2).connect()
    assert client.get().values('Connection') == []
    assert client.get().closes
    client.assert_closed()


def test_a_timeout_without_a_report_is_no_failure_of_the_next_body(serve: Serve) -> None:
    """The late body has arrived after all."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.read())

    site = serve(listener)
    client = site.send(post(b'ab', length=3))
    while not (sinks := site.server._protocols()) or sinks[0].activity != 'reading':
        gevent.idle()
    # the body arrives in the same turn of the loop as its deadline passes, and before that
    connection: Any = sinks[0]
    site.server._hub.loop.run_callback(connection.time_out, RequestTimeout('late'))
    site.server._hub.loop.run_callback(connection.data_received, b'c')
    assert client.response().body == b'abc'
    assert client.send(post(b'abc')).response().body == b'abc'


def test_a_listener_that_is_killed_after_end_keeps_the_connection(serve: Serve) -> None:
    """The response is complete, and has declared that the connection stays open."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.url)
        if request.method == 'POST':
            raise gevent.GreenletExit

    client = serve(listener).send(post(b'x', length=3))
    reply = client.response()
    assert _keeps(client, reply, b'xx')
