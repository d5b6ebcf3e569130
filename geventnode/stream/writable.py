"""Sinks: a queue that bounds itself by making its writers wait.

:class:`WritableBase` keeps the state, the queue and the waiting; a subclass overrides :meth:`WritableBase._flush`,
which moves the queue on. The plain :class:`Writable` does so by calling a function, one chunk at a time, in the
greenlet that wrote first; what others write meanwhile is queued behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import gevent
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import ConnectionClosed, WriteAfterEnd
from geventnode.events import EventEmitter
from geventnode.interfaces import IWritable
from geventnode.stream.chunks import as_bytes
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK

__all__ = ['Callback', 'Writable', 'WritableBase']

Callback = Callable[[], object]
Self = TypeVar('Self', bound='WritableBase')


@implementer(IWritable)
class WritableBase(EventEmitter):
    """What every writable shares; subclasses say where the chunks go."""

    events: ClassVar[frozenset[str]] = EventEmitter.events | {'drain', 'finish', 'pipe', 'unpipe', 'error', 'close'}

    writable_high_water_mark: int = DEFAULT_HIGH_WATER_MARK
    writable_ended: bool = False
    writable_finished: bool = False
    writable_length: int = 0
    writable_need_drain: bool = False
    writable_corked: int = 0
    destroyed: bool = False

    _queue: deque[tuple[bytes | memoryview, Callback | None]] | None = None
    _drained: Event | None = None
    _error: BaseException | None = None

    # -- for subclasses -------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Move the queue on as far as possible, through :meth:`_sent`, and :meth:`_on_queue_empty` when it is empty."""

    def _finalize(self) -> None:
        """Called once, when everything was sent after ``end()``, before ``'finish'``."""

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Callback | None = None) -> bool:
        self._check_thread()
        data = as_bytes(chunk, encoding)
        self._check_writable()
        if self.writable_length >= self.writable_high_water_mark:
            self._wait_for_drain()
        self._enqueue(data, callback)
        if not self.writable_corked:
            self._flush()
        if self.writable_length:
            self.writable_need_drain = True
            return False
        return True

    def end(self: Self, data: Any = None, encoding: str = 'utf-8', callback: Callback | None = None) -> Self:
        self._check_thread()
        if callback is not None:
            if self.writable_finished:
                callback()
            else:
                self.once('finish', callback)
        if data is not None:
            self._write_last(as_bytes(data, encoding))
        if not self.writable_ended:
            self.writable_ended = True
            self.writable_corked = 0
            self._flush()
        return self

    def _write_last(self, data: bytes | memoryview) -> None:
        """Take what ``end()`` was given, however much is queued: waiting would let others write."""
        self._check_writable()
        self._enqueue(data, None)

    def cork(self) -> None:
        self._check_thread()
        self.writable_corked += 1

    def uncork(self) -> None:
        self._check_thread()
        if self.writable_corked:
            self.writable_corked -= 1
            if not self.writable_corked:
                self._flush()

    def _check_writable(self) -> None:
        if self.destroyed:
            raise self._closed_error()
        if self.writable_ended:
            raise WriteAfterEnd(f'write() after end() on this {type(self).__name__}')

    def _closed_error(self) -> Exception:
        """Return what a write to a destroyed stream raises."""
        error = ConnectionClosed(f'this {type(self).__name__} was destroyed')
        error.__cause__ = self._error
        return error

    def _wait_for_drain(self) -> None:
        """Wait until the queue is below the mark. May switch. Raises ``ConnectionClosed`` when the stream goes."""
        while self.writable_length >= self.writable_high_water_mark and not self.destroyed:
            if self.writable_corked:
                self.writable_corked = 0
                self._flush()
                continue
            if self._drained is None:
                self._drained = Event()
            self._drained.clear()
            self._drained.wait()
        self._check_writable()

    # -- the queue ------------------------------------------------------------------------------------------------

    def _enqueue(self, data: bytes | memoryview, callback: Callback | None) -> None:
        if not isinstance(data, bytes) and not isinstance(data.obj, bytes):
            # its owner may change it before it is sent
            data = bytes(data)
        if self._queue is None:
            self._queue = deque()
        self._queue.append((data, callback))
        self.writable_length += len(data)

    def _sent(self, size: int) -> None:
        """Take ``size`` bytes off the length, and let writers in when there is room."""
        self.writable_length -= size
        if self._drained is not None and self.writable_length < self.writable_high_water_mark:
            self._drained.set()

    def _on_queue_empty(self) -> None:
        """The queue is empty: tell those who waited for it. Called in a greenlet; switches when listeners do."""
        if self.writable_need_drain and not self.writable_length:
            self.writable_need_drain = False
            if self.writable:
                self.emit('drain')
        if self.writable_ended and not self.writable_length and not self.writable_finished and not self.destroyed:
            self._finalize()
            self.writable_finished = True
            self.emit('finish')

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        return not self.writable_ended and not self.destroyed

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._writing_state()}>'

    def _writing_state(self) -> str:
        state = (
            'destroyed'
            if self.destroyed
            else 'finished'
            if self.writable_finished
            else 'ended'
            if self.writable_ended
            else 'corked'
            if self.writable_corked
            else 'open'
        )
        return f'{state} queued={self.writable_length}'

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        self._check_thread()
        if not self.destroyed:
            self.destroyed = True
            self._error = error
            self._queue = None
            self.writable_length = 0
            self._wake_writers()
            gevent.spawn(self._emit_close, error)
        return self

    def _wake_writers(self) -> None:
        if self._drained is not None:
            self._drained.set()

    def _emit_close(self, error: BaseException | None) -> None:
        if error is not None:
            self._emit_error(error)
        self.emit('close')


class Writable(WritableBase):
    """A sink that is a function.

    :param write: called with each chunk (bytes), in order, never twice at once; it may wait cooperatively, and what it
        raises destroys the stream and leaves the ``write`` that was under way.
    :param final: called once after the last chunk, before ``'finish'``.
    :param high_water_mark: bytes that may be queued behind a chunk under way before writers wait.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        final: Callable[[], object] | None = None,
        high_water_mark: int = DEFAULT_HIGH_WATER_MARK,
    ) -> None:
        self.writable_high_water_mark = high_water_mark
        self._write = write
        self._final = final
        self._flushing = False

    def _flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        try:
            self._write_queued()
            self._on_queue_empty()
            while self._queue:
                # a listener for 'drain' has written
                self._write_queued()
                self._on_queue_empty()
        except BaseException as error:
            self.destroy(error if isinstance(error, Exception) else None)
            raise
        finally:
            self._flushing = False

    def _write_queued(self) -> None:
        while self._queue:
            data, callback = self._queue[0]
            self._write(bytes(data))
            if self.destroyed:
                return
            self._queue.popleft()
            self._sent(len(data))
            if callback is not None:
                callback()

    def _finalize(self) -> None:
        if self._final is not None:
            self._final()
