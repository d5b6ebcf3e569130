"""A duplex stream over a non-blocking socket, driven by watchers that live as long as it does.

The raw socket with its settings is the :class:`~geventnode.net.handle.Handle`; reading and writing are each a layer on
top of it; here they become one stream that can be connected, ended and destroyed. Listeners never run in the hub: what
a callback finds is emitted from a greenlet.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable
from typing import Any, ClassVar

from zope.interface import implementer

from geventnode.errors import ConnectionClosed, InheritedConnection
from geventnode.interfaces import ISocket
from geventnode.net.address import check_connect
from geventnode.net.connecting import Connecting
from geventnode.net.forks import inherited_error, register_connection
from geventnode.net.inflow import Inflow
from geventnode.net.outflow import Outflow
from geventnode.net.threads import is_alive
from geventnode.stream.chunks import as_bytes
from geventnode.stream.duplex import DuplexBase
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from geventnode.stream.writable import Callback

__all__ = ['Socket', 'connect']


@implementer(ISocket)
class Socket(Inflow, Outflow):
    """See :class:`geventnode.interfaces.ISocket`.

    :param handle: a connected socket object, which this one takes over; without it, call :meth:`connect`.
    :param allow_half_open: whether our side stays open when the peer ends its own.
    :param high_water_mark: bytes buffered or queued before reading stops, or writers wait.
    """

    events: ClassVar[frozenset[str]] = DuplexBase.events | {'connect', 'timeout', 'agentRemove'}

    allow_half_open: bool = False
    encrypted: bool = False
    handshaking: bool = False
    #: Whether the peer's data has an end that anybody could have made.
    truncated: bool = False
    #: Called with the socket, in the hub or a greenlet, when it was destroyed.
    _on_destroyed: Callable[[Socket], object] | None = None

    _connecting: Connecting | None = None

    def __init__(
        self, handle: Any = None, *, allow_half_open: bool = False, high_water_mark: int = DEFAULT_HIGH_WATER_MARK
    ) -> None:
        super().__init__()
        if allow_half_open:
            self.allow_half_open = True
        if high_water_mark != DEFAULT_HIGH_WATER_MARK:
            self.readable_high_water_mark = self.writable_high_water_mark = high_water_mark
        if handle is not None:
            peer = handle.getpeername()
            register_connection(self, self._hub)
            self._attach(_socket.socket(handle.family, handle.type, handle.proto, handle.detach()), peer)

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Callback | None = None) -> bool:
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

    def _send_failed(self, error: BaseException) -> None:
        if self._protocol is not None and self._protocol.send_failed(error):
            self._stop_sending()
        else:
            super()._send_failed(error)

    def _queue_drained(self) -> None:
        if self._protocol is not None:
            self._protocol.queue_drained()

    def _poll_now(self) -> bool:
        """See :class:`geventnode.net.deadlines.Pollable`."""
        if self._raw is None or self.destroyed:
            return False
        before = self._last_activity
        if self._queue:
            self._on_writable()
        return self._last_activity != before or (
            not self.destroyed and bool(self._read_watcher.active) and self._peek()
        )

    # -- connecting -----------------------------------------------------------------------------------------------

    def connect(
        self,
        port: Any,
        host: str | None = None,
        callback: Callable[..., object] | None = None,
        *,
        local_address: str | None = None,
        family: int = 0,
    ) -> Socket:
        self._check_thread()
        if self.destroyed:
            raise self._closed_error()
        if self._raw is not None or self.connecting:
            raise RuntimeError('this Socket is connected or connecting already')
        check_connect(port, host)
        if callback is not None:
            self.once('connect', callback)
        self.connecting = True
        register_connection(self, self._hub)
        self._connecting = Connecting(self, port, host, local_address, family)
        return self

    def _on_connected(self, raw: Any, peer: Any) -> None:
        """Called by :class:`~geventnode.net.connecting.Connecting`, in its greenlet, when there is a connection."""
        if self.destroyed:
            # it was given up in the very turn of the loop in which it came about
            raw.close()
            return
        self.connecting = False
        self._connecting = None
        self._attach(raw, peer)
        self.emit('connect')
        if not self.destroyed:
            callbacks = self._transmit()
            if callbacks is not None:
                self._settle_with(callbacks)

    def wait_connected(self, timeout: float | None = None) -> Socket:
        self._check_thread()
        connecting = self._connecting
        if connecting is not None:
            connecting.wait(timeout)
        if self.destroyed:
            raise self._error or self._closed_error()
        return self

    # -- the end --------------------------------------------------------------------------------------------------

    def _on_end(self) -> None:
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
        self._release()
        if self._error is None:
            self._input = None
            self._input_size = 0
        if self._reader is not None:
            self._hub.loop.run_callback(self._wake_reader)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(self._error)
        if self._on_destroyed is not None:
            self._on_destroyed(self)

    def _detach(self) -> tuple[Any, Any, bytes]:
        """Give the connection away: return the raw socket, the peer's address and what was received and not read; this
        object is closed. Raises ``ConnectionClosed``, and ``RuntimeError`` while something is queued.
        """
        if self._raw is None or self.destroyed:
            raise self._closed_error()
        if self.writable_length:
            raise RuntimeError('this Socket has not sent everything yet')
        received = b''
        while self._read_buffer:
            received += self._read_buffer.take(-1)
        received += self._take_input()
        raw = _socket.socket(self._raw.family, self._raw.type, self._raw.proto, self._raw.detach())
        self.destroy()
        return raw, self._peer, received

    def _discard_after_fork(self) -> None:
        """Let go without a word to the peer or to listeners: the connection is the parent process's."""
        self._listeners = None
        self._close_inherited()
        self.destroyed = True
        self._destroy()
        self._error = inherited_error()
        self._wake_writers()

    def _after_fork_in_child(self) -> None:
        """See :class:`geventnode.net.forks.Forkable`: readers, writers and listeners get an error."""
        if self.destroyed:
            return
        if is_alive(self._hub):
            self._close_inherited()
            self.destroy(inherited_error())
        else:
            self._discard_after_fork()

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

    def _closed_error(self) -> Exception:
        return self._error if isinstance(self._error, InheritedConnection) else super()._closed_error()

    def _emit_close(self, error: BaseException | None) -> None:
        if error is not None and self.listener_count('error'):
            self._report_error(error)
        self.emit('close', error is not None)

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


def _ended_by_peer() -> ConnectionClosed:
    return ConnectionClosed('this socket has been ended by the other party')


def connect(
    port: Any, host: str | None = None, callback: Callable[..., object] | None = None, **options: Any
) -> Socket:
    """Return a :class:`Socket` that connects to ``port`` on ``host`` ('localhost'), or to the Unix socket at a path.

    ``callback`` is a one-time ``'connect'`` listener; ``local_address`` and ``family`` say from where, other options
    are those of :class:`Socket`. Never switches: reads, writes and ``wait_connected`` wait, ``'connect'`` or
    ``'error'`` follows.
    """
    where = {name: options.pop(name) for name in ('local_address', 'family') if name in options}
    return Socket(**options).connect(port, host, callback, **where)
