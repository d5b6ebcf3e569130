"""Listeners keep their connection, and a past exchange cannot touch the next one."""

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

#: A response with a separate body, and one that ends with the connection.
CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'
CLOSING = b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello'


# -- listeners keep the connection ------------------------------------------------------------------------------------


@pytest.mark.parametrize('said', [HELLO, CHUNKED, b'HTTP/1.1 204 No Content\r\n\r\n'])
def test_listener_can_destroy_its_own_connection(origin: MakeOrigin, agent: MakeAgent, said: bytes) -> None:
    pool, server = agent(max_sockets=1, keep_alive=True), origin(said)

    def destroy(response: http.IncomingMessage) -> None:
        response.socket.destroy()

    for _ in range(2):
        # the second time, the head is cached, and is taken with the body in one step
        http.get(server.url, destroy, agent=pool)
        second = http.get(server.url, agent=pool)
        assert pool.statistics()['queued'] == 1
        assert second.get_response().read() in (b'hello', b'')
    assert pool.statistics()['retried'] == 0
    assert server.accepted == 3


@pytest.mark.parametrize('said', [HELLO, CHUNKED])
def test_connection_is_kept_until_end(origin: MakeOrigin, agent: MakeAgent, said: bytes) -> None:
    """``request.socket`` is the connection until ``'end'`` was emitted, even if a request waits."""
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


def test_close_of_the_socket_reaches_a_late_listener(origin: MakeOrigin, agent: MakeAgent) -> None:
    """It is added at the response, and the connection is closed after that."""
    server, closed = origin(CLOSING), Log()

    def on_response(response: http.IncomingMessage) -> None:
        response.resume()
        response.socket.on('close', closed.append)

    for number in range(1, 3):
        http.get(server.url, on_response, agent=agent())
        closed.wait_for_length(number)
    assert closed == [False, False]


def test_end_of_the_server_does_not_end_the_listeners(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool, seen = agent(keep_alive=True), Log()

    def on_response(response: http.IncomingMessage) -> None:
        settle()
        seen.append(response.socket.destroyed)
        response.resume()

    http.get(origin(once(HELLO)).url, on_response, agent=pool)
    until(lambda: not pool.total_socket_count)
    assert seen == [False]


def test_unsolicited_bytes_close_the_kept_connection(origin: MakeOrigin, agent: MakeAgent) -> None:
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


# -- the connection becomes free --------------------------------------------------------------------------------------


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
def test_connection_is_free_after_the_listeners(
    origin: MakeOrigin, agent: MakeAgent, listener: Callable[[http.IncomingMessage], object]
) -> None:
    pool, server = agent(max_sockets=1, keep_alive=True), origin()
    kept = []
    for _ in range(3):
        request = http.get(server.url, listener, agent=pool)
        kept.append(request)
        until(lambda: not pool.sockets)
        assert request.response is not None


def test_read_in_a_listener_frees_the_connection(origin: MakeOrigin, agent: MakeAgent) -> None:
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


def test_forgotten_paused_response_frees_the_connection(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool = agent(keep_alive=True)
    http.get(origin().url, lambda response: response.pause(), agent=pool)
    until(lambda: gc.collect() is not None and pool.free_sockets)


def test_late_notice_of_a_forgotten_response_has_no_effect(origin: MakeOrigin, agent: MakeAgent) -> None:
    """The garbage collector runs at any time, in any thread: the next exchange can have begun."""

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
    # the first part of the response arrives before the loop is notified of the first exchange
    connection.data_received(HELLO[:-3])
    assert second.get_response().read() == b'hello'


def test_listener_can_abort_its_request(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool = agent(keep_alive=True)
    request = http.get(origin().url, lambda response: request.abort(), agent=pool)
    until(lambda: not pool.total_socket_count)
    assert request.response is not None


@pytest.mark.parametrize('event', ['data', 'end'])
def test_raising_response_listener_frees_the_connection(
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
def test_listener_that_waits_for_another_request_loses_its_connection(
    origin: MakeOrigin, agent: MakeAgent, way: str, limit: str
) -> None:
    """It blocks until there is a connection, and its own is the only one."""
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


def test_destroyed_agent_closes_kept_connections(origin: MakeOrigin, agent: MakeAgent) -> None:
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


def test_socket_of_a_past_exchange_cannot_touch_the_next(origin: MakeOrigin, agent: MakeAgent) -> None:
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


def test_destroy_closes_a_connection_that_is_unused_since(origin: MakeOrigin, agent: MakeAgent) -> None:
    """The caller does not want it to be used again."""
    pool, server = agent(keep_alive=True), origin()
    response = http.get(server.url, agent=pool).get_response()
    response.read()
    response.socket.destroy()
    assert not pool.total_socket_count
    response.socket.destroy()


def test_released_socket_reports_tls(secure: Secure, pool: MakePool) -> None:
    site, agent = secure(), pool()
    response = https.get(url(site), agent=agent).get_response()
    response.read()
    assert read_secure(url(site), agent=agent) == b'GET /'
    socket: Any = response.socket
    assert socket is response.socket
    assert (socket.encrypted, socket.authorized, socket.session_reused) == (True, True, False)
    assert socket.get_peer_certificate()['fingerprint256']
    assert socket.get_protocol().startswith('TLSv1.')


def test_released_plain_socket_has_no_tls_attributes(origin: MakeOrigin, agent: MakeAgent) -> None:
    response = http.get(origin().url, agent=agent(keep_alive=True)).get_response()
    response.read()
    with pytest.raises(AttributeError):
        response.socket.get_cipher()
