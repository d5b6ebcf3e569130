"""Test that the objects of a native thread close at its end, with its hub."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prepared import Run, prepared
from tests.short_threads import WAYS

LOOPS = ['libev-cext', 'libuv']


@pytest.fixture(scope='module')
def programs() -> Iterator[dict[str, Run]]:
    """Return a function for each loop that runs the program in :mod:`tests.short_threads`."""
    with contextlib.ExitStack() as stack:
        yield {loop: stack.enter_context(prepared('tests.short_threads', loop=loop)) for loop in LOOPS}


@pytest.mark.skipif(not Path('/proc/self/fd').exists(), reason='this system does not list the descriptors of a process')
@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', WAYS)
def test_threads_close_their_descriptors_at_their_end(programs: dict[str, Run], loop: str, way: str) -> None:
    """A hundred threads run under a limit of 64 descriptors."""
    ran = programs[loop](way, '64', '100')
    assert ran.returncode == 0, ran.stderr
    assert 'Exception ignored' not in ran.stderr, ran.stderr
