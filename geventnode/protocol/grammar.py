"""The grammar of HTTP/1.1, as patterns, predicates and checks.

Each rule is defined once, here. The parser matches whole constructs (a line, a header section) with patterns of the
character classes below. Every value of an application passes one of the ``check_*`` functions before it is sent. It
therefore cannot smuggle CR, LF, blanks, or characters that latin-1 cannot represent, into a head. Every pattern takes
time linear in its input. All are anchored by ``fullmatch`` or ``match``, never by ``$``, which would accept a final
line feed.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any

from geventnode.errors import InvalidHeader, InvalidInput, without_credentials

__all__ = [
    'BARE_LINE_END',
    'CHUNK_LINE',
    'COMMON_NAMES',
    'FIELDS',
    'FIELD_CHARACTERS',
    'FIELD_LINE',
    'FOLD',
    'KNOWN_NAMES',
    'REQUEST_LINE',
    'SECRET_NAME',
    'STATUS_LINE',
    'absolute_authority',
    'check_method',
    'check_name',
    'check_reason',
    'check_status',
    'check_target',
    'check_value',
    'has_request_target_form',
    'is_host',
    'is_token',
    'list_elements',
    'lower_name',
]

# RFC 9110, section 5.6.2: tchar.
_TCHAR = r"!#$%&'*+\-.^_`|~0-9A-Za-z"

_TOKEN = re.compile(f'[{_TCHAR}]+')
_VALUE = re.compile(r'[\t\x20-\x7e\x80-\xff]*')
_NOT_VALUE = re.compile(r'[^\t\x20-\x7e\x80-\xff]')
_TARGET = re.compile(r'[\x21-\x7e]+')

#: A request line of HTTP/1.x without its line end: method, target, minor version (RFC 9112, section 3).
REQUEST_LINE = re.compile(rf'([{_TCHAR}]+) ([\x21-\x7e]+) HTTP/1\.([0-9])')

#: A status line of HTTP/1.x without its line end: minor version, status, reason. The blank before an empty reason is
#: optional, as many servers omit it (RFC 9112, section 4).
STATUS_LINE = re.compile(r'HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?')

#: Parts of the names, in lower case, of fields that can have credentials.
SECRET_NAME = re.compile('auth|cookie|credential|csrf|jwt|key|passw|secret|session|signature|token|xsrf')

#: The octets of a field value.
FIELD_CHARACTERS = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))

#: The fields of a header section, each with the line end before it. The value excludes leading blanks and includes
#: trailing ones. It extends to the next CR, so its characters must be checked separately (RFC 9112, section 5).
FIELDS = re.compile(rf'\r\n([{_TCHAR}]+):[ \t]*([^\r]*)')

#: A line feed without a carriage return before it, or a carriage return without a line feed after it. Neither is valid
#: in a head, and parsers that accept them make request smuggling possible (RFC 9112, section 2.2).
BARE_LINE_END = re.compile(rb'(?<!\r)\n|\r[^\n]')

#: A line end within a field value: obsolete folding (RFC 9112, section 5.2).
FOLD = re.compile(rb'\r\n[ \t]+')

_TCHAR_BYTES = _TCHAR.encode('ascii')

#: A well-formed field line without its line end.
FIELD_LINE = re.compile(rb'[' + _TCHAR_BYTES + rb']+:[\t\x20-\x7e\x80-\xff]*')

_QUOTED = (
    rb'"[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]*'
    rb'(?:\\[\t\x20-\x7e\x80-\xff][\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]*)*"'
)

#: The first line of a chunk with its line end: size, extensions. Sixteen digits represent 64 bits. Blanks are allowed
#: only around the semicolon and the equals sign of an extension (RFC 9112, sections 7.1 and 7.1.1).
CHUNK_LINE = re.compile(
    rb'([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*['
    + _TCHAR_BYTES
    + rb']+(?:[ \t]*=[ \t]*(?:['
    + _TCHAR_BYTES
    + rb']+|'
    + _QUOTED
    + rb'))?)*)\r\n'
)

# RFC 3986, section 3.2.2. A sub-delim is valid in a name; blanks, '/', '@', '?' and '#' are not.
_REG_NAME = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*"
_IP_LITERAL = r"\[(?:(?P<ipv6>[0-9A-Fa-f:.]{2,45})|[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\]"
_HOST = re.compile(rf'(?P<host>{_IP_LITERAL}|{_REG_NAME})(?::(?P<port>[0-9]{{0,5}}))?')

# RFC 3986, section 4.3, with a mandatory authority: without it, ``example.com:443`` would match as a URI.
_ABSOLUTE = re.compile(r'[A-Za-z][A-Za-z0-9+.\-]*://([^/?]*)(?:[/?].*)?')

#: Common field names in their usual spelling.
COMMON_NAMES = (
    'Accept',
    'Accept-Charset',
    'Accept-Encoding',
    'Accept-Language',
    'Accept-Ranges',
    'Access-Control-Allow-Credentials',
    'Access-Control-Allow-Headers',
    'Access-Control-Allow-Methods',
    'Access-Control-Allow-Origin',
    'Access-Control-Expose-Headers',
    'Access-Control-Max-Age',
    'Access-Control-Request-Headers',
    'Access-Control-Request-Method',
    'Age',
    'Allow',
    'Alt-Svc',
    'Authorization',
    'Cache-Control',
    'Connection',
    'Content-Disposition',
    'Content-Encoding',
    'Content-Language',
    'Content-Length',
    'Content-Location',
    'Content-Range',
    'Content-Security-Policy',
    'Content-Type',
    'Cookie',
    'DNT',
    'Date',
    'ETag',
    'Expect',
    'Expires',
    'Forwarded',
    'From',
    'HTTP2-Settings',
    'Host',
    'If-Match',
    'If-Modified-Since',
    'If-None-Match',
    'If-Range',
    'If-Unmodified-Since',
    'Keep-Alive',
    'Last-Modified',
    'Link',
    'Location',
    'Max-Forwards',
    'Origin',
    'Pragma',
    'Priority',
    'Proxy-Authenticate',
    'Proxy-Authorization',
    'Proxy-Connection',
    'Range',
    'Referer',
    'Referrer-Policy',
    'Retry-After',
    'Sec-CH-UA',
    'Sec-CH-UA-Mobile',
    'Sec-CH-UA-Platform',
    'Sec-Fetch-Dest',
    'Sec-Fetch-Mode',
    'Sec-Fetch-Site',
    'Sec-Fetch-User',
    'Sec-GPC',
    'Sec-WebSocket-Accept',
    'Sec-WebSocket-Extensions',
    'Sec-WebSocket-Key',
    'Sec-WebSocket-Protocol',
    'Sec-WebSocket-Version',
    'Server',
    'Server-Timing',
    'Set-Cookie',
    'Strict-Transport-Security',
    'TE',
    'Timing-Allow-Origin',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Upgrade-Insecure-Requests',
    'User-Agent',
    'Vary',
    'Via',
    'WWW-Authenticate',
    'Warning',
    'X-Content-Type-Options',
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'X-Forwarded-Port',
    'X-Forwarded-Proto',
    'X-Frame-Options',
    'X-Powered-By',
    'X-Real-IP',
    'X-Request-ID',
    'X-Requested-With',
    'X-XSS-Protection',
)

# Only names from the application are added: a peer must not be able to fill the table.
_MAX_KNOWN_NAMES = 1024
#: The lower-case spelling of names that are known to be tokens.
KNOWN_NAMES = {spelling: name.lower() for name in COMMON_NAMES for spelling in (name, name.lower(), name.title())}
_known = KNOWN_NAMES.get


# -- predicates ---------------------------------------------------------------------------------------------------


def is_token(text: str) -> bool:
    """Return whether ``text`` is a token (RFC 9110, section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def list_elements(value: str) -> list[str]:
    """Return the elements of a list that are not empty.

    A recipient ignores empty ones (RFC 9110, section 5.6.1.2). Quoted strings with commas are not recognised.
    """
    return [element for each in value.split(',') if (element := each.strip(' \t'))]


def lower_name(name: str) -> str:
    """Return a field name, which must be a token, in lower case."""
    return _known(name) or name.lower()


def is_host(text: str, port_required: bool = False) -> bool:
    """Return whether ``text`` is a host with an optional port.

    The rule is ``uri-host [ ":" port ]`` (RFC 9110, section 7.2), which can be empty. An IPv6 literal must be an
    address, a port at most 65535. With ``port_required``, neither host nor port can be empty, and the port cannot be 0,
    as in the authority-form of CONNECT (RFC 9110, section 9.3.6).
    """
    # A name has at most 255 octets; results for longer texts are not cached.
    return _is_host(text, port_required) if len(text) < 256 else _is_host.__wrapped__(text, port_required)


@lru_cache(maxsize=256)
def _is_host(text: str, port_required: bool) -> bool:
    match = _HOST.fullmatch(text)
    if match is None:
        return False
    host, address, port = match.group('host', 'ipv6', 'port')
    if address is not None:
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            return False
    if port_required:
        return bool(host and port) and 0 < int(port) <= 65535
    return not port or (bool(host) and int(port) <= 65535)


def has_request_target_form(method: str, target: str) -> bool:
    """Return whether the form of ``target`` is allowed with ``method``.

    Source: RFC 9112, section 3.2. ``target`` consists of visible ASCII characters. ``*`` is also accepted for M-SEARCH,
    as SSDP uses it. A fragment is not allowed in a target. Some servers remove it and others take it as a part of the
    path, so that a proxy and an application could disagree about the resource. An absolute-form needs an authority
    without user information (RFC 9110, sections 4.2.1 and 4.2.4).
    """
    if '#' in target:
        return False
    if method == 'CONNECT':
        return is_host(target, port_required=True)
    if target[0] == '/':
        return True
    if target == '*':
        return method == 'OPTIONS' or method == 'M-SEARCH'
    return absolute_authority(target) is not None


def absolute_authority(target: str) -> str | None:
    """Return the authority of a target in absolute-form, or None."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None
    authority = match.group(1)
    if authority and authority[0] != ':' and is_host(authority):
        return authority
    return None


# -- checks of values from the application ------------------------------------------------------------------------


def check_method(method: str) -> str:
    """Return ``method``, which must be a token (RFC 9110, section 9.1).

    :raises InvalidInput: it is not a token; code ``ERR_INVALID_HTTP_TOKEN``.
    """
    if not isinstance(method, str) or _TOKEN.fullmatch(method) is None:
        raise InvalidInput(f'method must be a token: {method!r}', 'ERR_INVALID_HTTP_TOKEN')
    return method


def check_target(target: str) -> str:
    """Return ``target``, for a request line (RFC 9112, section 3.2).

    It must have one or more visible ASCII characters, without ``#``.

    :raises InvalidInput: it is empty, or has a ``#``, control characters, blanks or characters outside ASCII, which the
        caller must escape; code ``ERR_UNESCAPED_CHARACTERS``.
    """
    if not isinstance(target, str) or _TARGET.fullmatch(target) is None or '#' in target:
        shown = without_credentials(target) if isinstance(target, str) else target
        raise InvalidInput(f'request target has unescaped characters: {shown!r}', 'ERR_UNESCAPED_CHARACTERS')
    return target


def check_name(name: str) -> str:
    """Return the field name ``name`` in lower case (RFC 9110, section 5.1).

    :raises InvalidHeader: it is not a token; code ``ERR_INVALID_HTTP_TOKEN``.
    """
    try:
        known = _known(name)
    except TypeError:
        known = None
    if known is not None:
        return known
    if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
        raise InvalidHeader(f'header name must be a token: {name!r}', 'ERR_INVALID_HTTP_TOKEN')
    lower = name.lower()
    if len(KNOWN_NAMES) < _MAX_KNOWN_NAMES:
        KNOWN_NAMES[name] = lower
    return lower


def check_value(name: str, value: str) -> None:
    """Check the value of the field ``name`` (RFC 9110, section 5.5).

    HTAB, 0x20-0x7e and 0x80-0xff are allowed.

    :raises InvalidHeader: it is not a str, or has other characters; code ``ERR_INVALID_CHAR``.
    """
    if not isinstance(value, str) or _VALUE.fullmatch(value) is None:
        problem = f'invalid character in the value of header {name!r}'
        if isinstance(value, str) and SECRET_NAME.search(name.lower()) is not None:
            # logs must not have credentials: only the character
            wrong: Any = _NOT_VALUE.search(value)
            raise InvalidHeader(f'{problem}: {wrong[0]!r}', 'ERR_INVALID_CHAR')
        raise InvalidHeader(f'{problem}: {value!r}', 'ERR_INVALID_CHAR')


def check_reason(reason: str) -> str:
    """Return ``reason``, a reason phrase (RFC 9112, section 4).

    It has the characters of a field value.

    :raises InvalidInput: it is not a str, or has other characters; code ``ERR_INVALID_CHAR``.
    """
    if not isinstance(reason, str) or _VALUE.fullmatch(reason) is None:
        raise InvalidInput(f'invalid character in the reason phrase: {reason!r}', 'ERR_INVALID_CHAR')
    return reason


def check_status(status_code: int) -> int:
    """Return ``status_code``, an int from 100 to 999 (RFC 9110, section 15).

    :raises InvalidInput: it is not an int, or out of that range; code ``ERR_HTTP_INVALID_STATUS_CODE``.
    """
    if not isinstance(status_code, int) or isinstance(status_code, bool) or not 100 <= status_code <= 999:
        raise InvalidInput(
            f'status code must be an int from 100 to 999: {status_code!r}', 'ERR_HTTP_INVALID_STATUS_CODE'
        )
    return status_code
