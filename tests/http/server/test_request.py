"""Requests as listeners see them: the head, the body in every way of reading it, trailers."""

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
    """What a listener sees of a request: ``see(function of the request, *pieces)``."""

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


def test_version(see: See) -> None:
    """As the client said, and its two integers."""

    def version(request: Any) -> Any:
        return request.http_version, request.http_version_major, request.http_version_minor

    assert see(version, get()) == ('1.1', 1, 1)
    assert see(version, get(version='1.0')) == ('1.0', 1, 0)


def test_method_and_url(see: See) -> None:
    """The url is exactly the request-target."""

    def start(request: Any) -> Any:
        return request.method, request.url

    assert see(start, get('/status?name=ryan&x=%20a', method='PURGE')) == ('PURGE', '/status?name=ryan&x=%20a')
    assert see(start, get('//x/../y', method='m-Search')) == ('m-Search', '//x/../y')
    assert see(start, get('*', method='OPTIONS')) == ('OPTIONS', '*')


def test_a_request_has_no_status(see: See) -> None:
    """That is for responses."""
    assert see(lambda request: (request.status_code, request.status_message), get()) == (None, None)


def test_headers(see: See) -> None:
    """Names in lower case, values as they are, lookups in any case."""
    headers = see(lambda request: request.headers, get('/', 'ACCEPT: */*;  Q=1', 'X-Empty:'))
    assert dict(headers) == {'host': 'x', 'accept': '*/*;  Q=1', 'x-empty': ''}
    assert headers['Accept'] == headers.get('aCCEPT') == '*/*;  Q=1'
    assert 'X-EMPTY' in headers


def test_repeated_headers(see: See) -> None:
    """Joined, first wins, list, or joined with semicolons: Node 20's rule."""
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


def test_raw_and_distinct_headers(see: See) -> None:
    """As they came, and never joined."""
    raw, distinct = see(lambda request: (request.raw_headers, request.headers_distinct), get('/', 'A: 1', 'a: 2'))
    assert raw == [('Host', 'x'), ('A', '1'), ('a', '2')]
    assert distinct == {'host': ['x'], 'a': ['1', '2']}


def test_headers_are_the_requests_own(see: See) -> None:
    """Changing them changes nothing for the next request with the same head."""

    def spoil(request: Any) -> Any:
        seen = dict(request.headers), list(request.raw_headers)
        request.headers['host'] = 'spoilt'
        request.raw_headers.clear()
        return seen

    assert see(spoil, get()) == see(spoil, get()) == ({'host': 'x'}, [('Host', 'x')])


def test_socket_and_connection(serve: Serve) -> None:
    """The same object, which is that of 'connection' (SV2), and the response's."""
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


def test_requests_are_described(see: See) -> None:
    """For whoever debugs."""
    assert see(repr, get('/x')) == '<IncomingMessage GET /x complete>'


# -- the body, sequentially -----------------------------------------------------------------------------------------


def test_read_everything(see: See) -> None:
    """The whole body, then nothing."""

    def twice(request: Any) -> Any:
        return request.read(), request.read(), request.complete

    assert see(twice, post(b'hello')) == (b'hello', b'', True)


def test_the_end_is_announced_to_who_listens(serve: Serve) -> None:
    """Once, and before what was read is returned, whether the body came with the head or not."""
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


def test_a_body_that_stopped_the_socket(serve: Serve) -> None:
    """It is all here when the listener asks, and as much as may be held: what follows it is received then."""

    def listener(request: Any, response: Any) -> None:
        size = request.socket.readable_high_water_mark
        while request.method == 'POST' and request.socket._protocol.parser.buffered < size:
            gevent.idle()
        response.end(str(len(request.read())))

    client = serve(listener).send(post(b'x' * DEFAULT_HIGH_WATER_MARK))
    assert client.response().body == str(DEFAULT_HIGH_WATER_MARK).encode()
    client.send(get('/next'))
    assert client.response().body == b'0'


def test_read_of_a_request_without_a_body(see: See) -> None:
    """Is empty at once."""
    assert see(lambda request: (request.complete, request.read()), get()) == (True, b'')


def test_read_so_many_bytes(see: See) -> None:
    """Exactly so many unless the body ends first."""

    def sizes(request: Any) -> Any:
        return [request.read(2), request.read1(1), request.read(0), request.read(10), request.read(1)]

    assert see(sizes, post(b'hello')[:-3], b'l', b'lo') == [b'he', b'l', b'', b'lo', b'']


def test_iteration_and_files(see: See) -> None:
    """Chunks as they come; lines through ``makefile``."""
    assert see(lambda request: b''.join(request), post(b'abc' * 50_000)) == b'abc' * 50_000
    assert see(lambda request: list(request.makefile()), post(b'one\ntwo\nthree')) == [b'one\n', b'two\n', b'three']


def test_readinto(see: See) -> None:
    """As much as is there."""

    def into(request: Any) -> Any:
        buffer = bytearray(8)
        return request.readinto(buffer), bytes(buffer), request.readinto(buffer)

    assert see(into, post(b'hello')) == (5, b'hello\0\0\0', 0)


def test_set_encoding_decodes_across_pieces(serve: Serve) -> None:
    """A character that is cut in two is put together again."""
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


def test_chunked_bodies(see: See) -> None:
    """Decoded; extensions ignored."""
    data = get('/', 'Transfer-Encoding: chunked', method='POST') + b'3;a=b\r\nabc\r\n1\r\nd\r\n0\r\n\r\n'
    assert see(lambda request: request.read(), data) == b'abcd'


def test_trailers_after_the_end(see: See) -> None:
    """Empty before; joined, raw and distinct afterwards; never merged into the headers."""

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


def test_the_body_is_not_waited_for(serve: Serve) -> None:
    """The listener has the first bytes before the client has sent the last."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.read1())
        response.end(request.read())

    client = serve(listener).send(post(b'first', length=10))
    log.wait_for(b'first')
    client.send(b'later')
    assert client.response().body == b'later'


# -- the body, by events --------------------------------------------------------------------------------------------


def test_data_and_end(serve: Serve) -> None:
    """Chunks, then one 'end'; the response may be ended from there."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('data', log.append)
        request.on('end', lambda: (log.append('end'), response.end('thanks')))

    client = serve(listener).send(post(b'one', length=6))
    log.wait_for(b'one')
    client.send(b'two')
    assert client.response().body == b'thanks'
    assert log == [b'one', b'two', 'end']


def test_resume_discards_and_ends(serve: Serve) -> None:
    """'end' comes although nobody listens for data, with and without a body."""

    def listener(request: Any, response: Any) -> None:
        request.on('end', lambda: response.end('end'))
        request.resume()

    client = serve(listener).send(post(b'x' * 100))
    assert client.response().body == b'end'
    assert client.get().body == b'end'


def test_readable(serve: Serve) -> None:
    """'readable', then what is there."""
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


def test_pause_and_resume(serve: Serve) -> None:
    """Nothing comes while it is paused, and nothing is lost."""
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


def test_ways_of_reading_do_not_mix(see: See) -> None:
    """Events after sequential reads raise."""

    def mix(request: Any) -> None:
        request.read(1)
        with pytest.raises(StreamModeError):
            request.on('data', print)

    see(mix, post(b'abc'))


def test_pipe_echoes(serve: Serve) -> None:
    """``request.pipe(response)``, whatever the size."""
    body = bytes(range(256)) * 8000
    client = serve(lambda request, response: request.pipe(response)).connect()
    feeder = gevent.spawn(client.send, post(body))
    assert client.response().body == body
    feeder.join()
    client.send(post(b'next'))
    assert client.response().body == b'next'


def test_a_failing_data_listener_is_a_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """As one of 'request' is."""

    def fail(chunk: bytes) -> None:
        raise ZeroDivisionError

    def listener(request: Any, response: Any) -> None:
        request.on('data', fail)

    assert serve(listener).send(post(b'abc')).response().status == 500
    assert 'ZeroDivisionError' in caplog.text
