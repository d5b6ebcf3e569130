"""The limits of received messages, and the errors that name them.

All parsers of a server or an agent share one object. A parser reads its limits for each message, so that a server can
replace the object at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from geventnode.errors import BodyTooLarge, ParseError

__all__ = ['Limits']


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a parser, which cannot be changed after construction.

    The status codes are those of a server's error responses.
    """

    #: Bytes of a request or status line with its header section, including line ends; also of a trailer section. The
    #: status is 414 if the request line alone is longer, otherwise 431.
    max_header_size: int = 16384
    #: Bytes of a request line without its line end; None for no separate limit. 414.
    max_request_line: int | None = None
    #: Bytes of a header field without its line end; None for no separate limit. 431.
    max_field_size: int | None = None
    #: Fields in a header section, and in a trailer section; 0 for no limit except the size. 431.
    max_headers_count: int = 1000
    #: Bytes of all chunk extensions of a message together. 413, as in Node.
    max_chunk_extensions: int = 16384
    #: Bytes of a message's content; None for no limit. 413.
    max_body_size: int | None = None
    #: Empty lines that are skipped before a message (RFC 9112, section 2.2). 400.
    max_empty_lines: int = 16
    #: Informational responses (1xx) before a final one.
    max_informational: int = 32
    #: Whether an HTTP/1.1 request without Host is rejected (RFC 9112, section 3.2). 400.
    require_host: bool = True
    #: A head of at most this number of bytes is within all limits of size.
    small_head: int = field(init=False, compare=False)
    #: ``max_headers_count``, or a number that no head exceeds.
    most_fields: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'most_fields', self.max_headers_count or self.max_header_size)
        sizes = [size for size in (self.max_request_line, self.max_field_size) if size is not None]
        object.__setattr__(self, 'small_head', min(self.max_header_size, *sizes) if sizes else self.max_header_size)

    def check_parts(self, head: bytes) -> None:
        """Check the parts of a head against their separate limits."""
        line, *fields = head.split(b'\r\n')
        if self.max_request_line is not None and len(line) > self.max_request_line:
            raise ParseError(
                f'request line longer than max_request_line ({self.max_request_line} bytes)',
                code='HPE_URI_OVERFLOW',
                status=414,
            )
        if self.max_field_size is not None and max(map(len, fields)) > self.max_field_size:
            raise ParseError(
                f'header field longer than max_field_size ({self.max_field_size} bytes)',
                code='HPE_HEADER_OVERFLOW',
                status=431,
            )

    def request_line_too_long(self) -> ParseError:
        """Return the error for a request line longer than ``max_header_size``."""
        return ParseError(
            f'request line longer than max_header_size ({self.max_header_size} bytes)',
            code='HPE_URI_OVERFLOW',
            status=414,
        )

    def too_long(self, part: str) -> ParseError:
        """Return the error for a part longer than ``max_header_size``.

        :param part: a status line or a section.
        """
        return ParseError(
            f'{part} longer than max_header_size ({self.max_header_size} bytes)', code='HPE_HEADER_OVERFLOW', status=431
        )

    def too_many_fields(self, part: str) -> ParseError:
        """Return the error for more headers or trailers than ``max_headers_count``."""
        return ParseError(
            f'more {part} than max_headers_count ({self.max_headers_count})', code='HPE_HEADER_OVERFLOW', status=431
        )

    def extensions_too_long(self) -> ParseError:
        """Return the error for more bytes of chunk extensions than ``max_chunk_extensions``."""
        return ParseError(
            f'chunk extensions longer than max_chunk_extensions ({self.max_chunk_extensions} bytes)',
            code='HPE_CHUNK_EXTENSIONS_OVERFLOW',
            status=413,
        )

    def body_too_large(self) -> BodyTooLarge:
        """Return the error for content longer than ``max_body_size``."""
        return BodyTooLarge(
            f'content longer than max_body_size ({self.max_body_size} bytes)', code='HPE_BODY_OVERFLOW', status=413
        )

    def too_many_empty_lines(self) -> ParseError:
        """Return the error for more empty lines than ``max_empty_lines``."""
        return ParseError(
            f'more empty lines than max_empty_lines ({self.max_empty_lines})', code='HPE_INVALID_CONSTANT'
        )

    def too_many_informational(self) -> ParseError:
        """Return the error for more informational responses than ``max_informational``."""
        return ParseError(
            f'more informational responses than max_informational ({self.max_informational})', code='HPE_INVALID_STATUS'
        )
