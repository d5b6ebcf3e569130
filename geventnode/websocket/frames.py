"""Frames of WebSockets (RFC 6455, section 5), without I/O.

The input is divided at the ends of frames. A complete frame that is a whole message, the most frequent case, is decoded
here. ``wsproto`` decodes every other frame: fragments, control and incomplete frames, and all malformed ones. Its
objects exist only while such a frame or message is incomplete, so an idle connection has none. The tests compare the
results of both ways.

The limits are checked as soon as the header of a frame is known, before its payload is received.
"""

from __future__ import annotations

import io
import os
import struct
from typing import NamedTuple

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from geventnode.errors import MessageTooBig, TooManyFragments, WebSocketClosed, WebSocketProtocolError
from geventnode.websocket.deflate import MessageDeflate

__all__ = [
    'UNLIMITED',
    'CloseFrame',
    'FragmentFrame',
    'FrameReader',
    'PingFrame',
    'PongFrame',
    'encode_close',
    'encode_frame',
]

#: A size that no frame has (RFC 6455, section 5.2).
UNLIMITED = 2**63

#: The first bytes of frames that are whole messages (RFC 6455, section 5.2), and those with negotiated compression, too
#: (RFC 7692, section 6).
BINARY, CLOSE = 0x82, 0x88
MESSAGES = 0x81, BINARY
MESSAGES_OF_DEFLATE = *MESSAGES, 0xC1, 0xC2

#: Bits of the header.
FIN, COMPRESSED, OPCODE, CONTROL, MASKED, LENGTH = 0x80, 0x40, 0x0F, 0x08, 0x80, 0x7F

#: The most bytes of the payload of a control frame (RFC 6455, section 5.5), without the code of a close frame.
MAX_REASON = 123

_pack_2 = struct.Struct('!BBH').pack
_pack_8 = struct.Struct('!BBQ').pack
_from_bytes = int.from_bytes


class PingFrame(NamedTuple):
    """A ping of the peer."""

    payload: bytes


class PongFrame(NamedTuple):
    """A pong of the peer."""

    payload: bytes


class CloseFrame(NamedTuple):
    """The close frame of the peer; code 1005 means none."""

    code: int
    reason: str


class FragmentFrame(NamedTuple):
    """A frame of a message that further frames complete."""


Received = str | bytes | PingFrame | PongFrame | CloseFrame | FragmentFrame

_FRAGMENT = FragmentFrame()


def _mask(payload: bytes, key: bytes) -> bytes:
    """Return ``payload`` masked, or unmasked, with ``key`` (RFC 6455, section 5.3)."""
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (_from_bytes(payload, 'little') ^ _from_bytes(repeated, 'little')).to_bytes(size, 'little')


def encode_frame(first: int, payload: bytes, masked: bool) -> bytes:
    """Return a frame.

    :param first: the first byte: FIN, the reserved bits and the opcode.
    :param masked: whether the sender is the client.
    """
    size = len(payload)
    flag = MASKED if masked else 0
    if size < 126:
        head = bytes((first, flag | size))
    elif size < 65536:
        head = _pack_2(first, flag | 126, size)
    else:
        head = _pack_8(first, flag | 127, size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + _mask(payload, key)


def encode_close(code: int | None, reason: str, masked: bool) -> bytes:
    """Return a close frame; a reason that is too long is shortened.

    :param code: None, or 1005, for a frame without a code.
    """
    payload = b''
    if code is not None and code != CloseReason.NO_STATUS_RCVD:
        payload = code.to_bytes(2, 'big') + reason.encode()[:MAX_REASON].decode('utf-8', 'ignore').encode()
    return encode_frame(CLOSE, payload, masked)


class FrameReader:
    """Decode the frames of the peer.

    :param client: whether this side is the client, so that frames of the peer are not masked.
    :param max_size: the most bytes of a message, after decompression.
    :param max_fragments: the most frames of a message.
    :param deflate: the negotiated compression.
    """

    __slots__ = (
        '_client',
        '_compressed',
        '_data',
        '_deflate',
        '_final',
        '_fragments',
        '_in_message',
        '_is_data',
        '_left',
        '_messages',
        '_parts',
        '_position',
        '_protocol',
        'max_fragments',
        'max_size',
        'size',
    )

    def __init__(self, client: bool, max_size: int, max_fragments: int, deflate: MessageDeflate | None = None) -> None:
        self._client = client
        self.max_size = max_size
        self.max_fragments = max_fragments
        self._deflate = deflate
        self._messages: tuple[int, ...] = MESSAGES if deflate is None else MESSAGES_OF_DEFLATE
        #: Input, and the position of its first byte that was not decoded.
        self._data = b''
        self._position = 0
        #: The bytes of the present frame that are still to be passed to wsproto.
        self._left = 0
        #: Whether the present frame is one of a message, and the last one of it.
        self._is_data = self._final = False
        #: Whether a fragmented message is incomplete; whether it is compressed; its frames and parts so far.
        self._in_message = self._compressed = False
        self._fragments = 0
        self._parts: io.BytesIO | io.StringIO | None = None
        self._protocol: FrameProtocol | None = None
        #: The bytes of the last message, after decompression.
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._position < len(self._data):
            data = self._data[self._position :] + data
        self._data = data
        self._position = 0

    def next(self) -> Received | None:
        """Return the next message or control frame, or note a fragment.

        It is None until more bytes have arrived. A fragment has no data: its message follows.

        Raises ``WebSocketProtocolError``, ``MessageTooBig`` and ``TooManyFragments``. The reader cannot be used after
        these, nor after a close frame.
        """
        while True:
            data, position = self._data, self._position
            available = len(data) - position
            if self._left:
                if not available:
                    break
                piece = data[position : position + self._left]
                self._position += len(piece)
                self._left -= len(piece)
                received = self._decode(piece)
            elif available < 2:
                break
            else:
                first, second = data[position], data[position + 1]
                if first in self._messages and not self._in_message:
                    size = second & LENGTH
                    begin = position + 2
                    if size >= 126:
                        if size == 126 and available >= 4:
                            size = data[begin] << 8 | data[begin + 1]
                            begin += 2
                        if begin == position + 2 or size < 126:
                            # incomplete or long, or a size in more bytes than needed
                            size = UNLIMITED
                    if (second >= MASKED) is self._client:
                        size = UNLIMITED
                    elif not self._client:
                        begin += 4
                    end = begin + size
                    if end <= len(data):
                        if size > self.max_size and first <= BINARY:
                            raise self._too_big()
                        self._position = end
                        self.size = size
                        payload = data[begin:end]
                        if not self._client:
                            payload = _mask(payload, data[begin - 4 : begin])
                        if first > BINARY:
                            payload = self._decompress(payload)
                        if not first & 1:
                            return payload
                        try:
                            return payload.decode()
                        except UnicodeDecodeError as error:
                            raise _protocol_error(CloseReason.INVALID_FRAME_PAYLOAD_DATA, str(error)) from None
                if not self._begin(first, second, available):
                    return None
                received = None if self._left else self._decode(b'')
            if received is not None:
                return received
        if not available:
            self._data = b''
            self._position = 0
        return None

    def _begin(self, first: int, second: int, available: int) -> bool:
        """Pass the header of a frame to wsproto, and check the limits.

        Return False if it is incomplete.
        """
        size = second & LENGTH
        extended = 2 if size == 126 else 8 if size == 127 else 0
        length = 2 + extended + (4 if second & MASKED else 0)
        if available < length:
            return False
        position = self._position
        header = self._data[position : position + length]
        self._position += length
        if extended:
            size = _from_bytes(header[2 : 2 + extended], 'big')
        is_data = not first & CONTROL
        if is_data and not self._in_message:
            self.size = self._fragments = 0
            self._compressed = bool(first & COMPRESSED)
            if self._deflate is not None:
                self._deflate.begin(self.max_size)
        if self._protocol is None:
            extensions: list[Extension] = [] if self._deflate is None else [self._deflate]
            self._protocol = FrameProtocol(self._client, extensions)
        self._is_data = is_data
        self._final = bool(first & FIN)
        self._left = size
        if size:
            # it raises for a malformed header; without a payload the frame is complete, and decoded next
            self._frames(header)
        else:
            self._protocol.receive_bytes(header)
        if is_data:
            self._fragments += 1
            if self._fragments > self.max_fragments:
                raise TooManyFragments(
                    f'a message has more than max_fragments ({self.max_fragments}) frames',
                    CloseReason.POLICY_VIOLATION,
                    'too many fragments',
                )
            if not self._compressed:
                self.size += size
                if self.size > self.max_size:
                    raise self._too_big()
        return True

    def _frames(self, data: bytes) -> list[Frame]:
        """Return the frames, or pieces of them, that wsproto decodes from ``data``."""
        protocol = self._protocol
        assert protocol is not None
        if data:
            protocol.receive_bytes(data)
        try:
            return list(protocol.received_frames())
        except ParseFailed as error:
            raise self._failed(error.code, str(error)) from None

    def _decompress(self, payload: bytes) -> bytes:
        """Return the message of a whole compressed frame."""
        deflate = self._deflate
        assert deflate is not None
        deflate.begin(self.max_size)
        message = deflate.decompress_message(payload)
        if isinstance(message, CloseReason):
            raise self._failed(message, '')
        self.size = len(message)
        return message

    def _failed(self, code: CloseReason, problem: str) -> WebSocketClosed:
        if code == CloseReason.MESSAGE_TOO_BIG:
            return self._too_big()
        if self._deflate is not None:
            problem = self._deflate.problem or problem
        return _protocol_error(code, problem)

    def _decode(self, piece: bytes) -> Received | None:
        """Decode a piece of a frame.

        Return the message or frame that it completes.
        """
        received: Received | None = None
        for frame in self._frames(piece):
            payload = frame.payload
            if isinstance(payload, tuple):
                received = CloseFrame(int(payload[0]), payload[1])
            elif frame.opcode is Opcode.PING or frame.opcode is Opcode.PONG:
                assert not isinstance(payload, str)
                made = PingFrame if frame.opcode is Opcode.PING else PongFrame
                received = made(bytes(payload))
            else:
                received = self._add(payload, frame.message_finished)
        if not self._left:
            if self._is_data:
                self._in_message = not self._final
                if self._in_message:
                    received = _FRAGMENT
            if not self._in_message:
                self._protocol = None
        return received

    def _add(self, part: str | bytes, last: bool) -> str | bytes | None:
        """Add a part; return the message after the last one."""
        parts = self._parts
        if parts is None:
            if last:
                message = part
            else:
                parts = self._parts = io.StringIO(newline='') if isinstance(part, str) else io.BytesIO()
        if parts is not None:
            parts.write(part)  # type: ignore[arg-type]  # all parts of a message are of one type
            if not last:
                return None
            message = parts.getvalue()
            self._parts = None
        if self._compressed and self._deflate is not None:
            self.size = self._deflate.size
        return message

    def _too_big(self) -> WebSocketClosed:
        return MessageTooBig(
            f'a message is longer than max_message_size ({self.max_size} bytes)',
            CloseReason.MESSAGE_TOO_BIG,
            f'longer than {self.max_size} bytes',
        )


def _protocol_error(code: int, problem: str) -> WebSocketClosed:
    return WebSocketProtocolError(f'the peer has sent malformed data: {problem}', int(code), problem)
