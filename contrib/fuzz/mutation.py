"""Structure-aware mutations of HTTP messages.

A seed is changed by a few small operations. Half of them use the structure of a message (lines, fields, numbers,
bodies), so that most results are similar enough to HTTP to reach deep into a parser; the others change bytes. All
randomness comes from the given generator: the same seed gives the same inputs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from contrib.fuzz.composition import FIELDS, chunked, composed, content, noise, start_line
from contrib.fuzz.seeds import good_seeds, seeds

__all__ = ['MAX_SIZE', 'Mutator']

#: The most bytes of an input, and of the rare inputs that are longer than every buffer and limit.
MAX_SIZE, MAX_RARE_SIZE = 2000, 70_000
RARE = 0.001

_NUMBER = re.compile(rb'[0-9]+')
_VALUE = re.compile(rb':[^\r\n]*')
_NAME = re.compile(rb'\n[^\r\n:]+:')
_LINE_END = re.compile(rb'\r\n')
_NUMBERS = (
    b'0',
    b'1',
    b'3',
    b'5',
    b'00',
    b'-1',
    b'+1',
    b'1_0',
    b'0x1',
    b'1.0',
    b'10',
    b'16384',
    b'65537',
    b'4294967296',
    b'9223372036854775807',
    b'9223372036854775808',
    b'18446744073709551616',
    b'9' * 5000,
    b'\xb2',
    b'',
)
_LINE_ENDS = (b'\n', b'\r', b'\r\r\n', b'\n\r', b'\r\n\r\n', b'', b' \r\n', b'\r\n ', b'\x00\r\n', b'\x0b', b'\x85')
_BITS = (
    b'\r\n',
    b'\r',
    b'\n',
    b' ',
    b'\t',
    b':',
    b';',
    b',',
    b'"',
    b'\\',
    b'\x00',
    b'\x7f',
    b'\x80',
    b'\xff',
    b'\r\n\r\n',
    b'0\r\n\r\n',
    b'\x0b',
    b'=',
    b'/',
    b'*',
    b'HTTP/1.1',
    b'chunked',
    b'close',
    b'%00',
)

#: The numbers of operations on an input, by frequency.
COUNTS = (0, 1, 1, 1, 1, 2, 2, 3, 5)

Operation = Callable[[bytes, random.Random], bytes]


class Mutator:
    """Makes inputs of one kind of message.

    :param kind: ``'request'`` or ``'response'``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._seeds = seeds(kind)
        self._good = good_seeds(kind)
        self._operations: tuple[Operation, ...] = (
            change_byte,
            delete_bytes,
            insert_bit,
            change_number,
            change_value,
            change_line_end,
            recase_name,
            double_part,
            drop_line,
            repeat_line,
            swap_lines,
            insert_field,
            replace_field,
            truncate,
            give_length,
            give_chunks,
            self._splice,
            self._append,
            self._prepend,
            self._replace_start,
        )

    def make(self, rng: random.Random) -> bytes:
        """Return an input."""
        origin = rng.random()
        if origin < 0.02:
            return noise(rng)
        data = composed(self.kind, rng) if origin < 0.3 else self._seed(rng)
        data = self.change(data, rng)
        if rng.random() < RARE:
            return inflate(data, rng)[:MAX_RARE_SIZE]
        return data[:MAX_SIZE]

    def change(self, data: bytes, rng: random.Random) -> bytes:
        """Return ``data`` after a few operations."""
        for operation in rng.choices(self._operations, k=rng.choice(COUNTS)):
            data = operation(data, rng)
        return data

    def _seed(self, rng: random.Random) -> bytes:
        return rng.choice(self._good if rng.random() < 0.6 else self._seeds)

    def _splice(self, data: bytes, rng: random.Random) -> bytes:
        """Insert a part of another seed."""
        other = rng.choice(self._seeds)
        start = place(other, rng)
        where = place(data, rng)
        return data[:where] + other[start : start + 1 + int(rng.random() * 60)] + data[where:]

    def _append(self, data: bytes, rng: random.Random) -> bytes:
        """Append another message."""
        return data + self._seed(rng)

    def _prepend(self, data: bytes, rng: random.Random) -> bytes:
        """Prepend another message."""
        return composed(self.kind, rng) + data

    def _replace_start(self, data: bytes, rng: random.Random) -> bytes:
        """Change the first line."""
        return start_line(self.kind, rng) + b'\r\n' + data.partition(b'\r\n')[2]


def place(data: bytes, rng: random.Random) -> int:
    """Return a position in ``data``, its end included."""
    return int(rng.random() * (len(data) + 1))


# -- bytes ----------------------------------------------------------------------------------------------------------


def change_byte(data: bytes, rng: random.Random) -> bytes:
    where = place(data, rng)
    return data[:where] + bytes((int(rng.random() * 256),)) + data[where + 1 :]


def delete_bytes(data: bytes, rng: random.Random) -> bytes:
    where = place(data, rng)
    return data[:where] + data[where + 1 + int(rng.random() * 8) :]


def insert_bit(data: bytes, rng: random.Random) -> bytes:
    where = place(data, rng)
    return data[:where] + rng.choice(_BITS) + data[where:]


def double_part(data: bytes, rng: random.Random) -> bytes:
    start = place(data, rng)
    stop = start + int(rng.random() * 40)
    return data[:stop] + data[start:stop] + data[stop:]


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: place(data, rng)]


def inflate(data: bytes, rng: random.Random) -> bytes:
    """Repeat a part until it exceeds a limit."""
    start = place(data, rng)
    stop = start + 1 + int(rng.random() * 40)
    part = data[start:stop] or b'x'
    return data[:start] + part * (int(rng.random() * MAX_RARE_SIZE) // len(part)) + data[stop:]


# -- constructs -----------------------------------------------------------------------------------------------------


def _change_match(
    pattern: re.Pattern[bytes], data: bytes, rng: random.Random, change: Callable[[bytes], bytes]
) -> bytes:
    """Change one match of ``pattern``, if there is any."""
    found = list(pattern.finditer(data, 0, MAX_SIZE))
    if not found:
        return data
    start, stop = rng.choice(found).span()
    return data[:start] + change(data[start:stop]) + data[stop:]


def change_number(data: bytes, rng: random.Random) -> bytes:
    return _change_match(_NUMBER, data, rng, lambda number: rng.choice(_NUMBERS))


def change_line_end(data: bytes, rng: random.Random) -> bytes:
    return _change_match(_LINE_END, data, rng, lambda line_end: rng.choice(_LINE_ENDS))


def change_value(data: bytes, rng: random.Random) -> bytes:
    return _change_match(_VALUE, data, rng, lambda value: b':' + rng.choice(FIELDS).partition(b':')[2])


def recase_name(data: bytes, rng: random.Random) -> bytes:
    return _change_match(_NAME, data, rng, bytes.swapcase)


# -- lines ----------------------------------------------------------------------------------------------------------


def _line(lines: list[bytes], rng: random.Random) -> int:
    return int(rng.random() * len(lines))


def drop_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    del lines[_line(lines, rng)]
    return b'\r\n'.join(lines)


def repeat_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    lines.insert(_line(lines, rng), lines[_line(lines, rng)])
    return b'\r\n'.join(lines)


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    one, other = _line(lines, rng), _line(lines, rng)
    lines[one], lines[other] = lines[other], lines[one]
    return b'\r\n'.join(lines)


def insert_field(data: bytes, rng: random.Random) -> bytes:
    start, line_end, rest = data.partition(b'\r\n')
    return b'\r\n'.join((start, rng.choice(FIELDS), rest)) if line_end else data + rng.choice(FIELDS)


def replace_field(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    lines[_line(lines, rng)] = rng.choice(FIELDS)
    return b'\r\n'.join(lines)


# -- bodies ---------------------------------------------------------------------------------------------------------


def give_length(data: bytes, rng: random.Random) -> bytes:
    """Replace the body of the first message by one with a Content-Length."""
    body = content(rng)
    return _with_body(data, b'Content-Length: %d' % len(body), body, rng)


def give_chunks(data: bytes, rng: random.Random) -> bytes:
    """Replace the body of the first message by a chunked one."""
    return _with_body(data, b'Transfer-Encoding: chunked', chunked(rng), rng)


def _with_body(data: bytes, field: bytes, body: bytes, rng: random.Random) -> bytes:
    head, end, rest = data.partition(b'\r\n\r\n')
    lines = [
        line for line in head.split(b'\r\n') if not line.lower().startswith((b'content-length', b'transfer-encoding'))
    ]
    return b'\r\n'.join((*lines, field, b'', body)) + (rest if end and rng.random() < 0.7 else b'')
