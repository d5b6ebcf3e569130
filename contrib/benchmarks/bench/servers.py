"""The servers that are compared: how each is started, pinned to its core, checked, watched and ended.

A server is a script that prints its port, chosen by the kernel, when it listens. Before anything is measured, each is
asked once for everything that it will be asked under load, and the answers are compared byte for byte. Memory and
processor time come from /proc (proc(5)).
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

from bench import machine

__all__ = [
    'CATALOGUE',
    'Memory',
    'RunningServer',
    'Server',
    'ServerFailed',
    'environment',
    'in_turn',
    'start_all',
    'trusting_context',
]

SCRIPTS = Path(__file__).parent.parent / 'servers'
ROOT = SCRIPTS.parents[2]
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
TICKS = os.sysconf('SC_CLK_TCK')
CHECKED_BYTES = 100_000
Item = TypeVar('Item')


class ServerFailed(Exception):
    """A server cannot be started, or does not answer as it should."""


@dataclass(frozen=True)
class Server:
    """A server that can be started.

    :ivar key: the name under which it is measured.
    :ivar title: the name in tables.
    :ivar script: its file in ``servers/``.
    :ivar modules: what must be importable for it; a server in another language has none.
    :ivar certificate: the path of a certificate with its key; it serves HTTPS then.
    :ivar arguments: what it is started with besides, such as the port of the server that it is a proxy for.
    """

    key: str
    title: str
    script: str
    modules: tuple[str, ...] = ()
    certificate: str | None = None
    arguments: tuple[str, ...] = ()

    @property
    def scheme(self) -> str:
        """The scheme of its URLs."""
        return 'http' if self.certificate is None else 'https'

    def command(self) -> list[str]:
        """Return the command that starts it. Raises :class:`ServerFailed` when something that it needs is missing."""
        script = str(SCRIPTS / self.script)
        arguments = [*([] if self.certificate is None else [self.certificate]), *self.arguments]
        if script.endswith('.js'):
            if shutil.which('node') is None:
                raise ServerFailed('node is not installed')
            return ['node', script, *arguments]
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            raise ServerFailed(f"not installed: {', '.join(missing)}")
        return [sys.executable, script, *arguments]


CATALOGUE = (
    Server('geventnode', 'geventnode', 'geventnode_server.py', ('gevent', 'zope')),
    Server('node', 'Node', 'node_server.js'),
    Server('pywsgi', 'pywsgi', 'pywsgi_server.py', ('gevent',)),
    Server('uvicorn', 'uvicorn', 'uvicorn_app.py', ('uvicorn', 'httptools', 'uvloop')),
    Server('bare', 'bare gevent', 'bare_gevent.py', ('gevent',)),
)


@dataclass(frozen=True)
class Memory:
    """A process's resident memory in bytes: now, and at its peak since it started."""

    now: int
    peak: int


def start_all(stack: ExitStack, servers: Sequence[Server] = CATALOGUE) -> tuple[list[RunningServer], dict[str, str]]:
    """Start every server that can be started; return them, and why the others cannot, by key."""
    running: list[RunningServer] = []
    missing: dict[str, str] = {}
    for server in servers:
        try:
            running.append(stack.enter_context(RunningServer(server)))
        except ServerFailed as error:
            missing[server.key] = str(error)
    return running, missing


def in_turn(servers: Sequence[Item], repetition: int) -> list[Item]:
    """Return the servers with another one first in each repetition, so that none always follows the same one."""
    start = repetition % len(servers) if servers else 0
    return [*servers[start:], *servers[:start]]


def environment() -> dict[str, str]:
    """Return the environment of the children, in which this checkout comes before an installed package."""
    found = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, found))}


def trusting_context() -> ssl.SSLContext:
    """Return a client's context that takes any certificate: it is the benchmark's own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def processor_seconds(pid: str) -> float:
    """Return how much processor time all threads of a process have used."""
    # The command may hold spaces and parentheses: fields are counted from the last parenthesis.
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class RunningServer:
    """A started server; leaving the context ends it. Raises :class:`ServerFailed` from entering it."""

    def __init__(self, server: Server, core: int = machine.SERVER_CORE) -> None:
        self.server = server
        self._core = core
        self.port = 0
        # Lives as long as the process, whose errors go into it: no context could close it.
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningServer:
        try:
            self._process = subprocess.Popen(
                self.server.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment(),
                preexec_fn=machine.pin(self._core),
            )
            self.port = self._read_port(self._process)
            self._check()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f'{self.server.scheme}://127.0.0.1:{self.port}'

    @property
    def pid(self) -> int:
        """The process id. Raises :class:`ServerFailed` when it died."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailed(f'ended with status {self._process.returncode}: {self._last_words()}')
        return self._process.pid

    @property
    def memory(self) -> Memory:
        """What the process holds, and has held at most."""
        status = Path(f'/proc/{self.pid}/status').read_text()
        fields = dict(line.split(':', 1) for line in status.splitlines())
        now, peak = (int(fields[name].split()[0]) * 1024 for name in ('VmRSS', 'VmHWM'))
        return Memory(now, peak)

    @property
    def processor_seconds(self) -> float:
        """How much processor time all threads of the process and of its children have used."""
        pids = [str(self.pid), *Path(f'/proc/{self.pid}/task/{self.pid}/children').read_text().split()]
        return sum(map(processor_seconds, pids))

    def connect(self, timeout: float) -> socket.socket:
        """Return a new connection, after a TLS handshake where one is due."""
        plain = socket.create_connection(('127.0.0.1', self.port), timeout)
        return plain if self.server.certificate is None else trusting_context().wrap_socket(plain)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a plain request on a connection of its own; return status and body."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=START_TIMEOUT)
        connection.sock = self.connect(START_TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    # -- the life of the process ----------------------------------------------------------------------------------

    def _read_port(self, process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT)
        line = process.stdout.readline() if ready else b''
        if not line.strip().isdigit():
            raise ServerFailed(f'does not start: {self._last_words() or line!r}')
        return int(line)

    def _check(self) -> None:
        expected = [
            ('GET', '/', None, b'hello world'),
            ('GET', '/agent', None, b'hello world'),
            ('POST', '/upload', b'y' * CHECKED_BYTES, b'%d' % CHECKED_BYTES),
            ('GET', f'/download?bytes={CHECKED_BYTES}', None, b'x' * CHECKED_BYTES),
        ]
        for method, path, body, wanted in expected:
            try:
                status, got = self.request(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                raise ServerFailed(f'{method} {path}: {error!r}: {self._last_words()}') from error
            if (status, got) != (200, wanted):
                raise ServerFailed(f'{method} {path}: answered {status} with {len(got)} bytes: {got[:40]!r}')

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors='replace').split('\n')
        return next((line.strip() for line in reversed(lines) if line.strip()), '')

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._log.close()
