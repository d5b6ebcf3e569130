"""Inject faults into the server and the proxy, measure the effect on them and their other clients, and print tables.

    python contrib/faults/run.py [--quick] [--only PARTS] [--markdown FILE]

The exit status is 0 if every target was reached, 1 if one was missed or could not be measured, 2 for invalid options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

# the benchmarks' modules measure the faults, too
sys.path.insert(1, str(Path(__file__).parent.parent / 'benchmarks'))

from bench.command import add_options, chosen, measure, today
from bench.results import Section
from faults.descriptors import measure_descriptors
from faults.handshakes import measure_handshakes
from faults.memory import measure_memory
from faults.resets import measure_resets
from faults.scale import FULL, QUICK, TINY, Scale
from faults.slow import measure_slow
from faults.upstream import measure_upstream

__all__ = ['main']

PARTS: dict[str, Callable[[Scale], Section]] = {
    'slow': measure_slow,
    'resets': measure_resets,
    'descriptors': measure_descriptors,
    'memory': measure_memory,
    'handshakes': measure_handshakes,
    'upstream': measure_upstream,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; return the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = chosen(parser, options, PARTS)
    scale: Scale = options.scale
    settings = (
        f'{today()}: medians (and extremes) of {scale.repeat} interleaved repetitions, turns of {scale.seconds} s.'
    )
    return measure(names, PARTS, scale, settings, options.markdown)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Inject faults into geventnode, and measure the effect.')
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument(
        '--quick',
        dest='scale',
        action='store_const',
        const=QUICK,
        default=FULL,
        help='a rough run of a minute or two, with smaller numbers',
    )
    scale.add_argument(
        '--tiny',
        dest='scale',
        action='store_const',
        const=TINY,
        help='a run to test the program; its figures mean little',
    )
    add_options(parser, PARTS)
    return parser


if __name__ == '__main__':
    sys.exit(main())
