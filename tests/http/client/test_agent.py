"""The agent over real connections: reuse, idle connections, retries and destruction."""

from __future__ import annotations

import os
from typing import Any

import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import IncompleteBody, InvalidInput, SocketHangUp, WrongThread
from tests.children import check_in_child
from tests.origins import HELLO, MakeOrigin, Origin, Peer, read, silent
from tests.other_threads import in_another_thread
from tests.servers import Serve
from tests.sockets import settle, until


def answered(count: int, said: bytes = HELLO) -> Any:
    """Return a script that answers ``count`` requests and closes."""

    def script(peer: Peer) -> None:
        for _ in range(count):
            peer.request()
            peer.send(said)

    return script


# -- reuse ------------------------------------------------------------------------------------------------------------


def test_connection_without_keep_alive_serves_waiting_requests(origin: MakeOrigin, agent: Any) -> None:
    pool, server = agent(max_sockets=2), origin()
    requests = [http.get(server.url, agent=pool) for _ in range(10)]
    assert [len(pool.sockets[f'127.0.0.1:{server.port}']), len(pool.requests[f'127.0.0.1:{server.port}'])] == [2, 8]
    assert [request.get_response().read() for request in requests] == [b'hello'] * 10
    assert server.accepted == 2
    assert (pool.sockets, pool.requests, pool.free_sockets, pool.total_socket_count) == ({}, {}, {}, 0)
    assert [request.reused_socket for request in requests] == [False] * 2 + [True] * 8


def test_connection_with_keep_alive_is_kept(origin: MakeOrigin, agent: Any) -> None:
    pool, server = agent(keep_alive=True), origin()
    for _ in range(3):
        assert read(server.url, agent=pool) == b'hello'
        assert list(pool.free_sockets) == [f'127.0.0.1:{server.port}']
    assert server.accepted == 1
    pool.destroy()
    assert pool.total_socket_count == 0


def test_connection_is_free_before_read_returns(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    response = http.get(origin().url, agent=pool).get_response()
    assert response.read() == b'hello'
    assert not pool.sockets
    assert pool.free_sockets


def test_connection_is_free_after_end_event(origin: MakeOrigin, agent: Any) -> None:
    """With listeners, the exchange has it until then, as in Node."""
    pool = agent(keep_alive=True)
    seen = []

    def on_response(response: http.IncomingMessage) -> None:
        response.resume().on('end', lambda: seen.append(len(pool.free_sockets)))

    http.get(origin().url, on_response, agent=pool)
    until(lambda: pool.free_sockets)
    assert seen == [0]


@pytest.mark.parametrize(
    'said',
    [
        b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello',
        b'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello',
        b'HTTP/1.1 200 OK\r\n\r\nhello',
    ],
)
def test_unusable_connection_is_closed(origin: MakeOrigin, agent: Any, said: bytes) -> None:
    pool, server = agent(keep_alive=True), origin(answered(1, said))
    for _ in range(3):
        assert read(server.url, agent=pool) == b'hello'
        assert pool.total_socket_count == 0
    assert server.accepted == 3


def test_http_1_0_with_keep_alive(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)
    server = origin(b'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello')
    assert read(server.url, agent=pool) + read(server.url, agent=pool) == b'hellohello'
    assert server.accepted == 1


def test_connection_close_of_the_request_closes(origin: MakeOrigin, agent: Any) -> None:
    pool, server = agent(keep_alive=True), origin()
    assert read(server.url, agent=pool, headers={'Connection': 'close'}) == b'hello'
    assert pool.total_socket_count == 0


def test_queued_requests_are_served_after_connection_close(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(max_sockets=1)
    server = origin(answered(1, b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello'))
    requests = [http.get(server.url, agent=pool) for _ in range(3)]
    assert [request.get_response().read() for request in requests] == [b'hello'] * 3
    assert server.accepted == 3


def test_origins_do_not_share_connections(origin: MakeOrigin, agent: Any) -> None:
    pool, server = agent(keep_alive=True), origin()
    for options in ({}, {'local_address': '127.0.0.2'}, {'family': 4}):
        assert read(server.url, agent=pool, **options) == b'hello'
    assert sorted(pool.free_sockets) == sorted(f'127.0.0.1:{server.port}{more}' for more in ('', ':127.0.0.2', ':4'))
    assert server.accepted == 3


def test_agent_false_uses_one_connection(origin: MakeOrigin) -> None:
    server = origin()
    before = http.global_agent.statistics()['requests']
    assert read(server.url, agent=False) + read(server.url, agent=False) == b'hellohello'
    assert server.accepted == 2
    assert http.global_agent.statistics()['requests'] == before


def test_global_agent_is_the_default(origin: MakeOrigin) -> None:
    assert http.global_agent is http.global_agent
    assert (http.global_agent.max_sockets, http.global_agent.keep_alive) == (5, False)
    request = http.get(origin().url)
    assert request.agent is http.global_agent
    request.get_response().read()


# -- idle connections -------------------------------------------------------------------------------------------------


def test_idle_connection_that_the_server_closed_is_not_used(origin: MakeOrigin, agent: Any) -> None:
    pool, server = agent(keep_alive=True), origin(answered(1))
    for number in range(1, 4):
        assert read(server.url, agent=pool) == b'hello'
        until(lambda: not pool.free_sockets)
        assert server.accepted == number
    assert pool.statistics()['retried'] == 0


def test_dead_connection_is_found_before_reuse(origin: MakeOrigin, agent: Any, monkeypatch: Any) -> None:
    """The loop has not run since the server closed it: only the kernel knows."""
    pool, server = agent(keep_alive=True), origin(answered(1))
    assert read(server.url, agent=pool) == b'hello'
    connection = next(iter(pool._pool.buckets.values())).idle[0]
    connection.socket._pause_reading()
    settle()
    assert read(server.url, agent=pool) == b'hello'
    assert (server.accepted, pool.statistics()['retried']) == (2, 0)


@pytest.mark.parametrize('then', ['close', 'reset'])
def test_request_on_a_dead_connection_is_retried_once(origin: MakeOrigin, agent: Any, then: str) -> None:
    served = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        served.append(peer)
        peer.request()
        if len(served) == 1:
            if then == 'reset':
                peer.abort()
            return
        peer.send(HELLO)

    pool, server = agent(keep_alive=True), origin(script)
    assert read(server.url, agent=pool) == b'hello'
    request = http.get(server.url, agent=pool)
    assert request.get_response().read() == b'hello'
    assert (server.accepted, pool.statistics()['retried'], request.reused_socket) == (2, 1, False)


@pytest.mark.parametrize(
    ('options', 'retried'),
    [
        ({'method': 'PUT', 'body': 'x'}, True),
        ({'method': 'DELETE'}, True),
        ({'method': 'POST', 'body': 'x'}, False),
        ({'method': 'QUERY', 'body': 'x'}, True),
        ({'method': 'PROPFIND'}, True),
        ({'method': 'PATCH', 'body': 'x'}, False),
        ({'method': 'PUT', 'body': ['x']}, False),
    ],
)
def test_only_repeatable_requests_are_retried(
    origin: MakeOrigin, agent: Any, options: dict[str, Any], retried: bool
) -> None:
    answers = []

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            answers.append(peer)
            if len(answers) == 2:
                return
            peer.send(HELLO)

    pool, server = agent(keep_alive=True), origin(script)
    assert read(server.url, agent=pool) == b'hello'
    request = http.get(server.url, agent=pool, **options)
    if retried:
        assert request.get_response().read() == b'hello'
    else:
        with pytest.raises(SocketHangUp):
            request.get_response()
    assert pool.statistics()['retried'] == retried


def test_request_on_a_new_connection_is_not_retried(origin: MakeOrigin, agent: Any) -> None:
    server = origin(lambda peer: peer.request())
    with pytest.raises(SocketHangUp):
        read(server.url, agent=agent(keep_alive=True))
    assert server.accepted == 1


def test_request_is_not_retried_twice(origin: MakeOrigin, agent: Any) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if server.accepted == 1:
            peer.send(HELLO)
            peer.request()

    server = origin(script)
    pool = agent(keep_alive=True)
    assert read(server.url, agent=pool) == b'hello'
    with pytest.raises(SocketHangUp):
        read(server.url, agent=pool)
    assert server.accepted == 2


def test_request_is_not_retried_after_a_response_byte(origin: MakeOrigin, agent: Any) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        peer.request()
        peer.send(b'H')

    server = origin(script)
    pool = agent(keep_alive=True)
    assert read(server.url, agent=pool) == b'hello'
    with pytest.raises(SocketHangUp):
        read(server.url, agent=pool)
    assert server.accepted == 1


@pytest.mark.parametrize(
    ('hint', 'kept'),
    [
        ('timeout=1', False),
        ('timeout=0', False),
        ('timeout=5', True),
        ('max=5, timeout=60', True),
        ('x', True),
        ('timeout=x', True),
        ('TIMEOUT="1"', False),
    ],
)
def test_keep_alive_hint_of_the_server_is_respected(origin: MakeOrigin, agent: Any, hint: str, kept: bool) -> None:
    pool = agent(keep_alive=True)
    said = f'HTTP/1.1 200 OK\r\nKeep-Alive: {hint}\r\nContent-Length: 0\r\n\r\n'
    assert read(origin(said.encode()).url, agent=pool) == b''
    assert bool(pool.free_sockets) is kept


@pytest.mark.parametrize(('hint', 'limit'), [(b'Keep-Alive: timeout=9\r\n', 8), (b'', 60)])
def test_keep_alive_hint_of_a_discarded_response_is_respected(
    origin: MakeOrigin, agent: Any, hint: bytes, limit: float
) -> None:
    """Each time, as that of any other response."""
    forgotten = Event()

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n' + hint + b'\r\nhe')
            forgotten.wait()
            peer.send(b'llo')

    pool, server = agent(keep_alive=True, timeout=60), origin(script)
    for _ in range(3):
        forgotten.clear()
        http.get(server.url, agent=pool).get_response()
        forgotten.set()
        until(lambda: pool.free_sockets)
        assert [connection.idle_limit for connection in pool._connections()] == [limit]
    assert server.accepted == 1


def test_buffer_shortens_the_hint(origin: MakeOrigin, agent: Any) -> None:
    said = b'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3\r\nContent-Length: 0\r\n\r\n'
    for seconds, limit in ((0, 3), (0.5, 2.5), (3, None), (5, None)):
        pool = agent(keep_alive=True, agent_keep_alive_timeout_buffer=seconds)
        read(origin(said).url, agent=pool)
        idle = [connection for bucket in pool._buckets() for connection in bucket.idle]
        assert [connection.idle_limit for connection in idle] == ([] if limit is None else [limit])
    with pytest.raises(InvalidInput, match='agent_keep_alive_timeout_buffer'):
        agent(agent_keep_alive_timeout_buffer=-1)


def test_idle_connections_expire(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True, timeout=0.05)
    assert read(origin().url, agent=pool) == b'hello'
    assert pool.free_sockets
    until(lambda: not pool.free_sockets)


def test_shorter_idle_time_wins(origin: MakeOrigin, agent: Any) -> None:
    said = b'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3\r\nContent-Length: 0\r\n\r\n'
    for timeout, limit in ((None, 2), (1, 1), (60, 2)):
        pool = agent(keep_alive=True, timeout=timeout)
        read(origin(said).url, agent=pool)
        assert next(iter(pool._pool.buckets.values())).idle[0].idle_limit == limit


#: A number of idle connections that would exceed the recursion limit if each closed the next.
MANY = 125


def many_idle(origin: MakeOrigin, pool: http.Agent, over: Event) -> Origin:
    """Return a server to which ``pool`` has many idle connections; they end when ``over`` is set, and later ones do not
    wait for it."""
    together = Event()

    def script(peer: Peer) -> None:
        peer.request()
        together.wait()
        peer.send(HELLO)
        over.wait()

    server = origin(script)
    requests = [http.get(server.url, agent=pool) for _ in range(MANY)]
    until(lambda: server.accepted == MANY)
    together.set()
    for request in requests:
        request.get_response().read()
    assert pool.statistics()['idle'] == MANY
    return server


def test_many_idle_connections_are_closed_together(origin: MakeOrigin, agent: Any) -> None:
    pool, over = agent(keep_alive=True, max_sockets=MANY), Event()
    many_idle(origin, pool, over)
    pool.max_free_sockets = 0
    assert (pool.total_socket_count, pool.statistics()['closed']) == (0, MANY)
    over.set()


def test_many_dead_connections_are_found_before_reuse(origin: MakeOrigin, agent: Any) -> None:
    """The loop has not run since the server closed all of them."""
    pool, over = agent(keep_alive=True, max_sockets=MANY), Event()
    server = many_idle(origin, pool, over)
    for connection in pool._connections():
        connection.socket._pause_reading()
        over.set()
    settle()
    assert read(server.url, agent=pool) == b'hello'
    found = pool.statistics()
    assert (found['closed'], found['retried'], found['active']) == (MANY, 0, 0)


# -- the end ----------------------------------------------------------------------------------------------------------


def test_destroy_fails_current_and_queued_requests(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(max_sockets=1, keep_alive=True)
    active, idle = origin(silent), origin()
    read(idle.url, agent=pool)
    requests = [http.get(active.url, agent=pool) for _ in range(2)]
    until(lambda: active.accepted)
    pool.destroy()
    for request in requests:
        with pytest.raises(SocketHangUp, match='agent was destroyed'):
            request.get_response()
    assert (pool.total_socket_count, pool.requests) == (0, {})
    assert read(idle.url, agent=pool) == b'hello'


def test_with_block_destroys_the_agent(origin: MakeOrigin) -> None:
    with http.Agent(keep_alive=True) as pool:
        read(origin().url, agent=pool)
        assert repr(pool) == '<Agent active=0 idle=1 queued=0 max_sockets=5>'
    assert pool.total_socket_count == 0


def test_use_in_another_thread_raises(origin: MakeOrigin, agent: Any) -> None:
    pool = agent()
    url = origin().url

    with pytest.raises(WrongThread) as raised:
        in_another_thread(lambda: http.get(url, agent=pool))
    assert raised.type is WrongThread


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this platform has no fork')
def test_forked_child_has_an_empty_pool(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True, max_sockets=1)
    server = origin()
    read(server.url, agent=pool)
    active = http.get(origin(silent).url, agent=pool)
    queued = http.get(f'http://127.0.0.1:{active._origin.port}/', agent=pool)
    settle()

    def check() -> None:
        assert (pool.total_socket_count, pool.requests, pool.sockets) == (0, {}, {})

    with check_in_child(check):
        pass
    assert pool.statistics()['idle'] == 1
    assert read(server.url, agent=pool) == b'hello', 'the child has closed nothing of the parent'
    assert server.accepted == 1
    queued.abort()


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this platform has no fork')
def test_forked_child_cannot_read_a_response_of_its_parent(serve: Serve, agent: Any) -> None:
    """It does not wait for the rest either, which the parent gets."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'Content-Length': '3'})
        response.write('a')
        go_on.wait()
        response.end('bc')

    go_on = Event()
    with http.get(f'http://127.0.0.1:{serve(listener).where[1]}/', agent=agent()) as response:
        assert response.read(1) == b'a'

        def check() -> None:
            with pytest.raises(IncompleteBody):
                response.read()

        with check_in_child(check):
            pass
        go_on.set()
        assert response.read() == b'bc'
