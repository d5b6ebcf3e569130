"""Count the instructions of the works of ``workers/instructions.py`` by valgrind's callgrind.

Unlike times, counts do not depend on other load of the machine. They depend on the build of the interpreter, so they
are compared as multiples of a reference, which is work in plain Python counted in the same run.
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
    """Valgrind or the worker has failed."""


def count(*names: str) -> dict[str, float]:
    """Return the instructions for a unit of each work, or of those with ``names``. Raises :class:`CountFailed`."""
    with tempfile.TemporaryDirectory() as directory:
        command = [
            'valgrind',
            '--tool=callgrind',
            '--dump-before=getppid',
            f'--callgrind-out-file={directory}/out',
            sys.executable,
            str(WORKER),
            *names,
        ]
        try:
            # fixed variables and a fixed hash seed: WSGI passes on the environment, and the order of sets varies
            variables = {'PATH': os.environ['PATH'], 'PYTHONPATH': environment()['PYTHONPATH'], 'PYTHONHASHSEED': '0'}
            # compiles all modules: counts are a few percent higher in a process that does
            subprocess.run([sys.executable, str(WORKER), REFERENCE], env=variables, check=False, capture_output=True)
            ran = subprocess.run(
                command, env=variables, check=False, text=True, stdin=subprocess.DEVNULL, capture_output=True
            )
        except FileNotFoundError as error:
            raise CountFailed('valgrind is not installed; on Debian: apt-get install valgrind') from error
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
