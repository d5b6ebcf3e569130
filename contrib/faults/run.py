"""Bring the server and the proxy into trouble, look what becomes of them and of their other clients, and print tables.

    python contrib/faults/run.py [--quick] [--only PARTS] [--markdown FILE]

Exit status: 0 when every figure to reach was reached, 1 when one was missed or could not be measured, 2 for options
that make no sense.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

# What measures the benchmarks measures this, too.
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
        f'{today()}: medians (and extremes) of {scale.repeat} interleaved repetitions of what is compared, '
        f'turns of {scale.seconds} s.'
    )
    return measure(names, PARTS, scale, settings, options.markdown)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Bring geventnode into trouble, and see what becomes of it.')
    much = parser.add_mutually_exclusive_group()
    much.add_argument(
        '--quick',
        dest='scale',
        action='store_const',
        const=QUICK,
        default=FULL,
        help='a rough run of a minute or two, with less of everything',
    )
    much.add_argument(
        '--tiny',
        dest='scale',
        action='store_const',
        const=TINY,
        help='what shows that everything works; its figures say little',
    )
    add_options(parser, PARTS)
    return parser


if __name__ == '__main__':
    sys.exit(main())
