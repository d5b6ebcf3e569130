"""The time limits of requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import RequestTimeout, SocketHangUp
from geventnode.net import Socket
from tests.origins import HELLO, MakeOrigin, Peer, read, silent
from tests.servers import Log
from tests.sockets import until

# -- times ------------------------------------------------------------------------------------------------------------


def test_timeout_without_a_listener(origin: MakeOrigin) -> None:
    server = origin(silent)
    with pytest.raises(RequestTimeout, match=r'timeout \(0\.02 seconds\)') as raised:
        http.get(server.url, timeout=0.02).get_response()
    assert (raised.value.code, raised.value.port, raised.value.phase) == ('ETIMEDOUT', server.port, 'response')


def test_timeout_with_a_listener_only_tells(origin: MakeOrigin) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        go_on.wait()
        peer.send(HELLO)

    request = http.request(origin(script).url)
    request.set_timeout(0.02, go_on.set)
    request.end()
    assert request.get_response().read() == b'hello'


def test_timeout_in_the_body(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
        peer.closed()

    response = http.get(origin(script).url).get_response()
    response.set_timeout(0.02)
    with pytest.raises(RequestTimeout) as raised:
        response.read()
    assert raised.value.phase == 'body'
    assert response.aborted


def test_timeout_of_a_response(origin: MakeOrigin, must_call: Any) -> None:
    done = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
        done.wait()
        peer.send(b'world')

    response = http.get(origin(script).url).get_response()
    response.set_timeout(0.02, lambda socket: done.set())
    assert response.read() == b'helloworld'


def test_the_timeout_of_a_response_that_is_over(origin: MakeOrigin, agent: Any) -> None:
    """Is nothing to the next exchange on its connection."""
    pool, site = agent(keep_alive=True), origin(HELLO)
    over = http.get(site.url, agent=pool).get_response()
    assert over.read() == b'hello'
    (connection,) = pool._connections()
    over.set_timeout(0.02)
    assert connection.timeout != 0.02
    assert read(site.url, agent=pool) == b'hello'


def test_a_slow_reader_is_not_timed_out(origin: MakeOrigin) -> None:
    size = 1_000_000
    site = origin(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % size + bytes(size))
    response = http.get(site.url).get_response()
    assert response.read(10000) == bytes(10000)
    # not before: up to here the server is waited for, and this machine may be slow
    response.set_timeout(0.02)
    for _ in range(4):
        assert response.read(10000) == bytes(10000)
        # longer than the timeout, which must not count meanwhile
        gevent.sleep(0.03)
        assert not response.aborted
    # from here on the server is waited for again
    response.set_timeout(None)
    assert len(response.read()) == size - 50000


def slow(*pieces: bytes, before: float = 0.0, behind: float = 0.0) -> Iterator[bytes]:
    """Yield ``pieces``; pause the given seconds before each of them, and before the end."""
    for piece in pieces:
        gevent.sleep(before)
        yield piece
    gevent.sleep(behind)


def bodies() -> list[Callable[[], Iterator[bytes]]]:
    """Return sources that take longer than a timeout of 0.05 seconds: at first, in between, at their end."""
    return [
        lambda: slow(b'x', before=0.1),
        lambda: slow(b'x', b'y', before=0.1),
        lambda: slow(b'x', behind=0.1),
        lambda: slow(behind=0.1),
    ]


@pytest.mark.parametrize('source', bodies())
@pytest.mark.parametrize('with_length', [False, True])
def test_a_slow_source_is_not_timed_out(origin: MakeOrigin, source: Any, with_length: bool) -> None:
    """The server waits for us meanwhile."""
    fields = {'Content-Length': str(len(b''.join(source())))} if with_length else {}
    request = http.request(origin().url, method='POST', headers=fields, body=source(), timeout=0.05)
    assert request.get_response().read() == b'hello'
    until(lambda: request.writable_finished)


def test_a_slow_source_during_the_response(origin: MakeOrigin) -> None:
    """The server echoes what it gets: neither the rest of the request nor of the response is late."""

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n')
        for _ in range(2):
            peer.send(peer.exactly(1))

    request = http.request(
        origin(script).url,
        method='POST',
        headers={'Content-Length': '2'},
        body=slow(b'x', b'y', before=0.1),
        timeout=0.05,
    )
    assert request.get_response().read() == b'xy'


def test_the_server_after_a_slow_source(origin: MakeOrigin) -> None:
    """As soon as the request is sent, the server is waited for."""
    request = http.request(origin(silent).url, method='POST', body=slow(b'x', behind=0.1), timeout=0.05)
    with pytest.raises(RequestTimeout, match='no traffic within timeout'):
        request.get_response()
    assert request.finished


def test_a_server_that_does_not_take_a_body(origin: MakeOrigin) -> None:
    """It is the server that is slow, and not the source: what has come of that is queued."""
    over = Event()

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        over.wait()

    request = http.request(origin(script).url, method='POST', body=(bytes(65536) for _ in range(1000)), timeout=0.05)
    with pytest.raises(RequestTimeout, match='no traffic within timeout'):
        request.get_response()
    over.set()


def test_a_server_that_does_not_say_continue(origin: MakeOrigin) -> None:
    """The body is held back, and the source not asked for it, until the server answers."""
    request = http.request(
        origin(silent).url, method='POST', headers={'Expect': '100-continue'}, timeout=0.05, body=slow(b'x', before=60)
    )
    with pytest.raises(RequestTimeout, match='no traffic within timeout'):
        request.get_response()


def test_a_timeout_is_told_once(origin: MakeOrigin) -> None:
    """Until there is activity, as in Node."""
    log, go_on = Log(), Event()

    def script(peer: Peer) -> None:
        peer.request()
        go_on.wait()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
        peer.closed()

    request = http.request(origin(script).url, timeout=0.02).on('timeout', log.note('timeout'))
    request.end()
    log.wait_for_length(1)
    # long enough for several more
    gevent.sleep(0.6)
    assert log == ['timeout']
    go_on.set()
    response = request.get_response()
    assert response.read(5) == b'hello'
    reading = gevent.spawn(response.read)
    log.wait_for_length(2)
    gevent.sleep(0.6)
    assert log == ['timeout', 'timeout']
    request.set_timeout(0.01)
    log.wait_for_length(3)
    request.destroy()
    with pytest.raises(SocketHangUp):
        reading.get()


def test_deadline(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n')
        while True:
            peer.send(b'x')
            gevent.idle()

    with pytest.raises(RequestTimeout, match='deadline'):
        http.get(origin(script).url, deadline=0.05).get_response().read()


def test_deadline_begins_in_the_queue(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(max_sockets=1)
    first = http.get(origin(silent).url, agent=pool)
    request = http.get(f'http://127.0.0.1:{first._origin.port}/', agent=pool, deadline=60)
    first.abort()
    connection = next(iter(pool._connections()))
    assert connection.serves(request)
    assert connection._expires == connection.deadline == request._deadline


def test_deadline_before_a_response(origin: MakeOrigin) -> None:
    with pytest.raises(RequestTimeout, match='deadline'):
        http.get(origin(silent).url, deadline=0.02).get_response()


@pytest.mark.parametrize('limit', ['connect_timeout', 'timeout', 'deadline'])
def test_connecting_for_too_long(limit: str) -> None:
    def create(options: Any) -> Socket:
        socket = Socket()
        socket.connecting = True
        return socket

    # a real attempt would keep the loop alive
    alive = gevent.spawn_later(60, int)
    with pytest.raises(RequestTimeout, match=limit) as raised:
        http.get('http://127.0.0.1/', create_connection=create, **{limit: 0.02}).get_response()
    alive.kill()
    assert raised.value.phase == 'connect'


@pytest.mark.parametrize('limit', ['connect_timeout', 'deadline'])
def test_creating_a_connection_for_too_long(agent: Any, limit: str) -> None:
    left = Event()

    def create(options: Any) -> Any:
        try:
            Event().wait()
        finally:
            left.set()

    pool = agent(max_sockets=1)
    # what would be waited for would keep the loop alive
    alive = gevent.spawn_later(60, int)
    for _ in range(2):
        left.clear()
        with pytest.raises(RequestTimeout, match=limit) as raised:
            http.get('http://127.0.0.1/', agent=pool, create_connection=create, **{limit: 0.02}).get_response()
        assert (raised.value.host, raised.value.port, raised.value.phase) == ('127.0.0.1', 80, 'connect')
        assert not pool.total_socket_count
        left.wait()
    alive.kill()


def test_a_queue_timeout_ends_where_a_connection_is_created(origin: MakeOrigin, agent: Any) -> None:
    server = origin()
    go_on = Event()

    def create(options: Any) -> Socket:
        go_on.wait()
        return Socket().connect(server.port, '127.0.0.1')

    pool = agent(max_sockets=1)
    options = {'agent': pool, 'create_connection': create}
    before = http.get('http://127.0.0.1/', **options)
    request = http.get('http://127.0.0.1/', queue_timeout=0.3, **options)
    before.abort()
    assert request._dial
    # longer than the limit, which must not count any more
    gevent.sleep(0.35)
    go_on.set()
    assert request.get_response().read() == b'hello'


def test_timeout_of_get_response(origin: MakeOrigin, agent: Any) -> None:
    pool = agent()
    request = http.get(origin(silent).url, agent=pool)
    with pytest.raises(RequestTimeout, match=r'get_response\(\) \(0\.01 seconds\)'):
        request.get_response(0.01)
    assert not pool.total_socket_count
    with pytest.raises(RequestTimeout):
        request.get_response()


@pytest.mark.parametrize('limit', ['queue_timeout', 'deadline'])
def test_waiting_in_the_queue_for_too_long(origin: MakeOrigin, agent: Any, limit: str) -> None:
    pool = agent(max_sockets=1)
    server = origin(silent)
    http.get(server.url, agent=pool)
    request = http.get(server.url, agent=pool, **{limit: 0.02})
    with pytest.raises(RequestTimeout, match=limit) as raised:
        request.get_response()
    assert raised.value.phase == 'queue'
    assert not pool.requests


@pytest.mark.parametrize('limit', ['queue_timeout', 'deadline'])
def test_waiting_to_be_sent_again_for_too_long(origin: MakeOrigin, agent: Any, limit: str) -> None:
    """The connection was dead, and its place is given to another destination."""
    taken = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        peer.request()
        taken.wait()

    pool = agent(keep_alive=True, max_total_sockets=1)
    server = origin(script)
    assert read(server.url, agent=pool) == b'hello'
    request = http.get(server.url, agent=pool, **{limit: 0.5})
    http.get(origin(silent).url, agent=pool)
    taken.set()
    until(lambda: pool.statistics()['retried'])
    with pytest.raises(RequestTimeout, match=limit) as raised:
        request.get_response()
    assert raised.value.phase == 'queue'


def test_a_queue_timeout_ends_with_the_queue(origin: MakeOrigin, agent: Any) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        peer.request()
        go_on.wait()
        peer.send(HELLO)

    pool = agent(max_sockets=1)
    server = origin(script)
    first = http.get(server.url, agent=pool)
    request = http.get(server.url, agent=pool, queue_timeout=0.3)
    first.get_response().read()
    until(lambda: request.socket)
    # longer than the limit, which must not count any more
    gevent.sleep(0.35)
    go_on.set()
    assert request.get_response().read() == b'hello'
