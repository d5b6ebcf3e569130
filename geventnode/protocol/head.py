"""The events of a parser: heads and the end of a message.

A head consists of a first line and a header block. Both are parsed at once, because they decide whether the message is
accepted. The maps and lists for an application are made on demand.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from geventnode.errors import ParseError
from geventnode.protocol.block import HeaderBlock, check_line_ends, request_block, response_block
from geventnode.protocol.framing import Framing, has_no_content
from geventnode.protocol.grammar import (
    REQUEST_LINE,
    STATUS_LINE,
    absolute_authority,
    has_request_target_form,
    is_token,
)
from geventnode.protocol.limits import Limits
from geventnode.protocol.parse_cache import ParseCache

if TYPE_CHECKING:
    from geventnode.protocol.headers import Headers

__all__ = [
    'REQUEST_LINES',
    'STATUS_LINES',
    'TLS_RECORDS',
    'EndOfMessage',
    'RequestHead',
    'RequestLine',
    'ResponseHead',
    'StatusLine',
    'check_incomplete_head',
    'parse_request_head',
    'parse_request_line',
    'parse_status_line',
]

_NONE, _CHUNKED, _UNTIL_CLOSE = Framing.NONE, Framing.CHUNKED, Framing.UNTIL_CLOSE

#: Methods for which a target in origin-form needs no further check (RFC 9112, section 3.2.1).
_COMMON_METHODS = frozenset(('DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT'))

#: How TLS begins: a handshake, or an alert (RFC 8446, section 5.1).
TLS_RECORDS = b'\x16\x03', b'\x15\x03'


class RequestLine:
    """A parsed request line, shared by the messages that begin with it."""

    __slots__ = ('authority', 'blocks', 'find_block', 'http_version', 'last', 'method', 'needs_host', 'url')

    def __init__(self, method: str, url: str, http_version: str) -> None:
        self.method = method
        self.url = url
        self.http_version = http_version
        #: The authority of a target in absolute-form.
        self.authority = None if url[0] == '/' or method == 'CONNECT' else absolute_authority(url)
        #: Whether Host is mandatory.
        self.needs_host = http_version != '1.0'
        #: The cache of parsed header sections for this version, and its look-up of recent ones.
        self.blocks = _REQUEST_BLOCKS_1_1 if self.needs_host else _REQUEST_BLOCKS_1_0
        self.find_block = self.blocks.get
        #: The last head that began with this line.
        self.last: RequestHead | None = None


class StatusLine:
    """A parsed status line, shared by the messages that begin with it."""

    __slots__ = ('blocks', 'can_have_content', 'http_version', 'last', 'last_method', 'status_code', 'status_message')

    def __init__(self, status_code: int, status_message: str, http_version: str) -> None:
        #: The last head that began with this line, and the method of its request.
        self.last: ResponseHead | None = None
        self.last_method = ''
        self.status_code = status_code
        self.status_message = status_message
        self.http_version = http_version
        #: Whether the response to a GET can have content.
        self.can_have_content = not has_no_content(status_code, 'GET')
        #: The cache of parsed header sections for this version.
        self.blocks = _RESPONSE_BLOCKS_1_0 if http_version == '1.0' else _RESPONSE_BLOCKS_1_1


class RequestHead:
    """The head of a request (RFC 9112, section 3).

    Requests with the same bytes share it; do not change it.
    """

    __slots__ = (
        'block',
        'content_length',
        'derived',
        'expect',
        'framing',
        'host',
        'http_version',
        'keep_alive',
        'method',
        'ordinary',
        'plain',
        'upgrade',
        'url',
    )

    def __init__(self, line: RequestLine, block: HeaderBlock) -> None:
        # RFC 9110, section 9.3.6: CONNECT never has content, and does not request another protocol.
        tunnel = line.method == 'CONNECT'
        self.block = block
        #: The method as received.
        self.method = line.method
        #: The request target as received.
        self.url = line.url
        #: ``'1.0'`` or ``'1.1'``; a later minor version is reported as received and treated as 1.1.
        self.http_version = line.http_version
        #: How the content ends; after NONE, no :class:`EndOfMessage` follows.
        self.framing = _NONE if tunnel else block.framing
        #: The value of Content-Length, or None.
        self.content_length = None if tunnel else block.content_length
        #: Whether the peer allows another request on the connection.
        self.keep_alive = block.keep_alive
        #: Whether the client requests another protocol: HTTP/1.1 with ``upgrade`` in Connection, and Upgrade.
        self.upgrade = block.upgrade and not tunnel
        #: The value of Expect (``'100-continue'`` in lower case), or None; always None in HTTP/1.0.
        self.expect = block.expect
        #: The host and port of a target in absolute-form, otherwise the value of Host or None.
        self.host = line.authority or block.host
        #: Whether the request has neither CONNECT, nor an upgrade, nor an expectation.
        self.ordinary = self.expect is None and not self.upgrade and not tunnel
        #: A value that a user of the parser computed from this head, and keeps with it.
        self.derived: Any = None
        #: Whether the message has no content, and another one can follow.
        self.plain = self.framing is _NONE and block.keep_alive and not tunnel

    @property
    def requested_host(self) -> str | None:
        """The host and port of the request, or None.

        CONNECT has them in its target (RFC 9112, section 3.2.3).
        """
        return self.url if self.method == 'CONNECT' else self.host

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """A new list of the fields as (name, value), decoded as latin-1."""
        return self.block.raw_headers()

    @property
    def headers(self) -> Headers:
        """A new map of the fields."""
        return self.block.headers()

    def __repr__(self) -> str:
        return f'<RequestHead {self.method} {self.url} HTTP/{self.http_version}>'


class ResponseHead:
    """The head of a response (RFC 9112, section 4).

    Responses with the same bytes share it; do not change it.
    """

    __slots__ = (
        'block',
        'content_length',
        'framing',
        'http_version',
        'keep_alive',
        'status_code',
        'status_message',
        'upgrade',
    )

    def __init__(self, line: StatusLine, block: HeaderBlock, method: str) -> None:
        self.block = block
        self.status_code = line.status_code
        #: The reason phrase, which can be empty.
        self.status_message = line.status_message
        #: ``'1.0'`` or ``'1.1'``; a later minor version is reported as received and treated as 1.1.
        self.http_version = line.http_version
        #: How the content ends; after NONE, no :class:`EndOfMessage` follows.
        framing = self.framing = (
            block.framing
            if line.can_have_content and (method == 'GET' or not has_no_content(line.status_code, method))
            else _NONE
        )
        #: The value of Content-Length, or None; a response without content can have one.
        self.content_length = block.content_length
        #: Whether the connection can be reused: not after content that ends with it, and not after chunks in HTTP/1.0,
        #: which has no such framing (RFC 9112, section 6.1).
        self.keep_alive = (
            block.keep_alive
            and framing is not _UNTIL_CLOSE
            and not (framing is _CHUNKED and line.http_version == '1.0')
        )
        #: Whether the status is 101, so that another protocol follows.
        self.upgrade = line.status_code == 101

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """A new list of the fields as (name, value), decoded as latin-1."""
        return self.block.raw_headers()

    @property
    def headers(self) -> Headers:
        """A new map of the fields."""
        return self.block.headers()

    def __repr__(self) -> str:
        return f'<ResponseHead HTTP/{self.http_version} {self.status_code} {self.status_message}>'


class EndOfMessage:
    """The end of a message that has content."""

    __slots__ = ('_trailers',)

    def __init__(self, trailers: list[tuple[str, str]] | None = None) -> None:
        self._trailers = trailers

    @property
    def raw_trailers(self) -> list[tuple[str, str]]:
        """A new list of the trailer fields, like ``raw_headers``."""
        return self._trailers.copy() if self._trailers else []

    def __repr__(self) -> str:
        return f'<EndOfMessage with {len(self.raw_trailers)} trailers>'


def parse_request_line(data: bytes) -> RequestLine:
    """Parse a request line, which is given without its line end.

    :raises ParseError: it is malformed (400), or has another major version than 1 (505).

    Source: RFC 9112, section 3.
    """
    parts = data.decode('latin-1').split(' ')
    if len(parts) == 3:
        method, url, version = parts
        # The usual line, without a regular expression: printable ASCII has no blank here, which separates the parts.
        if (
            method in _COMMON_METHODS
            and version == 'HTTP/1.1'
            and url[:1] == '/'
            and url.isascii()
            and url.isprintable()
            and '#' not in url
        ):
            return RequestLine(method, url, '1.1')
    match = REQUEST_LINE.fullmatch(data.decode('latin-1'))
    if match is None:
        raise _request_line_error(data)
    method, url, minor = match.groups()
    if not has_request_target_form(method, url):
        raise ParseError(f'request target has no form that {method} allows', code='HPE_INVALID_URL', data=data)
    return RequestLine(method, url, '1.' + minor)


def parse_status_line(data: bytes) -> StatusLine:
    """Parse a status line, which is given without its line end.

    :raises ParseError: it is malformed, or has another major version than 1.

    Source: RFC 9112, section 4.
    """
    match = STATUS_LINE.fullmatch(data.decode('latin-1'))
    if match is None:
        raise _status_line_error(data)
    minor, status, reason = match.groups()
    return StatusLine(int(status), reason or '', '1.' + minor)


def check_incomplete_head(data: bytes, limits: Limits, request: bool) -> None:
    """Check the beginning of an incomplete, too long or invalid head.

    The checks are in the order in which the errors would be found if the bytes arrived one by one. The result therefore
    does not depend on how the network divides them.

    :param data: the head so far, at most one byte more than ``max_header_size``. Unless it is that long, its first line
        is complete or has an invalid line end.
    :param request: whether it is the head of a request.
    :raises ParseError: it cannot become a valid head.
    """
    if data.startswith(TLS_RECORDS):
        raise _tls_error(data[:2], request)
    limit = limits.max_header_size
    line_end = data.find(b'\r\n')
    check_line_ends(data, stop=len(data) if line_end < 0 else line_end + 1)
    if line_end < 0 or line_end + 2 > limit:
        raise limits.request_line_too_long() if request else limits.too_long('status line')
    if request:
        parse_request_line(data[:line_end])
    else:
        parse_status_line(data[:line_end])
    check_line_ends(data)
    if len(data) > limit:
        raise limits.too_long('header section')


def _tls_error(data: bytes, request: bool) -> ParseError:
    """Return the error for TLS on a plain connection."""
    if request:
        return ParseError(
            'TLS on a plain HTTP port (its URL begins with http, not https)', code='HPE_INVALID_METHOD', data=data
        )
    return ParseError(
        'TLS instead of a response (the URL of that port begins with https)', code='HPE_INVALID_CONSTANT', data=data
    )


def _request_line_error(data: bytes) -> ParseError:
    """Return the error for a request line that does not match."""
    parts = data.split(b' ')
    if not is_token(parts[0].decode('latin-1')):
        return ParseError('method is not a token', code='HPE_INVALID_METHOD', data=data)
    if len(parts) == 3:
        _, target, version = parts
        if not target or not target.isascii() or any(byte < 0x21 or byte == 0x7F for byte in target):
            return ParseError('request target has characters that must be escaped', code='HPE_INVALID_URL', data=data)
        return _version_error(version, data)
    if len(parts) == 2 and not parts[1].startswith(b'HTTP/'):
        return ParseError('request line without a version', code='HPE_INVALID_VERSION', data=data)
    return ParseError('request line is not a method, a target and a version', code='HPE_INVALID_CONSTANT', data=data)


def _status_line_error(data: bytes) -> ParseError:
    """Return the error for a status line that does not match."""
    version, _, rest = data.partition(b' ')
    if not data.startswith(b'HTTP/'):
        return ParseError('response does not begin with HTTP/', code='HPE_INVALID_CONSTANT', data=data)
    if not (version.startswith(b'HTTP/1.') and len(version) == 8 and version[7:].isdigit()):
        return _version_error(version, data)
    status = rest[:3]
    if rest[3:4] not in (b'', b' ') or len(status) != 3 or not status.isdigit() or status < b'100':
        return ParseError('status code is not three digits from 100', code='HPE_INVALID_STATUS', data=data)
    return ParseError('control character in the reason phrase', code='HPE_INVALID_CONSTANT', data=data)


def _version_error(version: bytes, line: bytes) -> ParseError:
    """Return the error for a version other than 1.x.

    The status is 505 if the version is well-formed (RFC 9110, section 15.6.6).
    """
    if (
        version[:5] == b'HTTP/'
        and len(version) == 8
        and version[6:7] == b'.'
        and version[7:].isdigit()
        and (b'2' <= version[5:6] <= b'9')
    ):
        return ParseError('HTTP version not supported', code='HPE_INVALID_VERSION', status=505, data=line)
    return ParseError('malformed HTTP version', code='HPE_INVALID_VERSION', data=line)


# Versions after 1.1 are parsed as 1.1 (RFC 9110, section 2.5). The meaning of a block depends on the version.
_REQUEST_BLOCKS_1_0 = ParseCache(partial(request_block, version='1.0'))
_REQUEST_BLOCKS_1_1 = ParseCache(partial(request_block, version='1.1'))
_RESPONSE_BLOCKS_1_0 = ParseCache(partial(response_block, version='1.0'))
_RESPONSE_BLOCKS_1_1 = ParseCache(partial(response_block, version='1.1'))

#: The caches of first lines.
REQUEST_LINES = ParseCache(parse_request_line, max_key=256)
STATUS_LINES = ParseCache(parse_status_line, max_key=256)


def parse_request_head(line: bytes, block: bytes) -> tuple[RequestLine, HeaderBlock] | None:
    """Return the parsed parts of a head, None if one is malformed.

    A section is kept only after a line that was seen before: the section after a new line (a path or a query that no
    other request has) seldom repeats as a whole, so hashing and keeping it would cost more than it saves.

    :param line: the request line, without its line end.
    :param block: the section, from the line end before its first field to the one after its last.
    """
    try:
        request_line = REQUEST_LINES[line]
        blocks = request_line.blocks
        return request_line, blocks[block] if line in REQUEST_LINES else blocks.parse(block)
    except ParseError:
        return None
