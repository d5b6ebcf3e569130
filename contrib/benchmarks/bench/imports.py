"""The time of ``import geventnode.http``, compared with ``import gevent``, each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

from bench import machine
from bench.progress import say
from bench.results import Figure, Samples, Section, Series, Table
from bench.servers import environment

__all__ = ['measure_imports']

MODULES = ('gevent', 'geventnode.http')
TIMES = 5
#: The target: a multiple of the time of gevent, and extra milliseconds.
SHARE, EXTRA = 1.15, 20
PROGRAM = 'import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)'


def measure_imports(repeat: int) -> Section:
    """Import both in turn; the fastest of five is the sample of one repetition. Return the report."""
    found = Samples()
    for repetition in range(repeat):
        samples: dict[str, list[float]] = {module: [] for module in MODULES}
        for _ in range(TIMES):
            for module in MODULES:
                samples[module].append(milliseconds(module))
        for module, taken in samples.items():
            found.add('import', module, min(taken))
        say(f'imports {repetition + 1}/{repeat}')
    return report(found)


def milliseconds(module: str) -> float:
    """Return the milliseconds that importing a module takes."""
    # with compiled files, even if this process does not write any
    variables = {**environment(), 'PYTHONDONTWRITEBYTECODE': ''}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM.format(module)],
        capture_output=True,
        text=True,
        check=True,
        env=variables,
        preexec_fn=machine.pin(machine.SERVER_CORE),
    )
    return float(done.stdout) * 1000


def report(found: Samples) -> Section:
    """Return table and figure."""
    row = [
        'milliseconds',
        *(found.cell('import', module, lambda value: f'{value:.0f}') for module in MODULES),
        found.ratio_cell('import', 'geventnode.http', 'gevent'),
    ]
    geventnode, gevent = found.series('import', 'geventnode.http'), found.series('import', 'gevent')
    assert geventnode is not None
    assert gevent is not None
    beyond = Series(tuple(time - SHARE * base for time, base in zip(geventnode.values, gevent.values, strict=True)))
    figure = Figure(f'import beyond {SHARE} of gevent', EXTRA, beyond, at_most=True, unit=' ms')
    return Section('Import', [Table(['import', *MODULES, 'ratio'], [row])], [], [figure])
