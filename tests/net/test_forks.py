"""Test that a child process does not affect its parent, with every loop and every way to start the child."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import gevent
import pytest

from geventnode import net
from geventnode.errors import IncompleteBody, InheritedConnection, SocketHangUp
from geventnode.net.forks import register
from tests.children import check_in_child
from tests.forking import WAYS

ROOT = Path(__file__).parents[2]
LOOPS = ['libev-cext', 'libuv']

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='this platform has no fork')


def run(loop: str, *arguments: str) -> None:
    """Run the program in :mod:`tests.forking` on the given loop."""
    ran = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.forking', *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, 'GEVENT_LOOP': loop},
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', WAYS)
def test_the_parent_of_a_fork_continues(loop: str, way: str) -> None:
    """Its kept connections, a waiting exchange, its agent and its acceptor, with and without TLS."""
    run(loop, way, 'plain', 'tls')


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', [way for way in WAYS if way.startswith('unpatched')])
def test_another_thread_of_the_parent_continues(loop: str, way: str) -> None:
    """The child has a copy of its loop, but not its thread."""
    run(loop, way, 'thread')


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', ['fork', 'unpatched-fork'])
def test_waiting_greenlets_fail_in_the_child_only(loop: str, way: str) -> None:
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


def test_the_error_is_a_reset_and_an_incomplete_body() -> None:
    """Programs can catch either, also after pickling."""
    error = pickle.loads(pickle.dumps(InheritedConnection('made up')))
    assert isinstance(error, SocketHangUp)
    assert isinstance(error, IncompleteBody)
    assert str(error) == 'made up'
