"""Test that a child process does not affect its parent, with every loop and every way to start the child."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import socket
from collections.abc import Callable, Iterator

import gevent
import pytest

from geventnode import http, net
from geventnode.errors import IncompleteBody, InheritedConnection, SocketHangUp
from geventnode.net.forks import register
from tests.children import check_in_child
from tests.forking import WAYS
from tests.other_threads import in_another_thread
from tests.prepared import prepared
from tests.sockets import until

Run = Callable[..., None]
LOOPS = ['libev-cext', 'libuv']

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this platform has no fork')


@pytest.fixture(scope='module')
def run() -> Iterator[Run]:
    """Return a function that runs the program in :mod:`tests.forking`: ``run(loop, way, *checks)``."""
    with contextlib.ExitStack() as stack:
        programs = {
            (loop, patched): stack.enter_context(
                prepared('tests.forking', loop=loop, patched=patched, options=('-W', 'ignore'))
            )
            for loop in LOOPS
            for patched in (False, True)
        }

        def run(loop: str, way: str, *checks: str) -> None:
            ran = programs[loop, not way.startswith('unpatched')](way, *checks)
            assert ran.returncode == 0, ran.stderr

        yield run


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', WAYS)
def test_the_parent_of_a_fork_continues(run: Run, loop: str, way: str) -> None:
    """Its kept connections, a waiting exchange, its agent and its acceptor, with and without TLS."""
    run(loop, way, 'plain', 'tls')


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', [way for way in WAYS if way.startswith('unpatched')])
def test_another_thread_of_the_parent_continues(run: Run, loop: str, way: str) -> None:
    """The child has a copy of its loop, but not its thread."""
    run(loop, way, 'thread')


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', ['fork', 'unpatched-fork'])
def test_waiting_greenlets_fail_in_the_child_only(run: Run, loop: str, way: str) -> None:
    """They wait for a response, a connection, a handshake, room, or the rest of a body; those of the parent succeed."""
    run(loop, way, 'waiting')


class Stubborn:
    """Fail to close after a fork."""

    def _after_fork_in_child(self) -> None:
        raise KeyError('stubborn')

    _on_thread_exit = _close_descriptors = _after_fork_in_child


def test_a_failing_object_does_not_keep_others_open() -> None:
    """The failure is logged in the child, and all other objects close."""
    hub = gevent.get_hub()
    servers = [net.create_server().listen(0, '127.0.0.1')]
    stubborn = Stubborn()
    register(stubborn, hub)
    servers.append(net.create_server().listen(0, '127.0.0.1'))

    def check() -> None:
        assert not any(server.listening for server in servers)
        raise ZeroDivisionError('seen')

    with pytest.raises(pytest.fail.Exception) as failed, check_in_child(check):
        pass
    assert 'could not close Stubborn' in str(failed.value)
    assert "KeyError: 'stubborn'" in str(failed.value)
    assert 'ZeroDivisionError: seen' in str(failed.value)
    assert all(server.listening for server in servers)
    for server in servers:
        server.close()
    # a cycle: forks of later tests would report it, too
    del failed, stubborn
    gc.collect()


def test_hub_that_was_destroyed_does_not_matter() -> None:
    """The child closes a connection and a server on a hub without a loop, and logs nothing."""
    with socket.create_server(('127.0.0.1', 0)) as origin:

        def begin() -> tuple[http.Agent, http.ClientRequest, net.Server]:
            agent = http.Agent()
            request = http.get(f'http://127.0.0.1:{origin.getsockname()[1]}/', agent=agent)
            server = net.create_server().listen(0, '127.0.0.1')
            until(lambda: agent.statistics()['active'] and not request.socket.connecting)
            return agent, request, server

        _, request, server = in_another_thread(begin)
        with check_in_child(lambda: None):
            pass
        assert (request.socket.destroyed, server.listening) == (True, False)


def test_the_error_is_a_reset_and_an_incomplete_body() -> None:
    """Programs can catch either, also after pickling."""
    error = pickle.loads(pickle.dumps(InheritedConnection('made up')))
    assert isinstance(error, SocketHangUp)
    assert isinstance(error, IncompleteBody)
    assert str(error) == 'made up'
