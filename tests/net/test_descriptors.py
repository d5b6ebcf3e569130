"""Test clients with more hosts than the process can have descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.many_hosts import WAYS

ROOT = Path(__file__).parents[2]

#: For each way, the limit of descriptors and the number of hosts.
NUMBERS = {'by-default': ('400', '350'), 'adapter': ('400', '350'), 'unlimited': ('64', '100')}


@pytest.mark.skipif(sys.platform != 'linux', reason='every address in 127/8 is a host on Linux only')
@pytest.mark.parametrize('loop', ['libev-cext', 'libuv'])
@pytest.mark.parametrize('way', WAYS)
def test_idle_connections_are_closed_when_descriptors_run_out(loop: str, way: str) -> None:
    ran = subprocess.run(
        [sys.executable, '-m', 'tests.many_hosts', way, *NUMBERS.get(way, ('64', '30'))],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, 'GEVENT_LOOP': loop},
    )
    assert ran.returncode == 0, ran.stderr
