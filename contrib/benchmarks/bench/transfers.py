"""One large upload and one large download: the rate, compared with a bare gevent loop, and the memory.

Every transfer has a fresh server process, so that its peak is that of the transfer. The peer (``workers/transfer.py``)
copies nothing; its share of its core is reported, because a saturated peer would hide differences between servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, RunningServer, Server, ServerFailed, in_turn

__all__ = ['DIRECTIONS', 'Transfers', 'measure_transfers', 'tabulate', 'take_turns']

DIRECTIONS = ('upload', 'download')
MEBI = 2**20
WARM_UP = 16 * MEBI


@dataclass
class Transfers:
    """The samples of all transfers.

    :ivar rate: MiB per second.
    :ivar peak: the most resident memory, MiB.
    :ivar growth: the growth since before the first request with a body, MiB.
    :ivar peer_busy: the share of its core that the peer used.
    """

    rate: Samples = field(default_factory=Samples)
    peak: Samples = field(default_factory=Samples)
    growth: Samples = field(default_factory=Samples)
    peer_busy: Samples = field(default_factory=Samples)

    def fail(self, direction: str, server: str, reason: str) -> None:
        """Make the cells of one direction invalid."""
        for samples in (self.rate, self.peak, self.growth, self.peer_busy):
            samples.fail(direction, server, reason)


def measure_transfers(repeat: int, size: int) -> Section:
    """Transfer ``size`` bytes each way with every server, ``repeat`` times; return the report."""
    transfers = Transfers()
    for repetition in range(repeat):
        take_turns(transfers, CATALOGUE, repetition, size)
        say(f'transfers {repetition + 1}/{repeat}')
    table, notes = tabulate(transfers, CATALOGUE, size)
    return Section('Upload and download', [table], notes, figures(transfers))


def take_turns(transfers: Transfers, servers: Sequence[Server], repetition: int, size: int) -> None:
    """Make one transfer in each direction with every server."""
    for direction in DIRECTIONS:
        for server in in_turn(servers, repetition):
            transfer(transfers, direction, server, size)


def transfer(transfers: Transfers, direction: str, server: Server, size: int) -> None:
    """Make one transfer with a fresh process, and add the result."""
    if (direction, server.key) in transfers.rate.faults:
        return
    try:
        with RunningServer(server) as running:
            before = running.memory
            workers.run('transfer.py', running.port, direction, WARM_UP, core=machine.LOAD_CORE)
            found = workers.run('transfer.py', running.port, direction, size, core=machine.LOAD_CORE)
            after = running.memory
    except (ServerFailed, workers.WorkerFailed) as error:
        transfers.fail(direction, server.key, str(error))
        return
    transfers.rate.add(direction, server.key, size / MEBI / found['seconds'])
    transfers.peak.add(direction, server.key, after.peak / MEBI)
    transfers.growth.add(direction, server.key, (after.peak - before.now) / MEBI)
    transfers.peer_busy.add('all', server.key, found['processor'] / found['seconds'])


# -- the report ---------------------------------------------------------------------------------------------------


def tabulate(transfers: Transfers, servers: Sequence[Server], size: int) -> tuple[Table, list[str]]:
    """Return the table and its notes; the others are compared with the last server."""
    *_, bare = servers
    rows = []
    for direction in DIRECTIONS:
        for samples, quantity in (
            (transfers.rate, 'MiB/s'),
            (transfers.peak, 'peak memory, MiB'),
            (transfers.growth, 'growth of it, MiB'),
        ):
            rows.append(
                [
                    f'{direction}: {quantity}',
                    *(samples.cell(direction, server.key, lambda value: f'{value:.0f}') for server in servers),
                ]
            )
        rows.append(
            [
                f'{direction}: rate to {bare.title}',
                *(transfers.rate.ratio_cell(direction, server.key, bare.key) for server in servers),
            ]
        )
    busy = ', '.join(
        f'{server.title} ' + transfers.peer_busy.cell('all', server.key, lambda share: f'{share:.0%}')
        for server in servers
    )
    table = Table([f'{size // MEBI} MiB', *(server.title for server in servers)], rows)
    return table, [f'Share of its core that the peer used: {busy}.', *transfers.rate.notes()]


def figures(transfers: Transfers) -> list[Figure]:
    """Return the figures with their targets."""
    rates = [
        Figure(f'{direction} to {title}', goal, transfers.rate.ratio(direction, 'geventnode', key))
        for direction in DIRECTIONS
        for key, title, goal in (('bare', 'a bare gevent loop', 0.95), ('node', 'Node', 1))
    ]
    peaks = [
        Figure(
            f'peak memory, {direction}', 48, transfers.peak.series(direction, 'geventnode'), at_most=True, unit=' MiB'
        )
        for direction in DIRECTIONS
    ]
    return rates + peaks
