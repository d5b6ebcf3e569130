"""Run the scripts of ``libraries/``, which use other libraries, and get their results.

Each runs in its own process, beside servers in the process of the test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gevent import subprocess as cooperative

from tests.system.running import PYTHONPATH

__all__ = ['WAYS', 'environment', 'run', 'run_ways']

LIBRARIES = Path(__file__).parent / 'libraries'

#: Plain sessions, on agents, and on agents with the standard library patched.
WAYS = ['PLAIN', 'AGENTS', 'PATCHED']


def environment(packages: Path) -> dict[str, str]:
    """Return the variables for programs that import ``packages``."""
    return {'PYTHONPATH': os.pathsep.join(map(str, (packages, PYTHONPATH, LIBRARIES)))}


def run(packages: Path, script: str, *arguments: str) -> Any:
    """Run a script, and return its results."""
    ran = cooperative.run(
        [sys.executable, '-W', 'ignore', str(LIBRARIES / script), *arguments],
        env={**os.environ, **environment(packages)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f'{script} {arguments}: {ran.stderr}'
    return json.loads(ran.stdout)


def run_ways(packages: Path, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script in all of :data:`WAYS`, and return their results."""
    *unpatched, patched = WAYS
    found: dict[str, Any] = run(packages, 'forked.py', str(LIBRARIES / script), ','.join(unpatched), *arguments)
    return {**found, patched: run(packages, script, patched, *arguments)}
