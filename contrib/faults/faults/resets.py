"""Thousands of connections that are reset: before, within and after a head, and in bodies of both directions."""

from __future__ import annotations

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Section, Series, Table

from faults.scale import Scale
from faults.targets import FAILURES, LEFT, WORKERS, RunningTarget, Target

__all__ = ['measure_resets']

#: Connections that are open at the same time.
AT_ONCE = 60

QUANTITIES = {
    'connections': 'connections',
    'greenlets': 'active greenlets',
    'descriptors': 'descriptors',
    'objects': 'objects',
    'logged': 'lines in its log',
}


def measure_resets(scale: Scale) -> Section:
    """Reset connections, and count the remaining resources; return the report."""
    title = 'Connections opened and reset'
    try:
        with RunningTarget(Target.of('faulted.py')) as running:
            fresh = running.status()
            reset(running, scale.resets // 10)
            idle = running.settled(fresh)
            before = {**vars(idle), 'logged': running.logged}
            left = reset(running, scale.resets)
            after = {**vars(running.settled(idle)), 'logged': running.logged}
            answers = running.answers()
            say(f'resets: {sum(left.values())}')
    except FAILURES as error:
        return Section(title, notes=[f'Invalid: {error}'], figures=figures({}, {}, None))
    places = Table(['reset', 'connections'], [[place, f'{count:,}'] for place, count in left.items()])
    held = Table(
        ['resources of the server', 'before', 'after'],
        [[title, f'{before[name]:,}', f'{after[name]:,}'] for name, title in QUANTITIES.items()],
    )
    return Section(title, [places, held], [], figures(before, after, answers))


def reset(running: RunningTarget, count: int) -> dict[str, int]:
    """Open and reset ``count`` connections; return the number at each place."""
    return workers.run(str(WORKERS / 'aborting.py'), running.port, count, 'reset', AT_ONCE, core=machine.LOAD_CORE)


def figures(before: dict[str, int], after: dict[str, int], answers: bool | None) -> list[Figure]:
    """Return the figures with their targets."""
    found = [
        Figure(title, 0, Series((after[name] - before[name],)) if name in after else None, at_most=True)
        for name, title in (
            *((name, f'{name} left after resets') for name in LEFT),
            ('logged', 'lines logged about resets'),
        )
    ]
    return [
        *found,
        Figure('normal requests answered after resets', 1, None if answers is None else Series((float(answers),))),
    ]
