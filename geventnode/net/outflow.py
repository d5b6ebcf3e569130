"""The writing side of a connection.

What the kernel does not take at once is queued, and a write watcher, made when first needed, moves it on. The calls
that wait for room belong to the stream; :meth:`Outflow._send` and its like never wait, and are what protocols are built
on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket as stdlib
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

import gevent
from gevent.event import Event

from geventnode.errors import ConnectionClosed
from geventnode.net.handle import ENDING, WRITE, Handle
from geventnode.stream.writable import Callback

__all__ = ['Outflow']

Self = TypeVar('Self', bound='Outflow')

#: Queued chunks that leave in one call.
GATHER = 64

#: Bytes of a file that leave in one call.
FILE_SLICE = 1048576

#: What sendfile(2) says of files that it cannot send.
UNSENDABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Outflow(Handle):
    """A socket that is written to."""

    connecting: bool = False
    bytes_written: int = 0
    #: Whether :meth:`_sendfile` may be called.
    _can_sendfile: bool = hasattr(os, 'sendfile')
    #: Whether several responses are sent in this turn of the loop, so that :meth:`_send_later` pays. The protocol sets
    #: it; as a class attribute it costs no memory on a connection that never needs it.
    _batching: bool = False
    #: Whether something is queued for the end of this turn of the loop.
    _flush_pending: bool = False

    def _send(self, data: bytes | memoryview) -> bool:
        """Send ``data`` and queue what the kernel does not take now, however much is queued; return whether it took
        everything. Raises ``ConnectionClosed``.

        Neither this nor its like look which thread they are called in: the public methods have done so, once."""
        size = len(data)
        self.bytes_written += size
        if not self._queue:
            try:
                sent = self._try_send(data)
            except BlockingIOError:
                sent = 0
            except ConnectionClosed:
                raise self._closed_error() from None
            except OSError as error:
                self._send_failed(error)
                raise self._closed_error() from error
            self._last_activity = monotonic()
            if sent == size:
                return True
            data = memoryview(data)[sent:]
        self._enqueue(data, None)
        if self._flush_pending:
            self._flush_now()
            if self.destroyed:
                raise self._closed_error()
            return not self._queue
        self._arm()
        return False

    def _send_later(self, data: bytes) -> None:
        """Queue ``data``: it leaves with what is put next, or at the end of this turn of the loop.
        Raises ``ConnectionClosed``."""
        if self.destroyed:
            raise self._closed_error()
        self.bytes_written += len(data)
        # for whoever counts from here how long nothing happens
        self._last_activity = monotonic()
        self._enqueue(data, None)
        if not self._flush_pending:
            self._flush_pending = True
            self._hub.loop.run_callback(self._flush_now)

    def _flush_now(self) -> None:
        """Send the bytes that wait for the end of the turn."""
        if self._flush_pending:
            self._flush_pending = False
            if self._queue:
                self._on_writable()

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        self._check_thread()
        if self._flush_pending:
            self._flush_pending = False
            # those who put it have been told that it is sent; why the connection ends, the caller knows best
            with contextlib.suppress(OSError):
                while self._queue:
                    self._take_off(self._queue, self._send_some(self._queue), [])
        return super().destroy(error)

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        """As :meth:`_send`, for two pieces that leave in one call without being copied together."""
        if self._queue or not hasattr(self._raw, 'sendmsg') or self._send_broken or self.destroyed:
            self._send(head)
            return self._send(body)
        try:
            sent = self._raw.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._send_failed(error)
            raise self._closed_error() from error
        self._last_activity = monotonic()
        self.bytes_written += sent
        if sent < len(head):
            self._send(head[sent:])
            return self._send(body)
        rest = memoryview(body)[sent - len(head) :]
        return not rest or self._send(rest)

    def _when_flushed(self, callback: Callback) -> None:
        """Call ``callback`` in a greenlet when everything that is queued now went to the kernel."""
        self._enqueue(b'', callback)
        self._arm()

    @property
    def _has_queued(self) -> bool:
        """Whether something waits for the kernel, if only for its turn."""
        return bool(self._queue)

    def _sendfile(self, fileno: int, offset: int, count: int) -> int:
        """Let the kernel send ``count`` bytes of a file from ``offset`` on, behind what is queued; return how many it
        has sent, less where the file ends before or is of a kind that cannot be sent so. May switch. Raises
        ``ConnectionClosed``."""
        sent = 0
        while sent < count:
            if self._queue:
                self._wait_for_turn()
            self._check_writable()
            descriptor = self._raw.fileno()
            if descriptor < 0:
                # a connection in memory
                break
            try:
                size = os.sendfile(descriptor, fileno, offset + sent, min(count - sent, FILE_SLICE))
            except BlockingIOError:
                self._enqueue(b'', None)
                self._arm()
                continue
            except OSError as error:
                if error.errno in UNSENDABLE:
                    break
                self._send_failed(error)
                raise self._closed_error() from error
            if not size:
                break
            sent += size
            self._last_activity = monotonic()
            self.bytes_written += size
        return sent

    def _wait_for_turn(self) -> None:
        """Wait until nothing is queued."""
        if self._drained is None:
            self._drained = Event()
        while self._queue and not self.destroyed:
            self._drained.clear()
            self._drained.wait()

    def _end_nowait(self) -> None:
        """As ``end()``, for callers in the hub."""
        if not self.writable_ended and not self.destroyed:
            self.writable_ended = True
            self.writable_corked = 0
            callbacks = self._transmit()
            if callbacks is None:
                return
            if callbacks or self._listeners:
                gevent.spawn(self._settle_with, callbacks)
            elif not self._queue:
                self._on_queue_empty()

    def _arm(self) -> None:
        """Be told when the kernel takes more."""
        if self._raw is None or self.destroyed:
            return
        if self._write_watcher is None:
            self._write_watcher = self._watch(WRITE)
        if not self._write_watcher.active:
            self._write_watcher.start(self._on_writable)

    def _transmit(self) -> list[Callback] | None:
        """Send what is queued; return the callbacks of what went out, None when the socket broke."""
        queue = self._queue
        callbacks: list[Callback] = []
        while queue and not self.writable_corked:
            try:
                sent = self._send_some(queue)
            except BlockingIOError:
                self._arm()
                return callbacks
            except OSError as error:
                self._send_failed(error)
                return None
            self._last_activity = monotonic()
            self._take_off(queue, sent, callbacks)
        if self._write_watcher is not None:
            self._write_watcher.stop()
        if not queue and self.writable_ended and not self.connecting:
            self._shut_down()
        return callbacks

    def _take_off(self, queue: Any, sent: int, callbacks: list[Callback]) -> None:
        """Drop what was sent from the queue, and collect the callbacks of whoever waited for that."""
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
        if len(queue) == 1 or self._raw is None:
            return self._try_send(queue[0][0])
        if not hasattr(self._raw, 'sendmsg'):
            return self._try_send(b''.join(data for data, _ in islice(queue, GATHER)))
        sent: int = self._raw.sendmsg([data for data, _ in islice(queue, GATHER)])
        return sent

    def _shut_down(self) -> None:
        """Send our FIN."""
        if self._raw is not None and not self.destroyed:
            # the peer may have been faster: reading will say so
            with contextlib.suppress(OSError):
                self._raw.shutdown(stdlib.SHUT_WR)
                if self._resetting:
                    # what the kernel still holds is to arrive
                    self._resetting = False
                    self._raw.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, ENDING)

    def _flush(self) -> None:
        if self.connecting:
            return
        callbacks = self._transmit()
        if callbacks is None:
            if not self.writable_ended:
                raise self._closed_error()
            return
        self._settle_with(callbacks)

    def _settle_with(self, callbacks: list[Callback]) -> None:
        """Run in a greenlet: tell who waited for what went out."""
        for callback in callbacks:
            callback()
        if not self._queue:
            self._on_queue_empty()

    def _on_writable(self) -> None:
        callbacks = self._transmit()
        if callbacks is None:
            return
        if callbacks or (not self._queue and (self.writable_ended or self.writable_need_drain)):
            gevent.spawn(self._settle_with, callbacks)
        if not self._queue:
            self._queue_drained()

    def _queue_drained(self) -> None:
        """Everything that was queued went to the kernel. Runs in the hub."""
