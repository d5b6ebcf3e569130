"""A bounded cache of recent parse results.

Some clients send the same head with each of their requests, and many clients send the same one. A :class:`ParseCache`
maps the bytes to the result of a parsing function. A value is shared by all messages with the same bytes, so it is
never changed and never given to an application.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ['ParseCache']

#: Misses in a row after which one of a number of keys is looked up.
MANY_MISSES, SAMPLED = 64, 16

_Value = TypeVar('_Value')


class ParseCache(dict[bytes, _Value]):
    """A dict in which ``cache[data]`` is ``parse(data)``.

    Results are stored from the second look-up on. Data that never repeats would displace data that does, and storing a
    result takes half the time of parsing. After the first look-up, only the hash of the data is stored. Exceptions of
    ``parse`` are not stored.

    There are two generations of entries. The dict itself is the young one. When it is full, it becomes the old one, and
    the previous old one is dropped. A look-up moves an old entry to the young generation. ``get`` finds only young
    entries, and does not parse.

    After :data:`MANY_MISSES` of them in a row, ``find`` looks for one of :data:`SAMPLED` keys only, until it finds one:
    hashing a head and looking for it in vain would take a tenth of the time of parsing it.

    Threads can share a cache: in the worst case, one parses data that another has just parsed.

    :param parse: the function that parses a key.
    :param max_entries: the number of entries of a generation.
    :param max_key: the maximum length of a stored key in bytes.
    """

    __slots__ = ('max_entries', 'max_key', 'misses', 'old', 'parse', 'seen')

    def __init__(self, parse: Callable[[bytes], _Value], max_entries: int = 256, max_key: int = 2048) -> None:
        super().__init__()
        self.parse = parse
        self.max_entries = max_entries
        self.max_key = max_key
        self.old: dict[bytes, _Value] = {}
        self.seen: set[int] = set()
        #: How often :meth:`find` has found nothing, since it has found an entry.
        self.misses = 0

    def find(self, data: bytes) -> _Value:
        """Return the entry of ``data``, or parse it."""
        misses = self.misses
        if (misses < MANY_MISSES or not misses % SAMPLED) and len(data) <= self.max_key:
            found = self.get(data)
            if found is not None:
                if misses:
                    self.misses = 0
                return found
            self.misses = misses + 1
            return self.__missing__(data)
        self.misses = misses + 1
        return self.parse(data)

    def __missing__(self, data: bytes) -> _Value:
        value = self.old.get(data)
        if value is None:
            value = self.parse(data)
            seen, number = self.seen, hash(data)
            if number not in seen:
                if len(seen) >= self.max_entries:
                    seen.clear()
                if len(data) <= self.max_key:
                    seen.add(number)
                return value
        if len(self) >= self.max_entries:
            self.old = dict(self)
            self.clear()
        self[data] = value
        return value
