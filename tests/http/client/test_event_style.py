"""Whose a connection is while listeners run, and that an exchange which is over cannot touch the next one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event

from geventnode import http, https
from geventnode.errors import ConnectionClosed
from geventnode.http.client.connection import ConnectionState
from tests.https_sites import MakePool, Secure, url
from tests.https_sites import read as read_secure
from tests.origins import HELLO, MakeOrigin, once, read
from tests.servers import Log
from tests.sockets import settle, until

MakeAgent = Callable[..., http.Agent]

#: A response whose body does not come with its head, and one that ends with the connection.
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'
CLOSING = b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello'


# -- the connection is the listeners' ---------------------------------------------------------------------------------


@pytest.mark.parametrize('said', [HELLO, CHUNKED, b'HTTP/1.1 204 No Content\r\n\r\n'])
def test_a_listener_destroys_its_own_connection(origin: MakeOrigin, agent: MakeAgent, said: bytes) -> None:
    pool, server = agent(max_sockets=1, keep_alive=True), origin(said)

    def destroy(response: http.IncomingMessage) -> None:
        response.socket.destroy()

    for _ in range(2):
        # the second time, the head is known, and taken with the body in one step
        http.get(server.url, destroy, agent=pool)
        second = http.get(server.url, agent=pool)
        assert pool.statistics()['queued'] == 1
        assert second.get_response().read() in (b'hello', b'')
    assert pool.statistics()['retried'] == 0
    assert server.accepted == 3


@pytest.mark.parametrize('said', [HELLO, CHUNKED])
def test_the_connection_at_end(origin: MakeOrigin, agent: MakeAgent, said: bytes) -> None:
    """``request.socket`` is that of the exchange until ``'end'`` was emitted, even if a request waits."""
    pool, server = agent(max_sockets=1, keep_alive=True), origin(said)
    found = Log()

    def on_response(response: http.IncomingMessage) -> None:
        response.resume().on('end', lambda: found.append((request.socket, response.socket)))

    for _ in range(2):
        request = http.get(server.url, on_response, agent=pool)
        request.on('socket', found.append)
        second = http.get(server.url, agent=pool)
        assert second.get_response().read() == b'hello'
        socket, (of_request, of_response) = found
        assert of_request is of_response is socket
        found.clear()
    assert server.accepted == 1


def test_the_close_of_a_socket(origin: MakeOrigin, agent: MakeAgent) -> None:
    """A listener that is added when the response comes is in time, even if the connection is closed after it."""
    server, closed = origin(CLOSING), Log()

    def on_response(response: http.IncomingMessage) -> None:
        response.resume()
        response.socket.on('close', closed.append)

    for number in range(1, 3):
        http.get(server.url, on_response, agent=agent())
        closed.wait_for_length(number)
    assert closed == [False, False]


def test_an_end_of_the_server_is_no_end_for_listeners(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, seen = agent(keep_alive=True), Log()

    def on_response(response: http.IncomingMessage) -> None:
        settle()
        seen.append(response.socket.destroyed)
        response.resume()

    http.get(origin(once(HELLO)).url, on_response, agent=pool)
    until(lambda: not pool.total_socket_count)
    assert seen == [False]


def test_bytes_that_nobody_asked_for_end_it(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, bodies, more = agent(keep_alive=True), Log(), Event()

    def script(peer: Any) -> None:
        peer.request()
        peer.send(HELLO)
        more.wait()
        peer.send(HELLO)
        peer.closed()

    def on_response(response: http.IncomingMessage) -> None:
        more.set()
        until(lambda: not pool.total_socket_count)
        bodies.append(response.read())

    http.get(origin(script).url, on_response, agent=pool)
    bodies.wait_for_length(1)
    assert bodies == [b'hello']


# -- it becomes free --------------------------------------------------------------------------------------------------


def ignore(response: http.IncomingMessage) -> None:
    """Read nothing."""


@pytest.mark.parametrize(
    'listener',
    [
        ignore,
        lambda response: response.read(),
        lambda response: response.read(2),
        lambda response: response.resume(),
        lambda response: response.destroy(),
    ],
)
def test_the_connection_is_free_afterwards(
    origin: MakeOrigin, agent: MakeAgent, listener: Callable[[http.IncomingMessage], object]
) -> None:
    pool, server = agent(max_sockets=1, keep_alive=True), origin()
    kept = []
    for _ in range(3):
        request = http.get(server.url, listener, agent=pool)
        kept.append(request)
        until(lambda: not pool.sockets)
        assert request.response is not None


def test_a_read_in_a_listener_frees_it_at_once(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, seen = agent(keep_alive=True), Log()

    def on_response(response: http.IncomingMessage) -> None:
        response.read()
        seen.append(len(pool.free_sockets))

    server = origin()
    for _ in range(2):
        http.get(server.url, on_response, agent=pool)
        seen.wait_for_length(1)
        assert seen == [1]
        seen.clear()


def test_a_paused_response_that_is_forgotten(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool = agent(keep_alive=True)
    http.get(origin().url, lambda response: response.pause(), agent=pool)
    until(lambda: gc.collect() is not None and pool.free_sockets)


def test_a_response_that_is_forgotten_too_late(origin: MakeOrigin, agent: MakeAgent) -> None:
    """The collector runs at any time, and in any thread: when the loop hears of it, the next exchange has begun."""

    def script(peer: Any) -> None:
        peer.request()
        peer.send(HELLO)
        peer.request()
        peer.send(HELLO[-3:])

    pool, server = agent(max_sockets=1, keep_alive=True), origin(script)
    first = http.get(server.url, lambda response: response.pause(), agent=pool)
    until(lambda: first.response is not None)
    (connection,) = pool._connections()
    assert connection.state is ConnectionState.DELIVERING
    connection._on_forgotten(connection._kept_response)
    second = http.get(server.url, agent=pool)
    connection._release()
    # the first part of the response comes before the loop hears of the first exchange
    connection.data_received(HELLO[:-3])
    assert second.get_response().read() == b'hello'


def test_a_request_that_is_aborted_by_its_listener(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool = agent(keep_alive=True)
    request = http.get(origin().url, lambda response: request.abort(), agent=pool)
    until(lambda: not pool.total_socket_count)
    assert request.response is not None


@pytest.mark.parametrize('event', ['data', 'end'])
def test_a_listener_of_the_response_that_raises(
    origin: MakeOrigin, agent: MakeAgent, event: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    pool = agent(keep_alive=True)
    request = http.get(origin().url, lambda response: response.resume().on(event, fail), agent=pool)
    until(lambda: request.response is not None and not pool.sockets)
    settle()
    assert 'ZeroDivisionError' in capsys.readouterr().err


@pytest.mark.parametrize('way', ['response', 'data', 'end', 'another greenlet', 'paused'])
@pytest.mark.parametrize('limit', ['max_sockets', 'max_total_sockets'])
def test_a_listener_that_waits_for_another_request(origin: MakeOrigin, agent: MakeAgent, way: str, limit: str) -> None:
    """It blocks until there is a connection, and there is only its own."""
    pool, server, other = agent(keep_alive=True, **{limit: 1}), origin(), origin()
    where = server if limit == 'max_sockets' else other
    done: AsyncResult[bytes] = AsyncResult()

    def ask(*args: object) -> None:
        done.set(read(where.url, agent=pool))

    def on_response(response: http.IncomingMessage) -> None:
        if way == 'response':
            ask()
        elif way == 'another greenlet':
            gevent.spawn(ask).join()
        elif way == 'paused':
            response.pause()
            gevent.spawn(ask)
        else:
            response.resume().on(way, ask)

    request = http.get(server.url, on_response, agent=pool)
    assert done.get() == b'hello'
    assert request.response is not None


def test_an_agent_that_is_destroyed(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, destroyed = agent(), Log()

    def on_response(response: http.IncomingMessage) -> None:
        pool.destroy()
        destroyed.append(response.socket.destroyed)

    request = http.get(origin().url, on_response, agent=pool)
    destroyed.wait_for_length(1)
    assert destroyed == [True]
    assert request.response is not None
    assert request.response.read() == b'hello'


# -- an exchange that is over -----------------------------------------------------------------------------------------


def test_the_socket_of_an_exchange_that_is_over(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, server = agent(max_sockets=1, keep_alive=True), origin()
    first = http.get(server.url, agent=pool)
    response = first.get_response()
    assert response.read() == b'hello'
    second = http.get(server.url, agent=pool)
    closed = Log()
    for socket in (first.socket, response.socket, response.connection):
        assert (socket.remote_address, socket.remote_port) == ('127.0.0.1', server.port)
        assert (socket.address(), socket.destroyed) == (second.socket.address(), True)
        with pytest.raises(ConnectionClosed):
            socket.write(b'x')
        socket.set_timeout(0.001, closed.append)
        socket.set_no_delay(False).set_keep_alive(True)
        socket.on('close', closed.append)
        socket.destroy()
        with pytest.raises(ConnectionClosed, match='the exchange of this socket is over'):
            socket.read()
    assert second.get_response().read() == b'hello'
    settle()
    assert closed == []
    assert (server.accepted, len(pool.free_sockets)) == (1, 1)


def test_one_that_nobody_has_had_since(origin: MakeOrigin, agent: MakeAgent) -> None:
    """Who destroys it does not want it to be used again."""
    pool, server = agent(keep_alive=True), origin()
    response = http.get(server.url, agent=pool).get_response()
    response.read()
    response.socket.destroy()
    assert not pool.total_socket_count
    response.socket.destroy()


def test_tls_is_known_afterwards(secure: Secure, pool: MakePool) -> None:
    site, agent = secure(), pool()
    response = https.get(url(site), agent=agent).get_response()
    response.read()
    assert read_secure(url(site), agent=agent) == b'GET /'
    socket: Any = response.socket
    assert socket is response.socket
    assert (socket.encrypted, socket.authorized, socket.session_reused) == (True, True, False)
    assert socket.get_peer_certificate()['fingerprint256']
    assert socket.get_protocol().startswith('TLSv1.')


def test_a_plain_one_knows_nothing_of_tls(origin: MakeOrigin, agent: MakeAgent) -> None:
    response = http.get(origin().url, agent=agent(keep_alive=True)).get_response()
    response.read()
    with pytest.raises(AttributeError):
        response.socket.get_cipher()
