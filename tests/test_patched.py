"""Run the suite again with the standard library patched, in other processes."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from gevent import monkey

from tests import patched
from tests.summary import SKIPPED, TESTS

__all__ = ['test_every_exception_exists', 'test_suite_with_the_standard_library_patched']

ROOT = Path(__file__).parent.parent


def test_every_exception_exists() -> None:
    """The list of files that are left out has no superfluous entry."""
    assert patched.TESTS / 'net' / 'test_socket.py' in patched.files()
    assert [name for name in patched.SAME_EITHER_WAY if not list(patched.TESTS.glob(name))] == []


@pytest.mark.hangs_after(3600)
def test_suite_with_the_standard_library_patched(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The suite also passes after ``gevent.monkey.patch_all()``."""
    assert not monkey.is_module_patched('socket'), 'the standard library must not be patched in this process'
    # The limit is for one test; the tests of the other run have it themselves.
    faulthandler.cancel_dump_traceback_later()
    report = tmp_path / 'report.xml'
    ran = subprocess.run(
        # One for a processor: the other tests run at the same time.
        [
            *(sys.executable, '-m', 'tests.patched', '-q'),
            *(f'--junit-xml={report}', f'--processes={max(2, len(os.sched_getaffinity(0)))}'),
        ],
        cwd=ROOT,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ran.returncode == 0, ran.stdout
    cases = list(xml.etree.ElementTree.parse(report).getroot().iter('testcase'))
    skips = [case.find('skipped') for case in cases if case.find('skipped') is not None]
    record_property(TESTS, len(cases) - len(skips))
    for skip in skips:
        record_property(SKIPPED, skip.get('message'))
