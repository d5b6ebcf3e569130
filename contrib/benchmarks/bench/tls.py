"""HTTPS against Node's: requests per second on kept connections, and memory for an idle one.

The certificate is made for the run, with an elliptic-curve key, as most sites have; both servers use the same.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import tempfile
from pathlib import Path

from bench import machine
from bench.idle import REPETITIONS, hold
from bench.load import CASES, Load, load_servers
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, Server, in_turn

__all__ = ['make_certificate', 'measure_tls']

#: Few connections, because handshakes are not measured.
TLS_CASES = CASES[:2]


def measure_tls(repeat: int, seconds: int, connections: int) -> Section:
    """Load both servers ``repeat`` times ``seconds``, then hold idle connections; return the report."""
    load, memory = Load(), Samples()
    if importlib.util.find_spec('trustme') is None:
        return Section('HTTPS', notes=['trustme is not installed'], figures=figures(load, memory))
    if shutil.which('wrk') is None:
        return Section('HTTPS', notes=['wrk is not installed'], figures=figures(load, memory))
    with tempfile.TemporaryDirectory() as directory:
        path = make_certificate(Path(directory))
        servers = [dataclasses.replace(server, certificate=path) for server in CATALOGUE[:2]]
        load_servers(load, servers, TLS_CASES, repeat, seconds)
        count = min(connections, machine.raise_descriptor_limit() - 100)
        for repetition in range(min(repeat, REPETITIONS)):
            for server in in_turn(servers, repetition):
                hold(memory, server, count)
            say(f'idle TLS connections {repetition + 1}/{min(repeat, REPETITIONS)}')
    return report(load, memory, servers, count)


def make_certificate(directory: Path) -> str:
    """Return the path of a new certificate with its key. Raises ``ImportError``."""
    import trustme

    path = str(directory / 'server.pem')
    trustme.CA().issue_cert('127.0.0.1').private_key_and_cert_chain_pem.write_to_path(path)
    return path


# -- the report -------------------------------------------------------------------------------------------------------


def report(load: Load, memory: Samples, servers: list[Server], count: int) -> Section:
    """Return tables, notes and figures."""
    rows = []
    for case in TLS_CASES:
        rows.append(
            [
                f'requests per second, {case.title}',
                *(load.rate.cell(case.title, server.key, lambda value: f'{value:,.0f}') for server in servers),
                load.rate.ratio_cell(case.title, 'geventnode', 'node'),
            ]
        )
        rows.append(
            [
                f'processor time per request, {case.title}, µs',
                *(load.cost.cell(case.title, server.key, lambda value: f'{value:.1f}') for server in servers),
                load.cost.ratio_cell(case.title, 'geventnode', 'node'),
            ]
        )
    rows.append(
        [
            f'KiB per idle connection, {count:,} of them',
            *(memory.cell('idle', server.key, lambda value: f'{value:.1f}') for server in servers),
            memory.ratio_cell('idle', 'geventnode', 'node'),
        ]
    )
    notes = [
        f'{load.disturbed} of {load.turns} turns stayed disturbed by something else on the machine.',
        *load.rate.notes(),
        *memory.notes(),
    ]
    return Section(
        'HTTPS', [Table(['over TLS', 'geventnode', 'Node', 'geventnode to Node'], rows)], notes, figures(load, memory)
    )


def figures(load: Load, memory: Samples) -> list[Figure]:
    """Return the figures with their targets."""
    return [
        *(
            Figure(f'TLS, rate to Node, {case.title}', 1.3, load.rate.ratio(case.title, 'geventnode', 'node'))
            for case in TLS_CASES
        ),
        Figure('TLS, memory per idle connection', 18, memory.series('idle', 'geventnode'), at_most=True, unit=' KiB'),
    ]
