"""What consumes a stream by events: a greenlet that fetches and hands on.

The greenlet lives only while there is something to do. A pause ends it, so does a ``'readable'`` whose data nobody has
taken yet; :meth:`Pump.start` starts the next one. So a stream at rest costs no greenlet, and nothing has to be woken
when it is destroyed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

if TYPE_CHECKING:
    from geventnode.stream.readable import ReadableBase

__all__ = ['Pump']


class _Destination:
    """A destination of ``pipe``."""

    __slots__ = ('destination', 'end', 'on_close')

    def __init__(self, destination: Any, end: bool, on_close: Callable[..., object]) -> None:
        self.destination = destination
        self.end = end
        self.on_close = on_close


class Pump:
    """Moves the chunks of one stream to its listeners and destinations."""

    __slots__ = ('_announced', '_destinations', '_greenlet', '_stream', 'flowing')

    def __init__(self, stream: ReadableBase) -> None:
        self._stream = stream
        self._destinations: list[_Destination] = []
        self._greenlet: gevent.Greenlet | None = None
        self._announced = False
        #: None until the stream was resumed or paused.
        self.flowing: bool | None = None

    @property
    def busy(self) -> bool:
        """Whether a greenlet is at work, or about to be."""
        return self._greenlet is not None

    # -- called by the stream's user ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a greenlet on the next turn of the loop, unless one runs or there is nothing to do."""
        if self._greenlet is None and self._has_work():
            self._greenlet = gevent.spawn(self._run)

    def on_readable_listener(self) -> None:
        """Tell of what is there already, and of what comes: somebody new listens for ``'readable'``."""
        self._announced = False
        self.start()

    def add_destination(self, destination: Any, end: bool) -> None:
        """Write to ``destination`` from now on, and end it at the end if ``end``."""

        def on_close(*args: Any) -> None:
            self.remove_destinations(destination)

        destination.on('close', on_close)
        self._destinations.append(_Destination(destination, end, on_close))

    def remove_destinations(self, destination: Any = None) -> None:
        """Forget ``destination``, or all of them; the stream pauses when none is left."""
        removed = [sink for sink in self._destinations if destination is None or sink.destination is destination]
        self._destinations = [sink for sink in self._destinations if sink not in removed]
        for sink in removed:
            sink.destination.remove_listener('close', sink.on_close)
            sink.destination.emit('unpipe', self._stream)
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
        """Hand on one chunk."""
        stream = self._stream
        unread = stream._read_buffer
        chunk = unread.take(-1) if unread else self._fetch()
        if chunk is None:
            return
        if not chunk:
            self._end_destinations()
            return
        if not self.flowing:
            stream.unshift(chunk)
            return
        for sink in tuple(self._destinations):
            self._call_destination(sink, sink.destination.write, chunk)
        # a destination that failed has stopped it, too
        paused_before = stream.is_paused()
        self._emit('data', chunk)
        if stream.is_paused() and not paused_before and not stream._read_buffer and stream._at_end():
            # a listener has paused it, and nothing is left that could be held back
            rest = self._fetch()
            if rest:
                stream._unshift(rest)
            elif rest is not None:
                self._end_destinations()

    def _end_destinations(self) -> None:
        for sink in self._destinations:
            if sink.end:
                self._call_destination(sink, sink.destination.end)
        self.remove_destinations()

    def _emit_readable(self) -> None:
        """Fetch one chunk, or find the end, and say so."""
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
        """Return the next chunk, empty at the end, or None when there was an error, which is then reported."""
        stream = self._stream
        stream._reading = True
        try:
            return stream._next_chunk(emit_end)
        except Exception as error:
            # destroy() without an error is no failure: 'close' says it all
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

    def _call_destination(self, sink: _Destination, action: Callable[..., object], *args: Any) -> None:
        try:
            action(*args)
        except (Exception, gevent.Timeout) as error:
            try:
                self._on_destination_error(sink, error)
            except (Exception, gevent.Timeout) as unhandled:
                # the other destinations have nothing to do with it
                gevent.spawn(_raise, unhandled)

    def _on_destination_error(self, sink: _Destination, error: BaseException) -> None:
        destination = sink.destination
        if sink in self._destinations:
            self.remove_destinations(destination)
        # one that is gone has told its owner already, but for a timeout, which it was not destroyed with
        if not destination.destroyed:
            destination.emit('error', error)
        elif isinstance(error, gevent.Timeout) or (
            destination._error is error and not destination.listener_count('error')
        ):
            raise error


def _raise(error: BaseException) -> None:
    """Let the hub report ``error``, which nobody has listened for."""
    raise error
