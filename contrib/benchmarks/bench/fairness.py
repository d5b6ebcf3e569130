"""The latency of a client with few requests, while other clients flood the server.

Each server is measured alone, then with 32 connections that pipeline requests without waiting for responses, then with
32 uploads. The measured client and the flood share the load's core, where the flood has the lower priority.
"""

from __future__ import annotations

from bench import machine, workers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, RunningServer, Server, ServerFailed, in_turn

__all__ = ['measure_fairness']

SERVERS = CATALOGUE[:2]
FLOODS = {'alone': None, '32 pipeline': 'pipelined', '32 upload': 'upload'}
CONNECTIONS = 32
#: The target, in milliseconds.
WANTED = 10
CUTS = {'median, ms': 'p50', '99th percentile, ms': 'p99'}


def measure_fairness(repeat: int, seconds: int) -> Section:
    """Probe both servers under each flood, ``repeat`` times ``seconds``; return the report."""
    found = {cut: Samples() for cut in CUTS}
    for repetition in range(repeat):
        for title, flood in FLOODS.items():
            for server in in_turn(SERVERS, repetition):
                take_turn(found, title, flood, server, seconds)
        say(f'fairness {repetition + 1}/{repeat}')
    return report(found)


def take_turn(found: dict[str, Samples], title: str, flood: str | None, server: Server, seconds: int) -> None:
    """Probe a fresh server under a flood."""
    try:
        with RunningServer(server) as running:
            latencies = probe(running, flood, seconds)
    except (ServerFailed, workers.WorkerFailed) as error:
        for samples in found.values():
            samples.fail(title, server.key, str(error))
        return
    for cut, samples in found.items():
        samples.add(title, server.key, latencies[CUTS[cut]] * 1000)


def probe(running: RunningServer, flood: str | None, seconds: int) -> dict[str, float]:
    """Return the latencies of a client with few requests under a flood. Raises ``WorkerFailed``."""
    if flood is None:
        return workers.run('probe.py', running.port, seconds, core=machine.LOAD_CORE)
    with workers.start('flood.py', running.port, flood, CONNECTIONS, core=machine.LOAD_CORE) as flooding:
        try:
            workers.answer(flooding)
            latencies = workers.run('probe.py', running.port, seconds, core=machine.LOAD_CORE)
            if flooding.poll() is not None:
                workers.answer(flooding)
            return latencies
        finally:
            flooding.kill()


# -- the report -------------------------------------------------------------------------------------------------------


def report(found: dict[str, Samples]) -> Section:
    """Return table, notes and figures."""
    rows = [
        [
            f'{title}: {cut}',
            *(samples.cell(title, server.key, lambda value: f'{value:.2f}') for server in SERVERS),
            samples.ratio_cell(title, 'geventnode', 'node'),
        ]
        for title in FLOODS
        for cut, samples in found.items()
    ]
    table = Table(['one request', 'geventnode', 'Node', 'geventnode to Node'], rows)
    late = found['99th percentile, ms']
    figures = [
        Figure(
            f'99th percentile of a request, {title}', WANTED, late.series(title, 'geventnode'), at_most=True, unit=' ms'
        )
        for title, flood in FLOODS.items()
        if flood
    ]
    return Section('Fairness', [table], late.notes(), figures)
