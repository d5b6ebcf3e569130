"""The streaming parser for requests and responses: bytes in, events out.

:class:`Parser` has the receive buffer and the state of the current message. Other modules of this package interpret
first lines, header blocks, chunks and framing. The parser uses no socket and no clock. It is pulled: bytes after the
end of a message are not parsed before the caller requests the next event.

It works on whole constructs. An incomplete head is only searched for its end and for errors that make it invalid in any
case. A complete head of a request is looked up in a cache of recent ones, or parsed in one pass; so are the status line
and the block of a response. The work is linear in the number of bytes, however they are divided. The events do not
depend on the division either, except for the pieces of body data. The only exception is
:exc:`~geventnode.errors.ParseError`.

Bytes that arrive alone remain the object that was fed, so that body data is passed on without a copy. Bytes that arrive
while others are buffered are appended to a bytearray. It grows at its end, and is cut at its front without moving the
rest. Each byte is therefore copied a bounded number of times.
"""

from __future__ import annotations

import enum
import weakref
from collections import deque
from copy import copy
from typing import NoReturn, cast

from geventnode.errors import ParseError, StreamError
from geventnode.protocol.chunked import ChunkedBody
from geventnode.protocol.common_lines import MAX_LEARNED, CommonLines, learn
from geventnode.protocol.framing import Framing, has_no_content
from geventnode.protocol.grammar import BARE_LINE_END
from geventnode.protocol.head import (
    REQUEST_HEADS,
    RESPONSE_HEADS,
    TLS_RECORDS,
    EndOfMessage,
    RequestHead,
    ResponseHead,
    check_incomplete_head,
    parse_request_head,
)
from geventnode.protocol.limits import Limits

__all__ = ['Event', 'Parser', 'ResponseParser', 'Role', 'State']

#: The results of :meth:`Parser.next_event`, besides None.
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
    #: After the last message of a connection: bytes are discarded (RFC 9112, section 9.6).
    CLOSED = 'nothing'
    FAILED = 'nothing, after an error'


# A look-up of an enum member in its class takes longer than the comparison.
(_REQUEST_HEAD, _RESPONSE_HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _MESSAGE_END, _TUNNEL, _CLOSED, _FAILED) = State
_NONE, _LENGTH_FRAMING = Framing.NONE, Framing.LENGTH
_END = EndOfMessage()
#: No valid head begins with these bytes.
_HOPELESS = (b'\n', *TLS_RECORDS)
_LINE_FEED = 0x0A
_find_request_head, _find_response_head = REQUEST_HEADS.look_up, RESPONSE_HEADS.find


class Parser:
    """A parser for the messages of one side of one connection.

    :param role: the kind of messages.
    :param limits: the limits; the attribute can be set to another object between two messages.
    """

    __slots__ = (
        '_after',
        '_buffer',
        '_chunks',
        '_common_lines',
        '_discards',
        '_empty_lines',
        '_eof',
        '_error',
        '_followed',
        '_informational',
        '_learned',
        '_line_seen',
        '_may_upgrade',
        '_method',
        '_missing',
        '_offset',
        '_pos',
        '_scanned',
        '_state',
        '_taken',
        '_unfolds',
        'limits',
        'record_chunk_sizes',
    )

    def __init__(self, role: Role, limits: Limits) -> None:
        #: The bytes that were fed and not yet returned; a bytearray when several pieces were joined.
        self._buffer: bytes | bytearray = b''
        #: The position of the next construct in the buffer.
        self._pos = 0
        #: The position at which the search for the end of that construct continues.
        self._scanned = 0
        #: The number of bytes that were removed from the front of the buffer so far.
        self._offset = 0
        self._eof = False
        #: Whether further bytes are discarded: after an error, and after the last message.
        self._discards = False
        #: Whether the rest of the stream was detached by :meth:`take_rest`.
        self._taken = False
        self.limits = limits
        #: Whether the sizes of the chunks of further messages are recorded, as :attr:`chunk_sizes`.
        self.record_chunk_sizes = False
        self._state = _REQUEST_HEAD if role is Role.REQUEST else _RESPONSE_HEAD
        #: Whether folded lines are unfolded, only in responses (RFC 9112, section 5.2).
        self._unfolds = role is Role.RESPONSE
        #: The state after the end of the message.
        self._after = self._state
        #: Whether the first line of an incomplete head was checked.
        self._line_seen = False
        #: The number of empty lines before the head.
        self._empty_lines = 0
        #: Whether other bytes arrived together with the last head. This is then probable for the next one, too.
        self._followed = False
        #: The lines with which the last heads of requests began, and how often they were learned.
        self._common_lines: weakref.ref[CommonLines] | None = None
        self._learned = 0
        #: Content: the number of missing bytes, or of bytes that are still allowed (-1: unlimited).
        self._missing = 0
        self._chunks: ChunkedBody | None = None
        #: Responses: the method of the request, and whether it requested another protocol.
        self._method = ''
        self._may_upgrade = False
        #: Responses: the number of informational ones so far.
        self._informational = 0
        self._error: ParseError | None = None

    # -- the receive buffer -------------------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """The number of bytes that were fed and not yet returned."""
        return len(self._buffer) - self._pos

    @property
    def bytes_parsed(self) -> int:
        """The number of bytes of the stream that were returned or skipped."""
        return self._offset + self._pos

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the stream to the buffer.

        :meth:`next_event` parses them. After an error, and after the last message of a connection, they are discarded.

        :raises StreamError: :meth:`take_rest` was called.
        """
        if self._discards:
            if self._taken:
                raise StreamError('feed() after take_rest()')
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
        """Record the end of the stream."""
        self._eof = True

    def take_rest(self) -> bytes:
        """Return all buffered bytes and detach the rest of the stream.

        The parser then accepts no more input.
        """
        rest = bytes(self._buffer[self._pos :])
        self._state = _CLOSED
        self._advance(len(self._buffer))
        self._discards = True
        self._taken = True
        return rest

    def _advance(self, pos: int) -> None:
        """Continue at ``pos`` in the buffer."""
        if pos == len(self._buffer):
            self._buffer = b''
            self._offset += pos
            self._pos = self._scanned = 0
        else:
            self._pos = self._scanned = pos

    def _drop(self) -> None:
        """Discard the buffer and all further bytes."""
        self._buffer = b''
        self._offset += self._pos
        self._pos = self._scanned = 0
        self._discards = True

    # -- state --------------------------------------------------------------------------------------------------------

    @property
    def at_boundary(self) -> bool:
        """Whether the parser is between two messages with an empty buffer."""
        return not self._buffer and (self._state is _REQUEST_HEAD or self._state is _RESPONSE_HEAD)

    @property
    def head_started(self) -> bool:
        """Whether bytes of the next head are buffered, apart from empty lines."""
        if not self._buffer or (self._state is not _REQUEST_HEAD and self._state is not _RESPONSE_HEAD):
            return False
        pos = self._pos
        return bool(self._buffer[pos : pos + 2 * self.limits.max_empty_lines + 1].lstrip(b'\r\n'))

    @property
    def chunk_sizes(self) -> deque[int] | None:
        """The chunk sizes of the current message so far, or None.

        They are recorded if :attr:`record_chunk_sizes` is true.
        """
        return None if self._chunks is None else self._chunks.sizes

    def expect_response_to(self, method: str, upgrade: bool = False) -> None:
        """Set the request of the next response, before its head is parsed.

        HEAD and CONNECT change the end of the response.

        :param method: the method of the request. Without this call, it is a method without such an effect.
        :param upgrade: whether the request asked for another protocol. Otherwise a 101 is an error (RFC 9110,
            section 15.2.2).
        """
        self._method = method
        self._may_upgrade = upgrade

    # -- events -------------------------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """Return the next event of the stream.

        It is None if more bytes are needed, or after the last message. A message is a :class:`RequestHead` or
        :class:`ResponseHead`. Unless its framing is NONE, any number of non-empty ``bytes`` of content and one
        :class:`EndOfMessage` follow.

        :raises ParseError: the stream is not HTTP, or exceeds a limit; every later call raises the same error.
        """
        if self._state is not _REQUEST_HEAD:
            return self._next_of_content()
        # The fast path: a complete head in bytes that arrived together, and usually nothing else.
        buffer = self._buffer
        if type(buffer) is bytes and buffer:
            pos = self._pos
            if pos or self._followed:
                end = buffer.find(b'\r\n\r\n', pos) + 4
                data = buffer[pos:end]
                complete = end > pos + 3
                self._followed = pos > 0 or end < len(buffer)
            else:
                end = len(buffer)
                data = buffer
                complete = data[-1] == _LINE_FEED
            limits = self.limits
            if complete and len(data) <= limits.small_head:
                try:
                    head = _find_request_head(data) or self._parse_request_head(data)
                except ParseError:
                    # an empty line, several heads, a part of one, or an error that another one can precede
                    return self._next_head()
                if not head.plain or head.count > limits.most_fields:
                    return self._begin_request(head, end)
                # as _begin_request()
                self._empty_lines = 0
                if end == len(buffer):
                    self._buffer = b''
                    self._offset += end
                    self._pos = self._scanned = 0
                else:
                    self._pos = self._scanned = end
                return head
        return self._next_head()

    def _next_of_content(self) -> Event | None:
        """Return the next event in other states than _REQUEST_HEAD."""
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
        """Return the next head, or None if it is incomplete."""
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
            self._reject_head(end + 4)
        data = bytes(buffer[pos : end + 4])
        try:
            if self._state is _REQUEST_HEAD:
                if len(data) > self.limits.small_head:
                    self.limits.check_parts(data)
                request_head = _find_request_head(data) or self._parse_request_head(data)
            else:
                response_head = _find_response_head(data)
        except ParseError as error:
            self._reject_head(end + 4, error)
        if self._state is _REQUEST_HEAD:
            self._followed = end + 4 < len(buffer)
            return self._begin_request(request_head, end + 4)
        return self._begin_response(response_head, end + 4)

    def _parse_request_head(self, data: bytes) -> RequestHead:
        """Return a head that is not in the cache.

        :raises ParseError: as :func:`~geventnode.protocol.head.parse_request_head`.
        """
        reference = self._common_lines
        common = None if reference is None else reference()
        try:
            head = parse_request_head(data, common)
        except ParseError:
            REQUEST_HEADS.wanted = None
            raise
        if common is None or not head.has_common:
            self._learn(data, common)
        if REQUEST_HEADS.wanted is data:
            REQUEST_HEADS.store(data, head)
        return head

    def _learn(self, data: bytes, before: CommonLines | None) -> None:
        """Learn the lines with which the next heads probably begin.

        Nothing is learned from the first head: it can be the only one.
        """
        learned = self._learned
        if learned > MAX_LEARNED:
            return
        self._learned = learned + 1
        if learned:
            common = learn(data, before)
            self._common_lines = None if common is None else weakref.ref(common)

    def _begin_request(self, head: RequestHead, end: int) -> RequestHead:
        """Return ``head``, which ends at ``end``, and begin its content."""
        limits = self.limits
        if head.count > limits.max_headers_count > 0:
            self._fail(limits.too_many_fields('headers'))
        if 'host' not in head.fields and head.http_version != '1.0' and limits.require_host:
            self._fail(ParseError('HTTP/1.1 request without Host', code='HPE_INVALID_HOST'))
        self._line_seen = False
        self._empty_lines = 0
        if end == len(self._buffer):
            self._buffer = b''
            self._offset += end
            self._pos = self._scanned = 0
        else:
            self._pos = self._scanned = end
        if not head.plain:
            if head.method == 'CONNECT':
                self._state = _TUNNEL
            elif head.framing is not _NONE or not head.keep_alive:
                # After the last message, bytes are discarded, unless they belong to another protocol.
                self._after = _REQUEST_HEAD if head.keep_alive or head.upgrade else _CLOSED
                length = head.content_length
                if head.framing is _LENGTH_FRAMING and length is not None and limits.max_body_size is None:
                    # as _begin_content()
                    self._missing = length
                    self._state = _LENGTH
                else:
                    self._begin_content(head.framing, length)
        return head

    def _begin_response(self, head: ResponseHead, end: int) -> ResponseHead:
        """Return ``head``, which ends at ``end``, and begin its content."""
        status = head.status_code
        if head.count > self.limits.max_headers_count > 0:
            self._fail(self.limits.too_many_fields('headers'))
        if status == 101 and not self._may_upgrade:
            self._fail(ParseError('101 Switching Protocols without a request for it', code='HPE_INVALID_STATUS'))
        if status == 101 and head.http_version == '1.0':
            # HTTP/1.0 has no upgrade (RFC 9110, sections 7.8 and 15.2)
            self._fail(ParseError('101 Switching Protocols in HTTP/1.0', code='HPE_INVALID_STATUS'))
        if status < 200:
            self._informational += 1
            if self._informational > self.limits.max_informational:
                self._fail(self.limits.too_many_informational())
        method = self._method
        if head.framing_error is not None and not has_no_content(status, method):
            self._reject_head(end, copy(head.framing_error))
        if method:
            head = head.for_method(method)
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
        """Check that the beginning of a head can become a valid one."""
        buffer = self._buffer
        pos = self._pos
        start = self._scanned
        line_seen = self._line_seen or buffer.find(b'\r\n', start) >= 0
        # A CR at the end of the preceding content must not match as a part of the first line end.
        if (
            line_seen is not self._line_seen
            or len(buffer) - pos > self.limits.max_header_size
            or buffer.startswith(_HOPELESS, pos)
            or BARE_LINE_END.search(buffer, start)
        ):
            self._check_start(len(buffer))
        self._line_seen = line_seen
        # The last bytes can be the beginning of an empty line.
        self._scanned = max(pos, len(buffer) - 3)
        if self._eof:
            self._fail(ParseError('the connection ended within a head', code='HPE_INVALID_EOF_STATE'))

    def _reject_head(self, end: int, error: ParseError | None = None) -> NoReturn:
        """Raise the first error of a head that ends at ``end``.

        That is ``error``, unless another one would have been found earlier if the bytes had arrived one by one.
        """
        try:
            self._check_start(end)
            assert error is not None
            self._fail(error)
        finally:
            del error

    def _check_start(self, end: int) -> None:
        """Check that the bytes up to ``end`` can become a valid head."""
        pos = self._pos
        stop = min(end, pos + self.limits.max_header_size + 1)
        try:
            check_incomplete_head(bytes(self._buffer[pos:stop]), self.limits, self._state is _REQUEST_HEAD)
        except ParseError as error:
            self._fail(error)

    def _skip_empty_lines(self) -> Event | None:
        """Skip empty lines (RFC 9112, section 2.2); return the next event."""
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
        """Prepare for the content after a head."""
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
        """Return the buffered bytes of content with a known length."""
        buffer = self._buffer
        if not buffer:
            self._check_eof()
            return None
        pos = self._pos
        missing = self._missing
        # If possible, this is the object that was fed.
        data = bytes(buffer[pos : pos + missing] if pos or len(buffer) > missing else buffer)
        self._advance(pos + len(data))
        missing -= len(data)
        self._missing = missing
        if not missing:
            self._state = _MESSAGE_END
        return data

    def take_content(self) -> bytes | None:
        """Return the whole rest of the content and continue after the message.

        It returns None, and the caller uses events instead, if the length is unknown or bytes are missing.
        """
        if self._state is not _LENGTH:
            return None
        buffer = self._buffer
        pos = self._pos
        end = pos + self._missing
        if len(buffer) < end:
            return None
        self._missing = 0
        if len(buffer) > end:
            data = bytes(buffer[pos:end])
            self._pos = self._scanned = end
        else:
            # as _next_of_length(), and _advance()
            data = bytes(buffer[pos:] if pos else buffer)
            self._buffer = b''
            self._offset += end
            self._pos = self._scanned = 0
        self._finish()
        return data

    @property
    def content_left(self) -> int | None:
        """The number of remaining bytes of content, buffered or not.

        It is None if the end of the content is unknown, because it has not arrived or is malformed.
        """
        if self._state is _LENGTH:
            return self._missing
        if self._chunks is None:
            return None if self._state is _UNTIL_CLOSE or self._state is _FAILED else 0
        chunks = copy(self._chunks)
        rest, pos = 0, self._pos
        try:
            while chunks.trailers is None:
                data, pos = chunks.decode(self._buffer, pos, self.limits)
                if not data and chunks.trailers is None:
                    return None
                rest += len(data)
        except ParseError:
            return None
        return rest

    def take_end(self) -> EndOfMessage | None:
        """Return the end of the message, and continue after it.

        It returns None if the end has not arrived, and for an error, which :meth:`next_event` then raises.
        """
        if self._state is _MESSAGE_END:
            self._finish()
            return _END
        if self._chunks is not None and self._chunks.content_complete:
            try:
                # no data is left, so that the result is the end or None
                return cast('EndOfMessage | None', self._next_of_chunks())
            except ParseError:
                return None
        return None

    def _next_of_chunks(self) -> bytes | EndOfMessage | None:
        """Return the data of buffered chunks, or the message's end."""
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
            self._check_eof()
            return None
        self._chunks = None
        self._finish()
        return EndOfMessage(chunks.trailers) if chunks.trailers else _END

    def _next_until_close(self) -> bytes | EndOfMessage | None:
        """Return the buffered bytes of content that ends with the connection."""
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

    def _check_eof(self) -> None:
        """Raise if the stream has ended before the end of the content."""
        if self._eof:
            self._fail(ParseError('the connection ended within a message', code='HPE_INVALID_EOF_STATE'))

    # -- the end of a message -----------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Continue with the next message, or stop after the last one."""
        self._state = self._after
        if self._state is _CLOSED:
            self._drop()

    def _fail(self, error: ParseError, pos: int | None = None) -> NoReturn:
        """Raise ``error`` with its position, and discard all further bytes."""
        if pos is not None:
            self._pos = pos
        error.offset = self._offset + self._pos
        self._drop()
        self._chunks = None
        self._state = _FAILED
        # A raised exception refers to this frame: only the garbage collector could free it if it were stored.
        self._error = copy(error)
        try:
            raise error
        finally:
            del error


class ResponseParser(Parser):
    """A :class:`Parser` for responses that takes a complete one at once.

    :param limits: the limits.
    """

    __slots__ = ()

    def __init__(self, limits: Limits) -> None:
        super().__init__(Role.RESPONSE, limits)

    def take_response(self, data: bytes = b'') -> tuple[ResponseHead, bytes] | None:
        """Return the head and the content of a complete response.

        The buffer must have exactly one response, received in one piece, with a Content-Length and content. This
        frequent case replaces three calls of :meth:`next_event`. None means that the caller must use these.

        :param data: bytes to :meth:`feed` before that.
        """
        if data:
            if self._buffer or self._discards:
                self.feed(data)
            else:
                self._buffer = data
        buffer = self._buffer
        if self._state is not _RESPONSE_HEAD or self._pos or type(buffer) is not bytes:
            return None
        limits = self.limits
        end = buffer.find(b'\r\n\r\n')
        size = len(buffer) - end - 4
        if not (size and 0 < end < limits.max_header_size - 4):
            return None
        head_data = buffer[: end + 4]
        head = RESPONSE_HEADS.get(head_data)
        if head is None:
            # with the usual spelling of Content-Length; other heads would be parsed twice, here and for the events
            if b': %d\r\n' % size not in head_data:
                return None
            try:
                head = _find_response_head(head_data)
            except ParseError:
                return None
        if (
            head.framing is not _LENGTH_FRAMING
            or head.content_length != size
            or head.count > limits.max_headers_count > 0
            or (limits.max_body_size is not None and size > limits.max_body_size)
            or (self._method and has_no_content(head.status_code, self._method))
        ):
            return None
        self._line_seen = self._may_upgrade = False
        self._empty_lines = self._informational = 0
        self._method = ''
        self._offset += end + 4 + size
        self._buffer = b''
        self._scanned = 0
        if head.keep_alive:
            self._after = _RESPONSE_HEAD
        else:
            self._after = _CLOSED
            self._finish()
        return head, buffer[end + 4 :]
