"""The special case in which every request repeats byte for byte, so that caches of whole heads hit, and chunks.

The environment variable ``GEVENTNODE_BASE``, the directory of another checkout of this project, adds that build: a
gain on other traffic must cost nothing here. Node states the length of its responses in either case, because it
would send chunks otherwise. The bare loop sends as often as a response in ten writes does, without any checks.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from bench import clients
from bench.exchanges import EXCHANGES
from bench.load import Load, load_servers
from bench.progress import say
from bench.requests import Case, Exchange
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, base_checkout, in_turn
from bench.wsgi import WSGI_SERVERS

__all__ = ['measure_repeated']

CONNECTIONS = 32
UNSTATED, BROWSER = Case(1, CONNECTIONS), Case(12, CONNECTIONS)
STATED = Exchange(1, CONNECTIONS, '1 header, Content-Length stated', '/stated')
CHUNKS = next(each for each in EXCHANGES if each.path == '/chunks')
WSGI, CLIENT = 'WSGI, 12 headers', 'client, GET'

#: The wanted ratios: of every exchange to the base, of hello world to Node, of a stated length to one that is not, and
#: of ten writes to the base.
NOTHING_LOST, TO_NODE, STATED_BOUND, CHUNKS_BOUND = 1.0, 1.0, 0.97, 1.3


def measure_repeated(repeat: int, seconds: int) -> Section:
    """Measure exchanges that repeat, ``repeat`` times ``seconds``; return the report."""
    rate = Samples()
    loads = [Load(), Load(), Load()]
    if shutil.which('wrk') is None:
        return Section('The same bytes again', notes=['wrk is not installed'], figures=figures(rate))
    by_key = {server.key: server for server in CATALOGUE}
    geventnode, node, bare = by_key['geventnode'], by_key['node'], by_key['bare']
    base = [replace(geventnode, key='base', title='base', root=root) for root in base_checkout()]
    load_servers(loads[0], [geventnode, node, *base], (UNSTATED, STATED, BROWSER), repeat, seconds)
    load_servers(loads[1], [geventnode, node, *base, replace(bare, title='bare loop')], (CHUNKS,), repeat, seconds)
    wsgi = [WSGI_SERVERS[0], *(replace(WSGI_SERVERS[0], key='base', root=root) for root in base_checkout())]
    load_servers(loads[2], wsgi, (BROWSER,), repeat, seconds)
    for load, titles in ((loads[0], {}), (loads[1], {}), (loads[2], {BROWSER.title: WSGI})):
        add(rate, load.rate, titles)
    measure_client(rate, repeat, seconds)
    rows = [UNSTATED.title, STATED.title, BROWSER.title, WSGI, CLIENT, CHUNKS.title]
    keys = {'geventnode': 'geventnode', 'node': 'Node', 'base': 'base', 'bare': 'bare loop'}
    tables = [
        Table(
            ['requests per second', *keys.values()],
            [[row, *(rate.cell(row, key, lambda value: f'{value:,.0f}') for key in keys)] for row in rows],
        ),
        Table(
            ['geventnode to', *list(keys.values())[1:]],
            [[row, *(rate.ratio_cell(row, 'geventnode', key) for key in list(keys)[1:])] for row in rows],
        ),
    ]
    disturbed, turns = sum(load.disturbed for load in loads), sum(load.turns for load in loads)
    notes = [f'{disturbed} of {turns} turns stayed disturbed by something else on the machine.', *rate.notes()]
    return Section('The same bytes again', tables, notes, figures(rate))


def add(rate: Samples, measured: Samples, titles: dict[str, str]) -> None:
    """Add the samples and the faults of ``measured``, some under other titles."""
    for (case, key), values in measured.values.items():
        for value in values:
            rate.add(titles.get(case, case), key, value)
    for (case, key), reason in measured.faults.items():
        rate.fail(titles.get(case, case), key, reason)


def measure_client(rate: Samples, repeat: int, seconds: int) -> None:
    """Let the client of both builds make the same request again and again; add the rates in the fastest windows."""
    own = clients.CATALOGUE[0]
    both = [own, *(replace(own, key='base', title='base', root=root) for root in base_checkout())]
    try:
        with clients.nginx(0) as url:
            for repetition in range(repeat):
                for client in in_turn(both, repetition):
                    found = client.run('hello', f'{url}/', len(clients.HELLO), seconds)
                    rate.add(CLIENT, client.key, 1 / found['fastest'])
                say(f'client, the same bytes again {repetition + 1}/{repeat}')
    except clients.ClientFailed as error:
        for client in both:
            rate.fail(CLIENT, client.key, str(error))


def figures(rate: Samples) -> list[Figure]:
    """Return the figures with their targets."""
    found = [
        Figure(f'same bytes, {case.title}, to Node', TO_NODE, rate.ratio(case.title, 'geventnode', 'node'))
        for case in (UNSTATED, STATED)
    ]
    stated, unstated = rate.series(STATED.title, 'geventnode'), rate.series(UNSTATED.title, 'geventnode')
    found.append(
        Figure(
            'same bytes, Content-Length stated, to not stated',
            STATED_BOUND,
            None if stated is None or unstated is None else stated.over(unstated),
        )
    )
    if base_checkout():
        found += [
            Figure(f'same bytes, {case}, to base', NOTHING_LOST, rate.ratio(case, 'geventnode', 'base'))
            for case in (UNSTATED.title, BROWSER.title, WSGI, CLIENT)
        ]
        found.append(Figure(f'{CHUNKS.title}, to base', CHUNKS_BOUND, rate.ratio(CHUNKS.title, 'geventnode', 'base')))
    return found
