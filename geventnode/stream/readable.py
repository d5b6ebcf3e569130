"""Sources: one hook that waits for the next chunk, and every way of consuming on top of it.

A subclass overrides :meth:`Readable._fetch`, which returns the next chunk, waits for it, or raises what cut the stream
short; the plain :class:`Readable` fetches what its producer pushed. Sequential calls fetch in the caller's greenlet;
events hand the stream to a :class:`~geventnode.stream.pump.Pump`. Which way is used is decided by the first use.
"""

from __future__ import annotations

import contextlib
import enum
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, TypeVar

import gevent
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import PrematureClose, StreamError, StreamModeError
from geventnode.events import EventEmitter
from geventnode.interfaces import IReadable
from geventnode.stream.chunks import Decoder, ReadBuffer, as_bytes
from geventnode.stream.files import File
from geventnode.stream.pump import Pump

__all__ = ['DEFAULT_HIGH_WATER_MARK', 'Mode', 'Readable', 'ReadableBase']

DEFAULT_HIGH_WATER_MARK = 65536

Self = TypeVar('Self', bound='ReadableBase')


class Mode(enum.Enum):
    """How a stream is consumed."""

    UNUSED = 'not at all yet'
    SEQUENTIAL = 'by sequential reads'
    READABLE = "by 'readable' events"
    FLOWING = "by 'data' events, resume() or pipe()"


@implementer(IReadable)
class ReadableBase(EventEmitter):
    """What every readable shares; subclasses say where the chunks come from."""

    events: ClassVar[frozenset[str]] = EventEmitter.events | {
        'data',
        'readable',
        'end',
        'error',
        'close',
        'pause',
        'resume',
    }

    readable_high_water_mark: int = DEFAULT_HIGH_WATER_MARK
    readable_ended: bool = False
    destroyed: bool = False

    _mode: Mode = Mode.UNUSED
    _read_buffer: ReadBuffer | None = None
    _reading: bool = False
    _pump: Pump | None = None
    _decoder: Decoder | None = None
    _error: BaseException | None = None
    _error_reported: bool = False

    # -- for subclasses -------------------------------------------------------------------------------------------

    def _fetch(self) -> bytes:
        """Return the next chunk, ``b''`` at the end, or raise what cut the stream short. May switch."""
        raise StreamError(f'{type(self).__name__} has no source')

    def _at_end(self) -> bool:
        """Whether the end has come, and everything in front of it was fetched."""
        return False

    def _on_end(self) -> None:
        """Called once, after ``'end'`` was emitted."""

    def _on_listener_error(self, error: BaseException) -> None:
        """A ``'data'`` or ``'readable'`` listener raised ``error``, which the pump's greenlet reports afterwards."""
        self.destroy(error if isinstance(error, Exception) else None)

    def _on_reader_paused(self) -> None:
        """The pump's greenlet has stopped, for now or for good."""

    def _report_error(self, error: BaseException) -> None:
        """Tell those who listen for errors; with events, an error that nobody listens for is raised."""
        if not self._error_reported:
            self._error_reported = True
            self.emit('error', error)

    # -- sequential -----------------------------------------------------------------------------------------------

    def read(self, size: int = -1) -> Any:
        self._begin_read()
        try:
            chunk = self._take(size)
            if not chunk or len(chunk) == size:
                return chunk
            parts = [chunk]
            missing = size - len(chunk)
            try:
                while missing and (chunk := self._take(missing)):
                    parts.append(chunk)
                    missing -= len(chunk)
            except BaseException:
                # a timeout, or the caller was killed: the next read begins where this one did
                self._unshift(self._empty.join(parts))
                raise
            return self._empty.join(parts)
        finally:
            self._reading = False

    def read1(self, size: int = -1) -> Any:
        self._begin_read()
        try:
            return self._take(size)
        finally:
            self._reading = False

    def readinto(self, buffer: bytearray | memoryview) -> int:
        if self._decoder is not None:
            raise TypeError('readinto() takes bytes, and set_encoding() made this stream one of text')
        view = memoryview(buffer).cast('B')
        chunk = self.read1(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def __iter__(self) -> Iterator[Any]:
        while chunk := self.read1():
            yield chunk

    def makefile(self) -> io.BufferedReader:
        self._check_thread()
        if self._decoder is not None:
            raise TypeError('makefile() is binary, and set_encoding() made this stream one of text')
        return File(self, self.readable_high_water_mark)

    def _begin_read(self) -> None:
        """Enter a sequential read."""
        self._check_thread()
        if self._reading:
            raise StreamModeError(f'another greenlet is reading from this {type(self).__name__}')
        if self._mode is Mode.FLOWING:
            raise StreamModeError(
                f'this {type(self).__name__} is consumed {self._mode.value}: sequential reads cannot be mixed in'
            )
        if self._mode is Mode.UNUSED:
            self._mode = Mode.SEQUENTIAL
        self._reading = True

    @property
    def _empty(self) -> Any:
        return b'' if self._decoder is None else ''

    def _take(self, size: int) -> Any:
        """Return at most ``size`` of what is there, fetching when nothing is."""
        if size == 0:
            return self._empty
        unread = self._read_buffer
        if unread:
            chunk = unread.take(size)
            if not unread and self._pump is not None:
                self._pump.start()
            return chunk
        chunk = self._next_chunk()
        if 0 <= size < len(chunk):
            return self._unshift(chunk).take(size)
        return chunk

    def _next_chunk(self, emit_end: bool = True) -> Any:
        """Fetch and decode one chunk; empty at the end, which is then announced."""
        if self.readable_ended:
            return self._empty
        if self._decoder is not None:
            self._decoder.check()
        while True:
            data = self._fetch()
            # it may have been set while this waited
            decoder = self._decoder
            chunk = data if decoder is None else decoder.decode(data, final=not data)
            if self._read_buffer:
                # put back while this waited: it comes first, and before the end
                return self._read_buffer.take_all() + chunk
            if chunk:
                return chunk
            if not data:
                if emit_end:
                    self._emit_end()
                return self._empty

    def _emit_end(self) -> None:
        if not self.readable_ended:
            self.readable_ended = True
            self.emit('end')
            self._on_end()

    def set_encoding(self: Self, encoding: str) -> Self:
        self._check_thread()
        decoder = Decoder(encoding)
        if self._decoder is not None:
            raise StreamError('set_encoding() was called before')
        self._decoder = decoder
        unread = self._read_buffer
        if unread:
            # what is no text, the reads will tell
            with contextlib.suppress(UnicodeError):
                if text := decoder.decode(unread.take_all()):
                    unread.append(text)
        return self

    def unshift(self, chunk: Any) -> None:
        self._check_thread()
        if self.readable_ended:
            raise StreamError('unshift() after the end')
        if self._decoder is None:
            chunk = bytes(as_bytes(chunk))
        elif not isinstance(chunk, str):
            raise TypeError(
                f'set_encoding() made this stream one of text: it takes back str, not {type(chunk).__name__}'
            )
        if chunk:
            self._unshift(chunk)

    def _unshift(self, chunk: Any) -> ReadBuffer:
        if self._read_buffer is None:
            self._read_buffer = ReadBuffer()
        self._read_buffer.push_front(chunk)
        return self._read_buffer

    # -- events ---------------------------------------------------------------------------------------------------

    def _check(self, event: str, listener: Any) -> None:
        super()._check(event, listener)
        if self._mode is Mode.SEQUENTIAL and event in ('data', 'readable'):
            self._set_mode(Mode.FLOWING)

    def _listener_added(self, event: str) -> None:
        if event == 'data':
            pump = self._set_mode(Mode.FLOWING)
            if pump.flowing is None:
                self.resume()
        elif event == 'readable' and self._mode is not Mode.FLOWING:
            self._set_mode(Mode.READABLE).on_readable_listener()

    def _set_mode(self, mode: Mode) -> Pump:
        if self._mode is Mode.SEQUENTIAL:
            raise StreamModeError(
                f'this {type(self).__name__} is consumed {self._mode.value}: events cannot be mixed in'
            )
        self._mode = mode
        if self._pump is None:
            self._pump = Pump(self)
        return self._pump

    def resume(self: Self) -> Self:
        self._check_thread()
        pump = self._set_mode(Mode.FLOWING)
        if pump.flowing is not True:
            pump.flowing = True
            self.emit('resume')
            pump.start()
        return self

    def pause(self: Self) -> Self:
        self._check_thread()
        pump = self._set_mode(Mode.FLOWING if self._mode is Mode.UNUSED else self._mode)
        if pump.flowing is not False:
            pump.flowing = False
            self.emit('pause')
        return self

    def is_paused(self) -> bool:
        return self._pump is not None and self._pump.flowing is False

    def pipe(self, destination: Any, end: bool = True) -> Any:
        self._check_thread()
        pump = self._set_mode(Mode.FLOWING)
        pump.add_destination(destination, end)
        destination.emit('pipe', self)
        self.resume()
        return destination

    def unpipe(self: Self, destination: Any = None) -> Self:
        self._check_thread()
        if self._pump is not None:
            self._pump.remove_destinations(destination)
        return self

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        return not self.readable_ended and not self.destroyed

    @property
    def readable_flowing(self) -> bool | None:
        return None if self._pump is None else self._pump.flowing

    @property
    def readable_length(self) -> int:
        return 0 if self._read_buffer is None else self._read_buffer.size

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self._reading_state()}>'

    def _reading_state(self) -> str:
        state = (
            'destroyed'
            if self.destroyed
            else 'ended'
            if self.readable_ended
            else 'paused'
            if self.readable_flowing is False
            else self._mode.name.lower()
        )
        return f'{state} buffered={self.readable_length}'

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        self._check_thread()
        if not self.destroyed:
            self.destroyed = True
            self._error = error
            self._destroy()
            gevent.spawn(self._emit_close, error)
        return self

    def _destroy(self) -> None:
        """For subclasses: wake whoever waits, let go of what is held."""

    def _emit_close(self, error: BaseException | None) -> None:
        if error is not None and self.listener_count('error'):
            self._report_error(error)
        self.emit('close')


class Readable(ReadableBase):
    """A source whose producer calls :meth:`push`.

    :param read: called as ``read(stream, size)`` in the consumer's greenlet whenever it needs more than was pushed, and
        not again before something was; it pushes now or later.
    :param high_water_mark: how many pushed bytes make :meth:`push` answer ``False``.
    """

    def __init__(
        self, read: Callable[[Readable, int], object] | None = None, high_water_mark: int = DEFAULT_HIGH_WATER_MARK
    ) -> None:
        self.readable_high_water_mark = high_water_mark
        self._read = read
        self._asked = False
        self._pushed: deque[bytes] = deque()
        self._pushed_size = 0
        self._push_ended = False
        self._arrival = Event()

    @classmethod
    def from_iterable(cls, iterable: Iterable[Any]) -> Readable:
        """Return a stream over the chunks (bytes-like or text) of ``iterable``, which is drawn from as the stream is
        read; what it raises, the read raises."""
        iterator = iter(iterable)

        def read(stream: Readable, size: int) -> None:
            stream.push(next(iterator, None))

        return cls(read)

    def push(self, chunk: Any) -> bool:
        """Add ``chunk`` (bytes-like or text), or end the stream with None; return whether more is welcome now. Raises
        ``StreamError`` after the end."""
        if self._push_ended:
            raise StreamError('push() after the end')
        if chunk is None:
            self._push_ended = True
        else:
            data = bytes(as_bytes(chunk))
            if self.destroyed:
                return False
            # an empty chunk counts as an answer to read(), but is nothing to hand on
            self._asked = False
            if data:
                self._pushed.append(data)
                self._pushed_size += len(data)
        self._arrival.set()
        return self._pushed_size < self.readable_high_water_mark

    @property
    def readable_length(self) -> int:
        return super().readable_length + self._pushed_size

    def _at_end(self) -> bool:
        return self._push_ended and not self._pushed and not self.destroyed

    def _fetch(self) -> bytes:
        while not self._pushed:
            if self.destroyed:
                raise self._error or PrematureClose('the stream was destroyed before its end')
            if self._push_ended:
                return b''
            self._arrival.clear()
            if self._read is not None and not self._asked:
                self._asked = True
                try:
                    self._read(self, self.readable_high_water_mark)
                except BaseException as error:
                    # nobody knows what the producer would have said: the stream must not look complete
                    self.destroy(error if isinstance(error, Exception) else None)
                    raise
            else:
                self._arrival.wait()
        self._asked = False
        chunk = self._pushed.popleft()
        self._pushed_size -= len(chunk)
        return chunk

    def _destroy(self) -> None:
        self._pushed.clear()
        self._pushed_size = 0
        self._arrival.set()
