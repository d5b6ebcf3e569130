"""Run the suite again with the standard library patched, in another process."""

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
    """The suite also passes after ``gevent.monkey.patch_all()``."""
    assert not monkey.is_module_patched('socket'), 'the standard library must not be patched in this process'
    # The limit is for one test; the tests of the other run have it themselves.
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
