"""Close idle connections of pools when descriptors run out.

The limit is that of the process (``ulimit -n``). A pool can only be used in its own thread, so only the pools of the
calling thread are considered.
"""

from __future__ import annotations

import _socket
import errno
import os
import weakref
from abc import abstractmethod
from typing import Any, Protocol

from gevent import get_hub

__all__ = ['ConnectionPool', 'new_socket', 'register_pool', 'reserve_descriptors', 'take_raw']

#: Errors when the process (``RLIMIT_NOFILE``), or the system, has no descriptor left.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})

#: Idle connections of each pool that are closed together: a caller that needs one descriptor will need another.
CLOSED_AT_ONCE = 16


class ConnectionPool(Protocol):
    """A pool that can close idle connections."""

    @abstractmethod
    def _close_longest_idle(self, count: int) -> int:
        """Close ``count`` idle connections, and return their number.

        The least recently used origins are first.
        """


_pools: weakref.WeakKeyDictionary[ConnectionPool, Any] = weakref.WeakKeyDictionary()


def register_pool(pool: ConnectionPool, hub: Any) -> None:
    """Close idle connections of ``pool`` when descriptors run out.

    :param hub: the hub of the pool.
    """
    _pools[pool] = hub


def _close_some() -> bool:
    """Close idle connections of this thread's pools.

    Return whether there were any.
    """
    here = get_hub()
    return sum(pool._close_longest_idle(CLOSED_AT_ONCE) for pool, hub in tuple(_pools.items()) if hub is here) > 0


def new_socket(family: int, kind: int, protocol: int) -> Any:
    """Return a new ``_socket.socket``, after closing idle connections if necessary. Raises ``OSError``."""
    while True:
        try:
            return _socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno not in EXHAUSTED or not _close_some():
                raise


def take_raw(raw: Any) -> Any:
    """Move the connection of ``raw`` to another raw socket, and return that.

    :param raw: an ``_socket.socket``, or an object with the method ``take``: a connection in memory has no descriptor.
    """
    take = getattr(raw, 'take', None)
    return _socket.socket(raw.family, raw.type, raw.proto, raw.detach()) if take is None else take()


def reserve_descriptors(count: int) -> None:
    """Make sure that ``count`` descriptors are free.

    For calls that do not report a lack of them.

    Raises ``OSError`` if there is no connection left to close.
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
