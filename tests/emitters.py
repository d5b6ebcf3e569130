"""Define an emitter and a record of calls, for tests of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from geventnode.events import EventEmitter

__all__ = ['Door', 'calls', 'emitter', 'note']


class Door(EventEmitter):
    """An emitter that adds events."""

    events: ClassVar[frozenset[str]] = EventEmitter.events | {'checkContinue', 'open'}


@pytest.fixture
def emitter() -> EventEmitter:
    """Return a plain emitter."""
    return EventEmitter()


@pytest.fixture
def calls() -> list[Any]:
    """Return a list for the calls of listeners."""
    return []


def note(calls: list[Any], name: str) -> Callable[..., None]:
    """Return a listener that adds its name and arguments to ``calls``."""

    def listener(*args: Any) -> None:
        calls.append((name, *args))

    listener.__name__ = name
    return listener
