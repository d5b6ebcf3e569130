"""Test that the objects of a native thread close at its end, with its hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.short_threads import WAYS

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not Path('/proc/self/fd').exists(), reason='this system does not list the descriptors of a process')
@pytest.mark.parametrize('loop', ['libev-cext', 'libuv'])
@pytest.mark.parametrize('way', WAYS)
def test_threads_close_their_descriptors_at_their_end(loop: str, way: str) -> None:
    """A hundred threads run under a limit of 64 descriptors."""
    ran = subprocess.run(
        [sys.executable, '-m', 'tests.short_threads', way, '64', '100'],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, 'GEVENT_LOOP': loop},
    )
    assert ran.returncode == 0, ran.stderr
    assert 'Exception ignored' not in ran.stderr, ran.stderr
