"""What the monitor costs while somebody watches: the same server process, with the page open or closed.

The one who watches reads the event stream that the page draws, on the load's core.
"""
from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bench.load import CASES, Load, take_turn
from bench.progress import say
from bench.results import Figure, Section, Table
from bench.servers import RunningServer, Server, ServerFailed

__all__ = ['measure_monitor']

SERVER = Server('geventnode', 'geventnode', 'geventnode_monitored_server.py', ('gevent', 'zope'))
REQUEST = b'GET /monitor?stream HTTP/1.1\r\nHost: localhost\r\n\r\n'
STREAM_TIMEOUT = 10
WAYS = ('closed', 'open')
MONITOR_CASES = CASES[:2]


class Watcher(threading.Thread):
    """Reads the event stream until it is told to stop."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self._connection = server.connect(STREAM_TIMEOUT)
        self._connection.sendall(REQUEST)
        answer = self._connection.recv(65536)
        if not answer.startswith(b'HTTP/1.1 200 '):
            raise ServerFailed(f'the monitor answered {answer[:100]!r}')
        self.received = 0

    def run(self) -> None:
        """Read. ``shutdown`` ends it."""
        while data := self._connection.recv(65536):
            self.received += len(data)

    def stop(self) -> None:
        """Leave. Raises ``ServerFailed`` when nothing came."""
        self._connection.shutdown(2)
        self.join()
        self._connection.close()
        if not self.received:
            raise ServerFailed('the monitor has sent nothing')


@contextmanager
def watching(server: RunningServer) -> Iterator[None]:
    """Watch as long as the context lasts."""
    watcher = Watcher(server)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()


def measure_monitor(repeat: int, seconds: int) -> Section:
    """Take turns with the page open and closed, ``repeat`` times; return the report."""
    load = Load()
    if shutil.which('wrk') is None:
        return Section('Monitor', notes=['wrk is not installed'], figures=figures(load))
    try:
        with RunningServer(SERVER) as server:
            for repetition in range(repeat):
                for case in MONITOR_CASES:
                    for way in WAYS if repetition % 2 else reversed(WAYS):
                        with watching(server) if way == 'open' else nullcontext():
                            take_turn(load, case, server, seconds, way)
                say(f'monitor {repetition + 1}/{repeat}')
    except (ServerFailed, OSError) as error:
        for case in MONITOR_CASES:
            load.fail(case, 'open', str(error))
    rows = [[f'{quantity}, {case.title}', *(samples.cell(case.title, way, show) for way in WAYS),
             samples.ratio_cell(case.title, 'open', 'closed')]
            for case in MONITOR_CASES
            for quantity, samples, show in (('requests per second', load.rate, '{:,.0f}'.format),
                                            ('processor time per request, µs', load.cost, '{:.2f}'.format))]
    notes = [f'{load.disturbed} of {load.turns} turns stayed disturbed by something else on the machine.',
             *load.rate.notes()]
    return Section('Monitor', [Table(['the page is', *WAYS, 'open to closed'], rows)], notes, figures(load))


def figures(load: Load) -> list[Figure]:
    """Return the figures to reach."""
    return [Figure(f'throughput with the monitor open, {case.title}', 0.98,
                   load.cost.ratio(case.title, 'closed', 'open')) for case in MONITOR_CASES]
