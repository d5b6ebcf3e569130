"""Where a message ends and whether the connection lives on: every such decision is taken here and nowhere else.

The functions take what the header section says (all values of Transfer-Encoding, all values of Content-Length) and
return a verdict or raise :exc:`~geventnode.errors.ParseError`. They implement RFC 9112, section 6.3, and choose to
refuse wherever it leaves a choice: a message that two parsers may cut at different places is how requests are
smuggled.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence

from geventnode.errors import ParseError
from geventnode.protocol.grammar import is_token

__all__ = ['Framing', 'connection_options', 'has_no_content', 'keep_alive', 'request_framing', 'response_framing']


class Framing(enum.Enum):
    """How the end of a message is found."""

    #: There is no content: the head is the end.
    NONE = 'none'
    #: So many bytes as Content-Length says, at least one.
    LENGTH = 'length'
    #: The chunked transfer coding.
    CHUNKED = 'chunked'
    #: Everything until the peer closes; responses only.
    UNTIL_CLOSE = 'until close'


# 19 digits hold every length below 2**63, and int() never sees a number that it refuses to convert.
_LENGTH = re.compile('[0-9]{1,19}')


def request_framing(
    version: str, transfer_encodings: Sequence[str], content_lengths: Sequence[str]
) -> tuple[Framing, int | None]:
    """Return how the content of a request ends, and the length that it declares (None: none declared).

    :param version: ``'1.0'``, ``'1.1'`` or a later minor version.
    :param transfer_encodings: the value of each Transfer-Encoding line.
    :param content_lengths: the value of each Content-Length line.
    :raises ParseError: the length is uncertain: 400, or 501 for a transfer coding besides chunked.

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
    """Return how the content of a response ends if it may have any (see :func:`has_no_content`), and its length.

    :param transfer_encodings: the value of each Transfer-Encoding line.
    :param content_lengths: the value of each Content-Length line.
    :raises ParseError: the length is uncertain. RFC 9112 would let a response whose coding is not chunked last until
        the connection closes; nobody here could decode it.

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
    """Return whether a response with ``status_code`` to ``method`` ends with its head, whatever its fields say.

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
    """Return the lower-cased options of all Connection lines (RFC 9110, section 7.6.1)."""
    return frozenset(option.strip(' \t') for option in ','.join(values).lower().split(','))


def keep_alive(version: str, options: frozenset[str]) -> bool:
    """Return whether the connection may carry another message after this one.

    :param version: ``'1.0'``, ``'1.1'`` or a later minor version.
    :param options: what :func:`connection_options` returned.

    Source: RFC 9112, section 9.3.
    """
    if 'close' in options:
        return False
    return version != '1.0' or 'keep-alive' in options


def _check_chunked(transfer_encodings: Sequence[str], content_lengths: Sequence[str]) -> None:
    """Raise unless the transfer coding is chunked and nothing else, and no length contradicts it."""
    code = 'HPE_INVALID_TRANSFER_ENCODING'
    shown = ', '.join(transfer_encodings).encode('latin-1', 'replace')
    if content_lengths:
        raise ParseError('Transfer-Encoding together with Content-Length', code=code, data=shown)
    codings = [coding.strip(' \t').lower() for coding in ','.join(transfer_encodings).split(',')]
    if codings == ['chunked']:
        return
    if codings[-1] != 'chunked' or 'chunked' in codings[:-1]:
        raise ParseError('Transfer-Encoding does not end in its only chunked', code=code, data=shown)
    if not all(is_token(coding.partition(';')[0].rstrip(' \t')) for coding in codings):
        raise ParseError('Transfer-Encoding is no list of codings', code=code, data=shown)
    # RFC 9112, section 6.1: a coding that is not understood SHOULD be answered with 501.
    raise ParseError('Transfer-Encoding other than chunked is not implemented', code=code, status=501, data=shown)


def _length(content_lengths: Sequence[str]) -> int:
    """Return the one length that is declared."""
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
