"""How much unread input all connections of a server hold together: past the limit, those that add to it are paused."""

from __future__ import annotations

from typing import Protocol

__all__ = ['BufferHolder', 'ReceiveBufferLimit']


class BufferHolder(Protocol):
    """Something that holds input."""

    def pause_for_limit(self) -> None:
        """Receive no more."""

    def resume_for_limit(self) -> None:
        """Receive again."""


class ReceiveBufferLimit:
    """A sum with a limit.

    :param limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: Bytes held at present.
        self.used = 0
        self._paused: dict[BufferHolder, None] = {}

    def change(self, holder: BufferHolder, change: int) -> None:
        """``holder`` holds ``change`` bytes more, or less."""
        self.used += change
        if change > 0 and self.used > self.limit:
            self._paused[holder] = None
            holder.pause_for_limit()
        elif change < 0:
            self._paused.pop(holder, None)
            self._resume()

    def take(self, size: int) -> bool:
        """Count ``size`` bytes, if there is room for them, and return whether there was."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """Count ``size`` bytes no longer, which :meth:`take` has counted."""
        self.used -= size
        self._resume()

    def _resume(self) -> None:
        while self._paused and self.used <= self.limit:
            paused, _ = self._paused.popitem()
            paused.resume_for_limit()
