"""Check and prepare the arguments of ``start_response``, and cache those that repeat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from geventnode.errors import InvalidHeader, InvalidInput
from geventnode.http import STATUS_CODES
from geventnode.http.body_framing import BODILESS_STATUSES
from geventnode.http.header_fields import Fields, field_lines, merge_headers
from geventnode.http.server.head_cache import render_plain_fields
from geventnode.http.server.response_head import STANDARD_LINES, final_status_line
from geventnode.protocol import connection_options

__all__ = ['Head', 'early_hints', 'find_head']

#: The number of heads in the cache, and of fields and characters in each.
MAX_HEADS, MAX_FIELDS, MAX_TEXT = 256, 16, 1024

#: Fields that only the server sets (PEP 3333, "Other HTTP Features"; RFC 9110, section 7.6.1). They are dropped and not
#: refused, because applications for other servers set some of them.
_HOP_BY_HOP = frozenset({'connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade'})

#: Fields that a rendered head cannot have.
_OWN = frozenset({'date', 'trailer'})

_status = re.compile(r'([2-9][0-9][0-9])(?: (.*))?', re.ASCII)


class Head:
    """A checked status and its checked headers: immutable, shared between responses."""

    __slots__ = ('closes', 'fields', 'length', 'reason', 'start', 'status_code')

    def __init__(
        self,
        status_code: int,
        reason: str | None,
        fields: Fields,
        start: str | None,
        length: int | None,
        closes: bool = False,
    ) -> None:
        self.status_code = status_code
        #: The reason phrase; None: that of ``STATUS_CODES``.
        self.reason = reason
        #: Whether the application closes the connection.
        self.closes = closes
        self.fields = fields
        #: The value of Content-Length, None without the field.
        self.length = length
        #: The rendered head without the length and the last line end; None if the server has to render it.
        self.start = start


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
    return Head(
        status_code,
        reason,
        fields,
        f'{final_status_line(status_code, reason)}\r\n{field_lines(fields)}'[:-2] if can_render else None,
        None if length is None else int(length[1]),
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


#: Heads that an application used at least twice, by its arguments, and the hashes of the arguments of recent heads.
_heads: dict[Any, Head] = {}
_seen: set[int] = set()

#: The usual statuses with their reason phrases.
_USUAL_STATUSES = {
    f'{status_code} {reason}': status_code
    for status_code, reason in STATUS_CODES.items()
    if status_code >= 200 and status_code not in BODILESS_STATUSES
}


def find_head(status: Any, headers: Any) -> Head:
    """Return the checked head for the arguments of ``start_response``.

    Raises ``InvalidInput``, ``InvalidHeader``, ``TypeError``.
    """
    if type(headers) is not list:
        headers = _listed(headers)
    try:
        key = (status, *headers)
        found = _heads.get(key)
        if found is not None:
            return found
        status_code = _USUAL_STATUSES.get(status)
        rendered = None
        if status_code is not None and {*map(type, headers)} == {tuple}:
            rendered = render_plain_fields(STANDARD_LINES[status_code], headers, False)
    except (TypeError, ValueError):
        # an unhashable item or no pair: the checks raise a precise error
        return _check_head(status, headers)
    if rendered is None or status_code is None or not _HOP_BY_HOP.isdisjoint(rendered[0]):
        return _check_head(status, headers)
    fields, start, length = rendered
    if length is not None:
        del fields['content-length']
    found = Head(status_code, None, fields, start, None if length is None else int(length))
    number = hash(key)
    if number in _seen:
        # a cookie can be a credential
        if len(headers) <= MAX_FIELDS and len(start) <= MAX_TEXT and 'set-cookie' not in fields:
            if len(_heads) >= MAX_HEADS:
                _heads.clear()
            _heads[key] = found
    else:
        if len(_seen) >= MAX_HEADS:
            _seen.clear()
        _seen.add(number)
    return found
