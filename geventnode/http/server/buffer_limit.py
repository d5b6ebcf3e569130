"""The receive-buffer limit: how many bytes of unread input all connections of a server hold together.

Above the limit, a connection that adds to the sum is paused.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ['BufferHolder', 'ReceiveBufferLimit']


class BufferHolder(Protocol):
    """A connection that holds unread input."""

    def pause_for_limit(self) -> None:
        """Stop receiving."""

    def resume_for_limit(self) -> None:
        """Receive again."""


class ReceiveBufferLimit:
    """A sum of bytes with a limit.

    :param limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: The number of bytes that are held.
        self.used = 0
        self._paused: dict[BufferHolder, None] = {}

    def change(self, holder: BufferHolder, change: int) -> None:
        """Add ``change`` bytes, which can be negative, for ``holder``."""
        self.used += change
        if change > 0 and self.used > self.limit:
            self._paused[holder] = None
            holder.pause_for_limit()
        elif self._paused and change < 0:
            self._paused.pop(holder, None)
            self._resume()

    def reserve(self, size: int) -> bool:
        """Add ``size`` bytes and return True, if the limit allows it."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Subtract ``size`` bytes that :meth:`reserve` has added."""
        self.used -= size
        self._resume()

    def _resume(self) -> None:
        while self._paused and self.used <= self.limit:
            paused, _ = self._paused.popitem()
            paused.resume_for_limit()
