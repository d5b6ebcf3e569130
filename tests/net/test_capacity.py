"""Test servers at capacity, and servers that listen on several sockets."""

from __future__ import annotations

import contextlib
import socket as stdlib
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http, net
from geventnode.errors import ServerNotRunning
from tests.http2.client import Client as HTTP2Client
from tests.servers import Client, Serve, get, ok
from tests.sockets import answers, dial, settle, until

# -- full -------------------------------------------------------------------------------------------------------------


def held(request: Any, response: Any) -> None:
    """Respond when the server's Event is set."""
    response.server.release.wait()
    response.end('late')


def full(listener: Any, limit: int, **options: Any) -> http.Server:
    server = http.create_server(listener, max_connections=limit, wait_when_full=True, **options)
    server.release = Event()
    return server


def test_a_waiting_client_is_served_when_there_is_room(serve: Serve) -> None:
    site = serve(full(held, 2))
    clients = [site.connect().send(get('/', 'Connection: close')) for _ in range(5)]
    while site.server.get_connections() < 2:
        settle()
    settle()
    assert site.server.get_connections() == 2
    site.server.release.set()
    assert [client.response().body for client in clients] == 5 * [b'late']


def test_idle_connections_make_room(serve: Serve) -> None:
    """The one that is idle for longest is closed first, and only if a client waits."""
    site = serve(full(ok, 2, keep_alive_timeout_buffer=0))
    first, second = site.connect(), site.connect()
    assert first.get('/1').status == second.get('/2').status == 200
    settle()
    assert site.server.get_connections() == 2
    assert site.connect().get('/3').status == 200
    assert first.rest() == b''
    assert second.get('/4').status == 200


def test_a_recently_used_connection_is_kept(serve: Serve) -> None:
    """Its client can have sent another request already: the next response announces the close."""
    site = serve(full(ok, 1, keep_alive_timeout_buffer=1000))
    busy = site.connect()
    assert not busy.get('/1').closes
    waiting = site.connect().send(get('/waiting'))
    while not site.server._at_capacity:
        settle()
    assert busy.get('/2').closes
    assert busy.rest() == b''
    assert waiting.response().body == b'GET /waiting'


def test_a_connection_that_was_idle_for_a_while_makes_room(serve: Serve) -> None:
    """Its client sends no further request."""
    site = serve(full(ok, 1, keep_alive_timeout_buffer=0.1))
    idle = site.connect()
    assert not idle.get('/1').closes
    assert site.connect().get('/waiting').body == b'GET /waiting'
    assert idle.rest() == b''


def test_a_connection_without_a_request_is_kept(serve: Serve) -> None:
    site = serve(full(ok, 1))
    silent = site.connect()
    while not site.server.get_connections():
        settle()
    waiting = site.connect().send(get('/waiting'))
    settle()
    response = silent.get('/silent')
    assert (response.body, response.closes) == (b'GET /silent', True)
    silent.close()
    assert waiting.response().body == b'GET /waiting'
    # no client waits any more
    assert not waiting.get('/again').closes


def test_a_response_that_began_before_a_client_waited_closes_too(serve: Serve) -> None:
    """It has not announced the close."""

    def listener(request: Any, response: Any) -> None:
        response.write('begun')
        response.server.release.wait()
        response.end()

    site = serve(full(listener, 1))
    client = site.connect().send(get())
    client.until(b'begun')
    waiting = site.connect().send(get())
    while not site.server._at_capacity:
        settle()
    site.server.release.set()
    assert client.rest().endswith(b'0\r\n\r\n')
    assert waiting.response().body == b'begun'


@pytest.mark.parametrize('version', [1, 2])
def test_a_slow_client_gets_its_whole_response_before_it_makes_room(serve: Serve, version: int) -> None:
    """The exchange is over, and its last bytes are still queued."""
    site = serve(
        full(
            lambda request, response: response.end(bytes(60_000)), 1, keep_alive_timeout_buffer=0.0, http2=version == 2
        )
    )
    site.server.on('connection', lambda socket: socket._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 8192))
    slow: Any
    if version == 1:
        slow = site.connect(4096).send(get())
    else:
        slow = HTTP2Client(site.where, receive_buffer=4096)
        number = slow.get()
    until(lambda: any(each.idle and each.socket.writable_length for each in site.server._connections()))
    waiting = site.connect().send(get('/waiting'))
    until(lambda: site.server._at_capacity)
    if version == 1:
        assert len(slow.response().body) == 60_000
    else:
        assert len(slow.response(number).body) == 60_000
        slow.wait_closed()
    slow.close()
    assert len(waiting.response().body) == 60_000


def test_a_client_that_waits_when_the_server_closes_is_served(serve: Serve) -> None:
    """The server accepts the connections in the kernel's queue, even at capacity."""
    site = serve(full(held, 1))
    clients = [site.connect().send(get()) for _ in range(3)]
    while not site.server.get_connections():
        settle()
    site.server.close()
    site.server.release.set()
    responses = [client.response() for client in clients]
    assert all(response.closes for response in responses)


def test_a_net_server_lets_clients_wait_too() -> None:
    with net.create_server(lambda socket: socket.read(), max_connections=1, wait_when_full=True) as server:
        server.listen(0, '127.0.0.1')
        with contextlib.closing(dial(server)), contextlib.closing(dial(server)):
            while not server.get_connections():
                settle()
            settle()
            assert server.get_connections() == 1


# -- several sockets --------------------------------------------------------------------------------------------------


@pytest.fixture
def further(tmp_path: Path) -> Any:
    with stdlib.socket(stdlib.AF_UNIX) as listener:
        listener.bind(str(tmp_path / 'socket'))
        listener.listen()
        yield listener


def test_also_listen_accepts_on_a_further_socket(serve: Serve, further: Any) -> None:
    site = serve(ok)
    assert site.server.also_listen(further) is site.server
    assert site.connect().get('/port').body == b'GET /port'
    path = further.getsockname()
    with contextlib.closing(Client(path)) as client:
        assert client.get('/path').body == b'GET /path'
        site.server.close()
        assert client.get('/last').closes
    # no process accepts on either; the socket itself belongs to its owner
    waiting = Client(path)
    settle()
    waiting.close()


def test_also_listen_counts_the_connections_of_all_sockets(serve: Serve, further: Any) -> None:
    site = serve(full(ok, 1, keep_alive_timeout_buffer=0))
    site.server.also_listen({'fd': further.fileno()})
    with contextlib.closing(Client(further.getsockname())) as client:
        assert client.get().status == 200
        assert site.connect().get().status == 200
        assert client.rest() == b''


def test_also_listen_needs_a_listening_server(further: Any) -> None:
    server = net.create_server()
    with pytest.raises(ServerNotRunning, match='also_listen'):
        server.also_listen(further)
    with server.listen(0, '127.0.0.1'):
        with pytest.raises(TypeError, match='also_listen'):
            server.also_listen(8000)
        server.unref()
        server.also_listen(further).ref()
        assert answers(server)
    gevent.idle()
