"""Fuzz the decoder of WebSocket frames in either role, with any input in any pieces.

Rules: The decoder raises only ``WebSocketClosed`` with a code that can be sent. Messages, control frames and the error
do not depend on how the input is cut. Without compression and limits, they are those of wsproto's own decoder. No
message is larger than its limit, and a client's text can be encoded again.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from typing import Any

from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from contrib.fuzz.finding import Finding
from contrib.fuzz.sample import Sample
from contrib.fuzz.target import Target
from geventnode.errors import WebSocketClosed
from geventnode.websocket.deflate import Deflate, accept_offer
from geventnode.websocket.frames import UNLIMITED, CloseFrame, FragmentFrame, FrameReader, PingFrame, PongFrame
from tests.websocket.frames import frame

__all__ = ['WebSocketTarget']

#: The longest header of a frame: an incomplete one is not checked yet.
MAX_HEADER = 14

#: The limits of a scenario: the size of a message, and its frames.
LIMITS = (UNLIMITED, UNLIMITED), (UNLIMITED, UNLIMITED), (100, 4), (4000, 1000)

TEXTS = 'x', 'hello', 'ä€😀', '', '{"key": [1, 2, 3]}' * 20

#: Bytes that are no UTF-8.
INVALID = b'\xff', b'\xed\xa0\x80', b'\xc0\x80', b'\xf4\x90\x80\x80', b'\xe2\x82'


class MessageMutator:
    """Makes messages and control frames, some of them malformed.

    :param client: whether the client receives it: the frames of a server have no masks.
    """

    def __init__(self, client: bool) -> None:
        self._client = client

    def make(self, rng: random.Random) -> bytes:
        """Return an input."""
        data = b''.join(self._message(rng) for _ in range(rng.choice((1, 1, 2, 3, 5))))
        for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
            data = self.change(data, rng)
        return data

    def change(self, data: bytes, rng: random.Random) -> bytes:
        """Return ``data`` with a small change."""
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            return data[:place]
        if kind == 1:
            return data[:place] + rng.randbytes(rng.choice((1, 1, 2, 8))) + data[place:]
        if kind == 2:
            return data[:place] + data[place + rng.choice((1, 1, 2, 8)) :]
        if kind == 3 and place < len(data):
            return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        if kind == 4 and place < len(data):
            return data[:place] + rng.choice((b'\x00', b'\xff', b'\x7f', b'\x80', b'\x81', b'\xfe')) + data[place + 1 :]
        return data + data[place:]

    def _message(self, rng: random.Random) -> bytes:
        """Return the frames of a message or a control frame; some of them are malformed."""
        mask = None if self._client else rng.choice((bytes(4), b'\x37\xfa\x21\x3d'))
        if rng.random() < 0.01:
            mask = b'abcd' if mask is None else None
        kind = rng.random()
        if kind < 0.15:
            return frame(rng.randbytes(rng.choice((0, 1, 125, 126))), rng.choice((9, 10)), mask=mask)
        if kind < 0.25:
            code = rng.choice((1000, 1001, 1005, 1011, 3000, 4999, 999, 2000)).to_bytes(2, 'big')
            return frame(rng.choice((b'', b'x', code, code + b'reason', code + b'\xff')), 8, mask=mask)
        payload = rng.choice(TEXTS).encode() if rng.random() < 0.6 else rng.randbytes(rng.choice((0, 3, 125, 126, 700)))
        if rng.random() < 0.1:
            payload += rng.choice(INVALID)
        if rng.random() < 0.02:
            payload *= rng.choice((50, 200))
        opcode, rsv = rng.choice((1, 1, 2)), 0
        if rng.random() < 0.25:
            packer = zlib.compressobj(6, zlib.DEFLATED, -12)
            end = rng.choice((zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FINISH))
            payload = packer.compress(payload) + packer.flush(end)
            payload = payload[:-4] if end == zlib.Z_SYNC_FLUSH else payload + b'\x00'
            rsv = 0x40
        parts = []
        for _ in range(rng.choice((0, 0, 0, 1, 2, 5))):
            place = rng.randrange(len(payload) + 1)
            parts.append(payload[:place])
            payload = payload[place:]
        parts.append(payload)
        data = b''
        for number, part in enumerate(parts):
            if number and rng.random() < 0.2:
                data += frame(b'between', 9, mask=mask)
            size = rng.choice((2, 8)) if rng.random() < 0.02 else None
            if size == 2 and len(part) > 65535:
                size = None
            last = number == len(parts) - 1
            data += frame(part, 0 if number else opcode, mask=mask, fin=last, rsv=0 if number else rsv, size=size)
        return data


class WebSocketTarget(Target):
    """Feeds a decoder of the given side, ``'server'`` or ``'client'``."""

    def __init__(self, side: str) -> None:
        self._client = side == 'client'
        super().__init__(f'websocket-{side}', MessageMutator(self._client))

    def _choices(self, rng: random.Random) -> dict[str, Any]:
        return {'limits': rng.randrange(len(LIMITS)), 'deflate': rng.random() < 0.4}

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` if one of ``samples`` breaks a rule."""
        for sample in samples:
            self._check(sample)

    def _check(self, sample: Sample) -> None:
        size, fragments = LIMITS[sample.scenario['limits']]
        deflates = sample.scenario['deflate']
        whole, rest = self._drive([sample.data], size, fragments, deflates)
        others, _ = self._drive(sample.pieces(), size, fragments, deflates)
        if comparable(others, deflates) != comparable(whole, deflates):
            raise Finding('cut', f'whole: {whole!r}, in pieces: {others!r}')
        for each in whole:
            if isinstance(each, (str, bytes)):
                encoded = each.encode() if isinstance(each, str) else each
                if len(encoded) > size:
                    raise Finding('size', f'a message of {len(encoded)} bytes, and the limit is {size}')
        if size == UNLIMITED and not deflates:
            expected = by_wsproto(self._client, sample.data)
            if whole != expected and not (rest < MAX_HEADER and whole == expected[:-1] and is_error(expected[-1])):
                raise Finding('wsproto', f'{whole!r} instead of {expected!r}')

    def _drive(self, pieces: Sequence[bytes], size: int, fragments: int, deflates: bool) -> tuple[list[Any], int]:
        """Return the results of a decoder, and the number of bytes that it holds."""
        agreed = accept_offer('permessage-deflate; client_max_window_bits', Deflate({})) if deflates else None
        decoder = FrameReader(self._client, size, fragments, agreed[1] if agreed else None)
        found: list[Any] = []
        for piece in pieces:
            decoder.feed(piece)
            try:
                while (each := decoder.next()) is not None:
                    if not isinstance(each, FragmentFrame):
                        found.append(each)
                    if isinstance(each, CloseFrame):
                        return found, MAX_HEADER
            except WebSocketClosed as error:
                if error.close_code not in (1002, 1007, 1008, 1009):
                    raise Finding('code', f'{error!r} with {error.close_code}') from error
                return [*found, ('error', error.close_code)], MAX_HEADER
        return found, len(decoder._data) - decoder._position


def is_error(found: Any) -> bool:
    """Return whether ``found`` is an error, and no message."""
    return type(found) is tuple and found[0] == 'error'


def comparable(found: list[Any], deflates: bool) -> list[Any]:
    """Return ``found``, with one code for the errors that a compressed piece can have in either order."""
    if deflates and found and is_error(found[-1]) and found[-1][1] in (1007, 1009):
        return [*found[:-1], ('error', 1007)]
    return found


def by_wsproto(client: bool, data: bytes) -> list[Any]:
    """Return the messages, control frames and the error of wsproto's decoder."""
    protocol = FrameProtocol(client, [])
    protocol.receive_bytes(data)
    found: list[Any] = []
    parts: list[Any] = []
    try:
        for each in protocol.received_frames():
            payload: Any = each.payload
            if each.opcode is Opcode.CLOSE:
                return [*found, CloseFrame(*payload)]
            if each.opcode is Opcode.PING:
                found.append(PingFrame(bytes(payload)))
            elif each.opcode is Opcode.PONG:
                found.append(PongFrame(bytes(payload)))
            else:
                parts.append(payload)
                if each.message_finished:
                    found.append(type(payload)().join(parts))
                    parts = []
    except ParseFailed as error:
        found.append(('error', int(error.code)))
    return found
