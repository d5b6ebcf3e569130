"""Check and prepare the arguments of ``start_response``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from geventnode.errors import InvalidHeader, InvalidInput
from geventnode.http import STATUS_CODES
from geventnode.http.body_framing import BODILESS_STATUSES
from geventnode.http.header_fields import Fields, field_lines, merge_headers
from geventnode.http.server.head_cache import render_plain_fields
from geventnode.http.server.response_head import STANDARD_LINES, final_status_line
from geventnode.protocol import connection_options

__all__ = ['Head', 'early_hints', 'find_head']

#: Fields that only the server sets (PEP 3333, "Other HTTP Features"; RFC 9110, section 7.6.1). They are dropped and not
#: refused, because applications for other servers set some of them.
_HOP_BY_HOP = frozenset({'connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade'})

#: Fields that a rendered head cannot have.
_OWN = frozenset({'date', 'trailer'})

_status = re.compile(r'([2-9][0-9][0-9])(?: (.*))?', re.ASCII)


class Head(NamedTuple):
    """A checked status and its checked headers."""

    status_code: int
    #: The reason phrase; None: that of ``STATUS_CODES``.
    reason: str | None
    #: The fields without Content-Length.
    fields: Fields
    #: The value of Content-Length, None without the field.
    length: int | None
    #: The status line, and the rendered head without the length and the last line end; None if the server has to render
    #: it.
    line: str
    start: str | None
    #: Whether the application closes the connection.
    closes: bool


def _check_status(status: Any) -> tuple[int, str | None]:
    """Return the code and the phrase, None for the standard one."""
    if not isinstance(status, str):
        raise TypeError(f'the status must be str, not {type(status).__name__}')
    found = _status.fullmatch(status)
    if found is None:
        raise InvalidInput(
            f"the status must be as in '200 OK', from 200 to 999, not {status!r}", 'ERR_HTTP_INVALID_STATUS_CODE'
        )
    status_code, reason = int(found[1]), found[2] or ''
    return status_code, None if reason == STATUS_CODES.get(status_code) else reason


def _check_head(status: Any, headers: list[Any]) -> Head:
    """Check a head with any status and any headers."""
    status_code, reason = _check_status(status)
    closes = False
    kept = []
    for name, value in _checked_pairs(headers):
        lower = name.lower()
        if lower not in _HOP_BY_HOP:
            kept.append((name, value))
        elif lower == 'connection' and 'close' in connection_options((value,)):
            closes = True
    fields = merge_headers({}, kept)
    length = fields.pop('content-length', None)
    can_render = not closes and status_code not in BODILESS_STATUSES and fields.keys().isdisjoint(_OWN)
    line = final_status_line(status_code, reason)
    return Head(
        status_code,
        reason,
        fields,
        None if length is None else int(length[1]),
        line,
        f'{line}\r\n{field_lines(fields)}'[:-2] if can_render else None,
        closes,
    )


def _listed(headers: Any) -> list[Any]:
    """Return the pairs of any iterable as a list. A mapping iterates over names and is refused."""
    if isinstance(headers, (str, Mapping)) or not isinstance(headers, Iterable):
        raise TypeError(f'headers must be a list of (name, value) pairs, not {type(headers).__name__}')
    return list(headers)


def early_hints(headers: Any) -> dict[str, Any]:
    """Return the headers of a call of ``wsgi.early_hints`` by name.

    They can be bytes, as under gunicorn. Raises ``InvalidHeader``, ``TypeError``.
    """
    pairs = [
        tuple(item.decode('latin-1') if isinstance(item, bytes) else item for item in pair)
        if isinstance(pair, (tuple, list))
        else pair
        for pair in _listed(headers)
    ]
    return dict(merge_headers({}, _checked_pairs(pairs)).values())


def _checked_pairs(headers: list[Any]) -> list[Any]:
    for pair in headers:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(f'headers must be a list of (name, value) pairs, and {pair!r} is none')
        if not (isinstance(pair[0], str) and isinstance(pair[1], str)):
            raise InvalidHeader(
                f'a header is a name and a value of type str, not {pair!r}', 'ERR_HTTP_INVALID_HEADER_VALUE'
            )
    return headers


#: The usual statuses with their reason phrases: the code and the status line of each.
_USUAL_STATUSES = {
    f'{status_code} {reason}': (status_code, STANDARD_LINES[status_code])
    for status_code, reason in STATUS_CODES.items()
    if status_code >= 200 and status_code not in BODILESS_STATUSES
}

# the method of the class would be a call in Python
_new_head = tuple.__new__


def find_head(status: Any, headers: Any) -> Head:
    """Return the checked head for the arguments of ``start_response``.

    Raises ``InvalidInput``, ``InvalidHeader``, ``TypeError``.
    """
    if type(headers) is not list:
        headers = _listed(headers)
    usual = _USUAL_STATUSES.get(status) if type(status) is str else None
    if usual is None:
        return _check_head(status, headers)
    for pair in headers:
        if type(pair) is not tuple or len(pair) != 2:
            return _check_head(status, headers)
    status_code, line = usual
    rendered = render_plain_fields(line, headers, False)
    if rendered is None:
        return _check_head(status, headers)
    fields, start, length = rendered
    # the others of _HOP_BY_HOP are not plain
    if 'upgrade' in fields or 'te' in fields or 'proxy-connection' in fields:
        return _check_head(status, headers)
    size = None
    if length is not None:
        del fields['content-length']
        size = int(length)
    return _new_head(Head, (status_code, None, fields, size, line, start, False))
