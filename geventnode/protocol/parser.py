"""Bytes in, events out: the streaming parser for requests and responses.

:class:`Parser` holds the bytes that were fed and where it stands in the message; what the constructs mean is decided by
its neighbours (first lines, header blocks, chunks, framing). It knows no socket and no clock, and pulls: nothing behind
the end of a message is looked at before somebody asks for the next event.

It works on whole constructs. A head is not touched until its end has come (an incomplete one is only searched for that
end and for what makes it hopeless), then its line and its block are looked up in tables of those seen lately, or
matched by one regular expression each. Work is linear in the bytes fed, however they are cut, and the events are the
same for every way of cutting, but for where body data is divided. Only :exc:`~geventnode.errors.ParseError` leaves.
"""

from __future__ import annotations

import enum
from collections import deque
from copy import copy
from typing import NoReturn, cast

from geventnode.errors import ParseError, StreamError
from geventnode.protocol.block import HeaderBlock
from geventnode.protocol.chunked import ChunkedBody
from geventnode.protocol.framing import Framing, has_no_content
from geventnode.protocol.grammar import BARE_LINE_END
from geventnode.protocol.head import (
    REQUEST_LINES,
    STATUS_LINES,
    TLS_RECORDS,
    EndOfMessage,
    RequestHead,
    RequestLine,
    ResponseHead,
    StatusLine,
    check_incomplete_head,
)
from geventnode.protocol.limits import Limits

__all__ = ['Event', 'Parser', 'ResponseParser', 'Role', 'State']

#: What :meth:`Parser.next_event` returns, besides None.
Event = RequestHead | ResponseHead | bytes | EndOfMessage


class Role(enum.Enum):
    """The kind of messages that a parser reads."""

    REQUEST = 'request'
    RESPONSE = 'response'


class State(enum.Enum):
    """The next construct that a parser expects."""

    REQUEST_HEAD = 'the head of a request'
    RESPONSE_HEAD = 'the head of a response'
    LENGTH = 'content of a known length'
    CHUNKED = 'chunked content'
    UNTIL_CLOSE = 'content that ends with the connection'
    #: All content was returned, the end of the message was not.
    MESSAGE_END = 'the end of the message'
    #: After CONNECT or a 101: bytes are buffered until they are taken, and never parsed.
    TUNNEL = 'another protocol'
    #: After the last message of a connection: bytes are dropped (RFC 9112, section 9.6).
    CLOSED = 'nothing'
    FAILED = 'nothing, after an error'


# To look a member up in its class costs more than the comparison.
(_REQUEST_HEAD, _RESPONSE_HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _MESSAGE_END, _TUNNEL, _CLOSED, _FAILED) = State
_LENGTH_FRAMING = Framing.LENGTH
_END = EndOfMessage()
#: Whatever follows them, they begin no head.
_HOPELESS = (b'\n', *TLS_RECORDS)
_find_request_line = REQUEST_LINES.get


class Parser:
    """Reads the messages of one side of one connection.

    :param role: which messages to expect.
    :param limits: what to refuse; the attribute may be set to another object between two messages.

    No method ever switches.
    """

    __slots__ = (
        '_after',
        '_buffer',
        '_chunks',
        '_empty_lines',
        '_eof',
        '_error',
        '_informational',
        '_line_seen',
        '_may_upgrade',
        '_method',
        '_missing',
        '_offset',
        '_pos',
        '_refuses',
        '_scanned',
        '_state',
        '_taken',
        '_unfolds',
        'limits',
        'record_chunk_sizes',
    )

    def __init__(self, role: Role, limits: Limits) -> None:
        #: What was fed and not yet handed out; a bytearray where several pieces were put together; b'' when all was.
        self._buffer: bytes | bytearray = b''
        #: Where in the buffer the next construct begins.
        self._pos = 0
        #: Where in the buffer the search for the end of that construct goes on.
        self._scanned = 0
        #: How many bytes were dropped from the front of the buffer so far.
        self._offset = 0
        self._eof = False
        #: Whether what is fed is dropped: after an error, and after the last message.
        self._refuses = False
        #: Whether the rest of the stream belongs to somebody else.
        self._taken = False
        self.limits = limits
        #: Whether the sizes of the chunks of the next messages are kept, as :attr:`chunk_sizes`.
        self.record_chunk_sizes = False
        self._state = _REQUEST_HEAD if role is Role.REQUEST else _RESPONSE_HEAD
        #: Whether folded lines are unfolded: in responses only (RFC 9112, section 5.2).
        self._unfolds = role is Role.RESPONSE
        #: The state in which the end of the message leaves the parser.
        self._after = self._state
        #: Whether the first line of an incomplete head was checked, and how many empty ones were skipped before it.
        self._line_seen = False
        self._empty_lines = 0
        #: Content: how many bytes are missing, or may still come (-1: any number).
        self._missing = 0
        self._chunks: ChunkedBody | None = None
        #: Responses: what was asked, and how many informational ones came so far.
        self._method = ''
        self._may_upgrade = False
        self._informational = 0
        self._error: ParseError | None = None

    # -- the receive buffer -------------------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """How many bytes were fed and not yet handed out."""
        return len(self._buffer) - self._pos

    @property
    def bytes_parsed(self) -> int:
        """How many bytes of the stream were handed out or skipped."""
        return self._offset + self._pos

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream. Nothing is parsed before the next event is asked for.

        After an error, and after the last message of a connection, they are dropped.

        :raises StreamError: :meth:`take_rest` was called.
        """
        if self._refuses:
            if self._taken:
                raise StreamError('the rest of the stream was taken from this parser')
            return
        buffer = self._buffer
        if not buffer:
            self._buffer = data
            return
        if type(buffer) is not bytearray:
            buffer = self._buffer = bytearray(buffer)
        pos = self._pos
        if pos:
            del buffer[:pos]
            self._offset += pos
            self._scanned -= pos
            self._pos = 0
        buffer += data

    def feed_eof(self) -> None:
        """Take note that the stream has ended."""
        self._eof = True

    def take_rest(self) -> bytes:
        """Return all buffered bytes and detach the rest of the stream; the parser then accepts no more input."""
        rest = bytes(self._buffer[self._pos :])
        self._state = _CLOSED
        self._advance(len(self._buffer))
        self._refuses = True
        self._taken = True
        return rest

    def _advance(self, pos: int) -> None:
        """Leave behind what is in front of ``pos`` in the buffer."""
        if pos == len(self._buffer):
            self._buffer = b''
            self._offset += pos
            self._pos = self._scanned = 0
        else:
            self._pos = self._scanned = pos

    def _drop(self) -> None:
        """Forget what is buffered, and refuse what comes."""
        self._buffer = b''
        self._offset += self._pos
        self._pos = self._scanned = 0
        self._refuses = True

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def at_boundary(self) -> bool:
        """Whether the parser is between two messages, and nothing is buffered."""
        return not self._buffer and (self._state is _REQUEST_HEAD or self._state is _RESPONSE_HEAD)

    @property
    def head_started(self) -> bool:
        """Whether some bytes of the next head are buffered; empty lines before it do not count."""
        if not self._buffer or (self._state is not _REQUEST_HEAD and self._state is not _RESPONSE_HEAD):
            return False
        pos = self._pos
        return bool(self._buffer[pos : pos + 2 * self.limits.max_empty_lines + 1].lstrip(b'\r\n'))

    @property
    def chunk_sizes(self) -> deque[int] | None:
        """The sizes of the chunks of the message in work, added to as their lines are read; None: they are not kept."""
        return None if self._chunks is None else self._chunks.sizes

    def expect_response_to(self, method: str, upgrade: bool = False) -> None:
        """Say what the next response answers, before its head is parsed: HEAD and CONNECT change how it ends.

        :param method: the method of the request; unless told, it is assumed to be one without such an effect.
        :param upgrade: the request asked for another protocol. Without that, a 101 is an error (RFC 9110,
            section 15.2.2).
        """
        self._method = method
        self._may_upgrade = upgrade

    # -- events -------------------------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """Return what comes next in the stream, or None when more bytes are needed or nothing will ever come.

        A :class:`RequestHead` or :class:`ResponseHead`; unless its framing is NONE, then non-empty ``bytes`` of content
        any number of times and one :class:`EndOfMessage`.

        :raises ParseError: the stream is not HTTP, or a limit was exceeded; every later call raises the same.
        """
        if self._state is not _REQUEST_HEAD:
            return self._next_of_content()
        buffer = self._buffer
        # The short way, for what comes most: a head and nothing else. The blocks that came lately have no empty line.
        if (
            not self._pos
            and buffer.endswith(b'\r\n\r\n')
            and type(buffer) is bytes
            and len(buffer) <= self.limits.small_head
        ):
            line_end = buffer.find(b'\r\n')
            line_data = buffer[:line_end]
            line = _find_request_line(line_data) or REQUEST_LINES.look_up(line_data)
            if line is not None:
                block_data = buffer[line_end:-2]
                block = line.find_block(block_data)
                if block is None and b'\r\n\r\n' not in block_data:
                    block = line.blocks.look_up(block_data)
                if block is not None:
                    return self._begin_request(line, block, len(buffer))
        return self._next_head()

    def _next_of_content(self) -> Event | None:
        """Return the next event in every state but the one in which a request's head is expected."""
        state = self._state
        if state is _LENGTH:
            return self._next_of_length()
        if state is _RESPONSE_HEAD:
            return self._next_head()
        if state is _CHUNKED:
            return self._next_of_chunks()
        if state is _MESSAGE_END:
            self._finish()
            return _END
        if state is _UNTIL_CLOSE:
            return self._next_until_close()
        if self._error is not None:
            raise copy(self._error)
        return None

    # -- heads --------------------------------------------------------------------------------------------------------

    def _next_head(self) -> Event | None:
        """Return the next head, or None when it is not complete."""
        buffer = self._buffer
        if not buffer:
            return None
        pos = self._pos
        if buffer.startswith(b'\r\n', pos):
            return self._skip_empty_lines()
        end = buffer.find(b'\r\n\r\n', self._scanned)
        if end < 0:
            self._wait_for_head()
            return None
        if end + 4 - pos > self.limits.max_header_size:
            self._refuse_head(end + 4)
        line_end = buffer.find(b'\r\n', pos)
        line_data = bytes(buffer[pos:line_end])
        block_data = bytes(buffer[line_end : end + 2])
        try:
            if self._state is _REQUEST_HEAD:
                if end + 4 - pos > self.limits.small_head:
                    self.limits.check_parts(line_data, block_data)
                request_line = REQUEST_LINES[line_data]
                block = request_line.blocks[block_data]
            else:
                status_line = STATUS_LINES[line_data]
                block = status_line.blocks[block_data]
        except ParseError as error:
            self._refuse_head(end + 4, error)
        if self._state is _REQUEST_HEAD:
            return self._begin_request(request_line, block, end + 4)
        return self._begin_response(status_line, block, end + 4)

    def _begin_request(self, line: RequestLine, block: HeaderBlock, end: int) -> RequestHead:
        """Return the head of a request that reaches to ``end`` in the buffer, and prepare for what follows it."""
        limits = self.limits
        if block.count > limits.max_headers_count > 0:
            self._fail(limits.too_many_fields('headers'))
        if block.host is None and line.needs_host and limits.require_host:
            self._fail(ParseError('HTTP/1.1 request without Host', code='HPE_INVALID_HOST'))
        self._line_seen = False
        self._empty_lines = 0
        if end == len(self._buffer):
            self._buffer = b''
            self._offset += end
            self._pos = self._scanned = 0
        else:
            self._pos = self._scanned = end
        head = line.last
        if head is None or head.block is not block:
            head = line.last = RequestHead(line, block)
        if not head.plain:
            if head.method == 'CONNECT':
                self._state = _TUNNEL
            else:
                # After a message that may be the last one, bytes are dropped, unless they belong to another protocol.
                self._after = _REQUEST_HEAD if head.keep_alive or head.upgrade else _CLOSED
                self._begin_content(head.framing, head.content_length)
        return head

    def _begin_response(self, line: StatusLine, block: HeaderBlock, end: int) -> ResponseHead:
        """Return the head of a response that reaches to ``end`` in the buffer, and prepare for what follows it."""
        status = line.status_code
        if block.count > self.limits.max_headers_count > 0:
            self._fail(self.limits.too_many_fields('headers'))
        if status == 101 and not self._may_upgrade:
            self._fail(ParseError('101 Switching Protocols without a request for it', code='HPE_INVALID_STATUS'))
        if status < 200:
            self._informational += 1
            if self._informational > self.limits.max_informational:
                self._fail(self.limits.too_many_informational())
        method = self._method
        if block.framing_error is not None and not has_no_content(status, method):
            self._refuse_head(end, copy(block.framing_error))
        head = line.last
        if head is None or head.block is not block or line.last_method != method:
            head = line.last = ResponseHead(line, block, method)
            line.last_method = method
        self._line_seen = False
        self._empty_lines = 0
        self._advance(end)
        if status < 200 and status != 101:
            return head
        self._informational = 0
        self._method = ''
        self._may_upgrade = False
        if status == 101 or (method == 'CONNECT' and status < 300):
            self._state = _TUNNEL
        else:
            self._after = _RESPONSE_HEAD if head.keep_alive else _CLOSED
            self._begin_content(head.framing, head.content_length)
        return head

    def _wait_for_head(self) -> None:
        """Check the beginning of a head whose end has not come; raise if it can no longer become a good one."""
        buffer = self._buffer
        pos = self._pos
        start = self._scanned
        line_seen = self._line_seen or buffer.find(b'\r\n', start) >= 0
        # The search would take a CR that ends the content before this head for a part of its first line end.
        if (
            line_seen is not self._line_seen
            or len(buffer) - pos > self.limits.max_header_size
            or buffer.startswith(_HOPELESS, pos)
            or BARE_LINE_END.search(buffer, start)
        ):
            self._check_start(len(buffer))
        self._line_seen = line_seen
        # What was last may be the beginning of an empty line.
        self._scanned = max(pos, len(buffer) - 3)
        if self._eof:
            self._fail(ParseError('the connection ended within a head', code='HPE_INVALID_EOF_STATE'))

    def _refuse_head(self, end: int, error: ParseError | None = None) -> NoReturn:
        """Raise what is wrong with a head that reaches to ``end``: ``error``, unless something would have been noticed
        earlier if the bytes had come one by one."""
        try:
            self._check_start(end)
            assert error is not None
            self._fail(error)
        finally:
            del error

    def _check_start(self, end: int) -> None:
        """Raise if what there is of a head, up to ``end`` in the buffer, cannot become a good one."""
        pos = self._pos
        stop = min(end, pos + self.limits.max_header_size + 1)
        try:
            check_incomplete_head(bytes(self._buffer[pos:stop]), self.limits, self._state is _REQUEST_HEAD)
        except ParseError as error:
            self._fail(error)

    def _skip_empty_lines(self) -> Event | None:
        """Skip the empty lines before a head, and return the next event (RFC 9112, section 2.2)."""
        pos = self._pos
        while self._buffer.startswith(b'\r\n', pos):
            self._empty_lines += 1
            if self._empty_lines > self.limits.max_empty_lines:
                self._fail(self.limits.too_many_empty_lines(), pos)
            pos += 2
        self._advance(pos)
        return self.next_event()

    # -- content ------------------------------------------------------------------------------------------------------

    def _begin_content(self, framing: Framing, length: int | None) -> None:
        """Prepare for the content that follows a head."""
        most = self.limits.max_body_size
        if framing is Framing.NONE:
            self._finish()
        elif framing is Framing.CHUNKED:
            self._chunks = ChunkedBody(self._unfolds, deque() if self.record_chunk_sizes else None)
            self._state = _CHUNKED
        elif length is not None:
            if most is not None and length > most:
                self._fail(self.limits.body_too_large())
            self._missing = length
            self._state = _LENGTH
        else:
            self._missing = -1 if most is None else most
            self._state = _UNTIL_CLOSE

    def _next_of_length(self) -> bytes | None:
        """Return what is there of a content of known length."""
        buffer = self._buffer
        if not buffer:
            self._starve()
            return None
        pos = self._pos
        missing = self._missing
        # The very object that was fed, where possible.
        data = bytes(buffer[pos : pos + missing] if pos or len(buffer) > missing else buffer)
        self._advance(pos + len(data))
        missing -= len(data)
        self._missing = missing
        if not missing:
            self._state = _MESSAGE_END
        return data

    def take_content(self) -> bytes | None:
        """Return all that is left of the content, and go on behind the message, when its length is known and all of it
        has come; None otherwise: the events tell."""
        if self._state is not _LENGTH or len(self._buffer) - self._pos < self._missing:
            return None
        data = self._next_of_length()
        self._finish()
        return data

    @property
    def content_left(self) -> int | None:
        """How many bytes of content were not handed out, wherever they are; None when that is not known, because the
        end of chunked content has not come or is malformed."""
        if self._state is _LENGTH:
            return self._missing
        if self._chunks is None:
            return None if self._state is _UNTIL_CLOSE or self._state is _FAILED else 0
        chunks = copy(self._chunks)
        left, pos = 0, self._pos
        try:
            while chunks.trailers is None:
                data, pos = chunks.decode(self._buffer, pos, self.limits)
                if not data and chunks.trailers is None:
                    return None
                left += len(data)
        except ParseError:
            return None
        return left

    def take_end(self) -> EndOfMessage | None:
        """Return the end of the message, and go on behind it, when all of its content was handed out and the end has
        come; None otherwise. An error that is found instead is raised by :meth:`next_event`."""
        if self._state is _MESSAGE_END:
            self._finish()
            return _END
        if self._chunks is not None and self._chunks.content_complete:
            try:
                # there is no data left: either the end, or None
                return cast('EndOfMessage | None', self._next_of_chunks())
            except ParseError:
                return None
        return None

    def _next_of_chunks(self) -> bytes | EndOfMessage | None:
        """Return the data of all chunks that are there, or the end of the message."""
        chunks = self._chunks
        assert chunks is not None
        try:
            data, pos = chunks.decode(self._buffer, self._pos, self.limits)
        except ParseError as error:
            self._fail(error, error.offset)
        self._advance(pos)
        if data:
            return data
        if chunks.trailers is None:
            self._starve()
            return None
        self._chunks = None
        self._finish()
        return EndOfMessage(chunks.trailers) if chunks.trailers else _END

    def _next_until_close(self) -> bytes | EndOfMessage | None:
        """Return what is there of a content that ends with the connection."""
        buffer = self._buffer
        if not buffer:
            if not self._eof:
                return None
            self._finish()
            return _END
        pos = self._pos
        data = bytes(buffer[pos:] if pos else buffer)
        if self._missing >= 0:
            if not self._missing:
                self._fail(self.limits.body_too_large())
            data = data[: self._missing]
            self._missing -= len(data)
        self._advance(pos + len(data))
        return data

    def _starve(self) -> None:
        """Raise if content is missing that will never come."""
        if self._eof:
            self._fail(ParseError('the connection ended within a message', code='HPE_INVALID_EOF_STATE'))

    # -- moving on ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Go on to the next message, or to nothing."""
        self._state = self._after
        if self._state is _CLOSED:
            self._drop()

    def _fail(self, error: ParseError, pos: int | None = None) -> NoReturn:
        """Raise ``error``, found at ``pos`` in the buffer, and refuse everything from now on."""
        if pos is not None:
            self._pos = pos
        error.offset = self._offset + self._pos
        self._drop()
        self._chunks = None
        self._state = _FAILED
        # What is raised refers to this frame: kept here or there, it could only be freed by the garbage collector.
        self._error = copy(error)
        try:
            raise error
        finally:
            del error


class ResponseParser(Parser):
    """A :class:`Parser` for responses that recognises a small complete one at once.

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
            or block.framing is not _LENGTH_FRAMING
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
        if head.framing is not _LENGTH_FRAMING:
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
