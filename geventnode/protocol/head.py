"""The events of a parser: heads and the end of a message.

A head consists of a first line and a header block. Both are parsed at once, because they decide whether the message is
accepted. The maps and lists for an application are made on demand.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from geventnode.errors import ParseError, without_traceback
from geventnode.protocol.block import (
    check_line_ends,
    check_single,
    connection_verdicts,
    expectation,
    framing_fields,
    parse_fields,
)
from geventnode.protocol.common_lines import CommonLines
from geventnode.protocol.field_lines import FIELD_LINES, PRINTABLE, MalformedLine
from geventnode.protocol.framing import Framing, has_no_content, request_framing, response_framing
from geventnode.protocol.grammar import (
    REQUEST_LINE,
    STATUS_LINE,
    absolute_authority,
    has_request_target_form,
    is_host,
    is_token,
)
from geventnode.protocol.headers import copy_fields, distinct, merged
from geventnode.protocol.limits import Limits
from geventnode.protocol.parse_cache import ParseCache

if TYPE_CHECKING:
    from geventnode.protocol.headers import Headers

__all__ = [
    'REQUEST_HEADS',
    'RESPONSE_HEADS',
    'STATUS_LINES',
    'TLS_RECORDS',
    'EndOfMessage',
    'RequestHead',
    'ResponseHead',
    'StatusLine',
    'check_incomplete_head',
    'parse_request_head',
    'parse_request_line',
    'parse_response_head',
    'parse_status_line',
]

_NONE, _LENGTH, _CHUNKED, _UNTIL_CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.UNTIL_CLOSE

#: Methods for which a target in origin-form needs no further check (RFC 9112, section 3.2.1).
_COMMON_METHODS = {name.encode('ascii'): name for name in ('DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT')}

#: Changes each character that a target cannot have: a fragment, a blank, and all that is not visible ASCII.
_TARGET = bytes(byte if 0x21 <= byte <= 0x7E and byte != 0x23 else 0x80 ^ byte for byte in range(256))

#: Values of Host that were valid, with a bounded number and length.
_HOSTS: set[str] = set()
MAX_HOSTS = 256

_VERSION_1_1 = b' HTTP/1.1\r\n'
_VERSION_SIZE = len(_VERSION_1_1)
_find_line, _find_field = FIELD_LINES.get, FIELD_LINES.__getitem__
_find_name = FIELD_LINES.names_not_kept.get

#: How TLS begins: a handshake, or an alert (RFC 8446, section 5.1).
TLS_RECORDS = b'\x16\x03', b'\x15\x03'


class StatusLine:
    """A parsed status line, shared by the messages that begin with it."""

    __slots__ = ('can_have_content', 'http_version', 'status_code', 'status_message')

    def __init__(self, status_code: int, status_message: str, http_version: str) -> None:
        self.status_code = status_code
        self.status_message = status_message
        self.http_version = http_version
        #: Whether the response to a usual method can have content.
        self.can_have_content = not has_no_content(status_code, '')


class RequestHead:
    """The head of a request (RFC 9112, section 3).

    Requests with the same bytes share it; do not change it. :func:`parse_request_head` makes it and sets every
    attribute: a constructor with a parameter for each would take longer than the parsing of a line.
    """

    __slots__ = (
        'content_length',
        'count',
        'data',
        'derived',
        'expect',
        'fields',
        'framing',
        'has_common',
        'host',
        'http_version',
        'keep_alive',
        'method',
        'ordinary',
        'plain',
        'upgrade',
        'url',
    )

    #: The bytes of the head. The fields as received are parsed from them again when a program asks for them.
    data: bytes
    #: The method as received.
    method: str
    #: The request target as received.
    url: str
    #: ``'1.0'`` or ``'1.1'``; a later minor version is reported as received and treated as 1.1.
    http_version: str
    #: The fields by lower-cased name, repeated ones merged. It is not given to an application.
    fields: dict[str, Any]
    #: The number of field lines.
    count: int
    #: How the content ends; after NONE, no :class:`EndOfMessage` follows.
    framing: Framing
    #: The value of Content-Length, or None.
    content_length: int | None
    #: Whether the peer allows another request on the connection.
    keep_alive: bool
    #: Whether the client requests another protocol: HTTP/1.1 with ``upgrade`` in Connection, and Upgrade.
    upgrade: bool
    #: The expectation (``'100-continue'``, or the value of Expect), or None; always None in HTTP/1.0.
    expect: str | None
    #: The host and port of a target in absolute-form, otherwise the value of Host or None.
    host: str | None
    #: Whether the request has neither CONNECT, nor an upgrade, nor an expectation.
    ordinary: bool
    #: Whether the message has a Host and no content, and another one can follow.
    plain: bool
    #: Whether the header section begins with the given common lines.
    has_common: bool
    #: A value that a user of the parser computed from this head, and keeps with it.
    derived: Any

    @property
    def requested_host(self) -> str | None:
        """The host and port of the request, or None.

        CONNECT has them in its target (RFC 9112, section 3.2.3).
        """
        return self.url if self.method == 'CONNECT' else self.host

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """A new list of the fields as (name, value), decoded as latin-1."""
        return parse_fields(_section(self.data))

    @property
    def headers(self) -> Headers:
        """A new map of the fields."""
        return copy_fields(self.fields)

    def __repr__(self) -> str:
        return f'<RequestHead {self.method} {self.url} HTTP/{self.http_version}>'


class ResponseHead:
    """The head of a response (RFC 9112, section 4).

    Responses with the same bytes share it; do not change it. :func:`parse_response_head` makes it, as the head of the
    response to a usual method; see :meth:`for_method`.
    """

    __slots__ = (
        'content_length',
        'count',
        'data',
        'fields',
        'framing',
        'framing_error',
        'http_version',
        'keep_alive',
        'reusable',
        'status_code',
        'status_message',
        'upgrade',
    )

    #: The bytes of the head. The fields as received are parsed from them again when a program asks for them.
    data: bytes
    #: The status, and the reason phrase, which can be empty.
    status_code: int
    status_message: str
    #: ``'1.0'`` or ``'1.1'``; a later minor version is reported as received and treated as 1.1.
    http_version: str
    #: The fields by lower-cased name, repeated ones merged. It is not given to an application.
    fields: dict[str, Any]
    #: The number of fields.
    count: int
    #: How the content ends; after NONE, no :class:`EndOfMessage` follows.
    framing: Framing
    #: The value of Content-Length, or None; a response without content can have one.
    content_length: int | None
    #: The error of a response that can have content if its end is ambiguous; otherwise None.
    framing_error: ParseError | None
    #: Whether the server allows another request on the connection.
    reusable: bool
    #: Whether the connection can be reused: not after content that ends with it, and not after chunks in HTTP/1.0,
    #: which has no such framing (RFC 9112, section 6.1).
    keep_alive: bool
    #: Whether the status is 101, so that another protocol follows.
    upgrade: bool

    def for_method(self, method: str) -> ResponseHead:
        """Return this head as that of the response to ``method``.

        After HEAD, and after CONNECT with success, it has no content (RFC 9112, section 6.3).
        """
        if self.framing is _NONE or not has_no_content(self.status_code, method):
            return self
        head = copy(self)
        head.framing = _NONE
        head.keep_alive = head.reusable
        return head

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """A new list of the fields as (name, value), decoded as latin-1."""
        return parse_fields(_section(self.data), unfold=True)

    @property
    def headers(self) -> Headers:
        """A new map of the fields."""
        return copy_fields(self.fields)

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


def parse_request_head(data: bytes, common: CommonLines | None = None) -> RequestHead:
    """Parse the head of a request.

    :param data: the head, with its line ends and the empty line after it.
    :param common: lines with which its header section perhaps begins.
    :raises ParseError: it is not exactly one complete head, it is malformed (400), or its version is not supported
        (505). The error is that of its first invalid part; an earlier line end can be invalid, too.

    Source: RFC 9112, sections 3, 5 and 6.3; RFC 9110, section 7.2.
    """
    head = RequestHead()
    host = None
    tunnel = False
    version = '1.1'
    line_end = data.find(_VERSION_1_1)
    name, _, target = data[:line_end].partition(b' ')
    method = _COMMON_METHODS.get(name)
    # The usual line, without a regular expression: the translation changes any other character of a target.
    if method is not None and target[:1] == b'/' and target.translate(_TARGET) == target:
        url = target.decode()
        start = line_end + _VERSION_SIZE
    else:
        start = data.find(b'\r\n') + 2
        method, url, version = parse_request_line(data[: start - 2])
        tunnel = method == 'CONNECT'
        if url[0] != '/' and not tunnel:
            host = absolute_authority(url)
    if common is not None and data[start : (end := start + common.size)] == common.text:
        fields = common.fields.copy()
        lines = data[end:].split(b'\r\n')
        count = common.count + len(lines) - 2
        head.has_common = True
    else:
        fields = {}
        lines = data[start:].split(b'\r\n')
        count = len(lines) - 2
        head.has_common = False
    if lines.pop() or not lines or lines.pop():
        raise ParseError('head does not end with an empty line', code='HPE_INVALID_CONSTANT')
    for data_line in lines:
        known = _find_line(data_line)
        if known is not None:
            fields[known[0]] = known[1]
            continue
        name, colon, value = data_line.partition(b': ')
        lower = _find_name(name)
        # The usual line that is not kept: the translation changes any other value than printable ASCII.
        if lower is not None and colon and value.translate(PRINTABLE) == value:
            fields[lower] = value.decode().strip()
            continue
        try:
            lower, text = FIELD_LINES.parse(data_line)
        except MalformedLine:
            if b'' in lines:
                raise ParseError('several heads', code='HPE_INVALID_CONSTANT') from None
            # the error of the first invalid part is raised below
            fields = {}
            break
        fields[lower] = text
    values = None
    if len(fields) != count or 'set-cookie' in fields:
        # a repeated name, or an error
        values = distinct(parse_fields(_section(data)))
        fields = merged(values)
    framing: Framing = _NONE
    length = None
    if 'content-length' in fields or 'transfer-encoding' in fields:
        framing, length = request_framing(version, *framing_fields(fields, values))
    if values is not None:
        check_single(values)
    keep_alive, upgrade = True, False
    if version != '1.1' or ('connection' in fields and fields['connection'] != 'keep-alive'):
        keep_alive, upgrade = connection_verdicts(fields, version)
    if 'host' in fields:
        given: str = fields['host']
        if given not in _HOSTS:
            _check_host(given)
        if host is None:
            host = given
    expect = None
    if 'expect' in fields and version != '1.0':
        # A server ignores the expectation in HTTP/1.0 (RFC 9110, section 10.1.1).
        expect = expectation(fields['expect'])
    if tunnel:
        # RFC 9110, section 9.3.6: CONNECT never has content, and does not request another protocol.
        framing, length, upgrade = _NONE, None, False
    head.data = data
    head.method = method
    head.url = url
    head.http_version = version
    head.fields = fields
    head.count = count
    head.framing = framing
    head.content_length = length
    head.keep_alive = keep_alive
    head.upgrade = upgrade
    head.expect = expect
    head.host = host
    head.ordinary = expect is None and not upgrade and not tunnel
    head.plain = keep_alive and framing is _NONE and not tunnel and 'host' in fields
    head.derived = None
    return head


def parse_response_head(data: bytes) -> ResponseHead:
    """Parse the head of a response.

    Folded lines are unfolded (RFC 9112, section 5.2). Ambiguous framing is stored as
    :attr:`ResponseHead.framing_error`, because a response that cannot have content ends with its head in any case
    (RFC 9112, section 6.3, items 1 and 2).

    :param data: the head, with its line ends and the empty line after it.
    :raises ParseError: it is malformed, or has another major version than 1. The error is that of its first invalid
        part; an earlier line end can be invalid, too.

    Source: RFC 9112, sections 4, 5 and 6.3.
    """
    lines = data[:-4].split(b'\r\n')
    line = STATUS_LINES[lines.pop(0)]
    version = line.http_version
    count = len(lines)
    try:
        fields: dict[str, Any] = dict(map(_find_field, lines))
    except MalformedLine:
        # a folded line, or an error
        fields = {}
    values = None
    if len(fields) != count or 'set-cookie' in fields:
        pairs = parse_fields(_section(data), unfold=True)
        values = distinct(pairs)
        count = len(pairs)
        fields = merged(values)
    framing: Framing = _UNTIL_CLOSE
    framing_error = None
    length = None
    if 'content-length' in fields or 'transfer-encoding' in fields:
        declared: str | None = fields.get('content-length')
        # the usual length, without lists of values: in latin-1, the decimal characters are the ten digits
        if (
            declared is not None
            and values is None
            and declared.isdecimal()
            and len(declared) < 16
            and 'transfer-encoding' not in fields
        ):
            length = int(declared)
            framing = _LENGTH if length else _NONE
        else:
            try:
                framing, length = response_framing(*framing_fields(fields, values))
            except ParseError as error:
                framing_error = without_traceback(error)
    reusable = True
    if version != '1.1' or ('connection' in fields and fields['connection'] != 'keep-alive'):
        reusable, _ = connection_verdicts(fields, version)
    if not line.can_have_content:
        framing = _NONE
    head = ResponseHead()
    head.data = data
    head.status_code = line.status_code
    head.status_message = line.status_message
    head.http_version = version
    head.fields = fields
    head.count = count
    head.framing = framing
    head.content_length = length
    head.framing_error = framing_error
    head.reusable = reusable
    head.keep_alive = (
        reusable and framing is not _UNTIL_CLOSE and not (framing is _CHUNKED and line.http_version == '1.0')
    )
    head.upgrade = line.status_code == 101
    return head


def parse_request_line(data: bytes) -> tuple[str, str, str]:
    """Return method, target and version of a request line.

    :param data: the line, without its line end.
    :raises ParseError: it is malformed (400), or has another major version than 1 (505).

    Source: RFC 9112, section 3.
    """
    match = REQUEST_LINE.fullmatch(data.decode('latin-1'))
    if match is None:
        raise _request_line_error(data)
    method, url, minor = match.groups()
    if not has_request_target_form(method, url):
        raise ParseError(f'request target has no form that {method} allows', code='HPE_INVALID_URL', data=data)
    return method, url, '1.' + minor


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


def _section(data: bytes) -> bytes:
    """Return the header section of a head, as :func:`parse_fields` takes it."""
    return data[data.index(b'\r\n') : -2]


def _check_host(host: str) -> None:
    """Check a value of Host, and remember it. Raises :exc:`~geventnode.errors.ParseError`."""
    if not is_host(host):
        raise ParseError(
            'Host is not a host with an optional port', code='HPE_INVALID_HOST', data=host.encode('latin-1')
        )
    # a name has at most 255 octets
    if len(host) < 256:
        if len(_HOSTS) >= MAX_HOSTS:
            _HOSTS.clear()
        _HOSTS.add(host)


#: The caches of status lines, and of the heads of requests and responses.
STATUS_LINES = ParseCache(parse_status_line, max_key=256)
REQUEST_HEADS = ParseCache(parse_request_head)
RESPONSE_HEADS = ParseCache(parse_response_head)
