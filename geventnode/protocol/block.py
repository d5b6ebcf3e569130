"""Header sections: validated by one regular expression, and interpreted.

A section is the text from the line end before the first field to the line end after the last one. It is decoded once
and split by one regular expression, and its validity follows from counting. The expression matches only names that are
tokens. If the line ends around the fields are the only characters of the section that a value cannot contain, the
expression has skipped nothing. :mod:`geventnode.protocol.head` needs this for repeated names, folded lines and errors
only.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, NoReturn

from geventnode.errors import ParseError
from geventnode.protocol.framing import connection_options, keep_alive
from geventnode.protocol.grammar import (
    BARE_LINE_END,
    FIELD_CHARACTERS,
    FIELD_LINE,
    FIELDS,
    FOLD,
    is_token,
    list_elements,
)

__all__ = [
    'check_line_ends',
    'check_single',
    'connection_verdicts',
    'expectation',
    'framing_fields',
    'parse_fields',
]

_CONTINUE = '100-continue'

#: Singleton fields of a request that define how its body is read, or its sender (RFC 9110, section 5.5). If a proxy and
#: an application chose different ones of two, they would check and serve different requests. Host and Content-Length
#: are singleton fields, too, and have errors of their own.
_SINGLETON_FIELDS = frozenset(('authorization', 'content-range', 'content-type', 'proxy-authorization'))


def parse_fields(block: bytes, unfold: bool = False) -> list[tuple[str, str]]:
    """Return the fields of a section as (name, value), decoded as latin-1.

    Blanks around the values are removed.

    :param block: the section, from the line end before its first field to the line end after its last one.
    :param unfold: whether folds are replaced by blanks; otherwise they are errors.
    :raises ParseError: the section is malformed (RFC 9112, section 5).
    """
    text = block.decode('latin-1')
    pairs: list[tuple[str, str]] = FIELDS.findall(text)
    # Each match begins with a line end, and one more follows the last match.
    if len(block.translate(None, FIELD_CHARACTERS)) != 2 * len(pairs) + 2:
        if not unfold:
            _reject(block)
        # before the first field there is no line to continue (RFC 9112, section 2.2)
        return parse_fields(block[:2] + FOLD.sub(b' ', block[2:]))
    if ' \r' in text or ('\t' in text and '\t\r' in text):
        pairs = [(name, value.rstrip(' \t')) for name, value in pairs]
    return pairs


def check_line_ends(buffer: bytes | bytearray, begin: int = 0, start: int = 0, stop: int = sys.maxsize) -> None:
    """Check that ``buffer`` has no bare CR or LF.

    :param begin: the position of the first line, for the error.
    :param start: the position at which the search begins.
    :param stop: the position at which the search ends.
    :raises ParseError: there is one.
    """
    match = BARE_LINE_END.search(buffer, start, stop)
    if match is None:
        return
    line_end = buffer.rfind(b'\r\n', begin, match.start())
    shown = bytes(buffer[line_end + 2 if line_end >= 0 else begin : match.end()])
    if match.group() == b'\n':
        raise ParseError('LF without CR before it', code='HPE_CR_EXPECTED', data=shown)
    raise ParseError('CR without LF after it', code='HPE_LF_EXPECTED', data=shown)


def framing_fields(fields: dict[str, Any], values: dict[str, list[str]] | None) -> tuple[list[str], list[str]]:
    """Return the values of Transfer-Encoding and those of Content-Length."""
    if values is not None:
        return values.get('transfer-encoding', []), values.get('content-length', [])
    coding, length = fields.get('transfer-encoding'), fields.get('content-length')
    return ([] if coding is None else [coding]), ([] if length is None else [length])


def check_single(values: dict[str, list[str]]) -> None:
    """Check that no singleton field is repeated. Raises :exc:`~geventnode.errors.ParseError`."""
    for name, lines in values.items():
        if len(lines) > 1 and name in _SINGLETON_FIELDS:
            # without the values, because errors are logged, and values can be credentials
            raise ParseError(f'more than one {name.title()}', code='HPE_INVALID_HEADER_TOKEN')
    if len(values.get('host', ())) > 1:
        raise ParseError('more than one Host', code='HPE_INVALID_HOST')


def connection_verdicts(fields: dict[str, Any], version: str) -> tuple[bool, bool]:
    """Return the verdicts of Connection: reuse allowed, an upgrade requested."""
    connection = fields.get('connection')
    if connection is None:
        return version != '1.0', False
    find = _connection_options if len(connection) < 64 else _connection_options.__wrapped__
    reusable, upgrade = find(connection, version)
    return reusable, upgrade and bool(fields.get('upgrade'))


def expectation(value: str) -> str | None:
    """Return the value of Expect: None if it has no element, and ``'100-continue'`` if it has no other one.

    Source: RFC 9110, section 10.1.1.
    """
    if value.lower() == _CONTINUE:
        return _CONTINUE
    elements = {element.lower() for element in list_elements(value)}
    if not elements:
        return None
    return _CONTINUE if elements == {_CONTINUE} else value


@lru_cache(maxsize=64)
def _connection_options(connection: str, version: str) -> tuple[bool, bool]:
    """Return the same for the value of Connection alone."""
    options = connection_options((connection,))
    # Upgrade counts only together with the option, and never in HTTP/1.0 (RFC 9110, section 7.8).
    return keep_alive(version, options), 'upgrade' in options and version != '1.0'


def _reject(block: bytes) -> NoReturn:
    """Raise the error for the first fault of a malformed section."""
    check_line_ends(block)
    line = next(line for line in block[2:-2].split(b'\r\n') if FIELD_LINE.fullmatch(line) is None)
    name, colon, _ = line.partition(b':')
    if line[:1] in (b' ', b'\t'):
        raise ParseError('header line begins with a blank', code='HPE_UNEXPECTED_SPACE', data=line)
    if not colon:
        raise ParseError('header line without a colon', code='HPE_INVALID_HEADER_TOKEN', data=line)
    if name[-1:] in (b' ', b'\t'):
        raise ParseError('blank between header name and colon', code='HPE_INVALID_HEADER_TOKEN', data=line)
    if not is_token(name.decode('latin-1')):
        raise ParseError('header name is not a token', code='HPE_INVALID_HEADER_TOKEN', data=line)
    raise ParseError('control character in a header value', code='HPE_INVALID_HEADER_TOKEN', data=line)
