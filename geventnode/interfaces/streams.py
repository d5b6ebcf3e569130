"""The contracts of streams: Node's, with "not yet" replaced by a cooperative wait (docs/design, streams)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

from zope.interface import Attribute

from geventnode.interfaces.events import IEventEmitter

__all__ = ['IDuplex', 'IReadable', 'IWritable']


class IReadable(IEventEmitter):
    """A source of bytes (or of text, after :meth:`set_encoding`), consumed in one of two ways.

    Sequential: :meth:`read`, :meth:`read1`, :meth:`readinto`, iteration, :meth:`makefile`. By events: ``on('data')``,
    ``on('readable')``, :meth:`resume`, :meth:`pipe`; then a greenlet of the stream's own pumps, started on the next
    turn of the loop. Mixing them on one stream, or reading from two greenlets at once, raises ``StreamModeError``.

    Events: ``'data'`` (chunk), ``'readable'`` (), ``'end'`` () once, after everything was consumed, ``'error'``
    (exception), ``'close'`` (), ``'pause'`` (), ``'resume'`` (). What was cut short never ends: it is ``'error'``, and
    raises.
    """

    readable: bool = Attribute('Whether more may come: neither ended nor destroyed.')
    readable_ended: bool = Attribute("Whether everything was consumed: ``'end'`` was, or would have been, emitted.")
    readable_flowing: bool | None = Attribute('None before events are used; then whether the stream flows by itself.')
    readable_length: int = Attribute('How many bytes (characters, after set_encoding) are buffered and unread.')
    readable_high_water_mark: int = Attribute('Bytes that may be buffered before the source is asked to stop.')
    destroyed: bool = Attribute('Whether the stream was destroyed, by its owner or by an error.')

    def read(size: int = -1) -> Any:
        """Return everything up to the end; or exactly ``size`` bytes, fewer only when the stream ends first; ``b''`` at
        the end. May switch.

        Raises what cut the stream short: ``IncompleteBody``, ``ConnectionClosed``, ``RequestTimeout``, ``ParseError``.
        """

    def read1(size: int = -1) -> Any:
        """Return what is there, at most ``size`` bytes, waiting for the first; ``b''`` at the end. May switch.

        Raises as :meth:`read` does.
        """

    def readinto(buffer: bytearray | memoryview) -> int:
        """Fill ``buffer`` from its start with what is there, waiting for the first byte; return how many bytes, 0 at
        the end. May switch. Raises as :meth:`read` does, and ``TypeError`` after :meth:`set_encoding`."""

    def __iter__() -> Iterator[Any]:
        """Yield chunks (not lines) as they come, until the end. May switch. Raises as :meth:`read` does."""

    def makefile() -> io.BufferedReader:
        """Return a buffered binary file over the rest of the stream, for lines, ``tarfile`` and the like; closing it
        leaves the stream as it is. Never switches, but reading from the file may."""

    def set_encoding(encoding: str) -> Any:
        """Decode what is read from now on; characters cut by chunk borders are put together again. Sizes then count
        characters and the end is ``''``. Undecodable bytes raise ``UnicodeDecodeError`` from the read. Return the
        stream."""

    def pause() -> Any:
        """Stop ``'data'`` events; return the stream. Never switches, but for ``'pause'`` listeners that do.

        From the listener that gets the last chunk, it does not hold back ``'end'`` if that is known already.
        """

    def resume() -> Any:
        """Let the stream flow: emit ``'data'``, or discard when nobody listens; return the stream. Never switches, but
        for ``'resume'`` listeners that do."""

    def is_paused() -> bool:
        """Return whether :meth:`pause` is in force."""

    def pipe(destination: Any, end: bool = True) -> Any:
        """Write everything to ``destination``, no faster than it takes it, then end it unless ``end`` is false; return
        ``destination``, which emits ``'pipe'``. Never switches: a greenlet of the stream's own does the work.

        An error of ``destination`` ends the pipe (and is raised there when nobody listens); an error of this stream is
        not carried over: :func:`geventnode.stream.pipeline` does that.
        """

    def unpipe(destination: Any = None) -> Any:
        """Undo :meth:`pipe`, for one destination or for all; they emit ``'unpipe'``. Return the stream."""

    def unshift(chunk: Any) -> None:
        """Put ``chunk`` back in front of what is unread. Raises ``StreamError`` after the end."""

    def destroy(error: BaseException | None = None) -> Any:
        """Give the stream up: wake whoever waits, emit ``'error'`` when ``error`` is given, then ``'close'``; return
        the stream. A second call does nothing."""


class IWritable(IEventEmitter):
    """A sink of bytes.

    Memory is bounded by construction: whoever ignores a ``False`` from :meth:`write` is made to wait at the next one.

    Events: ``'drain'`` () after a ``False``, when the queue is empty, ``'finish'`` () when everything was handed to the
    kernel after :meth:`end`, ``'pipe'`` (source), ``'unpipe'`` (source), ``'error'`` (exception), ``'close'`` ().
    """

    writable: bool = Attribute('Whether write() is allowed: neither ended nor destroyed.')
    writable_ended: bool = Attribute('Whether end() was called.')
    writable_finished: bool = Attribute("Whether everything was handed to the kernel after end(): ``'finish'``.")
    writable_length: int = Attribute('How many bytes are queued in memory.')
    writable_high_water_mark: int = Attribute('How many queued bytes make the next write() wait.')
    writable_need_drain: bool = Attribute("Whether a ``'drain'`` is still to come.")
    writable_corked: int = Attribute('How many uncork() calls are still to come.')
    destroyed: bool = Attribute('Whether the stream was destroyed, by its owner or by an error.')

    def write(chunk: Any, encoding: str = 'utf-8', callback: Callable[[], object] | None = None) -> bool:
        """Send ``chunk`` (bytes-like, or text in ``encoding``); return ``True`` when all of it went to the kernel,
        ``False`` when some is queued in memory; then ``'drain'`` follows. May switch: waits until the queue is below
        the mark.

        ``callback`` is called when the chunk went to the kernel. Raises ``TypeError`` for anything else than bytes or
        text, ``WriteAfterEnd``, ``ConnectionClosed``.
        """

    def end(data: Any = None, encoding: str = 'utf-8', callback: Callable[[], object] | None = None) -> Any:
        """Say that nothing more will be written, after ``data`` if given; return the stream. ``callback`` is called on
        ``'finish'``. A second call without data does nothing. May switch as :meth:`write` does, and raises as it
        does."""

    def cork() -> None:
        """Keep what is written in memory until as many :meth:`uncork` calls, or :meth:`end`, so that small writes leave
        together."""

    def uncork() -> None:
        """Undo one :meth:`cork`. May switch."""

    def destroy(error: BaseException | None = None) -> Any:
        """Give the stream up with what is still queued: wake whoever waits, emit ``'error'`` when ``error`` is given,
        then ``'close'``; return the stream. A second call does nothing."""


class IDuplex(IReadable, IWritable):
    """Both at once, two independent directions: ending one leaves the other."""
