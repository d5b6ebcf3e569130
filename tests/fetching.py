"""Run ``geventnode get`` in this process, beside the server, or in its own process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gevent import subprocess
from gevent.server import StreamServer

from geventnode.cli.main import main
from tests.servers import Site

__all__ = ['Get', 'Ran', 'RawServer', 'commands', 'popen', 'raw_servers', 'url']

ROOT = Path(__file__).parent.parent


class Ran(NamedTuple):
    """The result of a command."""

    status: int
    output: bytes
    errors: str


Get = Callable[..., Ran]
RawServer = Callable[[bytes], str]


def commands(capture: pytest.CaptureFixture[bytes]) -> Iterator[Get]:
    """For a fixture: yield a function that runs the command in this process, ``get_command('--include', url)``."""
    interrupt = signal.getsignal(signal.SIGINT)

    def run(*arguments: Any) -> Ran:
        status = main(['get', *map(str, arguments)])
        output, errors = capture.readouterr()
        return Ran(status, output, errors.decode())

    yield run
    signal.signal(signal.SIGINT, interrupt)


def url(site: Site, path: str = '/') -> str:
    """Return the URL of ``path`` on a server in this process."""
    return f'http://127.0.0.1:{site.where[1]}{path}'


def popen(*arguments: Any, **options: Any) -> Any:
    """Start the command in its own process, with pipes unless ``options`` name others."""
    pipes = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'cwd': ROOT}
    return subprocess.Popen(
        [sys.executable, '-m', 'geventnode', 'get', *map(str, arguments)],
        **{**pipes, 'env': {**os.environ, 'PYTHONPATH': str(ROOT)}, **options},
    )


def raw_servers() -> Iterator[RawServer]:
    """For a fixture: yield a function that starts servers with a fixed response, and returns their
    URL."""
    servers = []

    def start(reply: bytes) -> str:
        def answer(connection: Any, address: Any) -> None:
            received = b''
            while b'\r\n\r\n' not in received and (data := connection.recv(65536)):
                received += data
            connection.sendall(reply)

        server = StreamServer(('127.0.0.1', 0), answer)
        server.start()
        servers.append(server)
        return f'http://127.0.0.1:{server.server_port}/'

    yield start
    for server in servers:
        server.stop(timeout=0)
