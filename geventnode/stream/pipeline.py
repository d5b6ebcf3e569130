"""Chains of streams that end together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import gevent
from gevent.event import AsyncResult

from geventnode.interfaces import IReadable
from geventnode.stream.finished import Watch
from geventnode.stream.readable import Readable

__all__ = ['pipeline']


def pipeline(
    *streams: Any, callback: Callable[[BaseException | None], object] | None = None, timeout: float | None = None
) -> Any:
    """Copy the first stream through all others into the last one.

    Without ``callback``, this blocks until the last stream has finished. The first error of any stream destroys all of
    them and is raised. An exception that interrupts the call, such as ``gevent.Timeout`` or ``GreenletExit``, destroys
    all of them, too.

    Node's documentation: "Stream", ``stream.pipeline()``.

    :param streams: a readable or an iterable of chunks, any number of duplexes, and a writable.
    :param callback: a function that is called with None or the error. The call then returns at once.
    :param timeout: the time limit in seconds, after which ``gevent.Timeout`` is raised; None is no limit.
    :returns: the last stream.
    :raises TypeError: there are less than two streams, or the first one is not readable.
    """
    if len(streams) < 2:
        raise TypeError('pipeline() takes at least two streams: a source and a destination')
    first = streams[0]
    if not IReadable.providedBy(first):
        if not isinstance(first, Iterable):
            raise TypeError(f'the first part of a pipeline must be readable, not {type(first).__name__}')
        first = Readable.from_iterable(first)
    parts = (first, *streams[1:])
    if callback is None:
        _run(parts, timeout)
    else:
        gevent.spawn(_run_for, callback, parts, timeout)
    return streams[-1]


def _run_for(callback: Callable[[BaseException | None], object], parts: tuple[Any, ...], timeout: float | None) -> None:
    error: BaseException | None = None
    try:
        _run(parts, timeout)
    except (Exception, gevent.Timeout) as failure:
        error = failure
    callback(error)


def _run(parts: tuple[Any, ...], timeout: float | None) -> None:
    copiers: list[gevent.Greenlet] = []
    watches: list[Watch] = []
    outcome: AsyncResult = AsyncResult()

    def failed(error: BaseException | None) -> None:
        if error is not None and not outcome.ready():
            outcome.set_exception(error)

    def last_over(error: BaseException | None) -> None:
        if error is None:
            outcome.set(None)
        else:
            failed(error)

    limit = gevent.Timeout.start_new(timeout)
    try:
        copiers += [gevent.spawn(_copy, source, destination) for source, destination in pairwise(parts)]
        for copier in copiers:
            copier.rawlink(lambda copier: failed(copier.value))
        # a part can also be closed while no other part reads from it or writes to it
        watches += [Watch(part, failed, True, part is not parts[0]) for part in parts[:-1]]
        watches.append(Watch(parts[-1], last_over, False, True))
        for watch in watches:
            # the bytes before the end of an aborted message are copied
            watch.check()
        _wait(outcome, copiers)
    except BaseException as error:
        for part in parts:
            part.destroy(error if isinstance(error, Exception) else None)
        raise
    finally:
        limit.close()
        for watch in watches:
            watch.cancel()
        gevent.killall(copiers)


def _wait(outcome: AsyncResult, copiers: list[gevent.Greenlet]) -> None:
    try:
        outcome.get()
    except Exception:
        # the error of a copier is more specific than the close that it causes or results from
        gevent.joinall(copiers, timeout=0)
        for copier in copiers:
            if copier.ready() and copier.value is not None:
                raise copier.value from None
        raise
    for copier in gevent.iwait(copiers):
        if copier.value is not None:
            raise copier.value


def _copy(source: Any, destination: Any) -> BaseException | None:
    """Copy all chunks and end ``destination``; return the error or None."""
    try:
        for chunk in source:
            destination.write(chunk)
        destination.end()
    except (Exception, gevent.Timeout) as error:
        return error
    return None
