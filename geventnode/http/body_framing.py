"""How the body of a message to be sent ends: one pure function for responses and one for requests.

Both return a triple: the kind of framing, the number of bytes that the body must have (None: any number), and the field
line that has to be added to the head (``''``: the fields contain it already, or there is none). Neither changes its
arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from geventnode.errors import BodyNotAllowed
from geventnode.http.header_fields import Fields, check_transfer_encoding
from geventnode.protocol import Framing

__all__ = ['BODILESS_STATUSES', 'NO_BODY_BY_DEFAULT', 'frame_request', 'frame_response']

#: Statuses of responses that never have a body (RFC 9110, sections 15.3.5, 15.3.6, 15.4.5).
BODILESS_STATUSES = frozenset({204, 205, 304})

#: Methods of requests that have no body unless one is given (Node 20's list).
NO_BODY_BY_DEFAULT = frozenset({'GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE', 'CONNECT'})

#: Methods of requests that never have a body (RFC 9110, sections 9.3.6 and 9.3.8).
BODILESS_METHODS = frozenset({'CONNECT', 'TRACE'})

_NONE, _LENGTH, _CHUNKED, _UNTIL_CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.UNTIL_CLOSE

_CHUNKED_LINE = 'Transfer-Encoding: chunked\r\n'


def frame_response(
    status_code: int,
    method: str,
    http_version: str,
    fields: Fields,
    removed: Collection[str],
    trailers: Sequence[tuple[str, str]] | None,
    length: int | None,
) -> tuple[Framing, int | None, str]:
    """Return the framing that the head of a response declares.

    Source: RFC 9112, section 6. A response to HEAD declares the framing that GET would get, and has no body all the
    same. ``Framing.NONE`` means that nothing is declared; ``Framing.UNTIL_CLOSE`` that the end of the connection ends
    the body, and that the head must not contain Transfer-Encoding.

    :param method: the method of the request.
    :param http_version: the version of the request, ``'1.0'`` or later.
    :param fields: the fields of the head.
    :param removed: lower-cased names of the fields that must not be added.
    :param trailers: the lines of the trailer section, which needs chunks.
    :param length: the number of bytes in the body; None: not known yet.
    :raises InvalidHeader: the head contains a Transfer-Encoding that cannot be sent.
    """
    if status_code in BODILESS_STATUSES:
        return _NONE, None, 'Content-Length: 0\r\n' if status_code == 205 else ''
    if 'transfer-encoding' in fields:
        check_transfer_encoding(fields)
        # RFC 9112, section 6.1: a client of HTTP/1.0 does not know it
        return (_UNTIL_CLOSE if http_version == '1.0' else _CHUNKED), None, ''
    if 'content-length' in fields:
        return _LENGTH, int(fields['content-length'][1]), ''
    if length is not None and not trailers and 'content-length' not in removed and 'trailer' not in fields:
        if not length and method == 'HEAD':
            # the length that GET would get is not known
            return _NONE, None, ''
        return _LENGTH, length, f'Content-Length: {length}\r\n'
    if http_version == '1.0' or 'transfer-encoding' in removed:
        return _UNTIL_CLOSE, None, ''
    return _CHUNKED, None, _CHUNKED_LINE


def frame_request(
    method: str,
    fields: Fields,
    removed: Collection[str],
    trailers: Sequence[tuple[str, str]] | None,
    length: int | None,
    flushing: bool,
) -> tuple[Framing, int | None, str]:
    """Return the framing that the head of a request declares.

    Source: RFC 9112, section 6.3.

    :param fields: the fields of the head.
    :param removed: lower-cased names of the fields that must not be added.
    :param trailers: the lines of the trailer section, which needs chunks.
    :param length: the number of bytes in the body; None: not known yet.
    :param flushing: whether the head is sent before the first piece of the body is known; a request with a method in
        :data:`NO_BODY_BY_DEFAULT` then has no body.
    :raises BodyNotAllowed: the method allows no body, or both fields that could declare it were removed.
    :raises InvalidHeader: the head contains a Transfer-Encoding that cannot be sent.
    """
    if 'transfer-encoding' in fields:
        check_transfer_encoding(fields)
        _check_body_allowed(method)
        return _CHUNKED, None, ''
    if 'content-length' in fields:
        declared = int(fields['content-length'][1])
        if declared:
            _check_body_allowed(method)
        return _LENGTH, declared, ''
    if length is None and flushing and method in NO_BODY_BY_DEFAULT:
        return _NONE, 0, ''
    if length is not None and not trailers and 'trailer' not in fields:
        if not length and (method in NO_BODY_BY_DEFAULT or 'content-length' in removed):
            return _NONE, 0, ''
        if 'content-length' not in removed:
            if length:
                _check_body_allowed(method)
            return _LENGTH, length, f'Content-Length: {length}\r\n'
    if 'transfer-encoding' in removed:
        raise BodyNotAllowed(
            'a request with a body needs Content-Length or Transfer-Encoding, and both were removed '
            '(RFC 9112, section 6.3); remove only one of them'
        )
    _check_body_allowed(method)
    return _CHUNKED, None, _CHUNKED_LINE


def _check_body_allowed(method: str) -> None:
    if method in BODILESS_METHODS:
        raise BodyNotAllowed(f'a {method} request has no body (RFC 9110, section 9.3)')
