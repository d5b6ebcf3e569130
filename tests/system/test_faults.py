"""``contrib/faults/run.py``: it works, tells what it has measured, and its exit status says what came of it.

Figures that are times or rates are not asserted: the numbers here are too small for them to say anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.running import PATIENCE, tool

ROOT = Path(__file__).parent.parent.parent

#: Figures of each part, by the beginnings of their names.
FIGURES = {
    'slow': ['rate of normal clients beside 60 slow heads', 'slow clients turned away before their time'],
    'resets': ['connections left', 'greenlets left', 'descriptors left', 'lines logged', 'normal requests answered'],
    'descriptors': ['descriptors freed', *['descriptors exhausted'] * 3],
    'memory': ['memory after aborted', 'memory after aborted and normal'],
    'handshakes': ['rate of normal clients beside 20 stalled', *['stalled handshakes turned away'] * 2],
    'upstream': [
        'cut bodies that were seen as errors',
        'cut bodies that were taken for complete',
        'connections, desc',
        'lines that the proxy has logged',
        'status that the proxy answers',
    ],
}


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tool to its end."""
    return subprocess.run(
        [sys.executable, 'contrib/faults/run.py', *arguments],
        cwd=ROOT,
        check=False,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )


def rows(ran: subprocess.CompletedProcess[str], *parts: str) -> list[list[str]]:
    """Return the rows of the table of figures, which must be those of ``parts``."""
    _, heading, rest = ran.stdout.partition('### Figures to reach\n\n')
    assert heading, ran.stdout + ran.stderr
    table = rest.partition('\n\n')[0].splitlines()[2:]
    found = [[cell.strip() for cell in line.strip('|').split('|')] for line in table]
    expected = [name for part in parts for name in FIGURES[part]]
    assert [row[0][: len(name)] for row, name in zip(found, expected, strict=True)] == expected
    return found


def test_nothing_is_lost() -> None:
    """Neither by resets nor with an upstream: every figure is reached."""
    ran = run_tool('--tiny', '--only', 'resets,upstream')
    assert {row[-1] for row in rows(ran, 'resets', 'upstream')} == {'yes'}, ran.stdout + ran.stderr
    assert ran.returncode == 0
    kinds = re.findall(r'^\| (?:length|chunked|close) \S+ +\| +(\d+) \| +(\d+) \|', ran.stdout, re.MULTILINE)
    assert kinds == [('3', '0')] * 9


@pytest.mark.parametrize('parts', [['descriptors', 'memory'], ['handshakes'], ['slow']], ids=','.join)
def test_the_status_says_whether_all_was_reached(parts: list[str]) -> None:
    tool('wrk')
    ran = run_tool('--tiny', '--only', ','.join(parts))
    reached = [row[-1] == 'yes' for row in rows(ran, *parts)]
    assert ran.returncode == (0 if all(reached) else 1), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (
            ['--only', 'slow,fast'],
            'no such part: fast; there are slow, resets, descriptors, memory, handshakes, upstream',
        ),
        (['--only', 'slow', '--markdown', 'README.md'], 'leave out --only'),
        (['--markdown', 'README.md'], 'README.md: no <!-- measured: begin -->'),
        (['--tiny', '--quick'], 'not allowed with'),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], said: str) -> None:
    ran = run_tool(*arguments)
    assert (ran.returncode, ran.stdout) == (2, '')
    assert said in ran.stderr
