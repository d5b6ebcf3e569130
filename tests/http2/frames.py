"""Frames of HTTP/2 as bytes, and a client that sends any of them.

It shares no code with the server: neither ``hpack`` nor ``hyperframe``. Heads have literal fields only, and
those of the server are not decoded.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

from gevent import socket

from tests.servers import GUARD

__all__ = [
    'ACK',
    'CONTINUATION',
    'DATA',
    'END_HEADERS',
    'END_STREAM',
    'GOAWAY',
    'HEADERS',
    'PADDED',
    'PING',
    'PREFACE',
    'PRIORITY',
    'PRIORITY_FIELDS',
    'PUSH_PROMISE',
    'RST_STREAM',
    'SETTINGS',
    'UNKNOWN',
    'WINDOW_UPDATE',
    'FrameClient',
    'block',
    'frame',
    'literal',
    'number',
    'request',
    'setting',
]

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
UNKNOWN = 0xBB
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITY_FIELDS = 0x4, 0x8, 0x20


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b'') -> bytes:
    """Return a frame (RFC 9113, section 4.1)."""
    return struct.pack('>I', len(payload))[1:] + struct.pack('>BBI', kind, flags, stream) + payload


def number(value: int) -> bytes:
    """Return a payload of four bytes."""
    return struct.pack('>I', value)


def setting(identifier: int, value: int) -> bytes:
    """Return one setting."""
    return struct.pack('>HI', identifier, value)


def _integer(value: int, bits: int) -> bytes:
    """Return an integer of HPACK, without the bits before it (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    parts = bytearray([most])
    value -= most
    while value >= 128:
        parts.append(value % 128 + 128)
        value //= 128
    parts.append(value)
    return bytes(parts)


def literal(name: str, value: str, first: int = 0) -> bytes:
    """Return a field with a literal name (RFC 7541, section 6.2).

    :param first: 0x40 to add the field to the dynamic table.
    """
    return b''.join([bytes([first]), *(_integer(len(text), 7) + text.encode('latin-1') for text in (name, value))])


@functools.cache
def block(path: str = '/', method: str = 'GET', *fields: tuple[str, str]) -> bytes:
    """Return the header block of a request."""
    pairs = [(':method', method), (':scheme', 'http'), (':authority', 'localhost'), (':path', path), *fields]
    return b''.join(literal(*pair) for pair in pairs)


def request(stream: int = 1, path: str = '/', *fields: tuple[str, str], end: bool = True, method: str = 'GET') -> bytes:
    """Return a request in one frame.

    :param end: whether the stream ends with it.
    """
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(path, method, *fields))


class FrameClient:
    """A connection of an HTTP/2 client, which has sent its preface unless ``greeting`` is replaced.

    :param where: the address of the server.
    :param greeting: the first bytes.
    """

    def __init__(self, where: Any, greeting: bytes = PREFACE + frame(SETTINGS)) -> None:
        self._socket = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self._socket.settimeout(GUARD)
        self._socket.connect(where)
        self._received = b''
        #: The frames of the server: type, flags, stream and payload.
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.closed = False
        self.send(greeting)

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def read(self) -> tuple[int, int, int, bytes] | None:
        """Return the next frame, or None after the last one. Blocks until it has arrived."""
        while len(self._received) < 9 or len(self._received) < 9 + self._length:
            try:
                data = self._socket.recv(65536)
            except ConnectionResetError:
                data = b''
            if not data:
                self.closed = True
                return None
            self._received += data
        end = 9 + self._length
        kind, flags, stream = struct.unpack('>BBI', self._received[3:9])
        found = kind, flags, stream, self._received[9:end]
        self._received = self._received[end:]
        self.frames.append(found)
        return found

    @property
    def _length(self) -> int:
        return int.from_bytes(self._received[:3], 'big')

    def until(self, kind: int, stream: int | None = None, flags: int = 0) -> bytes | None:
        """Return the payload of the next frame of a type; None if there is none. Blocks until then.

        :param stream: the stream, or None for any.
        :param flags: flags that the frame has.
        """
        while (found := self.read()) is not None:
            if found[0] == kind and stream in (None, found[2]) and found[1] & flags == flags:
                return found[3]
        return None

    def goaway(self) -> tuple[int, int] | None:
        """Return the last stream and the code of the next GOAWAY. Blocks until it has arrived."""
        payload = self.until(GOAWAY)
        return None if payload is None else struct.unpack('>II', payload[:8])

    def wait_closed(self) -> None:
        """Block until the server has closed."""
        while self.read() is not None:
            pass

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
