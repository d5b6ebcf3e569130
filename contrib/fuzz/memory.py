"""A connection without a kernel: a real ``net.Socket`` whose raw socket and watchers are lists in memory.

Whoever holds the :class:`MemoryRaw` is the peer and the kernel in one: it puts in what arrives, says how much is taken
of what is sent, and calls the watchers, in the hub, as the loop would.
"""

from __future__ import annotations

import errno
import socket as stdlib
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from geventnode.net.socket import Socket

__all__ = ['MemoryRaw', 'MemorySocket', 'MemoryWatcher']


_PEEK = int(stdlib.MSG_PEEK)


class MemoryRaw:
    """In place of a ``_socket.socket``.

    :param room: bytes that are taken between two turns of the loop; None: any number.
    :param breaks_after: bytes after which sending fails; None: never.
    """

    family = stdlib.AF_INET

    def __init__(self, room: int | None = None, breaks_after: int | None = None) -> None:
        #: What is to be received: bytes, ``b''`` for the end, or an error.
        self.incoming: deque[bytes | OSError] = deque()
        self.sent = bytearray()
        #: Whether anything was sent, or tried.
        self.used = False
        self.shut = False
        self.closed = False
        self.limit(room, breaks_after)

    def limit(self, room: int | None, breaks_after: int | None) -> None:
        """Forget what was sent, and set limits for what is sent from now on."""
        self.sent.clear()
        self.used = False
        self._room = self._left = room
        self._breaks_after = breaks_after

    def fileno(self) -> int:
        return -1

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.incoming:
            raise BlockingIOError(errno.EAGAIN, 'nothing there')
        first = self.incoming[0]
        if isinstance(first, OSError):
            raise first
        if flags & _PEEK or not first:
            return first[:size]
        self.incoming.popleft()
        if len(first) > size:
            self.incoming.appendleft(first[size:])
        return first[:size]

    def send(self, data: Any) -> int:
        assert not self.closed
        assert not self.shut
        self.used = True
        size = len(data)
        if self._breaks_after is not None and len(self.sent) + size > self._breaks_after:
            raise BrokenPipeError(errno.EPIPE, 'nobody there')
        if self._left is not None:
            size = min(size, self._left)
            if not size:
                raise BlockingIOError(errno.EAGAIN, 'no room')
            self._left -= size
        self.sent += data[:size]
        return size

    def sendmsg(self, parts: Any) -> int:
        return self.send(b''.join(parts))

    def make_room(self) -> None:
        """Let more be taken, as after a turn of the loop."""
        self._left = self._room

    def shutdown(self, how: int) -> None:
        self.shut = True

    def close(self) -> None:
        self.closed = True

    def setsockopt(self, *args: Any) -> None:
        pass


class MemoryWatcher:
    """In place of a watcher of the loop."""

    def __init__(self) -> None:
        self.callback: Callable[[], object] | None = None
        self.ref = True

    @property
    def active(self) -> bool:
        return self.callback is not None

    def start(self, callback: Callable[[], object]) -> None:
        self.callback = callback

    def stop(self) -> None:
        self.callback = None

    def close(self) -> None:
        self.callback = None


class MemorySocket(Socket):
    """A socket on a :class:`MemoryRaw`."""

    def attach(self, raw: Any, peer: Any) -> None:
        self._raw = raw
        self._family = raw.family
        self._peer = peer
        self._recv = raw.recv
        self._send = raw.send
        self.active = monotonic()
        self._read_watcher = MemoryWatcher()
        self._read_watcher.start(self._on_readable)

    def _arm(self) -> None:
        if self._raw is None or self.destroyed:
            return
        if self._write_watcher is None:
            self._write_watcher = MemoryWatcher()
        self._write_watcher.start(self._on_writable)

    def happen(self) -> None:
        """Call the watchers for as long as there is something for them. Runs in the hub."""
        raw = self._raw
        raw.make_room()
        writing = self._write_watcher
        if writing is not None and writing.callback is not None:
            writing.callback()
        reading = self._read_watcher
        while raw.incoming and reading.callback is not None:
            reading.callback()
