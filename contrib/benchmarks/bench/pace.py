"""Latency at 70 % of each server's peak rate: the 99th percentile of a thousand consecutive requests.

Requests are sent at even intervals, which slow responses do not stretch (``workers/pace.py``). The same program
measures the peak rate first, in the same repetition. The latency is compared with Node's.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, RunningServer, ServerFailed, in_turn, start_all

__all__ = ['measure_pace']

SERVERS = CATALOGUE[:2]
CONNECTIONS = 32
SHARE = 0.7
QUANTITIES = (
    'peak, requests per second',
    'median at 70 %, ms',
    '99th percentile at 70 %, ms',
    '99th percentile of 1,000 in a row, ms',
)
PEAK, P50, P99, USUAL_P99 = QUANTITIES


def measure_pace(repeat: int, seconds: int) -> Section:
    """Measure the peak of both servers and load them below it, ``repeat`` times ``seconds``; return the report."""
    found = Samples()
    with ExitStack() as stack:
        running, missing = start_all(stack, SERVERS)
        for key, reason in missing.items():
            for quantity in QUANTITIES:
                found.fail(quantity, key, reason)
        for server in running:
            take_turn(Samples(), server, seconds)
        for repetition in range(repeat):
            for server in in_turn(running, repetition):
                take_turn(found, server, seconds)
            say(f'pace {repetition + 1}/{repeat}')
    return report(found)


def take_turn(found: Samples, server: RunningServer, seconds: int) -> None:
    """Measure a server's peak, then load it with a share of that."""
    key = server.server.key
    try:
        peak = workers.run('pace.py', server.port, CONNECTIONS, seconds, core=machine.LOAD_CORE)['rate']
        paced = workers.run('pace.py', server.port, CONNECTIONS, seconds, peak * SHARE, core=machine.LOAD_CORE)
    except (ServerFailed, workers.WorkerFailed) as error:
        for quantity in QUANTITIES:
            found.fail(quantity, key, str(error))
        return
    found.add(PEAK, key, peak)
    found.add(P50, key, paced['p50'] * 1000)
    found.add(P99, key, paced['p99'] * 1000)
    found.add(USUAL_P99, key, paced['usual p99'] * 1000)


# -- the report -------------------------------------------------------------------------------------------------------


def report(found: Samples) -> Section:
    """Return table, notes and figure."""
    rows = [
        [
            quantity,
            *(found.cell(quantity, server.key, lambda value: f'{value:,.2f}') for server in SERVERS),
            found.ratio_cell(quantity, 'geventnode', 'node'),
        ]
        for quantity in QUANTITIES
    ]
    table = Table([f'{CONNECTIONS} connections', 'geventnode', 'Node', 'geventnode to Node'], rows)
    figure = Figure(
        '99th percentile at 70 % of the own peak, to Node',
        1,
        found.ratio(USUAL_P99, 'geventnode', 'node'),
        at_most=True,
    )
    return Section('Latency below the peak', [table], found.notes(), [figure])
