"""The headers of messages to be sent: they can be changed until the head is fixed, and are checked when set."""

from __future__ import annotations

from typing import Any, TypeVar

from geventnode.errors import HeadersSent
from geventnode.events import EventEmitter
from geventnode.http.header_fields import Fields, HeadersArgument, added, check_field, checked_trailers, copied
from geventnode.http.progress import State

__all__ = ['OutgoingHeaders']

Self = TypeVar('Self', bound='OutgoingHeaders')

#: Fields that are added by themselves, unless they were removed.
AUTOMATIC = frozenset({'date', 'connection', 'content-length', 'transfer-encoding'})

_OPEN, _BODY, _ENDED = State.OPEN, State.BODY, State.ENDED


class OutgoingHeaders(EventEmitter):
    """See :class:`geventnode.interfaces.IOutgoingMessage`, which this is the headers of."""

    _state: State = _OPEN
    _fields: Fields
    _removed: frozenset[str] = frozenset()
    _trailers: list[tuple[str, str]] | None = None

    def set_header(self: Self, name: str, value: Any) -> Self:
        self._check_open('set')
        lower, checked = check_field(name, value)
        self._fields[lower] = name, checked
        return self

    def append_header(self: Self, name: str, value: Any) -> Self:
        self._check_open('append')
        lower, checked = check_field(name, value)
        field = added(self._fields.get(lower), name, checked)
        check_field(*field)
        self._fields[lower] = field
        return self

    def get_header(self, name: str) -> Any:
        present = self._fields.get(name.lower())
        return None if present is None else copied(present[1])

    def get_headers(self) -> dict[str, Any]:
        return {lower: copied(value) for lower, (_, value) in self._fields.items()}

    def get_header_names(self) -> list[str]:
        return list(self._fields)

    def has_header(self, name: str) -> bool:
        return name.lower() in self._fields

    def remove_header(self, name: str) -> None:
        self._check_open('remove')
        lower = name.lower()
        self._fields.pop(lower, None)
        if lower in AUTOMATIC:
            self._removed |= {lower}

    def _check_open(self, action: str) -> None:
        self._check_thread()
        if self._state is not _OPEN:
            raise HeadersSent(f'cannot {action} headers: the head is fixed')

    def add_trailers(self, headers: HeadersArgument) -> None:
        self._check_thread()
        self._trailers = checked_trailers(headers)

    @property
    def headers_sent(self) -> bool:
        return self._state is not _OPEN

    @property
    def head_on_wire(self) -> bool:
        """Whether the head was handed to the socket: too late for another answer."""
        return self._state is _BODY or self._state is _ENDED
