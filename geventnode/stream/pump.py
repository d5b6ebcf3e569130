"""What consumes a stream by events: a greenlet that fetches and hands on.

The greenlet lives only while there is something to do. A pause ends it, so does a ``'readable'`` whose data nobody has
taken yet; :meth:`Pump.kick` starts the next one. So a stream at rest costs no greenlet, and nothing has to be woken
when it is destroyed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

if TYPE_CHECKING:
    from geventnode.stream.readable import ReadableBase

__all__ = ['Pump']


class _Sink:
    """A destination of ``pipe``."""

    __slots__ = ('destination', 'end', 'on_close')

    def __init__(self, destination: Any, end: bool, on_close: Callable[..., object]) -> None:
        self.destination = destination
        self.end = end
        self.on_close = on_close


class Pump:
    """Moves the chunks of one stream to its listeners and destinations."""

    __slots__ = ('_greenlet', '_offered', '_sinks', '_stream', 'flowing')

    def __init__(self, stream: ReadableBase) -> None:
        self._stream = stream
        self._sinks: list[_Sink] = []
        self._greenlet: gevent.Greenlet | None = None
        self._offered = False
        #: None until the stream was resumed or paused.
        self.flowing: bool | None = None

    @property
    def busy(self) -> bool:
        """Whether a greenlet is at work, or about to be."""
        return self._greenlet is not None

    # -- called by the stream's user ------------------------------------------------------------------------------

    def kick(self) -> None:
        """Start a greenlet on the next turn of the loop, unless one runs or there is nothing to do."""
        if self._greenlet is None and self._has_work():
            self._greenlet = gevent.spawn(self._run)

    def offer(self) -> None:
        """Tell of what is there already, and of what comes: somebody new listens for ``'readable'``."""
        self._offered = False
        self.kick()

    def add_sink(self, destination: Any, end: bool) -> None:
        """Write to ``destination`` from now on, and end it at the end if ``end``."""

        def on_close(*args: Any) -> None:
            self.remove_sinks(destination)

        destination.on('close', on_close)
        self._sinks.append(_Sink(destination, end, on_close))

    def remove_sinks(self, destination: Any = None) -> None:
        """Forget ``destination``, or all of them; the stream pauses when none is left."""
        removed = [sink for sink in self._sinks if destination is None or sink.destination is destination]
        self._sinks = [sink for sink in self._sinks if sink not in removed]
        for sink in removed:
            sink.destination.remove_listener('close', sink.on_close)
            sink.destination.emit('unpipe', self._stream)
        if removed and not self._sinks and not self._stream.listener_count('data'):
            self.flowing = False

    # -- the greenlet ---------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        stream = self._stream
        if stream.readable_ended or stream.destroyed:
            return False
        if self.flowing is None:
            return not (stream._unread and self._offered) and stream.listener_count('readable') > 0
        return self.flowing

    def _run(self) -> None:
        try:
            while self._has_work():
                if self.flowing:
                    self._flow()
                else:
                    self._offer()
        finally:
            self._greenlet = None
            self._stream._pump_rests()

    def _flow(self) -> None:
        """Hand on one chunk."""
        stream = self._stream
        unread = stream._unread
        chunk = unread.take(-1) if unread else self._fetch()
        if chunk is None:
            return
        if not chunk:
            self._end_sinks()
            return
        if not self.flowing:
            stream.unshift(chunk)
            return
        for sink in tuple(self._sinks):
            self._try_sink(sink, sink.destination.write, chunk)
        # a destination that failed has stopped it, too
        paused_before = stream.is_paused()
        self._emit('data', chunk)
        if stream.is_paused() and not paused_before and not stream._unread and stream._at_end():
            # a listener has paused it, and nothing is left that could be held back
            rest = self._fetch()
            if rest:
                stream._put_back(rest)
            elif rest is not None:
                self._end_sinks()

    def _end_sinks(self) -> None:
        for sink in self._sinks:
            if sink.end:
                self._try_sink(sink, sink.destination.end)
        self.remove_sinks()

    def _offer(self) -> None:
        """Fetch one chunk, or find the end, and say so."""
        stream = self._stream
        if not stream._unread:
            chunk = self._fetch(announce_end=False)
            if chunk is None:
                return
            if chunk:
                stream._put_back(chunk)
        at_end = not stream._unread
        self._offered = True
        self._emit('readable')
        if at_end and not stream._unread:
            stream._announce_end()

    def _fetch(self, announce_end: bool = True) -> Any:
        """Return the next chunk, empty at the end, or None when there was an error, which is then reported."""
        stream = self._stream
        stream._reading = True
        try:
            return stream._next_chunk(announce_end)
        except Exception as error:
            # destroy() without an error is no failure: 'close' says it all
            self.flowing = False
            if not stream.destroyed or stream._error is not None:
                stream._report(error)
            return None
        finally:
            stream._reading = False

    def _emit(self, event: str, *args: Any) -> None:
        stream = self._stream
        try:
            stream.emit(event, *args)
        except BaseException as error:
            self.flowing = False
            stream._listener_failed(error)
            raise

    def _try_sink(self, sink: _Sink, action: Callable[..., object], *args: Any) -> None:
        try:
            action(*args)
        except (Exception, gevent.Timeout) as error:
            try:
                self._sink_failed(sink, error)
            except (Exception, gevent.Timeout) as unhandled:
                # the other destinations have nothing to do with it
                gevent.spawn(_raise, unhandled)

    def _sink_failed(self, sink: _Sink, error: BaseException) -> None:
        destination = sink.destination
        if sink in self._sinks:
            self.remove_sinks(destination)
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
