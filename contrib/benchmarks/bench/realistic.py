"""Traffic in which no two messages are alike, as on real sites.

Each request has the usual fields of a browser, and a path, a query, a cookie and an id of its own. Each response has an
id, a body and a length of its own. A cache of whole heads cannot help. wrk sends requests that it made in advance, each
once; the number of bytes of all responses is checked.

The bare loops show how much of the ratios is the interpreter and the kernel: they receive, split the bytes, and send,
without any checks. Two environment variables add columns: ``GEVENTNODE_BASE``, the directory of another checkout of
this project, and ``NODE26``, the path of a newer Node (``npm install node@26`` brings one).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace

from bench import clients
from bench.load import Load, load_servers
from bench.progress import say
from bench.requests import Items
from bench.results import Figure, Samples, Section, Table
from bench.servers import CATALOGUE, Server, base_checkout, in_turn
from bench.wsgi import WSGI_SERVERS

__all__ = ['SHAPES', 'measure_realistic']

CONNECTIONS = 32

#: The ways in which a handler responds; all servers have the first one.
SHAPES = (
    Items(12, CONNECTIONS, 'write_head() with Content-Length', 'item'),
    Items(12, CONNECTIONS, 'write_head(), no length', 'unstated'),
    Items(12, CONNECTIONS, 'set_header(), end(str)', 'set'),
    Items(12, CONNECTIONS, 'a Set-Cookie', 'cookie'),
    Items(12, CONNECTIONS, '302', 'redirect', 302, False),
    Items(12, CONNECTIONS, '304', 'not_modified', 304, False),
)
COMMON = SHAPES[:1]

#: The size of an item that nginx sends, in bytes.
ITEM_SIZE = len('{"id": "0123456789abcdef0123456789abcdef"}')

LISTENER_BOUNDS = (('base', 2.0), ('node', 0.9), ('uvicorn', 1.1), ('pywsgi', 5.0))
WSGI_BOUNDS = (('base', 2.2), ('pywsgi', 4.0), ('granian', 0.6))
CLIENT_BOUNDS = (('base', 1.8), ('node', 1.2), ('geventhttpclient', 2.0), ('aiohttp', 2.0))
#: The wanted ratios: of each way to respond to the fastest one, and of a stated length to one that is not.
SHAPE_BOUND, STATED_BOUND = 0.85, 0.97


def measure_realistic(repeat: int, seconds: int) -> Section:
    """Measure servers, WSGI servers, ways to respond and clients, ``repeat`` times ``seconds``; return the report."""
    if shutil.which('wrk') is None:
        return Section('Nothing alike', notes=['wrk is not installed'], figures=[Figure('nothing alike', 1, None)])
    node = os.environ.get('NODE26', '')
    listeners = [replace(each, title='bare loop') if each.key == 'bare' else each for each in CATALOGUE]
    wsgi = [each for each in WSGI_SERVERS if each.key in ('geventnode', 'pywsgi', 'granian')]
    wsgi += [each for each in listeners if each.key == 'bare']
    asking = [each for each in clients.CATALOGUE if each.key in ('geventnode', 'node', 'geventhttpclient', 'aiohttp')]
    asking.append(replace(clients.BARE, title='bare loop'))
    for base in base_checkout():
        for servers in (listeners, wsgi):
            servers.append(replace(servers[0], key='base', title='base', root=base))
        asking.append(replace(asking[0], key='base', title='base', root=base))
    if node:
        listeners.append(Server('node26', 'Node 26', 'node_server.js', program=node))
        asking.append(clients.Client('node26', 'Node 26', 'node_client.js', program=node))
    load, applications, shapes = Load(), Load(), Load()
    load_servers(load, listeners, COMMON, repeat, seconds)
    load_servers(applications, wsgi, COMMON, repeat, seconds)
    load_servers(shapes, CATALOGUE[:1], SHAPES, repeat, seconds)
    samples = measure_items(asking, repeat, seconds)
    case = COMMON[0].title
    tables = [
        compared('listener', load.rate, case, listeners),
        compared('WSGI', applications.rate, case, wsgi),
        compared('client', samples, 'fastest', asking),
        Table(
            ['ways to respond', 'requests per second', 'to the first'],
            [[each.title, *shape_cells(shapes.rate, each.title)] for each in SHAPES],
        ),
    ]
    disturbed = load.disturbed + applications.disturbed + shapes.disturbed
    turns = load.turns + applications.turns + shapes.turns
    notes = [
        f'{disturbed} of {turns} turns stayed disturbed by something else on the machine.',
        *(note for each in (load.rate, applications.rate, shapes.rate, samples) for note in each.notes()),
    ]
    return Section('Nothing alike', tables, notes, figures(load.rate, applications.rate, samples, shapes.rate))


def measure_items(asking: Sequence[clients.Client], repeat: int, seconds: int) -> Samples:
    """Let every client ask nginx for items; return their rates in the fastest windows."""
    samples = Samples()
    try:
        with clients.nginx(0) as url:
            for repetition in range(repeat):
                for client in in_turn(asking, repetition):
                    try:
                        found = client.run('items', f'{url}/', ITEM_SIZE, seconds)
                    except clients.ClientFailed as error:
                        samples.fail('fastest', client.key, str(error))
                        continue
                    samples.add('fastest', client.key, 1 / found['fastest'])
                say(f'clients, nothing alike {repetition + 1}/{repeat}')
    except clients.ClientFailed as error:
        for client in asking:
            samples.fail('fastest', client.key, str(error))
    return samples


def compared(title: str, rate: Samples, case: str, measured: Sequence[Server | clients.Client]) -> Table:
    """Return a table of rates, and of this package's ratio to each of the others."""
    return Table(
        [title, *(each.title for each in measured)],
        [
            ['requests per second', *(rate.cell(case, each.key, lambda value: f'{value:,.0f}') for each in measured)],
            ['geventnode to it', *(rate.ratio_cell(case, 'geventnode', each.key) for each in measured)],
        ],
    )


def shape_cells(rate: Samples, case: str) -> list[str]:
    """Return the rate of one way to respond, and its ratio to the first one."""
    found, first = rate.series(case, 'geventnode'), rate.series(SHAPES[0].title, 'geventnode')
    ratio = '–' if found is None or first is None else found.over(first).text(lambda value: f'{value:.2f}')
    return [rate.cell(case, 'geventnode', lambda value: f'{value:,.0f}'), ratio]


def figures(listener: Samples, wsgi: Samples, client: Samples, shapes: Samples) -> list[Figure]:
    """Return the figures to reach."""
    found = [
        Figure(f'{kind}, nothing alike, to {key}', bound, rate.ratio(case, 'geventnode', key))
        for kind, rate, case, bounds in (
            ('listener', listener, COMMON[0].title, LISTENER_BOUNDS),
            ('WSGI', wsgi, COMMON[0].title, WSGI_BOUNDS),
            ('client', client, 'fastest', CLIENT_BOUNDS),
        )
        for key, bound in bounds
        if key != 'base' or rate.series(case, 'base') is not None
    ]
    series = {each.title: shapes.series(each.title, 'geventnode') for each in SHAPES}
    measured = [each for each in series.values() if each is not None]
    best = max(measured, key=lambda each: each.median) if measured else None
    for each in SHAPES:
        mine = series[each.title]
        found.append(
            Figure(
                f'{each.title}, to the best way', SHAPE_BOUND, None if mine is None or best is None else mine.over(best)
            )
        )
    stated, unstated = series[SHAPES[0].title], series[SHAPES[1].title]
    found.append(
        Figure(
            'Content-Length stated, to not stated',
            STATED_BOUND,
            None if stated is None or unstated is None else stated.over(unstated),
        )
    )
    return found
