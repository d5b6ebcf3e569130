"""Chains of streams that live and die together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import gevent
from gevent.event import AsyncResult

from geventnode.interfaces import IReadable
from geventnode.stream.finished import finished
from geventnode.stream.readable import Readable

__all__ = ['pipeline']


def pipeline(
    *streams: Any, callback: Callable[[BaseException | None], object] | None = None, timeout: float | None = None
) -> Any:
    """Send the first stream through all the others and wait for the last to finish; return the last. May switch.

    The first error of any of them destroys every part, and is raised; so does leaving the call by an exception of any
    kind, ``gevent.Timeout`` and ``GreenletExit`` included.

    :param streams: a readable or an iterable of chunks, any number of duplexes, a writable.
    :param callback: called with None or the error instead; then the call returns at once.
    :param timeout: seconds after which ``gevent.Timeout`` is raised; None: as long as it takes.
    """
    if len(streams) < 2:
        raise TypeError('pipeline() takes a source, a destination, and what is to stand between them')
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
    watches: list[Callable[[], None]] = []
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
        # a part that goes while the others have nothing to say must be heard of, too
        watches += [finished(part, failed, writable=part is not parts[0]) for part in parts[:-1]]
        watches.append(finished(parts[-1], last_over, readable=False))
        _wait(outcome, copiers)
    except BaseException as error:
        for part in parts:
            part.destroy(error if isinstance(error, Exception) else None)
        raise
    finally:
        limit.close()
        for cancel in watches:
            cancel()
        gevent.killall(copiers)


def _wait(outcome: AsyncResult, copiers: list[gevent.Greenlet]) -> None:
    try:
        outcome.get()
    except Exception:
        # the errors of the copiers tell more than the closing of which they are the cause or the effect
        gevent.joinall(copiers, timeout=0)
        for copier in copiers:
            if copier.ready() and copier.value is not None:
                raise copier.value from None
        raise
    for copier in gevent.iwait(copiers):
        if copier.value is not None:
            raise copier.value


def _copy(source: Any, destination: Any) -> BaseException | None:
    """Move everything and end ``destination``; return what went wrong."""
    try:
        for chunk in source:
            destination.write(chunk)
        destination.end()
    except Exception as error:
        return error
    return None
