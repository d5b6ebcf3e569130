"""``contrib/faults/run.py``: its tables, and its exit status.

Times and rates are not asserted, because the numbers here are too small for them to mean anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.system.running import PATIENCE, PYTHONPATH, ROOT, tool

#: Figures of each part, by the beginnings of their names.
FIGURES = {
    'slow': ['rate of normal clients beside 60 slow heads', 'slow clients closed too early'],
    'resets': ['connections left', 'greenlets left', 'descriptors left', 'lines logged', 'normal requests answered'],
    'descriptors': ['descriptors freed', *['descriptors exhausted'] * 3],
    'memory': ['memory after aborted', 'memory after aborted and normal'],
    'handshakes': ['rate of normal clients beside 20 stalled', *['stalled handshakes closed'] * 2],
    'upstream': [
        'truncated bodies reported as errors',
        'truncated bodies reported as complete',
        'connections, desc',
        'lines that the proxy has logged',
        'status of the proxy afterwards',
    ],
}


def run_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program until it ends."""
    return subprocess.run(
        [sys.executable, 'contrib/faults/run.py', *arguments],
        cwd=ROOT,
        check=False,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
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


def test_no_resource_is_leaked() -> None:
    """Every target is reached, with resets and with a killed upstream."""
    ran = run_tool('--tiny', '--only', 'resets,upstream')
    assert {row[-1] for row in rows(ran, 'resets', 'upstream')} == {'yes'}, ran.stdout + ran.stderr
    assert ran.returncode == 0
    kinds = re.findall(r'^\| (?:length|chunked|close) \S+ +\| +(\d+) \| +(\d+) \|', ran.stdout, re.MULTILINE)
    assert kinds == [('3', '0')] * 9


@pytest.mark.parametrize('parts', [['descriptors', 'memory'], ['handshakes'], ['slow']], ids=','.join)
def test_status_is_1_if_a_target_is_missed(parts: list[str]) -> None:
    tool('wrk')
    ran = run_tool('--tiny', '--only', ','.join(parts))
    reached = [row[-1] == 'yes' for row in rows(ran, *parts)]
    assert ran.returncode == (0 if all(reached) else 1), ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--only', 'slow,fast'],
            'no such part: fast; choose from slow, resets, descriptors, memory, handshakes, upstream',
        ),
        (['--only', 'slow', '--markdown', 'README.md'], 'remove --only'),
        (['--markdown', 'README.md'], 'README.md: no <!-- measured: begin -->'),
        (['--tiny', '--quick'], 'not allowed with'),
    ],
)
def test_invalid_options_are_refused(arguments: list[str], message: str) -> None:
    ran = run_tool(*arguments)
    assert (ran.returncode, ran.stdout) == (2, '')
    assert message in ran.stderr
