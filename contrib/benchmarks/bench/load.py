"""Requests per second under wrk: with 1 and with 12 request headers, over few and over many connections.

All servers run at once, on the one server core, and take turns of a few seconds; the others sleep meanwhile. The order
changes with every repetition. wrk's own count is checked: no errors, and the number of bytes that its responses must
have. If neither the server nor wrk used its whole core in a turn, other load on the machine disturbed it; it is
repeated a few times, and the least disturbed turn counts. In the cases with 12 headers the handlers read one of them,
so that servers with a lazy map of headers have to build it.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from bench import machine
from bench.progress import say
from bench.requests import FIRST_ITEM, TEXT_LENGTHS, Case, Items
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, RunningServer, Server, ServerFailed, in_turn, start_all

__all__ = ['CASES', 'Load', 'LoadFailed', 'hello_figures', 'load_servers', 'measure_load', 'run_wrk']

REPORT = Path(__file__).parent.parent / 'workers' / 'report.lua'
WARM_UP = 1
ANSWER_TIMEOUT = 10

CASES = (Case(1, 32), Case(12, 32), Case(1, 1000), Case(12, 1000))

#: The targets for the ratio to each server, and those of particular cases.
BOUNDS: tuple[tuple[str, str, float, dict[Case, float]], ...] = (
    ('node', 'Node', 0.9, {Case(1, 32): 1.1, Case(12, 32): 1.0}),
    ('pywsgi', 'pywsgi', 4.0, {Case(1, 32): 5.5, Case(12, 32): 6.0}),
    ('uvicorn', 'uvicorn', 1.3, {Case(1, 32): 1.6}),
)

#: A turn is undisturbed when server or wrk used at least this share of its core: one of them is the bottleneck then.
UNDISTURBED = 0.9
ATTEMPTS = 3


class LoadFailed(Exception):
    """wrk has counted errors or unexpected responses."""


class Report(TypedDict):
    """The output of ``workers/report.lua``."""

    requests: int
    microseconds: int
    bytes: int
    connect: int
    read: int
    write: int
    status: int
    timeout: int
    settled: int
    p50: int
    p99: int


@dataclass(frozen=True)
class Turn:
    """The result of one turn of wrk.

    :ivar rate: responses per second, from before the first connection.
    :ivar settled: responses per second in the median tenth of a second.
    :ivar cost: the server's processor time for a response, in microseconds.
    :ivar server_busy: the share of its core that the server used.
    :ivar load_busy: the share of its core that wrk used.
    """

    rate: float
    settled: float
    cost: float
    server_busy: float
    load_busy: float

    @property
    def quiet(self) -> float:
        """The share of the busier of the two cores, which is high in an undisturbed turn."""
        return max(self.server_busy, self.load_busy)


@dataclass
class Load:
    """The samples of all turns, and the numbers of all and of disturbed turns."""

    rate: Samples = field(default_factory=Samples)
    settled: Samples = field(default_factory=Samples)
    cost: Samples = field(default_factory=Samples)
    server_busy: Samples = field(default_factory=Samples)
    load_busy: Samples = field(default_factory=Samples)
    turns: int = 0
    disturbed: int = 0

    def add(self, case: Case, server: str, turn: Turn) -> None:
        """Add the result of a turn."""
        self.rate.add(case.title, server, turn.rate)
        self.settled.add(case.title, server, turn.settled)
        self.cost.add(case.title, server, turn.cost)
        self.server_busy.add('all', server, turn.server_busy)
        self.load_busy.add('all', server, turn.load_busy)
        self.turns += 1
        self.disturbed += turn.quiet < UNDISTURBED

    def fail(self, case: Case, server: str, reason: str) -> None:
        """Make the cells of one case invalid."""
        for samples in (self.rate, self.settled, self.cost):
            samples.fail(case.title, server, reason)


def measure_load(repeat: int, seconds: int) -> Section:
    """Measure every case with every server, ``repeat`` times ``seconds``; return the report."""
    load = Load()
    if shutil.which('wrk') is None:
        return Section('Hello world', notes=['wrk is not installed'], figures=figures(load.rate))
    load_servers(load, CATALOGUE, CASES, repeat, seconds)
    return report(load)


def load_servers(load: Load, servers: Sequence[Server], cases: Sequence[Case], repeat: int, seconds: int) -> None:
    """Start ``servers`` and let them take turns in every case."""
    with ExitStack() as stack:
        running, missing = start_all(stack, servers)
        for key, reason in missing.items():
            for case in cases:
                load.fail(case, key, reason)
        for server in running:
            run_wrk(server, cases[0], WARM_UP)
        for repetition in range(repeat):
            for case in cases:
                for server in in_turn(running, repetition):
                    take_turn(load, case, server, seconds)
                say(f'load {repetition + 1}/{repeat}: {case.title}')


def take_turn(load: Load, case: Case, server: RunningServer, seconds: int) -> None:
    """Load one server, again if the turn was disturbed, and add the best result."""
    turns: list[Turn] = []
    try:
        while len(turns) < ATTEMPTS and all(turn.quiet < UNDISTURBED for turn in turns):
            turns.append(measure_turn(case, server, seconds))
    except (LoadFailed, ServerFailed, OSError) as error:
        load.fail(case, server.server.key, str(error))
        return
    load.add(case, server.server.key, max(turns, key=lambda turn: turn.quiet))


def measure_turn(case: Case, server: RunningServer, seconds: int) -> Turn:
    """Load one server for ``seconds``. Raises :class:`LoadFailed` for errors and wrong responses."""
    wanted = answer_length(server, case)
    before = server.processor_seconds
    report, load_seconds = run_wrk(server, case, seconds)
    used = server.processor_seconds - before
    check(report, wanted, case)
    elapsed = report['microseconds'] / 1e6
    return Turn(
        rate=report['requests'] / elapsed,
        settled=report['settled'],
        cost=used / report['requests'] * 1e6,
        server_busy=used / elapsed,
        load_busy=load_seconds / elapsed,
    )


def answer_length(server: RunningServer, case: Case) -> int:
    """Return the size of the response to a request of ``case``. Raises :class:`LoadFailed` if it is no 200."""
    method, framing = ('POST', [f'Content-Length: {len(case.body)}']) if case.body else ('GET', [])
    fields = case.lines(FIRST_ITEM) if isinstance(case, Items) else case.fields
    lines = [f'{method} {case.path} HTTP/1.1', f'Host: 127.0.0.1:{server.port}', *fields, *framing, '', case.body]
    status = case.status if isinstance(case, Items) else 200
    answer = b''
    with server.connect(ANSWER_TIMEOUT) as connection:
        connection.sendall('\r\n'.join(lines).encode('ascii'))
        while not answer.endswith(case.ending):
            data = connection.recv(65536)
            if not data:
                raise LoadFailed(f'the connection was closed after {answer!r}')
            answer += data
    if not answer.startswith(b'HTTP/1.1 %d ' % status):
        raise LoadFailed(f'answered {answer!r}')
    return len(answer)


def run_wrk(server: RunningServer, case: Case, seconds: int) -> tuple[Report, float]:
    """Run wrk; return its counts and its processor time. Raises :class:`LoadFailed`."""
    command = [
        'wrk',
        '-t1',
        f'-c{case.connections}',
        f'-d{seconds}s',
        f'--timeout={ANSWER_TIMEOUT}s',
        f'--script={REPORT}',
    ]
    for line in case.fields:
        command += ['-H', line]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command += [f'{server.url}{case.path}', '--', str(case.depth), case.body, *filter(None, [case.items])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=machine.pin(machine.LOAD_CORE)
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = [line for line in done.stdout.splitlines() if line.startswith('report ')]
    if not lines:
        raise LoadFailed(f'wrk ended with status {done.returncode}: {done.stderr.strip()}')
    report: Report = json.loads(lines[0].removeprefix('report '))
    return report, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check(report: Report, wanted: int, case: Case) -> None:
    """Raise :class:`LoadFailed` unless every response was the expected one."""
    errors = {name: report[name] for name in ('connect', 'read', 'write', 'status', 'timeout') if report[name]}
    if errors:
        raise LoadFailed(f'wrk counted errors: {errors}')
    expected, most = report['requests'] * wanted, wanted
    reordered = 0
    if isinstance(case, Items):
        expected, most = case.total(report['requests'], wanted), wanted + TEXT_LENGTHS
        # responses of different lengths can arrive in another order than their requests were sent
        reordered = case.connections * TEXT_LENGTHS
    # each connection can have received a part of its last responses when the time was over
    surplus = report['bytes'] - expected
    if not report['requests'] or not -reordered <= surplus <= case.connections * case.depth * most + reordered:
        raise LoadFailed(f"{report['requests']} responses, the first of {wanted} bytes, have {report['bytes']} bytes")


# -- the report ---------------------------------------------------------------------------------------------------


def report(load: Load) -> Section:
    """Return tables, notes and figures."""
    keys = [server.key for server in CATALOGUE]
    titles = [server.title for server in CATALOGUE]
    others = [server for server in CATALOGUE if server.key != 'geventnode']
    rates = [
        [case.title, *(load.rate.cell(case.title, key, lambda value: f'{value:,.0f}') for key in keys)]
        for case in CASES
    ]
    ratios = [
        [case.title, *(load.rate.ratio_cell(case.title, 'geventnode', other.key) for other in others)] for case in CASES
    ]
    costs = [
        [case.title, *(load.cost.cell(case.title, key, lambda value: f'{value:.1f}') for key in keys)] for case in CASES
    ]
    tables = [
        Table(['requests per second', *titles], rates),
        Table(['geventnode to', *(server.title for server in others)], ratios),
        Table(['processor time per request, µs', *titles], costs),
    ]
    busy = ', '.join(f"{server.title} {load.server_busy.cell('all', server.key, percent)}" for server in CATALOGUE)
    idle = ', '.join(f"{server.title} {load.load_busy.cell('all', server.key, percent)}" for server in CATALOGUE)
    notes = [
        f'Share of its core that each server used: {busy}; that wrk used: {idle}.',
        f'{load.disturbed} of {load.turns} turns were disturbed by other load on the machine.',
        *load.rate.notes(),
    ]
    return Section('Hello world', tables, notes, figures(load.rate))


def percent(share: float) -> str:
    """Return a share as text."""
    return f'{share:.0%}'


def figures(rate: Samples) -> list[Figure]:
    """Return the figures with their targets."""
    return hello_figures('rate', rate, CASES)


def hello_figures(quantity: str, rate: Samples, cases: Sequence[Case]) -> list[Figure]:
    """Return the figures for hello world with their targets."""
    return [
        Figure(f'{quantity} to {title}, {case.title}', goals.get(case, goal), rate.ratio(case.title, 'geventnode', key))
        for key, title, goal, goals in BOUNDS
        for case in cases
    ]
