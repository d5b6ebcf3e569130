"""An input with all that was chosen for it: what a target needs to do the same again."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, replace
from typing import Any

from tests.corpus.drive import bytewise, cut

__all__ = ['BOTH', 'Sample', 'some_cuts', 'ways']

#: In one of so many samples the other way of cutting is byte by byte.
BYTEWISE = 20
LONGEST_BYTEWISE = 400


#: How many of the inputs of server and client come whole, too; the others come in pieces, and what comes of them is
#: compared with what the parser makes of the whole.
BOTH = 0.25


@dataclass(frozen=True)
class Sample:
    """One input for one target.

    :ivar data: the bytes that a peer sends.
    :ivar cuts: where they are cut in the run that is compared with the whole; None: everywhere.
    :ivar scenario: what else the target has chosen, as JSON knows it.
    """

    target: str
    data: bytes
    cuts: tuple[int, ...] | None
    scenario: dict[str, Any]

    def pieces(self) -> list[bytes]:
        """Return the data cut into pieces."""
        if self.cuts is None:
            return list(bytewise(self.data))
        return cut(self.data, (position for position in self.cuts if position < len(self.data)))

    def with_data(self, data: bytes) -> Sample:
        """Return the same with other bytes."""
        return replace(self, data=data)

    def dump(self) -> str:
        """Return this as a line of JSON."""
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
        """Return what was dumped."""
        raw = json.loads(line)
        cuts = None if raw['cuts'] is None else tuple(raw['cuts'])
        return cls(raw['target'], base64.b64decode(raw['data_b64']), cuts, raw['scenario'])


def some_cuts(size: int, chance: random.Random) -> tuple[int, ...] | None:
    """Return where to cut ``size`` bytes: at a few places, or, for a short input, everywhere."""
    if size <= LONGEST_BYTEWISE and chance.random() * BYTEWISE < 1:
        return None
    return tuple(1 + int(chance.random() * size) for _ in range(1 + int(chance.random() * 5)))


def ways(sample: Sample) -> list[list[bytes]]:
    """Return the pieces for each run of ``sample``."""
    return [[sample.data], sample.pieces()] if sample.scenario['both'] else [sample.pieces()]
