"""Run programs of tests in forks of a process that has imported them: ``with prepared(MODULE, loop=LOOP) as run``.

Most of the time of such a program would be that of its imports. Each run still is a process of its own, begins without
a hub, and ends as a program does: with the functions of ``atexit``, and the end of the interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ['Run', 'prepared']

ROOT = Path(__file__).parent.parent
#: Run the program with these arguments.
Run = Callable[..., 'subprocess.CompletedProcess[str]']


@contextlib.contextmanager
def prepared(module: str, *, loop: str, patched: bool = False, options: tuple[str, ...] = ()) -> Iterator[Run]:
    """Yield a function that runs ``main()`` of ``module`` with its arguments, as ``python -m`` would.

    :param loop: the value of ``GEVENT_LOOP``.
    :param patched: whether the standard library is patched, before anything is imported.
    :param options: options of the interpreter.
    """
    command = [sys.executable, *options, '-m', 'tests.prepared', module, *(['--patched'] if patched else [])]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, 'GEVENT_LOOP': loop},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            print(json.dumps(arguments), file=process.stdin, flush=True)
            return subprocess.CompletedProcess(arguments, *json.loads(process.stdout.readline()))

        yield run
        # It ends at the end of its input.
        process.stdin.close()


def main(module: str, *flags: str) -> None:
    """Run the program once for each line of standard input, with the arguments in the line."""
    if '--patched' in flags:
        from gevent import monkey

        monkey.patch_all()
    program = importlib.import_module(module)
    # collections in the forks neither visit nor copy the modules
    gc.freeze()
    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            status = _run_apart(
                program.main, json.loads(line), [os.open(os.devnull, os.O_RDONLY), out.fileno(), errors.fileno()]
            )
            out.seek(0)
            errors.seek(0)
            print(json.dumps([status, out.read().decode(), errors.read().decode()]), flush=True)  # noqa: T201


def _run_apart(function: Callable[..., object], arguments: list[str], files: list[int]) -> int:
    """Call ``function`` in a fork of this process, and return its exit status."""
    # gevent's would create a hub in this process, and every later child would inherit it.
    from gevent.monkey import get_original

    child = get_original('os', 'fork')()
    if not child:
        for number, file in enumerate(files):
            os.dup2(file, number)
        function(*arguments)
        sys.exit()
    os.close(files[0])
    return os.waitstatus_to_exitcode(get_original('os', 'waitpid')(child, 0)[1])


if __name__ == '__main__':
    main(*sys.argv[1:])
