"""The second run of the suite: the same tests with the standard library patched, in a process of their own."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from pathlib import Path

import pytest
from gevent import monkey

__all__ = ['test_suite_with_the_standard_library_patched']

ROOT = Path(__file__).parent.parent


@pytest.mark.hangs_after(3600)
def test_suite_with_the_standard_library_patched() -> None:
    """The whole suite passes under ``gevent.monkey.patch_all()``, too."""
    assert not monkey.is_module_patched('socket'), 'this is the second run'
    # pytest's own limit is for one test, and the tests of the other run have it.
    faulthandler.cancel_dump_traceback_later()
    ran = subprocess.run(
        [sys.executable, '-m', 'tests.patched', '-q'],
        cwd=ROOT,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ran.returncode == 0, ran.stdout
