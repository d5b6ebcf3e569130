"""Streams that are readable and writable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import gevent
from zope.interface import implementer

from geventnode.interfaces import IDuplex, IPushReadable
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK, Readable, ReadableBase
from geventnode.stream.writable import Writable, WritableBase

__all__ = ['Duplex', 'DuplexBase']

Self = TypeVar('Self', bound='DuplexBase')


@implementer(IDuplex)
class DuplexBase(ReadableBase, WritableBase):
    """A readable and a writable that are destroyed together."""

    events: ClassVar[frozenset[str]] = ReadableBase.events | WritableBase.events

    destroyed: bool = False
    _error: BaseException | None = None

    def __repr__(self) -> str:
        return f'<{type(self).__name__} reading: {self._reading_state()}, writing: {self._writing_state()}>'

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        """Destroy both sides.

        Unread and queued data is discarded, and blocked readers and writers raise. ``'error'`` with ``error``, if there
        is one, and ``'close'`` follow in a greenlet. A second call does nothing.

        :param error: the reason; None for a deliberate end.
        :returns: the stream.
        """
        self._check_thread()
        if not self.destroyed:
            self.destroyed = True
            self._error = error
            self._queue = None
            self.writable_length = 0
            self._destroy()
            self._wake_writers()
            gevent.spawn(self._emit_close, error)
        return self


@implementer(IPushReadable)
class Duplex(DuplexBase, Readable, Writable):
    """A stream with independent readable and writable sides.

    A transform is a duplex with a ``write`` function that pushes its results. Each side ends on its own; ``destroy()``
    ends both. The parameters are those of :class:`~geventnode.stream.Readable` and
    :class:`~geventnode.stream.Writable`; ``high_water_mark`` applies to both sides.

    Node's documentation: "Stream", class ``stream.Duplex``.

    :param read: a function that is called for more data, as in :class:`~geventnode.stream.Readable`.
    :param write: a function that takes each chunk, as in :class:`~geventnode.stream.Writable`. Without it, writing
        raises ``TypeError``.
    :param final: a function that is called after the last chunk, as in :class:`~geventnode.stream.Writable`.
    :param high_water_mark: the number of buffered bytes of each side at which its producer is paused.
    """

    def __init__(
        self,
        read: Callable[[Readable, int], object] | None = None,
        write: Callable[[bytes], object] | None = None,
        final: Callable[[], object] | None = None,
        high_water_mark: int = DEFAULT_HIGH_WATER_MARK,
    ) -> None:
        Readable.__init__(self, read, high_water_mark)
        Writable.__init__(self, write or self._refuse, final, high_water_mark)

    def _refuse(self, data: Any) -> None:
        raise TypeError('this Duplex was made without a write function')
