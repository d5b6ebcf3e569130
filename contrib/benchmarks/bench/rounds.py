"""Requests per second in short rounds (``workers/rounds.py``), for machines with much other load.

If other machines use most of the time of a core, a rate over seconds measures them. A round of less than a millisecond
is either disturbed or not, so the fastest tenth of many rounds shows the undisturbed server. The load is written in
Python and waits for the whole round, so its rates differ from wrk's.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench import machine, workers
from bench.load import hello_figures
from bench.progress import say
from bench.requests import Case
from bench.results import Samples, Section, Table
from bench.servers import CATALOGUE, RunningServer, ServerFailed, in_turn, start_all

__all__ = ['measure_rounds']

CASES = (Case(1, 32), Case(12, 32))

#: Rounds that are not measured: Node, which compiles at run time, becomes faster during the first tens of thousands of
#: requests.
WARM_UP = 2000


def measure_rounds(repeat: int, rounds: int) -> Section:
    """Run ``rounds`` rounds of every case with every server, ``repeat`` times; return the report."""
    rate = Samples()
    with ExitStack() as stack:
        running, missing = start_all(stack)
        for key, reason in missing.items():
            for case in CASES:
                rate.fail(case.title, key, reason)
        for repetition in range(-1, repeat):
            for case in CASES:
                for server in in_turn(running, repetition):
                    if repetition < 0:
                        take_turn(Samples(), case, server, WARM_UP)
                    else:
                        take_turn(rate, case, server, rounds)
            say(f'rounds {repetition + 1}/{repeat}')
    return report(rate)


def take_turn(rate: Samples, case: Case, server: RunningServer, rounds: int) -> None:
    """Run rounds with one server, and add the result."""
    key = server.server.key
    try:
        found = workers.run(
            'rounds.py', server.port, case.path, case.headers, case.connections, rounds, core=machine.LOAD_CORE
        )
    except (ServerFailed, workers.WorkerFailed) as error:
        rate.fail(case.title, key, str(error))
        return
    rate.add(case.title, key, case.connections / found['seconds'])


# -- the report ---------------------------------------------------------------------------------------------------


def report(rate: Samples) -> Section:
    """Return tables, notes and figures."""
    others = [server for server in CATALOGUE if server.key != 'geventnode']
    rates = [
        [case.title, *(rate.cell(case.title, server.key, lambda value: f'{value:,.0f}') for server in CATALOGUE)]
        for case in CASES
    ]
    ratios = [
        [case.title, *(rate.ratio_cell(case.title, 'geventnode', other.key) for other in others)] for case in CASES
    ]
    tables = [
        Table(['requests per second', *(server.title for server in CATALOGUE)], rates),
        Table(['geventnode to', *(server.title for server in others)], ratios),
    ]
    return Section('Hello world in short rounds', tables, rate.notes(), hello_figures('short rounds', rate, CASES))
