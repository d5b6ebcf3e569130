"""The header map of a message: lower-cased names, any spelling finds them, repeated fields by Node 20's rule.

:class:`Headers` is a dict whose keys are lower-cased whoever sets them. A look-up with the lower-case name costs what
it costs in a dict; only a name that is not found as it stands is lower-cased and tried again. Values are collected in
lists and joined once, so that a thousand equal fields cost a thousand steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from geventnode.protocol.grammar import lower_name

__all__ = ['FIRST_WINS', 'Headers', 'collect', 'distinct']

#: Fields of which only the first line counts, as in Node 20; a second one means nothing or an attack.
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
    """Return what ``name`` is stored under."""
    return lower_name(name) if isinstance(name, str) else name


class Headers(dict[str, Any]):
    """A dict of header fields: every operation takes names in any case, and iterating gives them in lower case.

    Values are ``str``, but ``set-cookie`` is a list of them. ``==`` compares as dicts do, with lower-case names.
    """

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        if args or kwargs:
            self.update(*args, **kwargs)

    @classmethod
    def from_raw(cls: type[_Self], pairs: Iterable[tuple[str, str]]) -> _Self:
        """Return the map for ``(name, value)`` pairs in the order in which they came.

        ``set-cookie`` is always a list, ``cookie`` is joined with ``'; '``, of those in :data:`FIRST_WINS` the first
        counts, and everything else is joined with ``', '`` (RFC 9110, section 5.3).
        """
        return cls.from_map(collect(pairs))

    @classmethod
    def from_map(cls: type[_Self], fields: Mapping[str, Any]) -> _Self:
        """Return a map with the items of ``fields``, whose names are in lower case already."""
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
        """Remove the header ``name`` and return its value; when it is not there, return ``default`` or raise
        ``KeyError``."""
        return super().pop(cast(str, _key(name)), *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the value of the header ``name``, which is set to ``default`` when it is not there."""
        return super().setdefault(cast(str, _key(name)), default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As ``dict.update``, with every name lower-cased; the last of several spellings wins."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __or__(self, other: Mapping[str, Any]) -> Headers:  # type: ignore[override]  # dict promises a plain dict
        if not isinstance(other, Mapping):
            return NotImplemented
        result = self.copy()
        result.update(other)
        return result

    def __ior__(self: _Self, other: Any) -> _Self:  # type: ignore[override,misc]  # one signature for both overloads
        self.update(other)
        return self

    def copy(self) -> Headers:
        """Return a copy; lists in it are shared."""
        return Headers.from_map(self)


def collect(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the plain dict that :meth:`Headers.from_raw` is made of."""
    fields: dict[str, Any] = distinct(pairs)
    for name, values in fields.items():
        if name == 'set-cookie':
            continue
        if len(values) == 1 or name in FIRST_WINS:
            fields[name] = values[0]
        else:
            fields[name] = ('; ' if name == 'cookie' else ', ').join(values)
    return fields


def distinct(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the values of each field in order, never joined, by lower-cased name."""
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        name = lower_name(name)
        values = fields.get(name)
        if values is None:
            fields[name] = [value]
        else:
            values.append(value)
    return fields
