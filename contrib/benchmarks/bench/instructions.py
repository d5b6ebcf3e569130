"""How many instructions the works of ``workers/instructions.py`` take, as valgrind's callgrind counts them.

Unlike times, counts do not depend on what else a machine does. What they depend on is how the interpreter was built, so
they are compared as multiples of a reference, work in plain Python that was counted in the same run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.servers import environment

__all__ = ['REFERENCE', 'CountFailed', 'count']

WORKER = Path(__file__).parent.parent / 'workers' / 'instructions.py'
REFERENCE = 'reference'


class CountFailed(Exception):
    """Valgrind or the worker did not do what was expected."""


def count() -> dict[str, float]:
    """Return how many instructions a unit of each work takes. Raises :class:`CountFailed`."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            'valgrind',
            '--tool=callgrind',
            '--dump-before=getppid',
            f'--callgrind-out-file={directory}/out',
            sys.executable,
            str(WORKER),
        ]
        try:
            # WSGI hands the variables of the process on, and sets have another order in each process: nothing is left
            # to either
            variables = {'PATH': os.environ['PATH'], 'PYTHONPATH': environment()['PYTHONPATH'], 'PYTHONHASHSEED': '0'}
            ran = subprocess.run(
                command, env=variables, check=False, text=True, stdin=subprocess.DEVNULL, capture_output=True
            )
        except FileNotFoundError as error:
            raise CountFailed('valgrind is not here (Debian: apt-get install valgrind)') from error
        if ran.returncode:
            raise CountFailed(ran.stderr)
        works: list[tuple[str, int]] = json.loads(ran.stdout)
        marks = [total(Path(directory, f'out.{number}')) for number in range(1, len(list(Path(directory).iterdir())))]
    # every second mark ends a window
    counted = marks[1::2]
    windows = len(counted) // len(works)
    if not windows or len(marks) != len(works) * windows * 2:
        raise CountFailed(f'{len(works)} works have {len(marks)} marks')
    return {
        name: min(counted[number * windows : (number + 1) * windows]) / units
        for number, (name, units) in enumerate(works)
    }


def total(dump: Path) -> int:
    """Return the number of instructions in a dump of callgrind's. Raises :class:`CountFailed`."""
    found = re.search(r'^totals: (\d+)$', dump.read_text(), re.MULTILINE)
    if found is None:
        raise CountFailed(f'{dump.name} has no total')
    return int(found[1])
