"""The table of the README: each yes and no is checked with the real program, in its installed version.

The programs run the same site (``apps/compared``), and the checks are made with bytes on a socket. Figures are those of
the benchmarks. The times after which an upload that stops is ended are minutes: they were measured once, with gevent
26.9.0, gunicorn 27.0.1 and Node 20.20.2 and 26.10.0, and "never" was longer than 400 s.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import pytest

from tests.needed import need
from tests.system.running import APPS, PATIENCE, PYTHONPATH, ROOT, Served, tool

COMPARED = APPS / 'compared'

COLUMNS = 'geventnode', '`gevent.pywsgi`', 'gunicorn, gevent worker', "Node's `http`", '`requests`'


def table() -> dict[str, list[str]]:
    """Return the cells of the README's table, by the first one of their row."""
    lines = (ROOT / 'README.md').read_text('utf-8').splitlines()
    head, _, *body = [cells(line) for line in lines if line.count('|') == len(COLUMNS) + 2]
    assert tuple(head[1:]) == COLUMNS
    return {name: rest for name, *rest in body}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip('|').split('|')]


# -- the programs -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(command: list[Any], pattern: str) -> Iterator[int]:
    """Run a server until the end of the block; its first line with ``pattern`` has the port."""
    with subprocess.Popen(
        command,
        cwd=COMPARED,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
    ) as server:
        lines = []
        try:
            for line in server.stdout:
                lines.append(line)
                found = re.search(pattern, line)
                if found:
                    # the rest of its output could fill the pipe
                    drain = threading.Thread(target=server.stdout.read, daemon=True)
                    drain.start()
                    yield int(found[1])
                    break
            else:
                pytest.fail(''.join(lines))
        finally:
            server.kill()
            drain.join()


@contextlib.contextmanager
def geventnode(target: str = 'listener:listener') -> Iterator[int]:
    with Served(target, '--http2', cwd=COMPARED, errors='(?s).*') as served:
        yield served.port


def geventnode_with_wsgi() -> Any:
    return geventnode('site_of:app')


def pywsgi() -> Any:
    return process([sys.executable, 'pywsgi_server.py'], r'^(\d+)$')


def gunicorn(*options: str) -> Any:
    need('gunicorn')
    command = [sys.executable, '-m', 'gunicorn', '-k', 'gevent', '-b', '127.0.0.1:0', *options, 'site_of:app']
    return process(command, r'Listening at: http://127\.0\.0\.1:(\d+)')


def gunicorn_with_http2() -> Any:
    # HTTP/1.1 has another port then
    return gunicorn('--http-protocols', 'h2,h1', '--http2-cleartext', 'prior-knowledge', '--forwarded-allow-ips', '*')


def node() -> Any:
    return process([tool('node'), 'site.js'], r'^(\d+)$')


SERVERS = dict(zip(COLUMNS, (geventnode, pywsgi, gunicorn, node), strict=False))


@pytest.fixture(scope='module')
def ports() -> Iterator[dict[Callable[[], Any], int]]:
    """Run all servers; return their ports."""
    with contextlib.ExitStack() as stack:
        servers = [*SERVERS.values(), gunicorn_with_http2, geventnode_with_wsgi]
        yield {server: stack.enter_context(server()) for server in servers}


# -- checks of servers ------------------------------------------------------------------------------------------------


def fetch(port: int, path: str) -> str:
    with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
        client.request('GET', path)
        return client.getresponse().read().decode()


def truncated_upload_raises(port: int) -> bool:
    with socket.create_connection(('127.0.0.1', port), PATIENCE) as client:
        client.sendall(b'POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc')
    outcome = fetch(port, '/outcome')
    assert outcome in ('raised', 'complete: 3 bytes')
    return outcome == 'raised'


def disconnect_is_reported(port: int) -> bool:
    with socket.create_connection(('127.0.0.1', port), PATIENCE) as client:
        client.sendall(b'GET /wait HTTP/1.1\r\nHost: a\r\n\r\n')
        assert fetch(port, '/outcome') == 'waiting'
    # each of these turns the loop, so that the server can notice the disconnection
    for path in [*['/'] * 10, '/release']:
        fetch(port, path)
    return fetch(port, '/outcome') == 'notified'


def failure_truncates(port: int) -> bool:
    try:
        fetch(port, '/halfway')
    except IncompleteRead:
        return True
    return False


def http2_is_served(port: int) -> bool:
    command = [tool('curl'), '-s', '-o', os.devnull, '-w', '%{http_version}', '--http2-prior-knowledge']
    ran = subprocess.run(
        [*command, f'http://127.0.0.1:{port}/'], check=False, text=True, timeout=PATIENCE, stdout=subprocess.PIPE
    )
    return ran.returncode == 0 and ran.stdout == '2'


def wsgi_is_served(port: int) -> bool:
    return fetch(port, '/') == 'hello'


SERVER_CHECKS = {
    'an upload that was cut off raises': truncated_upload_raises,
    'a handler is notified when its client disconnects': disconnect_is_reported,
    'a response that fails halfway looks incomplete': failure_truncates,
    'WSGI: Flask, Django and others run unchanged': wsgi_is_served,
    'HTTP/2, by a setting of the server': http2_is_served,
}
#: Other ways to start the servers, by check.
OTHER_SERVERS = {
    http2_is_served: {COLUMNS[2]: gunicorn_with_http2},
    wsgi_is_served: {COLUMNS[0]: geventnode_with_wsgi},
}


# -- checks of clients ------------------------------------------------------------------------------------------------


CLIENTS = {
    COLUMNS[0]: [sys.executable, 'client.py'],
    COLUMNS[3]: ['node', 'client.js'],
    COLUMNS[4]: [sys.executable, 'requests_client.py'],
}


@contextlib.contextmanager
def client_of(program: str, count: int, limit: int) -> Iterator[tuple[socket.socket, subprocess.Popen[str]]]:
    """Yield a listening socket, and a client that makes ``count`` requests to it over ``limit`` connections."""
    command = [tool(CLIENTS[program][0]), *CLIENTS[program][1:]]
    with socket.create_server(('127.0.0.1', 0)) as origin:
        origin.settimeout(PATIENCE)
        url = f'http://127.0.0.1:{origin.getsockname()[1]}/'
        with subprocess.Popen(
            [*command, url, str(count), str(limit)],
            cwd=COMPARED,
            text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        ) as process:
            try:
                yield origin, process
            finally:
                process.kill()


def truncated_response_raises(program: str) -> bool:
    with client_of(program, 1, 1) as (origin, process):
        accepted, _ = origin.accept()
        with accepted:
            accepted.recv(65536)
            accepted.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc')
        outcome = process.stdout.read().splitlines()[-1]
        assert outcome in ('raised', 'complete')
        return outcome == 'raised'


def pool_is_bounded(program: str) -> bool:
    with client_of(program, 6, 2) as (origin, process):
        if program == '`requests`':
            for _ in range(6):
                origin.accept()[0].close()
            return False
        return process.stdout.readline() == 'waiting: 4\n'


CLIENT_CHECKS = {
    'a response that was cut off raises': truncated_response_raises,
    "by default, requests beyond the pool's size wait": pool_is_bounded,
}


# -- measured figures -------------------------------------------------------------------------------------------------

BENCHMARKS = (ROOT / 'contrib' / 'benchmarks' / 'README.md').read_text('utf-8')

#: The row and the column of the benchmarks' tables, by the row and the column of the README's table.
FIGURES = {
    ('rate of a server, nothing alike: geventnode to it', COLUMNS[1]): (
        'listener, nothing alike, to pywsgi',
        'measured',
    ),
    ('rate of a server, nothing alike: geventnode to it', COLUMNS[3]): ('listener, nothing alike, to node', 'measured'),
    ('rate of WSGI, the same again: geventnode to it', COLUMNS[1]): (
        'WSGI, rate to pywsgi, 12 headers, 32 connections',
        'measured',
    ),
    ('rate of WSGI, the same again: geventnode to it', COLUMNS[2]): (
        'WSGI, rate to gunicorn, 12 headers, 32 connections',
        'measured',
    ),
    ('rate of a client, nothing alike: geventnode to it', COLUMNS[3]): ('client, nothing alike, to node', 'measured'),
    ('rate of a client, the same again: geventnode to it', COLUMNS[3]): ('client to Node', 'measured'),
    ('rate of a client, the same again: geventnode to it', COLUMNS[4]): ('client to requests', 'measured'),
    ('memory of an idle connection, KiB', COLUMNS[0]): ('KiB per connection', 'geventnode'),
    ('memory of an idle connection, KiB', COLUMNS[1]): ('KiB per connection', 'pywsgi'),
    ('memory of an idle connection, KiB', COLUMNS[3]): ('KiB per connection', 'Node'),
}


def measured(row: str, column: str) -> float:
    """Return the median of a figure in the tables of the benchmarks."""
    for section in BENCHMARKS.split('\n\n'):
        head, *lines = section.splitlines() or ['']
        for line in lines:
            if cells(line)[0] == row and column in cells(head):
                return float(cells(line)[cells(head).index(column)].split()[0])
    pytest.fail(f'{row}, {column}: not in the tables of the benchmarks')


def two_digits(number: float) -> str:
    return f'{number:.0f}' if number >= 9.95 else f'{number:.1f}' if number >= 0.995 else f'{number:.2f}'


@pytest.mark.parametrize(('row', 'program'), FIGURES)
def test_figure_is_that_of_the_benchmarks(row: str, program: str) -> None:
    assert table()[row][COLUMNS.index(program)] == two_digits(measured(*FIGURES[row, program]))


def test_figure_below_the_table_is_that_of_the_benchmarks() -> None:
    """The first table with this column is that of listeners."""
    text = ' '.join((ROOT / 'README.md').read_text('utf-8').split())
    assert f'the rate of a server to Node 26 is {two_digits(measured("geventnode to it", "Node 26"))}.' in text


# -- the table --------------------------------------------------------------------------------------------------------

CELLS = [
    (row, program, cell)
    for row, found in table().items()
    for program, cell in zip(COLUMNS, found, strict=True)
    if cell in ('yes', 'no')
]


def test_every_row_is_checked() -> None:
    assert {row for row, _, _ in CELLS} == {*SERVER_CHECKS, *CLIENT_CHECKS}


@pytest.mark.parametrize(('row', 'program', 'cell'), CELLS)
def test_cell(row: str, program: str, cell: str, ports: dict[Callable[[], Any], int]) -> None:
    if row in SERVER_CHECKS:
        check = SERVER_CHECKS[row]
        found = check(ports[OTHER_SERVERS.get(check, {}).get(program, SERVERS[program])])
    else:
        found = CLIENT_CHECKS[row](program)
    assert {True: 'yes', False: 'no'}[found] == cell
