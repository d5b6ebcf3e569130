"""The kernel's side of a connection: the raw socket, its two watchers, its addresses, settings and timeout."""

from __future__ import annotations

import _socket
import contextlib
import os
import socket as stdlib
import struct
from collections.abc import Callable
from math import isfinite
from time import monotonic
from typing import Any, NoReturn, TypeVar

import gevent
from gevent import get_hub

from geventnode.errors import ConnectionClosed
from geventnode.net.address import describe, unix_family
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.threads import wrong_thread_error
from geventnode.protocol import ProxyHeader
from geventnode.stream.duplex import DuplexBase

__all__ = ['ENDING', 'READ', 'RESETTING', 'WRITE', 'Handle']

READ, WRITE = 1, 2

#: The module of a loop that stops to watch a descriptor with an error, also when there is input in front of that.
LIBUV = 'gevent.libuv.loop'

#: ``struct linger`` (socket(7)): whether, and for how many seconds; with none, closing resets the connection.
RESETTING, ENDING = struct.pack('ii', 1, 0), struct.pack('ii', 0, 0)

#: The option for the seconds before the first probe: tcp(7); macOS has another name for it.
KEEP_IDLE: int | None = getattr(stdlib, 'TCP_KEEPIDLE', getattr(stdlib, 'TCP_KEEPALIVE', None))

Self = TypeVar('Self', bound='Handle')


def _not_connected(data: Any) -> NoReturn:
    raise BlockingIOError('not connected yet')


def _gone(data: Any) -> NoReturn:
    raise ConnectionClosed('this Socket was destroyed')


class Handle(DuplexBase):
    """What reading and writing share."""

    timeout: float | None = None
    _expires: float = NEVER

    proxy_address: str | None = None
    proxy_header: ProxyHeader | None = None

    _raw: Any = None
    _family: int = 0
    #: As the kernel gave it: a tuple that begins with an IP address and a port, or the path of a Unix socket.
    _peer: Any = None
    _read_watcher: Any = None
    _write_watcher: Any = None
    _try_send: Callable[[Any], int] = staticmethod(_not_connected)
    _try_recv: Callable[[int], bytes]
    #: Whether the peer takes nothing any more, though it may still be heard.
    _send_broken: bool = False

    #: Whether destroying resets the connection.
    _resetting: bool = False

    #: TCP_NODELAY, and the arguments of :meth:`set_keep_alive` for a connection that is still to be made.
    _no_delay: int = 1
    _keep_alive: tuple[bool, float] | None = None

    _timed_out: float = -1
    _unref: bool = False

    def __init__(self) -> None:
        self._hub = get_hub()
        #: The monotonic time of the last traffic.
        self._last_activity = monotonic()

    def _check_thread(self) -> None:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)

    def _attach(self, raw: Any, peer: Any) -> None:
        """Take over ``raw``, a _on_connected ``_socket.socket``, and begin to read. For servers and TLS."""
        raw.setblocking(False)
        self._raw = raw
        self._family = raw.family
        self._peer = peer
        self._try_recv = raw.recv
        self._try_send = raw.send
        self._last_activity = monotonic()
        if raw.family != unix_family:
            raw.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY, self._no_delay)
        if self._keep_alive is not None:
            self.set_keep_alive(*self._keep_alive)
        self._read_watcher = self._watch(READ)
        self._start_reading()

    def _start_reading(self) -> None:
        """Let the loop call :meth:`_on_readable` from now on."""
        rearms = type(self._hub.loop).__module__ == LIBUV
        self._read_watcher.start(self._on_readable_once if rearms else self._on_readable)

    def _on_readable_once(self) -> None:
        """There is something to receive, on libuv, which watches no longer if an error, such as a reset, follows it."""
        self._on_readable()
        watcher = self._read_watcher
        if not self.destroyed and watcher.active:
            watcher.stop()
            watcher.start(self._on_readable_once)

    def _watch(self, event: int) -> Any:
        """Return a watcher that tells of ``event``, READ or WRITE."""
        raw = self._raw
        # a connection in memory has no descriptor that the loop could look at
        watch = getattr(raw, 'watch', None)
        return self._hub.loop.io(raw.fileno(), event, ref=not self._unref) if watch is None else watch(event)

    def _set_client(self, header: ProxyHeader) -> None:
        """Take ``header`` for the truth about who the peer is. For servers."""
        self.proxy_header = header
        if header.source is not None:
            self.proxy_address = self.remote_address
            self._peer = header.source

    def _on_readable(self) -> None:
        """There is something to receive. Runs in the hub. Overridden by the side that reads."""

    def _on_writable(self) -> None:
        """There is room for what is queued. Runs in the hub. Overridden by the side that writes."""

    def _poll_now(self) -> bool:
        """See :class:`geventnode.net.deadlines.Pollable`. Overridden by the whole."""
        return False

    def _fail(self, error: BaseException) -> None:
        """The kernel reported ``error``. What was received before stays readable."""
        # kept with its traceback it would keep the frame that it was caught in, and that frame us
        self.destroy(error.with_traceback(None))

    def _send_failed(self, error: BaseException) -> None:
        """The kernel took nothing more, because of ``error``."""
        self._fail(error)

    def _stop_sending(self) -> None:
        """Refuse what is to be sent from now on, and drop what is queued; what comes is still received."""
        self._send_broken = True
        self._try_send = _gone
        self._queue = None
        self.writable_length = 0
        self._wake_writers()

    def _reset_unless_ended(self) -> None:
        """Let the connection end with a reset, unless our side is ended first: even if the process dies. For data that
        ends with the connection, where the FIN of ``destroy()`` would say that it is complete."""
        if self._raw is not None and not self.destroyed:
            self._resetting = True
            # the peer may have been faster: reading will say so
            with contextlib.suppress(OSError):
                self._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, RESETTING)

    def _duplicate(self) -> Any:
        """Return another ``_socket.socket`` of the same connection, None for one in memory."""
        raw = self._raw
        descriptor = raw.fileno()
        return None if descriptor < 0 else _socket.socket(raw.family, raw.type, raw.proto, os.dup(descriptor))

    def _release(self) -> None:
        """Give the raw socket and the watchers back."""
        self._try_send = _gone
        for watcher in (self._read_watcher, self._write_watcher):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        if self._raw is not None:
            self._raw.close()
        if self.timeout is not None:
            deadlines(self._hub).forget(self)

    # -- the timeout ----------------------------------------------------------------------------------------------

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`."""
        assert self.timeout is not None
        due = self._last_activity + self.timeout
        if due > now:
            self._expires = due
        elif deadlines(self._hub).grants_grace(self, now):
            self._expires = now
        else:
            self._expires = now + self.timeout
            if self._timed_out != self._last_activity:
                # once until there is traffic again
                self._timed_out = self._last_activity
                gevent.spawn(self._tell_timeout)

    def _tell_timeout(self) -> None:
        if not self.destroyed:
            self.emit('timeout')

    def _record_activity(self) -> None:
        """Count this moment as traffic."""
        self._last_activity = monotonic()

    # -- settings -------------------------------------------------------------------------------------------------

    def set_timeout(self: Self, seconds: float | None, callback: Callable[..., object] | None = None) -> Self:
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

    def set_no_delay(self: Self, no_delay: bool = True) -> Self:
        self._check_thread()
        self._no_delay = int(no_delay)
        if self._raw is not None and not self.destroyed and self._family != unix_family:
            self._raw.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY, self._no_delay)
        return self

    def set_keep_alive(self: Self, enable: bool = False, initial_delay: float = 0) -> Self:
        self._check_thread()
        if self._raw is None:
            self._keep_alive = enable, initial_delay
        elif not self.destroyed:
            self._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE, int(enable))
            if enable and initial_delay and KEEP_IDLE is not None and self._family != unix_family:
                self._raw.setsockopt(stdlib.IPPROTO_TCP, KEEP_IDLE, max(1, round(initial_delay)))
        return self

    def ref(self: Self) -> Self:
        return self._set_ref(True)

    def unref(self: Self) -> Self:
        return self._set_ref(False)

    def _set_ref(self: Self, ref: bool) -> Self:
        self._check_thread()
        self._unref = not ref
        for watcher in (self._read_watcher, self._write_watcher):
            if watcher is not None:
                watcher.ref = ref
        return self

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def had_error(self) -> bool:
        return self._error is not None

    @property
    def pending(self) -> bool:
        return self._raw is None

    @property
    def buffer_size(self) -> int:
        return self.writable_length

    def address(self) -> dict[str, Any] | str | None:
        if self._raw is None or self.destroyed:
            return None
        return describe(self._family, self._raw.getsockname())

    @property
    def remote_address(self) -> str | None:
        return self._peer[0] if isinstance(self._peer, tuple) else None

    @property
    def remote_port(self) -> int | None:
        return self._peer[1] if isinstance(self._peer, tuple) else None

    @property
    def remote_family(self) -> str | None:
        if self._raw is None:
            return None
        address = self.remote_address
        return 'Unix' if address is None else 'IPv6' if ':' in address else 'IPv4'

    @property
    def local_address(self) -> str | None:
        address = self.address()
        return address['address'] if isinstance(address, dict) else None

    @property
    def local_port(self) -> int | None:
        address = self.address()
        return address['port'] if isinstance(address, dict) else None
