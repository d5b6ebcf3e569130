"""Both directions in one object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import gevent
from zope.interface import implementer

from geventnode.interfaces import IDuplex
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


class Duplex(DuplexBase, Readable, Writable):
    """A source and a sink; what is written need not have to do with what is read. A transform pushes from ``write``.

    The parameters are those of :class:`~geventnode.stream.Readable` and :class:`~geventnode.stream.Writable`.
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
