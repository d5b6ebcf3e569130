"""The line of connections that have another request in their buffer: each gets its turn once per turn of the loop."""
from __future__ import annotations

from typing import Any, Protocol

__all__ = ['Ready', 'ReadyLine']


class Ready(Protocol):
    """Something that has work to do."""

    def go_on(self) -> None:
        """Do some of it. Runs in the hub."""


class ReadyLine:
    """First come, first served; new arrivals wait for the next turn of the loop, so that input is looked at between."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._line: dict[Ready, None] = {}
        self._timer: Any = None

    def add(self, one: Ready) -> None:
        """Let ``one`` stand in line. Never switches."""
        self._line[one] = None
        if self._timer is None:
            self._timer = self._loop.timer(0)
            self._timer.start(self._turn)

    def discard(self, one: Ready) -> None:
        """``one`` no longer has to wait. Never switches."""
        self._line.pop(one, None)

    def _turn(self) -> None:
        line, self._line = self._line, {}
        self._timer.stop()
        self._timer.close()
        self._timer = None
        for one in line:
            one.go_on()
