"""The options of servers and agents, with defaults, checks and error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload

from geventnode.errors import InvalidInput, UnknownOption

__all__ = [
    'Configurable',
    'Option',
    'apply_options',
    'between',
    'bytes_or_none',
    'check_attribute',
    'check_names',
    'count',
    'flag',
    'hint_for',
    'seconds',
]

Value = TypeVar('Value')

#: An attribute with at least this similarity (``difflib``) to an option is a misspelling of it.
CUTOFF = 0.9


class Configurable(Protocol):
    """An object with options."""

    #: Names of plain attributes that are options, too.
    _plain_options: ClassVar[tuple[str, ...]]

    def _on_option_changed(self) -> None:
        """React to a new value of an option."""


def seconds(name: str, value: Any) -> float:
    """Return ``value`` as a number of seconds from 0, which means never.

    :raises TypeError: it is not a number.
    :raises InvalidInput: it is negative, infinite or not a number (NaN).
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f'{name} must be a number of seconds, not {type(value).__name__}')
    if not (isfinite(value) and value >= 0):
        raise InvalidInput(f'{name} must be a finite number of seconds from 0 (never), not {value!r}')
    return float(value)


def count(name: str, value: Any) -> int:
    """Return ``value`` as an integer from 0.

    :raises TypeError: it is not an int.
    :raises InvalidInput: it is negative.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{name} must be an int, not {type(value).__name__}')
    if value < 0:
        raise InvalidInput(f'{name} must be at least 0, not {value}')
    return value


def between(low: int, high: int) -> Callable[[str, Any], int]:
    """Return a check for an integer from ``low`` to ``high``.

    Exceptions are those of :func:`count`.
    """

    def check(name: str, value: Any) -> int:
        number = count(name, value)
        if not low <= number <= high:
            raise InvalidInput(f'{name} must be from {low} to {high}, not {number}')
        return number

    return check


def bytes_or_none(name: str, value: Any) -> int | None:
    """Return ``value`` as a number of bytes, or None for no limit.

    Exceptions are those of :func:`count`.
    """
    return None if value is None else count(name, value)


def flag(name: str, value: Any) -> bool:
    """Return ``value``, which must be a bool.

    :raises TypeError: it is not a bool.
    """
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be True or False, not {type(value).__name__}')
    return value


class Option(Generic[Value]):
    """An attribute that checks its values and notifies its owner.

    :param check: a function that takes the name and the value, and returns the value or raises.
    :param default: the value of an owner for which none was set.
    :param doc: the docstring.
    """

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
        values = thing.__dict__
        before = values.get(self._slot, self._default)
        values[self._slot] = self._check(self._name, value)
        try:
            thing._on_option_changed()
        except BaseException:
            # the value does not fit the others: the old one stays in force
            values[self._slot] = before
            raise


def hint_for(name: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown option.

    It has the most similar name, or all known ones.
    """
    near = get_close_matches(str(name), known, 1)
    return f': did you mean {near[0]!r}?' if near else f'; known are {", ".join(sorted(known))}'


def check_names(thing: Configurable, options: Iterable[str], others: Iterable[str] = ()) -> None:
    """Check that ``thing`` has all ``options`` that are not among ``others``.

    :raises UnknownOption: one is missing; the message has the most similar name.
    """
    known = _known(type(thing)).union(others)
    for name in options:
        if name not in known:
            raise UnknownOption(f'{type(thing).__name__} has no option {name!r}{hint_for(name, known)}')


def check_attribute(thing: Configurable, name: str) -> None:
    """Reject a misspelled attribute and name the right one.

    :raises AttributeError: ``name`` is no attribute of ``thing``, but resembles an option.
    """
    if name not in thing.__dict__ and name[:1] != '_' and not hasattr(type(thing), name):
        right = _nearest(type(thing), name)
        if right is not None:
            raise AttributeError(f'{type(thing).__name__} has no option {name!r}: did you mean {right!r}?')


@lru_cache(maxsize=64)
def _known(kind: type[Configurable]) -> frozenset[str]:
    """Return the names of all options of ``kind``."""
    return frozenset(kind._plain_options).union(
        name for each in kind.__mro__ for name, value in vars(each).items() if isinstance(value, Option)
    )


@lru_cache(maxsize=256)
def _nearest(kind: type[Configurable], name: str) -> str | None:
    """Return the option of ``kind`` that ``name`` misspells, or None."""
    spellings = {known.replace('_', ''): known for known in _known(kind)}
    near = get_close_matches(name.replace('_', '').lower(), spellings, 1, CUTOFF)
    return spellings[near[0]] if near else None


def apply_options(thing: Configurable, options: Mapping[str, object]) -> None:
    """Set ``options`` on ``thing``.

    :raises UnknownOption: ``thing`` has no such option; the message has the most similar name.
    """
    check_names(thing, options)
    for name, value in options.items():
        setattr(thing, name, value)
