"""Requests per second under wrk for exchanges other than hello world, and with more and more connections.

This server and Node's have the same handlers: JSON read, JSON sent, a response in pieces, sixteen requests at once.
"""

from __future__ import annotations

import shutil

from bench.load import Load, load_servers
from bench.requests import Case, Exchange
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE

__all__ = ['EXCHANGES', 'measure_exchanges']

SERVERS = CATALOGUE[:2]
CHUNKED_END = b'0\r\n\r\n'

EXCHANGES = (
    Exchange(1, 32, 'pipelined, 16 at once', depth=16),
    Exchange(2, 32, 'POST, JSON of 1 KiB read', '/read', '{"text": "' + 'x' * 1012 + '"}', last=b'}'),
    Exchange(1, 32, 'JSON of 16 KiB sent', '/json', last=b'"}'),
    Exchange(1, 32, 'chunked, 10 writes', '/chunks', last=CHUNKED_END),
    # here the body has a known length, and ends with the last write
    Exchange(1, 32, '10 corked writes', '/corked', last=(CHUNKED_END, b'x' * 100)),
)
CROWDS = (Case(1, 32), Case(1, 1000), Case(1, 10_000))

#: The target for the rate over many connections, as a share of the rate over few.
KEPT = {1000: 0.9, 10_000: 0.75}
#: Seconds of a turn over them, long enough that opening ten thousand connections takes the smaller part.
CROWDED = 3


def measure_exchanges(repeat: int, seconds: int) -> Section:
    """Load both servers in every case, ``repeat`` times ``seconds``; return the report."""
    load, crowded = Load(), Load()
    if shutil.which('wrk') is None:
        return Section('Exchanges', notes=['wrk is not installed'], figures=figures(load, crowded))
    load_servers(load, SERVERS, EXCHANGES, repeat, seconds)
    load_servers(crowded, SERVERS, CROWDS, repeat, max(seconds, CROWDED))
    exchanges = [
        [
            *rates(load.rate, case),
            *(load.cost.cell(case.title, server.key, lambda value: f'{value:.1f}') for server in SERVERS),
        ]
        for case in EXCHANGES
    ]
    columns = ['geventnode', 'Node', 'geventnode to Node']
    tables = [
        Table(['requests per second', *columns, 'geventnode, µs each', 'Node, µs each'], exchanges),
        Table(['once all are connected', *columns], [rates(crowded.settled, case) for case in CROWDS]),
    ]
    disturbed, turns = load.disturbed + crowded.disturbed, load.turns + crowded.turns
    notes = [
        'µs each: processor time of the server for a request.',
        f'{disturbed} of {turns} turns were disturbed by other load on the machine.',
        *load.rate.notes(),
        *crowded.rate.notes(),
    ]
    return Section('Exchanges', tables, notes, figures(load, crowded))


def rates(found: Samples, case: Case) -> list[str]:
    """Return the beginning of a row: the rates of both servers, and the ratio."""
    return [
        case.title,
        *(found.cell(case.title, server.key, lambda value: f'{value:,.0f}') for server in SERVERS),
        found.ratio_cell(case.title, 'geventnode', 'node'),
    ]


def figures(load: Load, crowded: Load) -> list[Figure]:
    """Return the figures with their targets."""
    few = crowded.settled.series(CROWDS[0].title, 'geventnode')
    found = [
        Figure(f'rate to Node, {case.title}', 1, load.rate.ratio(case.title, 'geventnode', 'node'))
        for case in EXCHANGES
    ]
    for case in CROWDS[1:]:
        many = crowded.settled.series(case.title, 'geventnode')
        found.append(
            Figure(
                f'{case.connections:,} connections to {CROWDS[0].connections}',
                KEPT[case.connections],
                None if few is None or many is None else many.over(few),
            )
        )
    return found
