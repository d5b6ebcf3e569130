"""HTTP/2 without TLS, under h2load: requests per second of small bodies, and of bodies of 1 MiB; idle connections.

Each connection has several streams at a time. The number of responses, of their statuses and of the bytes of their
bodies is checked in every turn, and the bytes themselves once before. gunicorn's worker is compared with the same WSGI
application, the others with a request listener. Idle connections are measured as in the part ``idle``.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import machine
from bench.idle import REPETITIONS, SPARE_DESCRIPTORS, WARM_UP, hold_and_release, settled
from bench.load import ATTEMPTS, UNDISTURBED, LoadFailed, Turn
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import RunningServer, Server, ServerFailed, in_turn
from bench.workers import WorkerFailed

__all__ = ['measure_http2']

CONNECTIONS, STREAMS = 8, 16

#: The seconds after which a run is considered to hang.
TIMEOUT = 300

SERVERS = (
    Server('geventnode', 'geventnode', 'geventnode_server.py', ('gevent', 'zope', 'hpack'), arguments=('http2',)),
    Server('wsgi', 'geventnode, WSGI', 'geventnode_wsgi_server.py', ('gevent', 'zope', 'hpack'), arguments=('http2',)),
    Server(
        'gunicorn', 'gunicorn, gevent worker', 'gunicorn_server.py', ('gunicorn', 'h2'), arguments=('gevent', 'http2')
    ),
    Server('hypercorn', 'hypercorn', 'hypercorn_server.py', ('hypercorn', 'uvicorn', 'uvloop')),
    Server('node', 'Node', 'node_server.js', arguments=('http2',)),
)


@dataclass(frozen=True)
class Case:
    """One kind of load.

    :ivar title: its name in tables.
    :ivar path: the path of the request.
    :ivar size: bytes of the response's body.
    :ivar calibration: requests of the turn that finds how many a timed turn has.
    """

    title: str
    path: str
    size: int
    calibration: int


CASES = (
    Case('hello world', '/', len('hello world'), 1024),
    Case('1 MiB', f'/download?bytes={2**20}', 2**20, 2 * CONNECTIONS),
)

#: Of which server to which other one, and the wanted ratio; the share of Node's is reported without one.
BOUNDS = (('wsgi', 'gunicorn', 3.0), ('geventnode', 'hypercorn', 1.2))
RATIOS = (*((mine, other) for mine, other, _ in BOUNDS), ('geventnode', 'node'))


class HTTP2Server(RunningServer):
    """A started server, which is checked by HTTP/2."""

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request with curl; return status and body."""
        command = ['curl', '--silent', '--show-error', '--http2-prior-knowledge', '--request', method]
        command += ['--write-out', '%{http_version} %{http_code}', f'{self.url}{path}']
        if body is not None:
            command += ['--data-binary', '@-', '--header', 'Content-Type: text/plain']
        done = subprocess.run(command, input=body or b'', capture_output=True, check=False, timeout=TIMEOUT)
        found = re.fullmatch(rb'(.*)2 (\d+)', done.stdout, re.DOTALL)
        if found is None:
            raise ServerFailed(f'{method} {path}: {done.stderr.decode().strip() or "not HTTP/2"}')
        return int(found[2]), found[1]


def measure_http2(repeat: int, seconds: int, wanted: int) -> Section:
    """Load every server ``repeat`` times ``seconds``, and hold ``wanted`` idle connections; return the report."""
    rate, cost, memory = Samples(), Samples(), Samples()
    missing = [name for name in ('h2load', 'curl') if shutil.which(name) is None]
    if missing:
        return Section('HTTP/2', notes=[f'not installed: {", ".join(missing)}'], figures=figures(rate))
    with ExitStack() as stack:
        running = start(stack, rate)
        counts: dict[tuple[Case, str], int] = {}
        for case in CASES:
            for server in running:
                counts[case, server.server.key] = calibrate(rate, case, server, seconds)
        for repetition in range(repeat):
            for case in CASES:
                for server in in_turn(running, repetition):
                    take_turn(rate, cost, case, server, counts[case, server.server.key])
                say(f'HTTP/2 {repetition + 1}/{repeat}: {case.title}')
    count = min(wanted, machine.raise_descriptor_limit() - SPARE_DESCRIPTORS)
    for repetition in range(min(repeat, REPETITIONS)):
        hold(memory, count)
        say(f'HTTP/2, idle connections {repetition + 1}/{min(repeat, REPETITIONS)}')
    return report(rate, cost, memory, count)


def hold(memory: Samples, count: int) -> None:
    """Hold ``count`` idle connections to a fresh process, and record the memory for each, in KiB."""
    server = SERVERS[0]
    try:
        with HTTP2Server(server) as running:
            hold_and_release(running, WARM_UP, 'http2')
            before = settled(running)
            grown = hold_and_release(running, count, 'http2') - before
    except (ServerFailed, WorkerFailed, OSError) as error:
        memory.fail('idle', server.key, str(error))
        return
    memory.add('idle', server.key, grown / count / 1024)


def start(stack: ExitStack, rate: Samples) -> list[RunningServer]:
    """Start the servers; return the running ones."""
    running: list[RunningServer] = []
    for server in SERVERS:
        try:
            running.append(stack.enter_context(HTTP2Server(server)))
        except ServerFailed as error:
            for case in CASES:
                rate.fail(case.title, server.key, str(error))
    return running


def calibrate(rate: Samples, case: Case, server: RunningServer, seconds: int) -> int:
    """Return how many requests take about ``seconds``."""
    try:
        found = measure_turn(case, server, case.calibration)
    except (LoadFailed, ServerFailed, OSError) as error:
        rate.fail(case.title, server.server.key, str(error))
        return 0
    return max(case.calibration, int(found.rate * seconds))


def take_turn(rate: Samples, cost: Samples, case: Case, server: RunningServer, count: int) -> None:
    """Load one server, again if the turn was disturbed, and add the best result."""
    if not count:
        return
    turns: list[Turn] = []
    try:
        while len(turns) < ATTEMPTS and all(turn.quiet < UNDISTURBED for turn in turns):
            turns.append(measure_turn(case, server, count))
    except (LoadFailed, ServerFailed, OSError) as error:
        rate.fail(case.title, server.server.key, str(error))
        return
    best = max(turns, key=lambda turn: turn.quiet)
    rate.add(case.title, server.server.key, best.rate)
    cost.add(case.title, server.server.key, best.cost)


def measure_turn(case: Case, server: RunningServer, count: int) -> Turn:
    """Make ``count`` requests. Raises :class:`LoadFailed` for errors and wrong responses."""
    used = server.processor_seconds
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ['h2load', '-n', str(count), '-c', str(CONNECTIONS), '-m', str(STREAMS), f'{server.url}{case.path}'],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        preexec_fn=machine.pin(machine.LOAD_CORE),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = server.processor_seconds - used
    elapsed = check(done.stdout, count, case.size)
    return Turn(
        rate=count / elapsed,
        settled=count / elapsed,
        cost=used / count * 1e6,
        server_busy=used / elapsed,
        load_busy=(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / elapsed,
    )


def check(output: str, count: int, size: int) -> float:
    """Return the seconds of a run of h2load. Raises :class:`LoadFailed` unless every response was the expected one."""
    finished = re.search(r'finished in ([\d.]+)(m?s),', output)
    statuses = re.search(r'status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx', output)
    succeeded = re.search(r'(\d+) succeeded, 0 failed, 0 errored, 0 timeout', output)
    data = re.search(r'\((\d+)\) data', output)
    if finished is None or statuses is None or succeeded is None or data is None:
        lines = [line for line in output.splitlines() if line.startswith(('requests', 'status codes'))]
        raise LoadFailed(f'h2load has counted errors: {"; ".join(lines) or output[-200:]}')
    found = int(statuses[1]), int(succeeded[1]), int(data[1])
    if found != (count, count, count * size):
        raise LoadFailed(f'of {count} requests: {found[0]} with 2xx, {found[1]} succeeded, {found[2]} bytes')
    return float(finished[1]) / (1000 if finished[2] == 'ms' else 1)


# -- the report -------------------------------------------------------------------------------------------------------


def report(rate: Samples, cost: Samples, memory: Samples, count: int) -> Section:
    """Return tables, notes and figures."""
    tables = [
        Table(
            [title, *(server.title for server in SERVERS)],
            [
                [
                    case.title,
                    *(samples.cell(case.title, server.key, lambda value: f'{value:,.1f}') for server in SERVERS),
                ]
                for case in CASES
            ],
        )
        for title, samples in (('requests per second', rate), ('processor time per request, µs', cost))
    ]
    titles: dict[str, str] = {server.key: server.title for server in SERVERS}
    tables.append(
        Table(
            ['ratio of rates', *(case.title for case in CASES)],
            [
                [f'{titles[mine]} to {titles[other]}', *(rate.ratio_cell(case.title, mine, other) for case in CASES)]
                for mine, other in RATIOS
            ],
        )
    )
    cell = memory.cell('idle', SERVERS[0].key, lambda value: f'{value:.2f}')
    tables.append(Table([f'{count:,} idle connections', SERVERS[0].title], [['KiB per connection', cell]]))
    notes = [f'{CONNECTIONS} connections with {STREAMS} streams each.', *rate.notes(), *memory.notes()]
    return Section('HTTP/2', tables, notes, figures(rate))


def figures(rate: Samples, cases: Sequence[Case] = CASES) -> list[Figure]:
    """Return the figures with their targets."""
    return [
        Figure(f'HTTP/2, rate to {other}, {case.title}', bound, rate.ratio(case.title, mine, other))
        for mine, other, bound in BOUNDS
        for case in cases
    ]
