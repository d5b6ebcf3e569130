"""Applications of web frameworks in their own processes: the ways to run them, and a gate at which they wait.

Every test runs once for each of :data:`WAYS`. Several processes can share one port, so tests do not use the memory
of an application: it reports to the test through a :class:`Gate`.
"""

from __future__ import annotations

import contextlib
import functools
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

#: The size in bytes of large bodies: more than the kernel buffers for a connection.
LARGE = 10_000_000

#: All fields that a proxy before the application sets.
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
    """Run an application with ``geventnode serve``, which detects its kind, in a process that had loaded Flask."""
    return Served(target, *TRUST, program='geventnode serve with Flask', env=env)


#: The ways to run an application: each is called with the target, a writable directory and additional variables of
#: the environment, and returns a context manager with a ``port``.
WAYS: dict[str, Callable[[str, Path, dict[str, str]], Any]] = {
    'serve': _by_command,
    'gunicorn': lambda target, directory, env: Gunicorn(directory, target, workers=2, env=env),
}


class Gate:
    """Let applications report events, and wait until the test lets them continue."""

    def __init__(self) -> None:
        self._said: Counter[str] = Counter()
        self._changed = Event()
        self._opened: dict[str, Event] = {}
        self._server = StreamServer(('127.0.0.1', 0), self._hear, backlog=512)
        self._server.start()

    @property
    def port(self) -> int:
        """The port for applications."""
        return int(self._server.server_port)

    def _hear(self, connection: socket.socket, address: object) -> None:
        with connection, connection.makefile('rb') as file:
            verb, word = file.readline().decode().split()
            self._said[word] += 1
            self._changed.set()
            if verb == 'wait':
                self._opened.setdefault(word, Event()).wait()

    def wait_for(self, word: str, count: int = 1) -> None:
        """Block until ``word`` was reported ``count`` times."""
        while self._said[word] < count:
            self._changed.clear()
            self._changed.wait()

    def said(self, word: str) -> int:
        """Return how often ``word`` was reported."""
        return self._said[word]

    def open(self, word: str) -> None:
        """Let applications pass that wait at ``word``, now and later."""
        self._opened.setdefault(word, Event()).set()

    def close(self) -> None:
        """Let all applications pass."""
        for opened in self._opened.values():
            opened.set()
        self._server.stop()


class Framework:
    """A served application.

    :param port: its port.
    :param directory: writable for it and the tests; it logs to ``errors.txt``.
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
        """Return a connection on which ``pieces`` were sent."""
        with contextlib.closing(Client(('127.0.0.1', self.port))) as client:
            yield client.send(*pieces)

    def get(self, path: str = '/', *fields: str, method: str = 'GET') -> Response:
        """Return the response to one request."""
        with self.connect(get(path, 'Connection: close', *fields, method=method)) as client:
            return client.response(method)

    def curl(self, path: str, *arguments: Any) -> str:
        """Return the output of curl for a request."""
        return run('curl', '--silent', '--show-error', '--max-time', PATIENCE, *arguments, f'{self.url}{path}')

    def logged(self) -> str:
        """Return the log of the application."""
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


@functools.cache
def _large() -> bytes:
    return random.Random(1).randbytes(LARGE)


def large_file(directory: Path) -> Path:
    """Return a file of :data:`LARGE` bytes without repeated parts."""
    path = directory / 'large'
    path.write_bytes(_large())
    return path


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
