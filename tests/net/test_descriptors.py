"""Test clients with more hosts than the process can have descriptors."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest

from tests.many_hosts import WAYS
from tests.prepared import Run, prepared

LOOPS = ['libev-cext', 'libuv']
#: For each way, the limit of descriptors and the number of hosts.
NUMBERS = {'by-default': ('400', '350'), 'adapter': ('400', '350'), 'unlimited': ('64', '100')}


@pytest.fixture(scope='module')
def programs() -> Iterator[dict[str, Run]]:
    """Return a function for each loop that runs the program in :mod:`tests.many_hosts`."""
    with contextlib.ExitStack() as stack:
        yield {loop: stack.enter_context(prepared('tests.many_hosts', loop=loop)) for loop in LOOPS}


@pytest.mark.skipif(sys.platform != 'linux', reason='every address in 127/8 is a host on Linux only')
@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('way', WAYS)
def test_idle_connections_are_closed_when_descriptors_run_out(programs: dict[str, Run], loop: str, way: str) -> None:
    ran = programs[loop](way, *NUMBERS.get(way, ('64', '30')))
    assert ran.returncode == 0, ran.stderr
