"""Waiting for the end of any stream, complete or not.

Sockets always emit ``'close'``, messages only after an error. Therefore the state of the stream decides, and its last
events are only the occasions to check it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import Event

from geventnode.errors import PrematureClose
from geventnode.interfaces import IReadable, IWritable

__all__ = ['Watch', 'finished']

ENDINGS = ('end', 'finish', 'close', 'error', 'aborted')


class Watch:
    """Observes one stream until it is over."""

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
                self.check(closed=event in ('close', 'aborted'))

        return listener

    def check(self, closed: bool = False) -> None:
        """Finish if the stream is over."""
        stream = self.stream
        if (not self.readable or stream.readable_ended) and (not self.writable or stream.writable_finished):
            self.finish(None)
        elif closed or stream.destroyed:
            self.finish(stream._error or PrematureClose(f'{type(stream).__name__} was closed before its end'))

    def finish(self, error: BaseException | None) -> None:
        """Report the result once."""
        if self.listeners:
            self.cancel()
            self.done(error)

    def cancel(self) -> None:
        """Stop observing."""
        for event, listener in self.listeners:
            self.stream.remove_listener(event, listener)
        self.listeners = []


def _was_aborted(stream: Any) -> bool:
    """Return whether a received message has lost its end: its last events were emitted."""
    return getattr(stream, 'aborted', False) and not stream.complete


def finished(
    stream: Any,
    callback: Callable[[BaseException | None], object] | None = None,
    *,
    readable: bool = True,
    writable: bool = True,
) -> Any:
    """Wait until a stream is over, or call back then.

    Without ``callback``, this blocks until both sides of the stream have ended: all data was read, and all written data
    was passed on. It reads nothing itself.

    Node's documentation: "Stream", ``stream.finished()``.

    :param stream: a readable, a writable or a duplex, such as a socket, a request or a response.
    :param callback: a function that is called with None or the error. The call then returns at once.
    :param readable: whether the readable side counts.
    :param writable: whether the writable side counts.
    :returns: None; with ``callback``, a function that cancels it.
    :raises PrematureClose: the stream was closed before its end. After ``'error'``, the error of the stream is raised
        instead.
    """
    if callback is not None:
        watch = Watch(stream, callback, readable, writable)
        watch.check(_was_aborted(stream))
        return watch.cancel
    over = Event()
    outcome: list[BaseException | None] = []

    def done(error: BaseException | None) -> None:
        outcome.append(error)
        over.set()

    watch = Watch(stream, done, readable, writable)
    try:
        watch.check(_was_aborted(stream))
        over.wait()
    finally:
        watch.cancel()
    if outcome[0] is not None:
        raise outcome[0]
    return None
