"""Render the fields of responses, and remember lines that repeat.

Most heads differ from all others: in a length, a cookie, an entity tag or an id. Most of their lines do not differ. A
line is therefore rendered once, and found by its name and value afterwards. The values of a name that has many of them
are checked and rendered each time, and no longer remembered.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from geventnode.http.header_fields import Fields, join_field
from geventnode.http.server.response_head import RESPONSE_FRAMING_FIELDS
from geventnode.protocol.field_lines import is_kept
from geventnode.protocol.grammar import KNOWN_NAMES, is_token

__all__ = ['render_plain_fields']

#: The number of names and of characters in one, of values of a name, and of characters in one. The lines of a name with
#: more values rarely repeat.
MAX_NAMES, MAX_NAME, MAX_VALUES, MAX_VALUE = 512, 64, 32, 256

#: The number of fields in a head with a new name.
MAX_FIELDS = 64

#: Fields that need more than the checks of this module.
_UNUSUAL = RESPONSE_FRAMING_FIELDS | {'host'}

#: By name: the lower-cased name, whether it is an unusual one, and its lines by value, or None if they are not
#: remembered.
_names: dict[str, tuple[str, bool, dict[str, str] | None]] = {}

# of str itself: a subclass can have other methods
_is_printable, _is_ascii, _is_decimal = str.isprintable, str.isascii, str.isdecimal


def _add_names(pairs: Collection[tuple[Any, Any]]) -> bool:
    """Remember the names of a head.

    Returns whether all are tokens that can be remembered.
    """
    if len(pairs) > MAX_FIELDS:
        return False
    if len(_names) > MAX_NAMES:
        _names.clear()
    for name, _ in pairs:
        if name not in _names:
            if type(name) is not str or len(name) > MAX_NAME or not is_token(name):
                return False
            _add_name(name)
    return True


def _add_name(name: str) -> None:
    lower = name.lower()
    unusual = lower in _UNUSUAL
    _names[name] = lower, unusual, {} if is_kept(lower) and not unusual else None


for _spelling in KNOWN_NAMES:
    _add_name(_spelling)


def render_plain_fields(
    first: str, pairs: Collection[tuple[str, Any]], takes_int: bool
) -> tuple[Fields, str, str | None] | None:
    """Check and render usual fields.

    Returns them by name, the lines of the head, and the value of Content-Length, which has no line. The last line has
    no line end. Returns None for fields that need more than the checks of this function: a name that
    is not a token, that occurs twice or that is about the connection, or a value that is not printable ASCII text.

    :param first: the status line without its line end.
    :param pairs: names and values, as tuples.
    :param takes_int: whether the value of Content-Length can be an int.
    """
    fields: Fields = {}
    rendered = [first]
    length: str | None = None
    try:
        for pair in pairs:
            name, value = pair
            lower, unusual, lines = _names[name]
            if lines is not None:
                line = lines.get(value)
                if line is None:
                    if not (_is_printable(value) and _is_ascii(value)):
                        return None
                    line = join_field(pair)
                    _remember(name, value, line)
                rendered.append(line)
                fields[lower] = pair
            elif not unusual:
                if not _is_printable(value):
                    return None
                rendered.append(join_field(pair))
                fields[lower] = pair
            elif lower == 'content-length':
                if takes_int and type(value) is int and value >= 0:
                    length = f'{value}'
                # another type raises TypeError here
                elif _is_ascii(value) and _is_decimal(value):  # pyright: ignore[reportArgumentType]
                    length = value  # pyright: ignore[reportAssignmentType]
                else:
                    return None
                fields[lower] = name, length
            else:
                return None
    except (TypeError, SystemError):
        # a value that is neither text nor a length; cProfile of Python 3.12 and 3.13 turns one error into the other
        return None
    except KeyError:
        return render_plain_fields(first, pairs, takes_int) if _add_names(pairs) else None
    if len(fields) != len(pairs):
        return None
    start = '\r\n'.join(rendered)
    return (fields, start, length) if start.isascii() else None


def _remember(name: str, value: str, line: str) -> None:
    """Remember the line of a new value."""
    lower, unusual, lines = _names[name]
    if lines is not None and len(value) <= MAX_VALUE and type(value) is str:
        if len(lines) < MAX_VALUES:
            lines[value] = line
        else:
            _names[name] = lower, unusual, None
