"""Field lines that arrived lately, parsed once.

Few header sections equal one that was seen before: a cookie, a request id or a length differs. Most of their *lines* do
not differ: a browser sends the same Accept, Accept-Encoding and User-Agent with each of its requests. A line is
therefore parsed once and found by its bytes afterwards. The lines of fields whose values rarely repeat, or are secret,
are parsed each time and not kept.
"""

from __future__ import annotations

from geventnode.protocol.grammar import FIELD_CHARACTERS, KNOWN_NAMES, is_token

__all__ = ['FIELD_LINES', 'FieldLines', 'MalformedLine']

#: Fields whose lines are not kept: their values belong to one message or to one client, and can be credentials.
NOT_KEPT = frozenset(
    (
        'age',
        'authorization',
        'content-length',
        'content-range',
        'cookie',
        'date',
        'etag',
        'expires',
        'if-modified-since',
        'if-none-match',
        'last-modified',
        'location',
        'proxy-authorization',
        'range',
        'set-cookie',
        'traceparent',
        'tracestate',
        'x-amzn-trace-id',
        'x-correlation-id',
        'x-forwarded-for',
        'x-real-ip',
        'x-request-id',
        'x-trace-id',
    )
)

#: Bytes of the longest line that is kept.
MAX_LINE = 512

#: Entries of a generation of lines, and the names that are known beside the common ones.
MAX_LINES, MAX_NAMES = 512, 1024

#: Bytes of the longest name that is kept.
MAX_NAME = 64


class MalformedLine(Exception):
    """A line is not a field line; the caller finds out which rule of RFC 9112, section 5, it breaks."""


class FieldLines(dict[bytes, tuple[str, str]]):
    """``lines[line]`` is the lower-cased name and the value of a field line, without blanks around the value.

    There are two generations of entries. The dict itself is the young one. When it is full it becomes the old one, and
    an entry that is not looked up before the next change is forgotten. Threads can share it: at worst, one parses a
    line that another thread has just parsed.

    Raises :class:`MalformedLine`.
    """

    __slots__ = ('_names', '_old')

    def __init__(self) -> None:
        super().__init__()
        self._names = {name.encode('ascii'): lower for name, lower in KNOWN_NAMES.items()}
        self._old: dict[bytes, tuple[str, str]] = {}

    def __missing__(self, line: bytes) -> tuple[str, str]:
        name, colon, value = line.partition(b':')
        lower = self._names.get(name) or self._new_name(name)
        kept = lower not in NOT_KEPT
        if kept:
            found = self._old.get(line)
            if found is not None:
                return self._keep(line, found)
        if not colon or value.translate(None, FIELD_CHARACTERS):
            raise MalformedLine
        found = lower, value.strip(b' \t').decode('latin-1')
        return self._keep(line, found) if kept and len(line) <= MAX_LINE else found

    def _keep(self, line: bytes, found: tuple[str, str]) -> tuple[str, str]:
        if len(self) >= MAX_LINES:
            self._old = dict(self)
            self.clear()
        self[line] = found
        return found

    def _new_name(self, name: bytes) -> str:
        """Return a name in lower case that was not seen lately."""
        text = name.decode('latin-1')
        if not is_token(text):
            raise MalformedLine
        lower = text.lower()
        if len(name) <= MAX_NAME and len(self._names) < MAX_NAMES:
            self._names[name] = lower
        return lower


#: The lines of all messages of this process.
FIELD_LINES = FieldLines()
