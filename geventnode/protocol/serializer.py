"""The serializer: checked parts of messages as text or bytes.

The http layer builds heads from these parts. Every value of an application is checked against the grammar, here or
before, so that no value can end a line early (RFC 9112, section 11.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from geventnode.protocol.grammar import check_name, check_reason, check_status, check_value

__all__ = ['last_chunk', 'render_fields', 'status_line']


@lru_cache(maxsize=256)
def status_line(status_code: int, reason: str) -> str:
    """Return a status line with its line end (RFC 9112, section 4).

    :raises InvalidInput: the status is not from 100 to 999, or the reason phrase has control characters.
    """
    return f'HTTP/1.1 {check_status(status_code)} {check_reason(reason)}\r\n'


def render_fields(pairs: Iterable[tuple[str, str]]) -> str:
    """Return field lines with their line ends, to be encoded as latin-1.

    The final empty line is not included.

    :raises InvalidHeader: a name is not a token, or a value has invalid characters.
    """
    lines: list[str] = []
    for name, value in pairs:
        check_name(name)
        check_value(name, value)
        # not formatted, which could replace the checked text of a subclass of str
        lines += name, ': ', value, '\r\n'
    return ''.join(lines)


def last_chunk(trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return the end of a chunked message, with its trailer section.

    Source: RFC 9112, section 7.1.2.

    :raises InvalidHeader: a name or a value is invalid, as for :func:`render_fields`.
    """
    return b'0\r\n%b\r\n' % render_fields(trailers).encode('latin-1')
