"""Fixtures for pytest, for those who ask for them: ``-p geventnode.testing.pytest``, or ``pytest_plugins``.

They are never loaded by themselves. And even when they are, gevent is imported by the first test that uses one of them,
and not before: pytest loads plugins before ``conftest.py``, which may want to patch the standard library first.
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
    """Serve until the test is over: ``site = serving(target, **options)``. See
    :func:`geventnode.testing.serving`. May switch."""
    from geventnode.testing import sites

    with contextlib.ExitStack() as stack:
        yield lambda target, **options: stack.enter_context(sites.serving(target, **options))


@pytest.fixture
def serving_in_memory() -> Iterator[Callable[..., MemorySite]]:
    """Serve in memory until the test is over. See :func:`geventnode.testing.serving_in_memory`. May switch."""
    from geventnode.testing import sites

    with contextlib.ExitStack() as stack:
        yield lambda target, **options: stack.enter_context(sites.serving_in_memory(target, **options))


@pytest.fixture
def memory_pair() -> Iterator[Callable[..., tuple[Socket, Socket]]]:
    """Make pairs of sockets that are connected in memory and destroyed when the test is over. See
    :func:`geventnode.testing.memory_pair`."""
    from geventnode.testing import memory

    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> tuple[Socket, Socket]:
            pair = memory.memory_pair(**options)
            for end in pair:
                stack.enter_context(end)
            return pair

        yield make
