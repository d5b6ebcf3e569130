"""The time limits of requests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.exceptions import LoopExit

from geventnode import http
from geventnode.errors import RequestTimeout, SocketHangUp
from geventnode.net import Socket
from tests.origins import HELLO, MakeOrigin, Peer, read, silent
from tests.other_threads import in_another_thread
from tests.servers import Log
from tests.sockets import until

# -- times ------------------------------------------------------------------------------------------------------------


def test_timeout_without_a_listener_fails_the_request(origin: MakeOrigin) -> None:
    server = origin(silent)
    with pytest.raises(RequestTimeout, match=r'timeout \(0\.02 seconds\)') as raised:
        http.get(server.url, timeout=0.02).get_response()
    assert (raised.value.code, raised.value.port, raised.value.phase) == ('ETIMEDOUT', server.port, 'response')


def test_timeout_with_a_listener_is_only_emitted(origin: MakeOrigin) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        go_on.wait()
        peer.send(HELLO)

    request = http.request(origin(script).url)
    request.set_timeout(0.02, go_on.set)
    request.end()
    assert request.get_response().read() == b'hello'


def test_timeout_in_the_body_fails_the_read(origin: MakeOrigin) -> None:
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


def test_timeout_of_a_response_is_emitted(origin: MakeOrigin, must_call: Any) -> None:
    done = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
        done.wait()
        peer.send(b'world')

    response = http.get(origin(script).url).get_response()
    response.set_timeout(0.02, lambda socket: done.set())
    assert response.read() == b'helloworld'


def test_timeout_of_a_complete_response_has_no_effect(origin: MakeOrigin, agent: Any) -> None:
    """The next exchange on its connection has its own timeout."""
    pool, site = agent(keep_alive=True), origin(HELLO)
    over = http.get(site.url, agent=pool).get_response()
    assert over.read() == b'hello'
    (connection,) = pool._connections()
    over.set_timeout(0.02)
    assert connection.timeout != 0.02
    assert read(site.url, agent=pool) == b'hello'


def test_slow_reader_does_not_time_out(origin: MakeOrigin) -> None:
    size = 1_000_000
    site = origin(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % size + bytes(size))
    response = http.get(site.url).get_response()
    assert response.read(10000) == bytes(10000)
    # not earlier: until here the request waits for the server, and the machine can be slow
    response.set_timeout(0.02)
    for _ in range(4):
        assert response.read(10000) == bytes(10000)
        # longer than the timeout, which must not count now
        gevent.sleep(0.03)
        assert not response.aborted
    # from here on the request waits for the server again
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
def test_slow_source_does_not_time_out(origin: MakeOrigin, source: Any, with_length: bool) -> None:
    """The server waits for the client."""
    fields = {'Content-Length': str(len(b''.join(source())))} if with_length else {}
    request = http.request(origin().url, method='POST', headers=fields, body=source(), timeout=0.05)
    assert request.get_response().read() == b'hello'
    until(lambda: request.writable_finished)


def test_slow_source_during_the_response_does_not_time_out(origin: MakeOrigin) -> None:
    """The server echoes: neither the rest of the request nor of the response is late."""

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


def test_server_times_out_after_a_slow_source(origin: MakeOrigin) -> None:
    """The wait for the server begins when the request was sent."""
    request = http.request(origin(silent).url, method='POST', body=slow(b'x', behind=0.1), timeout=0.05)
    with pytest.raises(RequestTimeout, match='no traffic within timeout'):
        request.get_response()
    assert request.finished


def test_server_that_does_not_read_the_body_times_out(origin: MakeOrigin) -> None:
    """The server is slow, and not the source, which is queued."""
    over = Event()

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        over.wait()

    request = http.request(origin(script).url, method='POST', body=(bytes(65536) for _ in range(1000)), timeout=0.05)
    with pytest.raises(RequestTimeout, match='no traffic within timeout'):
        request.get_response()
    over.set()


def test_informational_responses_do_not_replace_reading(origin: MakeOrigin) -> None:
    """The server does not take the rest of the request."""

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        with contextlib.suppress(OSError):
            while True:
                peer.send(b'HTTP/1.1 102 Processing\r\n\r\n')
                gevent.sleep(0.05)

    request = http.request(origin(script).url, method='POST', body=(bytes(65536) for _ in range(1000)), timeout=0.3)
    with pytest.raises(RequestTimeout, match='no traffic within timeout'):
        request.get_response()


def test_server_that_works_after_the_request_does_not_time_out(origin: MakeOrigin) -> None:
    """It has taken the request, and its informational responses are a sign of life."""

    def script(peer: Peer) -> None:
        peer.request()
        for _ in range(12):
            peer.send(b'HTTP/1.1 102 Processing\r\n\r\n')
            gevent.sleep(0.05)
        peer.send(HELLO)

    request = http.request(origin(script).url, method='POST', body=bytes(1_000_000), timeout=0.3)
    assert request.get_response().read() == b'hello'


def test_server_without_100_continue_times_out(origin: MakeOrigin) -> None:
    """The source is not read before the server responds."""
    request = http.request(
        origin(silent).url, method='POST', headers={'Expect': '100-continue'}, timeout=0.05, body=slow(b'x', before=60)
    )
    with pytest.raises(RequestTimeout, match='no traffic within timeout'):
        request.get_response()


def test_timeout_is_emitted_once(origin: MakeOrigin) -> None:
    """It is emitted again after more traffic, as in Node."""
    log, go_on = Log(), Event()

    def script(peer: Peer) -> None:
        peer.request()
        go_on.wait()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
        peer.closed()

    request = http.request(origin(script).url, timeout=0.02).on('timeout', log.note('timeout'))
    request.end()
    log.wait_for_length(1)
    # long enough for several of them
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


def test_deadline_fails_the_exchange(origin: MakeOrigin) -> None:
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


def test_deadline_before_a_response_fails_the_request(origin: MakeOrigin) -> None:
    with pytest.raises(RequestTimeout, match='deadline'):
        http.get(origin(silent).url, deadline=0.02).get_response()


@pytest.mark.parametrize('limit', ['connect_timeout', 'timeout', 'deadline'])
def test_slow_connect_fails_the_request(limit: str) -> None:
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
def test_slow_create_connection_fails_the_request(agent: Any, limit: str) -> None:
    left = Event()

    def create(options: Any) -> Any:
        try:
            Event().wait()
        finally:
            left.set()

    pool = agent(max_sockets=1)
    # a pending wait would keep the loop alive
    alive = gevent.spawn_later(60, int)
    for _ in range(2):
        left.clear()
        with pytest.raises(RequestTimeout, match=limit) as raised:
            http.get('http://127.0.0.1/', agent=pool, create_connection=create, **{limit: 0.02}).get_response()
        assert (raised.value.host, raised.value.port, raised.value.phase) == ('127.0.0.1', 80, 'connect')
        assert not pool.total_socket_count
        left.wait()
    alive.kill()


def test_queue_timeout_does_not_apply_to_create_connection(origin: MakeOrigin, agent: Any) -> None:
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
    # longer than the limit, which no longer counts
    gevent.sleep(0.35)
    go_on.set()
    assert request.get_response().read() == b'hello'


def test_get_response_raises_after_its_timeout(origin: MakeOrigin, agent: Any) -> None:
    pool = agent()
    request = http.get(origin(silent).url, agent=pool)
    with pytest.raises(RequestTimeout, match=r'get_response\(\) \(0\.01 seconds\)'):
        request.get_response(0.01)
    assert not pool.total_socket_count
    with pytest.raises(RequestTimeout):
        request.get_response()


@pytest.mark.parametrize('limit', ['queue_timeout', 'deadline'])
def test_long_wait_in_the_queue_fails_the_request(origin: MakeOrigin, agent: Any, limit: str) -> None:
    pool = agent(max_sockets=1)
    server = origin(silent)
    http.get(server.url, agent=pool)
    request = http.get(server.url, agent=pool, **{limit: 0.02})
    with pytest.raises(RequestTimeout, match=limit) as raised:
        request.get_response()
    assert raised.value.phase == 'queue'
    assert not pool.requests


@pytest.mark.parametrize('limit', ['queue_timeout', 'deadline'])
def test_long_wait_behind_an_unread_response_fails_the_request(origin: MakeOrigin, limit: str) -> None:
    """In a program that only waits: the unread response has paused the only connection, and ``LoopExit`` was raised."""
    server = origin(b'HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n' + bytes(200000))

    def fetch() -> bool:
        options: Any = {limit: 0.02}
        with http.Agent(max_sockets=1) as pool:
            unread = http.get(server.url, agent=pool).get_response()
            with pytest.raises(RequestTimeout, match=limit):
                http.get(server.url, agent=pool, **options).get_response()
            return unread.complete

    assert in_another_thread(fetch) is False


def test_create_connection_that_waits_for_nothing_ends_in_time() -> None:
    """In a program that only waits for it."""

    def fetch() -> None:
        with http.Agent() as pool, pytest.raises(RequestTimeout, match='connect_timeout'):
            http.get(
                'http://made.up/', agent=pool, create_connection=lambda options: Event().wait(), connect_timeout=0.02
            ).get_response()
        # the function ends in the next turn of the loop
        gevent.sleep(0)

    in_another_thread(fetch)


def test_create_connection_without_a_limit_does_not_keep_the_loop_running() -> None:
    """It would run for ever, instead of reporting that nothing can happen."""

    def fetch() -> None:
        with http.Agent() as pool:
            request = http.get(
                'http://made.up/', agent=pool, create_connection=lambda options: Event().wait(), connect_timeout=None
            )
            with pytest.raises(LoopExit):
                request.get_response()
        # the function ends in the next turn of the loop
        gevent.sleep(0)

    in_another_thread(fetch)


@pytest.mark.parametrize('limit', ['queue_timeout', 'deadline'])
def test_long_wait_for_a_retry_fails_the_request(origin: MakeOrigin, agent: Any, limit: str) -> None:
    """The connection was dead, and another origin gets its place."""
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


def test_queue_timeout_does_not_apply_after_the_queue(origin: MakeOrigin, agent: Any) -> None:
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
    # longer than the limit, which no longer counts
    gevent.sleep(0.35)
    go_on.set()
    assert request.get_response().read() == b'hello'
