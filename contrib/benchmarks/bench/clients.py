"""Clients against nginx on the other core: small requests, 32 at a time, and one large download.

The scripts in ``clients/`` do the same with one client each, and measure themselves. The time of a request is that of
the fastest windows, for the same reason as the short rounds of servers; the plain rate is reported as well.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import machine
from bench.progress import say
from bench.results import Figure, Samples, Section, Table
from bench.servers import environment, in_turn

__all__ = ['BARE', 'CATALOGUE', 'HELLO', 'Client', 'ClientFailed', 'measure_clients', 'nginx']

SCRIPTS = Path(__file__).parent.parent / 'clients'
HELLO = b'hello world'

#: Downloads of one client in one repetition.
DOWNLOADS = 3

CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    server {{
        listen 127.0.0.1:{port};
        root {files};
        location = / {{ return 200 "hello world"; }}
        location /item/ {{
            add_header X-Request-Id $request_id;
            return 200 '{{"id": "$request_id"}}';
        }}
    }}
}}
"""


class ClientFailed(Exception):
    """A client, or nginx, has ended without a result."""


@dataclass(frozen=True)
class Client:
    """A client that can be measured.

    :ivar key: the name in the samples.
    :ivar title: the name in tables.
    :ivar script: its file in ``clients/``.
    :ivar program: the program that runs a script in JavaScript.
    :ivar root: the checkout from which the script imports the package; empty: this one.
    :ivar python: the interpreter that runs a script in Python; empty: this one.
    """

    key: str
    title: str
    script: str
    program: str = 'node'
    root: str = ''
    python: str = ''

    def run(self, *arguments: object) -> dict[str, Any]:
        """Run the script, and return its output. Raises :class:`ClientFailed`."""
        program = self.program if self.script.endswith('.js') else self.python or sys.executable
        if shutil.which(program) is None:
            raise ClientFailed(f'{program} is not installed')
        ran = subprocess.run(
            [program, str(SCRIPTS / self.script), *map(str, arguments)],
            check=False,
            text=True,
            capture_output=True,
            env=environment(self.root),
            preexec_fn=machine.pin(machine.SERVER_CORE),
        )
        if ran.returncode:
            raise ClientFailed((ran.stderr.strip().splitlines() or ['ended without a message'])[-1])
        found: dict[str, Any] = json.loads(ran.stdout)
        return found


CATALOGUE = (
    Client('geventnode', 'geventnode', 'geventnode_client.py'),
    Client('node', 'Node', 'node_client.js'),
    Client('geventhttpclient', 'geventhttpclient', 'geventhttpclient_client.py'),
    Client('urllib3', 'urllib3', 'urllib3_client.py'),
    Client('requests', 'requests', 'requests_client.py'),
    Client('aiohttp', 'aiohttp', 'aiohttp_client.py'),
)
BARE = Client('bare', 'bare recv loop', 'bare_client.py')


@contextmanager
def nginx(size: int) -> Iterator[str]:
    """Yield the URL of an nginx that serves ``/`` and, from memory, ``/large`` with ``size`` bytes."""
    program = shutil.which('nginx', path='/usr/sbin:/usr/local/sbin:/sbin:/usr/bin')
    if program is None:
        raise ClientFailed('nginx is not installed')
    shared = Path('/dev/shm')
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        directory = Path(name)
        with (directory / 'large').open('wb') as file:
            file.truncate(size)
        port = 8197
        (directory / 'nginx.conf').write_text(CONFIGURATION.format(directory=directory, files=directory, port=port))
        with subprocess.Popen(
            [program, '-p', name, '-e', 'stderr', '-c', str(directory / 'nginx.conf')],
            text=True,
            stderr=subprocess.PIPE,
            preexec_fn=machine.pin(machine.LOAD_CORE),
        ) as running:
            assert running.stderr is not None
            output = ''
            while 'getrlimit(RLIMIT_NOFILE)' not in output and 'start worker' not in output:
                line = running.stderr.readline()
                if not line:
                    raise ClientFailed(output or 'nginx has ended without a message')
                output += line
            try:
                yield f'http://127.0.0.1:{port}'
            finally:
                running.terminate()


def measure_clients(repeat: int, seconds: int, size: int) -> Section:
    """Load with every client for ``seconds`` and download ``size`` bytes, ``repeat`` times; return the report."""
    samples = Samples()
    try:
        with nginx(size) as url:
            for repetition in range(repeat):
                for client in in_turn(CATALOGUE, repetition):
                    _request(samples, client, url, seconds)
                _download(samples, in_turn((*CATALOGUE, BARE), repetition), url, size)
                say(f'clients {repetition + 1}/{repeat}')
    except ClientFailed as error:
        for client in CATALOGUE:
            samples.fail('fastest', client.key, str(error))
    return _report(samples, size)


def _request(samples: Samples, client: Client, url: str, seconds: int) -> None:
    try:
        found = client.run('hello', f'{url}/', len(HELLO), seconds)
    except ClientFailed as error:
        for case in ('fastest', 'rate'):
            samples.fail(case, client.key, str(error))
        return
    samples.add('fastest', client.key, 1 / found['fastest'])
    samples.add('rate', client.key, found['count'] / found['seconds'])


def _download(samples: Samples, clients: Sequence[Client], url: str, size: int) -> None:
    """Download with each client in turns; the median counts, because a download takes less than half a second."""
    rates: dict[str, list[float]] = {}
    for _ in range(DOWNLOADS):
        for client in clients:
            try:
                found = client.run('download', f'{url}/large', size)
            except ClientFailed as error:
                samples.fail('download', client.key, str(error))
                continue
            rates.setdefault(client.key, []).append(size / 2**20 / found['seconds'])
    for key, values in rates.items():
        samples.add('download', key, median(values))


def _report(samples: Samples, size: int) -> Section:
    """Return tables, notes and figures."""
    clients = (*CATALOGUE, BARE)
    rows = [
        [title, *(samples.cell(case, client.key, lambda value: f'{value:,.0f}') for client in clients)]
        for case, title in (
            ('fastest', 'requests per second, fastest windows'),
            ('rate', 'requests per second'),
            ('download', f'download of {size // 2**20} MiB, MiB/s'),
        )
    ]
    ratios = [
        [
            'geventnode to it, fastest windows',
            *(samples.ratio_cell('fastest', 'geventnode', client.key) for client in clients),
        ]
    ]
    figures = [
        Figure(f'client to {title}', bound, samples.ratio('fastest', 'geventnode', key))
        for key, title, bound in (
            ('node', 'Node', 1.4),
            ('geventhttpclient', 'geventhttpclient', 3.0),
            ('requests', 'requests', 20.0),
        )
    ]
    figures.append(Figure('client, download to a bare recv loop', 0.8, samples.ratio('download', 'geventnode', 'bare')))
    header = ['clients', *(client.title for client in clients)]
    return Section('Clients', [Table(header, rows + ratios)], samples.notes(), figures)
