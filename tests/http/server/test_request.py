"""Requests in listeners: the head, the body in every way of reading it, and trailers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from geventnode.errors import StreamModeError
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from tests.servers import Log, Serve, get, post

See = Callable[..., Any]


@pytest.fixture
def see(serve: Serve) -> See:
    """Call ``see(function, *pieces)`` to get the function's result for the request that the pieces are."""

    def look(what: Callable[[Any], Any], *pieces: bytes) -> Any:
        seen: list[Any] = []

        def listener(request: Any, response: Any) -> None:
            try:
                seen.append(what(request))
            finally:
                response.end()

        client = serve(listener).send(*pieces)
        assert client.response().status == 200
        return seen[0]

    return look


# -- the head -------------------------------------------------------------------------------------------------------


def test_version_is_the_one_of_the_client(see: See) -> None:
    """With its two integers."""

    def version(request: Any) -> Any:
        return request.http_version, request.http_version_major, request.http_version_minor

    assert see(version, get()) == ('1.1', 1, 1)
    assert see(version, get(version='1.0')) == ('1.0', 1, 0)


def test_url_is_the_request_target(see: See) -> None:
    """Exactly as it was sent."""

    def start(request: Any) -> Any:
        return request.method, request.url

    assert see(start, get('/status?name=ryan&x=%20a', method='PURGE')) == ('PURGE', '/status?name=ryan&x=%20a')
    assert see(start, get('//x/../y', method='m-Search')) == ('m-Search', '//x/../y')
    assert see(start, get('*', method='OPTIONS')) == ('OPTIONS', '*')


def test_request_has_no_status(see: See) -> None:
    """Responses have one."""
    assert see(lambda request: (request.status_code, request.status_message), get()) == (None, None)


def test_headers_ignore_case(see: See) -> None:
    """Names are in lower case, values unchanged."""
    headers = see(lambda request: request.headers, get('/', 'ACCEPT: */*;  Q=1', 'X-Empty:'))
    assert dict(headers) == {'host': 'x', 'accept': '*/*;  Q=1', 'x-empty': ''}
    assert headers['Accept'] == headers.get('aCCEPT') == '*/*;  Q=1'
    assert 'X-EMPTY' in headers


def test_repeated_headers_follow_the_rules_of_node_20(see: See) -> None:
    """Joined, first wins, list, or joined with semicolons."""
    headers = see(
        lambda request: request.headers,
        get(
            '/',
            'Set-Cookie: a',
            'Set-Cookie: b',
            'Cookie: c=1',
            'Cookie: d=2',
            'Via: e',
            'Via: f',
            'X-G: g',
            'X-G: h',
            'Referer: i',
            'Referer: j',
            'Cache-Control: k',
            'Cache-Control: l',
        ),
    )
    assert headers['set-cookie'] == ['a', 'b']
    assert headers['cookie'] == 'c=1; d=2'
    assert headers['via'] == 'e, f'
    assert headers['x-g'] == 'g, h'
    assert headers['referer'] == 'i'
    assert headers['cache-control'] == 'k, l'


def test_raw_and_distinct_headers_are_not_joined(see: See) -> None:
    raw, distinct = see(lambda request: (request.raw_headers, request.headers_distinct), get('/', 'A: 1', 'a: 2'))
    assert raw == [('Host', 'x'), ('A', '1'), ('a', '2')]
    assert distinct == {'host': ['x'], 'a': ['1', '2']}


def test_headers_of_a_request_are_not_shared(see: See) -> None:
    """Changes have no effect on the next request with the same head."""

    def spoil(request: Any) -> Any:
        seen = dict(request.headers), list(request.raw_headers)
        request.headers['host'] = 'spoilt'
        request.raw_headers.clear()
        return seen

    assert see(spoil, get()) == see(spoil, get()) == ({'host': 'x'}, [('Host', 'x')])


def test_socket_is_shared_by_both_messages(serve: Serve) -> None:
    """It is the one of 'connection', too."""
    log = Log()
    site = serve(None)
    site.server.on('connection', log.append)

    @site.server.on('request')
    def listener(request: Any, response: Any) -> None:
        log.append(request.socket is request.connection is response.socket is response.connection is log[0])
        log.append(request.socket.remote_address)
        response.end()

    site.get()
    assert log[1:] == [True, '127.0.0.1']


def test_repr_describes_the_request(see: See) -> None:
    assert see(repr, get('/x')) == '<IncomingMessage GET /x complete>'


# -- the body, sequentially -----------------------------------------------------------------------------------------


def test_read_returns_the_whole_body(see: See) -> None:
    """And then nothing."""

    def twice(request: Any) -> Any:
        return request.read(), request.read(), request.complete

    assert see(twice, post(b'hello')) == (b'hello', b'', True)


def test_end_is_emitted_once(serve: Serve) -> None:
    """Before the last bytes are returned, whether or not the body arrived with the head."""
    seen = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('end', seen.note('end'))
        seen.append(request.read())
        seen.append(request.read())
        response.end()

    client = serve(listener).send(post(b'at once'))
    assert client.response().status == 200
    client.send(post(b'in t', length=8))
    client.send(b'wo.\n', get('/last'))
    assert [client.response().status for _ in range(2)] == [200, 200]
    assert list(seen) == ['end', b'at once', b'', 'end', b'in two.\n', b'', 'end', b'', b'']


def test_body_that_filled_the_buffer_is_read(serve: Serve) -> None:
    """The buffered part is complete when the listener reads; the rest is received then."""

    def listener(request: Any, response: Any) -> None:
        size = request.socket.readable_high_water_mark
        while request.method == 'POST' and request.socket._protocol.parser.buffered < size:
            gevent.idle()
        response.end(str(len(request.read())))

    client = serve(listener).send(post(b'x' * DEFAULT_HIGH_WATER_MARK))
    assert client.response().body == str(DEFAULT_HIGH_WATER_MARK).encode()
    client.send(get('/next'))
    assert client.response().body == b'0'


def test_read_without_a_body_returns_nothing(see: See) -> None:
    """At once."""
    assert see(lambda request: (request.complete, request.read()), get()) == (True, b'')


def test_read_returns_exactly_the_given_number_of_bytes(see: See) -> None:
    """Unless the body ends first."""

    def sizes(request: Any) -> Any:
        return [request.read(2), request.read1(1), request.read(0), request.read(10), request.read(1)]

    assert see(sizes, post(b'hello')[:-3], b'l', b'lo') == [b'he', b'l', b'', b'lo', b'']


def test_body_can_be_iterated_and_read_as_a_file(see: See) -> None:
    """Chunks as they arrive; lines through ``makefile``."""
    assert see(lambda request: b''.join(request), post(b'abc' * 50_000)) == b'abc' * 50_000
    assert see(lambda request: list(request.makefile()), post(b'one\ntwo\nthree')) == [b'one\n', b'two\n', b'three']


def test_readinto_returns_available_bytes(see: See) -> None:

    def into(request: Any) -> Any:
        buffer = bytearray(8)
        return request.readinto(buffer), bytes(buffer), request.readinto(buffer)

    assert see(into, post(b'hello')) == (5, b'hello\0\0\0', 0)


def test_set_encoding_decodes_across_pieces(serve: Serve) -> None:
    """A character that is divided between two pieces is decoded."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.set_encoding('utf-8')
        log.append(request.read(1))
        log.append(request.read())
        response.end()

    body = 'aé€'.encode()
    client = serve(listener).send(post(body)[:-3])
    log.wait_for('a')
    client.send(body[-3:-1])
    gevent.idle()
    client.send(body[-1:])
    client.response()
    assert log == ['a', 'é€']


def test_chunked_body_is_decoded(see: See) -> None:
    """Extensions are ignored."""
    data = get('/', 'Transfer-Encoding: chunked', method='POST') + b'3;a=b\r\nabc\r\n1\r\nd\r\n0\r\n\r\n'
    assert see(lambda request: request.read(), data) == b'abcd'


def test_trailers_are_available_after_the_end(see: See) -> None:
    """Joined, raw and distinct; they are never merged into the headers."""

    def trailers(request: Any) -> Any:
        before = dict(request.trailers), request.raw_trailers
        request.read()
        return (
            before,
            dict(request.trailers),
            request.raw_trailers,
            request.trailers_distinct,
            request.headers.get('x-sum'),
        )

    data = get('/', 'Transfer-Encoding: chunked', method='POST') + b'1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n'
    assert see(trailers, data) == (
        ({}, []),
        {'x-sum': '1, 2'},
        [('X-Sum', '1'), ('x-sum', '2')],
        {'x-sum': ['1', '2']},
        None,
    )


def test_listener_runs_before_the_body_has_arrived(serve: Serve) -> None:
    """It reads the first bytes before the client has sent the last."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.read1())
        response.end(request.read())

    client = serve(listener).send(post(b'first', length=10))
    log.wait_for(b'first')
    client.send(b'later')
    assert client.response().body == b'later'


# -- the body, by events --------------------------------------------------------------------------------------------


def test_data_events_precede_one_end_event(serve: Serve) -> None:
    """A listener can end the response there."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('data', log.append)
        request.on('end', lambda: (log.append('end'), response.end('thanks')))

    client = serve(listener).send(post(b'one', length=6))
    log.wait_for(b'one')
    client.send(b'two')
    assert client.response().body == b'thanks'
    assert log == [b'one', b'two', 'end']


def test_resume_discards_the_body(serve: Serve) -> None:
    """'end' is emitted without a 'data' listener, with and without a body."""

    def listener(request: Any, response: Any) -> None:
        request.on('end', lambda: response.end('end'))
        request.resume()

    client = serve(listener).send(post(b'x' * 100))
    assert client.response().body == b'end'
    assert client.get().body == b'end'


def test_readable_event_precedes_the_data(serve: Serve) -> None:
    parts = []

    def listener(request: Any, response: Any) -> None:
        def on_readable() -> None:
            parts.append(request.read1())
            if not parts[-1]:
                response.end(b''.join(parts))

        request.on('readable', on_readable)

    client = serve(listener).send(post(b'abc', length=6))
    while parts != [b'abc']:
        gevent.idle()
    client.send(b'def')
    assert client.response().body == b'abcdef'


def test_paused_request_emits_no_data(serve: Serve) -> None:
    """And no data is lost."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        def on_data(chunk: bytes) -> None:
            log.append(chunk)
            request.pause()
            gevent.spawn(go_on)

        def go_on() -> None:
            gevent.idle()
            log.append('resumed')
            request.resume()

        request.on('data', on_data)
        request.on('end', response.end)

    client = serve(listener).send(post(b'one', length=6))
    log.wait_for(b'one')
    client.send(b'two')
    client.response()
    log.wait_for_length(4)
    assert log == [b'one', 'resumed', b'two', 'resumed']


def test_events_after_sequential_reads_raise(see: See) -> None:

    def mix(request: Any) -> None:
        request.read(1)
        with pytest.raises(StreamModeError):
            request.on('data', print)

    see(mix, post(b'abc'))


def test_pipe_echoes_bodies_of_any_size(serve: Serve) -> None:
    """``request.pipe(response)``."""
    body = bytes(range(256)) * 8000
    client = serve(lambda request, response: request.pipe(response)).connect()
    feeder = gevent.spawn(client.send, post(body))
    assert client.response().body == body
    feeder.join()
    client.send(post(b'next'))
    assert client.response().body == b'next'


def test_failing_data_listener_is_a_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """As a 'request' listener is."""

    def fail(chunk: bytes) -> None:
        raise ZeroDivisionError

    def listener(request: Any, response: Any) -> None:
        request.on('data', fail)

    assert serve(listener).send(post(b'abc')).response().status == 500
    assert 'ZeroDivisionError' in caplog.text
