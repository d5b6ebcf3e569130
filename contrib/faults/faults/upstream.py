"""An upstream that is killed while a thousand bodies are streamed through the proxy of the examples."""

from __future__ import annotations

import os
import signal
from typing import Any

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Section, Series, Table

from faults.scale import Scale
from faults.targets import FAILURES, LEFT, WORKERS, RunningTarget, Target

__all__ = ['measure_upstream']

#: The outcomes that are counted; the names of errors are counted separately.
COUNTED = ('error', 'complete')

Outcomes = dict[str, dict[str, int]]


class RunningUpstream(RunningTarget):
    """The upstream, which has no status."""

    def _check(self) -> None:
        """Do nothing: the proxy makes the first request."""


def measure_upstream(scale: Scale) -> Section:
    """Kill the upstream; return the report of the clients' outcomes."""
    title = 'An upstream killed during bodies'
    try:
        with (
            RunningUpstream(Target.of('upstream.py')) as upstream,
            RunningTarget(Target.of('proxy.py', upstream.port)) as proxy,
        ):
            before = proxy.status()
            found = kill(upstream, proxy, scale.bodies)
            after = proxy.settled(before)
            status, _ = proxy.request('GET', '/length')
            logged = proxy.logged
            say('upstream killed')
    except FAILURES as error:
        return Section(title, notes=[f'Invalid: {error}'], figures=figures(None, scale, 0, 0, 0))
    outcomes: Outcomes = found['outcomes']
    rows = [
        [
            kind,
            *(f'{counts[name]:,}' for name in COUNTED),
            ', '.join(f'{name} {count}' for name, count in sorted(counts.items()) if name not in COUNTED),
        ]
        for kind, counts in outcomes.items()
    ]
    left = sum(max(0, getattr(after, name) - getattr(before, name)) for name in LEFT)
    note = f"Clients without an outcome: {found['hanging']}."
    return Section(
        title,
        [Table(['body and client', 'error', 'complete', 'errors'], rows)],
        [note],
        figures(outcomes, scale, left, logged, status),
    )


def kill(upstream: RunningUpstream, proxy: RunningTarget, count: int) -> dict[str, Any]:
    """Kill the upstream once every client has a part of its body; return their outcomes."""
    with workers.start(str(WORKERS / 'bodies.py'), proxy.port, count, core=machine.LOAD_CORE) as worker:
        try:
            if not workers.answer(worker)['begun']:
                raise workers.WorkerFailed('not all bodies have begun')
            os.kill(upstream.pid, signal.SIGKILL)
            return workers.answer(worker)
        finally:
            worker.kill()


def figures(outcomes: Outcomes | None, scale: Scale, left: int, logged: int, status: int) -> list[Figure]:
    """Return the figures with their targets."""

    def total(name: str) -> Series | None:
        return None if outcomes is None else Series((sum(counts[name] for counts in outcomes.values()),))

    known = outcomes is not None
    return [
        Figure('truncated bodies reported as errors', scale.bodies, total('error')),
        Figure('truncated bodies reported as complete', 0, total('complete'), at_most=True),
        Figure(
            'connections, descriptors and greenlets left in the proxy',
            0,
            Series((left,)) if known else None,
            at_most=True,
        ),
        Figure('lines that the proxy has logged', 0, Series((logged,)) if known else None, at_most=True),
        Figure('status of the proxy afterwards', 502, Series((status,)) if known else None),
    ]
