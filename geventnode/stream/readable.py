"""Readable streams, with all ways of consuming them.

A subclass overrides :meth:`ReadableBase._fetch`, which waits for the next chunk and returns it, or raises the error
that ended the stream. The plain :class:`Readable` returns the chunks that its producer pushed. Sequential reads fetch
in the greenlet of the caller; events use a :class:`~geventnode.stream.pump.Pump`. The first use of the stream decides.
"""

from __future__ import annotations

import contextlib
import enum
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any, ClassVar, TypeVar

import gevent
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import PrematureClose, StreamError, StreamModeError
from geventnode.events import EventEmitter
from geventnode.interfaces import IPushReadable, IReadable
from geventnode.stream.chunks import Decoder, ReadBuffer, as_bytes
from geventnode.stream.files import File
from geventnode.stream.pump import Pump

__all__ = ['DEFAULT_HIGH_WATER_MARK', 'Mode', 'Readable', 'ReadableBase']

DEFAULT_HIGH_WATER_MARK = 65536

Self = TypeVar('Self', bound='ReadableBase')
Destination = TypeVar('Destination', bound=Any)


class Mode(enum.Enum):
    """The way in which a stream is consumed."""

    UNUSED = 'not at all yet'
    SEQUENTIAL = 'by sequential reads'
    READABLE = "by 'readable' events"
    FLOWING = "by 'data' events, resume() or pipe()"


@implementer(IReadable)
class ReadableBase(EventEmitter):
    """The base of all readable streams; subclasses fetch the chunks."""

    events: ClassVar[frozenset[str]] = EventEmitter.events | {
        'data',
        'readable',
        'end',
        'error',
        'close',
        'pause',
        'resume',
    }

    #: The number of buffered bytes at which the source is paused.
    readable_high_water_mark: int = DEFAULT_HIGH_WATER_MARK
    #: Whether all data was consumed, and ``'end'`` was emitted.
    readable_ended: bool = False
    #: Whether the stream was destroyed, by its owner or by an error.
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
        """Return the next chunk, or ``b''`` at the end.

        Blocks until there is one. Raises the error that ended the stream early.
        """
        raise StreamError(f'{type(self).__name__} has no source')

    def _at_end(self) -> bool:
        """Return whether all chunks were fetched and the end is known."""
        return False

    def _on_end(self) -> None:
        """React to the end; called once, after ``'end'`` was emitted."""

    def _on_listener_error(self, error: BaseException) -> None:
        """React to the exception of a listener, which the hub reports afterwards."""
        self.destroy(error if isinstance(error, Exception) else None)

    def _on_reader_paused(self) -> None:
        """React to the end of the pump's greenlet."""

    def _report_error(self, error: BaseException) -> None:
        """Emit ``'error'`` once; without a listener, the error is raised here."""
        if not self._error_reported:
            self._error_reported = True
            self.emit('error', error)

    # -- sequential -----------------------------------------------------------------------------------------------

    def read(self, size: int = -1) -> Any:
        """Read exactly ``size`` bytes, or the whole rest of the stream.

        Blocks until all of it has arrived. The result is shorter only at the end of the stream, and ``b''`` there. A
        read that is interrupted, by a timeout for example, loses no data.

        :param size: the number of bytes (of characters after :meth:`set_encoding`); negative for the whole rest.
        :returns: bytes, or text after :meth:`set_encoding`.
        :raises StreamModeError: the stream is consumed by events, or another greenlet is reading from it.
        :raises GeventnodeError: the error that ended the stream early: ``IncompleteBody``, ``ConnectionClosed``,
            ``RequestTimeout``, ``ParseError`` or ``PrematureClose``.
        """
        self._begin_read()
        try:
            chunk = self._take(size)
            if not chunk or len(chunk) == size:
                return chunk
            # Pieces in a list and their sum would take twice the memory. Text does, and four times as much if the
            # StringIO begins with a value: it then has four bytes for each character.
            joined: Any = io.BytesIO() if self._decoder is None else io.StringIO()
            joined.write(chunk)
            missing = size - len(chunk)
            try:
                while missing and (chunk := self._take(missing)):
                    joined.write(chunk)
                    missing -= len(chunk)
            except BaseException:
                # a timeout, or a kill: the next read begins where this one did
                self._unshift(joined.getvalue())
                raise
            return joined.getvalue()
        finally:
            self._reading = False

    def read1(self, size: int = -1) -> Any:
        """Read the available bytes, at most ``size`` of them.

        Blocks until there is at least one byte. The result is empty only at the end of the stream. Parameters and
        exceptions are those of :meth:`read`.
        """
        self._begin_read()
        try:
            return self._take(size)
        finally:
            self._reading = False

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read the available bytes into the beginning of a buffer.

        Blocks until there is at least one byte.

        :param buffer: a writable bytes-like object; its length is the maximum.
        :returns: the number of bytes; 0 only at the end of the stream.
        :raises TypeError: the stream is text, after :meth:`set_encoding`.

        Other exceptions are those of :meth:`read`.
        """
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
        """Return a buffered binary file over the rest of the stream.

        It reads lines, and it is an input for ``tarfile``, ``csv`` and other code that takes a file. Its methods block
        as :meth:`read1` does. Closing the file leaves the stream open.

        :raises TypeError: the stream is text, after :meth:`set_encoding`.
        """
        self._check_thread()
        if self._decoder is not None:
            raise TypeError('makefile() is binary, and set_encoding() made this stream one of text')
        return File(self, self.readable_high_water_mark)

    def _begin_read(self) -> None:
        """Begin a sequential read; raise if the stream is consumed otherwise."""
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
        """Return at most ``size`` bytes of buffered or fetched data."""
        if size == 0:
            return self._empty
        buffer = self._read_buffer
        if buffer:
            chunk = buffer.take(size)
            if not buffer and self._pump is not None:
                self._pump.start()
            return chunk
        chunk = self._next_chunk()
        if 0 <= size < len(chunk):
            return self._unshift(chunk).take(size)
        return chunk

    def _next_chunk(self, emit_end: bool = True) -> Any:
        """Fetch and decode one chunk, which is empty after the end."""
        if self.readable_ended:
            return self._empty
        if self._decoder is not None:
            self._decoder.check()
        while True:
            data = self._fetch()
            # set_encoding() can be called while this greenlet waits
            decoder = self._decoder
            chunk = data if decoder is None else decoder.decode(data, final=not data)
            if self._read_buffer:
                # unshift() was called while this greenlet waited: its chunk is first, and before the end
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
        """Decode all further data to text.

        Characters that are split between chunks are joined. Sizes are then numbers of characters, and the end is
        ``''``. Undecodable bytes make the read that reaches them raise ``UnicodeDecodeError``.

        :param encoding: the name of a codec, such as ``'utf-8'``.
        :returns: the stream.
        :raises LookupError: the codec is unknown.
        :raises StreamError: it was called before.
        """
        self._check_thread()
        decoder = Decoder(encoding)
        if self._decoder is not None:
            raise StreamError('set_encoding() was called before')
        self._decoder = decoder
        buffer = self._read_buffer
        if buffer:
            # the reads raise the error for undecodable bytes
            with contextlib.suppress(UnicodeError):
                if text := decoder.decode(buffer.take_all()):
                    buffer.append(text)
        return self

    def unshift(self, chunk: Any) -> None:
        """Put a chunk back, so that it is read next.

        :param chunk: bytes-like or text, as it was read.
        :raises StreamError: the stream has ended.
        :raises TypeError: the chunk is of the wrong type.
        """
        self._check_thread()
        if self.readable_ended:
            raise StreamError('unshift() after the end')
        if self._decoder is None:
            chunk = bytes(as_bytes(chunk))
        elif not isinstance(chunk, str):
            raise TypeError(
                f'set_encoding() made this stream one of text: unshift() takes str, not {type(chunk).__name__}'
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
        """Emit ``'data'`` for each chunk.

        The events begin with the next turn of the loop. Without a listener for ``'data'``, the chunks are discarded.
        ``'resume'`` is emitted at once if the stream was not flowing.

        :returns: the stream.
        :raises StreamModeError: the stream is consumed by sequential reads.
        """
        self._check_thread()
        pump = self._set_mode(Mode.FLOWING)
        if pump.flowing is not True:
            pump.flowing = True
            self.emit('resume')
            pump.start()
        return self

    def pause(self: Self) -> Self:
        """Stop ``'data'`` events until :meth:`resume`.

        Data stays buffered, and the source is paused when the buffer is full. ``'pause'`` is emitted at once if the
        stream was flowing. ``'end'`` is still emitted when a listener pauses the stream after the last chunk and the
        end is already known.

        :returns: the stream.
        :raises StreamModeError: the stream is consumed by sequential reads.
        """
        self._check_thread()
        pump = self._set_mode(Mode.FLOWING if self._mode is Mode.UNUSED else self._mode)
        if pump.flowing is not False:
            pump.flowing = False
            self.emit('pause')
        return self

    def is_paused(self) -> bool:
        """Return whether :meth:`pause` is in effect."""
        return self._pump is not None and self._pump.flowing is False

    def pipe(self, destination: Destination, end: bool = True) -> Destination:
        """Write all data to another stream, at its pace, in a greenlet.

        ``destination`` emits ``'pipe'``. Its error ends the pipe; without a listener, the hub reports it. An error of
        this stream has no effect on ``destination``; :func:`~geventnode.stream.pipeline` destroys both.

        :param destination: a writable.
        :param end: whether the end of this stream ends ``destination``.
        :returns: ``destination``.
        :raises StreamModeError: the stream is consumed by sequential reads.
        """
        self._check_thread()
        pump = self._set_mode(Mode.FLOWING)
        pump.add_destination(destination, end)
        destination.emit('pipe', self)
        self.resume()
        return destination

    def unpipe(self: Self, destination: Any = None) -> Self:
        """Undo :meth:`pipe` for one destination, or for all.

        Each of them emits ``'unpipe'``. Without any other consumer, the stream pauses.

        :param destination: the writable; None for all.
        :returns: the stream.
        """
        self._check_thread()
        if self._pump is not None:
            self._pump.remove_destinations(destination)
        return self

    # -- state ----------------------------------------------------------------------------------------------------

    @property
    def readable(self) -> bool:
        """Whether data can still arrive: the stream is neither ended nor destroyed."""
        return not self.readable_ended and not self.destroyed

    @property
    def readable_flowing(self) -> bool | None:
        """Whether ``'data'`` is emitted; None before :meth:`resume`, :meth:`pause` or a listener."""
        return None if self._pump is None else self._pump.flowing

    @property
    def readable_length(self) -> int:
        """The number of buffered bytes, or of characters after :meth:`set_encoding`."""
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
        """Destroy the stream and discard its data.

        A blocked reader raises ``error``, or ``PrematureClose``. ``'error'``, if there is one and it has a listener,
        and ``'close'`` follow in a greenlet. A second call does nothing.

        :param error: the reason; None for a deliberate end.
        :returns: the stream.
        """
        self._check_thread()
        if not self.destroyed:
            self.destroyed = True
            self._error = error
            self._destroy()
            gevent.spawn(self._emit_close, error)
        return self

    def _destroy(self) -> None:
        """Wake the reader and release resources; for subclasses."""

    def _emit_close(self, error: BaseException | None) -> None:
        if error is not None and self.listener_count('error'):
            self._report_error(error)
        self.emit('close')


@implementer(IPushReadable)
class Readable(ReadableBase):
    """A source of bytes with a producer that calls :meth:`push`.

    A stream is consumed in one of two ways. Sequential: :meth:`read`, :meth:`read1`, :meth:`readinto`, iteration,
    :meth:`makefile`. By events: listeners for ``'data'`` or ``'readable'``, :meth:`resume`, :meth:`pipe`. Mixing them,
    and reading in two greenlets at once, raises ``StreamModeError``.

    Node's documentation: "Stream", class ``stream.Readable``.

    :param read: a function that is called as ``read(stream, size)`` in the greenlet of the consumer when it needs more
        data. It pushes at once or later, and is not called again before that.
    :param high_water_mark: the number of pushed bytes at which :meth:`push` returns False.
    """

    #: The generator that the chunks are from.
    _generator: GeneratorType[Any, Any, Any] | None = None

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
        """Make a stream from the chunks of an iterable.

        The iterable is advanced as the stream is read. Its exception destroys the stream and is raised by the read. A
        generator is closed when the stream is destroyed, in a greenlet, before ``'close'``.

        :param iterable: chunks, each bytes-like or text.
        """
        iterator = iter(iterable)

        def read(stream: Readable, size: int) -> None:
            stream.push(next(iterator, None))
            if stream.destroyed:
                # meanwhile
                stream._close_generator()

        made = cls(read)
        if isinstance(iterator, GeneratorType):
            made._generator = iterator
        return made

    def push(self, chunk: Any) -> bool:
        """Add a chunk, or end the stream with None.

        :param chunk: bytes-like or text, or None for the end.
        :returns: whether the buffer is below the high-water mark, so that the producer can push more. Pushing more
            than that is allowed.
        :raises StreamError: the stream was ended before.
        :raises TypeError: the chunk is of another type.
        """
        if self._push_ended:
            raise StreamError('push() after the end')
        if chunk is None:
            self._push_ended = True
        else:
            data = bytes(as_bytes(chunk))
            if self.destroyed:
                return False
            # an empty chunk completes a call of read(), but adds no data
            self._asked = False
            if data:
                self._pushed.append(data)
                self._pushed_size += len(data)
        self._arrival.set()
        return self._pushed_size < self.readable_high_water_mark

    @property
    def readable_length(self) -> int:
        """The number of buffered bytes, pushed ones included."""
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
                    # the producer failed: the stream must not look complete
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
        if self._generator is not None:
            gevent.spawn(self._close_generator)

    def _close_generator(self) -> None:
        """Let the generator release its resources now: the error that refers to it can live for long."""
        if self._generator is not None and not self._generator.gi_running:
            self._generator.close()
