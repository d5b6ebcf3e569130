"""Native threads and their hubs: check that a method is called in its own thread, and close everything at its end.

gevent makes a hub, with its own descriptors, in each native thread that waits for something, and leaves it to the
program to destroy the hub. A program with short-lived threads, such as those of ``http.server.ThreadingHTTPServer``, is
not aware of hubs. Python drops the local values of a thread in that thread, when it ends: a guard among them closes
connections, servers and hub. The main thread ends with the process and needs no guard.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from gevent import get_hub
from gevent._hub_local import set_hub
from gevent.monkey import get_original

from geventnode.errors import WrongThread

__all__ = ['ThreadBound', 'check_thread', 'close_on_thread_exit', 'is_alive', 'runs_here', 'wrong_thread_error']

#: The native thread's identifier, which hubs use, too; patching replaces it by that of the greenlet.
get_ident = get_original('_thread', 'get_ident')


def runs_here(hub: Any) -> bool:
    """Return whether the calling thread is the one that ``hub`` belongs to."""
    return bool(hub.thread_ident == get_ident())


def is_alive(hub: Any) -> bool:
    """Return whether ``hub`` can run callbacks in this thread."""
    return hub.loop is not None and runs_here(hub)


def check_thread(hub: Any, thing: object) -> None:
    """Raise ``WrongThread`` unless ``hub`` is that of the calling thread."""
    if get_hub() is not hub:
        raise wrong_thread_error(thing)


def wrong_thread_error(thing: object) -> WrongThread:
    """Return the error for a call in the wrong thread."""
    return WrongThread(f'this {type(thing).__name__} belongs to another thread and its loop: call its methods there')


class ThreadBound(Protocol):
    """An object for use in one thread only."""

    def _on_thread_exit(self) -> None:
        """Close the object, because its thread ends."""

    def _close_descriptors(self) -> None:
        """Close the descriptors without the loop, which was destroyed."""


#: Local values of the native thread: with patching, a thread is a greenlet, and shares its hub with others.
_here: Any = get_original('_thread', '_local')()


class _Guard:
    """Close the objects of a thread, and its hub, at its end."""

    __slots__ = ('hub', 'things')

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.things: weakref.WeakSet[ThreadBound] = weakref.WeakSet()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # the interpreter at its end, and the child of a fork, also drop the values of other threads
        if not is_finalizing() and runs_here(self.hub):
            self._close()

    def _close(self) -> None:
        hub, things = self.hub, tuple(self.things)
        if hub.loop is None:
            # the program has destroyed the hub, and left these open
            for thing in things:
                thing._close_descriptors()
            return
        # gevent's own local value, by which it finds the hub, was dropped before
        set_hub(hub)
        for thing in things:
            thing._on_thread_exit()
        hub.destroy(destroy_loop=True)


def close_on_thread_exit(thing: ThreadBound, hub: Any) -> None:
    """Call ``thing._on_thread_exit()`` when the calling thread ends, and then destroy its ``hub``."""
    if hub.loop.default:
        return
    guard = getattr(_here, 'guard', None)
    if guard is None or guard.hub is not hub:
        guard = _here.guard = _Guard(hub)
    guard.things.add(thing)
