"""Connections in memory: data sent at one end waits in a queue until the other end receives it.

A :class:`MemoryHandle` replaces the raw socket below a :class:`geventnode.net.Socket`; its watchers call back in the
hub, as those of the event loop do. A :class:`MemoryEnd` is the test's end: a plain cooperative socket with the few
methods that a test needs. Data sent in one call is received in one call, unless the receiver asks for less, so a test
decides where its input is cut. Nothing here keeps the loop alive: in a deadlock gevent raises ``LoopExit`` at once.
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
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK

__all__ = [
    'CAPACITY',
    'CLIENT',
    'SERVER',
    'Channel',
    'MemoryEnd',
    'MemoryHandle',
    'MemoryWatcher',
    'memory_client',
    'memory_connection',
    'memory_pair',
    'memory_socket',
]

#: The default capacity of each direction, in bytes.
CAPACITY = 262144

#: The default addresses of both ends, in networks reserved for documentation (RFC 5737).
CLIENT, SERVER = ('192.0.2.1', 49152), ('192.0.2.2', 80)

READ = 1

_PEEK = int(stdlib.MSG_PEEK)


class Channel:
    """One direction of a connection: a bounded queue of pieces that were sent and not received yet.

    :param capacity: the most bytes that it holds.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f'capacity must be at least one byte, not {capacity}')
        #: The most bytes that it holds; a change takes effect with the next :meth:`send`.
        self.capacity = capacity
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._observers: list[Callable[[], object]] = []
        #: Whether the sender has shut down its side.
        self.ended = False
        #: Whether the sender has reset the connection.
        self.broken = False
        #: Whether the receiver has closed its end.
        self.refused = False

    def __len__(self) -> int:
        return self._size

    def observe(self, observer: Callable[[], object]) -> None:
        """Call ``observer`` after each change."""
        self._observers.append(observer)

    def _changed(self) -> None:
        for observer in self._observers:
            observer()

    @property
    def readable(self) -> bool:
        """Whether :meth:`receive` would return or raise anything but ``BlockingIOError``."""
        return bool(self._pieces) or self.ended or self.broken

    @property
    def writable(self) -> bool:
        """Whether :meth:`send` would return or raise anything but ``BlockingIOError``."""
        return self._size < self.capacity or self.refused

    def send(self, data: Any) -> int:
        """Append the part of ``data`` that fits, and return its size.

        Raises ``BlockingIOError`` and ``BrokenPipeError``, as a kernel does.
        """
        if self.refused:
            raise BrokenPipeError(errno.EPIPE, 'the other end is closed')
        room = self.capacity - self._size
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, 'the connection is full')
        piece = bytes(data[:room])
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            self._changed()
        return len(piece)

    def receive(self, size: int, *, peek: bool = False) -> bytes:
        """Return at most ``size`` bytes of the next piece.

        At the end of the data it is empty. Raises ``BlockingIOError`` and ``ConnectionResetError``, as a kernel does.

        :param peek: leave the bytes in the queue.
        """
        if not self._pieces:
            if self.broken:
                raise ConnectionResetError(errno.ECONNRESET, 'the other end has reset the connection')
            if self.ended:
                return b''
            raise BlockingIOError(errno.EAGAIN, 'no data has arrived')
        first = self._pieces[0]
        if not peek:
            self._pieces.popleft()
            if len(first) > size:
                self._pieces.appendleft(first[size:])
            self._size -= min(size, len(first))
            self._changed()
        return first[:size]

    def end(self, *, broken: bool) -> None:
        """End the data; with ``broken``, by a reset."""
        self.ended = True
        self.broken = self.broken or broken
        self._changed()

    def refuse(self) -> bool:
        """Discard the queue, refuse further data, and return whether any was discarded."""
        unread = bool(self._pieces)
        self._pieces.clear()
        self._size = 0
        self.refused = True
        self._changed()
        return unread


class _End:
    """The methods that both kinds of ends share."""

    family = stdlib.AF_INET
    type = stdlib.SOCK_STREAM
    proto = 0

    def __init__(self, incoming: Channel, outgoing: Channel, name: Any, peer: Any) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._name = name
        self._peer = peer
        self._resetting = False
        self._shut = False
        #: Whether :meth:`close` was called.
        self.closed = False

    def send(self, data: Any) -> int:
        """Send the part of ``data`` that fits, and return its size.

        Raises ``BlockingIOError`` if the connection is full, ``BrokenPipeError`` if either end is shut.
        """
        self._check_open()
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, 'this end was shut down')
        return self._outgoing.send(data)

    def sendmsg(self, parts: Any) -> int:
        """Send several pieces as one; see :meth:`send`."""
        return self.send(b''.join(parts))

    def shutdown(self, how: int) -> None:
        """Shut down the sending side, for every value of ``how``."""
        self._check_open()
        self._shut = True
        self._outgoing.end(broken=False)

    def close(self) -> None:
        """Close this end.

        The other end sees a reset if ``SO_LINGER`` asks for one or if data was not received, as on Linux.
        """
        if not self.closed:
            self.closed = True
            unread = self._incoming.refuse()
            self._outgoing.end(broken=unread or self._resetting)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Apply ``SO_LINGER``, which makes :meth:`close` reset; ignore other options."""
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
    """The replacement of a non-blocking ``_socket.socket``."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return at most ``size`` bytes of the data that has arrived.

        At the end of the data it is empty. Raises ``BlockingIOError`` if there is none, and ``ConnectionResetError``.
        """
        self._check_open()
        return self._incoming.receive(size, peek=bool(flags & _PEEK))

    def watch(self, event: int) -> MemoryWatcher:
        """Return a watcher for ``event``; :class:`geventnode.net.Socket` calls this instead of ``loop.io``."""
        return MemoryWatcher(self._incoming if event == READ else self._outgoing, event)

    def setblocking(self, blocking: bool) -> None:
        """Ignore the setting: this handle never blocks."""

    def detach(self) -> int:
        """Raise ``OSError``: there is no descriptor to detach."""
        raise OSError(errno.EBADF, 'a connection in memory has no descriptor')

    def take(self) -> MemoryHandle:
        """Return another handle of this end, and close this one.

        The connection stays open.
        """
        self._check_open()
        self.closed = True
        return MemoryHandle(self._incoming, self._outgoing, self._name, self._peer)


class MemoryWatcher:
    """The replacement of an I/O watcher: calls back in the hub for as long as its channel is ready."""

    def __init__(self, channel: Channel, event: int) -> None:
        self._channel = channel
        self._reading = event == READ
        self._loop = get_hub().loop
        self._callback: Callable[[], object] | None = None
        self._scheduled = False
        #: False: a connection in memory does not keep the loop alive.
        self.ref = False
        channel.observe(self._schedule)

    @property
    def active(self) -> bool:
        """Whether it was started and not stopped."""
        return self._callback is not None

    def start(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` in the hub whenever the channel is ready."""
        self._callback = callback
        self._schedule()

    def stop(self) -> None:
        """Stop calling back."""
        self._callback = None

    def close(self) -> None:
        """Stop calling back."""
        self.stop()

    def _schedule(self) -> None:
        if self._callback is not None and not self._scheduled and self._is_ready():
            self._scheduled = True
            self._loop.run_callback(self._run)

    def _is_ready(self) -> bool:
        return self._channel.readable if self._reading else self._channel.writable

    def _run(self) -> None:
        self._scheduled = False
        callback = self._callback
        if callback is not None and self._is_ready():
            try:
                callback()
            finally:
                self._schedule()


class MemoryEnd(_End):
    """A plain cooperative socket: the test's end of a connection in memory."""

    def __init__(self, incoming: Channel, outgoing: Channel, name: Any, peer: Any) -> None:
        super().__init__(incoming, outgoing, name, peer)
        self._timeout: float | None = None
        self._changed = Event()
        incoming.observe(self._changed.set)
        outgoing.observe(self._changed.set)

    def settimeout(self, seconds: float | None) -> None:
        """Set how long :meth:`recv` and :meth:`sendall` wait before they raise ``TimeoutError``; None: forever."""
        self._timeout = seconds

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return at most ``size`` bytes; empty at the end of the data.

        Blocks until data arrives. Raises ``ConnectionResetError`` and ``TimeoutError``.

        :param flags: ``MSG_PEEK`` leaves the bytes in the queue.
        """
        self._check_open()
        while not self._incoming.readable:
            self._wait('no data has arrived')
        return self._incoming.receive(size, peek=bool(flags & _PEEK))

    def sendall(self, data: Any) -> None:
        """Send all of ``data``.

        Blocks until the connection has room for it. Raises ``BrokenPipeError`` and ``TimeoutError``.
        """
        rest = memoryview(data)
        while rest:
            while not self._outgoing.writable:
                self._wait('the peer has received nothing')
            rest = rest[self.send(rest) :]

    def _wait(self, state: str) -> None:
        self._changed.clear()
        if not self._changed.wait(self._timeout):
            raise TimeoutError(f'{state} for {self._timeout} seconds')


def _handle_and_end(capacity: int, name: Any, peer: Any) -> tuple[MemoryHandle, MemoryEnd]:
    incoming, outgoing = Channel(capacity), Channel(capacity)
    return MemoryHandle(incoming, outgoing, name, peer), MemoryEnd(outgoing, incoming, peer, name)


def memory_connection(server: Server, *, peer: Any = CLIENT, capacity: int = CAPACITY) -> MemoryEnd:
    """Pass a new connection to ``server``, and return the client's end.

    The server need not listen. It accepts the connection as any other, with one exception: ``wait_when_full`` has no
    effect, because no kernel queues the connection.

    :param peer: the client's address, as ``(host, port)``.
    :param capacity: the most bytes on their way, in each direction.

    Raises ``ValueError`` for a capacity below 1.
    """
    handle, end = _handle_and_end(capacity, SERVER, peer)
    server._on_accept(handle, peer)
    return end


def memory_client(server: Server) -> Socket:
    """Pass a new connection to ``server``, and return the client's socket."""
    requests, responses = Channel(CAPACITY), Channel(CAPACITY)
    socket = Socket()
    socket._attach(MemoryHandle(responses, requests, CLIENT, SERVER), SERVER)
    server._on_accept(MemoryHandle(requests, responses, SERVER, CLIENT), CLIENT)
    return socket


def memory_socket(
    *,
    capacity: int = CAPACITY,
    allow_half_open: bool = False,
    high_water_mark: int = DEFAULT_HIGH_WATER_MARK,
) -> tuple[Socket, MemoryEnd]:
    """Return a :class:`geventnode.net.Socket` and the plain socket at its other end.

    :param capacity: the most bytes on their way, in each direction.
    :param allow_half_open: keep the socket writable after the other end has shut down its sending side.
    :param high_water_mark: bytes that each buffer of the socket holds before it pushes back.

    Raises ``ValueError`` for a capacity below 1.
    """
    handle, end = _handle_and_end(capacity, SERVER, CLIENT)
    socket = Socket(allow_half_open=allow_half_open, high_water_mark=high_water_mark)
    socket._attach(handle, CLIENT)
    return socket, end


def memory_pair(
    *,
    capacity: int = CAPACITY,
    allow_half_open: bool = False,
    high_water_mark: int = DEFAULT_HIGH_WATER_MARK,
) -> tuple[Socket, Socket]:
    """Return two :class:`geventnode.net.Socket` objects that are connected to each other.

    :param capacity: the most bytes on their way, in each direction.
    :param allow_half_open: keep a socket writable after the other one has ended.
    :param high_water_mark: bytes that each buffer of the sockets holds before it pushes back.

    Raises ``ValueError`` for a capacity below 1.
    """
    forward, backward = Channel(capacity), Channel(capacity)
    one, other = (Socket(allow_half_open=allow_half_open, high_water_mark=high_water_mark) for _ in range(2))
    one._attach(MemoryHandle(backward, forward, CLIENT, SERVER), SERVER)
    other._attach(MemoryHandle(forward, backward, SERVER, CLIENT), CLIENT)
    return one, other
