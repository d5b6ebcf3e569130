"""Waiting for the end of a stream, good or bad, whatever kind of stream it is.

Sockets say ``'close'`` at every end, messages only at a bad one; so what counts is the state of the stream when one of
its last events comes, and the events themselves only say when to look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import Event

from geventnode.errors import PrematureClose
from geventnode.interfaces import IReadable, IWritable

__all__ = ['finished']

ENDINGS = ('end', 'finish', 'close', 'error', 'aborted')


class _Watch:
    """Looks at one stream until it is over."""

    def __init__(
        self, stream: Any, done: Callable[[BaseException | None], object], readable: bool, writable: bool
    ) -> None:
        self.stream = stream
        self.done = done
        self.readable = readable and IReadable.providedBy(stream)
        self.writable = writable and IWritable.providedBy(stream)
        self.listeners: list[tuple[str, Callable[..., None]]] = []
        for event in ENDINGS:
            if event in stream.events:
                listener = self._listener(event)
                self.listeners.append((event, listener))
                stream.on(event, listener)

    def _listener(self, event: str) -> Callable[..., None]:
        def listener(*args: Any) -> None:
            if event == 'error':
                self.finish(args[0])
            else:
                self.look(closed=event in ('close', 'aborted'))

        return listener

    def look(self, closed: bool = False) -> None:
        """Finish when nothing more can come."""
        stream = self.stream
        if (not self.readable or stream.readable_ended) and (not self.writable or stream.writable_finished):
            self.finish(None)
        elif closed or stream.destroyed:
            self.finish(stream._error or PrematureClose(f'{type(stream).__name__} was closed before its end'))

    def finish(self, error: BaseException | None) -> None:
        """Report once."""
        if self.listeners:
            self.cancel()
            self.done(error)

    def cancel(self) -> None:
        """Stop looking."""
        for event, listener in self.listeners:
            self.stream.remove_listener(event, listener)
        self.listeners = []


def finished(
    stream: Any,
    callback: Callable[[BaseException | None], object] | None = None,
    *,
    readable: bool = True,
    writable: bool = True,
) -> Any:
    """Wait until ``stream`` is over, in both directions if it has two; raise what ended it early. May switch.

    :param callback: called with None or the error instead; then a function that cancels this is returned at once.
    :param readable: whether the readable side counts.
    :param writable: whether the writable side counts.

    Raises what the stream's ``'error'`` brings, or ``PrematureClose``. Nothing is consumed: somebody else reads.
    """
    if callback is not None:
        watch = _Watch(stream, callback, readable, writable)
        watch.look()
        return watch.cancel
    over = Event()
    outcome: list[BaseException | None] = []

    def done(error: BaseException | None) -> None:
        outcome.append(error)
        over.set()

    watch = _Watch(stream, done, readable, writable)
    try:
        watch.look()
        over.wait()
    finally:
        watch.cancel()
    if outcome[0] is not None:
        raise outcome[0]
    return None
