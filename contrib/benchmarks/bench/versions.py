"""The main figures with several versions of Python, which take turns.

The environment variable ``PYTHONS`` has the paths of the interpreters, with colons between them. Each has the same
gevent and greenlet, and valgrind beside it. A path can be that of a script that runs an interpreter elsewhere, such as
those that ``pythons`` makes. Instructions are counted as for the gate; they do not depend on the machine's other load.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from bench import clients, machine, workers
from bench.load import Load, load_servers
from bench.progress import say
from bench.realistic import COMMON, measure_items
from bench.requests import Case
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, in_turn
from bench.wsgi import WSGI_SERVERS

__all__ = ['VARIABLE', 'Interpreter', 'measure_versions']

VARIABLE = 'PYTHONS'
TITLE = 'Versions of Python'

BROWSER = Case(12, 32)
LISTENER, WSGI, CLIENT, PARSER, HELLO = WORKS = (
    'listener, nothing alike',
    'WSGI, nothing alike',
    'client, nothing alike',
    'parser, nothing alike',
    'hello, 12 headers',
)


@dataclass(frozen=True)
class Interpreter:
    """An interpreter, and the versions of its parts."""

    path: str
    version: str
    build: str
    compiler: str
    gevent: str
    greenlet: str


def measure_versions(repeat: int, seconds: int, requests: int) -> Section:
    """Measure with every interpreter of ``PYTHONS``, ``repeat`` times ``seconds``; return the report.

    :param requests: parsed requests in one turn.
    """
    paths = [path for path in os.environ.get(VARIABLE, '').split(os.pathsep) if path]
    try:
        found = [ask(path) for path in paths]
    except (workers.WorkerFailed, OSError) as error:
        return failed(str(error))
    if not found:
        return failed(f'{VARIABLE} has no paths of interpreters')
    rate, cost = Samples(), Samples()
    measure_servers(rate, cost, found, repeat, seconds)
    asking = [replace(clients.CATALOGUE[0], key=each.version, python=each.path) for each in found]
    add(rate, CLIENT, measure_items(asking, repeat, seconds), 'fastest')
    measure_parser(rate, found, repeat, requests)
    return report(found, rate, cost, count(found))


def failed(reason: str) -> Section:
    """Return a report without measurements."""
    return Section(TITLE, notes=[reason], figures=[Figure(TITLE, 1, None)])


def ask(path: str) -> Interpreter:
    """Return the versions of the interpreter at ``path``. Raises :class:`workers.WorkerFailed`."""
    return Interpreter(path, **workers.run('about.py', core=None, python=path))


def measure_servers(rate: Samples, cost: Samples, pythons: Sequence[Interpreter], repeat: int, seconds: int) -> None:
    """Let the server and the WSGI server of each interpreter take turns under wrk; add rates and processor times."""
    for work, server, case in (
        (LISTENER, CATALOGUE[0], COMMON[0]),
        (WSGI, WSGI_SERVERS[0], COMMON[0]),
        (HELLO, CATALOGUE[0], BROWSER),
    ):
        load = Load()
        servers = [replace(server, key=each.version, python=each.path) for each in pythons]
        load_servers(load, servers, (case,), repeat, seconds)
        add(rate, work, load.rate, case.title)
        add(cost, work, load.cost, case.title)


def add(rate: Samples, work: str, measured: Samples, case: str) -> None:
    """Add the samples and the faults of one case."""
    for (title, key), values in measured.values.items():
        for value in values if title == case else ():
            rate.add(work, key, value)
    for (title, key), reason in measured.faults.items():
        if title == case:
            rate.fail(work, key, reason)


def measure_parser(rate: Samples, pythons: Sequence[Interpreter], repeat: int, requests: int) -> None:
    """Parse heads of which no two are alike with each interpreter."""
    for repetition in range(repeat):
        for each in in_turn(pythons, repetition):
            try:
                found = workers.run(
                    'parse.py', 'unseen', 1, requests, 'geventnode', core=machine.SERVER_CORE, python=each.path
                )
            except workers.WorkerFailed as error:
                rate.fail(PARSER, each.version, str(error))
                continue
            rate.add(PARSER, each.version, found['geventnode']['map'][0])
        say(f'parsers {repetition + 1}/{repeat}')


def count(pythons: Sequence[Interpreter]) -> Samples:
    """Return the instructions of every work with each interpreter, counted on all cores."""
    counted = Samples()

    def run(each: Interpreter) -> None:
        try:
            found = workers.run('count.py', *WORKS, core=None, python=each.path)
        except workers.WorkerFailed as error:
            for work in WORKS:
                counted.fail(work, each.version, str(error))
            return
        for work, value in found.items():
            counted.add(work, each.version, value)
        say(f'instructions with {each.version}')

    with ThreadPoolExecutor(len(machine.CORES)) as pool:
        list(pool.map(run, pythons))
    return counted


def report(pythons: Sequence[Interpreter], rate: Samples, cost: Samples, counted: Samples) -> Section:
    """Return tables and notes."""
    keys = [each.version for each in pythons]
    tables = [
        Table(
            ['requests per second', *keys],
            [[work, *(rate.cell(work, key, lambda value: f'{value:,.0f}') for key in keys)] for work in WORKS],
        ),
        Table(
            [f'rate to that of {keys[0]}', *keys],
            [[work, *(rate.ratio_cell(work, key, keys[0]) for key in keys)] for work in WORKS],
        ),
        Table(
            ['processor time of the server, µs', *keys],
            [
                [work, *(cost.cell(work, key, lambda value: f'{value:.1f}') for key in keys)]
                for work in (LISTENER, WSGI, HELLO)
            ],
        ),
        Table(
            ['thousand instructions', *keys],
            [[work, *(counted.cell(work, key, lambda value: f'{value / 1000:.1f}') for key in keys)] for work in WORKS],
        ),
    ]
    notes = [f'{each.version} {each.build}, {each.compiler}.' for each in pythons]
    for package in ('gevent', 'greenlet'):
        versions = dict.fromkeys(getattr(each, package) for each in pythons)
        notes.append(f'{package} {", ".join(versions)}.')
    return Section(TITLE, tables, [*notes, *rate.notes(), *counted.notes()])
