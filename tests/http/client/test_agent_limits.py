"""The limits of an agent, and its queues."""

from __future__ import annotations

import logging
import socket as stdlib
from math import inf
from typing import Any

import gevent
import gevent.threadpool
import pytest
from gevent.event import Event

from geventnode import http, net
from geventnode.errors import (
    ConnectionClosed,
    ConnectionRefused,
    InvalidInput,
    QueueFull,
    RequestTimeout,
    SocketHangUp,
    UnknownOption,
    WriteAfterEnd,
)
from geventnode.http.client import agent as agent_module
from geventnode.stream import Readable
from tests.origins import HELLO, MakeOrigin, Peer, read, silent
from tests.servers import GUARD
from tests.sockets import settle, until

# -- limits -----------------------------------------------------------------------------------------------------------


def test_max_sockets_can_be_changed_at_any_time(origin: MakeOrigin, agent: Any) -> None:
    pool, server = agent(max_sockets=1), origin(silent)
    for _ in range(5):
        http.get(server.url, agent=pool)
    assert pool.statistics()['active'] == 1
    pool.max_sockets = 3
    assert pool.statistics()['active'] == 3
    pool.max_sockets = inf
    found = pool.statistics()
    assert found.pop('wait_time') > 0
    assert found == {
        'requests': 5,
        'opened': 5,
        'closed': 0,
        'reused': 0,
        'retried': 0,
        'failed': 0,
        'waited': 4,
        'active': 5,
        'idle': 0,
        'queued': 0,
        'longest_wait': 0,
    }


@pytest.mark.parametrize('limit', ['max_sockets', 'max_total_sockets'])
def test_lowered_limit_applies_to_connections_that_exist(origin: MakeOrigin, agent: Any, limit: str) -> None:
    """Idle ones are closed at once, active ones when they are no longer needed."""
    go_on = Event()

    def script(peer: Peer) -> None:
        for _ in range(6):
            peer.request()
            go_on.wait()
            peer.send(HELLO)

    pool, server = agent(max_sockets=4, keep_alive=True), origin(script)
    requests = [http.get(server.url, agent=pool) for _ in range(4)]
    setattr(pool, limit, 2)
    requests += [http.get(server.url, agent=pool) for _ in range(2)]
    assert (pool.statistics()['active'], pool.statistics()['queued']) == (4, 2)
    go_on.set()
    assert [request.get_response().read() for request in requests] == [b'hello'] * 6
    assert (pool.statistics()['active'], pool.statistics()['idle']) == (0, 2)
    setattr(pool, limit, 1)
    assert pool.statistics()['idle'] == 1


def test_waits_are_counted(origin: MakeOrigin, agent: Any) -> None:
    """During the wait and after it; a request that does not wait is not counted."""
    go_on = Event()

    def script(peer: Peer) -> None:
        for _ in range(3):
            peer.request()
            go_on.wait()
            peer.send(HELLO)

    pool, server = agent(max_sockets=1, keep_alive=True), origin(script)
    requests = [http.get(server.url, agent=pool) for _ in range(3)]
    found = pool.statistics()
    assert (found['waited'], found['wait_time'], found['queued']) == (0, 0, 2)
    gevent.idle()
    assert pool.statistics()['longest_wait'] > found['longest_wait'] > 0
    go_on.set()
    for request in requests:
        request.get_response().read()
    found = pool.statistics()
    assert (found['waited'], found['queued'], found['longest_wait']) == (2, 0, 0)
    assert found['wait_time'] > 0


@pytest.mark.parametrize('nothing', [0, None])
def test_max_sockets_of_none_is_the_default(nothing: Any) -> None:
    assert http.Agent(max_sockets=nothing).max_sockets == 5


def test_max_total_sockets_limits_all_origins(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(max_total_sockets=2)
    servers = [origin() for _ in range(4)]
    requests = [http.get(server.url, agent=pool) for server in servers for _ in range(3)]
    assert pool.total_socket_count == 2
    assert [request.get_response().read() for request in requests] == [b'hello'] * 12
    assert pool.total_socket_count == 0


@pytest.mark.parametrize('limit', ['max_sockets', 'max_total_sockets'])
def test_full_queue_raises(origin: MakeOrigin, agent: Any, limit: str) -> None:
    pool, server = agent(**{limit: 1}, max_queued=2), origin(silent)
    requests = [http.get(server.url, agent=pool) for _ in range(3)]
    with pytest.raises(QueueFull, match='max_queued') as raised:
        http.get(server.url, agent=pool)
    assert raised.value.code == 'ERR_AGENT_QUEUE_FULL'
    requests[1].abort()
    http.get(server.url, agent=pool)


@pytest.mark.parametrize('begin', ['end', 'write', 'flush_headers', 'with a source'])
def test_refused_request_is_over(origin: MakeOrigin, agent: Any, begin: str) -> None:
    """Data that is written later would be lost without an error, and the response waited for in vain."""
    pool, server = agent(max_sockets=1, max_queued=0), origin(silent)
    http.get(server.url, agent=pool)
    request = http.request(server.url, agent=pool, method='POST')
    calls: dict[str, Any] = {
        'end': request.end,
        'write': lambda: request.write('x'),
        'flush_headers': request.flush_headers,
        'with a source': lambda: request.end(iter('x')),
    }
    with pytest.raises(QueueFull):
        calls[begin]()
    assert (request.destroyed, request.writable) == (True, False)
    with pytest.raises((ConnectionClosed, WriteAfterEnd)):
        request.write('y')
    with pytest.raises(QueueFull) as raised:
        request.get_response(GUARD)
    assert (raised.value.phase, raised.value.port) == ('queue', server.port)
    assert pool.statistics()['failed'] == 1


def test_refused_request_emits_the_error(origin: MakeOrigin, agent: Any, must_call: Any) -> None:
    """For a stream that is piped to it."""
    pool, server = agent(max_sockets=1, max_queued=0), origin(silent)
    http.get(server.url, agent=pool)
    errors: list[Any] = []
    request = http.request(server.url, agent=pool, method='POST')
    request.on('error', errors.append).on('close', must_call())
    Readable.from_iterable('x').pipe(request)
    until(lambda: errors)
    assert [type(error) for error in errors] == [QueueFull]


@pytest.mark.parametrize('limit', ['max_sockets', 'max_total_sockets'])
def test_max_queued_of_zero_allows_requests_without_waiting(origin: MakeOrigin, agent: Any, limit: str) -> None:
    """The limit does not affect a request that gets a connection at once."""
    pool = agent(**{limit: 1}, max_queued=0, keep_alive=True)
    server = origin()
    for url in (server.url, server.url, origin().url):
        assert read(url, agent=pool) == b'hello'
    http.get(server.url, agent=pool)
    with pytest.raises(QueueFull):
        http.get(server.url, agent=pool)


@pytest.mark.parametrize(
    'options',
    [
        {'max_sockets': -1},
        {'max_free_sockets': -1},
        {'max_total_free_sockets': -1},
        {'scheduling': 'random'},
        {'timeout': -1},
        {'max_queued': -1},
    ],
)
def test_invalid_setting_raises(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        http.Agent(**options)


@pytest.mark.parametrize(
    'name', ['max_sockets', 'max_total_sockets', 'max_free_sockets', 'max_total_free_sockets', 'max_queued']
)
@pytest.mark.parametrize('value', ['', False, 0.0, [], b''])
def test_false_value_of_a_wrong_type_raises(name: str, value: Any) -> None:
    """It does not mean the default."""
    with pytest.raises(TypeError, match=name):
        http.Agent(**{name: value})


def test_max_total_sockets_of_none_is_unlimited() -> None:
    with pytest.raises(InvalidInput, match='max_total_sockets must be at least 1, not 0'):
        http.Agent(max_total_sockets=0)


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'max_sockets'"):
        http.Agent(maxsockets=1)


# -- leaving the queue ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('way', ['abort', 'destroy', 'kill', 'timeout'])
def test_leaving_the_queue_frees_the_place_at_once(origin: MakeOrigin, agent: Any, way: str) -> None:
    pool, server = agent(max_sockets=1), origin(silent)
    http.get(server.url, agent=pool)
    request = http.get(server.url, agent=pool)
    waiter = gevent.spawn(request.get_response)
    settle()
    assert pool.statistics()['queued'] == 1
    if way in ('abort', 'destroy'):
        getattr(request, way)()
        assert pool.statistics()['queued'] == 0
    else:
        waiter.kill(gevent.Timeout(1) if way == 'timeout' else gevent.GreenletExit)
    assert (pool.statistics()['queued'], pool.statistics()['active']) == (0, 1)
    waiter.join()


@pytest.mark.parametrize('way', ['abort', 'destroy'])
def test_giving_up_a_request_serves_the_next_one(origin: MakeOrigin, agent: Any, way: str) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if server.accepted > 1:
            peer.send(HELLO)
        peer.closed()

    server = origin(script)
    pool = agent(max_sockets=1)
    first, second = http.get(server.url, agent=pool), http.get(server.url, agent=pool)
    until(lambda: server.accepted)
    getattr(first, way)()
    assert second.get_response().read() == b'hello'


def test_failed_connects_do_not_block_the_queue(agent: Any) -> None:
    pool = agent(max_sockets=1)
    requests = [http.get('http://127.0.0.1:1/', agent=pool) for _ in range(5)]
    for request in requests:
        with pytest.raises(ConnectionRefused):
            request.get_response()
    assert pool.total_socket_count == 0
    assert pool.statistics()['failed'] == 5


def test_requests_behind_unread_responses_cause_a_warning(
    origin: MakeOrigin, agent: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent_module, 'WARNING_INTERVAL', 0.05)
    pool = agent(max_sockets=1)
    server = origin(b'HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n' + bytes(1000000))
    response = http.get(server.url, agent=pool).get_response()
    with caplog.at_level(logging.WARNING):
        waiting = http.get(server.url, agent=pool)
        warning = f'1 requests to 127.0.0.1:{server.port} wait behind 1 unread responses'
        until(lambda: warning in caplog.text)
    assert len(response.read()) == 1000000
    assert len(waiting.get_response().read()) == 1000000
    assert caplog.text.count(warning) == 1


# -- connections of the caller ----------------------------------------------------------------------------------------


def test_agent_remove_takes_the_connection_out_of_the_pool(origin: MakeOrigin, agent: Any) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        # connections can be accepted in another order
        if 'first' in peer.request().line:
            go_on.wait()
        peer.send(HELLO)
        peer.closed()

    server = origin(script)
    pool = agent(max_sockets=1, keep_alive=True)
    first, second = http.get(f'{server.url}/first', agent=pool), http.get(server.url, agent=pool)
    until(lambda: first.socket)
    first.socket.emit('agentRemove')
    assert second.get_response().read() == b'hello'
    go_on.set()
    assert first.get_response().read() == b'hello'
    assert pool.total_socket_count == 1
    until(lambda: first.socket.destroyed)


def test_agent_remove_before_a_retry_opens_a_new_connection(origin: MakeOrigin, agent: Any) -> None:
    """The connection turns out to be dead when the agent has forgotten it and its origin."""
    left = Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        peer.request()
        if server.accepted == 1:
            left.wait()
        else:
            peer.send(HELLO)

    server = origin(script)
    pool = agent(keep_alive=True)
    assert read(server.url, agent=pool) == b'hello'
    request = http.get(server.url, agent=pool)
    assert request.reused_socket
    request.socket.emit('agentRemove')
    left.set()
    assert request.get_response().read() == b'hello'
    assert (pool.statistics()['retried'], server.accepted) == (1, 2)


def test_create_connection_of_a_request_is_used(origin: MakeOrigin) -> None:
    server = origin()
    seen = []

    def create(options: Any) -> net.Socket:
        seen.append(options)
        gevent.idle()
        return net.connect(server.port, '127.0.0.1').wait_connected()

    request = http.get('http://example.invalid/', create_connection=create)
    assert request.get_response().read() == b'hello'
    assert seen == [{'host': 'example.invalid', 'port': 80, 'local_address': None, 'family': 0, 'socket_path': None}]
    assert request.agent is not http.global_agent


def test_create_connection_of_an_agent_is_used(origin: MakeOrigin) -> None:
    server = origin()

    class Redirected(http.Agent):
        def create_connection(self, options: Any) -> net.Socket:
            return net.connect(server.port, '127.0.0.1')

    with Redirected(keep_alive=True) as pool:
        assert read('http://example.invalid/', agent=pool) == b'hello'
        assert list(pool.free_sockets) == ['example.invalid:80']


@pytest.mark.parametrize(
    ('create', 'error'), [(lambda options: 1 / 0, ZeroDivisionError), (lambda options: None, TypeError)]
)
def test_failing_create_connection_fails_the_request(agent: Any, create: Any, error: type[Exception]) -> None:
    pool = agent(max_sockets=1)
    for _ in range(2):
        with pytest.raises(error):
            read('http://example.invalid/', agent=pool, create_connection=create)
    assert pool.total_socket_count == 0


@pytest.mark.parametrize(
    ('thrown', 'error'),
    [(gevent.Timeout(0.2), RequestTimeout), (gevent.GreenletExit(), SocketHangUp), (SystemExit(1), SocketHangUp)],
)
def test_exit_from_create_connection_fails_the_request(
    agent: Any, thrown: BaseException, error: type[Exception]
) -> None:
    """The place is free again, and the waiter gets an error that does not end its greenlet."""

    def create(options: Any) -> Any:
        raise thrown

    pool = agent(max_sockets=1)
    for _ in range(2):
        with pytest.raises(error, match='create_connection') as raised:
            read('http://example.invalid/', agent=pool, create_connection=create)
        assert raised.value.__cause__ is thrown
        assert (raised.value.host, raised.value.phase) == ('example.invalid', 'connect')
    assert pool.total_socket_count == 0


def test_connection_created_after_an_abort_is_destroyed(agent: Any) -> None:
    """The function continues before it can be killed."""
    pool, begun, go_on = agent(max_sockets=1), Event(), Event()
    made = net.Socket()

    def create(options: Any) -> net.Socket:
        begun.set()
        go_on.wait()
        return made

    request = http.get('http://127.0.0.1/', agent=pool, create_connection=create)
    begun.wait()
    go_on.set()
    request.abort()
    settle()
    assert (pool.total_socket_count, pool.statistics()['opened']) == (0, 0)
    assert made.destroyed


def test_abort_kills_create_connection(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(max_sockets=1)
    never = Event()
    begun = Event()

    def create(options: Any) -> Any:
        begun.set()
        never.wait()

    for wait in (True, False):
        request = http.get('http://127.0.0.1/', agent=pool, create_connection=create)
        if wait:
            begun.wait()
        request.abort()
        assert pool.total_socket_count == 0
    assert read(origin().url, agent=pool) == b'hello'


def test_socket_options_of_a_request_are_reset(origin: MakeOrigin, agent: Any) -> None:
    go_on = Event()

    def script(peer: Peer) -> None:
        peer.request()
        go_on.wait()
        peer.send(HELLO)
        peer.request()
        peer.send(HELLO)

    pool = agent(keep_alive=True)
    server = origin(script)
    request = http.request(server.url, agent=pool)
    request.set_no_delay(False)
    request.set_socket_keep_alive(True, 30)
    request.set_timeout(10)
    request.end()
    until(lambda: request.socket is not None and not request.socket.connecting)
    raw = request.socket._raw
    assert not raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY)
    assert raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE)
    go_on.set()
    request.get_response().read()
    assert raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY)
    assert raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE) == 60
    assert read(server.url, agent=pool) == b'hello'


def test_socket_options_are_set_as_soon_as_there_is_a_connection(origin: MakeOrigin, agent: Any) -> None:
    """Also for a request in the queue, and for a connection that is being made."""
    pool, server = agent(max_sockets=1), origin()
    first = http.get(server.url, agent=pool)
    request = http.request(server.url, agent=pool)
    request.end()
    request.set_no_delay(False)
    assert first.get_response().read() == b'hello'
    raw = request.socket._raw
    assert not raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY)
    request.get_response()


def probed(socket: Any) -> int | None:
    """Return the seconds before the first probe, None without probes."""
    raw = socket._raw
    return (
        raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE)
        if raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE)
        else None
    )


@pytest.mark.parametrize(
    ('options', 'seconds'),
    [
        ({}, 60),
        ({'keep_alive_initial_delay': 7}, 7),
        ({'keep_alive_initial_delay': None}, None),
        ({'keep_alive_initial_delay': 0}, None),
    ],
)
@pytest.mark.parametrize('tuned', [False, True])
def test_idle_connections_are_probed(
    origin: MakeOrigin, agent: Any, options: dict[str, Any], seconds: int | None, tuned: bool
) -> None:
    """Also those that a request has changed, as soon as they are idle."""
    pool = agent(keep_alive=True, **options)
    request = http.request(origin().url, agent=pool)
    if tuned:
        request.set_socket_keep_alive(True, 30)
    request.end()
    assert request.get_response().read() == b'hello'
    ((idle,),) = pool.free_sockets.values()
    assert probed(idle) == seconds


def test_connections_that_are_not_kept_are_not_probed(origin: MakeOrigin, agent: Any) -> None:
    pool = agent()
    request = http.get(origin(silent).url, agent=pool)
    until(lambda: not request.socket.connecting)
    assert probed(request.socket) is None
