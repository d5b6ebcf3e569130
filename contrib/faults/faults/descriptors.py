"""A server whose descriptors are all taken: how soon it goes on when some are free, and what it does until then."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table

from faults.commanding import ask
from faults.scale import Scale
from faults.targets import FAILURES, WORKERS, RunningTarget, Target, reasons

__all__ = ['measure_descriptors']

LIMIT = 200

#: More than fit; those that wait fit as soon as those that were served have gone.
CLIENTS = 300

ROWS = (
    ('served', 'clients served', '.0f'),
    ('waiting', 'clients waiting', '.0f'),
    ('recovery', 'the last of them served after, s', '.2f'),
    ('exhausted', 'processor while exhausted, %', '.1f'),
    ('idle', 'processor afterwards, %', '.1f'),
    ('beyond', 'the difference, %', '.1f'),
    ('lines', 'log lines a second', '.2f'),
    ('churned', 'log lines a second while clients come and go', '.2f'),
)


def measure_descriptors(scale: Scale) -> Section:
    """Take all descriptors and free them, again and again; return the report."""
    samples = Samples()
    try:
        with (
            RunningTarget(Target.of('faulted.py', '--descriptors', LIMIT)) as running,
            workers.start(str(WORKERS / 'holding.py'), running.port, CLIENTS, core=machine.LOAD_CORE) as worker,
        ):
            try:
                room = LIMIT - running.descriptors
                for number in range(scale.repeat):
                    # the moment of freeing is another one each time
                    exhaust(samples, running, worker, room, scale.seconds + number / scale.repeat)
                    say(f'descriptors {number + 1}/{scale.repeat}')
            finally:
                worker.kill()
    except FAILURES as error:
        for name, _, _ in ROWS:
            samples.fail(name, 'it', str(error))
    rows = [[title, samples.cell(name, 'it', shown(form))] for name, title, form in ROWS]
    table = Table([f'{LIMIT} descriptors, {CLIENTS} clients', 'measured'], rows)
    return Section('Descriptors exhausted and freed', [table], reasons(samples), figures(samples))


def shown(form: str) -> Callable[[float], str]:
    """Return what formats a number so."""
    return lambda value: format(value, form)


def exhaust(samples: Samples, running: RunningTarget, worker: subprocess.Popen[str], room: int, seconds: float) -> None:
    """Take all descriptors, look at the server for a while, twice, and free them."""
    served = ask(worker, f'fill {room}')['found']
    if running.descriptors < LIMIT:
        raise workers.WorkerFailed(f'{running.descriptors} of {LIMIT} descriptors are taken')
    exhausted, lines = watch(running, lambda: time.sleep(seconds))
    _, churned = watch(running, lambda: ask(worker, f'churn {seconds}'))
    recovery = ask(worker, 'free')['found']
    # with connections, too: their deadlines are looked at now and then
    idle, _ = watch(running, lambda: time.sleep(seconds))
    for name, value in (
        ('served', served),
        ('waiting', CLIENTS - served),
        ('recovery', recovery),
        ('idle', idle),
        ('exhausted', exhausted),
        ('beyond', exhausted - idle),
        ('lines', lines),
        ('churned', churned),
    ):
        samples.add(name, 'it', value)


def watch(running: RunningTarget, work: Callable[[], object]) -> tuple[float, float]:
    """Do ``work``; return the per cent of a core that the server used meanwhile, and how many lines a second it logged.

    One line more is free: in any time there is one more than whole seconds pass.
    """
    logged, used, began = running.logged, running.processor_seconds, time.monotonic()
    work()
    elapsed = time.monotonic() - began
    return 100 * (running.processor_seconds - used) / elapsed, max(0, running.logged - logged - 1) / elapsed


def figures(samples: Samples) -> list[Figure]:
    """Return the figures to reach."""
    bounds = (
        ('recovery', 'descriptors freed: the last of those that waited served after', 1.0, ' s'),
        ('beyond', 'descriptors exhausted: processor, beyond that of the same server afterwards', 5.0, ' %'),
        ('lines', 'descriptors exhausted: log lines a second', 1.0, ''),
        ('churned', 'descriptors exhausted, while clients come and go: log lines a second', 1.0, ''),
    )
    return [
        Figure(title, bound, samples.series(name, 'it'), at_most=True, unit=unit) for name, title, bound, unit in bounds
    ]
