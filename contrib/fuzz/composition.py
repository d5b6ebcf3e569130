"""Compose inputs from a grammar that makes mistakes, and noise from the characters of the syntax.

Lengths and chunk sizes are mostly right, so that the bytes after a body are reached, too.
"""

from __future__ import annotations

import random

__all__ = ['FIELDS', 'chunked', 'composed', 'content', 'noise', 'start_line']

#: Valid first lines.
START_LINES: dict[str, tuple[bytes, ...]] = {
    'request': (
        b'GET / HTTP/1.1',
        b'POST /a?b HTTP/1.1',
        b'HEAD / HTTP/1.1',
        b'PUT /x HTTP/1.0',
        b'GET /x HTTP/1.0',
        b'OPTIONS * HTTP/1.1',
        b'CONNECT a:1 HTTP/1.1',
        b'GET http://b/ HTTP/1.1',
        b'GET /x HTTP/1.2',
        b'DELETE //a HTTP/1.1',
        b'get / HTTP/1.1',
        b'POST / HTTP/1.1',
    ),
    'response': (
        b'HTTP/1.1 200 OK',
        b'HTTP/1.1 200 OK',
        b'HTTP/1.0 404 ',
        b'HTTP/1.1 100 Continue',
        b'HTTP/1.1 304',
        b'HTTP/1.1 101 Switching Protocols',
        b'HTTP/1.1 204 No Content',
        b'HTTP/1.1 103 Early Hints',
        b'HTTP/1.1 500 \xe9',
        b'HTTP/1.1 999 x',
        b'HTTP/1.1 205 Reset Content',
        b'HTTP/1.2 200 OK',
    ),
}
#: Invalid first lines.
WRONG_START_LINES: dict[str, tuple[bytes, ...]] = {
    'request': (
        b'GET * HTTP/1.1',
        b'GET / HTTP/2.0',
        b'GET /',
        b'GET a:1 HTTP/1.1',
        b'',
        b'CONNECT / HTTP/1.1',
        b'GET / HTTP/1.1 ',
        b' GET / HTTP/1.1',
        b'GET  / HTTP/1.1',
        b'GET / http/1.1',
        b'G\x00T / HTTP/1.1',
    ),
    'response': (
        b'HTTP/2 200 OK',
        b'HTTP/1.1 099 x',
        b'HTTP/1.1 200OK',
        b'',
        b'HTTP/1.1  200 OK',
        b'HTTP/1.1 20',
        b'HTTP/1.1 200 \x00',
        b'ICY 200 OK',
    ),
}

#: Field lines about the framing, about the connection, and others; some of them are invalid.
FIELDS: tuple[bytes, ...] = (
    b'Host: a',
    b'Host: a',
    b'host:a:1',
    b'Host: [::1]:1',
    b'Host: a b',
    b'Host: a, b',
    b'Host:',
    b'Content-Length: 5',
    b'Content-Length: 0',
    b'content-length:\t3 ',
    b'Content-Length: 5, 5',
    b'Content-Length: +5',
    b'Content-Length: 18446744073709551616',
    b'Content-Length:',
    b'Transfer-Encoding: chunked',
    b'transfer-encoding: Chunked',
    b'Transfer-Encoding: gzip, chunked',
    b'Transfer-Encoding: chunked, chunked',
    b'Transfer-Encoding: identity',
    b'Transfer-Encoding:\x0bchunked',
    b'Transfer-Encoding: chunked;a=b',
    b'Transfer-Encoding : chunked',
    b'Connection: close',
    b'Connection: keep-alive',
    b'Connection: a, Close,,b',
    b'Connection: upgrade',
    b'Connection: Upgrade\r\nUpgrade: x',
    b'Upgrade: websocket',
    b'Expect: 100-continue',
    b'Expect: x',
    b'Keep-Alive: timeout=5, max=1',
    b'Keep-Alive: timeout=0',
    b'Trailer: A',
    b'TE: trailers',
    b'Set-Cookie: a=b',
    b'Set-Cookie: c',
    b'Cookie: a',
    b'Cookie: b',
    b'X: \t y \t',
    b'X:',
    b'X:y\n',
    b' X: y',
    b'\tX: y',
    b'X',
    b':',
    b': x',
    b'X y: z',
    b'X\x00: y',
    b'X: \x00',
    b'X: \xff\x7f',
    b'X: a\rb',
    b'__proto__: x',
    b'A_B: c',
    b'Accept: */*',
    b'Date: x',
    b'Age: 1',
    b'Age: 2',
    b'Content-Type: text/plain',
)

_CHUNK_LINES: tuple[bytes, ...] = (
    b'5',
    b'05',
    b'A',
    b'0',
    b'00',
    b'5 ',
    b' 5',
    b'5;',
    b'5;a',
    b'5;a=b',
    b'5 ; a = "b\\"c"',
    b'5;a="b',
    b'5;=b',
    b'5x',
    b'+5',
    b'-5',
    b'0x5',
    b'5_0',
    b'',
    b'00000000000000005',
    b'0000000000000005',
    b'ffffffffffffffff',
    b'5;\xff',
    b'5;a=b;c=d',
)
_TRAILERS: tuple[bytes, ...] = (
    b'',
    b'',
    b'A: b\r\n',
    b'A: b\r\nB: c\r\n',
    b'Content-Length: 1\r\n',
    b'A\r\n',
    b' A: b\r\n',
    b'A: b\n',
    b'GET / HTTP/1.1\r\n',
)
_WORDS = b'hello, world\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'
_NOISE = b'\r\n\r\n :;GETHP/1.10\t\x00\xff"'


def chunked(rng: random.Random) -> bytes:
    """Return content in the chunked coding; one of four can be invalid."""
    careless = rng.random() < 0.25
    pieces = []
    for _ in range(int(rng.random() * 4)):
        data = content(rng)
        line = b'%x' % len(data)
        if careless:
            line = rng.choice(_CHUNK_LINES)
        elif rng.random() < 0.2:
            line += rng.choice((b';a', b';a=b', b' ;a="b;\\"c"', b';a;b=c'))
        if data or careless:
            pieces += line, b'\r\n', data, b'\r\n'
    pieces += b'0\r\n', rng.choice(_TRAILERS) if careless else _TRAILERS[int(rng.random() * 4)], b'\r\n'
    return b''.join(pieces)


def content(rng: random.Random) -> bytes:
    """Return a few bytes that can look like the beginning of a message."""
    start = int(rng.random() * len(_WORDS))
    return _WORDS[start : start + int(rng.random() * 20)]


def composed(kind: str, rng: random.Random) -> bytes:
    """Return one to three messages."""
    return b''.join(_message(kind, rng) for _ in range(1 + int(rng.random() * 3)))


def start_line(kind: str, rng: random.Random) -> bytes:
    """Return a first line; one of ten is invalid."""
    return rng.choice((WRONG_START_LINES if rng.random() < 0.1 else START_LINES)[kind])


def _message(kind: str, rng: random.Random) -> bytes:
    lines = [start_line(kind, rng)]
    if kind == 'request' and rng.random() < 0.8:
        lines.append(b'Host: a')
    lines += [rng.choice(FIELDS) for _ in range(int(rng.random() * 4))]
    body = b''
    shape = rng.random()
    if shape < 0.3:
        lines.append(b'Transfer-Encoding: chunked')
        body = chunked(rng)
    elif shape < 0.6:
        body = content(rng)
        lines.append(b'Content-Length: %d' % len(body))
    elif shape < 0.7:
        body = content(rng)
    return b'\r\n'.join((*lines, b'', body))


def noise(rng: random.Random) -> bytes:
    """Return up to 80 characters of the syntax."""
    return bytes(rng.choices(_NOISE, k=int(rng.random() * 80)))
