"""WebSockets: short rounds of echoes against simple-websocket on gevent.pywsgi, and the memory of idle ones.

A round is one message of 64 bytes on each of several connections, and then all echoes. The figure is the longest time
of the fastest tenth of the rounds, as in the part ``rounds``. Idle connections have exchanged one message, by events.
"""

from __future__ import annotations

from bench import machine, workers
from bench.idle import REPETITIONS, SPARE_DESCRIPTORS, settled
from bench.progress import say
from bench.results import Figure, Samples, Section, Series, Table
from bench.servers import RunningServer, Server, ServerFailed, in_turn

__all__ = ['measure_websockets']

OWN = Server('geventnode', 'geventnode', 'geventnode_websocket_server.py', ('wsproto',))
OTHER = Server('simple', 'simple-websocket', 'simple_websocket_server.py', ('gevent', 'simple_websocket'))
#: The cases by server: a title and a path.
CASES = {'by calls': '/', 'by events': '/events'}
CONNECTIONS = 32
WARM_UP = 200
#: The targets: the ratio of the rates, and KiB for an idle connection.
WANTED_RATIO, WANTED_MEMORY = 2, 4


class EchoServer(RunningServer):
    """A server of WebSockets alone."""

    def _check(self) -> None:
        """Leave the check to the worker, which compares every echo."""


def measure_websockets(repeat: int, rounds: int, wanted: int) -> Section:
    """Play ``rounds`` rounds, ``repeat`` times, and hold ``wanted`` idle connections; return the report."""
    rates, memory = Samples(), Samples()
    count = min(wanted, machine.raise_descriptor_limit() - SPARE_DESCRIPTORS)
    for repetition in range(repeat):
        for server in in_turn((OWN, OTHER), repetition):
            for title, path in CASES.items():
                play(rates, title, server, path, rounds)
        if repetition < REPETITIONS:
            hold(memory, count)
        say(f'websockets {repetition + 1}/{repeat}')
    return report(rates, memory, count, wanted)


def play(rates: Samples, title: str, server: Server, path: str, rounds: int) -> None:
    """Measure one case with a fresh server: messages per second."""
    try:
        with EchoServer(server) as running:
            found = workers.run('websockets.py', running.port, path, CONNECTIONS, rounds, core=machine.LOAD_CORE)
    except (ServerFailed, workers.WorkerFailed) as error:
        rates.fail(title, server.key, str(error))
        return
    rates.add(title, server.key, CONNECTIONS / found['seconds'])


def hold(memory: Samples, count: int) -> None:
    """Hold ``count`` idle connections of a fresh process, and record the memory for each, in KiB."""
    try:
        with EchoServer(OWN) as running:
            workers.run('websockets.py', running.port, '/events', WARM_UP, 10, core=machine.LOAD_CORE)
            before = settled(running)
            with workers.start('websockets.py', running.port, '/events', count, 0, core=machine.LOAD_CORE) as worker:
                try:
                    workers.answer(worker)
                    grown = settled(running) - before
                finally:
                    worker.kill()
    except (ServerFailed, workers.WorkerFailed, OSError) as error:
        memory.fail('idle', OWN.key, str(error))
        return
    memory.add('idle', OWN.key, grown / count / 1024)


# -- the report -------------------------------------------------------------------------------------------------------


def report(rates: Samples, memory: Samples, count: int, wanted: int) -> Section:
    """Return tables, notes and figures."""
    rows = [
        [
            title,
            rates.cell(title, OWN.key, lambda value: f'{value:,.0f}'),
            rates.cell(title, OTHER.key, lambda value: f'{value:,.0f}'),
            rates.ratio_cell(title, OWN.key, OTHER.key),
        ]
        for title in CASES
    ]
    echoes = Table([f'echoes/s, {CONNECTIONS} connections', OWN.title, OTHER.title, 'ratio'], rows)
    idle = Table(
        [f'{count:,} idle WebSockets', OWN.title],
        [['KiB per connection', memory.cell('idle', OWN.key, lambda value: f'{value:.2f}')]],
    )
    notes = [*rates.notes(), *memory.notes()]
    if count < wanted:
        notes.append(f'The limit of open files allowed {count} connections, not {wanted}.')
    ratio: Series | None = rates.ratio('by calls', OWN.key, OTHER.key)
    figures = [
        Figure('echo of 64 bytes, to simple-websocket', WANTED_RATIO, ratio),
        Figure('memory per idle WebSocket', WANTED_MEMORY, memory.series('idle', OWN.key), at_most=True, unit=' KiB'),
    ]
    return Section('WebSockets', [echoes, idle], notes, figures)
