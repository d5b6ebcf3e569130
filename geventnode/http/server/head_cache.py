"""Heads of responses that were sent lately: checked and rendered once, for all that come again.

Programs send the same few heads: what makes one message differ from the next, Date and Content-Length, is put behind.
"""

from __future__ import annotations

from typing import Any

from geventnode.errors import InvalidInput
from geventnode.http.body_framing import BODILESS_STATUSES
from geventnode.http.header_fields import Fields, merge_headers
from geventnode.http.status import STATUS_CODES, date_line
from geventnode.protocol import status_line

__all__ = ['RESPONSE_FRAMING_FIELDS', 'PreparedHead', 'final_status_line', 'prepare', 'prepare_fields']

#: Fields that have a say in how the message is framed, or that are added when they are missing.
RESPONSE_FRAMING_FIELDS = frozenset(
    {'connection', 'content-length', 'date', 'keep-alive', 'trailer', 'transfer-encoding'}
)

#: Heads that are remembered, and what they may have at most.
MAX_HEADS, MAX_FIELDS, MAX_TEXT = 256, 16, 1024


class PreparedHead:
    """The part of a head that the application decides, where that is nothing about framing or the connection. Shared
    between responses: never changed."""

    __slots__ = ('_connection', '_date', '_prefix', 'fields', 'line', 'status_code', 'status_message', 'text')

    def __init__(self, status: int, fields: Fields, reason: str | None = None) -> None:
        self.status_code = status
        self.status_message = reason
        self.fields = fields
        self.line = final_status_line(status, reason)
        self.text = self.line + ''.join(
            [
                f'{name}: {item}\r\n'
                for name, value in fields.values()
                for item in (value if isinstance(value, list) else [value])
            ]
        )
        self._date = self._connection = ''
        self._prefix = b''

    def prefix(self, connection: str) -> bytes:
        """Return everything up to the value of Content-Length, which is the last field.

        :param connection: the fields that are about the connection.
        """
        date = date_line()
        # neither is made anew while it stays the same
        if self._date is not date or self._connection is not connection:
            self._prefix = f'{self.text}{date}{connection}Content-Length: '.encode('latin-1')
            self._date = date
            self._connection = connection
        return self._prefix


_heads: dict[tuple[Any, ...], PreparedHead] = {}


def prepare(status: int, headers: dict[str, Any]) -> PreparedHead | None:
    """Return the head with these headers, None for one that is not remembered. Raises as ``write_head``
    does."""
    key = (status, *headers.items())
    try:
        found = _heads.get(key)
    except TypeError:
        # the value of a field is a list
        return None
    if found is None and _is_plain(status, headers):
        found = _remember(key, PreparedHead(status, merge_headers({}, headers)))
    return found


def prepare_fields(status: int, fields: Fields) -> PreparedHead | None:
    """As :func:`prepare`, for fields that were checked already."""
    key = (status, *fields.values())
    try:
        found = _heads.get(key)
    except TypeError:
        return None
    if found is None and _is_plain(status, dict(fields.values())):
        found = _remember(key, PreparedHead(status, dict(fields)))
    return found


def _is_plain(status: int, headers: dict[str, Any]) -> bool:
    """Whether nothing is about framing or the connection, there may be a body, and everything is text: 1 and True are
    the same to a dict, and not to a head."""
    return (
        len(headers) <= MAX_FIELDS
        and status not in BODILESS_STATUSES
        and all(
            type(name) is str and type(value) is str and name.lower() not in RESPONSE_FRAMING_FIELDS
            for name, value in headers.items()
        )
    )


def _remember(key: tuple[Any, ...], head: PreparedHead) -> PreparedHead:
    if len(head.text) <= MAX_TEXT:
        if len(_heads) >= MAX_HEADS:
            _heads.clear()
        _heads[key] = head
    return head


def final_status_line(status: int, reason: str | None) -> str:
    """Return the first line of a response, with the usual reason phrase if there is no other. Raises
    ``InvalidInput``, ``TypeError``."""
    if type(status) is not int:
        raise TypeError(f'a status code must be int, not {type(status).__name__}')
    if not 200 <= status <= 999:
        raise InvalidInput(f'a final status must be from 200 to 999, not {status!r}', 'ERR_HTTP_INVALID_STATUS_CODE')
    return status_line(status, STATUS_CODES.get(status, 'unknown') if reason is None else reason)
