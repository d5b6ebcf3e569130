"""The greenlet that consumes a stream by events.

It fetches chunks and passes them to listeners and destinations. The greenlet exists only while there is work. It ends
when the stream is paused, and after a ``'readable'`` event until its data is read; :meth:`Pump.start` starts the next
one. An idle stream therefore costs no greenlet, and no greenlet must be woken when the stream is destroyed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

if TYPE_CHECKING:
    from geventnode.stream.readable import ReadableBase

__all__ = ['Pump']


class _Destination:
    """A destination of ``pipe()``."""

    __slots__ = ('destination', 'end', 'on_close')

    def __init__(self, destination: Any, end: bool, on_close: Callable[..., object]) -> None:
        self.destination = destination
        self.end = end
        self.on_close = on_close


class Pump:
    """Passes the chunks of one stream to its listeners and destinations."""

    __slots__ = ('_announced', '_destinations', '_greenlet', '_stream', 'flowing')

    def __init__(self, stream: ReadableBase) -> None:
        self._stream = stream
        self._destinations: list[_Destination] = []
        self._greenlet: gevent.Greenlet | None = None
        self._announced = False
        #: Whether ``'data'`` is emitted; None before the stream was resumed or paused.
        self.flowing: bool | None = None

    @property
    def busy(self) -> bool:
        """Whether the greenlet runs or was started."""
        return self._greenlet is not None

    # -- called by the stream -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the greenlet on the loop's next turn if there is work."""
        if self._greenlet is None and self._has_work():
            self._greenlet = gevent.spawn(self._run)

    def on_readable_listener(self) -> None:
        """Emit ``'readable'`` for a new listener, also for buffered data."""
        self._announced = False
        self.start()

    def add_destination(self, destination: Any, end: bool) -> None:
        """Write further chunks to ``destination``, and end it if ``end`` is true."""

        def on_close(*args: Any) -> None:
            self.remove_destinations(destination)

        destination.on('close', on_close)
        self._destinations.append(_Destination(destination, end, on_close))

    def remove_destinations(self, destination: Any = None) -> None:
        """Remove one destination, or all; pause without any other consumer."""
        removed = [each for each in self._destinations if destination is None or each.destination is destination]
        self._destinations = [each for each in self._destinations if each not in removed]
        for each in removed:
            each.destination.remove_listener('close', each.on_close)
            each.destination.emit('unpipe', self._stream)
        if removed and not self._destinations and not self._stream.listener_count('data'):
            self.flowing = False

    # -- the greenlet ---------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        stream = self._stream
        if stream.readable_ended or stream.destroyed:
            return False
        if self.flowing is None:
            return not (stream._read_buffer and self._announced) and stream.listener_count('readable') > 0
        return self.flowing

    def _run(self) -> None:
        try:
            while self._has_work():
                if self.flowing:
                    self._flow()
                else:
                    self._emit_readable()
        finally:
            self._greenlet = None
            self._stream._on_reader_paused()

    def _flow(self) -> None:
        """Pass on one chunk."""
        stream = self._stream
        buffer = stream._read_buffer
        chunk = buffer.take(-1) if buffer else self._fetch()
        if chunk is None:
            return
        if not chunk:
            self._end_destinations()
            return
        if not self.flowing:
            stream.unshift(chunk)
            return
        for each in tuple(self._destinations):
            self._call_destination(each, each.destination.write, chunk)
        # the failure of the only destination pauses the stream, too
        paused_before = stream.is_paused()
        self._emit('data', chunk)
        if stream.is_paused() and not paused_before and not stream._read_buffer and stream._at_end():
            # a listener has paused the stream after the last chunk, so only the end is left to report
            rest = self._fetch()
            if rest:
                stream._unshift(rest)
            elif rest is not None:
                self._end_destinations()

    def _end_destinations(self) -> None:
        for each in self._destinations:
            if each.end:
                self._call_destination(each, each.destination.end)
        self.remove_destinations()

    def _emit_readable(self) -> None:
        """Fetch one chunk, or the end, and emit ``'readable'``."""
        stream = self._stream
        if not stream._read_buffer:
            chunk = self._fetch(emit_end=False)
            if chunk is None:
                return
            if chunk:
                stream._unshift(chunk)
        at_end = not stream._read_buffer
        self._announced = True
        self._emit('readable')
        if at_end and not stream._read_buffer:
            stream._emit_end()

    def _fetch(self, emit_end: bool = True) -> Any:
        """Return the next chunk, or None after an error.

        The chunk is empty at the end. An error is reported here.
        """
        stream = self._stream
        stream._reading = True
        try:
            return stream._next_chunk(emit_end)
        except Exception as error:
            # after destroy() without an error, 'close' is enough
            self.flowing = False
            if not stream.destroyed or stream._error is not None:
                stream._report_error(error)
            return None
        finally:
            stream._reading = False

    def _emit(self, event: str, *args: Any) -> None:
        stream = self._stream
        try:
            stream.emit(event, *args)
        except BaseException as error:
            self.flowing = False
            stream._on_listener_error(error)
            raise

    def _call_destination(self, target: _Destination, action: Callable[..., object], *args: Any) -> None:
        try:
            action(*args)
        except (Exception, gevent.Timeout) as error:
            try:
                self._on_destination_error(target, error)
            except (Exception, gevent.Timeout) as unhandled:
                # the other destinations still get the chunk
                gevent.spawn(_raise, unhandled)

    def _on_destination_error(self, target: _Destination, error: BaseException) -> None:
        destination = target.destination
        if target in self._destinations:
            self.remove_destinations(destination)
        # a destroyed destination has already reported its error, but not a timeout of the pump's own write
        if not destination.destroyed:
            destination.emit('error', error)
        elif isinstance(error, gevent.Timeout) or (
            destination._error is error and not destination.listener_count('error')
        ):
            raise error


def _raise(error: BaseException) -> None:
    """Raise ``error``, which has no listener, so that the hub reports it."""
    raise error
