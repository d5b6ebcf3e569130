"""Requests per second under wrk where an exchange is more than hello world, and with ever more open connections.

This server and Node's, with the same handlers: JSON read, JSON sent, an answer in pieces, sixteen requests at once.
"""
from __future__ import annotations

import shutil

from bench.load import Load, load_servers
from bench.requests import Case, Exchange
from bench.results import Figure, Section, Table
from bench.servers import CATALOGUE

__all__ = ['EXCHANGES', 'measure_exchanges']

SERVERS = CATALOGUE[:2]
CHUNKED_END = b'0\r\n\r\n'

EXCHANGES = (
    Exchange(1, 32, 'pipelined, 16 at once', depth=16),
    Exchange(2, 32, 'POST, JSON of 1 KiB read', '/read', '{"text": "' + 'x' * 1012 + '"}', last=b'}'),
    Exchange(1, 32, 'JSON of 16 KiB sent', '/json', last=b'"}'),
    Exchange(1, 32, 'chunked, 10 writes', '/chunks', last=CHUNKED_END),
    # here it is a body of known length, and ends in what was written last
    Exchange(1, 32, '10 corked writes', '/corked', last=(CHUNKED_END, b'x' * 100)),
)
CROWDS = (Case(1, 32), Case(1, 1000), Case(1, 10_000))

#: The share of the rate over few connections that is wanted over many.
KEPT = {1000: 0.9, 10_000: 0.75}


def measure_exchanges(repeat: int, seconds: int) -> Section:
    """Load both servers in every case, ``repeat`` times ``seconds``; return the report."""
    load = Load()
    if shutil.which('wrk') is None:
        return Section('Exchanges', notes=['wrk is not installed'], figures=figures(load))
    load_servers(load, SERVERS, (*EXCHANGES, *CROWDS), repeat, seconds)
    rows = [[case.title, *(load.rate.cell(case.title, server.key, lambda value: f'{value:,.0f}')
                           for server in SERVERS),
             load.rate.ratio_cell(case.title, 'geventnode', 'node'),
             *(load.cost.cell(case.title, server.key, lambda value: f'{value:.1f}') for server in SERVERS)]
            for case in (*EXCHANGES, *CROWDS)]
    columns = ['requests per second', 'geventnode', 'Node', 'geventnode to Node', 'geventnode, µs each',
               'Node, µs each']
    notes = ['µs each: processor time of the server for a request.',
             f'{load.disturbed} of {load.turns} turns stayed disturbed by something else on the machine.',
             *load.rate.notes()]
    return Section('Exchanges', [Table(columns, rows)], notes, figures(load))


def figures(load: Load) -> list[Figure]:
    """Return the figures to reach."""
    few = load.rate.series(CROWDS[0].title, 'geventnode')
    found = [Figure(f'rate to Node, {case.title}', 1, load.rate.ratio(case.title, 'geventnode', 'node'))
             for case in EXCHANGES]
    for case in CROWDS[1:]:
        many = load.rate.series(case.title, 'geventnode')
        found.append(Figure(f'{case.connections:,} connections to {CROWDS[0].connections}', KEPT[case.connections],
                            None if few is None or many is None else many.over(few)))
    return found
