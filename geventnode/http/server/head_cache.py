"""Cache the beginnings of response heads, checked and rendered.

Programs send the same few heads again and again.
"""

from __future__ import annotations

from typing import Any

from geventnode.http.body_framing import BODILESS_STATUSES
from geventnode.http.header_fields import Fields, merge_headers
from geventnode.http.server.response_head import RESPONSE_FRAMING_FIELDS, PreparedHead

__all__ = ['prepare', 'prepare_fields']

#: The number of heads in the cache, and of fields and characters in each.
MAX_HEADS, MAX_FIELDS, MAX_TEXT = 256, 16, 1024

_heads: dict[tuple[Any, ...], PreparedHead] = {}


def prepare(status: int, headers: dict[str, Any]) -> PreparedHead | None:
    """Return the prepared head with these headers, None without one.

    Raises as :meth:`geventnode.http.ServerResponse.write_head` does.
    """
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
    """Return the prepared head with these checked fields, None without one."""
    key = (status, *fields.values())
    try:
        found = _heads.get(key)
    except TypeError:
        return None
    if found is None and _is_plain(status, dict(fields.values())):
        found = _remember(key, PreparedHead(status, dict(fields)))
    return found


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
    if len(head.start) <= MAX_TEXT:
        if len(_heads) >= MAX_HEADS:
            _heads.clear()
        _heads[key] = head
    return head
