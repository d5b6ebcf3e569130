"""The contracts of streams: Node's, with cooperative waits instead of "not yet"."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zope.interface import Attribute

from geventnode.interfaces.events import IEventEmitter

__all__ = ['IDuplex', 'IPushReadable', 'IReadable', 'IWritable']


class IReadable(IEventEmitter):
    """A source of bytes, or of text after ``set_encoding()``; see :class:`geventnode.stream.Readable`.

    Events: ``'data'`` (chunk), ``'readable'`` (), ``'end'`` () once, after all data was consumed, ``'error'``
    (exception), ``'close'`` (), ``'pause'`` (), ``'resume'`` (). An incomplete stream emits ``'error'`` and never
    ``'end'``.
    """

    readable: bool = Attribute('Whether data can still arrive: the stream is neither ended nor destroyed.')
    readable_ended: bool = Attribute("Whether all data was consumed, so that ``'end'`` was emitted.")
    readable_flowing: bool | None = Attribute("None before events are used; then whether ``'data'`` is emitted.")
    readable_length: int = Attribute('The number of buffered bytes (characters, after ``set_encoding()``).')
    readable_high_water_mark: int = Attribute('The number of buffered bytes at which the source is paused.')
    destroyed: bool = Attribute('Whether the stream was destroyed, by its owner or by an error.')

    def read(size: int = -1) -> Any:
        """Read exactly ``size`` bytes, or all; see :meth:`geventnode.stream.Readable.read`."""

    def read1(size: int = -1) -> Any:
        """Read the available bytes; see :meth:`geventnode.stream.Readable.read1`."""

    def readinto(buffer: bytearray | memoryview) -> int:
        """Read into a buffer; see :meth:`geventnode.stream.Readable.readinto`."""

    def __iter__() -> Iterator[Any]:
        """Yield chunks as they arrive, until the end; raise as ``read()`` does."""

    def makefile() -> io.BufferedReader:
        """Return a binary file over the stream; see :meth:`geventnode.stream.Readable.makefile`."""

    def set_encoding(encoding: str) -> Any:
        """Decode the data; see :meth:`geventnode.stream.Readable.set_encoding`."""

    def pause() -> Any:
        """Stop ``'data'`` events; see :meth:`geventnode.stream.Readable.pause`."""

    def resume() -> Any:
        """Start ``'data'`` events; see :meth:`geventnode.stream.Readable.resume`."""

    def is_paused() -> bool:
        """Return whether the stream is paused; see :meth:`geventnode.stream.Readable.is_paused`."""

    def pipe(destination: Any, end: bool = True) -> Any:
        """Write all data to another stream; see :meth:`geventnode.stream.Readable.pipe`."""

    def unpipe(destination: Any = None) -> Any:
        """Undo ``pipe()``; see :meth:`geventnode.stream.Readable.unpipe`."""

    def unshift(chunk: Any) -> None:
        """Put a chunk back; see :meth:`geventnode.stream.Readable.unshift`."""

    def destroy(error: BaseException | None = None) -> Any:
        """Destroy the stream; see :meth:`geventnode.stream.Readable.destroy`."""


class IPushReadable(IReadable):
    """A readable with a producer that pushes chunks; see :class:`geventnode.stream.Readable`."""

    def from_iterable(iterable: Iterable[Any]) -> IPushReadable:
        """Make a stream from chunks; see :meth:`geventnode.stream.Readable.from_iterable`."""

    def push(chunk: Any) -> bool:
        """Add a chunk, or end the stream; see :meth:`geventnode.stream.Readable.push`."""


class IWritable(IEventEmitter):
    """A destination of bytes; see :class:`geventnode.stream.Writable`.

    Events: ``'drain'`` () for an empty queue after ``write()`` has returned False, ``'finish'`` () after ``end()``,
    when all data was passed on; ``'pipe'`` (source), ``'unpipe'`` (source), ``'error'`` (exception), ``'close'`` ().
    """

    writable: bool = Attribute('Whether ``write()`` is allowed: the stream is neither ended nor destroyed.')
    writable_ended: bool = Attribute('Whether ``end()`` was called.')
    writable_finished: bool = Attribute("Whether all data was passed on after ``end()``, and ``'finish'`` was emitted.")
    writable_length: int = Attribute('The number of bytes in the queue.')
    writable_high_water_mark: int = Attribute('The number of queued bytes at which ``write()`` blocks.')
    writable_need_drain: bool = Attribute("Whether ``'drain'`` will be emitted.")
    writable_corked: int = Attribute('The number of ``uncork()`` calls that are missing.')
    destroyed: bool = Attribute('Whether the stream was destroyed, by its owner or by an error.')

    def write(chunk: Any, encoding: str = 'utf-8', callback: Callable[[], object] | None = None) -> bool:
        """Write a chunk; see :meth:`geventnode.stream.Writable.write`."""

    def end(data: Any = None, encoding: str = 'utf-8', callback: Callable[[], object] | None = None) -> Any:
        """End the stream; see :meth:`geventnode.stream.Writable.end`."""

    def cork() -> None:
        """Collect writes in the queue; see :meth:`geventnode.stream.Writable.cork`."""

    def uncork() -> None:
        """Undo one ``cork()``; see :meth:`geventnode.stream.Writable.uncork`."""

    def destroy(error: BaseException | None = None) -> Any:
        """Destroy the stream; see :meth:`geventnode.stream.Writable.destroy`."""


class IDuplex(IReadable, IWritable):
    """A readable and a writable side, which end independently; see :class:`geventnode.stream.Duplex`."""
