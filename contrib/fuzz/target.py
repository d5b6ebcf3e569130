"""Targets: the components to fuzz, and how their samples are made.

A source makes the bytes of a sample; a target adds its other choices, and checks the result. The order in which both
use the random numbers decides the inputs of a seed.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from contrib.fuzz.sample import Sample, random_cuts

__all__ = ['ConnectionTarget', 'Source', 'Target']


class Source(Protocol):
    """A source of inputs."""

    def make(self, rng: random.Random) -> bytes:
        """Return an input."""

    def change(self, data: bytes, rng: random.Random) -> bytes:
        """Return ``data`` with a small change."""


class Target(ABC):
    """A component to fuzz, with its rules.

    :param name: the name of the target in commands, samples and findings.
    :param source: the source of its inputs.
    """

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source

    def make(self, rng: random.Random) -> Sample:
        """Return a sample."""
        return self.make_from(self.source.make(rng), rng)

    def make_from(self, data: bytes, rng: random.Random) -> Sample:
        """Return a sample of ``data`` with random other choices."""
        scenario = self._choices(rng)
        return Sample(self.name, data, random_cuts(len(data), rng), scenario)

    @abstractmethod
    def _choices(self, rng: random.Random) -> dict[str, Any]:
        """Return the choices of this target, in values that JSON can represent."""

    @abstractmethod
    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`~contrib.fuzz.finding.Finding` if one of ``samples`` breaks a rule."""


class ConnectionTarget(Target):
    """A target with connections in memory: their peers can be slow to receive, or break the connection."""

    #: The share of samples in which a send takes a limited number of bytes, and that number: from 20.
    LIMITED, MAX_ROOM = 0.1, 200
    #: The share of samples in which sending breaks, and the largest number of bytes before that.
    BREAKING, MAX_SENT = 0.05, 300

    #: The share of samples that arrive at once, and not in one piece for each turn of the loop.
    HURRIED: ClassVar[float] = 0.7

    def make_from(self, data: bytes, rng: random.Random) -> Sample:
        """Return a sample of ``data`` with random other choices."""
        rare = rng.random()
        cuts = random_cuts(len(data), rng)
        scenario = {
            **self._choices(rng),
            'hurry': cuts is None or rng.random() < self.HURRIED,
            'room': 20 + int(rng.random() * self.MAX_ROOM) if rare < self.LIMITED else None,
            'breaks_after': int(rng.random() * self.MAX_SENT) if rare > 1 - self.BREAKING else None,
        }
        return Sample(self.name, data, cuts, scenario)
