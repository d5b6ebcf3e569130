"""Fuzz one target guided by coverage, with atheris, which keeps the inputs that reach new code.

    python contrib/fuzz/guided.py TARGET [CORPUS_DIR] [libFuzzer options, such as -runs=1000000 -max_total_time=600]

The first eight bytes of an input seed all other choices; the rest is the data that the peer sends. Half of the
mutations are libFuzzer's own, half those of the target's source.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

with atheris.instrument_imports(include=['geventnode']):
    from contrib.fuzz.run import TARGETS

from contrib.fuzz.campaign import checked
from contrib.fuzz.finding import Finding

__all__ = ['main']

#: Bytes at the start of an input that seed the other choices of the target.
CHOICES = 8


def main(arguments: list[str]) -> None:
    """Run until libFuzzer ends the process."""
    if len(arguments) < 2 or arguments[1] not in TARGETS:
        sys.exit(f'{__doc__}\nTARGET must be one of {", ".join(TARGETS)}.')
    name = arguments.pop(1)
    with atheris.instrument_imports(include=['geventnode']):
        target = TARGETS[name]()
    source = target.source

    def one_input(data: bytes) -> None:
        sample = target.make_from(data[CHOICES:], random.Random(data[:CHOICES]))
        try:
            checked(target, [sample])
        except Finding:
            # libFuzzer keeps the bytes; the sample is for run.py --replay
            print(sample.dump())
            raise

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        choices, data = data[:CHOICES].ljust(CHOICES, b'\0'), data[CHOICES:]
        if rng.random() < 0.1:
            choices = rng.randbytes(CHOICES)
        if rng.random() < 0.5:
            return choices + atheris.Mutate(data, max(longest - CHOICES, 1))
        return (choices + source.change(data or source.make(rng), rng))[:longest]

    atheris.Setup(arguments, one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == '__main__':
    main(sys.argv)
