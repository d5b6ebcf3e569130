"""A campaign: one target and many inputs, in portions with a seed each.

The inputs of a portion depend only on the seed, the target and the portion's number, so that they are the same for any
number of processes. After each portion, the number of objects that the garbage collector tracks must not have grown.
"""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from contrib.fuzz.finding import Finding
from contrib.fuzz.sample import Sample
from contrib.fuzz.target import Target

__all__ = ['PORTION', 'Campaign', 'checked', 'watchdog']

#: Inputs in a portion.
PORTION = 10_000

#: Inputs that are checked together, so that they share the turns of the event loop.
BATCH = 100

#: Seconds after which a batch is considered to hang; the machine can be busy.
TIMEOUT = 120

#: Portions after which all caches of bounded size are full.
WARM_UP = 3
#: Objects by which the number can vary afterwards.
SLACK = 5000


@dataclass
class Campaign:
    """The state of a run."""

    target: Target
    seed: str
    inputs: int = 0
    seconds: float = 0.0
    findings: list[tuple[Sample, Finding]] = field(default_factory=list)
    #: Objects after the warm-up.
    objects_before: int = 0
    #: The most objects since then.
    objects_since: int = 0
    _portions: int = 0

    def run(self, number: int, count: int = PORTION) -> None:
        """Check the first ``count`` inputs of the portion ``number``."""
        rng = random.Random(f'{self.seed} {self.target.name} {number}')
        target = self.target
        started = time.monotonic()
        with watchdog() as beat:
            for start in range(0, count, BATCH):
                samples = [target.make(rng) for _ in range(min(BATCH, count - start))]
                beat()
                try:
                    checked(target, samples)
                except Finding as finding:
                    self._search(samples, finding)
                    beat()
        self.inputs += count
        self.seconds += time.monotonic() - started
        self._check_memory()

    def _search(self, samples: Sequence[Sample], finding: Finding) -> None:
        """Record the findings of each of ``samples`` alone."""
        found = len(self.findings)
        for sample in samples:
            try:
                checked(self.target, [sample])
            except Finding as each:
                self.findings.append((sample, each))
        if len(self.findings) == found:
            raise Finding('together', f'no sample breaks a rule alone, but {len(samples)} together do: {finding}')

    def _check_memory(self) -> None:
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
    """Check ``samples``, and convert an unexpected exception into a finding."""
    try:
        target.check(samples)
    except Finding:
        raise
    except Exception as error:
        raise Finding('foreign exception', f'{type(error).__name__}: {error}') from error


@contextlib.contextmanager
def watchdog() -> Iterator[Callable[[], None]]:
    """Yield a function; unless it is called in time, raise :exc:`Finding`."""
    beats = [0, 0]

    def expire(number: int, frame: Any) -> None:
        present, seen = beats
        if present == seen:
            raise Finding('hang', f'not finished after {TIMEOUT} seconds')
        beats[1] = present

    def beat() -> None:
        beats[0] += 1

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT, TIMEOUT)
    try:
        yield beat
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
