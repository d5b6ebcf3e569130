"""Fixtures for pytest: load them with ``-p geventnode.testing.pytest`` or ``pytest_plugins``.

The plugin is never loaded automatically, and it imports gevent only when a test uses one of its fixtures: pytest loads
plugins before ``conftest.py``, which may have to patch the standard library first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from geventnode.net import Socket
    from geventnode.testing.sites import ListeningSite, MemorySite

__all__ = ['memory_pair', 'serving', 'serving_in_memory']


@pytest.fixture
def serving() -> Iterator[Callable[..., ListeningSite]]:
    """Serve a target on a free port until the test ends: ``site = serving(target, **options)``.

    The parameters are those of :func:`geventnode.testing.serving`. Each call makes one more site.
    """
    from geventnode.testing import sites

    with contextlib.ExitStack() as stack:
        yield lambda target, **options: stack.enter_context(sites.serving(target, **options))


@pytest.fixture
def serving_in_memory() -> Iterator[Callable[..., MemorySite]]:
    """Serve a target in memory until the test ends: ``site = serving_in_memory(target, **options)``.

    The parameters are those of :func:`geventnode.testing.serving_in_memory`. Each call makes one more site.
    """
    from geventnode.testing import sites

    with contextlib.ExitStack() as stack:
        yield lambda target, **options: stack.enter_context(sites.serving_in_memory(target, **options))


@pytest.fixture
def memory_pair() -> Iterator[Callable[..., tuple[Socket, Socket]]]:
    """Make connected sockets, destroyed when the test ends: ``one, other = memory_pair(**options)``.

    The parameters are those of :func:`geventnode.testing.memory_pair`. Each call makes one more pair.
    """
    from geventnode.testing import memory

    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> tuple[Socket, Socket]:
            pair = memory.memory_pair(**options)
            for end in pair:
                stack.enter_context(end)
            return pair

        yield make
