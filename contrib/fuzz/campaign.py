"""A run of one target over many inputs, in portions that each have a seed of their own.

A portion depends on nothing but seed, target and its number, so that the inputs are the same however many processes
share the work. After each one the memory is looked at: what the collector knows of may not grow.
"""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from contrib.fuzz.finding import Finding
from contrib.fuzz.sample import Sample

__all__ = ['PORTION', 'Campaign', 'Target', 'checked', 'watched']

#: Inputs in a portion.
PORTION = 10_000

#: Inputs that are checked together, which shares the turns of the loop among them.
BATCH = 100

#: Seconds that a batch may take; the machine may stand still meanwhile.
PATIENCE = 120

#: Portions after which all tables of bounded size are full, and objects that may come and go afterwards.
WARM_UP, SLACK = 3, 5000


class Target(Protocol):
    """What is fuzzed."""

    name: str

    def make(self, chance: random.Random) -> Sample:
        """Return a sample."""

    def around(self, data: bytes, chance: random.Random) -> Sample:
        """Return a sample of ``data``, with all else at random."""

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` when a rule is broken for one of them."""


@dataclass
class Campaign:
    """What has come of a run so far."""

    target: Target
    seed: str
    inputs: int = 0
    seconds: float = 0.0
    findings: list[tuple[Sample, Finding]] = field(default_factory=list)
    #: Objects after the warm-up, and the most that there were since.
    objects_before: int = 0
    objects_since: int = 0
    _portions: int = 0

    def run(self, number: int, count: int = PORTION) -> None:
        """Check the first ``count`` inputs of portion ``number``."""
        chance = random.Random(f'{self.seed} {self.target.name} {number}')
        target = self.target
        started = time.monotonic()
        with watched() as beat:
            for start in range(0, count, BATCH):
                samples = [target.make(chance) for _ in range(min(BATCH, count - start))]
                beat()
                try:
                    checked(target, samples)
                except Finding as finding:
                    self._search(samples, finding)
                    beat()
        self.inputs += count
        self.seconds += time.monotonic() - started
        self._look_at_memory()

    def _search(self, samples: Sequence[Sample], finding: Finding) -> None:
        """Note which of ``samples`` lead to findings."""
        found = len(self.findings)
        for sample in samples:
            try:
                checked(self.target, [sample])
            except Finding as each:
                self.findings.append((sample, each))
        if len(self.findings) == found:
            raise Finding('together', f'no sample alone breaks a rule, but {len(samples)} together do: {finding}')

    def _look_at_memory(self) -> None:
        gc.collect()
        objects = len(gc.get_objects())
        self._portions += 1
        if self._portions <= WARM_UP:
            self.objects_before = self.objects_since = objects
            return
        self.objects_since = max(self.objects_since, objects)
        if objects > self.objects_before + SLACK and not self.findings:
            raise Finding(
                'memory',
                f'{objects} objects are alive after {self.inputs} inputs; there were '
                f'{self.objects_before} after {WARM_UP} portions',
            )


def checked(target: Target, samples: Sequence[Sample]) -> None:
    """Check ``samples``; an exception that no rule allows is a finding, too."""
    try:
        target.check(samples)
    except Finding:
        raise
    except Exception as error:
        raise Finding('foreign exception', f'{type(error).__name__}: {error}') from error


@contextlib.contextmanager
def watched() -> Iterator[Callable[[], None]]:
    """Give a function to be called now and then; when it is not called for long, :exc:`Finding` is raised."""
    beats = [0, 0]

    def look(number: int, frame: Any) -> None:
        present, seen = beats
        if present == seen:
            raise Finding('hang', f'no end after {PATIENCE} seconds')
        beats[1] = present

    def beat() -> None:
        beats[0] += 1

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
    try:
        yield beat
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
