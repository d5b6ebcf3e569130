"""Prepare the heads of responses: check and render their beginnings, and cache those that repeat.

Programs send many heads again and again, and others once: those with a cookie, an entity tag, a redirect or an id. The
latter are rendered in one pass over their fields, and not cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from geventnode.http.body_framing import BODILESS_STATUSES
from geventnode.http.header_fields import Fields, field_lines, merge_headers
from geventnode.http.server.response_head import RESPONSE_FRAMING_FIELDS, PreparedHead
from geventnode.protocol.grammar import KNOWN_NAMES

__all__ = ['prepare', 'prepare_fields', 'render_plain_fields']

#: The number of heads in the cache, and of fields and characters in each.
MAX_HEADS, MAX_FIELDS, MAX_TEXT = 256, 16, 1024

#: Digits of the greatest Content-Length that is prepared.
MAX_DIGITS = 18

#: Fields that differ from one response to the next, in lower case.
_VARYING = frozenset(
    {
        'age',
        'content-length',
        'content-range',
        'etag',
        'expires',
        'last-modified',
        'location',
        'server-timing',
        'set-cookie',
        'traceparent',
        'x-correlation-id',
        'x-request-id',
        'x-response-time',
        'x-runtime',
        'x-trace-id',
    }
)

#: The same, as applications write them.
_VARYING_SPELLINGS = frozenset(
    spelling for name in _VARYING for spelling in (name, name.title(), name.title().replace('Id', 'ID'))
) | {'ETag'}

#: Fields that a prepared head cannot have.
_NOT_PREPARED = RESPONSE_FRAMING_FIELDS - {'content-length'}

_heads: dict[tuple[Any, ...], PreparedHead] = {}
_known = KNOWN_NAMES.get


def prepare(status: int, headers: dict[str, Any]) -> PreparedHead | None:
    """Return the prepared head with these headers, None without one.

    Raises as :meth:`geventnode.http.ServerResponse.write_head` does.
    """
    if not _VARYING_SPELLINGS.isdisjoint(headers):
        rendered = None if status in BODILESS_STATUSES else render_plain_fields(headers.items(), True)
        return None if rendered is None else PreparedHead(status, rendered[0], rendered[1], None, rendered[2])
    key = (status, *headers.items())
    try:
        found = _heads.get(key)
    except TypeError:
        # the value of a field is a list
        return None
    if found is None and _is_plain(status, headers):
        fields = merge_headers({}, headers)
        found = _remember(key, PreparedHead(status, fields, field_lines(fields)))
    return found


def prepare_fields(status: int, fields: Fields) -> PreparedHead | None:
    """Return the prepared head with these checked fields, None without one."""
    if not _VARYING.isdisjoint(fields):
        if status in BODILESS_STATUSES or not _NOT_PREPARED.isdisjoint(fields):
            return None
        declared = fields.get('content-length')
        if declared is None:
            return PreparedHead(status, fields, field_lines(fields))
        if not _is_plain_length(declared[1]):
            return None
        others = {name: field for name, field in fields.items() if name != 'content-length'}
        return PreparedHead(status, fields, field_lines(others), None, int(declared[1]))
    key = (status, *fields.values())
    try:
        found = _heads.get(key)
    except TypeError:
        return None
    if found is None and _is_plain(status, dict(fields.values())):
        found = _remember(key, PreparedHead(status, dict(fields), field_lines(fields)))
    return found


def render_plain_fields(pairs: Iterable[Any], takes_int: bool) -> tuple[Fields, str, int | None] | None:
    """Return usual fields by name, their lines, and the declared length.

    Content-Length has no line. Returns None for fields that need more than the checks of this function: an unknown or
    repeated name, a value that is not printable ASCII text, or a field about the connection.

    :param pairs: names and values; anything else than a tuple of two returns None.
    :param takes_int: whether the value of Content-Length can be an int.
    """
    fields: Fields = {}
    lines = ''
    length: int | None = None
    for pair in pairs:
        if type(pair) is not tuple or len(pair) != 2:
            return None
        name, value = pair
        lower = _known(name)
        if lower is None or lower in fields or lower in _NOT_PREPARED or type(name) is not str:
            return None
        if lower == 'content-length':
            if takes_int and type(value) is int:
                value = str(value)
            if type(value) is not str or not _is_plain_length(value):
                return None
            length = int(value)
            fields[lower] = name, value
        elif type(value) is str and value.isascii() and value.isprintable():
            fields[lower] = pair
            lines += f'{name}: {value}\r\n'
        else:
            return None
    return fields, lines, length


def _is_plain_length(value: str) -> bool:
    """Return whether ``value`` is a length as the server writes it: without leading zeros, and not too long."""
    return value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS and (value[0] != '0' or value == '0')


def _is_plain(status: int, headers: dict[str, Any]) -> bool:
    """Return whether a head can be cached.

    It has no field about framing or the connection, and can have a body. Names and values are text: as keys of a dict,
    1 and True are equal, and in a head they are not.
    """
    return (
        len(headers) <= MAX_FIELDS
        and status not in BODILESS_STATUSES
        and all(
            type(name) is str and type(value) is str and name.lower() not in RESPONSE_FRAMING_FIELDS
            for name, value in headers.items()
        )
    )


def _remember(key: tuple[Any, ...], head: PreparedHead) -> PreparedHead:
    # the names of varying fields can have unusual spellings
    if len(head.start) <= MAX_TEXT and _VARYING.isdisjoint(head.fields):
        if len(_heads) >= MAX_HEADS:
            _heads.clear()
        _heads[key] = head
    return head
