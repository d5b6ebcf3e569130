"""Running out of descriptors: idle connections of pools are closed before a connection cannot be made.

The limit is the process's (``ulimit -n``), and so are the pools; but a pool can be reached from its own thread only.
"""

from __future__ import annotations

import _socket
import errno
import os
import weakref
from abc import abstractmethod
from typing import Any, Protocol

from gevent import get_hub

__all__ = ['Spare', 'make_room', 'new_socket', 'register_spare']

#: No descriptor is left for the process (``RLIMIT_NOFILE``), or for the system.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})

#: Idle connections of each pool that are closed at once: a caller that needs one descriptor will need another.
CLOSED_AT_ONCE = 16


class Spare(Protocol):
    """A pool that has connections to spare."""

    @abstractmethod
    def _close_longest_idle(self, count: int) -> int:
        """Close ``count`` idle connections, of the destinations that have not been used for longest; return how many
        there were."""


_spares: weakref.WeakKeyDictionary[Spare, Any] = weakref.WeakKeyDictionary()


def register_spare(spare: Spare, hub: Any) -> None:
    """Close idle connections of ``spare``, which belongs to ``hub``, when descriptors run out."""
    _spares[spare] = hub


def _close_some() -> bool:
    """Close idle connections of the calling thread's pools; return whether there were any."""
    here = get_hub()
    return sum(spare._close_longest_idle(CLOSED_AT_ONCE) for spare, hub in tuple(_spares.items()) if hub is here) > 0


def new_socket(family: int, kind: int, protocol: int) -> Any:
    """Return a new ``_socket.socket``, for which idle connections are closed if need be. Raises
    ``OSError``."""
    while True:
        try:
            return _socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno not in EXHAUSTED or not _close_some():
                raise


def make_room(count: int) -> None:
    """Keep ``count`` descriptors free, for calls that report no lack of them.

    Raises ``OSError`` where there is no connection left to close.
    """
    opened: list[int] = []
    try:
        while len(opened) < count:
            try:
                opened.append(os.open(os.devnull, os.O_RDONLY))
            except OSError as error:
                if error.errno not in EXHAUSTED or not _close_some():
                    raise
    finally:
        for descriptor in opened:
            os.close(descriptor)
