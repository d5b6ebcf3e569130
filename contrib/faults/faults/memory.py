"""Resident memory before and after a great many requests, aborted and normal ones."""

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

#: Aborted requests at the same time, and during the warm-up: a server that is not given its core for a while finds more
#: of them waiting than there should be, and what it needs then, once, stays with the allocator.
AT_ONCE, AT_MOST = 60, 600

#: Requests are made in so many turns, each by another process on connections of its own.
TURNS = 10

#: The share of all requests that is made before the first look.
WARM_UP = 0.05


@dataclass(frozen=True)
class Look:
    """What one look at the server found.

    :ivar when: after what.
    :ivar resident: bytes.
    :ivar objects: that the collector knows.
    """

    when: str
    resident: int
    objects: int

    @classmethod
    def at(cls, running: RunningTarget, fresh: Status, when: str) -> Look:
        """Look, when no connection is left, the garbage is collected and the memory no longer changes."""
        objects = running.settled(fresh).objects
        return cls(when, settled(running), objects)


def measure_memory(scale: Scale) -> Section:
    """Make requests and look at the memory in between; return the report."""
    looks: list[Look] = []
    notes: list[str] = []
    try:
        with RunningTarget(Target.of('faulted.py')) as running:
            fresh = running.status()
            abort(running, int(scale.aborted * WARM_UP), AT_MOST)
            ask(running, int(scale.normal * WARM_UP))
            looks.append(Look.at(running, fresh, 'warming up'))
            for half in range(1, 3):
                for turn in range(TURNS // 2):
                    abort(running, scale.aborted // TURNS, AT_ONCE)
                    say(f'memory: aborted requests {half}, {turn + 1}/{TURNS // 2}')
                looks.append(Look.at(running, fresh, f'{half * scale.aborted // 2:,} aborted requests'))
            for turn in range(TURNS):
                ask(running, scale.normal // TURNS)
                say(f'memory: normal requests {turn + 1}/{TURNS}')
            looks.append(Look.at(running, fresh, f'{scale.normal:,} normal requests'))
    except FAILURES as error:
        notes.append(f'Invalid: {error}')
    rows = [
        [
            f'after {look.when}',
            f'{look.resident / 2**20:.2f}',
            f'{look.resident / looks[0].resident:.3f}',
            f'{look.objects:,}',
        ]
        for look in looks
    ]
    return Section('Memory', [Table(['memory', 'MiB', 'ratio', 'objects'], rows)], notes, figures(looks))


def abort(running: RunningTarget, count: int, at_once: int) -> None:
    """Make so many requests that are aborted at various places, by resets and by FINs."""
    workers.run(str(WORKERS / 'aborting.py'), running.port, count, 'mixed', at_once, core=machine.LOAD_CORE)


def ask(running: RunningTarget, count: int) -> None:
    """Make so many requests on kept connections; each answer is checked."""
    rounds = max(10, count // CONNECTIONS)
    workers.run('rounds.py', running.port, '/', 1, CONNECTIONS, rounds, core=machine.LOAD_CORE)


def figures(looks: list[Look]) -> list[Figure]:
    """Return the figures to reach."""
    return [
        Figure(
            f'memory after {which} requests to before',
            1.02,
            Series((looks[index].resident / looks[0].resident,)) if index < len(looks) else None,
            at_most=True,
        )
        for index, which in ((2, 'aborted'), (3, 'aborted and normal'))
    ]
