"""Encode the header blocks of responses: HPACK (RFC 7541), on the side that chooses the representation.

A field in the dynamic table of the connection is one number, which one look-up finds. A field gets there when its name
has the same value for the second time in a row: one that is always different, such as an identifier, takes the place of
no other one. Cookies and credentials are never put into a table, nor by proxies. No value is compressed by Huffman
coding: that would take longer than the rest of the response, for a few bytes.

The static table is that of ``hpack``.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack.table import HeaderTable

from geventnode.http2.header_decoder import DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD

__all__ = ['HeaderEncoder']

#: Names with a last value that one connection remembers, and names with a beginning that all of them share.
MAX_REMEMBERED, MAX_BEGINNINGS = 64, 1024

#: Bytes of the longest name with a beginning that is remembered, so that the names of all of them take little memory.
MAX_NAME = 64

#: Names of secrets, which are never indexed (RFC 7541, section 7.1.3).
SECRETS = frozenset({b'authorization', b'cookie', b'proxy-authorization', b'set-cookie'})

#: The first bits of a representation (RFC 7541, sections 6.1 to 6.3), and the bits of the integer that follows them.
_FIELD, _INDEXING, _NO_INDEXING, _NEVER_INDEXED, _SIZE = (0x80, 7), (0x40, 6), (0x00, 4), (0x10, 4), (0x20, 5)

#: The number of the newest entry in the dynamic table.
_NEWEST = HeaderTable.STATIC_TABLE_LENGTH + 1


def _integer(number: int, flags: int, bits: int) -> bytes:
    """Return ``number`` as an integer of HPACK (RFC 7541, section 5.1).

    :param flags: the first bits of its first byte.
    :param bits: the number of the other bits.
    """
    largest = (1 << bits) - 1
    if number < largest:
        return bytes((flags | number,))
    encoded = bytearray((flags | largest,))
    number -= largest
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


#: Frequent integers, encoded once: numbers of fields, and lengths.
_FIELDS = [_integer(number, *_FIELD) for number in range(256)]
_LENGTHS = [_integer(number, 0, 7) for number in range(256)]

#: The fields and the names in the static table (RFC 7541, appendix A).
_STATIC_FIELDS = {field: _FIELDS[number] for number, field in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_NAMES: dict[bytes, int] = {}
for _number, (_name, _) in enumerate(HeaderTable.STATIC_TABLE, 1):
    _STATIC_NAMES.setdefault(_name, _number)

#: How a literal field begins, by its name: without and with indexing.
_beginnings: dict[bytes, tuple[bytes, bytes]] = {}


def _find_beginning(name: bytes) -> tuple[bytes, bytes]:
    """Return how a literal field begins, up to its value: without and with indexing (RFC 7541, section 6.2)."""
    number = _STATIC_NAMES.get(name, 0)
    text = b'' if number else _integer(len(name), 0, 7) + name
    plain = _NEVER_INDEXED if name in SECRETS else _NO_INDEXING
    found = _integer(number, *plain) + text, _integer(number, *_INDEXING) + text
    if len(_beginnings) < MAX_BEGINNINGS and len(name) <= MAX_NAME:
        _beginnings[name] = found
    return found


class HeaderEncoder:
    """The encoder of one connection."""

    __slots__ = ('_added', '_entries', '_free', '_last', '_size', '_smallest')

    def __init__(self) -> None:
        #: The fields in the dynamic table, the oldest first: how many had been added with each.
        self._entries: dict[tuple[bytes, bytes], int] = {}
        self._added = 0
        #: The bytes of the table, and those without an entry.
        self._size = self._free = DEFAULT_TABLE_SIZE
        #: The smallest size since the last block, if it has changed.
        self._smallest: int | None = None
        #: The hash of the last value of each name that was not in the table.
        self._last: dict[bytes, int] = {}

    def resize(self, size: int) -> None:
        """Set the bytes of the table; the next block reports them.

        :param size: at most the size that the client allows.
        """
        if size == self._size:
            return
        self._smallest = size if self._smallest is None else min(size, self._smallest)
        self._free += size - self._size
        self._size = size
        self._evict()

    def _evict(self) -> None:
        """Remove entries until no byte is missing (RFC 7541, section 4.3)."""
        entries = self._entries
        while self._free < 0:
            field = next(iter(entries))
            del entries[field]
            self._free += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD

    def encode(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the header block of ``fields``: names in lower case, and values."""
        parts: list[bytes] = []
        if self._smallest is not None:
            self._report_size(parts)
        entries, last = self._entries, self._last
        base = self._added + _NEWEST
        for field in fields:
            number = entries.get(field)
            if number is not None:
                number = base - number
                parts.append(_FIELDS[number] if number < 256 else _integer(number, *_FIELD))
                continue
            static = _STATIC_FIELDS.get(field)
            if static is not None:
                parts.append(static)
                continue
            name, value = field
            beginning = _beginnings.get(name) or _find_beginning(name)
            size = len(value)
            kind = 0
            identity = hash(value)
            if last.get(name) == identity:
                if self._add(field):
                    kind = 1
                    base += 1
            elif name not in SECRETS:
                if len(last) >= MAX_REMEMBERED:
                    last.clear()
                last[name] = identity
            parts += (beginning[kind], _LENGTHS[size] if size < 256 else _integer(size, 0, 7), value)
        return b''.join(parts)

    def _report_size(self, parts: list[bytes]) -> None:
        """Report changes of the size in a block (RFC 7541, section 4.2)."""
        smallest, self._smallest = self._smallest, None
        if smallest is not None and smallest < self._size:
            parts.append(_integer(smallest, *_SIZE))
        parts.append(_integer(self._size, *_SIZE))

    def _add(self, field: tuple[bytes, bytes]) -> bool:
        """Add ``field`` to the table, and return True.

        One that is larger than the table is not added.
        """
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        if size > self._size:
            return False
        self._free -= size
        self._evict()
        self._added += 1
        self._entries[field] = self._added
        return True
