"""One large upload and one large download through a reverse proxy, against a bare gevent loop that copies bytes.

The origin is the bare gevent server. It shares the load's core with the peer; the proxy has the other core.
"""

from __future__ import annotations

import dataclasses

from bench import machine
from bench.progress import say
from bench.results import Figure, Section
from bench.servers import CATALOGUE, RunningServer, Server, ServerFailed
from bench.transfers import DIRECTIONS, Transfers, tabulate, take_turns

__all__ = ['measure_proxies']

ORIGIN = CATALOGUE[-1]
PROXIES = (
    Server('geventnode', 'geventnode', 'geventnode_proxy.py', ('gevent', 'zope')),
    Server('node', 'Node', 'node_proxy.js'),
    Server('bare', 'bare gevent', 'bare_proxy.py', ('gevent',)),
)


def measure_proxies(repeat: int, size: int) -> Section:
    """Transfer ``size`` bytes each way through every proxy, ``repeat`` times; return the report."""
    transfers = Transfers()
    try:
        with RunningServer(ORIGIN, machine.LOAD_CORE) as origin:
            proxies = [dataclasses.replace(proxy, arguments=(str(origin.port),)) for proxy in PROXIES]
            for repetition in range(repeat):
                take_turns(transfers, proxies, repetition, size)
                say(f'reverse proxy {repetition + 1}/{repeat}')
    except ServerFailed as error:
        for direction in DIRECTIONS:
            transfers.fail(direction, ORIGIN.key, f'the origin: {error}')
    table, notes = tabulate(transfers, PROXIES, size)
    return Section('Through a reverse proxy', [table], notes, figures(transfers))


def figures(transfers: Transfers) -> list[Figure]:
    """Return the figures with their targets."""
    rates = [
        Figure(f'reverse proxy, {direction} to {title}', goal, transfers.rate.ratio(direction, 'geventnode', key))
        for direction in DIRECTIONS
        for key, title, goal in (('bare', 'a bare gevent loop', 0.95), ('node', 'Node', 1))
    ]
    peaks = [
        Figure(
            f'peak memory, reverse proxy, {direction}',
            48,
            transfers.peak.series(direction, 'geventnode'),
            at_most=True,
            unit=' MiB',
        )
        for direction in DIRECTIONS
    ]
    return rates + peaks
