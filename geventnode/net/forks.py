"""After a fork: the child lets go of the connections that it inherited, and its servers can listen again.

Without this the child's loop goes on watching the parent's sockets and steals the data that arrives on them.
Descriptors are closed in the child only, which the peer does not notice.

A forked child shares the kernel's poll set with its parent, and libuv removes a watcher from that set at once. Before
anything is closed, the child's loop therefore gets a poll set of its own. The loop of another thread, which did not
survive the fork, keeps the shared one; its descriptors are closed before its watchers stop, so that there is nothing
left to remove.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from geventnode.errors import InheritedConnection
from geventnode.net.threads import ThreadBound, close_on_thread_exit, is_alive

__all__ = ['Forkable', 'inherited_error', 'register', 'register_connection', 'registered']

log = logging.getLogger('geventnode.error')

Thing = TypeVar('Thing')


class Forkable(ThreadBound, Protocol):
    """An object that must not be shared with a child process, and does not outlive its thread."""

    def _after_fork_in_child(self) -> None:
        """Let go of everything inherited. Runs in the child, before its loop does."""


_all: weakref.WeakKeyDictionary[Forkable, Any] = weakref.WeakKeyDictionary()
_connections: weakref.WeakKeyDictionary[Forkable, Any] = weakref.WeakKeyDictionary()


def register(thing: Forkable, hub: Any) -> None:
    """Call ``thing._after_fork_in_child()`` in every child process, and ``thing._on_thread_exit()`` when the calling
    thread, whose ``hub`` drives it, ends."""
    _all[thing] = hub
    close_on_thread_exit(thing, hub)


def register_connection(socket: Forkable, hub: Any) -> None:
    """As :func:`register`, for a connection: its turn comes after that of the pool it may belong to."""
    _connections[socket] = hub
    close_on_thread_exit(socket, hub)


def registered(kind: type[Thing]) -> list[Thing]:
    """Return the registered objects of this kind that are still referred to."""
    return [thing for thing in tuple(_all) if isinstance(thing, kind)]


def inherited_error() -> InheritedConnection:
    """Return the error of an exchange, or a connection, that the process had before it was forked."""
    return InheritedConnection(
        'the connection belongs to the process from which this one was forked: make another request'
    )


def _after_fork_in_child() -> None:
    found = {**_all, **_connections}
    for hub in {id(hub): hub for hub in found.values()}.values():
        if is_alive(hub):
            _attempt(hub.loop.reinit, hub)
    for thing in found:
        _attempt(thing._after_fork_in_child, thing)


def _attempt(let_go: Callable[[], object], thing: object) -> None:
    """One that fails is logged, and keeps the others from nothing: the parent's connections are at stake."""
    try:
        let_go()
    except Exception:
        log.exception('after a fork, the child could not let go of %s at %#x', type(thing).__name__, id(thing))


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)
