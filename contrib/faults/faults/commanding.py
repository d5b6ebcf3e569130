"""Workers that wait for a line before they go on."""

from __future__ import annotations

import subprocess
from typing import Any

from bench import workers

__all__ = ['ask', 'finish']


def ask(worker: subprocess.Popen[str], command: str) -> dict[str, Any]:
    """Send a line to a worker and return its answer. Raises ``WorkerFailed``."""
    assert worker.stdin is not None
    try:
        worker.stdin.write(f'{command}\n')
        worker.stdin.flush()
    except BrokenPipeError:
        # its last words say why
        pass
    return workers.answer(worker)


def finish(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """Tell a worker to stop, and return what it has found. Raises ``WorkerFailed``."""
    return ask(worker, 'stop')
