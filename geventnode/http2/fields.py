"""The head of a request as HTTP/2 has it: a list of fields, checked and turned into a head as HTTP/1.1 has it.

The rules are those of RFC 9113, sections 8.2 and 8.3, and the stricter ones of this package for HTTP/1.1: a value that
a parser of HTTP/1.1 would refuse is refused here, too, because applications and proxies copy values into HTTP/1.1
messages. The application finds ``:authority`` as Host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from geventnode.protocol import Framing, Limits, RequestHead, is_host, is_token
from geventnode.protocol.block import expectation
from geventnode.protocol.chunked import FORBIDDEN_TRAILERS
from geventnode.protocol.headers import merged

__all__ = [
    'CONNECTION_FIELDS',
    'Malformed',
    'StreamHead',
    'field_problem',
    'request_head',
    'trailer_fields',
    'valid_names',
]

#: Fields about the connection, which HTTP/2 does not have (RFC 9113, section 8.2.2).
CONNECTION_FIELDS = frozenset({'connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade'})

#: Fields of which a request has one at most.
SINGLE = frozenset({'authorization', 'content-length', 'content-range', 'content-type', 'host', 'proxy-authorization'})

_PSEUDO_FIELDS = frozenset({':method', ':scheme', ':authority', ':path'})

#: Usual values, which need no further check.
_METHODS, _SCHEMES = frozenset({'GET', 'HEAD', 'POST', 'PUT', 'DELETE'}), frozenset({'http', 'https'})

_NONE, _LENGTH, _CHUNKED = Framing.NONE, Framing.LENGTH, Framing.CHUNKED

# 19 digits hold every length below 2**63, and int() never sees a number that it refuses to convert.
_DIGITS = re.compile('[0-9]{1,19}')
_SCHEME = re.compile('[A-Za-z][A-Za-z0-9+.\\-]*')
_TARGET = re.compile('[\\x21-\\x22\\x24-\\x7e]+')
_VALUE = re.compile('(?:[\\x21-\\x7e\\x80-\\xff](?:[\\t\\x20-\\x7e\\x80-\\xff]*[\\x21-\\x7e\\x80-\\xff])?)?')

#: Names that were checked before, and the largest number of them: a client must not be able to fill the table.
valid_names: dict[str, str] = {}
MAX_NAMES, MAX_NAME = 1024, 64


class Malformed(Exception):
    """A request breaks a rule of RFC 9113, section 8.1.1: a stream error of type PROTOCOL_ERROR."""


class StreamHead(RequestHead):
    """The head of a request that arrived by HTTP/2.

    :param host: the value of ``:authority``, otherwise that of Host.
    :param pairs: the fields as they arrived: names, in lower case, and values.
    :param fields: the same by name, repeated ones merged.
    """

    __slots__ = ('_pairs', 'scheme')

    def __init__(
        self,
        method: str,
        url: str,
        scheme: str,
        host: str | None,
        pairs: list[tuple[str, str]],
        fields: dict[str, Any],
        framing: Framing,
        content_length: int | None,
    ) -> None:
        self.method = method
        self.url = url
        #: The value of ``:scheme``; empty for CONNECT.
        self.scheme = scheme
        self.http_version = '2.0'
        self._pairs = pairs
        self.fields = fields
        self.count = len(pairs)
        self.framing = framing
        self.content_length = content_length
        self.keep_alive = True
        self.upgrade = False
        expect = fields.get('expect')
        self.expect = None if expect is None else expectation(expect)
        self.host = host
        self.ordinary = self.expect is None and method != 'CONNECT'
        self.derived = None
        self.plain = False

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """A new list of the fields as they arrived."""
        return self._pairs.copy()


def request_head(fields: Iterable[tuple[str, str]], limits: Limits, ended: bool) -> StreamHead:
    """Return the head for the fields of a request.

    :param fields: names and values, pseudo-header fields first; :func:`field_problem` has returned None for each.
    :param ended: whether the stream ends with the head.
    :raises Malformed: a rule of HTTP/2 is broken, or one of the grammar.
    :raises ParseError: a limit is exceeded; ``status`` is that of the error response.
    """
    pseudo: dict[str, str] = {}
    pairs: list[tuple[str, str]] = []
    values: dict[str, Any] = {}
    repeated: dict[str, list[str]] = {}
    for pair in fields:
        name, value = pair
        if name in _PSEUDO_FIELDS or name[:1] == ':':
            if pairs:
                raise Malformed('a pseudo-header field follows an ordinary field')
            if name not in _PSEUDO_FIELDS:
                raise Malformed(
                    'a request has :protocol, but the server does not offer extended CONNECT (RFC 8441)'
                    if name == ':protocol'
                    else 'a request has an unknown pseudo-header field'
                )
            if name in pseudo:
                raise Malformed(f'the pseudo-header field {name} is repeated')
            pseudo[name] = value
        else:
            pairs.append(pair)
            if name not in values:
                values[name] = value
            elif name in repeated:
                repeated[name].append(value)
            else:
                repeated[name] = [values[name], value]
    method, url, scheme, authority = _target(pseudo)
    if repeated:
        for name in repeated:
            if name in SINGLE:
                raise Malformed(f'more than one {name}')
        values.update(merged(repeated))
    if 'set-cookie' in values and 'set-cookie' not in repeated:
        values['set-cookie'] = [values['set-cookie']]
    host = _host(authority, values.get('host'))
    if host is None:
        if limits.require_host:
            raise Malformed('a request has neither :authority nor Host')
    elif 'host' not in values:
        pairs.insert(0, ('host', host))
        values = {'host': host, **values}
    _check_limits(pairs, limits, method, url)
    framing, length = _framing(values, method, limits, ended)
    return StreamHead(method, url, scheme, host, pairs, values, framing, length)


def trailer_fields(fields: Sequence[tuple[str, str]], limits: Limits) -> list[tuple[str, str]]:
    """Return the trailer fields of a request.

    :param fields: names and values; :func:`field_problem` has returned None for each.
    :raises Malformed: one is a pseudo-header field, or forbidden as a trailer, or they are too many.
    """
    for name, _ in fields:
        if name[:1] == ':':
            raise Malformed('a trailer section has a pseudo-header field')
        if name in FORBIDDEN_TRAILERS:
            raise Malformed(f'{name} in a trailer section')
    if 0 < limits.max_headers_count < len(fields):
        raise Malformed(f'more trailers than max_headers_count ({limits.max_headers_count})')
    return list(fields)


def field_problem(name: str, value: str) -> str | None:
    """Return how a field breaks a rule, as an error message.

    It is None if the field breaks none. Pseudo-header fields depend on others: :func:`request_head` checks them.
    """
    if name not in valid_names:
        if name[:1] == ':':
            return None
        if not is_token(name):
            return 'a field name is not a token'
        if name != name.lower():
            return 'a field name has upper-case characters'
        if name in CONNECTION_FIELDS:
            return f'a request has {name}, a field about the connection'
        if len(name) <= MAX_NAME and len(valid_names) < MAX_NAMES:
            valid_names[name] = name
    if _VALUE.fullmatch(value) is None:
        return f'the value of {name} has control characters, or blanks around it'
    if name == 'te' and value.lower() != 'trailers':
        return 'the value of te is not trailers'
    return None


def _target(pseudo: dict[str, str]) -> tuple[str, str, str, str | None]:
    """Return method, target, scheme and authority (RFC 9113, section 8.3.1)."""
    method = pseudo.get(':method', '')
    if method not in _METHODS and not is_token(method):
        raise Malformed('the method is missing, or not a token')
    authority = pseudo.get(':authority')
    if authority is not None and (not authority or not is_host(authority, port_required=method == 'CONNECT')):
        raise Malformed(':authority is not a host with an optional port')
    if method == 'CONNECT':
        if authority is None or ':scheme' in pseudo or ':path' in pseudo:
            raise Malformed('CONNECT has :authority, and neither :scheme nor :path')
        return method, authority, '', authority
    scheme, path = pseudo.get(':scheme', ''), pseudo.get(':path', '')
    if scheme not in _SCHEMES:
        if _SCHEME.fullmatch(scheme) is None:
            raise Malformed(':scheme is missing, or not a scheme')
        scheme = scheme.lower()
    if _TARGET.fullmatch(path) is None:
        raise Malformed(':path is missing, or has characters that must be escaped')
    if path[:1] != '/' and not (path == '*' and method == 'OPTIONS'):
        raise Malformed(':path does not begin with a slash')
    return method, path, scheme, authority


def _host(authority: str | None, host: str | None) -> str | None:
    """Return the host of the request.

    A Host field that differs from ``:authority`` is refused: proxies and applications would disagree.
    """
    if host is None:
        return authority
    if not is_host(host):
        raise Malformed('Host is not a host with an optional port')
    if authority is not None and host.lower() != authority.lower():
        raise Malformed('Host differs from :authority')
    return host


def _check_limits(pairs: list[tuple[str, str]], limits: Limits, method: str, url: str) -> None:
    """Raise ``ParseError`` if the head exceeds a limit that HTTP/1.1 has, too."""
    if 0 < limits.max_headers_count < len(pairs):
        raise limits.too_many_fields('headers')
    if limits.max_request_line is not None or limits.max_field_size is not None:
        # as the parts would be in HTTP/1.1
        lines = [f'{method} {url} HTTP/1.1', *(f'{name}: {value}' for name, value in pairs), '', '']
        limits.check_parts('\r\n'.join(lines).encode('latin-1'))


def _framing(values: dict[str, Any], method: str, limits: Limits, ended: bool) -> tuple[Framing, int | None]:
    """Return the framing as of HTTP/1.1, and the declared length."""
    length = None
    declared = values.get('content-length')
    if declared is not None:
        if _DIGITS.fullmatch(declared) is None:
            raise Malformed('Content-Length is not a decimal number of at most 19 digits')
        length = int(declared)
    if method == 'CONNECT':
        if length is not None:
            raise Malformed('CONNECT has Content-Length')
        return _NONE, None
    if ended:
        if length:
            raise Malformed(f'Content-Length is {length}, and there is no body')
        return _NONE, length
    if length is None:
        return _CHUNKED, None
    if limits.max_body_size is not None and length > limits.max_body_size:
        raise limits.body_too_large()
    return _LENGTH, length
