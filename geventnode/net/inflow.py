"""The reading side of a connection.

One read watcher; its callback, in the hub, receives once and hands the bytes to the sink, when there is one (an HTTP
connection, TLS), or keeps them and wakes the greenlet that waits for them. Past the mark the watcher stops, and
consumption starts it again. Nobody reads: no greenlet. Who reads a lot may take what follows without waiting for the
hub, but not for long.
"""

from __future__ import annotations

import select
import socket as stdlib
from abc import abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent import getcurrent
from gevent.monkey import get_original

from geventnode.net.handle import Handle
from geventnode.stream.pump import Pump
from geventnode.stream.readable import Mode

__all__ = ['Inflow', 'SocketProtocol']

#: Bytes asked for at once. What a short request leaves of more would have to be given back to the system.
RECEIVE_SIZE = 65536

#: After so many bytes at once there are likely to be more: so often, and so many at once, they are received without
#: asking the loop again. That takes about 0.15 ms, at the 2.5 GiB a second that were measured, and all others wait.
PLENTY, IN_A_ROW, MORE_SIZE = RECEIVE_SIZE // 2, 3, 131072

#: The kernel's poll, which a patched ``select`` replaces by one that waits for the loop; Windows has none.
make_poll: Callable[[], Any] | None = get_original('select', 'poll') if hasattr(select, 'poll') else None

#: ``select.POLLIN``, which is the same number everywhere.
POLLIN = 1


class SocketProtocol(Protocol):
    """Takes a socket's input in place of its readable side. Everything here runs in the hub and never switches."""

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""

    def eof_received(self) -> None:
        """The peer has ended its side."""

    @abstractmethod
    def send_failed(self, error: BaseException) -> bool:
        """Nothing more can be sent: return whether to go on receiving all the same; the socket is destroyed
        otherwise."""

    def connection_lost(self, error: BaseException | None) -> None:
        """The socket was destroyed."""

    def queue_drained(self) -> None:
        """Everything that was queued for writing went to the kernel."""


class Inflow(Handle):
    """A socket that is read: as a stream, or by a sink."""

    bytes_read: int = 0

    _protocol: SocketProtocol | None = None
    _input: list[bytes] | None = None
    _input_size: int = 0
    _eof: bool = False
    _reader: Any = None
    #: See :meth:`_has_input`; made by its first call.
    _poll: Callable[[int], object] | None = None
    #: How often :meth:`_receive_more` may receive before the loop is asked again.
    _more: int = 0

    def _set_protocol(self, protocol: SocketProtocol | None) -> None:
        """Hand the input to ``protocol`` from now on, with what has come already; None: read it as a stream again."""
        self._protocol = protocol
        if protocol is not None and self._input:
            protocol.data_received(self._take_input())
        if protocol is not None and self._eof:
            protocol.eof_received()

    def _restore_input(self, data: bytes) -> None:
        """Keep ``data``, which a sink has taken and has no use for, for whoever comes next."""
        if data:
            self._input = [data]
            self._input_size = len(data)

    def _take_input(self) -> bytes:
        """Return what waits for a reader, and keep it no longer."""
        data = b''.join(self._input or ())
        self._input = None
        self._input_size = 0
        return data

    @property
    def _did_read(self) -> bool:
        """Whether somebody has begun to consume the stream."""
        return self._mode is not Mode.UNUSED

    # -- run by the hub -------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data = self._try_recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        self._last_activity = monotonic()
        protocol = self._protocol
        if data:
            size = len(data)
            self.bytes_read += size
            if size >= PLENTY:
                self._more = IN_A_ROW
            if protocol is not None:
                protocol.data_received(data)
            else:
                self._store(data)
            return
        self._end_of_input()

    def _receive_more(self) -> bytes:
        """Return what has come since the loop has told, for a reader who has consumed the rest; ``b''`` when it is the
        loop's turn."""
        if not self._more:
            return b''
        self._more -= 1
        return self._receive_now()

    def _receive_now(self) -> bytes:
        """Return the bytes that the kernel has, without the loop; ``b''`` for none."""
        if self._eof or self.destroyed:
            return b''
        try:
            data = self._try_recv(MORE_SIZE)
        except BlockingIOError:
            data = b''
        except OSError as error:
            self._have_told(error)
            data = b''
        size = len(data)
        if size < PLENTY:
            # the end of the input, too, is for the loop to tell
            self._more = 0
        if size:
            self._last_activity = monotonic()
            self.bytes_read += size
        return data

    def _have_told(self, error: OSError) -> None:
        """Let the hub hear of ``error``, as of everything that ends a connection, before any reader does."""

        def receive(size: int) -> bytes:
            # the kernel tells it once, and of the end of the input, which would look clean, from then on
            raise error

        self._try_recv = receive
        self._hub.loop.run_callback(self._on_readable)

    def _end_of_input(self) -> None:
        self._eof = True
        self._read_watcher.stop()
        protocol = self._protocol
        if protocol is not None:
            protocol.eof_received()
        elif self._reader is not None:
            self._reader.switch()
        elif not self._input and not self._read_buffer and self._mode is not Mode.FLOWING:
            gevent.spawn(self._emit_end)

    def _store(self, data: bytes) -> None:
        if self._input is None:
            self._input = []
        self._input.append(data)
        self._input_size += len(data)
        if self._input_size >= self.readable_high_water_mark:
            self._read_watcher.stop()
        if self._reader is not None:
            self._reader.switch()

    def _has_input(self) -> bool:
        """Return whether input of the peer waits in the kernel: bytes, its FIN, or an error."""
        return bool((self._poll or self._prepare_poll())(0))

    def _prepare_poll(self) -> Callable[[int], object]:
        """Keep, and return, a function whose result is true if input waits.

        ``poll`` reports "nothing" as a result; ``recv`` with MSG_PEEK raises for it, which takes three times as long.
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

    # -- reading --------------------------------------------------------------------------------------------------

    def _pause_reading(self) -> None:
        """Receive no more for now; a disconnect is not seen meanwhile."""
        if self._read_watcher is not None:
            self._read_watcher.stop()

    def _resume_reading(self) -> None:
        """Receive again."""
        watcher = self._read_watcher
        if watcher is not None and not watcher.active and not self._eof and not self.destroyed:
            self._start_reading()

    def _fetch(self) -> bytes:
        self._check_thread()
        while not self._input:
            if self.destroyed and (self._error is None or not self._eof):
                # given up, maybe with input that nobody has read
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
        data = self._input[0] if len(self._input) == 1 else b''.join(self._input)
        self._input.clear()
        self._input_size = 0
        self._resume_reading()
        return data

    def _at_end(self) -> bool:
        return self._eof and not self._input and not self.destroyed

    def _set_mode(self, mode: Mode) -> Pump:
        self._check_thread()
        return super()._set_mode(mode)

    @property
    def readable_length(self) -> int:
        return super().readable_length + self._input_size

    def _wake_reader(self) -> None:
        # it may have left meanwhile
        if self._reader is not None:
            self._reader.switch()
