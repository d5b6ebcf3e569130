"""Measure this server and client against others, in one run, and print the ratios as tables.

    python contrib/benchmarks/run.py [--quick] [--only PARTS] [--repeat N] [--seconds S] [--markdown FILE]

The exit status is 0 if every target was reached, 1 if one was missed or could not be measured, 2 for invalid options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.adapter import measure_adapter
from bench.clients import measure_clients
from bench.command import add_options, chosen, measure, today
from bench.exchanges import measure_exchanges
from bench.fairness import measure_fairness
from bench.http2 import measure_http2
from bench.idle import measure_idle
from bench.imports import measure_imports
from bench.load import measure_load
from bench.monitor import measure_monitor
from bench.pace import measure_pace
from bench.parsers import measure_parsers
from bench.proxies import measure_proxies
from bench.realistic import measure_realistic
from bench.repeated import measure_repeated
from bench.results import Section
from bench.rounds import measure_rounds
from bench.tls import measure_tls
from bench.transfers import measure_transfers
from bench.versions import measure_versions
from bench.websockets import measure_websockets
from bench.wsgi import measure_wsgi

__all__ = ['main']


@dataclass(frozen=True)
class Scale:
    """The numbers of a run.

    :ivar repeat: interleaved repetitions of everything.
    :ivar seconds: the duration of a turn of wrk, which accepts whole ones only.
    :ivar rounds: short rounds in one turn.
    :ivar transfer: bytes of an upload and a download.
    :ivar connections: idle connections.
    :ivar requests: requests in one round of the parsers.
    """

    repeat: int
    seconds: int
    rounds: int
    transfer: int
    connections: int
    requests: int


FULL = Scale(repeat=5, seconds=1, rounds=200, transfer=2**30, connections=10_000, requests=5_000)
QUICK = Scale(repeat=1, seconds=1, rounds=50, transfer=2**28, connections=2_000, requests=1_000)

#: The parts with the main figures have turns of this many times the duration of the others.
LONGER = 2

PARTS: dict[str, Callable[[Scale], Section]] = {
    'realistic': lambda scale: measure_realistic(scale.repeat, LONGER * scale.seconds),
    'repeated': lambda scale: measure_repeated(scale.repeat, LONGER * scale.seconds),
    'hello': lambda scale: measure_load(scale.repeat, scale.seconds),
    'rounds': lambda scale: measure_rounds(scale.repeat, scale.rounds),
    'exchanges': lambda scale: measure_exchanges(scale.repeat, scale.seconds),
    'pace': lambda scale: measure_pace(scale.repeat, scale.seconds),
    'fairness': lambda scale: measure_fairness(scale.repeat, scale.seconds),
    'transfer': lambda scale: measure_transfers(scale.repeat, scale.transfer),
    'proxy': lambda scale: measure_proxies(scale.repeat, scale.transfer),
    'idle': lambda scale: measure_idle(scale.repeat, scale.connections),
    'tls': lambda scale: measure_tls(scale.repeat, scale.seconds, scale.connections // 5),
    'http2': lambda scale: measure_http2(scale.repeat, LONGER * scale.seconds, scale.connections),
    'websockets': lambda scale: measure_websockets(scale.repeat, scale.rounds, scale.connections),
    'monitor': lambda scale: measure_monitor(scale.repeat, scale.seconds),
    'wsgi': lambda scale: measure_wsgi(scale.repeat, scale.seconds),
    'clients': lambda scale: measure_clients(scale.repeat, scale.seconds, scale.transfer),
    'requests': lambda scale: measure_adapter(scale.repeat, scale.seconds, scale.transfer // 4),
    'parser': lambda scale: measure_parsers(scale.repeat, scale.requests),
    'import': lambda scale: measure_imports(scale.repeat),
    'versions': lambda scale: measure_versions(scale.repeat, scale.seconds, scale.requests),
}

#: A part that needs several interpreters: only ``--only`` runs it, and its report has a place of its own.
ALONE = ('versions',)


def main(arguments: list[str] | None = None) -> int:
    """Run the measurements; return the exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = chosen(parser, options, PARTS, ALONE)
    base = QUICK if options.quick else FULL
    scale = Scale(
        options.repeat or base.repeat,
        options.seconds or base.seconds,
        base.rounds,
        base.transfer,
        base.connections,
        base.requests,
    )
    return measure(names, PARTS, scale, settings(scale), options.markdown, ALONE)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description='Measure geventnode against Node, pywsgi, uvicorn and other clients.')
    parser.add_argument('--quick', action='store_true', help='a rough run of a minute, with smaller numbers')
    parser.add_argument('--repeat', type=positive, metavar='N', help=f'interleaved repetitions ({FULL.repeat})')
    parser.add_argument('--seconds', type=positive, metavar='S', help=f'duration of a turn of wrk ({FULL.seconds})')
    add_options(parser, PARTS)
    return parser


def positive(text: str) -> int:
    """Convert a number above zero."""
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f'{text} is not above zero')
    return number


def settings(scale: Scale) -> str:
    """Return the description of the run."""
    return (
        f'{today()}: medians (and extremes) of {scale.repeat} interleaved repetitions, turns of wrk of '
        f'{scale.seconds} s, in the parts realistic, repeated and http2 of {LONGER * scale.seconds} s.'
    )


if __name__ == '__main__':
    sys.exit(main())
