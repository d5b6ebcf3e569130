"""Applications of web frameworks as processes of their own: the ways to run them, and a gate at which they wait.

Every test runs once for each of :data:`WAYS`. There may be several processes behind one port, so nothing is asked of an
application's memory: it tells the test what has happened, through a :class:`Gate`.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from tests.servers import Client, Response, get
from tests.system.gunicorns import Gunicorn
from tests.system.running import PATIENCE, Served, run

__all__ = ['LARGE', 'TRUST', 'WAYS', 'Framework', 'Gate', 'framework', 'large_file', 'sha256']

#: Bytes of what is large: more than the kernel holds for a connection.
LARGE = 10_000_000

#: All that a proxy in front of the application sets.
TRUST = [
    '--trusted-proxy',
    '127.0.0.1',
    '--forwarded',
    'x-forwarded-for',
    '--forwarded',
    'x-forwarded-proto',
    '--forwarded',
    'x-forwarded-host',
]


def _by_command(target: str, directory: Path, env: dict[str, str]) -> Any:
    """Run an application with ``geventnode serve``, which finds out by itself what it is."""
    return Served(target, *TRUST, env=env)


#: The ways to run an application: each is called with the target, a directory to write into and additional variables of
#: the environment, and returns a context manager that knows its ``port``.
WAYS: dict[str, Callable[[str, Path, dict[str, str]], Any]] = {
    'serve': _by_command,
    'gunicorn': lambda target, directory, env: Gunicorn(directory, target, workers=2, env=env),
}


class Gate:
    """Where applications say what happens, and wait until the test lets them go on."""

    def __init__(self) -> None:
        self._said: Counter[str] = Counter()
        self._changed = Event()
        self._opened: dict[str, Event] = {}
        self._server = StreamServer(('127.0.0.1', 0), self._hear, backlog=512)
        self._server.start()

    @property
    def port(self) -> int:
        """The port to talk to."""
        return int(self._server.server_port)

    def _hear(self, connection: socket.socket, address: object) -> None:
        with connection, connection.makefile('rb') as file:
            verb, word = file.readline().decode().split()
            self._said[word] += 1
            self._changed.set()
            if verb == 'wait':
                self._opened.setdefault(word, Event()).wait()

    def wait_for(self, word: str, count: int = 1) -> None:
        """Wait until ``word`` was said ``count`` times. May switch."""
        while self._said[word] < count:
            self._changed.clear()
            self._changed.wait()

    def said(self, word: str) -> int:
        """Return how often ``word`` was said."""
        return self._said[word]

    def open(self, word: str) -> None:
        """Let those pass who wait at ``word``, now and later."""
        self._opened.setdefault(word, Event()).set()

    def close(self) -> None:
        """Let everybody go."""
        for opened in self._opened.values():
            opened.set()
        self._server.stop()


class Framework:
    """An application that is served.

    :param port: where.
    :param directory: what it and the tests may write into; it writes to ``errors.txt`` what it logs.
    """

    def __init__(self, port: int, gate: Gate, directory: Path) -> None:
        self.port = port
        self.gate = gate
        self.directory = directory

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f'http://127.0.0.1:{self.port}'

    @contextlib.contextmanager
    def connect(self, *pieces: bytes) -> Iterator[Client]:
        """A connection on which ``pieces`` were sent."""
        with contextlib.closing(Client(('127.0.0.1', self.port))) as client:
            yield client.send(*pieces)

    def get(self, path: str = '/', *fields: str, method: str = 'GET') -> Response:
        """Return the response to one request."""
        with self.connect(get(path, 'Connection: close', *fields, method=method)) as client:
            return client.response(method)

    def curl(self, path: str, *arguments: Any) -> str:
        """Return what curl prints of the response to a request."""
        return run('curl', '--silent', '--show-error', '--max-time', PATIENCE, *arguments, f'{self.url}{path}')

    def logged(self) -> str:
        """Return what the application has logged."""
        return (self.directory / 'errors.txt').read_text()


def framework(target: str) -> Any:
    """Return a fixture for a module: the application ``target``, in each of :data:`WAYS`."""

    @pytest.fixture(scope='module', params=WAYS)
    def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Framework]:
        directory = tmp_path_factory.mktemp(request.param)
        with contextlib.closing(Gate()) as gate:
            env = {'GATE': str(gate.port), 'DIRECTORY': str(directory)}
            with WAYS[request.param](target, directory, env) as served:
                yield Framework(served.port, gate, directory)

    return site


def large_file(directory: Path) -> Path:
    """Return a file of :data:`LARGE` bytes of which no two parts are the same."""
    path = directory / 'large'
    path.write_bytes(random.Random(1).randbytes(LARGE))
    return path


def sha256(path: Path) -> str:
    """Return the digest of what is in a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
