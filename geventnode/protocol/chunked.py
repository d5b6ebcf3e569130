"""The decoder of the chunked transfer coding (RFC 9112, section 7.1).

A :class:`ChunkedBody` decodes the content of one message. It reads from the parser's buffer and stores only numbers
between calls, so that memory depends on the buffer alone. Each call decodes all chunks in the buffer and returns their
data as one object. An error is raised after the data before it was returned.
"""

from __future__ import annotations

import enum
from collections import deque

from geventnode.errors import ParseError
from geventnode.protocol.block import check_line_ends, parse_fields
from geventnode.protocol.grammar import CHUNK_LINE, lower_name
from geventnode.protocol.limits import Limits

__all__ = ['FORBIDDEN_TRAILERS', 'ChunkedBody']

#: The maximum number of digits of a chunk size.
_LONGEST_SIZE = 16
_HEX_DIGITS = frozenset(b'0123456789abcdefABCDEF')
#: Fields that would change the end of a message or its destination. RFC 9110, section 6.5.1, forbids senders to use
#: them as trailers, so that they are a sign of an attack.
FORBIDDEN_TRAILERS = frozenset(('content-length', 'host', 'transfer-encoding'))


class _Phase(enum.Enum):
    """The next part of a chunked body."""

    LINE = 'chunk line'
    DATA = 'chunk data'
    DATA_END = 'line end after chunk data'
    TRAILERS = 'trailer section'
    END = 'nothing'


_LINE, _DATA, _DATA_END, _TRAILERS, _END = _Phase


class ChunkedBody:
    """The state of one message's chunked content.

    :param unfold: whether folded trailers are unfolded; otherwise they are errors.
    :param sizes: the size of each chunk is appended to it; None if the borders of chunks are not recorded.
    """

    __slots__ = ('_extensions', '_phase', '_received', '_remaining', '_scanned', '_unfold', 'sizes', 'trailers')

    def __init__(self, unfold: bool = False, sizes: deque[int] | None = None) -> None:
        self._unfold = unfold
        self._phase = _LINE
        #: The number of missing bytes of the current chunk.
        self._remaining = 0
        #: The number of bytes of chunk extensions so far.
        self._extensions = 0
        #: The number of bytes of content so far, including the missing bytes of the current chunk.
        self._received = 0
        #: The length of the part of an incomplete line or section that was searched.
        self._scanned = 0
        #: The sizes of the chunks so far; None if they are not recorded.
        self.sizes = sizes
        #: The trailer fields; None before the end of the message.
        self.trailers: list[tuple[str, str]] | None = None

    @property
    def content_complete(self) -> bool:
        """Whether the last chunk was read and the trailer section is missing."""
        return self._phase is _TRAILERS

    def decode(self, buffer: bytes | bytearray, pos: int, limits: Limits) -> tuple[bytes, int]:
        """Decode the chunks in ``buffer`` from ``pos`` on.

        :returns: the joined data of all chunks, and the position after them. Without data, either the message has ended
            (``trailers`` is a list) or more bytes are needed.
        :raises ParseError: there is an error, and no data before it; its ``offset`` is a position in ``buffer``.
        """
        size = len(buffer)
        pieces: list[bytes | bytearray] = []
        phase = self._phase
        try:
            while True:
                if phase is _DATA:
                    stop = pos + self._remaining
                    if stop > size:
                        if pos < size:
                            self._remaining = stop - size
                            pieces.append(buffer[pos:] if pos else buffer)
                            pos = size
                        break
                    pieces.append(buffer[pos:stop])
                    pos = stop
                    phase = _DATA_END
                if phase is _DATA_END:
                    line_end = buffer[pos : pos + 2]
                    if line_end != b'\r\n':
                        if b'\r\n'.startswith(line_end):
                            break
                        raise ParseError(
                            'chunk data is not followed by CRLF',
                            code='HPE_STRICT',
                            offset=pos,
                            data=bytes(buffer[pos : pos + 1 + line_end.startswith(b'\r')]),
                        )
                    pos += 2
                    phase = _LINE
                if phase is _LINE:
                    # A line that arrives in many pieces is not matched before its end has arrived.
                    waits = self._scanned and buffer.find(b'\r\n', pos + self._scanned - 1) < 0
                    match = None if waits else CHUNK_LINE.match(buffer, pos)
                    if match is None:
                        self._wait_for_line(buffer, pos, limits)
                        break
                    self._begin_chunk(int(match.group(1), 16), match.end(2) - match.start(2), pos, limits)
                    pos = match.end()
                    phase = _DATA if self._remaining else _TRAILERS
                    continue
                if pieces:
                    break
                pos = self._take_trailers(buffer, pos, limits)
                phase = _END if self.trailers is not None else _TRAILERS
                break
        except ParseError:
            if not pieces:
                raise
        self._phase = phase
        if not pieces:
            return b'', pos
        if len(pieces) == 1:
            return bytes(pieces[0]), pos
        return b''.join(pieces), pos

    def _begin_chunk(self, size: int, extension: int, pos: int, limits: Limits) -> None:
        """Begin a chunk of ``size`` bytes, with its line at ``pos``."""
        # An error after data is found twice, so nothing is counted before the line is known to be valid.
        extensions = self._extensions + extension
        if extension and extensions > limits.max_chunk_extensions:
            raise _at(limits.extensions_too_long(), pos)
        if limits.max_body_size is not None and self._received + size > limits.max_body_size:
            raise _at(limits.body_too_large(), pos)
        self._extensions = extensions
        self._received += size
        self._remaining = size
        self._scanned = 0
        if size and self.sizes is not None:
            self.sizes.append(size)

    def _wait_for_line(self, buffer: bytes | bytearray, pos: int, limits: Limits) -> None:
        """Check the beginning of a chunk line that is incomplete or invalid.

        The checks are in the order in which the errors would be found if the bytes arrived one by one.
        """
        longest = _LONGEST_SIZE + limits.max_chunk_extensions - self._extensions
        start = pos + max(0, self._scanned - 1)
        stop = pos + longest + 2
        line_end = buffer.find(b'\r\n', start, stop)
        prefix = bytes(buffer[pos : pos + _LONGEST_SIZE + 1])
        if len(prefix) > _LONGEST_SIZE and _HEX_DIGITS.issuperset(prefix):
            raise ParseError(
                f'chunk size has more than {_LONGEST_SIZE} digits',
                code='HPE_INVALID_CHUNK_SIZE',
                offset=pos,
                data=prefix,
            )
        _check_line_ends(buffer, pos, start, stop if line_end < 0 else line_end + 1)
        if line_end >= 0:
            raise _chunk_line_error(bytes(buffer[pos:line_end]), pos)
        self._scanned = len(buffer) - pos
        if self._scanned >= longest + 2:
            raise _at(limits.extensions_too_long(), pos)

    def _take_trailers(self, buffer: bytes | bytearray, pos: int, limits: Limits) -> int:
        """Parse a complete trailer section; return the position after it."""
        if buffer[pos : pos + 2] == b'\r\n':
            self.trailers = []
            return pos + 2
        limit = limits.max_header_size
        end = buffer.find(b'\r\n\r\n', pos + max(0, self._scanned - 3))
        if end < 0 or end + 4 - pos > limit:
            _check_line_ends(buffer, pos, pos + max(0, self._scanned - 1), pos + limit + 1)
            self._scanned = len(buffer) - pos
            if self._scanned > limit:
                raise _at(limits.too_long('trailer section'), pos)
            return pos
        section = bytes(buffer[pos : end + 2])
        try:
            trailers = parse_fields(b'\r\n' + section, self._unfold)
        except ParseError as error:
            raise _at(error, pos) from None
        if len(trailers) > limits.max_headers_count > 0:
            raise _at(limits.too_many_fields('trailers'), pos)
        for name, _ in trailers:
            if lower_name(name) in FORBIDDEN_TRAILERS:
                raise ParseError(f'{name} in a trailer section', code='HPE_INVALID_HEADER_TOKEN', offset=pos)
        self.trailers = trailers
        return end + 4


def _check_line_ends(buffer: bytes | bytearray, pos: int, start: int, stop: int) -> None:
    """Check a construct that begins at ``pos`` for bare CR or LF."""
    try:
        check_line_ends(buffer, pos, start, stop)
    except ParseError as error:
        raise _at(error, pos) from None


def _at(error: ParseError, pos: int) -> ParseError:
    """Return ``error`` with ``pos`` as its position in the buffer."""
    error.offset = pos
    return error


def _chunk_line_error(line: bytes, pos: int) -> ParseError:
    """Return the error for a complete chunk line that is invalid."""
    size, mark, _ = line.partition(b';')
    if mark and _HEX_DIGITS.issuperset(size.rstrip(b' \t') or b'?'):
        return ParseError('malformed chunk extension', code='HPE_STRICT', offset=pos, data=line)
    return ParseError('chunk size is not hexadecimal', code='HPE_INVALID_CHUNK_SIZE', offset=pos, data=line)
