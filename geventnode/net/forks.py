"""After a fork: the child lets go of the connections that it inherited, and its servers can listen again.

Without this the child's loop goes on watching the parent's sockets and steals what arrives on them. Descriptors are
closed in the child only, which the peer does not notice.
"""
from __future__ import annotations

import os
import weakref
from typing import Protocol, TypeVar

__all__ = ['Forkable', 'register', 'registered']

Thing = TypeVar('Thing')


class Forkable(Protocol):
    """Something that must not be shared with a child process."""

    def forget_after_fork(self) -> None:
        """Let go of everything inherited. Runs in the child, before its loop does. Never switches."""


_all: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(thing: Forkable) -> None:
    """See to it that ``thing`` hears of forks. Never switches."""
    _all.add(thing)


def registered(kind: type[Thing]) -> list[Thing]:
    """Return what was registered, is of this kind, and is still referred to. Never switches."""
    return [thing for thing in tuple(_all) if isinstance(thing, kind)]


def _after_fork_in_child() -> None:
    for thing in tuple(_all):
        thing.forget_after_fork()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)
