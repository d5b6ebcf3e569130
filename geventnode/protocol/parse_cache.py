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

    After :data:`MANY_MISSES` misses in a row, :meth:`look_up` looks for one of :data:`SAMPLED` keys only, until it
    finds one: hashing a head and not finding it would take a tenth of the time of parsing it.

    Threads can share a cache: in the worst case, one parses data that another has just parsed.

    :param parse: the function that parses a key.
    :param max_entries: the number of entries of a generation.
    :param max_key: the maximum length of a stored key in bytes.
    """

    __slots__ = ('max_entries', 'max_key', 'misses', 'old', 'parse', 'seen', 'skip', 'wanted')

    def __init__(self, parse: Callable[[bytes], _Value], max_entries: int = 256, max_key: int = 2048) -> None:
        super().__init__()
        self.parse = parse
        self.max_entries = max_entries
        self.max_key = max_key
        self.old: dict[bytes, _Value] = {}
        self.seen: set[int] = set()
        #: How often :meth:`look_up` has found nothing since it last found an entry.
        self.misses = 0
        #: How many keys :meth:`look_up` does not look for.
        self.skip = 0
        #: The key that :meth:`look_up` has not found for the second time.
        self.wanted: bytes | None = None

    def find(self, data: bytes) -> _Value:
        """Return the entry of ``data``, or parse it."""
        value = self.look_up(data)
        if value is None:
            try:
                value = self.parse(data)
            except BaseException:
                self.wanted = None
                raise
            if self.wanted is data:
                self.store(data, value)
        return value

    def look_up(self, data: bytes) -> _Value | None:
        """Return the entry of ``data``, or None.

        :attr:`wanted` is then ``data`` if its value is to be stored. A caller that cannot parse it sets that to None,
        so that the cache keeps no data without a value.
        """
        skip = self.skip
        if skip:
            self.skip = skip - 1
            return None
        if len(data) > self.max_key:
            return None
        found = self.get(data)
        if found is not None:
            self.misses = 0
            return found
        found = self.old.get(data)
        if found is not None:
            self.misses = 0
            self.store(data, found)
            return found
        if self._is_second(data):
            self.wanted = data
        misses = self.misses + 1
        if misses >= MANY_MISSES:
            self.skip = SAMPLED - 1
        self.misses = misses
        return None

    def store(self, data: bytes, value: _Value) -> None:
        """Store ``value`` as the result for ``data``."""
        self.wanted = None
        if len(self) >= self.max_entries:
            self.old = dict(self)
            self.clear()
        self[data] = value

    def _is_second(self, data: bytes) -> bool:
        """Return whether ``data`` was looked up before, and remember it."""
        seen, number = self.seen, hash(data)
        if number in seen:
            return True
        if len(seen) >= self.max_entries:
            seen.clear()
        if len(data) <= self.max_key:
            seen.add(number)
        return False

    def __missing__(self, data: bytes) -> _Value:
        value = self.old.get(data)
        if value is None:
            value = self.parse(data)
            if not self._is_second(data):
                return value
        self.store(data, value)
        return value
