"""The header map of a message, with Node 20's merge rules.

:class:`Headers` is a dict with lower-case keys. A look-up with a lower-case name is as fast as in a dict; only a name
that is not found is converted and looked up again. Values are collected in lists and joined once, so that a thousand
equal fields take a thousand steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from geventnode.protocol.grammar import lower_name

__all__ = ['FIRST_WINS', 'Headers', 'collect', 'copy_fields', 'distinct', 'merged']

#: Fields with only one effective line, the first one, as in Node 20; further lines are mistakes or attacks.
FIRST_WINS = frozenset(
    (
        'age',
        'authorization',
        'content-length',
        'content-type',
        'etag',
        'expires',
        'from',
        'host',
        'if-modified-since',
        'if-unmodified-since',
        'last-modified',
        'location',
        'max-forwards',
        'proxy-authorization',
        'referer',
        'retry-after',
        'server',
        'user-agent',
    )
)

_Self = TypeVar('_Self', bound='Headers')
_Default = TypeVar('_Default')
_MISSING = object()
_dict_contains = dict.__contains__
_dict_get = dict.get
_dict_new = dict.__new__
_dict_set = dict.__setitem__
_dict_update = dict.update


def _key(name: object) -> object:
    """Return the key for ``name``."""
    return lower_name(name) if isinstance(name, str) else name


class Headers(dict[str, Any]):
    """A dict of header fields with case-insensitive names.

    Every operation takes names in any case; iteration yields them in lower case. Values are ``str``, except that
    ``set-cookie`` is a list of ``str``. ``==`` compares as dicts do, with lower-case names.
    """

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        if args or kwargs:
            self.update(*args, **kwargs)

    @classmethod
    def from_raw(cls: type[_Self], pairs: Iterable[tuple[str, str]]) -> _Self:
        """Make the map from ``(name, value)`` pairs in the order of reception.

        ``set-cookie`` is always a list. The values of ``cookie`` are joined with ``'; '``. A field in
        :data:`FIRST_WINS` has its first value. The values of other fields are joined with ``', '`` (RFC 9110,
        section 5.3).
        """
        return cls.from_map(collect(pairs))

    @classmethod
    def from_map(cls: type[_Self], fields: Mapping[str, Any]) -> _Self:
        """Make the map from ``fields``, which have lower-case names."""
        headers = _dict_new(cls)
        _dict_update(headers, fields)
        return headers

    def __missing__(self, name: object) -> Any:
        if isinstance(name, str):
            value = _dict_get(self, name.lower(), _MISSING)
            if value is not _MISSING:
                return value
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return _dict_contains(self, name) or (isinstance(name, str) and _dict_contains(self, name.lower()))

    def __setitem__(self, name: str, value: Any) -> None:
        _dict_set(self, cast(str, _key(name)), value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(cast(str, _key(name)))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of the header ``name``, or ``default``."""
        value = _dict_get(self, name, _MISSING)
        if value is _MISSING:
            return _dict_get(self, cast(str, _key(name)), default)
        return value

    def pop(self, name: str, *default: Any) -> Any:
        """Remove the header ``name`` and return its value, or return ``default``.

        :raises KeyError: there is neither such a header nor a default.
        """
        return super().pop(cast(str, _key(name)), *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the header ``name``; set it to ``default`` if it is missing."""
        return super().setdefault(cast(str, _key(name)), default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Update as ``dict.update`` does, with lower-case names.

        The last of several spellings wins.
        """
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __or__(self, other: Mapping[str, Any]) -> Headers:  # type: ignore[override]  # dict returns a plain dict
        if not isinstance(other, Mapping):
            return NotImplemented
        result = self.copy()
        result.update(other)
        return result

    def __ior__(self: _Self, other: Any) -> _Self:  # type: ignore[override,misc]  # one signature for both overloads
        self.update(other)
        return self

    def copy(self) -> Headers:
        """Return a shallow copy."""
        return Headers.from_map(self)


def copy_fields(fields: dict[str, Any]) -> Headers:
    """Return a new map of ``fields``, which shares no list with it."""
    headers = _dict_new(Headers)
    _dict_update(headers, fields)
    if 'set-cookie' in fields:
        headers['set-cookie'] = fields['set-cookie'].copy()
    return headers


def collect(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the merged fields as a plain dict; see :meth:`Headers.from_raw`."""
    return merged(distinct(pairs))


def merged(distinct_values: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return one value for each field, made of its lines."""
    fields: dict[str, Any] = dict(distinct_values)
    for name, values in fields.items():
        if name == 'set-cookie':
            continue
        if len(values) == 1 or name in FIRST_WINS:
            fields[name] = values[0]
        else:
            fields[name] = ('; ' if name == 'cookie' else ', ').join(values)
    return fields


def distinct(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the list of values of each field by lower-case name."""
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        name = lower_name(name)
        values = fields.get(name)
        if values is None:
            fields[name] = [value]
        else:
            values.append(value)
    return fields
