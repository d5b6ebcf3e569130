"""Make inputs that are nearly HTTP/2: frames from a grammar that makes mistakes, and changes of frames and bytes."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FIELDS,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    UNKNOWN,
    WINDOW_UPDATE,
    frame,
    literal,
    number,
    setting,
)

__all__ = ['FrameMutator', 'split']

METHODS = ('GET', 'GET', 'GET', 'POST', 'POST', 'HEAD', 'CONNECT', 'OPTIONS', 'G T', '')
PATHS = ('/', '/', '/a?b=c', '*', '', 'x', '/\xe9', 'localhost:1')
AUTHORITIES = ('localhost', 'localhost', 'localhost:80', 'user@x', '')
FIELDS = (
    ('accept', '*/*'),
    ('cookie', 'a=1'),
    ('cookie', 'b=2'),
    ('content-length', '0'),
    ('content-length', '5'),
    ('content-length', '-1'),
    ('content-length', '99999999999999999999'),
    ('expect', '100-continue'),
    ('expect', 'x'),
    ('host', 'localhost'),
    ('host', 'other'),
    ('te', 'trailers'),
    ('te', 'gzip'),
    ('connection', 'close'),
    ('transfer-encoding', 'chunked'),
    ('upgrade', 'websocket'),
    ('X-Upper', '1'),
    ('x-line', 'a\r\nb'),
    ('x', 'y' * 300),
    (':path', '/again'),
    (':status', '200'),
    (':protocol', 'websocket'),
)
#: Fields of the static table of HPACK, size updates, and references beyond the table.
INDEXED = (
    b'\x82',
    b'\x84',
    b'\x86',
    b'\x87',
    b'\x90',
    b'\xbe',
    b'\xbf',
    b'\x20',
    b'\x3f\xe1\x1f',
    b'\x80',
    b'\xff\x7f',
)
NUMBERS = (0, 1, 2, 8, 100, 16383, 16384, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def split(data: bytes) -> list[bytes]:
    """Return the frames of ``data``, with the preface before the first one; the last one can be incomplete."""
    found = []
    start = 0
    end = len(PREFACE) if data.startswith(PREFACE) else 0
    while True:
        if len(data) >= end + 9:
            end += 9 + int.from_bytes(data[end : end + 3], 'big')
        else:
            end = len(data)
        found.append(data[start:end])
        start = end
        if start >= len(data):
            return found


class FrameMutator:
    """Makes the input of a connection."""

    def make(self, rng: random.Random) -> bytes:
        """Return an input."""
        self._last = 1
        greeting = PREFACE + frame(SETTINGS, 0, 0, self._settings(rng) if rng.random() < 0.3 else b'')
        count = 1 + int(rng.random() ** 3 * 40)
        frames = [greeting, *(self._frames(rng) for _ in range(count))]
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            self._change_frames(frames, rng)
        data = b''.join(frames)
        for _ in range(rng.choice((0, 0, 0, 1, 2, 5))):
            data = self._change_bytes(data, rng)
        return data

    def change(self, data: bytes, rng: random.Random) -> bytes:
        """Return ``data`` with a small change."""
        if rng.random() < 0.5:
            return self._change_bytes(data, rng)
        frames = split(data)
        self._last = 1
        self._change_frames(frames, rng)
        return b''.join(frames)

    # -- frames -------------------------------------------------------------------------------------------------------

    def _frames(self, rng: random.Random) -> bytes:
        """Return a frame, or those of a request."""
        make: Callable[[random.Random], bytes] = rng.choice(
            (
                self._request,
                self._request,
                self._request,
                self._data,
                self._data,
                self._trailers,
                self._reset,
                self._window,
                self._other,
            )
        )
        return make(rng)

    def _stream(self, rng: random.Random) -> int:
        """Return a stream: mostly one that was used lately."""
        chosen = rng.random()
        if chosen < 0.9:
            return max(1, self._last - 2 * int(rng.random() * rng.random() * 6))
        return rng.choice((0, 2, self._last + 2, self._last + 20, 2**31 - 1))

    def _head(self, rng: random.Random) -> bytes:
        pairs = [
            (':method', rng.choice(METHODS) if rng.random() < 0.3 else rng.choice(('GET', 'POST'))),
            (':scheme', rng.choice(('http', 'http', 'https', ''))),
            (':authority', rng.choice(AUTHORITIES) if rng.random() < 0.2 else 'localhost'),
            (':path', rng.choice(PATHS) if rng.random() < 0.2 else f'/{self._last}'),
        ]
        if pairs[0][1] == 'CONNECT' and rng.random() < 0.8:
            # a tunnel, which has neither scheme nor path
            pairs = [pairs[0], (':authority', 'localhost:1')]
        elif rng.random() < 0.1:
            del pairs[rng.randrange(4)]
        pairs += [rng.choice(FIELDS) for _ in range(rng.choice((0, 0, 1, 2, 6)) if rng.random() < 0.5 else 0)]
        if rng.random() < 0.05:
            rng.shuffle(pairs)
        block = b''.join(literal(*pair, rng.choice((0, 0, 0x40, 0x10))) for pair in pairs)
        if rng.random() < 0.2:
            indexed = rng.choice(INDEXED) * rng.choice((1, 1, 2, 200))
            block = indexed + block if rng.random() < 0.3 else block + indexed
        return block

    def _request(self, rng: random.Random) -> bytes:
        if rng.random() < 0.9:
            self._last += 2
        stream = self._last if rng.random() < 0.95 else self._stream(rng)
        flags = END_STREAM if rng.random() < 0.5 else 0
        data = self._block(self._head(rng), stream, flags, rng)
        if not flags and rng.random() < 0.7:
            body = rng.choice((b'', b'hello', b'x' * rng.choice((5, 100, 16384))))
            data += frame(DATA, END_STREAM if rng.random() < 0.8 else 0, stream, body)
        return data

    def _trailers(self, rng: random.Random) -> bytes:
        pairs = rng.choice((('x-sum', '1'), ('te', 'trailers'), rng.choice(FIELDS)))
        return self._block(literal(*pairs), self._stream(rng), END_STREAM if rng.random() < 0.9 else 0, rng)

    def _block(self, block: bytes, stream: int, flags: int, rng: random.Random) -> bytes:
        """Return a header block in one frame or in several."""
        before = b''
        if rng.random() < 0.1:
            flags |= PRIORITY_FIELDS
            before = number(rng.choice((0, stream, 1))) + b'\x10'
        if rng.random() < 0.1:
            flags |= PADDED
            size = rng.choice((0, 1, 5, 255))
            block, before = block + bytes(size if rng.random() < 0.8 else 0), bytes([size]) + before
        if rng.random() < 0.8:
            return frame(HEADERS, flags | END_HEADERS, stream, before + block)
        parts = [block[start : start + 20] for start in range(0, len(block), 20)] or [b'']
        if rng.random() < 0.1:
            parts[1:1] = [b''] * rng.choice((1, 5, 20))
        frames = [frame(HEADERS, flags, stream, before + parts[0])]
        frames += [frame(CONTINUATION, 0, stream, part) for part in parts[1:]]
        if rng.random() < 0.95:
            frames.append(frame(CONTINUATION, END_HEADERS, stream))
        return b''.join(frames)

    def _data(self, rng: random.Random) -> bytes:
        body = b'x' * rng.choice((0, 1, 5, 100, 1000, 16384, 16385 if rng.random() < 0.1 else 10))
        flags = rng.choice((0, 0, END_STREAM))
        if rng.random() < 0.2:
            flags |= PADDED
            body = bytes([rng.choice((0, 1, 5, 255))]) + body
        return frame(DATA, flags, self._stream(rng), body) * rng.choice((1, 1, 1, 5))

    def _reset(self, rng: random.Random) -> bytes:
        return frame(RST_STREAM, 0, self._stream(rng), number(rng.choice((0, 5, 8, 2**32 - 1))))

    def _window(self, rng: random.Random) -> bytes:
        increment = rng.choice(NUMBERS) if rng.random() < 0.5 else rng.randrange(1, 10**5)
        return frame(WINDOW_UPDATE, 0, rng.choice((0, self._stream(rng))), number(increment)) * rng.choice((1, 1, 9))

    def _settings(self, rng: random.Random) -> bytes:
        return b''.join(
            setting(rng.choice((1, 2, 3, 4, 4, 5, 6, 99)), rng.choice(NUMBERS)) for _ in range(rng.choice((1, 1, 3)))
        )

    def _other(self, rng: random.Random) -> bytes:
        kind = rng.choice((SETTINGS, SETTINGS, PING, PRIORITY, GOAWAY, PUSH_PROMISE, CONTINUATION, UNKNOWN))
        if kind == SETTINGS:
            return frame(SETTINGS, 0, 0, self._settings(rng)) if rng.random() < 0.7 else frame(SETTINGS, ACK)
        if kind == PING:
            return frame(PING, rng.choice((0, 0, ACK)), 0, rng.choice((bytes(8), b'geventgo'))) * rng.choice((1, 1, 30))
        if kind == PRIORITY:
            return frame(PRIORITY, 0, self._stream(rng), number(1) + b'\x10') * rng.choice((1, 1, 30))
        if kind == GOAWAY:
            return frame(GOAWAY, 0, 0, number(0) + number(rng.choice((0, 1))) + b'debug')
        return frame(kind, rng.randrange(256), self._stream(rng), rng.randbytes(rng.choice((0, 1, 8, 100))))

    # -- changes ------------------------------------------------------------------------------------------------------

    def _change_frames(self, frames: list[bytes], rng: random.Random) -> None:
        place = rng.randrange(len(frames))
        change = rng.random()
        if change < 0.3:
            frames.insert(place, frames[rng.randrange(len(frames))])
        elif change < 0.5:
            del frames[place]
            frames[:0] = [] if frames else [b'']
        elif change < 0.7:
            other = rng.randrange(len(frames))
            frames[place], frames[other] = frames[other], frames[place]
        elif change < 0.8:
            frames[place] *= rng.choice((2, 20, 120))
        else:
            frames.insert(place + 1, self._frames(rng))

    def _change_bytes(self, data: bytes, rng: random.Random) -> bytes:
        if not data:
            return data
        place = rng.randrange(len(data))
        change = rng.random()
        if change < 0.4:
            # mostly in the header of a frame
            frames = split(data)
            at = sum(map(len, frames[: rng.randrange(len(frames))]))
            place = min(at + rng.randrange(12), len(data) - 1) if rng.random() < 0.7 else place
            return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        if change < 0.6:
            return data[:place] + rng.randbytes(rng.choice((1, 2, 9))) + data[place:]
        if change < 0.8:
            return data[:place] + data[place + rng.choice((1, 2, 9)) :]
        return data[:place] if change < 0.9 else data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
