"""A bounded memory for what was parsed lately, so that bytes that come again and again are parsed once.

Connections repeat themselves: the same client sends the same header section with each of its requests, and many
clients send the same one. A :class:`ParseCache` maps the bytes to the result of a parsing function. A value is shared
by all messages with the same bytes, so it is never changed and never handed to an application.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from geventnode.errors import ParseError

__all__ = ['ParseCache']

_Value = TypeVar('_Value')


class ParseCache(dict[bytes, _Value]):
    """``memo[data]`` is ``make(data)``, remembered from the second time on; what ``make`` raises is not.

    What never comes again would push out what does, and keeping it costs half as much as making it: of a first time
    only the hash is kept. There are two generations of entries. The dict itself is the young one; when it is full it
    becomes the old one, whose entries are forgotten unless they are asked for before it is replaced in turn. ``get``
    sees the young ones only, and makes nothing. Threads may share a memo: at worst, one makes what another has just
    made.

    :param make: what to remember.
    :param max_entries: entries of a generation.
    :param max_key: bytes of a key; what was made of more is not kept.
    """

    __slots__ = ('make', 'max_entries', 'max_key', 'old', 'seen')

    def __init__(self, make: Callable[[bytes], _Value], max_entries: int = 256, max_key: int = 2048) -> None:
        super().__init__()
        self.make = make
        self.max_entries = max_entries
        self.max_key = max_key
        self.old: dict[bytes, _Value] = {}
        self.seen: set[int] = set()

    def look_up(self, data: bytes) -> _Value | None:
        """Return ``self[data]``, or None when that raises ParseError."""
        try:
            return self[data]
        except ParseError:
            return None

    def __missing__(self, data: bytes) -> _Value:
        value = self.old.get(data)
        if value is None:
            value = self.make(data)
            if len(data) > self.max_key or self._is_new(data):
                return value
        if len(self) >= self.max_entries:
            self.old = dict(self)
            self.clear()
        self[data] = value
        return value

    def _is_new(self, data: bytes) -> bool:
        """Return whether a key was not asked for lately, and take note that it was."""
        seen, number = self.seen, hash(data)
        if number in seen:
            return False
        if len(seen) >= self.max_entries:
            seen.clear()
        seen.add(number)
        return True
