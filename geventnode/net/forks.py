"""After a fork: the child closes the connections that it has inherited, and its servers can listen again.

Otherwise the child's loop would watch the parent's sockets, and receive their data. Closing a descriptor in the child
is not visible to the peer.

A forked child shares the kernel's poll set with its parent, and libuv removes a watcher from that set at once.
Therefore the child's loop gets its own poll set before anything is closed. The loop of another thread, which has not
survived the fork, keeps the shared set. Its descriptors are closed before its watchers stop, so that the set has no
entry to remove.
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
    """An object of one process and one thread."""

    def _after_fork_in_child(self) -> None:
        """Close everything inherited. Runs in the child, before its loop does."""


_all: weakref.WeakKeyDictionary[Forkable, Any] = weakref.WeakKeyDictionary()
_connections: weakref.WeakKeyDictionary[Forkable, Any] = weakref.WeakKeyDictionary()


def register(thing: Forkable, hub: Any) -> None:
    """Notify ``thing`` after a fork and at the end of its thread.

    Its ``_after_fork_in_child()`` is called in every child process, and its ``_on_thread_exit()`` when the calling
    thread ends, which ``hub`` belongs to.
    """
    _all[thing] = hub
    close_on_thread_exit(thing, hub)


def register_connection(socket: Forkable, hub: Any) -> None:
    """Notify a connection as :func:`register` does.

    After a fork, connections follow the pools that they can belong to.
    """
    _connections[socket] = hub
    close_on_thread_exit(socket, hub)


def registered(kind: type[Thing]) -> list[Thing]:
    """Return the registered objects of this class that are still referred to."""
    return [thing for thing in tuple(_all) if isinstance(thing, kind)]


def inherited_error() -> InheritedConnection:
    """Return the error of connections from before the fork."""
    return InheritedConnection(
        'the connection belongs to the process from which this one was forked: make another request'
    )


def _after_fork_in_child() -> None:
    found = {**_all, **_connections}
    for hub in {id(hub): hub for hub in found.values()}.values():
        if is_alive(hub):
            _attempt(hub.loop.reinit, hub)
    for thing, hub in found.items():
        # as at the end of a thread: without its loop, watchers cannot be stopped
        _attempt(thing._close_descriptors if hub.loop is None else thing._after_fork_in_child, thing)


def _attempt(release: Callable[[], object], thing: object) -> None:
    """Call ``release``, and log its failure.

    The other connections of the parent are then still closed in the child.
    """
    try:
        release()
    except Exception:
        log.exception('after a fork, the child could not close %s at %#x', type(thing).__name__, id(thing))


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)
