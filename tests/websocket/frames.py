"""Frames for tests, made and read without the package and without wsproto (RFC 6455, section 5.2)."""

from __future__ import annotations

from typing import Any

__all__ = ['HANDSHAKE', 'KEY', 'MASK', 'TOKEN', 'close_frame', 'frame', 'read_frame']

MASK = b'\x37\xfa\x21\x3d'
#: The example of section 1.3.
KEY, TOKEN = 'dGhlIHNhbXBsZSBub25jZQ==', 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
HANDSHAKE = ('Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', f'Sec-WebSocket-Key: {KEY}')


def masked(payload: bytes, mask: bytes) -> bytes:
    """Return ``payload`` masked, byte by byte."""
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def frame(
    payload: bytes, opcode: int, *, mask: bytes | None = MASK, fin: bool = True, rsv: int = 0, size: int | None = None
) -> bytes:
    """Return a frame, of a client unless ``mask`` is None.

    :param rsv: the reserved bits, as in the first byte.
    :param size: the bytes of the extended length, 0, 2 or 8; the shortest unless given.
    """
    length = len(payload)
    if size is None:
        size = 0 if length < 126 else 2 if length < 65536 else 8
    flag = 0 if mask is None else 0x80
    head = bytes([(0x80 if fin else 0) | rsv | opcode, flag | {0: length, 2: 126, 8: 127}[size]])
    head += length.to_bytes(size, 'big') if size else b''
    return head + (payload if mask is None else mask + masked(payload, mask))


def close_frame(code: int | None = 1000, reason: bytes = b'', mask: bytes | None = MASK) -> bytes:
    """Return a close frame."""
    return frame(b'' if code is None else code.to_bytes(2, 'big') + reason, 8, mask=mask)


def read_frame(client: Any) -> tuple[int, bytes]:
    """Return the first byte and the payload of the next frame of a server, from a raw client."""
    first, second = client.exactly(2)
    assert second < 0x80, 'a frame of a server is not masked'
    size = second
    if size > 125:
        size = int.from_bytes(client.exactly(2 if size == 126 else 8), 'big')
    return first, client.exactly(size) if size else b''
