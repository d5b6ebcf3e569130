"""Thousands of clients that send their head, or read their download, very slowly, beside normal ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import machine, workers
from bench.results import Figure, Samples, Section

from faults.commanding import finish
from faults.normal import Beside
from faults.scale import Scale
from faults.targets import FAILURES, WORKERS, RunningTarget, Target, reasons

__all__ = ['measure_slow']


def measure_slow(scale: Scale) -> Section:
    """Measure normal clients alone and beside the slow ones; return the report."""
    lost = Samples()
    beside = Beside(partial(slowness, lost, scale))
    try:
        with RunningTarget(Target.of('faulted.py')) as running:
            beside.measure(running, scale, 'slow clients')
    except FAILURES as error:
        beside.fail(str(error))
    fault = f'{scale.heads:,} slow heads and {scale.readers:,} slow readers'
    return Section(
        'Slow clients',
        [beside.table(fault)],
        reasons(beside.samples),
        [
            beside.figure(fault),
            Figure('slow clients closed too early', 0, lost.series('lost', 'slow'), at_most=True),
        ],
    )


@contextmanager
def slowness(lost: Samples, scale: Scale, running: RunningTarget) -> Iterator[None]:
    """Run the slow clients while the block runs, and record how many the server has closed."""
    with workers.start(
        str(WORKERS / 'slow.py'), running.port, scale.heads, scale.readers, core=machine.LOAD_CORE
    ) as worker:
        try:
            workers.answer(worker)
            running.wait_for(scale.heads + scale.readers)
            yield
            lost.add('lost', 'slow', finish(worker)['lost'])
        finally:
            worker.kill()
