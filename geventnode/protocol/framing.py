"""Framing: where a received message ends, and whether the connection can be reused.

The functions take all values of Transfer-Encoding and of Content-Length. They implement RFC 9112, section 6.3, and
raise :exc:`~geventnode.errors.ParseError` wherever it leaves a choice: a message that two parsers can end at different
positions makes request smuggling possible.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence

from geventnode.errors import ParseError
from geventnode.protocol.grammar import is_token, list_elements

__all__ = ['Framing', 'connection_options', 'has_no_content', 'keep_alive', 'request_framing', 'response_framing']


class Framing(enum.Enum):
    """The way in which the end of a message is found."""

    #: No content: the message ends with its head.
    NONE = 'none'
    #: As many bytes as Content-Length specifies, at least one.
    LENGTH = 'length'
    #: The chunked transfer coding.
    CHUNKED = 'chunked'
    #: All bytes until the peer closes the connection; only in responses.
    UNTIL_CLOSE = 'until close'


# 19 digits hold every length below 2**63, and int() never sees a number that it refuses to convert.
_LENGTH = re.compile('[0-9]{1,19}')


def request_framing(
    version: str, transfer_encodings: Sequence[str], content_lengths: Sequence[str]
) -> tuple[Framing, int | None]:
    """Return the framing of a request, and its declared length or None.

    :param version: ``'1.0'``, ``'1.1'`` or a later minor version.
    :param transfer_encodings: the value of each Transfer-Encoding line.
    :param content_lengths: the value of each Content-Length line.
    :raises ParseError: the length is ambiguous (400), or there is another transfer coding than chunked (501).

    Source: RFC 9112, sections 6.1 to 6.3.
    """
    if transfer_encodings:
        _check_chunked(transfer_encodings, content_lengths)
        if version == '1.0':
            raise ParseError('Transfer-Encoding in an HTTP/1.0 request', code='HPE_INVALID_TRANSFER_ENCODING')
        return Framing.CHUNKED, None
    if content_lengths:
        length = _length(content_lengths)
        return (Framing.LENGTH if length else Framing.NONE), length
    return Framing.NONE, None


def response_framing(transfer_encodings: Sequence[str], content_lengths: Sequence[str]) -> tuple[Framing, int | None]:
    """Return the framing of a response, and its declared length or None.

    It is for responses that can have content; see :func:`has_no_content`.

    :param transfer_encodings: the value of each Transfer-Encoding line.
    :param content_lengths: the value of each Content-Length line.
    :raises ParseError: the length is ambiguous, or there is another transfer coding than chunked, which this package
        cannot decode. (RFC 9112 lets such a response end with the connection.)

    Source: RFC 9112, section 6.3.
    """
    if transfer_encodings:
        _check_chunked(transfer_encodings, content_lengths)
        return Framing.CHUNKED, None
    if content_lengths:
        length = _length(content_lengths)
        return (Framing.LENGTH if length else Framing.NONE), length
    return Framing.UNTIL_CLOSE, None


def has_no_content(status_code: int, method: str) -> bool:
    """Return whether a response always ends with its head.

    :param status_code: the status of the response.
    :param method: the method of the request.

    Source: RFC 9112, section 6.3, items 1 and 2.
    """
    return (
        status_code < 200
        or status_code == 204
        or status_code == 304
        or method == 'HEAD'
        or (method == 'CONNECT' and status_code < 300)
    )


def connection_options(values: Iterable[str]) -> frozenset[str]:
    """Return the lower-case options of all Connection lines (RFC 9110, section 7.6.1)."""
    return frozenset(list_elements(','.join(values).lower()))


def keep_alive(version: str, options: frozenset[str]) -> bool:
    """Return whether the connection can carry another message after this one.

    :param version: ``'1.0'``, ``'1.1'`` or a later minor version.
    :param options: the result of :func:`connection_options`.

    Source: RFC 9112, section 9.3.
    """
    if 'close' in options:
        return False
    return version != '1.0' or 'keep-alive' in options


def _check_chunked(transfer_encodings: Sequence[str], content_lengths: Sequence[str]) -> None:
    """Check that chunked is the only coding, without Content-Length."""
    code = 'HPE_INVALID_TRANSFER_ENCODING'
    shown = ', '.join(transfer_encodings).encode('latin-1', 'replace')
    if content_lengths:
        raise ParseError('Transfer-Encoding together with Content-Length', code=code, data=shown)
    codings = [coding.strip(' \t').lower() for coding in ','.join(transfer_encodings).split(',')]
    if codings == ['chunked']:
        return
    if codings[-1] != 'chunked' or 'chunked' in codings[:-1]:
        raise ParseError('Transfer-Encoding does not end in a single chunked', code=code, data=shown)
    if not all(is_token(coding.partition(';')[0].rstrip(' \t')) for coding in codings):
        raise ParseError('Transfer-Encoding is not a list of codings', code=code, data=shown)
    # RFC 9112, section 6.1: a server SHOULD respond with 501 to a coding that it does not understand.
    raise ParseError('Transfer-Encoding other than chunked is not implemented', code=code, status=501, data=shown)


def _length(content_lengths: Sequence[str]) -> int:
    """Return the declared length, which must be unique and valid."""
    if len(content_lengths) > 1:
        raise ParseError(
            'more than one Content-Length',
            code='HPE_UNEXPECTED_CONTENT_LENGTH',
            data=', '.join(content_lengths).encode('latin-1', 'replace'),
        )
    value = content_lengths[0]
    if _LENGTH.fullmatch(value) is None:
        raise ParseError(
            'Content-Length is not a decimal number of at most 19 digits',
            code='HPE_INVALID_CONTENT_LENGTH',
            data=value.encode('latin-1', 'replace'),
        )
    return int(value)
