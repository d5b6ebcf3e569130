"""Connections without a kernel: what one end sends waits in a list in memory until the other end receives it.

A :class:`MemoryHandle` stands where a socket of ours expects a raw one; its watchers call back in the hub, as those of
the loop do. A :class:`MemoryEnd` is what a test holds: a plain cooperative socket, with the few methods that one needs.
What is sent in one call is received in one call, unless less is asked for, so that a test decides where the input is
cut. Nothing here keeps the loop alive: where everybody waits for somebody else, gevent raises ``LoopExit`` at once.
"""

from __future__ import annotations

import errno
import socket as stdlib
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from gevent import get_hub
from gevent.event import Event

from geventnode.net import Server, Socket

__all__ = [
    'CAPACITY',
    'CLIENT',
    'SERVER',
    'MemoryEnd',
    'MemoryHandle',
    'MemoryWatcher',
    'Way',
    'memory_client',
    'memory_connection',
    'memory_pair',
    'memory_socket',
]

#: Bytes that are on their way at most, in each direction, unless said otherwise.
CAPACITY = 262144

#: The addresses of both ends, unless said otherwise: of a network that exists in documents only (RFC 5737).
CLIENT, SERVER = ('192.0.2.1', 49152), ('192.0.2.2', 80)

READ = 1

_PEEK = int(stdlib.MSG_PEEK)


class Way:
    """One direction: what was sent and not received yet.

    :param capacity: bytes that it holds at most.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f'a connection must hold at least one byte on its way, not {capacity}')
        self._capacity = capacity
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._listeners: list[Callable[[], object]] = []
        #: Whether the sender has said that this is all, has broken off, and whether the receiver is gone.
        self.ended = False
        self.broken = False
        self.refused = False

    def tell(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` whenever something has changed."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell everybody."""
        for listener in self._listeners:
            listener()

    @property
    def readable(self) -> bool:
        """Whether receiving has a result."""
        return bool(self._pieces) or self.ended or self.broken

    @property
    def writable(self) -> bool:
        """Whether sending has a result."""
        return self._size < self._capacity or self.refused

    def put(self, data: Any) -> int:
        """Take as much of ``data`` as there is room for; return how much. Raises what a kernel does."""
        if self.refused:
            raise BrokenPipeError(errno.EPIPE, 'the other end is closed')
        room = self._capacity - self._size
        if not room:
            raise BlockingIOError(errno.EAGAIN, 'the connection is full')
        piece = bytes(data[:room])
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            self.changed()
        return len(piece)

    def take(self, size: int, *, peek: bool = False) -> bytes:
        """Return the next piece, ``size`` bytes of it at most; empty at the end. Raises what a kernel
        does."""
        if not self._pieces:
            if self.broken:
                raise ConnectionResetError(errno.ECONNRESET, 'the other end has reset the connection')
            if self.ended:
                return b''
            raise BlockingIOError(errno.EAGAIN, 'nothing has come')
        first = self._pieces[0]
        if not peek:
            self._pieces.popleft()
            if len(first) > size:
                self._pieces.appendleft(first[size:])
            self._size -= min(size, len(first))
            self.changed()
        return first[:size]

    def finish(self, *, broken: bool) -> None:
        """Nothing more will be sent."""
        self.ended = True
        self.broken = self.broken or broken
        self.changed()

    def refuse(self) -> bool:
        """Nothing more will be received; return whether something was left."""
        left = bool(self._pieces)
        self._pieces.clear()
        self._size = 0
        self.refused = True
        self.changed()
        return left


class _End:
    """What both kinds of ends have in common."""

    family = stdlib.AF_INET
    type = stdlib.SOCK_STREAM
    proto = 0

    def __init__(self, incoming: Way, outgoing: Way, name: Any, peer: Any) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._name = name
        self._peer = peer
        self._resetting = False
        self._shut = False
        #: Whether :meth:`close` was called.
        self.closed = False

    def send(self, data: Any) -> int:
        """Send as much of ``data`` as there is room for; return how much. Raises ``BlockingIOError``
        when there is none, ``BrokenPipeError``."""
        self._check_open()
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, 'this end was shut down')
        return self._outgoing.put(data)

    def sendmsg(self, parts: Any) -> int:
        """As :meth:`send`, for several pieces that leave together."""
        return self.send(b''.join(parts))

    def shutdown(self, how: int) -> None:
        """Send the end of what is sent, whatever ``how`` says of the other direction."""
        self._check_open()
        self._shut = True
        self._outgoing.finish(broken=False)

    def close(self) -> None:
        """Close this end; with a reset where ``SO_LINGER`` says so, or where something was not received, as Linux
        does."""
        if not self.closed:
            self.closed = True
            left = self._incoming.refuse()
            self._outgoing.finish(broken=left or self._resetting)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Look at ``SO_LINGER``, and ignore everything else."""
        if (level, option) == (stdlib.SOL_SOCKET, stdlib.SO_LINGER):
            self._resetting = struct.unpack('ii', value) == (1, 0)

    def getsockname(self) -> Any:
        """Return the address of this end."""
        return self._name

    def getpeername(self) -> Any:
        """Return the address of the other end."""
        return self._peer

    def fileno(self) -> int:
        """Return -1: there is no descriptor."""
        return -1

    def _check_open(self) -> None:
        if self.closed:
            raise OSError(errno.EBADF, 'this end is closed')


class MemoryHandle(_End):
    """In place of a non-blocking ``_socket.socket``."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has come, ``size`` bytes at most. Raises ``BlockingIOError`` when that is
        nothing, ``ConnectionResetError``."""
        self._check_open()
        return self._incoming.take(size, peek=bool(flags & _PEEK))

    def watch(self, event: int) -> MemoryWatcher:
        """Return a watcher. See :class:`geventnode.net.handle.Handle`."""
        return MemoryWatcher(self._incoming if event == READ else self._outgoing, event)

    def setblocking(self, blocking: bool) -> None:
        """This one does not block in any case."""

    def detach(self) -> int:
        """Raise ``OSError``: there is no descriptor to hand over."""
        raise OSError(errno.EBADF, 'a connection in memory has no descriptor')


class MemoryWatcher:
    """In place of a watcher of the loop: calls back in the hub, again and again, for as long as there is news."""

    def __init__(self, way: Way, event: int) -> None:
        self._way = way
        self._reading = event == READ
        self._loop = get_hub().loop
        self._callback: Callable[[], object] | None = None
        self._scheduled = False
        #: What is in memory keeps no loop alive.
        self.ref = False
        way.tell(self._look)

    @property
    def active(self) -> bool:
        """Whether it watches."""
        return self._callback is not None

    def start(self, callback: Callable[[], object]) -> None:
        """Begin to watch."""
        self._callback = callback
        self._look()

    def stop(self) -> None:
        """Watch no more."""
        self._callback = None

    def close(self) -> None:
        """The same."""
        self.stop()

    def _look(self) -> None:
        if self._callback is not None and not self._scheduled and self._has_news():
            self._scheduled = True
            self._loop.run_callback(self._run)

    def _has_news(self) -> bool:
        return self._way.readable if self._reading else self._way.writable

    def _run(self) -> None:
        self._scheduled = False
        callback = self._callback
        if callback is not None and self._has_news():
            try:
                callback()
            finally:
                self._look()


class MemoryEnd(_End):
    """A plain cooperative socket: what a test holds of a connection in memory."""

    def __init__(self, incoming: Way, outgoing: Way, name: Any, peer: Any) -> None:
        super().__init__(incoming, outgoing, name, peer)
        self._timeout: float | None = None
        self._news = Event()
        incoming.tell(self._news.set)
        outgoing.tell(self._news.set)

    def settimeout(self, seconds: float | None) -> None:
        """Let every wait end with ``TimeoutError`` after so many seconds; None: never."""
        self._timeout = seconds

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has come, ``size`` bytes at most; empty at the end. May switch. Raises ``ConnectionResetError``,
        ``TimeoutError``."""
        self._check_open()
        while not self._incoming.readable:
            self._wait('nothing has come')
        return self._incoming.take(size, peek=bool(flags & _PEEK))

    def sendall(self, data: Any) -> None:
        """Send ``data``, and wait until there was room for all of it. May switch. Raises ``BrokenPipeError``,
        ``TimeoutError``."""
        rest = memoryview(data)
        while rest:
            while not self._outgoing.writable:
                self._wait('nothing was received')
            rest = rest[self.send(rest) :]

    def _wait(self, what: str) -> None:
        self._news.clear()
        if not self._news.wait(self._timeout):
            raise TimeoutError(f'{what} for {self._timeout} seconds')


def _handle_and_end(capacity: int, name: Any, peer: Any) -> tuple[MemoryHandle, MemoryEnd]:
    there, back = Way(capacity), Way(capacity)
    return MemoryHandle(there, back, name, peer), MemoryEnd(back, there, peer, name)


def memory_connection(server: Server, *, peer: Any = CLIENT, capacity: int = CAPACITY) -> MemoryEnd:
    """Hand ``server``, which need not listen, a connection, and return its other end.

    It is accepted by the rules for any other, except that it does not wait when the server is full: the kernel's queue,
    in which ``wait_when_full`` lets it wait, is not there.

    :param peer: who the client is: address and port.
    :param capacity: bytes that are on their way at most, in each direction.

    Raises ``ValueError``.
    """
    handle, end = _handle_and_end(capacity, SERVER, peer)
    server._on_accepted(handle, peer)
    return end


def memory_client(server: Server) -> Socket:
    """As :func:`memory_connection`, but return a socket of ours, for a client of ours."""
    there, back = Way(CAPACITY), Way(CAPACITY)
    socket = Socket()
    socket.attach(MemoryHandle(back, there, CLIENT, SERVER), SERVER)
    server._on_accepted(MemoryHandle(there, back, SERVER, CLIENT), CLIENT)
    return socket


def memory_socket(*, capacity: int = CAPACITY, **options: Any) -> tuple[Socket, MemoryEnd]:
    """Return a socket of ours, and the plain one that it is connected with.

    :param capacity: bytes that are on their way at most, in each direction.
    :param options: those of :class:`geventnode.net.Socket`.

    Raises ``ValueError``.
    """
    handle, end = _handle_and_end(capacity, SERVER, CLIENT)
    socket = Socket(**options)
    socket.attach(handle, CLIENT)
    return socket, end


def memory_pair(*, capacity: int = CAPACITY, **options: Any) -> tuple[Socket, Socket]:
    """Return two sockets of ours that are connected with each other.

    :param capacity: bytes that are on their way at most, in each direction.
    :param options: those of :class:`geventnode.net.Socket`.

    Raises ``ValueError``.
    """
    there, back = Way(capacity), Way(capacity)
    one, other = Socket(**options), Socket(**options)
    one.attach(MemoryHandle(back, there, CLIENT, SERVER), SERVER)
    other.attach(MemoryHandle(there, back, SERVER, CLIENT), CLIENT)
    return one, other
