"""The server's side of one HTTP/2 connection, without I/O: bytes in, events out; sends in, bytes out.

Frames, and the tables of HPACK, are those of the h2 project, its packages ``hyperframe`` and ``hpack``; header blocks
are read by :mod:`geventnode.http2.header_decoder` and written by :mod:`geventnode.http2.header_encoder`. The rules in
between are here, and not those of ``h2.connection``, for two reasons. A malformed request is an error of its stream
(RFC 9113, section 8.1.1), and ``h2`` ends the connection. And the state machines of ``h2`` cost more than the rest of a
request.
The frames that every request has are read and written by one ``struct``, because the objects of ``hyperframe`` cost as
much as all the rest; it writes the frames of the connection.

:class:`Engine` keeps the windows, the states of the streams, and the counters of :mod:`geventnode.http2.limits`. An
error of a stream is answered with RST_STREAM, one of the connection with GOAWAY; both are events for the connection.
Window credit is given only for bytes that the connection reports as consumed (:meth:`Engine.consumed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any

from hyperframe.frame import Frame, GoAwayFrame, PingFrame, SettingsFrame

from geventnode.errors import ParseError
from geventnode.http2.codes import ErrorCode
from geventnode.http2.fields import Malformed, StreamHead, request_head, trailer_fields
from geventnode.http2.header_decoder import DEFAULT_TABLE_SIZE, BlockError, HeaderDecoder, ListTooLarge
from geventnode.http2.header_encoder import HeaderEncoder
from geventnode.http2.limits import DEFAULT_WINDOW, HARD_FACTOR, MAX_WINDOW, ConnectionLimits, FrameCounter

__all__ = [
    'PREFACE',
    'ConnectionFailed',
    'DataReceived',
    'Engine',
    'Event',
    'GoAwayAcknowledged',
    'HeadReceived',
    'RequestRejected',
    'StreamFailed',
    'StreamReset',
    'StreamState',
    'TrailersReceived',
    'WindowOpened',
]

#: The first bytes of a client (RFC 9113, section 3.4).
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

#: The payload of the PING after the first GOAWAY: its acknowledgement shows that the client knows of the end.
DRAIN_PING = b'geventgo'

#: Streams that were reset by this side, and are remembered one by one. Of earlier ones, only the highest is known.
MAX_RESET_STREAMS = 256

#: Gaps between the identifiers of a client that are remembered: a request in one of them has another error.
MAX_SKIPPED = 16

#: The largest stream identifier.
MAX_STREAM_ID = 2**31 - 1

#: WINDOW_UPDATE frames that a client may send for each DATA frame (as Envoy's default).
UPDATES_PER_FRAME = 10

#: The largest frame that this side sends, if the client accepts it: a larger one would let a stream delay the others.
MAX_SENT_FRAME = 65536

#: The largest payload that is copied behind its frame header; larger ones are passed on as they are.
JOIN_UP_TO = 1024

_HEADER = Struct('>HBBBL')
#: The same with a payload of one number: RST_STREAM and WINDOW_UPDATE.
_NUMBER = Struct('>HBBBLL')
#: One value of SETTINGS.
_SETTING = Struct('>HL')
_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS = 0, 1, 2, 3, 4
_PUSH_PROMISE, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 5, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20

#: The lengths of frames that have a fixed one.
_LENGTHS = {_PRIORITY: 5, _RST_STREAM: 4, _PING: 8, _WINDOW_UPDATE: 4}
#: Frames of streams, and frames of the connection.
_OF_STREAMS = frozenset({_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _CONTINUATION, _PUSH_PROMISE})
_OF_CONNECTION = frozenset({_SETTINGS, _PING, _GOAWAY})


class StreamState:
    """One open stream."""

    __slots__ = (
        'closed',
        'ended',
        'expected',
        'id',
        'local_ended',
        'owner',
        'receive_window',
        'received',
        'send_window',
        'unconsumed',
        'uncredited',
        'window_size',
    )

    def __init__(self, number: int, receive_window: int, send_window: int) -> None:
        self.id = number
        #: The object that the connection keeps for the stream.
        self.owner: Any = None
        #: Whether the stream is no more: both sides have ended it, or one has reset it.
        self.closed = False
        #: Whether the client has ended the stream.
        self.ended = False
        #: Whether this side has ended the stream.
        self.local_ended = False
        #: The declared size of the body, and the received bytes of it.
        self.expected: int | None = None
        self.received = 0
        #: Bytes that the client can send, and bytes that this side can send.
        self.receive_window = receive_window
        self.send_window = send_window
        #: The largest number of bytes that were received and not consumed. It grows: see :meth:`Engine.consumed`.
        self.window_size = receive_window
        #: Bytes that were received and not consumed; bytes that were consumed and not credited.
        self.unconsumed = 0
        self.uncredited = 0


class Event:
    """An event of a connection."""

    __slots__ = ()


class HeadReceived(Event):
    """A request has arrived, with or without its body."""

    __slots__ = ('head', 'stream')

    def __init__(self, stream: StreamState, head: StreamHead) -> None:
        self.stream = stream
        self.head = head


class RequestRejected(Event):
    """A request exceeds a limit: it gets an error response.

    :param for_head: whether its method is HEAD, so that the response has no body.
    """

    __slots__ = ('error', 'for_head', 'stream')

    def __init__(self, stream: StreamState, error: ParseError, for_head: bool) -> None:
        self.stream = stream
        self.error = error
        self.for_head = for_head


class DataReceived(Event):
    """A piece of a body has arrived.

    It can be empty at the end of the stream.
    """

    __slots__ = ('data', 'ended', 'stream')

    def __init__(self, stream: StreamState, data: bytes, ended: bool) -> None:
        self.stream = stream
        self.data = data
        self.ended = ended


class TrailersReceived(Event):
    """The trailer section has arrived, and ends the stream."""

    __slots__ = ('stream', 'trailers')

    def __init__(self, stream: StreamState, trailers: list[tuple[str, str]]) -> None:
        self.stream = stream
        self.trailers = trailers


class StreamReset(Event):
    """The client has reset a stream."""

    __slots__ = ('code', 'stream')

    def __init__(self, stream: StreamState, code: int) -> None:
        self.stream = stream
        self.code = code


class StreamFailed(Event):
    """The client has broken a rule, and the stream was reset.

    The stream is None if no request had begun.

    :param limit: the option with the exceeded limit, or None.
    """

    __slots__ = ('code', 'limit', 'message', 'stream')

    def __init__(self, stream: StreamState | None, code: ErrorCode, message: str, limit: str | None = None) -> None:
        self.stream = stream
        self.code = code
        self.message = message
        self.limit = limit


class WindowOpened(Event):
    """More can be sent: on one stream, or on all of them if it is None."""

    __slots__ = ('stream',)

    def __init__(self, stream: StreamState | None) -> None:
        self.stream = stream


class GoAwayAcknowledged(Event):
    """The client knows that the connection ends."""

    __slots__ = ()


class ConnectionFailed(Event):
    """The client has broken a rule or exceeded a limit.

    GOAWAY is in the output, and input is ignored from now on.

    :param limit: the option with the exceeded limit, or None.
    """

    __slots__ = ('code', 'limit', 'message')

    def __init__(self, code: ErrorCode, message: str, limit: str | None) -> None:
        self.code = code
        self.message = message
        self.limit = limit


class _Failure(Exception):
    """An error of the connection."""

    def __init__(self, code: ErrorCode, message: str, limit: str | None = None) -> None:
        super().__init__(code, message, limit)
        self.code = code
        self.message = message
        self.limit = limit


class Engine:
    """The protocol of one connection, on the side of the server.

    The output begins with the server's preface (RFC 9113, section 3.4).

    :param limits: the limits of the client.
    """

    __slots__ = (
        '_block',
        '_buffer',
        '_continuations',
        '_counter',
        '_decoder',
        '_encoder',
        '_events',
        '_goaway_id',
        '_initial_receive_window',
        '_initial_send_window',
        '_open_block',
        '_output',
        '_preface_left',
        '_receive_window',
        '_reset_streams',
        '_reset_up_to',
        '_settings_seen',
        '_skipped',
        '_uncredited',
        'failed',
        'last_stream_id',
        'limits',
        'max_sent_frame',
        'output_size',
        'send_window',
        'streams',
    )

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._decoder = HeaderDecoder(limits.hard_header_list)
        self._encoder = HeaderEncoder()
        self._buffer = bytearray()
        self._preface_left = PREFACE
        self._output: list[bytes | memoryview] = []
        #: The number of bytes that :meth:`take_output` would return.
        self.output_size = 0
        self._events: list[Event] = []
        self._counter = FrameCounter()
        self._settings_seen = False
        #: The open streams.
        self.streams: dict[int, StreamState] = {}
        #: The identifier of the last request.
        self.last_stream_id = 0
        #: The last identifier that is served, after GOAWAY.
        self._goaway_id = MAX_STREAM_ID
        #: Identifiers around those that the client has left out, lately.
        self._skipped: tuple[tuple[int, int], ...] = ()
        #: Streams that this side has reset lately, and the highest of those that were reset before: frames of them can
        #: be on their way, however many they are.
        self._reset_streams: dict[int, None] = {}
        self._reset_up_to = 0
        #: Whether the connection has failed.
        self.failed = False
        #: Bytes that can be sent on all streams together.
        self.send_window = DEFAULT_WINDOW
        self._initial_send_window = DEFAULT_WINDOW
        #: Bytes of the largest frame that can be sent.
        self.max_sent_frame = 16384
        self._initial_receive_window = DEFAULT_WINDOW
        self._receive_window = limits.connection_window
        self._uncredited = 0
        #: The parts of an incomplete header block; its stream, whether it ends the stream, and its frames.
        self._block: bytearray | None = None
        self._open_block = (0, False)
        self._continuations = 0
        settings = {
            SettingsFrame.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
            SettingsFrame.MAX_HEADER_LIST_SIZE: limits.header_list,
        }
        if limits.initial_window_size != DEFAULT_WINDOW:
            settings[SettingsFrame.INITIAL_WINDOW_SIZE] = limits.initial_window_size
        if limits.max_frame_size != 16384:
            settings[SettingsFrame.MAX_FRAME_SIZE] = limits.max_frame_size
        self._send_frame(SettingsFrame(0, settings=settings))
        if self._receive_window > DEFAULT_WINDOW:
            self._send_window_update(0, self._receive_window - DEFAULT_WINDOW)

    # -- input ----------------------------------------------------------------------------------------------------

    @property
    def in_block(self) -> bool:
        """Whether a header block has begun and not ended."""
        return self._block is not None

    @property
    def in_frame(self) -> bool:
        """Whether a frame, or the preface, has begun and not ended."""
        return bool(self._buffer) or len(self._preface_left) not in (0, len(PREFACE))

    def receive(self, data: bytes, now: float) -> Iterator[Event]:
        """Yield the events of ``data``, the next bytes of the client.

        Each frame is read when the events of those before it were handled, so that the state of a stream is that of its
        last event. No exception is raised for any input.

        :param now: the monotonic time.
        """
        if self.failed:
            return
        self._counter.advance(now, self.limits.flood_window)
        events = self._events
        try:
            if self._preface_left:
                data = self._skip_preface(data)
            for _ in self._read_frames(data):
                if events:
                    yield from events
                    events.clear()
        except _Failure as error:
            self._fail(error.code, error.message, error.limit)
            yield from events
            events.clear()

    def _fail(self, code: ErrorCode, message: str, limit: str | None) -> None:
        self.failed = True
        self._buffer.clear()
        self._block = None
        self._send_frame(GoAwayFrame(0, last_stream_id=min(self._goaway_id, self.last_stream_id), error_code=code))
        self._events.append(ConnectionFailed(code, message, limit))

    def _skip_preface(self, data: bytes) -> bytes:
        wanted = self._preface_left[: len(data)]
        if data[: len(wanted)] != wanted:
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'the connection does not begin with the preface of HTTP/2')
        self._preface_left = self._preface_left[len(wanted) :]
        return data[len(wanted) :]

    def _read_frames(self, data: bytes) -> Iterator[None]:
        """Yield after each frame."""
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            buffer = self._buffer
        position, end = 0, len(buffer)
        limit = self.limits.max_frame_size
        while end - position >= 9:
            high, low, kind, flags, number = _HEADER.unpack_from(buffer, position)
            length = high << 8 | low
            if length > limit:
                raise _Failure(
                    ErrorCode.FRAME_SIZE_ERROR,
                    f'a frame is longer than http2_max_frame_size ({limit} bytes)',
                    'http2_max_frame_size',
                )
            start = position + 9
            position_after = start + length
            if position_after > end:
                break
            self._read_frame(kind, flags, number & MAX_STREAM_ID, bytes(buffer[start:position_after]))
            position = position_after
            yield
            if self.failed:
                return
        if buffer is self._buffer:
            del self._buffer[:position]
        elif position < end:
            self._buffer += data[position:]

    def _read_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and (kind != _CONTINUATION or number != self._open_block[0]):
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'another frame is between the parts of a header block')
        if kind == _DATA:
            self._read_data(flags, number, payload)
        elif kind == _HEADERS:
            self._read_headers(flags, number, payload)
        elif not self._settings_seen and kind != _SETTINGS:
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'the first frame is not SETTINGS')
        elif kind == _WINDOW_UPDATE:
            self._read_window_update(number, payload)
        else:
            self._read_other(kind, flags, number, payload)

    def _read_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if (kind in _OF_STREAMS and not number) or (kind in _OF_CONNECTION and number):
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'a frame is on the wrong stream')
        if len(payload) != _LENGTHS.get(kind, len(payload)):
            raise _Failure(ErrorCode.FRAME_SIZE_ERROR, 'a frame of a fixed length has another one')
        if kind == _RST_STREAM:
            self._read_reset(number, payload)
        elif kind == _CONTINUATION:
            self._read_continuation(flags, payload)
        elif kind == _PUSH_PROMISE:
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'a client has sent PUSH_PROMISE')
        else:
            # the others, and frames of unknown types, are ignored (RFC 9113, section 5.5)
            self._count_control_frame()
            if kind == _SETTINGS:
                self._read_settings(flags, payload)
            elif kind == _PING:
                self._read_ping(flags, payload)
            elif kind == _GOAWAY and len(payload) < 8:
                raise _Failure(ErrorCode.FRAME_SIZE_ERROR, 'GOAWAY is too short')

    # -- heads ----------------------------------------------------------------------------------------------------

    def _read_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not self._settings_seen:
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'the first frame is not SETTINGS')
        if not number & 1:
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'a client has opened a stream with an even number')
        if flags & (_PADDED | _PRIORITY_FLAG):
            payload = _content(payload, flags & _PADDED, 5 if flags & _PRIORITY_FLAG else 0)
        ended = bool(flags & _END_STREAM)
        if flags & _END_HEADERS:
            self._read_block(number, payload, ended)
            return
        if not payload:
            self._count_empty_frame()
        self._block = bytearray(payload)
        self._open_block = number, ended
        self._continuations = 0
        self._check_block(payload)

    def _read_continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'CONTINUATION without a header block')
        limits = self.limits
        self._continuations += 1
        if self._continuations > limits.max_continuations:
            raise _too_many('CONTINUATION frames', 'max_continuations', limits.max_continuations)
        if not payload:
            self._count_empty_frame()
        block += payload
        self._check_block(block)
        if flags & _END_HEADERS:
            self._block = None
            self._read_block(self._open_block[0], bytes(block), self._open_block[1])

    def _check_block(self, block: bytes | bytearray) -> None:
        """Raise if the received part of a header block is too large."""
        if len(block) > self.limits.hard_header_list:
            raise _Failure(
                ErrorCode.ENHANCE_YOUR_CALM,
                f'a header block is larger than {self._hard_limit}',
                'http2_max_header_list_size',
            )

    @property
    def _hard_limit(self) -> str:
        return f'{HARD_FACTOR} times http2_max_header_list_size ({self.limits.header_list} bytes)'

    def _read_block(self, number: int, block: bytes, ended: bool) -> None:
        """Read a complete header block: a request, or trailers."""
        try:
            fields, size, problem = self._decoder.decode(block)
        except ListTooLarge:
            raise _Failure(
                ErrorCode.ENHANCE_YOUR_CALM,
                f'a header list is larger than {self._hard_limit}',
                'http2_max_header_list_size',
            ) from None
        except BlockError as error:
            raise _Failure(ErrorCode.COMPRESSION_ERROR, f'a header block cannot be decoded: {error}') from None
        if number <= self.last_stream_id:
            self._read_trailers(number, fields, size, problem, ended)
            return
        if number - self.last_stream_id > 2:
            self._skipped = (*self._skipped[1 - MAX_SKIPPED :], (self.last_stream_id, number))
        self.last_stream_id = number
        if number > self._goaway_id:
            # the client knows from GOAWAY that this request is not served
            self._count_control_frame()
            return
        limits = self.limits
        if len(self.streams) >= limits.max_concurrent_streams:
            self._count_reset()
            self._send_reset(number, ErrorCode.REFUSED_STREAM)
            self._events.append(
                StreamFailed(
                    None,
                    ErrorCode.REFUSED_STREAM,
                    f'more requests at a time than http2_max_concurrent_streams ({limits.max_concurrent_streams})',
                    'http2_max_concurrent_streams',
                )
            )
            return
        try:
            if size > limits.header_list:
                raise ParseError(
                    f'header list larger than http2_max_header_list_size ({limits.header_list} bytes)',
                    code='HPE_HEADER_OVERFLOW',
                    status=431,
                )
            if problem is not None:
                raise Malformed(problem)
            head = request_head(fields, limits.message, ended)
        except Malformed as error:
            self._count_reset()
            self._send_reset(number, ErrorCode.PROTOCOL_ERROR)
            self._events.append(StreamFailed(None, ErrorCode.PROTOCOL_ERROR, str(error)))
        except ParseError as error:
            stream = self._open_stream(number, ended)
            self._events.append(RequestRejected(stream, error.with_traceback(None), (':method', 'HEAD') in fields))
        else:
            stream = self._open_stream(number, ended)
            stream.expected = head.content_length
            self._events.append(HeadReceived(stream, head))

    def _open_stream(self, number: int, ended: bool) -> StreamState:
        stream = StreamState(number, self._initial_receive_window, self._initial_send_window)
        stream.ended = ended
        self.streams[number] = stream
        return stream

    def _read_trailers(
        self, number: int, fields: Sequence[tuple[str, str]], size: int, problem: str | None, ended: bool
    ) -> None:
        stream = self.streams.get(number)
        if stream is None:
            if any(low < number < high for low, high in self._skipped):
                raise _Failure(ErrorCode.PROTOCOL_ERROR, 'a new stream has a lower identifier than the last one')
            if self._was_reset(number) or number > self._goaway_id:
                # the latter requests are ignored as a whole
                self._count_control_frame()
                return
            raise _Failure(ErrorCode.STREAM_CLOSED, 'HEADERS on a stream that has ended')
        if stream.ended:
            self._fail_stream(stream, ErrorCode.STREAM_CLOSED, 'HEADERS after the end of a request')
        elif not ended:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, 'a trailer section does not end its stream')
        elif size > self.limits.header_list:
            self._fail_stream(
                stream,
                ErrorCode.ENHANCE_YOUR_CALM,
                f'trailers larger than http2_max_header_list_size ({self.limits.header_list} bytes)',
                'http2_max_header_list_size',
            )
        else:
            try:
                if problem is not None:
                    raise Malformed(problem)
                trailers = trailer_fields(fields, self.limits.message)
            except Malformed as error:
                self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, str(error))
                return
            if self._check_end(stream):
                stream.ended = True
                self._events.append(TrailersReceived(stream, trailers))
                self._close_if_done(stream)

    def _is_idle(self, number: int) -> bool:
        """Return whether a stream has not begun.

        Those of the server have even identifiers, and never begin.
        """
        return number > self.last_stream_id or not number & 1

    # -- bodies ---------------------------------------------------------------------------------------------------

    def _read_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if not number or self._is_idle(number):
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'DATA on a stream that has not begun')
        if size > self._receive_window:
            raise _Failure(ErrorCode.FLOW_CONTROL_ERROR, 'more bytes than the window of the connection allows')
        self._receive_window -= size
        stream = self.streams.get(number)
        if stream is None:
            self._credit_connection(size)
            if not size:
                self._count_empty_frame()
            if not self._was_reset(number) and number <= self._goaway_id:
                self._count_reset()
                self._send_reset(number, ErrorCode.STREAM_CLOSED)
            return
        if size > stream.receive_window:
            self._credit_connection(size)
            self._fail_stream(
                stream,
                ErrorCode.FLOW_CONTROL_ERROR,
                f'more unread bytes than the window of the stream ({stream.window_size}), which begins with '
                f'http2_initial_window_size ({self.limits.initial_window_size})',
                'http2_initial_window_size',
            )
            return
        stream.receive_window -= size
        stream.unconsumed += size
        if stream.ended:
            self._fail_stream(stream, ErrorCode.STREAM_CLOSED, 'DATA after the end of a request')
            return
        data = payload
        if flags & _PADDED:
            data = _content(payload, True, 0)
        ended = bool(flags & _END_STREAM)
        if not data and not ended:
            self._count_empty_frame()
        stream.received += len(data)
        if stream.expected is not None and stream.received > stream.expected:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, 'a body is longer than its Content-Length')
            return
        if ended:
            if not self._check_end(stream):
                return
            stream.ended = True
        if size > len(data):
            # padding is consumed as it arrives
            self.consumed(stream, size - len(data))
        if data or ended:
            self._events.append(DataReceived(stream, data, ended))
            if ended:
                self._close_if_done(stream)

    def _check_end(self, stream: StreamState) -> bool:
        """Return whether a body that ends has its declared size.

        The stream is reset if not.
        """
        if stream.expected is None or stream.received == stream.expected:
            return True
        self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, 'a body is shorter than its Content-Length')
        return False

    def consumed(self, stream: StreamState, size: int) -> None:
        """Give credit for ``size`` bytes that the application has consumed.

        WINDOW_UPDATE is sent for half a window at a time. If the application has consumed everything then, the window
        limits the client, and becomes twice as large: with 64 KiB in a round trip of 50 ms, a client could send 1.3 MB
        in a second.
        """
        # the rest was credited when the stream ended
        size = min(size, stream.unconsumed)
        stream.unconsumed -= size
        self._credit_connection(size)
        if stream.ended or stream.closed:
            return
        stream.uncredited += size
        if stream.uncredited * 2 >= stream.window_size:
            credit = stream.uncredited
            if not stream.unconsumed:
                # it is larger than wanted before the client has received the SETTINGS frame
                growth = max(min(stream.window_size, self.limits.largest_window - stream.window_size), 0)
                stream.window_size += growth
                credit += growth
            stream.receive_window += credit
            self._send_window_update(stream.id, credit)
            stream.uncredited = 0

    def _credit_connection(self, size: int) -> None:
        if not size:
            return
        self._uncredited += size
        limits = self.limits
        # or half of the present window: the unread bytes of other streams can take most of it
        wanted = min(limits.connection_window, limits.initial_window_size * 4, self._receive_window + self._uncredited)
        if self._uncredited * 2 >= wanted:
            self._receive_window += self._uncredited
            self._send_window_update(0, self._uncredited)
            self._uncredited = 0

    # -- control frames -------------------------------------------------------------------------------------------

    def _read_reset(self, number: int, payload: bytes) -> None:
        if self._is_idle(number):
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'RST_STREAM on a stream that has not begun')
        stream = self.streams.get(number)
        if stream is None and self._counter.was_reset(number):
            # h2 sends one more for each DATA frame that was on its way when its user reset the stream
            self._count_control_frame()
            return
        self._counter.remember_reset(number)
        self._count_reset()
        if stream is not None:
            self._close(stream)
            self._events.append(StreamReset(stream, int.from_bytes(payload, 'big')))

    def _read_window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Failure(ErrorCode.FRAME_SIZE_ERROR, 'a frame of a fixed length has another one')
        counter, limits = self._counter, self.limits
        counter.window_updates += 1
        if counter.window_updates > limits.max_window_updates + UPDATES_PER_FRAME * counter.data_sent:
            raise _too_many(
                'WINDOW_UPDATE frames', 'max_window_updates', limits.max_window_updates, limits.flood_window
            )
        increment = int.from_bytes(payload, 'big') & MAX_WINDOW
        if not number:
            if not increment:
                raise _Failure(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE without an increment')
            if self.send_window + increment > MAX_WINDOW:
                raise _Failure(ErrorCode.FLOW_CONTROL_ERROR, 'the window of the connection is too large')
            self.send_window += increment
            self._events.append(WindowOpened(None))
            return
        if self._is_idle(number):
            raise _Failure(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE on a stream that has not begun')
        stream = self.streams.get(number)
        if stream is None:
            return
        if not increment:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE without an increment')
        elif stream.send_window + increment > MAX_WINDOW:
            self._fail_stream(stream, ErrorCode.FLOW_CONTROL_ERROR, 'the window of a stream is too large')
        else:
            stream.send_window += increment
            self._events.append(WindowOpened(stream))

    def _read_ping(self, flags: int, payload: bytes) -> None:
        if not flags & _ACK:
            self._send_frame(PingFrame(0, payload, flags=['ACK']))
        elif payload == DRAIN_PING:
            self._events.append(GoAwayAcknowledged())

    def _read_settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            if payload:
                raise _Failure(ErrorCode.FRAME_SIZE_ERROR, 'SETTINGS with ACK has values')
            if not self._settings_seen:
                raise _Failure(ErrorCode.PROTOCOL_ERROR, 'the first frame is not SETTINGS')
            self._on_settings_acknowledged()
            return
        if len(payload) % 6:
            raise _Failure(ErrorCode.FRAME_SIZE_ERROR, 'SETTINGS has a part of a value')
        self._settings_seen = True
        window = self._initial_send_window
        for name, value in _SETTING.iter_unpack(payload):
            # in their order: of several sizes of the table, the smallest counts, too (RFC 7541, section 4.2)
            if name == SettingsFrame.HEADER_TABLE_SIZE:
                self._encoder.resize(min(value, DEFAULT_TABLE_SIZE))
            elif name == SettingsFrame.ENABLE_PUSH:
                if value > 1:
                    raise _Failure(ErrorCode.PROTOCOL_ERROR, 'SETTINGS_ENABLE_PUSH is neither 0 nor 1')
            elif name == SettingsFrame.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise _Failure(ErrorCode.FLOW_CONTROL_ERROR, 'SETTINGS_INITIAL_WINDOW_SIZE is too large')
                window = value
            elif name == SettingsFrame.MAX_FRAME_SIZE:
                if not 16384 <= value < 2**24:
                    raise _Failure(ErrorCode.PROTOCOL_ERROR, 'SETTINGS_MAX_FRAME_SIZE is out of its range')
                self.max_sent_frame = min(value, MAX_SENT_FRAME)
        # once: a frame can have thousands of values, and every stream is changed
        self._change_send_windows(window - self._initial_send_window)
        self._send_frame(SettingsFrame(0, flags=['ACK']))

    def _change_send_windows(self, change: int) -> None:
        """Add ``change`` to the windows of present and later streams."""
        self._initial_send_window += change
        for stream in self.streams.values():
            # it can become negative (RFC 9113, section 6.9.2)
            stream.send_window += change
            if stream.send_window > MAX_WINDOW:
                raise _Failure(ErrorCode.FLOW_CONTROL_ERROR, 'the window of a stream is too large')
        if change > 0:
            self._events.append(WindowOpened(None))

    def _on_settings_acknowledged(self) -> None:
        change = self.limits.initial_window_size - self._initial_receive_window
        if change:
            self._initial_receive_window = self.limits.initial_window_size
            for stream in self.streams.values():
                stream.receive_window += change
                stream.window_size += change

    # -- counters -------------------------------------------------------------------------------------------------

    def _count_reset(self) -> None:
        self._counter.resets += 1
        if self._counter.resets > self.limits.max_resets:
            raise _too_many('reset streams', 'max_resets', self.limits.max_resets, self.limits.flood_window)

    def _count_control_frame(self) -> None:
        self._counter.control_frames += 1
        limits = self.limits
        if self._counter.control_frames > limits.max_control_frames:
            raise _too_many('control frames', 'max_control_frames', limits.max_control_frames, limits.flood_window)

    def _count_empty_frame(self) -> None:
        self._counter.empty_frames += 1
        limits = self.limits
        if self._counter.empty_frames > limits.max_empty_frames:
            raise _too_many('empty frames', 'max_empty_frames', limits.max_empty_frames, limits.flood_window)

    # -- the end of a stream --------------------------------------------------------------------------------------

    def _fail_stream(self, stream: StreamState, code: ErrorCode, message: str, limit: str | None = None) -> None:
        self._count_reset()
        self.reset(stream, code)
        self._events.append(StreamFailed(stream, code, message, limit))

    def reset(self, stream: StreamState, code: ErrorCode) -> None:
        """Reset a stream. Has no effect on one that has ended."""
        if not stream.closed:
            self._close(stream)
            self._send_reset(stream.id, code)

    def _send_reset(self, number: int, code: ErrorCode) -> None:
        reset = self._reset_streams
        reset[number] = None
        if len(reset) > MAX_RESET_STREAMS:
            oldest = next(iter(reset))
            del reset[oldest]
            self._reset_up_to = max(self._reset_up_to, oldest)
        self._output.append(_NUMBER.pack(0, 4, _RST_STREAM, 0, number, code))
        self.output_size += 13

    def _was_reset(self, number: int) -> bool:
        """Return whether this side has reset a closed stream.

        Its late frames are ignored (RFC 9113, section 5.1). Streams that are older than the remembered ones count as
        reset, also those that have ended in another way.
        """
        return number <= self._reset_up_to or number in self._reset_streams

    def _close_if_done(self, stream: StreamState) -> None:
        if stream.ended and stream.local_ended:
            self._close(stream)

    def _close(self, stream: StreamState) -> None:
        stream.closed = True
        self.streams.pop(stream.id, None)
        if stream.unconsumed:
            # no application will read these bytes
            self._credit_connection(stream.unconsumed)
            stream.unconsumed = 0

    # -- output ---------------------------------------------------------------------------------------------------

    def _send_frame(self, frame: Frame) -> None:
        data = frame.serialize()
        self._output.append(data)
        self.output_size += len(data)

    def _send_window_update(self, number: int, increment: int) -> None:
        self._output.append(_NUMBER.pack(0, 4, _WINDOW_UPDATE, 0, number, increment))
        self.output_size += 13

    def take_output(self) -> bytes:
        """Return the bytes to be sent, and forget them."""
        return b''.join(self.take_pieces())

    def take_pieces(self) -> list[bytes | memoryview]:
        """Return the bytes to be sent in pieces, and forget them.

        The payload of a large DATA frame is a piece, without a copy.
        """
        output, self._output = self._output, []
        self.output_size = 0
        return output

    def send_head(self, stream: StreamState, fields: Sequence[tuple[bytes, bytes]], end: bool) -> None:
        """Send a head, or trailers.

        :param fields: names in lower case and values, pseudo-header fields first; checked by the caller.
        :param end: whether the stream ends with it.
        """
        block = self._encoder.encode(fields)
        size = len(block)
        limit = self.max_sent_frame
        flags = _END_STREAM if end else 0
        if size <= limit:
            self._output.append(_HEADER.pack(size >> 8, size & 0xFF, _HEADERS, flags | _END_HEADERS, stream.id) + block)
            self.output_size += 9 + size
        else:
            self._send_frame_of(_HEADERS, flags, stream.id, block[:limit])
            for start in range(limit, size, limit):
                part = block[start : start + limit]
                last = start + limit >= size
                self._send_frame_of(_CONTINUATION, _END_HEADERS if last else 0, stream.id, part)
        if end:
            self._end(stream)

    def _send_frame_of(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._output.append(_HEADER.pack(size >> 8, size & 0xFF, kind, flags, number) + payload)
        self.output_size += 9 + size

    def sendable(self, stream: StreamState) -> int:
        """Return how many bytes of a body the windows allow.

        It can be below 0.
        """
        return min(stream.send_window, self.send_window)

    def send_data(self, stream: StreamState, data: bytes | memoryview, end: bool) -> None:
        """Send DATA frames: one, unless ``data`` is larger than a frame can be.

        :param data: at most :meth:`sendable` bytes, which never change.
        :param end: whether the stream ends with it.
        """
        size = len(data)
        stream.send_window -= size
        self.send_window -= size
        output = self._output
        limit = self.max_sent_frame
        count = 1
        if size > limit:
            view = memoryview(data)
            header = _HEADER.pack(limit >> 8, limit & 0xFF, _DATA, 0, stream.id)
            # the frames before the last one, all of which are full
            before = (size - 1) // limit * limit
            for start in range(0, before, limit):
                output += header, view[start : start + limit]
            data = view[before:]
            last = size - before
            count += before // limit
            if end or last < limit:
                header = _HEADER.pack(last >> 8, last & 0xFF, _DATA, _END_STREAM if end else 0, stream.id)
        else:
            header = _HEADER.pack(size >> 8, size & 0xFF, _DATA, _END_STREAM if end else 0, stream.id)
        if size > JOIN_UP_TO:
            output += header, data
        else:
            output.append(header + data)
        self.output_size += 9 * count + size
        self._counter.data_sent += count
        if end:
            self._end(stream)

    def _end(self, stream: StreamState) -> None:
        stream.local_ended = True
        self._close_if_done(stream)

    def go_away(self, code: ErrorCode = ErrorCode.NO_ERROR, announce: bool = False) -> None:
        """Send GOAWAY: requests after the last one received are not served.

        :param announce: only announce the end: requests that are on their way are served. A PING follows, and its
            acknowledgement is an event.
        """
        if announce:
            self._send_frame(GoAwayFrame(0, last_stream_id=MAX_STREAM_ID, error_code=ErrorCode.NO_ERROR))
            self._send_frame(PingFrame(0, DRAIN_PING))
            return
        self.refuse_later_requests()
        self._send_frame(GoAwayFrame(0, last_stream_id=self._goaway_id, error_code=code))

    def refuse_later_requests(self) -> None:
        """Ignore requests after the last one received; the next GOAWAY names it."""
        self._goaway_id = min(self._goaway_id, self.last_stream_id)


def _content(payload: bytes, padded: int, priority: int) -> bytes:
    """Return a payload without padding and priority (RFC 9113, section 6.2).

    :param padded: whether there is padding, true or false.
    :param priority: the bytes of the priority.
    """
    start, end = priority, len(payload)
    if padded:
        start += 1
        end -= payload[0] if payload else 0
    if len(payload) < start:
        raise _Failure(ErrorCode.FRAME_SIZE_ERROR, 'a frame is too short for its flags')
    if end < start:
        raise _Failure(ErrorCode.PROTOCOL_ERROR, 'the padding is longer than the rest of its frame')
    return payload[start:end]


def _too_many(subject: str, option: str, limit: int, period: float | None = None) -> _Failure:
    """Return the error for an exceeded limit."""
    within = '' if period is None else f' within http2_flood_window ({period:g} seconds)'
    name = f'http2_{option}'
    return _Failure(ErrorCode.ENHANCE_YOUR_CALM, f'more {subject} than {name} ({limit}){within}', name)
