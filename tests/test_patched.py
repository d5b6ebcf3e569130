"""Run the suite again with the standard library patched, in other processes."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from gevent import monkey

from tests import patched
from tests.summary import SKIPPED, TESTS

__all__ = ['test_parts_are_complete', 'test_suite_with_the_standard_library_patched']

ROOT = Path(__file__).parent.parent


def test_parts_are_complete() -> None:
    """Every file is in one part, and the list of files that are left out has no superfluous entry."""
    parts = [file for number in range(patched.PARTS) for file in patched.part_of_files(number)]
    assert sorted(parts) == patched.files()
    assert patched.TESTS / 'net' / 'test_socket.py' in parts
    assert [name for name in patched.SAME_EITHER_WAY if not list(patched.TESTS.glob(name))] == []


@pytest.mark.hangs_after(3600)
@pytest.mark.parametrize('part', range(patched.PARTS))
def test_suite_with_the_standard_library_patched(
    part: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The suite also passes after ``gevent.monkey.patch_all()``."""
    assert not monkey.is_module_patched('socket'), 'the standard library must not be patched in this process'
    report = tmp_path / 'report.xml'
    ran = subprocess.run(
        [sys.executable, '-m', 'tests.patched', '-q', f'--junit-xml={report}', *patched.part_of_files(part)],
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
