"""Compare requests with this package's adapter and plain requests: the same program with another adapter.

The measurements are those of the other clients; the two take turns within each repetition. Both keep their core busy,
so processor time means the same as wall time, and is also meaningful on a machine with other load.
"""

from __future__ import annotations

from bench.clients import HELLO, Client, ClientFailed, nginx
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import in_turn

__all__ = ['measure_adapter']

PAIR = (
    Client('adapter', 'requests on an agent', 'requests_adapter_client.py'),
    Client('requests', 'plain requests', 'requests_client.py'),
)
CASES = {
    'processor': 'requests per second of processor time, best windows',
    'fastest': 'requests per second, fastest windows',
    'rate': 'requests per second',
    'download': 'download, MiB/s',
}


def measure_adapter(repeat: int, seconds: int, size: int) -> Section:
    """Load with both for ``seconds`` and download ``size`` bytes, ``repeat`` times; return the report."""
    samples = Samples()
    try:
        with nginx(size) as url:
            for repetition in range(repeat):
                for client in in_turn(PAIR, repetition):
                    found = client.run('hello', f'{url}/', len(HELLO), seconds)
                    samples.add('processor', client.key, 1 / found['processor'])
                    samples.add('fastest', client.key, 1 / found['fastest'])
                    samples.add('rate', client.key, found['count'] / found['seconds'])
                    found = client.run('download', f'{url}/large', size)
                    samples.add('download', client.key, size / 2**20 / found['seconds'])
                say(f'requests {repetition + 1}/{repeat}')
    except (ClientFailed, ZeroDivisionError) as error:
        for client in PAIR:
            for case in CASES:
                samples.fail(case, client.key, str(error))
    return _report(samples)


def _report(samples: Samples) -> Section:
    """Return tables, notes and figures."""
    rows = [
        [
            title,
            *(samples.cell(case, client.key, lambda value: f'{value:,.0f}') for client in PAIR),
            samples.ratio_cell(case, 'adapter', 'requests'),
        ]
        for case, title in CASES.items()
    ]
    table = Table(['requests', *(client.title for client in PAIR), 'ratio'], rows)
    figures = [
        Figure(f'requests on an agent to plain ones, {measure}', 1.3, samples.ratio(case, 'adapter', 'requests'))
        for case, measure in (('processor', 'by processor time'), ('fastest', 'by time'))
    ]
    return Section('requests', [table], samples.notes(), figures)
