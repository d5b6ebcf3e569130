"""The fields of a message to be sent: checked when they are set, stored in order.

The key is the lower-cased name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from geventnode.errors import InvalidHeader
from geventnode.protocol import KNOWN_NAMES, check_name, check_value

__all__ = [
    'Fields',
    'HeadersArgument',
    'add_values',
    'check_field',
    'check_field_value',
    'check_trailers',
    'check_transfer_encoding',
    'copy_value',
    'field_lines',
    'header_pairs',
    'join_field',
    'merge_headers',
]

HeadersArgument = Mapping[str, Any] | Iterable[tuple[str, Any]]

#: Fields that framing, routing or decoding needs: after the body they are too late (RFC 9110, section 6.5.1).
FORBIDDEN_TRAILERS = frozenset(
    {'connection', 'content-encoding', 'content-length', 'content-type', 'host', 'trailer', 'transfer-encoding'}
)

#: Join a name and a value. It sends their text, also that of a subclass of str which formats as another one.
join_field = ': '.join
_known = KNOWN_NAMES.get

#: A name as it was given, and its value or values.
Fields = dict[str, tuple[str, Any]]


def check_field(name: str, value: Any) -> tuple[str, Any]:
    """Return the lower-cased name, and the value as str or list.

    Raises ``InvalidHeader`` for an invalid name or value, and ``TypeError`` for a value that is neither a str, an int
    nor a list of them.
    """
    try:
        lower = KNOWN_NAMES[name]
    except (KeyError, TypeError):
        lower = check_name(name)
    if type(value) is str:
        # printable ASCII, the usual value, needs no regular expression
        if not (value.isascii() and value.isprintable()):
            check_value(name, value)
    else:
        value = check_field_value(name, value)
        if isinstance(value, list):
            if lower == 'content-length' or lower == 'host':
                raise InvalidHeader(f'a message has only one {name}', 'ERR_HTTP_INVALID_HEADER_VALUE')
            return lower, value
    if lower == 'content-length' and not (value.isascii() and value.isdecimal()):
        raise InvalidHeader(f'Content-Length must be a number of bytes, not {value!r}', 'ERR_HTTP_INVALID_HEADER_VALUE')
    return lower, value


def check_field_value(name: str, value: Any) -> Any:
    """Return the value as str or list. Raises as :func:`check_field` does."""
    value = _converted(name, value)
    for item in value if isinstance(value, list) else [value]:
        check_value(name, item)
    return value


def _converted(name: str, value: Any) -> Any:
    if isinstance(value, str):
        # the text, not the result of a __str__ such as that of an enum
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_converted(name, item) for item in value]
    raise TypeError(f'the value of header {name!r} must be str, int or a list of those, not {type(value).__name__}')


def header_pairs(headers: HeadersArgument) -> Iterable[tuple[str, Any]]:
    """Return the (name, value) pairs of ``headers``.

    Raises ``TypeError`` if it is neither a mapping nor an iterable of pairs.
    """
    if isinstance(headers, Mapping):
        return cast('Mapping[str, Any]', headers).items()
    if not isinstance(headers, Iterable):
        raise TypeError(f'headers must be a mapping or an iterable of pairs, not {type(headers).__name__}')
    return headers


def add_values(present: tuple[str, Any] | None, name: str, value: Any) -> tuple[str, Any]:
    """Return the field ``present`` with the lines of ``value`` added.

    Without a field (None), it is a new one of this name.
    """
    if present is None:
        return name, value
    name, before = present
    return name, (before if isinstance(before, list) else [before]) + (value if isinstance(value, list) else [value])


def copy_value(value: Any) -> Any:
    """Return ``value``, or a copy of it if it is a list."""
    return list(value) if isinstance(value, list) else value


def merge_headers(fields: Fields, headers: HeadersArgument) -> Fields:
    """Return a copy of ``fields``, updated with ``headers``.

    Several pairs of one name become several lines. Raises as :func:`check_field` does.
    """
    if type(headers) is dict:
        # the usual headers: text of printable ASCII, and no name twice
        merged = fields.copy()
        for name, value in headers.items():
            if type(value) is not str or not (value.isascii() and value.isprintable()):
                break
            merged[_known(name) or check_name(name)] = name, value
        else:
            if len(merged) == len(fields) + len(headers) and 'content-length' not in merged:
                return merged
    result: Fields = {}
    for name, value in header_pairs(headers):
        lower, checked = check_field(name, value)
        if lower in result:
            result[lower] = add_values(result[lower], name, checked)
            check_field(*result[lower])
        else:
            result[lower] = name, checked
    return {**fields, **result} if fields else result


def field_lines(fields: Fields) -> str:
    """Return the header lines of ``fields``, one for each value."""
    try:
        return '\r\n'.join([*map(join_field, fields.values()), ''])
    except TypeError:
        # a list of values
        pass
    # a format could replace the checked text of a subclass of str, as that of an enum does
    lines: list[str] = []
    for name, value in fields.values():
        for item in [value] if isinstance(value, str) else value:
            lines += name, ': ', item, '\r\n'
    return ''.join(lines)


def check_trailers(headers: HeadersArgument) -> list[tuple[str, str]]:
    """Return ``headers`` as the lines of a trailer section.

    Raises as :func:`check_field` does, and ``InvalidHeader`` for a field that is not allowed in trailers (RFC 9110,
    section 6.5.1).
    """
    lines: list[tuple[str, str]] = []
    for name, value in header_pairs(headers):
        lower, checked = check_field(name, value)
        if lower in FORBIDDEN_TRAILERS:
            raise InvalidHeader(
                f'{name} is not allowed in trailers (RFC 9110, section 6.5.1); set it as a header',
                'ERR_HTTP_TRAILER_INVALID',
            )
        lines += [(name, item) for item in (checked if isinstance(checked, list) else [checked])]
    return lines


def check_transfer_encoding(fields: Fields) -> None:
    """Raise ``InvalidHeader`` unless the Transfer-Encoding in ``fields`` can be sent."""
    value = fields['transfer-encoding'][1]
    if 'content-length' in fields:
        raise InvalidHeader(
            'a message has either Content-Length or Transfer-Encoding; remove one of them',
            'ERR_HTTP_INVALID_HEADER_VALUE',
        )
    codings = [
        coding.strip(' \t').lower() for coding in ','.join(value if isinstance(value, list) else [value]).split(',')
    ]
    if codings[-1] != 'chunked' or 'chunked' in codings[:-1]:
        raise InvalidHeader(
            f'Transfer-Encoding must end in chunked, and have it once: {value!r}', 'ERR_HTTP_INVALID_HEADER_VALUE'
        )
