"""The settings of servers and agents: each with its default, checked when set, named in the error that it causes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload

from geventnode.errors import InvalidInput, UnknownOption

__all__ = [
    'Configurable',
    'Option',
    'apply_options',
    'bytes_or_none',
    'check_attribute',
    'check_names',
    'count',
    'flag',
    'hint_for',
    'seconds',
]

Value = TypeVar('Value')

#: How like an option the name of another attribute must be to be taken for it (``difflib``).
CUTOFF = 0.9


class Configurable(Protocol):
    """What has options."""

    #: Names of plain attributes that count as options.
    _plain_options: ClassVar[tuple[str, ...]]

    def _on_option_changed(self) -> None:
        """An option was set."""


def seconds(name: str, value: Any) -> float:
    """Return ``value`` as seconds, 0 for never. Raises ``TypeError`` and ``InvalidInput``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f'{name} must be a number of seconds, not {type(value).__name__}')
    if not (isfinite(value) and value >= 0):
        raise InvalidInput(f'{name} must be a finite number of seconds from 0 (never), not {value!r}')
    return float(value)


def count(name: str, value: Any) -> int:
    """Return ``value`` as a number from 0. Raises ``TypeError`` and ``InvalidInput``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{name} must be an int, not {type(value).__name__}')
    if value < 0:
        raise InvalidInput(f'{name} must be at least 0, not {value}')
    return value


def bytes_or_none(name: str, value: Any) -> int | None:
    """Return ``value`` as a number of bytes, None for no limit. Raises as :func:`count` does."""
    return None if value is None else count(name, value)


def flag(name: str, value: Any) -> bool:
    """Return ``value`` as a bool. Raises ``TypeError``."""
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be True or False, not {type(value).__name__}')
    return value


class Option(Generic[Value]):
    """An attribute that is checked when it is set, and tells its owner."""

    def __init__(self, check: Callable[[str, Any], Value], default: Value, doc: str) -> None:
        self._check = check
        self._default = default
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._slot = f'_option_{name}'

    @overload
    def __get__(self, thing: None, owner: type) -> Option[Value]: ...

    @overload
    def __get__(self, thing: Configurable, owner: type) -> Value: ...

    def __get__(self, thing: Configurable | None, owner: type) -> Any:
        return self if thing is None else thing.__dict__.get(self._slot, self._default)

    def __set__(self, thing: Configurable, value: Value) -> None:
        thing.__dict__[self._slot] = self._check(self._name, value)
        thing._on_option_changed()


def hint_for(name: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown option: the nearest known one, or all of them."""
    near = get_close_matches(str(name), known, 1)
    return f': did you mean {near[0]!r}?' if near else f'; known are {", ".join(sorted(known))}'


def check_names(thing: Configurable, options: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raise ``UnknownOption``, naming the nearest known one, unless ``thing`` has all ``options``, or they are among
    ``others``."""
    known = _known(type(thing)).union(others)
    for name in options:
        if name not in known:
            raise UnknownOption(f'{type(thing).__name__} has no option {name!r}{hint_for(name, known)}')


def check_attribute(thing: Configurable, name: str) -> None:
    """Raise ``AttributeError`` where ``name``, which is to be set, is new and a misspelt option."""
    if name not in thing.__dict__ and name[:1] != '_' and not hasattr(type(thing), name):
        right = _meant(type(thing), name)
        if right is not None:
            raise AttributeError(f'{type(thing).__name__} has no option {name!r}: did you mean {right!r}?')


@lru_cache(maxsize=64)
def _known(kind: type[Configurable]) -> frozenset[str]:
    """Return the names of all options of ``kind``."""
    return frozenset(kind._plain_options).union(
        name for each in kind.__mro__ for name, value in vars(each).items() if isinstance(value, Option)
    )


@lru_cache(maxsize=256)
def _meant(kind: type[Configurable], name: str) -> str | None:
    """Return which option of ``kind`` must be meant by ``name``, or None."""
    spellings = {known.replace('_', ''): known for known in _known(kind)}
    near = get_close_matches(name.replace('_', '').lower(), spellings, 1, CUTOFF)
    return spellings[near[0]] if near else None


def apply_options(thing: Configurable, options: dict[str, Any]) -> None:
    """Set ``options`` on ``thing``. Raises ``UnknownOption``, naming the nearest known one."""
    check_names(thing, options)
    for name, value in options.items():
        setattr(thing, name, value)
