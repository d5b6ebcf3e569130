"""Run the scripts in ``workers/``, each in its own process on one core; they print JSON objects, one a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import machine
from bench.servers import environment

__all__ = ['WorkerFailed', 'answer', 'run', 'start']

SCRIPTS = Path(__file__).parent.parent / 'workers'


class WorkerFailed(Exception):
    """A worker has ended without a result."""


def start(script: str, *arguments: object, core: int | None, root: str = '', python: str = '') -> subprocess.Popen[str]:
    """Start a worker on a core, or on any; it imports the package from this checkout, or from ``root``.

    :param python: the interpreter that runs it; empty: this one.
    """
    return subprocess.Popen(
        [python or sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(root),
        preexec_fn=None if core is None else machine.pin(core),
    )


def answer(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """Read the next object that a worker prints. Raises :class:`WorkerFailed`."""
    assert worker.stdout is not None
    assert worker.stderr is not None
    line = worker.stdout.readline()
    if not line:
        words = worker.stderr.read().strip().splitlines() or ['without a word']
        raise WorkerFailed(words[-1])
    found: dict[str, Any] = json.loads(line)
    return found


def run(script: str, *arguments: object, core: int | None, root: str = '', python: str = '') -> dict[str, Any]:
    """Run a worker until it ends; return the object that it printed. Raises :class:`WorkerFailed`."""
    with start(script, *arguments, core=core, root=root, python=python) as worker:
        return answer(worker)
