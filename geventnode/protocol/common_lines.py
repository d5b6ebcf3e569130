"""The field lines with which the heads of one connection begin.

A client repeats most lines of its heads, usually before those that differ, such as a cookie or an id. A parser learns
the lines with which the heads of its connection begin. Further heads are compared with these lines as a whole, and
their fields are copied. A head of twelve fields, ten of them learned, takes 33 thousand instructions instead of 40.

Only lines that :data:`~geventnode.protocol.field_lines.FIELD_LINES` keeps are among them: no secrets.
"""

from __future__ import annotations

from typing import Any

from geventnode.protocol.field_lines import FIELD_LINES

__all__ = ['MAX_LEARNED', 'CommonLines', 'learn']

#: Fewer lines are not worth the comparison. More bytes are not kept.
MIN_LINES, MAX_SIZE = 4, 2048

#: How many different ones are kept for all connections of the process.
MAX_KEPT = 256

#: How often a connection learns, at most: its second head can have lines that the third one has not.
MAX_LEARNED = 4


class CommonLines:
    """Lines, and the fields in them. Connections share it through weak references; it is never changed."""

    __slots__ = ('__weakref__', 'count', 'fields', 'size', 'text')

    def __init__(self, text: bytes, fields: dict[str, Any]) -> None:
        #: The lines, each with its line end.
        self.text = text
        self.size = len(text)
        #: The fields by lower-cased name: as many as lines.
        self.fields = fields
        self.count = len(fields)


_kept: dict[bytes, CommonLines] = {}


def learn(data: bytes, before: CommonLines | None) -> CommonLines | None:
    """Return the lines with which the heads of a connection begin.

    It is None if they are too few.

    :param data: a valid head of the connection.
    :param before: the lines that this head does not begin with; None: none were learned.
    """
    lines = data.split(b'\r\n')[1:-2]
    count = 0
    if before is None:
        while count < len(lines) and lines[count] in FIELD_LINES:
            count += 1
    else:
        known = before.text.split(b'\r\n')
        while count < len(lines) and lines[count] == known[count]:
            count += 1
    text = b'\r\n'.join((*lines[:count], b''))
    if count < MIN_LINES or len(text) > MAX_SIZE:
        return None
    found = _kept.get(text)
    if found is None:
        found = CommonLines(text, dict(map(FIELD_LINES.__getitem__, lines[:count])))
        if found.count != count:
            # the values of a repeated field must be joined
            return None
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[text] = found
    return found
