"""Samples: an input and all choices that a target needs to repeat a run."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, replace
from typing import Any

from tests.corpus.drive import bytewise, cut

__all__ = ['BOTH', 'Sample', 'random_cuts', 'ways']

#: One of this number of samples is cut after each byte.
BYTEWISE = 20
#: The longest input that is cut so, in bytes.
MAX_BYTEWISE = 400

#: The share of samples for server and client that run whole as well as in pieces. The result of the others, which run
#: only in pieces, is compared with the parser's result for the whole.
BOTH = 0.25


@dataclass(frozen=True)
class Sample:
    """One input for one target.

    :ivar data: the bytes that the peer sends.
    :ivar cuts: the positions at which they are cut; None: after each byte.
    :ivar scenario: the other choices of the target, in values that JSON can represent.
    """

    target: str
    data: bytes
    cuts: tuple[int, ...] | None
    scenario: dict[str, Any]

    def pieces(self) -> list[bytes]:
        """Return the data, cut into pieces."""
        if self.cuts is None:
            return list(bytewise(self.data))
        return cut(self.data, (position for position in self.cuts if position < len(self.data)))

    def with_data(self, data: bytes) -> Sample:
        """Return the same sample with other bytes."""
        return replace(self, data=data)

    def dump(self) -> str:
        """Return the sample as a line of JSON."""
        return json.dumps(
            {
                'target': self.target,
                'data_b64': base64.b64encode(self.data).decode('ascii'),
                'cuts': self.cuts,
                'scenario': self.scenario,
            }
        )

    @classmethod
    def load(cls, line: str) -> Sample:
        """Return the sample that ``dump`` wrote."""
        raw = json.loads(line)
        cuts = None if raw['cuts'] is None else tuple(raw['cuts'])
        return cls(raw['target'], base64.b64decode(raw['data_b64']), cuts, raw['scenario'])


def random_cuts(size: int, rng: random.Random) -> tuple[int, ...] | None:
    """Return a few positions at which to cut; None: after each byte."""
    if size <= MAX_BYTEWISE and rng.random() * BYTEWISE < 1:
        return None
    return tuple(1 + int(rng.random() * size) for _ in range(1 + int(rng.random() * 5)))


def ways(sample: Sample) -> list[list[bytes]]:
    """Return the pieces for each run of ``sample``."""
    return [[sample.data], sample.pieces()] if sample.scenario['both'] else [sample.pieces()]
