"""The peer of a fuzzed connection in memory, and the handle at the fuzzed end."""

from __future__ import annotations

import contextlib
import errno
import sys
from typing import Any

from geventnode.testing.memory import Channel, MemoryHandle

__all__ = ['FuzzedHandle', 'Peer']


class FuzzedHandle(MemoryHandle):
    """A handle with limits for sending, which asserts that nothing is sent after the end."""

    def __init__(self, incoming: Channel, outgoing: Channel, name: Any, peer: Any) -> None:
        super().__init__(incoming, outgoing, name, peer)
        self.set_break(None)

    def set_break(self, size: int | None) -> None:
        """Let sending fail after ``size`` bytes, counted from now; None: never."""
        #: Whether the socket has sent since then, or tried to.
        self.used = False
        self._left = sys.maxsize if size is None else size

    def send(self, data: Any) -> int:
        assert not self.closed
        assert not self._shut
        self.used = True
        if len(data) > self._left:
            raise BrokenPipeError(errno.EPIPE, 'the connection is broken')
        size = super().send(data)
        self._left -= size
        return size


class Peer:
    """The far end of a connection: sends the input, and collects the output.

    :ivar handle: the near end, for :meth:`geventnode.net.Socket._attach`.
    :ivar received: the output so far.
    """

    def __init__(self, room: int | None = None, breaks_after: int | None = None) -> None:
        self._input, self._output = Channel(sys.maxsize), Channel(sys.maxsize)
        self.handle = FuzzedHandle(self._input, self._output, ('192.0.2.2', 2), ('192.0.2.1', 1))
        self.received = bytearray()
        self.limit(room, breaks_after)

    def limit(self, room: int | None, breaks_after: int | None) -> None:
        """Discard the output so far, and limit sending from now on.

        :param room: the most bytes that are accepted between two turns of the loop; None: any number.
        :param breaks_after: bytes after which sending fails; None: never.
        """
        self.drain()
        self.received.clear()
        self._output.capacity = sys.maxsize if room is None else room
        self.handle.set_break(breaks_after)

    @property
    def unread(self) -> int:
        """Bytes of the input that the socket has not received yet."""
        return len(self._input)

    def send(self, piece: bytes) -> None:
        """Send a piece of the input, unless the socket is closed."""
        with contextlib.suppress(BrokenPipeError):
            self._input.send(piece)

    def end(self, *, reset: bool) -> None:
        """End the input, by a reset or without."""
        self._input.end(broken=reset)

    def drain(self) -> None:
        """Receive all output, which makes room for more."""
        while len(self._output):
            self.received += self._output.receive(sys.maxsize)
