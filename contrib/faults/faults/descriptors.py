"""A server without free descriptors: its load until some are freed, and the time until it accepts again."""

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

#: More than the limit; the waiting ones are within it once the served ones have disconnected.
CLIENTS = 300

ROWS = (
    ('served', 'clients served', '.0f'),
    ('waiting', 'clients waiting', '.0f'),
    ('recovery', 'the last of them served after, s', '.2f'),
    ('exhausted', 'processor while exhausted, %', '.1f'),
    ('idle', 'processor afterwards, %', '.1f'),
    ('beyond', 'the difference, %', '.1f'),
    ('lines', 'log lines a second', '.2f'),
    ('churned', 'log lines a second while clients reconnect', '.2f'),
)


def measure_descriptors(scale: Scale) -> Section:
    """Exhaust and free the descriptors repeatedly; return the report."""
    samples = Samples()
    try:
        with (
            RunningTarget(Target.of('faulted.py', '--descriptors', LIMIT)) as running,
            workers.start(str(WORKERS / 'holding.py'), running.port, CLIENTS, core=machine.LOAD_CORE) as worker,
        ):
            try:
                room = LIMIT - running.descriptors
                for number in range(scale.repeat):
                    # they are freed at a different fraction of a second each time
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
    """Return a function that formats a number by ``form``."""
    return lambda value: format(value, form)


def exhaust(samples: Samples, running: RunningTarget, worker: subprocess.Popen[str], room: int, seconds: float) -> None:
    """Exhaust the descriptors, watch the server, idle and with reconnecting clients, and free them."""
    served = ask(worker, f'fill {room}')['found']
    if running.descriptors < LIMIT:
        raise workers.WorkerFailed(f'{running.descriptors} of {LIMIT} descriptors are open')
    exhausted, lines = watch(running, lambda: time.sleep(seconds))
    _, churned = watch(running, lambda: ask(worker, f'churn {seconds}'))
    recovery = ask(worker, 'free')['found']
    # with the same connections, because the server checks their deadlines at intervals
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
    """Do ``work``; return the share of a core, in per cent, that the server used, and the lines that it logged per
    second.

    One line is not counted: in n seconds, a log of one line a second can have n + 1.
    """
    logged, used, began = running.logged, running.processor_seconds, time.monotonic()
    work()
    elapsed = time.monotonic() - began
    return 100 * (running.processor_seconds - used) / elapsed, max(0, running.logged - logged - 1) / elapsed


def figures(samples: Samples) -> list[Figure]:
    """Return the figures with their targets."""
    bounds = (
        ('recovery', 'descriptors freed: the last waiting client served after', 1.0, ' s'),
        ('beyond', 'descriptors exhausted: processor, beyond that of the same server afterwards', 5.0, ' %'),
        ('lines', 'descriptors exhausted: log lines a second', 1.0, ''),
        ('churned', 'descriptors exhausted, while clients reconnect: log lines a second', 1.0, ''),
    )
    return [
        Figure(title, bound, samples.series(name, 'it'), at_most=True, unit=unit) for name, title, bound, unit in bounds
    ]
