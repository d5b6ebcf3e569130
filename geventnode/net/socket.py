"""A stream connection, TCP or Unix: Node's ``net.Socket`` on gevent's loop.

A :class:`Socket` owns a non-blocking raw socket and two watchers of the loop, which live as long as it does. It is a
duplex stream for users. A protocol, such as an HTTP connection, can take the input instead, and sends with calls that
never wait. Callbacks of the loop run in the hub; events are emitted from a greenlet, so listeners never run in the hub.

Receiving: the callback of the read watcher receives once. It hands the bytes to the protocol, or buffers them and wakes
the greenlet that waits for them. At the high-water mark the watcher stops; reading starts it again. A connection
without a reader costs no greenlet.

Sending: data goes to the kernel at once. The rest that it does not take is queued, and the write watcher, made when it
is first needed, sends it later.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select
import socket as stdlib
import struct
import typing
from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from math import isfinite
from time import monotonic
from typing import Any, ClassVar, NoReturn, TypeVar

import gevent
from gevent import get_hub, getcurrent
from gevent.event import Event
from gevent.monkey import get_original
from zope.interface import implementer

from geventnode.errors import ConnectionClosed, InheritedConnection
from geventnode.interfaces import ISocket
from geventnode.net.address import check_connect, describe, family_name, unix_family
from geventnode.net.connecting import Connecting, Lookup
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.descriptors import take_raw
from geventnode.net.forks import inherited_error, register_connection
from geventnode.net.threads import is_alive, wrong_thread_error
from geventnode.protocol import ProxyHeader
from geventnode.stream.chunks import as_bytes
from geventnode.stream.duplex import DuplexBase
from geventnode.stream.pump import Pump
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK, Mode
from geventnode.stream.turn import Turn
from geventnode.stream.writable import Callback

__all__ = ['MAX_VECTORS', 'Owner', 'Protocol', 'Receiver', 'Sender', 'Socket', 'connect']

#: Events of the loop's watchers.
READ, WRITE = 1, 2

#: The module of libuv's loop. It stops watching a descriptor that has an error, even if input precedes the error.
LIBUV = 'gevent.libuv.loop'

#: ``struct linger`` (socket(7)): the switch and the seconds. On with 0 seconds, closing resets the connection.
LINGER_RESET, LINGER_OFF = struct.pack('ii', 1, 0), struct.pack('ii', 0, 0)

#: The option for the seconds before the first probe: tcp(7); macOS has another name for it.
KEEP_IDLE: int | None = getattr(stdlib, 'TCP_KEEPIDLE', getattr(stdlib, 'TCP_KEEPALIVE', None))

#: Bytes asked for at once. A short request leaves most of a larger buffer unused, which goes back to the system.
RECEIVE_SIZE = 65536

#: After an input of this size there is likely to be more. A reader then receives at most MAX_EXTRA_RECEIVES times, and
#: EXTRA_RECEIVE_SIZE bytes each time, without a turn of the loop. All other connections wait meanwhile: about 0.15 ms,
#: at the 2.5 GiB a second that were measured.
LARGE_INPUT, MAX_EXTRA_RECEIVES, EXTRA_RECEIVE_SIZE = RECEIVE_SIZE // 2, 3, 131072

#: Queued chunks that one system call sends.
MAX_VECTORS = 64

#: Pieces that are smaller on average are joined before they are sent: that takes less time than a vector of them.
JOINED_PIECE = 2048

#: The largest number of pieces in one system call: IOV_MAX of Linux, macOS and the BSDs.
MAX_PIECES = 1024

#: Bytes of a file that one system call sends. It reads them from the disk if necessary, and the loop waits.
FILE_SLICE = 262144

#: Errors of sendfile(2) for files that it cannot send.
UNSENDABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

#: The kernel's poll, which a patched ``select`` replaces by one that waits for the loop; Windows has none.
make_poll: Callable[[], Any] | None = get_original('select', 'poll') if hasattr(select, 'poll') else None

#: ``select.POLLIN``, which is the same number everywhere.
POLLIN = 1

Self = TypeVar('Self', bound='Socket')


class Protocol(typing.Protocol):
    """Receive a socket's input instead of its readable side.

    All methods run in the hub. The names are those of ``asyncio.Protocol``, except for the two that asyncio lacks.
    """

    def data_received(self, data: bytes) -> None:
        """Take ``data``, the next bytes of the peer."""

    def eof_received(self) -> None:
        """Take note that the peer has ended its side."""

    @abstractmethod
    def send_failed(self, error: BaseException) -> bool:
        """Return whether to go on receiving after sending has failed.

        Otherwise the socket is destroyed.
        """

    def connection_lost(self, error: BaseException | None) -> None:
        """Take note that the socket was destroyed."""

    def queue_drained(self) -> None:
        """Take note that the kernel has all queued bytes."""


class Owner(typing.Protocol):
    """The server of a socket."""

    def _on_destroyed(self, socket: Any) -> None:
        """Take note that ``socket`` was destroyed."""


class Receiver(typing.Protocol):
    """The receiving side of a raw socket or of a TLS engine."""

    @abstractmethod
    def recv(self, size: int, /) -> bytes:
        """Return input, ``b''`` at its end; raise ``BlockingIOError`` without any."""


class Sender(typing.Protocol):
    """The sending side of a raw socket or of a TLS engine."""

    @abstractmethod
    def send(self, data: Any, /) -> int:
        """Send a part of ``data``; raise ``BlockingIOError`` without room."""


class _Unconnected:
    """The sending side before there is a connection."""

    __slots__ = ()

    def send(self, data: Any) -> NoReturn:
        raise BlockingIOError('not connected yet')


_UNCONNECTED = _Unconnected()


class _Destroyed:
    """The sending side after the connection."""

    __slots__ = ()

    def send(self, data: Any) -> NoReturn:
        raise ConnectionClosed('this Socket was destroyed')


class _Failed:
    """The receiving side after an error of the kernel."""

    __slots__ = ('_error',)

    def __init__(self, error: OSError) -> None:
        self._error = error

    def recv(self, size: int) -> NoReturn:
        raise self._error


@implementer(ISocket)
class Socket(DuplexBase):
    """A stream connection, TCP or Unix, as Node's ``net.Socket``.

    A socket is a duplex stream: :meth:`read`, :meth:`write` and the other methods and events of
    :class:`geventnode.stream.Duplex` apply. It belongs to the thread that made it; a method that is called in another
    thread raises ``WrongThread``. As a context manager it is destroyed at the end of the block.

    Events, beside those of a stream: ``'connect'`` () when the connection is made, ``'timeout'`` () after inactivity
    (:meth:`set_timeout`), ``'close'`` (had_error) once, as the last event. For each address that is tried,
    ``'connectionAttempt'`` (address, port, family) and, if it fails, ``'connectionAttemptFailed'`` (address, port,
    family, error); their listeners delay the other attempts while they block.

    :param handle: a connected socket object to take over; without it, call :meth:`connect`.
    :param allow_half_open: whether the socket can still be written to after the peer has ended its side. False: it is
        ended, too.
    :param high_water_mark: bytes. With this many buffered, reading pauses; with this many queued, writers wait.
    """

    events: ClassVar[frozenset[str]] = DuplexBase.events | {
        'connect',
        'connectionAttempt',
        'connectionAttemptFailed',
        'timeout',
        'agentRemove',
    }

    #: Whether the socket can still be written to after the peer has ended its side.
    allow_half_open: bool = False
    #: Whether the connection is still being made.
    connecting: bool = False
    #: Whether this is a TLS connection.
    encrypted: bool = False
    #: Whether the TLS handshake is still to come, or under way; False without TLS.
    handshaking: bool = False
    #: Whether the data of a TLS peer ended without close_notify, so that a third party can have cut it; False without
    #: TLS.
    truncated: bool = False
    #: Bytes received from the kernel; with TLS, bytes of plaintext.
    bytes_read: int = 0
    #: Bytes given to the socket to send, queued ones included.
    bytes_written: int = 0
    #: Seconds of inactivity after which ``'timeout'`` is emitted; None: never. See :meth:`set_timeout`.
    timeout: float | None = None
    #: The IP address of the proxy that has named the client in a PROXY header; None without one.
    proxy_address: str | None = None
    #: The PROXY header that the connection began with; None without one.
    proxy_header: ProxyHeader | None = None

    # -- for protocols; see ``_set_protocol`` --

    #: The monotonic time of the last traffic, set in ``__init__``.
    _last_activity: float
    #: The monotonic time when the kernel last took queued data, or when the wait for that began.
    _last_sent: float = 0.0
    #: See :class:`geventnode.net.deadlines.HasDeadline`.
    _expires: float = NEVER
    #: Receives the input; None while the socket is a stream.
    _protocol: Protocol | None = None
    #: Whether several responses are sent in this turn of the loop, so that :meth:`_send_later` pays. The protocol sets
    #: it; as a class attribute it costs no memory on a connection that never needs it.
    _batching: bool = False
    #: Whether :meth:`_sendfile` can be used.
    _can_sendfile: bool = hasattr(os, 'sendfile')
    #: Whether the peer takes no more data, while its own data can still be received.
    _send_broken: bool = False
    #: Whether destroying the socket resets the connection.
    _resetting: bool = False
    #: A value that a user of the socket has computed from its addresses, and keeps with it.
    _derived: Any = None
    #: Is notified when the socket was destroyed, in the hub or a greenlet.
    _owner: Owner | None = None

    # -- the raw socket --

    _raw: Any = None
    _family: int = 0
    #: The peer's address as the kernel reports it: a tuple that begins with an IP address and a port, or a path.
    _peer: Any = None
    _read_watcher: Any = None
    _write_watcher: Any = None
    #: The raw socket, or the TLS engine: their methods never wait. Bound methods of them would cost an idle connection
    #: memory.
    _sender: Sender
    _receiver: Receiver
    #: TCP_NODELAY, and the arguments of :meth:`set_keep_alive` for a connection that is still to be made.
    _no_delay: int = 1
    _keep_alive: tuple[bool, float] | None = None
    _unref: bool = False
    _connecting: Connecting | None = None
    #: The activity for which ``'timeout'`` was emitted.
    _timed_out: float = -1

    # -- receiving --

    #: Input that no reader has taken, and its size.
    _received: list[bytes] | None = None
    _received_size: int = 0
    _eof: bool = False
    #: The greenlet that waits for input.
    _reader: Any = None
    #: See :meth:`_has_input`; made by its first call.
    _poll: Callable[[int], object] | None = None
    #: How often :meth:`_receive_more` can receive before the next turn of the loop.
    _extra_receives: int = 0

    # -- sending --

    #: Whether :meth:`_flush_now` runs at the end of this turn of the loop.
    _flush_pending: bool = False

    def __init__(
        self, handle: Any = None, *, allow_half_open: bool = False, high_water_mark: int = DEFAULT_HIGH_WATER_MARK
    ) -> None:
        self._hub = get_hub()
        self._last_activity = monotonic()
        # of the instance: the interpreter finds them faster than those of the class
        self._sender = _UNCONNECTED
        self._queue = None
        self.writable_length = 0
        self.destroyed = False
        if allow_half_open:
            self.allow_half_open = True
        if high_water_mark != DEFAULT_HIGH_WATER_MARK:
            self.readable_high_water_mark = self.writable_high_water_mark = high_water_mark
        if handle is not None:
            peer = handle.getpeername()
            register_connection(self, self._hub)
            self._attach(_socket.socket(handle.family, handle.type, handle.proto, handle.detach()), peer)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *args: object) -> None:
        self.destroy()

    def __repr__(self) -> str:
        state = (
            'destroyed'
            if self.destroyed
            else 'connecting'
            if self.connecting
            else 'unconnected'
            if self._raw is None
            else 'ended'
            if self.writable_ended
            else 'open'
        )
        where = self._peer if self._raw is not None else None
        return f'<{type(self).__name__} {state} peer={where!r} queued={self.writable_length}>'

    def _check_thread(self) -> None:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)

    # -- connecting ---------------------------------------------------------------------------------------------------

    def connect(
        self,
        port: Any,
        host: str | None = None,
        callback: Callable[..., object] | None = None,
        *,
        local_address: str | None = None,
        family: int = 0,
        local_port: int | None = None,
        lookup: Lookup | None = None,
    ) -> Socket:
        """Begin to connect, and return the socket; ``'connect'`` or ``'error'`` follows.

        Reads and writes wait for the connection, and so does :meth:`wait_connected`. The only time limit is that of
        the kernel.

        The resolved addresses are tried in their order (RFC 8305, section 5). The next attempt begins when one has
        failed, or after 0.25 seconds while the earlier attempts go on. The first connection that is made is kept. If
        the queue of a Unix socket's listener is full, the attempt is repeated for at most 127 seconds, as the kernel
        does for TCP.

        :param port: a port, or the path of a Unix socket.
        :param host: a host name or an IP address. ``'localhost'``.
        :param callback: a one-time listener for ``'connect'``.
        :param local_address: the IP address to connect from; the kernel's choice, unless given.
        :param family: ``socket.AF_INET`` or ``socket.AF_INET6`` for one kind of address; 0: both.
        :param local_port: the local port; the kernel's choice, unless given.
        :param lookup: a function to use instead of the system's resolver, of the name and of 4, 6 or 0 (both). It
            returns an IP address, or several in the order in which they are tried. It can block.

        Raises ``TypeError`` if host and port were swapped, ``ValueError`` for a port outside 0 to 65535,
        ``RuntimeError`` if the socket is connected or connecting, and ``ConnectionClosed`` if it was destroyed.
        """
        self._check_thread()
        if self.destroyed:
            raise self._closed_error()
        if self._raw is not None or self.connecting:
            raise RuntimeError('this Socket is connected or connecting already')
        check_connect(port, host)
        # first, because it raises for a wrong port or name; it begins after this greenlet has switched
        self._connecting = Connecting(self, port, host, local_address, family, local_port, lookup)
        if callback is not None:
            self.once('connect', callback)
        self.connecting = True
        register_connection(self, self._hub)
        return self

    def _on_connected(self, raw: Any, peer: Any) -> None:
        """Take the new connection; see :class:`~geventnode.net.connecting.ConnectOwner`."""
        if self.destroyed:
            # in the very turn of the loop in which the connection was made
            raw.close()
            return
        self.connecting = False
        self._connecting = None
        self._attach(raw, peer)
        self.emit('connect')
        if not self.destroyed:
            callbacks = self._send_queued()
            if callbacks is not None:
                self._run_callbacks(callbacks)

    def _on_attempt(self, event: str, address: Any, *error: BaseException) -> None:
        """See :class:`~geventnode.net.connecting.ConnectOwner`."""
        if isinstance(address, tuple) and self.listener_count(event):
            family = family_name(stdlib.AF_INET6 if ':' in address[0] else stdlib.AF_INET)
            self.emit(event, address[0], address[1], family, *error)

    def wait_connected(self, timeout: float | None = None) -> Socket:
        """Return the socket when it is connected.

        Blocks until there is a connection, or none can be made.

        :param timeout: seconds; None: no limit.

        Raises ``ConnectError``, ``NameNotResolved`` and other errors of the attempt, ``TimeoutError`` after
        ``timeout`` seconds, and ``ConnectionClosed`` if the socket was destroyed.
        """
        self._check_thread()
        connecting = self._connecting
        if connecting is not None:
            connecting.wait(timeout)
        if self.destroyed:
            raise self._error or self._closed_error()
        return self

    def _attach(self, raw: Any, peer: Any) -> None:
        """Take over ``raw``, a connected ``_socket.socket``, and begin to receive."""
        raw.setblocking(False)
        self._raw = raw
        self._family = raw.family
        self._peer = peer
        self._receiver = raw
        self._sender = raw
        self._last_activity = monotonic()
        if raw.family != unix_family:
            raw.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY, self._no_delay)
        if self._keep_alive is not None:
            self.set_keep_alive(*self._keep_alive)
        self._read_watcher = self._new_watcher(READ)
        self._start_reading()

    def _new_watcher(self, event: int) -> Any:
        """Return a watcher for READ or WRITE."""
        raw = self._raw
        # a connection in memory has no descriptor that the loop could watch
        watch = getattr(raw, 'watch', None)
        return self._hub.loop.io(raw.fileno(), event, ref=not self._unref) if watch is None else watch(event)

    def _set_client(self, header: ProxyHeader) -> None:
        """Take the peer's address from ``header``, which a trusted proxy has sent."""
        self.proxy_header = header
        if header.source is not None:
            self.proxy_address = self.remote_address
            self._peer = header.source

    # -- the protocol -------------------------------------------------------------------------------------------------

    def _set_protocol(self, protocol: Protocol | None) -> None:
        """Hand the input to ``protocol`` from now on, buffered input first; None: buffer it for readers again."""
        self._protocol = protocol
        if protocol is not None and self._received:
            protocol.data_received(self._take_input())
        if protocol is not None and self._eof:
            protocol.eof_received()

    def _restore_input(self, data: bytes) -> None:
        """Buffer ``data`` for the next reader or protocol.

        A protocol calls this for bytes that it has received and does not need.
        """
        if data:
            self._received = [data]
            self._received_size = len(data)

    def _take_input(self) -> bytes:
        """Return the buffered input, and drop it from the buffer."""
        data = b''.join(self._received or ())
        self._received = None
        self._received_size = 0
        return data

    @property
    def _did_read(self) -> bool:
        """Whether a reader has begun to consume the stream."""
        return self._mode is not Mode.UNUSED

    def _record_activity(self) -> None:
        """Count this moment as traffic."""
        self._last_activity = monotonic()
        if self._queue:
            self._last_sent = self._last_activity

    def _poll_now(self) -> bool:
        """Return whether there is unreported input or progress.

        See :class:`geventnode.net.deadlines.Pollable`.
        """
        if self._raw is None or self.destroyed:
            return False
        before = self._last_activity
        if self._queue:
            self._on_writable()
        if self._last_activity != before:
            return True
        return not self.destroyed and bool(self._read_watcher.active) and self._peek()

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _start_reading(self) -> None:
        """Let the loop call :meth:`_on_readable` from now on."""
        rearms = type(self._hub.loop).__module__ == LIBUV
        self._read_watcher.start(self._on_readable_once if rearms else self._on_readable)

    def _on_readable_once(self) -> None:
        """Receive, and watch again, for libuv.

        libuv stops watching a descriptor that has an error.
        """
        self._on_readable()
        watcher = self._read_watcher
        if not self.destroyed and watcher.active:
            watcher.stop()
            watcher.start(self._on_readable_once)

    def _on_readable(self) -> None:
        """Receive once. Runs in the hub."""
        try:
            data = self._receiver.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._on_socket_error(error)
            return
        self._last_activity = monotonic()
        protocol = self._protocol
        if data:
            size = len(data)
            self.bytes_read += size
            if size >= LARGE_INPUT:
                self._extra_receives = MAX_EXTRA_RECEIVES
            if protocol is not None:
                protocol.data_received(data)
            else:
                self._buffer_input(data)
            return
        self._on_eof()

    def _receive_more(self) -> bytes:
        """Return new input; ``b''`` when the loop must run first.

        For a reader that has consumed all other input.
        """
        if not self._extra_receives:
            return b''
        self._extra_receives -= 1
        return self._receive_now()

    def _receive_now(self) -> bytes:
        """Return the bytes in the kernel, without the loop.

        It is ``b''`` if there are none.
        """
        if self._eof or self.destroyed:
            return b''
        try:
            data = self._receiver.recv(EXTRA_RECEIVE_SIZE)
        except BlockingIOError:
            data = b''
        except OSError as error:
            self._receive_error_later(error)
            data = b''
        size = len(data)
        if size < LARGE_INPUT:
            # the loop reports the end of the input, too
            self._extra_receives = 0
        if size:
            self._last_activity = monotonic()
            self.bytes_read += size
        return data

    def _receive_error_later(self, error: OSError) -> None:
        """Let the hub receive ``error``: it handles the end of a connection before any reader sees it."""
        # the kernel reports it once; after that it reports the end of the input, which would look clean
        self._receiver = _Failed(error)
        self._hub.loop.run_callback(self._on_readable)

    def _on_eof(self) -> None:
        """Report the end of the input to the protocol or the reader. Runs in the hub."""
        self._eof = True
        self._read_watcher.stop()
        protocol = self._protocol
        if protocol is not None:
            protocol.eof_received()
        elif self._reader is not None:
            self._reader.switch()
        elif not self._received and not self._read_buffer and self._mode is not Mode.FLOWING:
            gevent.spawn(self._emit_end)

    def _buffer_input(self, data: bytes) -> None:
        """Buffer ``data`` for readers, and pause at the high-water mark. Runs in the hub."""
        if self._received is None:
            self._received = []
        self._received.append(data)
        self._received_size += len(data)
        if self._received_size >= self.readable_high_water_mark:
            self._read_watcher.stop()
        if self._reader is not None:
            self._reader.switch()

    def _pause_reading(self) -> None:
        """Stop receiving until :meth:`_resume_reading`.

        The end of the connection is not noticed meanwhile.
        """
        if self._read_watcher is not None:
            self._read_watcher.stop()

    def _resume_reading(self) -> None:
        """Receive again after :meth:`_pause_reading`."""
        watcher = self._read_watcher
        if watcher is not None and not watcher.active and not self._eof and not self.destroyed:
            self._start_reading()

    def _has_input(self) -> bool:
        """Return whether the kernel holds input: bytes, a FIN, or an error."""
        return bool((self._poll or self._make_poll())(0))

    def _make_poll(self) -> Callable[[int], object]:
        """Make and keep the function that :meth:`_has_input` calls.

        The function returns a true value if there is input. It is ``poll`` where the platform has it: without input,
        ``recv`` with MSG_PEEK raises, which takes three times as long.
        """
        function: Callable[[int], object] = self._peek
        descriptor = self._raw.fileno()
        if make_poll is not None and descriptor >= 0:
            poll = make_poll()
            poll.register(descriptor, POLLIN)
            function = poll.poll
        self._poll = function
        return function

    def _peek(self, timeout: int = 0) -> bool:
        try:
            self._raw.recv(1, stdlib.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _fetch(self) -> bytes:
        """Return the buffered input, ``b''`` at its end. Blocks until there is some."""
        self._check_thread()
        while not self._received:
            if self.destroyed and (self._error is None or not self._eof):
                # destroyed by this side, possibly with unread input
                raise self._closed_error()
            if self._eof:
                return b''
            more = self._receive_more()
            if more:
                return more
            self._resume_reading()
            self._reader = getcurrent()
            try:
                self._hub.switch()
            finally:
                self._reader = None
        data = self._received[0] if len(self._received) == 1 else b''.join(self._received)
        self._received.clear()
        self._received_size = 0
        self._resume_reading()
        return data

    def _at_end(self) -> bool:
        return self._eof and not self._received and not self.destroyed

    def _set_mode(self, mode: Mode) -> Pump:
        self._check_thread()
        return super()._set_mode(mode)

    @property
    def readable_length(self) -> int:
        """Bytes that are buffered for readers."""
        return super().readable_length + self._received_size

    def _wake_reader(self) -> None:
        # the reader can have left meanwhile
        if self._reader is not None:
            self._reader.switch()

    # -- sending: as a stream -----------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Callback | None = None) -> bool:
        """Send ``chunk``; return False if a part of it is queued.

        Blocks until there is room if ``writable_high_water_mark`` bytes are queued already.

        :param chunk: bytes-like, or text.
        :param encoding: the encoding of text.
        :param callback: called without arguments when the kernel has taken all of ``chunk``.

        Raises ``ConnectionClosed`` if the socket was destroyed, or if the peer has ended its side and
        :attr:`allow_half_open` is false; ``WriteAfterEnd`` after ``end()``.
        """
        self._check_thread()
        data = as_bytes(chunk, encoding)
        self._check_writable()
        if self._eof and self.readable_ended and not self.allow_half_open:
            raise _ended_by_peer()
        if self.writable_length >= self.writable_high_water_mark:
            self._wait_for_drain()
        if callback is not None or self.writable_corked:
            self.bytes_written += len(data)
            self._enqueue(data, callback)
            self._flush()
        else:
            self._send(data)
        if self.writable_length:
            self.writable_need_drain = True
            return False
        return True

    def _write_last(self, data: bytes | memoryview) -> None:
        self._check_writable()
        if self._eof and self.readable_ended and not self.allow_half_open:
            raise _ended_by_peer()
        self._send(data)

    def _flush(self) -> None:
        if self.connecting:
            return
        callbacks = self._send_queued()
        if callbacks is None:
            if not self.writable_ended:
                raise self._closed_error()
            return
        self._run_callbacks(callbacks)

    # -- sending: without waiting, for protocols ----------------------------------------------------------------------

    def _send(self, data: bytes | memoryview) -> bool:
        """Send ``data``, and queue the rest; return whether the kernel took everything.

        The length of the queue is not limited here. Neither this method nor the following ones check the thread: the
        public method that calls them has done so. Raises ``ConnectionClosed``.
        """
        size = len(data)
        self.bytes_written += size
        if not self._queue:
            try:
                sent = self._sender.send(data)
            except BlockingIOError:
                sent = 0
            except ConnectionClosed:
                raise self._closed_error() from None
            except OSError as error:
                self._on_send_error(error)
                raise self._closed_error() from error
            self._last_activity = monotonic()
            if sent == size:
                return True
            data = memoryview(data)[sent:]
        self._enqueue(data, None)
        return self._begin_queue()

    def _begin_queue(self) -> bool:
        """Begin to send queued data.

        It is sent at once if other data waits for the end of this turn of the loop. Returns whether the queue is empty.
        Raises ``ConnectionClosed``.
        """
        if self._flush_pending:
            self._flush_now()
            if self.destroyed:
                raise self._closed_error()
            return not self._queue
        self._watch_writable()
        return False

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        """Send two pieces in one system call, without a copy.

        Otherwise as :meth:`_send`.
        """
        if self._queue or not hasattr(self._raw, 'sendmsg') or self._send_broken or self.destroyed:
            self._send(head)
            return self._send(body)
        try:
            sent = self._raw.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._on_send_error(error)
            raise self._closed_error() from error
        self._last_activity = monotonic()
        self.bytes_written += sent
        if sent < len(head):
            self._send(head[sent:])
            return self._send(body)
        rest = memoryview(body)[sent - len(head) :]
        return not rest or self._send(rest)

    def _send_pieces(self, pieces: list[bytes | memoryview], size: int) -> bool:
        """Send pieces in one system call, without a copy of large ones.

        Otherwise as :meth:`_send`.

        :param pieces: their bytes must never change.
        :param size: the bytes of all of them.
        """
        count = len(pieces)
        joined = size < count * JOINED_PIECE or count > MAX_PIECES
        if joined or self._send_broken or not hasattr(self._raw, 'sendmsg'):
            return self._send(b''.join(pieces))
        if self.destroyed:
            raise self._closed_error()
        sent = 0
        if not self._queue:
            try:
                sent = self._raw.sendmsg(pieces)
            except BlockingIOError:
                pass
            except OSError as error:
                self._on_send_error(error)
                raise self._closed_error() from error
            self._last_activity = monotonic()
        self.bytes_written += size
        if sent == size:
            return True
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
            else:
                self._enqueue(memoryview(piece)[sent:] if sent else piece, None)
                sent = 0
        return self._begin_queue()

    def _send_later(self, data: bytes) -> None:
        """Send ``data`` at the end of this turn of the loop.

        If other data is sent before that, both are sent together. Raises ``ConnectionClosed``.
        """
        if self.destroyed:
            raise self._closed_error()
        self.bytes_written += len(data)
        # the protocol counts from here how long the connection is inactive
        self._last_activity = monotonic()
        self._enqueue(data, None)
        if not self._flush_pending:
            self._flush_pending = True
            self._hub.loop.run_callback(self._flush_now)

    def _flush_now(self) -> None:
        """Send the data of :meth:`_send_later`."""
        if self._flush_pending:
            self._flush_pending = False
            if self._queue:
                self._on_writable()

    def _when_flushed(self, callback: Callback) -> None:
        """Call ``callback`` in a greenlet when the queued data is sent."""
        if self.writable_ended and not self._queue and not self.destroyed:
            # all of it was sent, and after the FIN even an empty chunk would fail
            gevent.spawn(callback)
            return
        self._enqueue(b'', callback)
        self._watch_writable()

    @property
    def _has_queued(self) -> bool:
        """Whether data is queued."""
        return bool(self._queue)

    @property
    def _unsent_since(self) -> float:
        """Since when (monotonic) the kernel has taken nothing of the queued data.

        A peer that sends and never receives does not change it, unlike the time of the last traffic.
        """
        watcher = self._write_watcher
        # data that is sent at the end of this turn of the loop is not waited for yet
        return self._last_activity if watcher is None or not watcher.active else self._last_sent

    def _has_progress(self) -> bool:
        """Send queued data now, and return whether the kernel takes any.

        The kernel reports a socket as writable when a third of its buffer is free (Linux). A peer that receives slowly
        can take minutes for that.
        """
        before = self._last_sent
        if self._queue and not self.destroyed:
            self._on_writable()
        return self._last_sent != before and not self.destroyed

    def _sendfile(self, fileno: int, offset: int, count: int) -> Iterator[int]:
        """Let the kernel send ``count`` bytes of a file, from ``offset`` on.

        Yields the size of each slice that it has sent, before anything else can run. Their sum is less than ``count``
        if the file ends before, or if sendfile(2) cannot send a file of its kind. Blocks until the kernel has taken a
        slice, and lets other greenlets run in between. Raises ``ConnectionClosed``.
        """
        sent = 0
        turn = Turn()
        while sent < count:
            if self._queue:
                self._wait_until_sent()
            self._check_writable()
            descriptor = self._raw.fileno()
            if descriptor < 0:
                # a connection in memory
                break
            try:
                size = os.sendfile(descriptor, fileno, offset + sent, min(count - sent, FILE_SLICE))
            except BlockingIOError:
                self._enqueue(b'', None)
                self._watch_writable()
                continue
            except OSError as error:
                if error.errno in UNSENDABLE:
                    break
                self._on_send_error(error)
                raise self._closed_error() from error
            if not size:
                break
            sent += size
            self._last_activity = monotonic()
            self.bytes_written += size
            yield size
            turn.give_way()

    def _wait_until_sent(self) -> None:
        """Block until the queue is empty."""
        if self._drained is None:
            self._drained = Event()
        while self._queue and not self.destroyed:
            self._drained.clear()
            self._drained.wait()

    def _end_nowait(self) -> None:
        """End this side as ``end()`` does, from the hub."""
        if not self.writable_ended and not self.destroyed:
            self.writable_ended = True
            self.writable_corked = 0
            callbacks = self._send_queued()
            if callbacks is None:
                return
            if callbacks or self._listeners:
                gevent.spawn(self._run_callbacks, callbacks)
            elif not self._queue:
                self._on_queue_empty()

    # -- the queue ----------------------------------------------------------------------------------------------------

    def _watch_writable(self) -> None:
        """Let the loop call :meth:`_on_writable` when the kernel takes more."""
        if self._raw is None or self.destroyed:
            return
        if self._write_watcher is None:
            self._write_watcher = self._new_watcher(WRITE)
        if not self._write_watcher.active:
            self._last_sent = monotonic()
            self._write_watcher.start(self._on_writable)

    def _on_writable(self) -> None:
        """Send queued data. Runs in the hub."""
        callbacks = self._send_queued()
        if callbacks is None:
            return
        if callbacks or (not self._queue and (self.writable_ended or self.writable_need_drain)):
            gevent.spawn(self._run_callbacks, callbacks)
        if not self._queue and self._protocol is not None:
            self._protocol.queue_drained()

    def _send_queued(self) -> list[Callback] | None:
        """Send queued data; return the callbacks of the sent chunks.

        It is None if the connection broke.
        """
        queue = self._queue
        callbacks: list[Callback] = []
        while queue and not self.writable_corked:
            try:
                sent = self._send_some(queue)
            except BlockingIOError:
                self._watch_writable()
                return callbacks
            except OSError as error:
                self._on_send_error(error)
                return None
            self._last_activity = self._last_sent = monotonic()
            self._dequeue(queue, sent, callbacks)
        if self._write_watcher is not None:
            self._write_watcher.stop()
        if not queue and self.writable_ended and not self.connecting:
            self._shut_down()
        return callbacks

    def _dequeue(self, queue: Any, sent: int, callbacks: list[Callback]) -> None:
        """Remove ``sent`` bytes from the queue.

        The callbacks of complete chunks are added to ``callbacks``.
        """
        self._sent(sent)
        while queue and sent >= len(queue[0][0]):
            data, callback = queue.popleft()
            sent -= len(data)
            if callback is not None:
                callbacks.append(callback)
        if sent:
            data, callback = queue[0]
            queue[0] = memoryview(data)[sent:], callback

    def _send_some(self, queue: Any) -> int:
        """Send the first queued chunks; return the number of bytes."""
        if len(queue) == 1 or self._raw is None:
            return self._sender.send(queue[0][0])
        if not hasattr(self._raw, 'sendmsg'):
            return self._sender.send(b''.join(data for data, _ in islice(queue, MAX_VECTORS)))
        sent: int = self._raw.sendmsg([data for data, _ in islice(queue, MAX_VECTORS)])
        return sent

    def _run_callbacks(self, callbacks: list[Callback]) -> None:
        """Call ``callbacks``, and emit the events of an empty queue.

        Runs in a greenlet.
        """
        for callback in callbacks:
            callback()
        if not self._queue:
            self._on_queue_empty()

    def _shut_down(self) -> None:
        """Send the FIN of this side."""
        if self._raw is not None and not self.destroyed:
            # the peer can have closed the connection before: receiving reports that
            with contextlib.suppress(OSError):
                self._raw.shutdown(stdlib.SHUT_WR)
                if self._resetting:
                    # the kernel is to deliver the data that it holds
                    self._resetting = False
                    self._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, LINGER_OFF)

    # -- the timeout --------------------------------------------------------------------------------------------------

    def set_timeout(self: Self, seconds: float | None, callback: Callable[..., object] | None = None) -> Self:
        """Emit ``'timeout'`` after ``seconds`` without traffic, and return the socket.

        The event is emitted at most half a second late and never early, once until there is traffic again. The socket
        is not closed: a listener can destroy it.

        :param seconds: 0 or None: never.
        :param callback: a one-time listener for ``'timeout'``.

        Raises ``ValueError`` for a negative or infinite number.
        """
        if seconds is not None and not (isfinite(seconds) and seconds >= 0):
            raise ValueError(f'a timeout must be a finite number of seconds from 0, not {seconds!r}')
        self._check_thread()
        if callback is not None and seconds:
            self.once('timeout', callback)
        self.timeout = seconds or None
        if self.destroyed:
            return self
        if self.timeout is None:
            self._expires = NEVER
            deadlines(self._hub).forget(self)
        else:
            self._last_activity = monotonic()
            self._expires = self._last_activity + self.timeout
            deadlines(self._hub).watch(self)
        return self

    def _on_deadline(self, now: float) -> None:
        """Emit ``'timeout'``, unless there was traffic; see :class:`geventnode.net.deadlines.HasDeadline`."""
        assert self.timeout is not None
        due = self._last_activity + self.timeout
        if due > now:
            self._expires = due
        elif deadlines(self._hub).grants_grace(self, now):
            self._expires = now
        else:
            self._expires = now + self.timeout
            if self._timed_out != self._last_activity:
                self._timed_out = self._last_activity
                gevent.spawn(self._emit_timeout)

    def _emit_timeout(self) -> None:
        if not self.destroyed:
            self.emit('timeout')

    # -- settings -----------------------------------------------------------------------------------------------------

    def set_no_delay(self: Self, no_delay: bool = True) -> Self:
        """Set TCP_NODELAY (RFC 9293, section 3.7.4), and return the socket. Unlike in Node, it is set by default."""
        self._check_thread()
        self._no_delay = int(no_delay)
        if self._raw is not None and not self.destroyed and self._family != unix_family:
            self._raw.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY, self._no_delay)
        return self

    def set_keep_alive(self: Self, enable: bool = False, initial_delay: float = 0) -> Self:
        """Set SO_KEEPALIVE, and return the socket: the kernel then probes an inactive peer.

        :param initial_delay: seconds without traffic before the first probe; 0: the system's number.
        """
        self._check_thread()
        if self._raw is None:
            self._keep_alive = enable, initial_delay
        elif not self.destroyed:
            self._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE, int(enable))
            if enable and initial_delay and KEEP_IDLE is not None and self._family != unix_family:
                self._raw.setsockopt(stdlib.IPPROTO_TCP, KEEP_IDLE, max(1, round(initial_delay)))
        return self

    def ref(self: Self) -> Self:
        """Let the socket keep the loop alive; return the socket.

        This is the default.
        """
        return self._set_ref(True)

    def unref(self: Self) -> Self:
        """Let the loop end before the socket, and return the socket."""
        return self._set_ref(False)

    def _set_ref(self: Self, ref: bool) -> Self:
        self._check_thread()
        self._unref = not ref
        for watcher in (self._read_watcher, self._write_watcher):
            if watcher is not None:
                watcher.ref = ref
        return self

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def had_error(self) -> bool:
        """Whether an error ended the connection."""
        return self._error is not None

    @property
    def pending(self) -> bool:
        """Whether there is no connection yet."""
        return self._raw is None

    @property
    def buffer_size(self) -> int:
        """Bytes that are queued: ``writable_length`` under the name that Node's ``net.Socket`` has for it."""
        return self.writable_length

    def address(self) -> dict[str, Any] | Any:
        """Return the local address; None unless connected.

        It is a dict with ``'address'``, ``'family'`` and ``'port'``, or the path of a Unix socket.
        """
        if self._raw is None or self.destroyed:
            return None
        return describe(self._family, self._raw.getsockname())

    @property
    def remote_address(self) -> str | None:
        """The IP address of the peer.

        If a trusted proxy has sent a PROXY header, it is the address of the client that the header names. It is None
        for Unix sockets, and before there is a connection.
        """
        return self._peer[0] if isinstance(self._peer, tuple) else None

    @property
    def remote_port(self) -> int | None:
        """The peer's port; None where :attr:`remote_address` is."""
        return self._peer[1] if isinstance(self._peer, tuple) else None

    @property
    def remote_family(self) -> str | None:
        """``'IPv4'``, ``'IPv6'`` or ``'Unix'``; None before there is a connection."""
        if self._raw is None:
            return None
        address = self.remote_address
        return 'Unix' if address is None else 'IPv6' if ':' in address else 'IPv4'

    @property
    def local_address(self) -> str | None:
        """The local IP address."""
        address = self.address()
        return address['address'] if isinstance(address, dict) else None

    @property
    def local_port(self) -> int | None:
        """The local port; None where :attr:`local_address` is."""
        address = self.address()
        return address['port'] if isinstance(address, dict) else None

    # -- the end ------------------------------------------------------------------------------------------------------

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        """Close the connection at once, and return the socket; ``'close'`` follows.

        Queued data is dropped, buffered input too unless there is an error. Waiting readers and writers get
        ``ConnectionClosed``. A second call has no effect.

        :param error: the reason, which is emitted as ``'error'`` if there is a listener for it.
        """
        self._check_thread()
        if self._flush_pending:
            self._flush_pending = False
            # the caller of _send_later counts its data as sent; a failure here must not replace ``error``
            with contextlib.suppress(OSError):
                while self._queue:
                    self._dequeue(self._queue, self._send_some(self._queue), [])
        return super().destroy(error)

    def _on_socket_error(self, error: BaseException) -> None:
        """Destroy the socket after an error of the kernel.

        Buffered input can still be read.
        """
        # with its traceback it would keep the frame that caught it, and that frame this socket
        self.destroy(error.with_traceback(None))

    def _on_send_error(self, error: BaseException) -> None:
        """Stop sending, or destroy the socket, after an error."""
        if self._protocol is not None and self._protocol.send_failed(error):
            self._stop_sending()
        else:
            self._on_socket_error(error)

    def _stop_sending(self) -> None:
        """Drop queued data, and refuse data from now on; go on receiving."""
        self._send_broken = True
        self._sender = _Destroyed()
        self._queue = None
        self.writable_length = 0
        self._wake_writers()

    def _reset_unless_ended(self) -> None:
        """Reset the connection at its end, unless this side is ended first.

        The kernel does so even if the process dies. It is for a body that ends with the connection: the FIN of
        ``destroy()`` would declare it complete.
        """
        if self._raw is not None and not self.destroyed:
            self._resetting = True
            # the peer can have closed the connection before: receiving reports that
            with contextlib.suppress(OSError):
                self._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, LINGER_RESET)

    def _on_end(self) -> None:
        """End this side, too, unless half-open connections are allowed.

        Called after ``'end'``.
        """
        if self.writable_finished:
            self.destroy()
        elif not self.allow_half_open:
            self.end()

    def _finalize(self) -> None:
        if self.readable_ended:
            self.destroy()

    def _destroy(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
            self.connecting = False
        self._close_raw()
        if self._error is None:
            self._received = None
            self._received_size = 0
        if self._reader is not None:
            self._hub.loop.run_callback(self._wake_reader)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(self._error)
        if self._owner is not None:
            self._owner._on_destroyed(self)

    def _close_raw(self) -> None:
        """Close the raw socket and the watchers."""
        self._sender = _Destroyed()
        for watcher in (self._read_watcher, self._write_watcher):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        if self._raw is not None:
            self._raw.close()
        if self.timeout is not None:
            deadlines(self._hub).forget(self)

    def _closed_error(self) -> Exception:
        return self._error if isinstance(self._error, InheritedConnection) else super()._closed_error()

    def _emit_close(self, error: BaseException | None) -> None:
        if error is not None and self.listener_count('error'):
            self._emit_error(error)
        self.emit('close', error is not None)

    # -- giving the connection away -----------------------------------------------------------------------------------

    def _detach(self) -> tuple[Any, Any, bytes]:
        """Give the connection away, and close this object.

        Returns the raw socket, the peer's address and the unread input. Raises ``ConnectionClosed``, and
        ``RuntimeError`` while data is queued.
        """
        if self._raw is None or self.destroyed:
            raise self._closed_error()
        if self.writable_length:
            raise RuntimeError('this Socket has not sent everything yet')
        received = b''
        while self._read_buffer:
            received += self._read_buffer.take(-1)
        received += self._take_input()
        raw = self._take_raw()
        self.destroy()
        return raw, self._peer, received

    def _take_raw(self) -> Any:
        """Move the descriptor to another raw socket, and return that."""
        return take_raw(self._raw)

    def _duplicate(self) -> Any:
        """Return another ``_socket.socket`` of the same connection, None for one in memory."""
        raw = self._raw
        descriptor = raw.fileno()
        return None if descriptor < 0 else _socket.socket(raw.family, raw.type, raw.proto, os.dup(descriptor))

    # -- forks and threads --------------------------------------------------------------------------------------------

    def _after_fork_in_child(self) -> None:
        """Close the child's descriptor; readers, writers and listeners get an error.

        See :class:`geventnode.net.forks.Forkable`.
        """
        if self.destroyed:
            return
        if is_alive(self._hub):
            self._close_inherited()
            self.destroy(inherited_error())
        else:
            self._discard_after_fork()

    def _discard_after_fork(self) -> None:
        """Close the child's descriptor without an event: the connection belongs to the parent process."""
        self._listeners = None
        self._close_inherited()
        self.destroyed = True
        self._destroy()
        self._error = inherited_error()
        self._wake_writers()

    def _on_thread_exit(self) -> None:
        """See :class:`geventnode.net.threads.ThreadBound`."""
        self.destroy()

    def _close_descriptors(self) -> None:
        """See :class:`geventnode.net.threads.ThreadBound`."""
        self.destroyed = True
        self._close_inherited()

    def _close_inherited(self) -> None:
        self._queue = None
        self.writable_length = 0
        self._flush_pending = False
        if self._raw is not None:
            # before its watchers are stopped: see geventnode.net.forks
            self._raw.close()


def _ended_by_peer() -> ConnectionClosed:
    return ConnectionClosed('this socket has been ended by the other party')


def connect(
    port: Any,
    host: str | None = None,
    callback: Callable[..., object] | None = None,
    *,
    local_address: str | None = None,
    family: int = 0,
    local_port: int | None = None,
    lookup: Lookup | None = None,
    allow_half_open: bool = False,
    high_water_mark: int = DEFAULT_HIGH_WATER_MARK,
) -> Socket:
    """Return a new :class:`Socket` that connects; ``'connect'`` or ``'error'`` follows.

    :param port: a port, or the path of a Unix socket.
    :param host: a host name or an IP address. ``'localhost'``.
    :param callback: a one-time listener for ``'connect'``.
    :param local_address: the IP address to connect from; the kernel's choice, unless given.
    :param family: ``socket.AF_INET`` or ``socket.AF_INET6`` for one kind of address; 0: both.
    :param local_port: as of :meth:`Socket.connect`.
    :param lookup: as of :meth:`Socket.connect`.
    :param allow_half_open: as of :class:`Socket`.
    :param high_water_mark: bytes, as of :class:`Socket`.

    Raises ``TypeError`` if host and port were swapped, and ``ValueError`` for a port outside 0 to 65535.
    """
    socket = Socket(allow_half_open=allow_half_open, high_water_mark=high_water_mark)
    return socket.connect(
        port, host, callback, local_address=local_address, family=family, local_port=local_port, lookup=lookup
    )
