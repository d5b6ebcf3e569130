"""Resident memory before and after many requests, aborted and normal ones."""

from __future__ import annotations

from dataclasses import dataclass

from bench import machine, workers
from bench.idle import settled
from bench.progress import say
from bench.results import Figure, Section, Series, Table

from faults.scale import Scale
from faults.targets import FAILURES, WORKERS, RunningTarget, Status, Target

__all__ = ['measure_memory']

CONNECTIONS = 32

#: Aborted requests at the same time, and during the warm-up. A server without its core for a while has more of them to
#: serve at once, and the allocator keeps the memory that this takes.
AT_ONCE, AT_MOST = 60, 600

#: The share of all requests before the first measurement.
WARM_UP = 0.05


@dataclass(frozen=True)
class Measurement:
    """A measurement of the server's memory.

    :ivar when: the requests before it.
    :ivar resident: the resident memory in bytes.
    :ivar objects: the number of objects that the garbage collector tracks.
    """

    when: str
    resident: int
    objects: int

    @classmethod
    def take(cls, running: RunningTarget, fresh: Status, when: str) -> Measurement:
        """Measure once no connection is left, garbage is collected and the memory no longer changes."""
        objects = running.settled(fresh).objects
        return cls(when, settled(running), objects)


def measure_memory(scale: Scale) -> Section:
    """Make requests, and measure the memory in between; return the report."""
    measurements: list[Measurement] = []
    notes: list[str] = []
    try:
        with RunningTarget(Target.of('faulted.py')) as running:
            fresh = running.status()
            abort(running, int(scale.aborted * WARM_UP), AT_MOST)
            request(running, int(scale.normal * WARM_UP))
            measurements.append(Measurement.take(running, fresh, 'warming up'))
            for half in range(1, 3):
                for turn in range(scale.memory_turns // 2):
                    abort(running, scale.aborted // scale.memory_turns, AT_ONCE)
                    say(f'memory: aborted requests {half}, {turn + 1}/{scale.memory_turns // 2}')
                measurements.append(Measurement.take(running, fresh, f'{half * scale.aborted // 2:,} aborted requests'))
            for turn in range(scale.memory_turns):
                request(running, scale.normal // scale.memory_turns)
                say(f'memory: normal requests {turn + 1}/{scale.memory_turns}')
            measurements.append(Measurement.take(running, fresh, f'{scale.normal:,} normal requests'))
    except FAILURES as error:
        notes.append(f'Invalid: {error}')
    rows = [
        [
            f'after {each.when}',
            f'{each.resident / 2**20:.2f}',
            f'{each.resident / measurements[0].resident:.3f}',
            f'{each.objects:,}',
        ]
        for each in measurements
    ]
    return Section('Memory', [Table(['memory', 'MiB', 'ratio', 'objects'], rows)], notes, figures(measurements))


def abort(running: RunningTarget, count: int, at_once: int) -> None:
    """Make ``count`` requests that are aborted at various places, by resets and by FINs."""
    workers.run(str(WORKERS / 'aborting.py'), running.port, count, 'mixed', at_once, core=machine.LOAD_CORE)


def request(running: RunningTarget, count: int) -> None:
    """Make ``count`` requests on kept connections, and check each response."""
    rounds = max(10, count // CONNECTIONS)
    workers.run('rounds.py', running.port, '/', 1, CONNECTIONS, rounds, core=machine.LOAD_CORE)


def figures(measurements: list[Measurement]) -> list[Figure]:
    """Return the figures with their targets."""
    return [
        Figure(
            f'memory after {which} requests to before',
            1.02,
            Series((measurements[index].resident / measurements[0].resident,)) if index < len(measurements) else None,
            at_most=True,
        )
        for index, which in ((2, 'aborted'), (3, 'aborted and normal'))
    ]
