"""Test the end of a server, and a server after a fork."""

from __future__ import annotations

import socket as stdlib
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket
import pytest

from geventnode import net
from geventnode.errors import ServerNotRunning
from tests.children import check_in_child
from tests.sockets import answers, dial, settle, until


def test_close_comes_after_the_last_connection(must_call: Callable[..., Any]) -> None:
    happened: list[str] = []
    server = net.create_server(lambda socket: socket.on('close', lambda error: happened.append('socket')))
    server.listen(0, '127.0.0.1').on('close', lambda: happened.append('server'))
    with dial(server):
        until(lambda: server.get_connections())
        settle()
        assert server.close(must_call()) is server
        assert not server.listening
        settle()
        assert happened == []
    until(lambda: len(happened) == 2)
    assert sorted(happened) == ['server', 'socket']


def test_close_accepts_what_the_kernel_has_queued() -> None:
    server = net.create_server(lambda socket: socket.end(b'hello')).listen(0, '127.0.0.1')
    far = stdlib.socket()
    far.setblocking(False)
    far.connect_ex((server.address()['address'], server.address()['port']))
    server.close()
    settle()
    far.setblocking(True)
    assert far.recv(10) == b'hello'
    far.close()
    server.stop()


def test_close_when_not_listening_raises() -> None:
    with pytest.raises(ServerNotRunning):
        net.create_server().close()


def test_close_when_not_listening_calls_back_with_the_error() -> None:
    errors: list[BaseException] = []
    server = net.create_server()
    assert server.close(errors.append) is server
    until(lambda: errors)
    assert isinstance(errors[0], ServerNotRunning)


def test_stop_waits_for_the_last_connection() -> None:
    server = net.create_server().listen(0, '127.0.0.1')
    with dial(server):
        until(lambda: server.get_connections())
        stopping = gevent.spawn(server.stop)
        settle()
        assert not stopping.ready()
        assert not server.listening
    stopping.get()


def test_stop_destroys_open_connections_after_the_timeout() -> None:
    server = net.create_server().listen(0, '127.0.0.1')
    with dial(server) as far:
        until(lambda: server.get_connections())
        server.stop(0)
        assert server.get_connections() == 0
        assert far.recv(1) == b''
    server.stop()


def test_serve_forever_ends_with_the_server() -> None:
    server = net.create_server()
    with pytest.raises(ServerNotRunning):
        server.serve_forever()
    server.listen(0)
    serving = gevent.spawn(server.serve_forever)
    settle()
    assert not serving.ready()
    server.close()
    serving.get()


# -- forks ----------------------------------------------------------------------------------------------------------


def test_a_child_closes_its_copies_and_the_parent_continues() -> None:
    sockets: list[Any] = []
    with net.create_server(sockets.append).listen(0, '127.0.0.1') as server, dial(server) as far:
        until(lambda: sockets)

        def check() -> None:
            assert (server.listening, sockets[0].destroyed, server.get_connections()) == (False, True, 0)

        with check_in_child(check):
            pass
        far.sendall(b'x')
        assert sockets[0].read(1) == b'x'
        assert server.get_connections() == 1


def test_a_server_can_listen_again_in_the_child() -> None:
    closed: list[Any] = []
    server = net.create_server(lambda socket: socket.on('close', closed.append)).listen(0, '127.0.0.1')
    with dial(server):
        until(lambda: server.get_connections())
        server._after_fork_in_child()
        assert (server.listening, server.get_connections()) == (False, 0)
    with server.listen(0, '127.0.0.1'):
        assert answers(server)
    assert len(closed) == 1
