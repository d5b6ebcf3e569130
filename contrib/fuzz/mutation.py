"""Structure-aware mutations of HTTP messages.

A seed is changed by a few small operations. Half of them know what a message is made of (lines, fields, numbers,
bodies), so that most results stay near enough to HTTP to reach deep into a parser; the others change bytes. Everything
at random comes from the generator that is handed in: the same seed of it gives the same inputs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from contrib.fuzz.composition import FIELDS, chunked, composed, content, noise, start_line
from contrib.fuzz.seeds import good_seeds, seeds

__all__ = ['LONGEST', 'Mutator']

#: Bytes of an input, but for the few that are to be longer than any buffer or limit.
LONGEST, LONGEST_OF_FEW = 2000, 70_000
FEW = 0.001

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

#: How many operations an input undergoes.
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

    def make(self, chance: random.Random) -> bytes:
        """Return an input."""
        origin = chance.random()
        if origin < 0.02:
            return noise(chance)
        data = composed(self.kind, chance) if origin < 0.3 else self._seed(chance)
        data = self.change(data, chance)
        if chance.random() < FEW:
            return inflate(data, chance)[:LONGEST_OF_FEW]
        return data[:LONGEST]

    def change(self, data: bytes, chance: random.Random) -> bytes:
        """Return ``data`` after some operations."""
        for operation in chance.choices(self._operations, k=chance.choice(COUNTS)):
            data = operation(data, chance)
        return data

    def _seed(self, chance: random.Random) -> bytes:
        return chance.choice(self._good if chance.random() < 0.6 else self._seeds)

    def _splice(self, data: bytes, chance: random.Random) -> bytes:
        """Put a part of another seed somewhere."""
        other = chance.choice(self._seeds)
        start = place(other, chance)
        where = place(data, chance)
        return data[:where] + other[start : start + 1 + int(chance.random() * 60)] + data[where:]

    def _append(self, data: bytes, chance: random.Random) -> bytes:
        """Let another message follow."""
        return data + self._seed(chance)

    def _prepend(self, data: bytes, chance: random.Random) -> bytes:
        """Let another message go before."""
        return composed(self.kind, chance) + data

    def _replace_start(self, data: bytes, chance: random.Random) -> bytes:
        """Change the first line."""
        return start_line(self.kind, chance) + b'\r\n' + data.partition(b'\r\n')[2]


def place(data: bytes, chance: random.Random) -> int:
    """Return a position in ``data``, its end included."""
    return int(chance.random() * (len(data) + 1))


# -- bytes ----------------------------------------------------------------------------------------------------------


def change_byte(data: bytes, chance: random.Random) -> bytes:
    where = place(data, chance)
    return data[:where] + bytes((int(chance.random() * 256),)) + data[where + 1 :]


def delete_bytes(data: bytes, chance: random.Random) -> bytes:
    where = place(data, chance)
    return data[:where] + data[where + 1 + int(chance.random() * 8) :]


def insert_bit(data: bytes, chance: random.Random) -> bytes:
    where = place(data, chance)
    return data[:where] + chance.choice(_BITS) + data[where:]


def double_part(data: bytes, chance: random.Random) -> bytes:
    start = place(data, chance)
    stop = start + int(chance.random() * 40)
    return data[:stop] + data[start:stop] + data[stop:]


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: place(data, chance)]


def inflate(data: bytes, chance: random.Random) -> bytes:
    """Repeat a part so often that it goes beyond a limit."""
    start = place(data, chance)
    stop = start + 1 + int(chance.random() * 40)
    part = data[start:stop] or b'x'
    return data[:start] + part * (int(chance.random() * LONGEST_OF_FEW) // len(part)) + data[stop:]


# -- constructs -----------------------------------------------------------------------------------------------------


def _change_match(
    pattern: re.Pattern[bytes], data: bytes, chance: random.Random, change: Callable[[bytes], bytes]
) -> bytes:
    """Change one of the matches of ``pattern``; without any, nothing."""
    found = list(pattern.finditer(data, 0, LONGEST))
    if not found:
        return data
    start, stop = chance.choice(found).span()
    return data[:start] + change(data[start:stop]) + data[stop:]


def change_number(data: bytes, chance: random.Random) -> bytes:
    return _change_match(_NUMBER, data, chance, lambda number: chance.choice(_NUMBERS))


def change_line_end(data: bytes, chance: random.Random) -> bytes:
    return _change_match(_LINE_END, data, chance, lambda line_end: chance.choice(_LINE_ENDS))


def change_value(data: bytes, chance: random.Random) -> bytes:
    return _change_match(_VALUE, data, chance, lambda value: b':' + chance.choice(FIELDS).partition(b':')[2])


def recase_name(data: bytes, chance: random.Random) -> bytes:
    return _change_match(_NAME, data, chance, bytes.swapcase)


# -- lines ----------------------------------------------------------------------------------------------------------


def _line(lines: list[bytes], chance: random.Random) -> int:
    return int(chance.random() * len(lines))


def drop_line(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    del lines[_line(lines, chance)]
    return b'\r\n'.join(lines)


def repeat_line(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    lines.insert(_line(lines, chance), lines[_line(lines, chance)])
    return b'\r\n'.join(lines)


def swap_lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    one, other = _line(lines, chance), _line(lines, chance)
    lines[one], lines[other] = lines[other], lines[one]
    return b'\r\n'.join(lines)


def insert_field(data: bytes, chance: random.Random) -> bytes:
    start, line_end, rest = data.partition(b'\r\n')
    return b'\r\n'.join((start, chance.choice(FIELDS), rest)) if line_end else data + chance.choice(FIELDS)


def replace_field(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b'\r\n')
    lines[_line(lines, chance)] = chance.choice(FIELDS)
    return b'\r\n'.join(lines)


# -- bodies ---------------------------------------------------------------------------------------------------------


def give_length(data: bytes, chance: random.Random) -> bytes:
    """Give the first message a body with a length, if its fields do not contradict."""
    body = content(chance)
    return _with_body(data, b'Content-Length: %d' % len(body), body, chance)


def give_chunks(data: bytes, chance: random.Random) -> bytes:
    """Give the first message a body in chunks, if its fields do not contradict."""
    return _with_body(data, b'Transfer-Encoding: chunked', chunked(chance), chance)


def _with_body(data: bytes, field: bytes, body: bytes, chance: random.Random) -> bytes:
    head, end, rest = data.partition(b'\r\n\r\n')
    lines = [
        line for line in head.split(b'\r\n') if not line.lower().startswith((b'content-length', b'transfer-encoding'))
    ]
    return b'\r\n'.join((*lines, field, b'', body)) + (rest if end and chance.random() < 0.7 else b'')
