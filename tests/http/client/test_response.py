"""Responses: framing, incomplete bodies, pauses and unread bodies."""

from __future__ import annotations

import gc
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import IncompleteBody, SocketHangUp
from tests.origins import HELLO, MakeOrigin, Peer, once
from tests.servers import Log, Serve
from tests.sockets import settle, until

# -- framing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('said', 'body'),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', b'hello'),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', b''),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n', b'hello'),
        (b'HTTP/1.1 200 OK\r\n\r\nhello', b'hello'),
        (b'HTTP/1.0 200 OK\r\n\r\nhello', b'hello'),
        (b'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello', b'hello'),
        (b'HTTP/1.1 204 No Content\r\n\r\n', b''),
        (b'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n', b''),
        (b'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n', b''),
        (b'HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nno', b'no'),
        (b'HTTP/1.1 999 \xe4\r\nContent-Length: 2\r\n\r\nno', b'no'),
    ],
)
@pytest.mark.parametrize('cut', [0, 1], ids=['whole', 'bytewise'])
def test_body_is_read_in_every_framing(origin: MakeOrigin, said: bytes, body: bytes, cut: int) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        for piece in [said] if not cut else [said[i : i + 1] for i in range(len(said))]:
            peer.send(piece)
            gevent.idle()

    with http.get(origin(script).url) as response:
        assert response.read() == body
        assert response.complete
        assert not response.aborted
        assert response.read() == b''


def test_head_has_every_attribute(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    server = origin(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
    for _ in range(2):
        response = http.get(server.url, method='HEAD', agent=pool).get_response()
        assert (response.read(), response.headers['Content-Length'], response.complete) == (b'', '1000', True)
    assert server.accepted == 1


def test_response_attributes(origin: MakeOrigin) -> None:
    said = (
        b'HTTP/1.1 418 I am a teapot\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-A: 1\r\nx-a: 2\r\n'
        b'Content-Length: 0\r\n\r\n'
    )
    response = http.get(origin(said).url).get_response()
    assert (response.status_code, response.status_message) == (418, 'I am a teapot')
    assert (response.http_version, response.http_version_major, response.http_version_minor) == ('1.1', 1, 1)
    assert response.headers == {'set-cookie': ['a=b', 'c=d'], 'x-a': '1, 2', 'content-length': '0'}
    assert response.raw_headers[2:4] == [('X-A', '1'), ('x-a', '2')]
    assert response.headers_distinct['x-a'] == ['1', '2']
    assert (response.method, response.url, response.upgrade) == (None, None, False)


def test_trailers_are_available_after_the_body(origin: MakeOrigin) -> None:
    said = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n'
    response = http.get(origin(said).url).get_response()
    assert response.trailers == {}
    assert response.read() == b'x'
    assert response.trailers == {'x-sum': '1, 2'}
    assert response.raw_trailers == [('X-Sum', '1'), ('X-Sum', '2')]


@pytest.mark.parametrize('framing', ['length', 'chunked', 'close'])
def test_large_body_is_not_buffered(origin: MakeOrigin, framing: str) -> None:
    size = 3_000_000

    def script(peer: Peer) -> None:
        peer.request()
        if framing == 'length':
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % size, bytes(size))
        elif framing == 'close':
            peer.send(b'HTTP/1.1 200 OK\r\n\r\n', bytes(size))
        else:
            peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
            for _ in range(300):
                peer.send(b'%x\r\n' % (size // 300), bytes(size // 300), b'\r\n')
            peer.send(b'0\r\n\r\n')

    response = http.get(origin(script).url).get_response()
    settle()
    assert response.readable_length < 3 * response.readable_high_water_mark
    received = 0
    for chunk in response:
        received += len(chunk)
        assert response.readable_length < 3 * response.readable_high_water_mark
    assert received == size


def test_body_can_be_read_in_every_way(origin: MakeOrigin) -> None:
    server = origin(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello\nworld')
    response = http.get(server.url).get_response()
    assert (response.read(2), response.read1(), response.read()) == (b'he', b'llo\nworld', b'')
    assert list(http.get(server.url).get_response().makefile()) == [b'hello\n', b'world']
    response = http.get(server.url).get_response()
    response.set_encoding('utf-8')
    assert response.read() == 'hello\nworld'


# -- early ends -------------------------------------------------------------------------------------------------------

TRUNCATED = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n',
]


@pytest.mark.parametrize('said', TRUNCATED)
@pytest.mark.parametrize('then', ['close', 'reset'])
def test_incomplete_body_raises(origin: MakeOrigin, said: bytes, then: str) -> None:
    server = origin(once(said, then=then))
    response = http.get(server.url).get_response()
    assert response.read(5) == b'hello'
    with pytest.raises(IncompleteBody) as raised:
        response.read()
    assert (raised.value.code, raised.value.host, raised.value.port, raised.value.phase) == (
        'ECONNRESET',
        '127.0.0.1',
        server.port,
        'body',
    )
    assert response.aborted
    assert not response.complete
    with pytest.raises(IncompleteBody):
        response.read()


@pytest.mark.parametrize('said', TRUNCATED)
def test_incomplete_body_never_emits_end(origin: MakeOrigin, said: bytes) -> None:
    log = Log()

    def on_response(response: http.IncomingMessage) -> None:
        response.on('data', log.append)
        for event in ('end', 'aborted', 'close'):
            response.on(event, log.note(event))
        response.on('error', lambda error: log.append(type(error)))

    request = http.get(origin(once(said)).url, on_response)
    request.on('close', log.note('request close')).on('error', log.note('request error'))
    log.wait_for('close')
    settle()
    assert log[0] == b'hello'
    assert sorted(map(str, log[1:])) == sorted(map(str, ['aborted', 'request close', IncompleteBody, 'close']))


def test_buffered_body_can_be_read_after_the_connection(origin: MakeOrigin) -> None:
    said = b'HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n' + bytes(200000)
    response = http.get(origin(once(said, then='close')).url).get_response()
    for _ in range(3):
        settle()
    assert len(response.read()) == 200000


@pytest.mark.parametrize(
    'said',
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello' + b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx',
        b'HTTP/1.1 204 No Content\r\n\r\nhello',
        b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellox',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx',
    ],
)
def test_bytes_after_a_response_end_the_connection(origin: MakeOrigin, agent: Any, said: bytes) -> None:
    pool = agent(keep_alive=True)
    server = origin(once(said, then='wait'))
    response = http.get(server.url, agent=pool).get_response()
    assert response.read() in (b'hello', b'')
    assert response.complete
    assert not pool.free_sockets
    assert not pool.sockets


def test_bytes_on_an_idle_connection_end_it(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    more = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        more.wait()
        peer.send(HELLO)
        peer.closed()

    http.get(origin(script).url, agent=pool).get_response().read()
    assert pool.free_sockets
    more.set()
    until(lambda: not pool.free_sockets)
    assert pool.total_socket_count == 0


@pytest.mark.parametrize('said', TRUNCATED)
@pytest.mark.parametrize('then', ['close', 'reset'])
def test_late_reader_of_an_incomplete_body_gets_the_error(origin: MakeOrigin, said: bytes, then: str) -> None:
    """There was no reader before, and no listener for errors."""
    server = origin(once(said, then=then))
    response = http.get(server.url).get_response()
    until(lambda: response.aborted)
    settle()
    assert response.read(5) == b'hello'
    for _ in range(2):
        with pytest.raises(IncompleteBody):
            response.read()


@pytest.mark.parametrize('said', TRUNCATED)
@pytest.mark.parametrize('then', ['close', 'reset'])
def test_late_listener_of_an_incomplete_body_gets_the_error(origin: MakeOrigin, said: bytes, then: str) -> None:
    server = origin(once(said, then=then))
    response = http.get(server.url).get_response()
    until(lambda: response.aborted)
    settle()
    log = Log()
    response.on('end', log.note('end')).on('error', lambda error: log.append(type(error)))
    response.on('data', log.append)
    log.wait_for(IncompleteBody)
    settle()
    assert log == [b'hello', IncompleteBody]


# -- pausing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'said', [HELLO, b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n']
)
def test_pause_in_the_last_chunk_does_not_delay_end(origin: MakeOrigin, agent: Any, said: bytes) -> None:
    """No data is left, so 'end' is emitted, as in Node."""
    pool, server = agent(keep_alive=True), origin(said)
    for _ in range(2):
        response, log = http.get(server.url, agent=pool).get_response(), Log()
        response.on('data', lambda chunk, response=response, log=log: log.append((chunk, response.pause())))
        response.on('end', log.note('end'))
        log.wait_for('end')
        assert log == [(b'hello', response), 'end']
        assert (response.complete, response.readable_ended, response.is_paused()) == (True, True, True)
    assert server.accepted == 1


def test_pause_before_the_last_chunk_delays_it(origin: MakeOrigin) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n')
        go_on.wait()
        peer.send(b'0\r\n\r\n')
        peer.closed()

    response, log = http.get(origin(script).url).get_response(), Log()
    response.on('data', lambda chunk: log.append(response.pause() and chunk))
    response.on('end', log.note('end'))
    log.wait_for_length(1)
    go_on.set()
    until(lambda: response.complete)
    settle()
    assert log == [b'hello']
    response.resume()
    log.wait_for('end')


# -- unread bodies ----------------------------------------------------------------------------------------------------


def test_body_that_fits_the_buffer_frees_its_connection(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    request = http.get(origin().url, agent=pool)
    until(lambda: pool.free_sockets)
    assert request.get_response().read() == b'hello'


@pytest.mark.parametrize('framing', ['length', 'chunked'])
@pytest.mark.parametrize('listens', [False, True])
def test_body_read_to_its_last_byte_frees_its_connection(serve: Serve, agent: Any, framing: str, listens: bool) -> None:
    """The reader has not read the end, and still refers to the response."""

    def answer(request: Any, response: Any) -> None:
        body = b'x' * int(request.url[1:])
        if framing == 'chunked':
            response.write(body)
            response.end()
        else:
            response.end(body)

    pool = agent(keep_alive=True, max_sockets=1)
    url = f'http://127.0.0.1:{serve(answer).where[1]}'
    held = []
    for size in (1, 60_000, 65_536, 100_000, 1_000_000):
        request = http.get(f'{url}/{size}', agent=pool)
        if listens:
            request.on('response', held.append)
        response = request.get_response()
        left = size
        while left:
            left -= len(response.read1(min(left, 16_384)))
        held.append(response)
        # the last chunk can arrive after the data
        until(lambda: response.complete)  # noqa: B023 - called at once
        assert not response.readable_ended
    assert [each.read() for each in held] == [b''] * len(held)
    assert pool.statistics()['opened'] == 1


def test_large_forgotten_body_is_discarded(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    server = origin(b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n' + bytes(100000))
    http.get(server.url, agent=pool).get_response()
    until(lambda: gc.collect() is not None and not pool.sockets)
    assert server.accepted == 1


def test_endless_forgotten_body_closes_the_connection(origin: MakeOrigin, agent: Any) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\n\r\n')
        while True:
            peer.send(bytes(65536))

    pool = agent(keep_alive=True)
    http.get(origin(script).url, agent=pool).get_response()
    until(lambda: gc.collect() is not None and not pool.total_socket_count)


def test_with_block_destroys_an_unread_response(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    server = origin(b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n' + bytes(1000000))
    with http.get(server.url, agent=pool) as response:
        assert response.read(10) == bytes(10)
    assert not pool.total_socket_count
    with pytest.raises(SocketHangUp):
        response.read()


def test_with_block_keeps_a_complete_response(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    with http.get(origin().url, agent=pool) as response:
        assert response.read() == b'hello'
    assert len(pool.free_sockets) == 1


def test_interrupted_read_destroys_the_exchange(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    server = origin(once(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello', then='wait'))
    response = http.get(server.url, agent=pool).get_response()
    with gevent.Timeout(0.01, False):
        response.read()
    assert not pool.total_socket_count
    with pytest.raises(IncompleteBody):
        response.read()
