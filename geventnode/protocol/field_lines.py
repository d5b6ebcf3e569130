"""Field lines that arrived lately, parsed once.

Few header sections equal one that was seen before: a cookie, a request id or a length differs. Most of their *lines* do
not differ: a browser sends the same Accept, Accept-Encoding and User-Agent with each of its requests. A line is
therefore parsed once and found by its bytes afterwards. Values that rarely repeat, or are secret, are parsed each time
and not kept.
"""

from __future__ import annotations

from geventnode.protocol.grammar import FIELD_CHARACTERS, KNOWN_NAMES, SECRET_NAME, is_token

__all__ = ['FIELD_LINES', 'PRINTABLE', 'FieldLines', 'MalformedLine', 'is_kept']

#: Fields with values of one message or of one client. Their lines are not kept. Date is that of every response of a
#: server within a second. Nor are those with credentials.
NOT_KEPT = frozenset(
    (
        'age',
        'content-length',
        'content-range',
        'etag',
        'expires',
        'if-modified-since',
        'if-none-match',
        'last-modified',
        'location',
        'range',
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

#: Entries of a generation of lines; names of fields with lines that are kept, and names of the others.
MAX_LINES, MAX_NAMES = 512, 1024

#: Bytes of the longest name that is kept.
MAX_NAME = 64


#: Changes each byte that is not printable ASCII.
PRINTABLE = bytes(byte if 0x20 <= byte <= 0x7E else 0x80 ^ byte for byte in range(256))


class MalformedLine(Exception):
    """A line breaks a rule of RFC 9112, section 5."""


class FieldLines(dict[bytes, tuple[str, str]]):
    """A dict from field lines to their names and values.

    Names are in lower case, values have no blanks around them.

    There are two generations of entries. The dict itself is the young one. When it is full it becomes the old one, and
    an entry that is not looked up before the next change is forgotten. Threads can share it: at worst, one parses a
    line that another thread has just parsed.

    Raises :class:`MalformedLine`.
    """

    __slots__ = ('_names', '_old', 'names_not_kept')

    def __init__(self) -> None:
        super().__init__()
        spellings = {name.encode('ascii'): lower for name, lower in KNOWN_NAMES.items()}
        for lower in NOT_KEPT:
            spellings.update({name.encode('ascii'): lower for name in (lower, lower.title())})
        #: The lower-cased names by spelling: of fields with lines that are kept, and of the others.
        self._names = {name: lower for name, lower in spellings.items() if is_kept(lower)}
        self.names_not_kept = {name: lower for name, lower in spellings.items() if not is_kept(lower)}
        self._old: dict[bytes, tuple[str, str]] = {}

    def __missing__(self, line: bytes) -> tuple[str, str]:
        name, colon, value = line.partition(b': ')
        lower = self.names_not_kept.get(name)
        # The usual line that is not kept: the translation changes any other value than printable ASCII.
        if lower is not None and colon and value.translate(PRINTABLE) == value:
            return lower, value.decode().strip()
        return self.parse(line)

    def parse(self, line: bytes) -> tuple[str, str]:
        """Parse a line that was not found, and keep it if allowed.

        Raises :class:`MalformedLine`.
        """
        name, colon, value = line.partition(b':')
        lower = self.names_not_kept.get(name)
        if lower is None:
            found = self._old.get(line)
            if found is not None:
                return self._keep(line, found)
        text = value.decode('latin-1')
        # Every printable character of latin-1 can be in a value; so can some others.
        if not (colon and (text.isprintable() or not value.translate(None, FIELD_CHARACTERS))):
            raise MalformedLine
        text = text.strip(' \t')
        if lower is not None:
            return lower, text
        lower = self._names.get(name)
        if lower is None:
            lower = self._new_name(name)
            if not is_kept(lower):
                return lower, text
        if len(line) > MAX_LINE:
            return lower, text
        return self._keep(line, (lower, text))

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
        names = self._names if is_kept(lower) else self.names_not_kept
        if len(name) <= MAX_NAME and len(names) < MAX_NAMES:
            names[name] = lower
        return lower


def is_kept(lower: str) -> bool:
    """Return whether lines of the field ``lower`` are kept."""
    return lower not in NOT_KEPT and SECRET_NAME.search(lower) is None


#: The lines of all messages of this process.
FIELD_LINES = FieldLines()
