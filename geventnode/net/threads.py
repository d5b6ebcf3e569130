"""The end of a native thread: its connections, servers and hub close with it.

gevent makes a hub, with descriptors of its own, in each native thread that waits for something, and leaves it to the
program to destroy that. A program whose threads are short-lived, as those of ``http.server.ThreadingHTTPServer``, knows
nothing of hubs. Python drops a thread's local values in that thread, as the last thing that happens there: a guard
among them closes the rest. The main thread ends with the process and needs no guard.
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

#: The thread's own, patched or not, as hubs have it.
get_ident = get_original('_thread', 'get_ident')


def runs_here(hub: Any) -> bool:
    """Return whether the calling thread is the one that ``hub`` belongs to."""
    return bool(hub.thread_ident == get_ident())


def is_alive(hub: Any) -> bool:
    """Return whether ``hub`` can run callbacks of the calling thread."""
    return hub.loop is not None and runs_here(hub)


def check_thread(hub: Any, thing: object) -> None:
    """Raise ``WrongThread`` unless ``hub`` is that of the calling thread."""
    if get_hub() is not hub:
        raise wrong_thread_error(thing)


def wrong_thread_error(thing: object) -> WrongThread:
    """Return the error of a method of ``thing`` in another thread, before it changes anything."""
    return WrongThread(
        f'this {type(thing).__name__} belongs to another thread, whose loop drives it: call its methods there'
    )


class ThreadBound(Protocol):
    """An object that a thread made, and that nothing can use when the thread has ended."""

    def _on_thread_exit(self) -> None:
        """Close."""

    def _close_descriptors(self) -> None:
        """Close the descriptors, without the loop, which is gone."""


#: The native thread's own, patched or not: a patched thread is a greenlet, and shares the hub of others.
_here: Any = get_original('_thread', '_local')()


class _Guard:
    """Closes the things of a thread, and destroys its hub, when the thread ends."""

    __slots__ = ('hub', 'things')

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.things: weakref.WeakSet[ThreadBound] = weakref.WeakSet()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # the interpreter, and the child of a fork, drop the values of threads that are not theirs
        if not is_finalizing() and runs_here(self.hub):
            self._close()

    def _close(self) -> None:
        hub, things = self.hub, tuple(self.things)
        if hub.loop is None:
            # its user has destroyed it, and left this open
            for thing in things:
                thing._close_descriptors()
            return
        # gevent's own local value, by which it finds the hub, went first
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
