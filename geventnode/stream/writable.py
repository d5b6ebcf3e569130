"""Writable streams: a queue with a limit at which writers block.

:class:`WritableBase` has the state, the queue and the waiting. A subclass overrides :meth:`WritableBase._flush`, which
empties the queue. The plain :class:`Writable` calls a function with one chunk at a time, in the greenlet that wrote
first. Chunks that other greenlets write meanwhile are queued.
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
    """The base of all writable streams; subclasses pass the chunks on."""

    events: ClassVar[frozenset[str]] = EventEmitter.events | {'drain', 'finish', 'pipe', 'unpipe', 'error', 'close'}

    #: The number of queued bytes at which writers block.
    writable_high_water_mark: int = DEFAULT_HIGH_WATER_MARK
    #: Whether :meth:`end` was called.
    writable_ended: bool = False
    #: Whether all data was passed on after :meth:`end`, and ``'finish'`` was emitted.
    writable_finished: bool = False
    #: The number of bytes in the queue.
    writable_length: int = 0
    #: Whether ``'drain'`` will be emitted.
    writable_need_drain: bool = False
    #: How many times :meth:`cork` was called without :meth:`uncork`.
    writable_corked: int = 0
    #: Whether the stream was destroyed, by its owner or by an error.
    destroyed: bool = False

    _queue: deque[tuple[bytes | memoryview, Callback | None]] | None = None
    _drained: Event | None = None
    _error: BaseException | None = None

    # -- for subclasses -------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Pass on as much of the queue as possible.

        Call :meth:`_sent` for each part, and :meth:`_on_queue_empty` at the end.
        """

    def _finalize(self) -> None:
        """Complete the stream; called once, after the last chunk and before ``'finish'``."""

    # -- writing --------------------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Callback | None = None) -> bool:
        """Write a chunk.

        Blocks until the queue is below ``writable_high_water_mark``. Memory is therefore limited even if the caller
        ignores the result.

        :param chunk: bytes-like, or text.
        :param encoding: the encoding of text.
        :param callback: a function without parameters that is called when the chunk was passed on.
        :returns: True if nothing is queued. False if some data is queued; then ``'drain'`` follows.
        :raises TypeError: the chunk is neither bytes-like nor text.
        :raises WriteAfterEnd: :meth:`end` was called.
        :raises ConnectionClosed: the stream was destroyed.
        """
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
        """End the stream, after a last chunk if there is one.

        ``'finish'`` follows when all data was passed on. A stream with a function, such as
        :class:`~geventnode.stream.Writable`, blocks until then, unless another greenlet is writing. A second call
        without data does nothing.

        :param data: the last chunk, as for :meth:`write`; None for no chunk.
        :param encoding: the encoding of text.
        :param callback: a function without parameters that is called on ``'finish'``.
        :returns: the stream.
        :raises WriteAfterEnd: there is data, and :meth:`end` was called before.
        :raises ConnectionClosed: there is data, and the stream was destroyed.
        """
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
        """Queue the last chunk without waiting, since other greenlets could write meanwhile."""
        self._check_writable()
        self._enqueue(data, None)

    def cork(self) -> None:
        """Collect writes in the queue, so that small ones are sent together.

        They are passed on after the same number of :meth:`uncork` calls, by :meth:`end`, and by a writer that would
        block otherwise.
        """
        self._check_thread()
        self.writable_corked += 1

    def uncork(self) -> None:
        """Undo one :meth:`cork`; the last call passes on the queue.

        A stream with a function, such as :class:`~geventnode.stream.Writable`, blocks until the queue is empty.
        """
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
        """Return the error for a write to a destroyed stream."""
        error = ConnectionClosed(f'this {type(self).__name__} was destroyed')
        error.__cause__ = self._error
        return error

    def _wait_for_drain(self) -> None:
        """Blocks until the queue is below the high-water mark.

        Raises ``ConnectionClosed`` if the stream is destroyed meanwhile.
        """
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
            # its owner can change the buffer before it is sent
            data = bytes(data)
        if self._queue is None:
            self._queue = deque()
        self._queue.append((data, callback))
        self.writable_length += len(data)

    def _sent(self, size: int) -> None:
        """Subtract ``size`` sent bytes from the length, and wake blocked writers."""
        self.writable_length -= size
        if self._drained is not None and self.writable_length < self.writable_high_water_mark:
            self._drained.set()

    def _on_queue_empty(self) -> None:
        """Emit ``'drain'`` and ``'finish'`` if they are due.

        It is called in a greenlet, as listeners can block.
        """
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
        """Whether :meth:`write` is allowed: the stream is neither ended nor destroyed."""
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
        """Destroy the stream and discard its queue.

        Blocked writers raise ``ConnectionClosed``. ``'error'``, if there is one and it has a listener, and ``'close'``
        follow in a greenlet. A second call does nothing.

        :param error: the reason; None for a deliberate end.
        :returns: the stream.
        """
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
    """A destination of bytes that passes them to a function.

    Node's documentation: "Stream", class ``stream.Writable``.

    :param write: a function that is called with each chunk (bytes), in order, and never twice at once. It can block
        cooperatively. Its exception destroys the stream and is raised by the current :meth:`write`.
    :param final: a function without parameters that is called after the last chunk, before ``'finish'``.
    :param high_water_mark: the number of queued bytes at which writers block.
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
