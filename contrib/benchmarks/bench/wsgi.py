"""The same WSGI application on several servers: requests per second under wrk, on one core."""

from __future__ import annotations

import shutil

from bench.load import CASES, Load, load_servers
from bench.results import Figure, Section, Table
from bench.servers import Server

__all__ = ['WSGI_SERVERS', 'measure_wsgi']

WSGI_SERVERS = (
    Server('geventnode', 'geventnode', 'geventnode_wsgi_server.py', ('gevent', 'zope')),
    Server('pywsgi', 'pywsgi', 'pywsgi_server.py', ('gevent',)),
    Server('gunicorn', 'gunicorn, gevent worker', 'gunicorn_server.py', ('gunicorn', 'gevent')),
    Server('waitress', 'waitress', 'waitress_server.py', ('waitress',)),
    Server('granian', 'granian', 'granian_server.py', ('granian',)),
)
WSGI_CASES = CASES[:2]


def measure_wsgi(repeat: int, seconds: int) -> Section:
    """Load every server ``repeat`` times ``seconds``; return the report."""
    load = Load()
    if shutil.which('wrk') is None:
        return Section('WSGI', notes=['wrk is not installed'], figures=figures(load))
    load_servers(load, WSGI_SERVERS, WSGI_CASES, repeat, seconds)
    columns = [
        'hello world',
        *(server.title for server in WSGI_SERVERS),
        *(f'geventnode to {server.title}' for server in WSGI_SERVERS[1:]),
    ]
    rows = [
        [
            case.title,
            *(load.rate.cell(case.title, server.key, lambda value: f'{value:,.0f}') for server in WSGI_SERVERS),
            *(load.rate.ratio_cell(case.title, 'geventnode', server.key) for server in WSGI_SERVERS[1:]),
        ]
        for case in WSGI_CASES
    ]
    notes = [
        f'{load.disturbed} of {load.turns} turns stayed disturbed by something else on the machine.',
        *load.rate.notes(),
    ]
    return Section('WSGI', [Table(columns, rows)], notes, figures(load))


def figures(load: Load) -> list[Figure]:
    """Return the figures with their targets."""
    return [
        Figure(f'WSGI, rate to {other}, {case.title}', goal, load.rate.ratio(case.title, 'geventnode', other))
        for case in WSGI_CASES
        for other, goal in (('pywsgi', 4.5), ('gunicorn', 6), ('granian', 1))
    ]
