"""The parser of a client: what comes most, a small response in one piece, is recognised as a whole."""

from __future__ import annotations

from geventnode.protocol.framing import Framing
from geventnode.protocol.head import STATUS_LINES, ResponseHead
from geventnode.protocol.intake import Role, State
from geventnode.protocol.limits import Limits
from geventnode.protocol.parser import Parser

__all__ = ['ResponseParser']

# To look a member up in its class costs more than the comparison.
_LENGTH, _RESPONSE_HEAD, _CLOSED = Framing.LENGTH, State.RESPONSE_HEAD, State.CLOSED


class ResponseParser(Parser):
    """A :class:`~geventnode.protocol.Parser` for responses, with a short way.

    :param limits: what to refuse.
    """

    __slots__ = ()

    def __init__(self, limits: Limits) -> None:
        super().__init__(Role.RESPONSE, limits)

    def take_response(self) -> tuple[ResponseHead, bytes] | None:
        """Return the head and the content of a response when exactly one is buffered, with a Content-Length: what
        :meth:`next_event` would return in three calls, for what comes most. None: ask for events."""
        buffer = self._buffer
        if self._state is not _RESPONSE_HEAD or self._pos or type(buffer) is not bytes:
            return None
        limits = self.limits
        line_end = buffer.find(b'\r\n')
        end = buffer.find(b'\r\n\r\n', line_end)
        if not 0 < line_end <= end < limits.max_header_size - 4:
            return None
        line = STATUS_LINES.get(buffer[:line_end])
        if line is None or line.status_code < 200:
            return None
        block = line.blocks.get(buffer[line_end : end + 2])
        size = len(buffer) - end - 4
        if (
            block is None
            or block.framing is not _LENGTH
            or block.content_length != size
            or block.count > limits.max_headers_count > 0
            or (limits.max_body_size is not None and size > limits.max_body_size)
        ):
            return None
        method = self._method
        head = line.last
        if head is None or head.block is not block or line.last_method != method:
            head = line.last = ResponseHead(line, block, method)
            line.last_method = method
        if head.framing is not _LENGTH:
            return None
        self._line_seen = self._may_upgrade = False
        self._empty_lines = self._informational = 0
        self._method = ''
        self._offset += len(buffer)
        self._buffer = b''
        self._scanned = 0
        self._after = _RESPONSE_HEAD if head.keep_alive else _CLOSED
        self._finish()
        return head, buffer[end + 4 :]
