"""Decode the header blocks of requests: HPACK (RFC 7541), with fields as text.

A client sends most of its fields once, and then only their numbers in the dynamic table of the connection. A field is
therefore decoded and checked when it is received as a literal, and the table has the text. Huffman codes are those of
``hpack``; the steps that strings have in common are found once for the process.
"""

from __future__ import annotations

from typing import ClassVar

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable

from geventnode.http2.fields import field_problem, valid_names

__all__ = ['DEFAULT_TABLE_SIZE', 'ENTRY_OVERHEAD', 'BlockError', 'HeaderDecoder', 'ListTooLarge', 'decode_huffman']

#: Bytes of the dynamic table of a connection, unless a setting changes it (RFC 9113, section 6.5.2).
DEFAULT_TABLE_SIZE = 4096

#: Bytes that an entry counts for, beside its name and its value (RFC 7541, section 4.1).
ENTRY_OVERHEAD = 32

#: Changes of the table's size that a block can begin with: the smallest size since the last block, and the present one
#: (RFC 7541, section 4.2).
MAX_SIZE_CHANGES = 2

#: The most bits that an integer can have beyond its first byte: more than any length or index needs.
MAX_INTEGER_BITS = 35

#: The most steps of the Huffman decoder that are remembered: enough for random text of letters and digits.
MAX_STEPS = 16384

Pair = tuple[str, str]

#: The fields of the static table by their number (RFC 7541, appendix A).
_STATIC: list[Pair] = [
    ('', ''),
    *((name.decode('latin-1'), value.decode('latin-1')) for name, value in HeaderTable.STATIC_TABLE),
]
_LAST_STATIC = len(_STATIC) - 1

#: The same by the byte that stands for each, except for the field about the connection.
_BY_BYTE = {0x80 | number: pair for number, pair in enumerate(_STATIC) if number and field_problem(*pair) is None}


class BlockError(Exception):
    """A header block is not valid HPACK: an error of the connection, because the tables no longer agree."""


class ListTooLarge(Exception):
    """The fields of a header block exceed the limit."""


class _State(dict[int, 'tuple[_State, str]']):
    """A state of the Huffman decoder.

    It is a dict of the next state and the text, by the next byte: each entry is made when it is first needed.
    """

    #: The steps of all states, and the states by the number in the table and by whether a string can end there.
    steps: ClassVar[int] = 0
    states: ClassVar[dict[tuple[int, bool], _State]] = {}

    def __init__(self, number: int, complete: bool) -> None:
        super().__init__()
        self.number = number
        self.complete = complete
        self.states[number, complete] = self

    def __missing__(self, byte: int) -> tuple[_State, str]:
        first, first_flags, first_symbol = HUFFMAN_TABLE[self.number << 4 | byte >> 4]
        second, flags, symbol = HUFFMAN_TABLE[first << 4 | byte & 15]
        if (first_flags | flags) & HUFFMAN_FAIL:
            raise BlockError('a string is not Huffman code')
        text = chr(first_symbol) if first_flags & HUFFMAN_EMIT_SYMBOL else ''
        if flags & HUFFMAN_EMIT_SYMBOL:
            text += chr(symbol)
        complete = bool(flags & HUFFMAN_COMPLETE)
        following = self.states.get((second, complete))
        if following is None:
            following = _State(second, complete)
        if _State.steps >= MAX_STEPS:
            # one client can have filled the table with text that no other sends
            _forget_steps()
        _State.steps += 1
        step = self[byte] = following, text
        return step


def _forget_steps() -> None:
    for state in _State.states.values():
        state.clear()
    _State.steps = 0


_START = _State(0, True)


def decode_huffman(data: bytes) -> str:
    """Return the text of Huffman code, a character for each byte. Raises :class:`BlockError`."""
    state, text = _START, ''
    for byte in data:
        state, part = state[byte]
        text += part
    if not state.complete:
        raise BlockError('the end of a string is not Huffman code')
    return text


def _read_integer(block: bytes, position: int, number: int) -> tuple[int, int]:
    """Return an integer, and the position after it.

    :param number: the largest number that its first byte can have; more bytes follow.
    """
    bits = 0
    for position_ in range(position, len(block)):
        byte = block[position_]
        number += (byte & 127) << bits
        bits += 7
        if byte < 128:
            return number, position_ + 1
        if bits >= MAX_INTEGER_BITS:
            raise BlockError('an integer is too large')
    raise BlockError('the end of an integer is missing')


def _read_string(block: bytes, position: int) -> tuple[str, int]:
    """Return a string, and the position after it (RFC 7541, section 5.2)."""
    if position >= len(block):
        raise BlockError('a string is missing')
    first = block[position]
    length = first & 127
    position += 1
    if length == 127:
        length, position = _read_integer(block, position, 127)
    end = position + length
    if end > len(block):
        raise BlockError('the end of a string is missing')
    data = block[position:end]
    return decode_huffman(data) if first > 127 else data.decode('latin-1'), end


class HeaderDecoder:
    """The decoder of one connection.

    :param max_list_size: bytes of the names and values of a block, plus 32 for each field.
    """

    __slots__ = ('_entries', '_free', '_has_problems', '_max_list_size', '_size')

    def __init__(self, max_list_size: int) -> None:
        self._max_list_size = max_list_size
        #: The dynamic table, the newest entry last.
        self._entries: list[Pair] = []
        #: The bytes of the table, and those without an entry.
        self._size = self._free = DEFAULT_TABLE_SIZE
        #: Whether the table can have a field that breaks a rule.
        self._has_problems = False

    def decode(self, block: bytes) -> tuple[list[Pair], int, str | None]:
        """Return the fields of a block, their size, and their first problem.

        :raises BlockError: the block is not valid.
        :raises ListTooLarge: the fields exceed the limit; the rest of the block is not decoded.
        """
        fields: list[Pair] = []
        problem: str | None = None
        static = _BY_BYTE
        size, position, end = 0, 0, len(block)
        size_changes = 0
        while position < end:
            first = block[position]
            position += 1
            if first in static:
                pair = static[first]
            elif first > 127:
                number = first - 128
                if number == 127:
                    number, position = _read_integer(block, position, 127)
                pair = self._entry(number)
                if problem is None and (self._has_problems or number <= _LAST_STATIC):
                    problem = field_problem(*pair)
            elif 32 <= first < 64:
                if fields:
                    raise BlockError('the size of the table changes within a block')
                size_changes += 1
                if size_changes > MAX_SIZE_CHANGES:
                    raise BlockError('the size of the table changes more than twice')
                number = first & 31
                if number == 31:
                    number, position = _read_integer(block, position, 31)
                self._resize(number)
                continue
            else:
                full = 63 if first > 63 else 15
                number = first & full
                if number == full:
                    number, position = _read_integer(block, position, full)
                if number:
                    name = self._entry(number)[0]
                else:
                    name, position = _read_string(block, position)
                    # the tables of all connections share their names
                    name = valid_names.get(name, name)
                value, position = _read_string(block, position)
                pair = name, value
                found = field_problem(name, value)
                if problem is None:
                    problem = found
                if first > 63:
                    self._has_problems = self._has_problems or found is not None
                    self._add(pair)
            size += len(pair[0]) + len(pair[1]) + ENTRY_OVERHEAD
            if size > self._max_list_size:
                raise ListTooLarge
            fields.append(pair)
        return fields, size, problem

    def _entry(self, number: int) -> Pair:
        """Return an entry of the tables (RFC 7541, section 2.3.3)."""
        if number > _LAST_STATIC:
            entries = self._entries
            if number <= _LAST_STATIC + len(entries):
                return entries[_LAST_STATIC - number]
        elif number:
            return _STATIC[number]
        raise BlockError('a field is not in the table')

    def _add(self, pair: Pair) -> None:
        """Add an entry, which can replace others (RFC 7541, section 4.4)."""
        self._free -= len(pair[0]) + len(pair[1]) + ENTRY_OVERHEAD
        self._entries.append(pair)
        self._evict()

    def _resize(self, size: int) -> None:
        if size > DEFAULT_TABLE_SIZE:
            raise BlockError('the table is larger than the setting allows')
        self._free += size - self._size
        self._size = size
        self._evict()

    def _evict(self) -> None:
        """Remove the oldest entries until no byte is missing: all of them, if the newest is larger than the table."""
        while self._free < 0:
            name, value = self._entries.pop(0)
            self._free += len(name) + len(value) + ENTRY_OVERHEAD
        if not self._entries:
            self._has_problems = False
