"""The cost of the monitor: the same server process, with the monitor's page open or closed.

The monitor's work per second is bounded, because it samples the exchanges. So it is measured beside a steady, small
load: the processor time of a saturated server varies by more than the monitor takes. One client makes requests at a
fixed rate, another one reads the event stream of the page.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import RunningServer, Server, ServerFailed

__all__ = ['measure_monitor']

SERVER = Server('geventnode', 'geventnode', 'geventnode_monitored_server.py', ('gevent', 'zope'))
WATCH = b'GET /monitor?stream HTTP/1.1\r\nHost: localhost\r\n\r\n'
TIMEOUT = 10
RATE, CONNECTIONS = 400, 1

#: Turns of each kind in one repetition.
TURNS = 2
#: The duration of a turn, as a multiple of one of wrk.
LONGER = 2

CLOSED, OPEN, COST = 'closed', 'open', 'open beyond closed'


class Watcher(threading.Thread):
    """Reads the event stream until :meth:`stop`."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self._connection = server.connect(TIMEOUT)
        self._connection.sendall(WATCH)
        answer = self._connection.recv(65536)
        if not answer.startswith(b'HTTP/1.1 200 '):
            raise ServerFailed(f'the monitor answered {answer[:100]!r}')
        self.received = 0

    def run(self) -> None:
        """Read until the connection is shut down."""
        while data := self._connection.recv(65536):
            self.received += len(data)

    def stop(self) -> None:
        """Disconnect. Raises ``ServerFailed`` if no event has arrived."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self.join()
        self._connection.close()
        if not self.received:
            raise ServerFailed('the monitor has sent nothing')


@contextmanager
def watching(server: RunningServer) -> Iterator[None]:
    """Read the event stream while the block runs."""
    watcher = Watcher(server)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()


def share(server: RunningServer, seconds: float) -> float:
    """Return the share of its core, in percent, that the server uses under a steady load. Raises ``WorkerFailed``."""
    used = time_on_core(server)
    workers.run('pace.py', server.port, CONNECTIONS, seconds, RATE, core=machine.LOAD_CORE)
    return (time_on_core(server) - used) / seconds * 100


def time_on_core(server: RunningServer) -> float:
    """Return the seconds that the server has run on a core, finer than ``times(2)``."""
    with open(f'/proc/{server.pid}/schedstat', encoding='ascii') as found:
        return int(found.read().split()[0]) / 1e9


def measure_monitor(repeat: int, seconds: int) -> Section:
    """Measure in turns with the page open and closed; return the report."""
    shares = Samples()
    try:
        with RunningServer(SERVER) as server:
            share(server, seconds)
            for turn in range(repeat * TURNS):
                for way in (CLOSED, OPEN) if turn % 2 else (OPEN, CLOSED):
                    with watching(server) if way == OPEN else nullcontext():
                        shares.add('share', way, share(server, seconds * LONGER))
                shares.add('share', COST, shares.values['share', OPEN][-1] - shares.values['share', CLOSED][-1])
                say(f'monitor {turn + 1}/{repeat * TURNS}')
    except (ServerFailed, workers.WorkerFailed, OSError) as error:
        for way in (CLOSED, OPEN, COST):
            shares.fail('share', way, str(error))
    row = [
        f'processor at {RATE} requests a second, %',
        *(shares.cell('share', way, lambda value: f'{value:.2f}') for way in (CLOSED, OPEN, COST)),
    ]
    return Section(
        'Monitor',
        [Table(['the page is', CLOSED, OPEN, COST], [row])],
        shares.notes(),
        [Figure('processor that the open monitor takes', 2, shares.series('share', COST), at_most=True, unit=' %')],
    )
