"""Commands for workers, which wait for a line on standard input."""

from __future__ import annotations

import subprocess
from typing import Any

from bench import workers

__all__ = ['ask', 'finish']


def ask(worker: subprocess.Popen[str], command: str) -> dict[str, Any]:
    """Send a command to a worker, and return its answer. Raises ``WorkerFailed``."""
    assert worker.stdin is not None
    try:
        worker.stdin.write(f'{command}\n')
        worker.stdin.flush()
    except BrokenPipeError:
        # the worker has printed the reason
        pass
    return workers.answer(worker)


def finish(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """Stop a worker, and return its results. Raises ``WorkerFailed``."""
    return ask(worker, 'stop')
