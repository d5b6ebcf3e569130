"""Header sections: checked and understood in one go.

A *block* is the text of a header section, from the line end before its first field to the line end after its last one.
It is decoded once and split by one regular expression, and proven well-formed by counting: the names are tokens by the
expression, and when the only characters in the block that no value may hold are the line ends around the fields, then
nothing was skipped. What decides how the message is handled is read from the fields at once and kept in a
:class:`HeaderBlock`, which depends on nothing but the block and the version, so that it can be remembered.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, NoReturn

from geventnode.errors import ParseError, without_traceback
from geventnode.protocol.framing import Framing, connection_options, keep_alive, request_framing, response_framing
from geventnode.protocol.grammar import (
    BARE_LINE_END,
    FIELD_CHARACTERS,
    FIELD_LINE,
    FIELDS,
    FOLD,
    KNOWN_NAMES,
    is_host,
    is_token,
)
from geventnode.protocol.headers import Headers, collect, distinct

__all__ = ['HeaderBlock', 'check_line_ends', 'parse_fields', 'request_block', 'response_block']

#: Fields of a request that have one value, and define how its body is read, or its sender. A proxy and an
#: application that take different ones of two would judge and serve different requests (RFC 9110, section 5.3). Host
#: and Content-Length are of this kind, and have errors of their own.
_SINGLETON_FIELDS = frozenset(('authorization', 'content-range', 'content-type', 'proxy-authorization'))

_NONE = Framing.NONE
_known = KNOWN_NAMES.get


class HeaderBlock:
    """What a header section says. Shared between messages: never changed, and its containers never handed out."""

    __slots__ = (
        'content_length',
        'count',
        'expect',
        'fields',
        'framing',
        'framing_error',
        'host',
        'keep_alive',
        'pairs',
        'upgrade',
    )

    def __init__(
        self,
        pairs: list[tuple[str, str]],
        fields: dict[str, Any],
        framing: Framing,
        content_length: int | None,
        reusable: bool,
        upgrade: bool,
    ) -> None:
        #: Name and value of each field as they came.
        self.pairs = pairs
        #: The fields by lower-cased name, repeated ones merged.
        self.fields = fields
        #: How many fields there are.
        self.count = len(pairs)
        #: How the content ends, and what Content-Length says.
        self.framing = framing
        self.content_length = content_length
        #: Whether the connection may carry another message.
        self.keep_alive = reusable
        #: Whether another protocol is asked for.
        self.upgrade = upgrade
        #: Responses: why the end of the content is uncertain, for those that may have any; None: it is certain.
        self.framing_error: ParseError | None = None
        #: Requests: ``'100-continue'`` or whatever else Expect says, and what Host says; None if they say nothing.
        self.expect: str | None = None
        self.host: str | None = None

    def raw_headers(self) -> list[tuple[str, str]]:
        """Return a fresh list of the fields as they came."""
        return self.pairs.copy()

    def headers(self) -> Headers:
        """Return a fresh map of the fields."""
        headers = Headers.from_map(self.fields)
        if 'set-cookie' in self.fields:
            headers['set-cookie'] = self.fields['set-cookie'].copy()
        return headers


def request_block(block: bytes, version: str) -> HeaderBlock:
    """Return what the header section of a request says.

    :param block: the section, from the line end before its first field to the one after its last.
    :param version: the request's, ``'1.0'`` or ``'1.1'``.
    :raises ParseError: it is malformed, its framing is uncertain, or Host is wrong.
    """
    pairs = parse_fields(block)
    fields = _merge(pairs)
    framing: Framing = _NONE
    length = None
    if 'content-length' in fields or 'transfer-encoding' in fields:
        framing, length = request_framing(version, *_framing_fields(pairs))
    if len(pairs) != len(fields):
        _check_single(pairs)
    result = HeaderBlock(pairs, fields, framing, length, *_connection(fields, version))
    host = fields.get('host')
    if host is not None:
        if len(pairs) != len(fields) and len(distinct(pairs)['host']) > 1:
            raise ParseError('more than one Host', code='HPE_INVALID_HOST')
        if not is_host(host):
            raise ParseError(
                'Host is not a host with an optional port', code='HPE_INVALID_HOST', data=host.encode('latin-1')
            )
        result.host = host
    expect = fields.get('expect')
    if expect is not None and version != '1.0':
        # A server ignores the expectation in HTTP/1.0 (RFC 9110, section 10.1.1).
        result.expect = '100-continue' if expect.lower() == '100-continue' else expect
    return result


def response_block(block: bytes, version: str) -> HeaderBlock:
    """Return the parsed header section of a response, as :func:`request_block` does.

    Folded lines are unfolded (RFC 9112, section 5.2). Uncertain framing is kept as :attr:`HeaderBlock.framing_error`:
    a response that cannot have content ends with its head, whatever its fields are (RFC 9112, section 6.3, items 1
    and 2).

    :raises ParseError: it is malformed.
    """
    pairs = parse_fields(block, unfold=True)
    fields = _merge(pairs)
    framing: Framing = Framing.UNTIL_CLOSE
    length = None
    framing_error = None
    if 'content-length' in fields or 'transfer-encoding' in fields:
        try:
            framing, length = response_framing(*_framing_fields(pairs))
        except ParseError as error:
            framing_error = without_traceback(error)
    result = HeaderBlock(pairs, fields, framing, length, *_connection(fields, version))
    result.framing_error = framing_error
    return result


def parse_fields(block: bytes, unfold: bool = False) -> list[tuple[str, str]]:
    """Return the fields of a section as (name, value), decoded as latin-1, without blanks around the values.

    :param block: the section, from the line end before its first field to the one after its last.
    :param unfold: whether folds are replaced by blanks; otherwise they are errors.
    :raises ParseError: it is malformed (RFC 9112, section 5).
    """
    text = block.decode('latin-1')
    pairs: list[tuple[str, str]] = FIELDS.findall(text)
    # Each match has a line end of its own before it, and there is one behind the last.
    if len(block.translate(None, FIELD_CHARACTERS)) != 2 * len(pairs) + 2:
        if not unfold:
            _refuse(block)
        # a blank before the first field continues nothing (RFC 9112, section 2.2)
        return parse_fields(block[:2] + FOLD.sub(b' ', block[2:]))
    if ' \r' in text or ('\t' in text and '\t\r' in text):
        pairs = [(name, value.rstrip(' \t')) for name, value in pairs]
    return pairs


def check_line_ends(buffer: bytes | bytearray, begin: int = 0, start: int = 0, stop: int = sys.maxsize) -> None:
    """Check that there is no CR or LF on its own in ``buffer``.

    :param begin: where the lines begin.
    :param start: where to begin to search, ``stop``, where to end.
    :raises ParseError: there is one.
    """
    match = BARE_LINE_END.search(buffer, start, stop)
    if match is None:
        return
    line_end = buffer.rfind(b'\r\n', begin, match.start())
    shown = bytes(buffer[line_end + 2 if line_end >= 0 else begin : match.end()])
    if match.group() == b'\n':
        raise ParseError('LF without CR before it', code='HPE_CR_EXPECTED', data=shown)
    raise ParseError('CR without LF behind it', code='HPE_LF_EXPECTED', data=shown)


def _merge(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields by lower-cased name."""
    fields: dict[str, Any] = {_known(name) or name.lower(): value for name, value in pairs}
    if len(fields) != len(pairs):
        return collect(pairs)
    if 'set-cookie' in fields:
        fields['set-cookie'] = [fields['set-cookie']]
    return fields


def _framing_fields(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return the values of Transfer-Encoding and those of Content-Length."""
    values = distinct(pairs)
    return values.get('transfer-encoding', []), values.get('content-length', [])


def _check_single(pairs: list[tuple[str, str]]) -> None:
    """Raise if a field that has one value is repeated."""
    for name, values in distinct(pairs).items():
        if len(values) > 1 and name in _SINGLETON_FIELDS:
            # without the values, which may be credentials, and are logged
            raise ParseError(f'more than one {name.title()}', code='HPE_INVALID_HEADER_TOKEN')


def _connection(fields: dict[str, Any], version: str) -> tuple[bool, bool]:
    """Return whether the connection may be used again, and whether another protocol is asked for."""
    connection = fields.get('connection')
    if connection is None:
        return version != '1.0', False
    options = _options(connection) if len(connection) < 64 else connection_options((connection,))
    # Upgrade counts only together with the option, and never in HTTP/1.0 (RFC 9110, section 7.8).
    return keep_alive(version, options), 'upgrade' in options and version != '1.0' and bool(fields.get('upgrade'))


@lru_cache(maxsize=64)
def _options(connection: str) -> frozenset[str]:
    return connection_options((connection,))


def _refuse(block: bytes) -> NoReturn:
    """Raise the error for the first thing that is wrong with a section that is not well-formed."""
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
