"""Test the examples of intermediaries: a reverse proxy, a tunnel for curl, and an upgrade for Node's client."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from gevent import subprocess as cooperative

from contrib.examples import connect_proxy, upgrade
from tests.servers import Serve
from tests.system.running import PATIENCE, PYTHONPATH, ROOT, Served, peak_memory, run, tool
from tests.system.zeros import zeros

GIBIBYTE = 2**30
UPLOAD = 2**28
ALLOWED_GROWTH = 64 * 2**20


@pytest.fixture
def origin() -> Iterator[Served]:
    with Served('handlers:listener') as served:
        yield served


class Proxy:
    """The reverse proxy as a program."""

    def __init__(self, target: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ROOT / 'contrib' / 'examples' / 'reverse_proxy.py', target, '0'],
            text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        )
        greeting = self.process.stdout.readline()
        self.port = int(re.search(r'^http://127\.0\.0\.1:(\d+)/ forwards to', greeting)[1])
        self.url = f'http://127.0.0.1:{self.port}'

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def proxy(origin: Served) -> Iterator[Proxy]:
    with contextlib.ExitStack() as stack:
        proxy = Proxy(origin.url.removeprefix('http://'))
        stack.callback(proxy.stop)
        # it is idle when it has done everything once
        run('curl', '--silent', '--data', 'warm', f'{proxy.url}/echo')
        yield proxy


def ask(url: str) -> str:
    return run('curl', '--silent', '--show-error', '--max-time', PATIENCE, url)


def test_a_slow_reader(proxy: Proxy) -> None:
    """1 GiB comes through in constant memory, for a client that lets others go first."""
    idle = peak_memory(proxy.process.pid)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262144)
        client.settimeout(PATIENCE)
        client.connect(('127.0.0.1', proxy.port))
        client.sendall(b'GET /download?%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' % GIBIBYTE)
        with client.makefile('rb', 65536) as response:
            head = list(iter(response.readline, b'\r\n'))
            assert head[0] == b'HTTP/1.1 200 OK\r\n'
            for number in range(20):
                assert ask(f'{proxy.url}/{number}') == f'GET /{number} HTTP/1.1'
            assert peak_memory(proxy.process.pid) - idle < ALLOWED_GROWTH
            buffer = bytearray(65536)
            received = 0
            while size := response.readinto1(buffer):
                received += size
    assert received == GIBIBYTE
    assert peak_memory(proxy.process.pid) - idle < ALLOWED_GROWTH


def test_a_slow_origin(proxy: Proxy) -> None:
    """An upload goes through in constant memory, however slowly the origin counts it; curl asks first."""
    idle = peak_memory(proxy.process.pid)
    with zeros(UPLOAD) as large:
        counted = run(
            'curl',
            '--silent',
            '--show-error',
            '-X',
            'POST',
            '-H',
            'Expect: 100-continue',
            '-T',
            large,
            f'{proxy.url}/count',
        )
    assert counted == str(UPLOAD)
    assert peak_memory(proxy.process.pid) - idle < ALLOWED_GROWTH


# -- in this process, asked by others ---------------------------------------------------------------------------------


def run_beside(name: str, *arguments: str) -> str:
    """As ``run``, for a client of this very process."""
    ran = cooperative.run([tool(name), *arguments], check=False, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize('path', ['/some?thing', f'/download?{3_000_000}'])
def test_curl_through_the_tunnel(origin: Served, serve: Serve, path: str) -> None:
    """curl -p uses CONNECT for http:, too."""
    proxy = serve(connect_proxy.create_proxy())
    through = run_beside(
        'curl', '--silent', '--show-error', '-p', '-x', f'http://127.0.0.1:{proxy.where[1]}', f'{origin.url}{path}'
    )
    assert through == ask(f'{origin.url}{path}')
    assert through


UPGRADE_JS = """
const request = require('node:http').request({
  port: process.argv[1], host: '127.0.0.1', headers: {Connection: 'Upgrade', Upgrade: 'echo'}});
request.on('upgrade', (response, socket, head) => {
  socket.end('Is it an echo?');
  let text = head.toString();
  socket.on('data', (data) => text += data);
  socket.on('end', () => console.log(response.statusCode, response.headers.upgrade, text));
});
request.end();
"""


def test_node_upgrades(serve: Serve) -> None:
    site = serve(upgrade.create_server())
    assert run_beside('node', '-e', UPGRADE_JS, str(site.where[1])) == '101 echo Is it an echo?\n'
