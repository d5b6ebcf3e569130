"""The servers that are compared: starting, pinning to a core, checking, measuring and ending them.

A server is a script that prints its port, chosen by the kernel, when it listens. Before a measurement, each request of
the load is made once, and the response compared byte for byte. Memory and processor time are read from /proc (proc(5)).
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
    'base_checkout',
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
    """A server cannot be started, or its response is wrong."""


@dataclass(frozen=True)
class Server:
    """A server that can be started.

    :ivar key: the name in the samples.
    :ivar title: the name in tables.
    :ivar script: its file in ``servers/``.
    :ivar modules: the Python modules that it needs; none for another language.
    :ivar certificate: the path of a certificate with its key, for HTTPS.
    :ivar arguments: further arguments, such as the port of the origin of a proxy.
    :ivar program: the program that runs a script in JavaScript.
    :ivar root: the checkout from which the script imports the package; empty: this one.
    :ivar python: the interpreter that runs a script in Python; empty: this one.
    """

    key: str
    title: str
    script: str
    modules: tuple[str, ...] = ()
    certificate: str | None = None
    arguments: tuple[str, ...] = ()
    program: str = 'node'
    root: str = ''
    python: str = ''

    @property
    def scheme(self) -> str:
        """The scheme of its URLs."""
        return 'http' if self.certificate is None else 'https'

    def command(self) -> list[str]:
        """Return the command that starts it. Raises :class:`ServerFailed` if a requirement is missing."""
        script = str(SCRIPTS / self.script)
        arguments = [*([] if self.certificate is None else [self.certificate]), *self.arguments]
        if script.endswith('.js'):
            if shutil.which(self.program) is None:
                raise ServerFailed(f'{self.program} is not installed')
            return [self.program, script, *arguments]
        if self.python:
            return [self.python, script, *arguments]
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
    """The resident memory of a process in bytes: now, and at its peak."""

    now: int
    peak: int


def start_all(stack: ExitStack, servers: Sequence[Server] = CATALOGUE) -> tuple[list[RunningServer], dict[str, str]]:
    """Start the servers; return the running ones, and the reasons for the others by key."""
    running: list[RunningServer] = []
    missing: dict[str, str] = {}
    for server in servers:
        try:
            running.append(stack.enter_context(RunningServer(server)))
        except ServerFailed as error:
            missing[server.key] = str(error)
    return running, missing


def in_turn(servers: Sequence[Item], repetition: int) -> list[Item]:
    """Return the servers in another order for each repetition."""
    start = repetition % len(servers) if servers else 0
    return [*servers[start:], *servers[:start]]


def base_checkout() -> list[str]:
    """Return the directory of the checkout to compare with, from ``GEVENTNODE_BASE``; an empty list without one."""
    root = os.environ.get('GEVENTNODE_BASE')
    return [root] if root else []


def environment(root: str = '') -> dict[str, str]:
    """Return the environment of child processes, which import the package from this checkout, or from ``root``."""
    found = [root or str(ROOT), os.environ.get('PYTHONPATH', '')]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, found))}


def trusting_context() -> ssl.SSLContext:
    """Return a client's context that accepts any certificate, such as the benchmark's own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def processor_seconds(pid: str) -> float:
    """Return the processor time of all threads of a process."""
    # the command can contain spaces and parentheses: fields are counted from the last parenthesis
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class RunningServer:
    """A started server; leaving the context ends it. Raises :class:`ServerFailed` from entering it."""

    def __init__(self, server: Server, core: int = machine.SERVER_CORE) -> None:
        self.server = server
        self._core = core
        self.port = 0
        # the standard error of the process, open as long as the process runs
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningServer:
        try:
            self._process = subprocess.Popen(
                self.server.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment(self.server.root),
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
        """The URL of the server."""
        return f'{self.server.scheme}://127.0.0.1:{self.port}'

    @property
    def pid(self) -> int:
        """The process id. Raises :class:`ServerFailed` if the process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerFailed(f'ended with status {self._process.returncode}: {self._last_output()}')
        return self._process.pid

    @property
    def memory(self) -> Memory:
        """The resident memory of the process, and its peak."""
        status = Path(f'/proc/{self.pid}/status').read_text()
        fields = dict(line.split(':', 1) for line in status.splitlines())
        now, peak = (int(fields[name].split()[0]) * 1024 for name in ('VmRSS', 'VmHWM'))
        return Memory(now, peak)

    @property
    def processor_seconds(self) -> float:
        """The processor time of all threads of the process and of its children."""
        pids = [str(self.pid), *Path(f'/proc/{self.pid}/task/{self.pid}/children').read_text().split()]
        return sum(map(processor_seconds, pids))

    def connect(self, timeout: float) -> socket.socket:
        """Return a new connection, after a TLS handshake for HTTPS."""
        plain = socket.create_connection(('127.0.0.1', self.port), timeout)
        return plain if self.server.certificate is None else trusting_context().wrap_socket(plain)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a plain request on a new connection; return status and body."""
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
            raise ServerFailed(f'does not start: {self._last_output() or line!r}')
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
                raise ServerFailed(f'{method} {path}: {error!r}: {self._last_output()}') from error
            if (status, got) != (200, wanted):
                raise ServerFailed(f'{method} {path}: answered {status} with {len(got)} bytes: {got[:40]!r}')

    def _last_output(self) -> str:
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
