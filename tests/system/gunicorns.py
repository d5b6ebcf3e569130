"""A real gunicorn in its own process, with the worker under test.

It gets a listening socket of the test, so that no port has to be guessed. Its log is read line by line: a worker has
started or exited when gunicorn logs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import APPS, PATIENCE, PYTHONPATH, start

__all__ = ['OLDEST', 'WORKER', 'Gunicorn', 'RawClient', 'folder_of']

WORKER = 'geventnode.integrations.gunicorn.Worker'

#: The oldest supported version of gunicorn; the tests run with the installed one unless they name a version.
OLDEST = '23.0.0'


@cache
def folder_of(version: str) -> str:
    """Return a folder that contains gunicorn of the given version, for PYTHONPATH.

    The folder is kept for later runs: a release never changes. Skips the test if the version cannot be installed.
    """
    folder = Path(tempfile.gettempdir()) / f'geventnode-gunicorn-{version}-{os.getuid()}'
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        # several test processes need it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / 'installed').exists():
            ran = subprocess.run(
                [
                    sys.executable,
                    '-m',
                    'pip',
                    'install',
                    '--quiet',
                    '--no-deps',
                    '--upgrade',
                    '--target',
                    str(folder),
                    f'gunicorn=={version}',
                ],
                check=False,
                text=True,
                capture_output=True,
                timeout=PATIENCE,
            )
            if ran.returncode:
                pytest.skip(f'gunicorn {version} cannot be installed: {ran.stderr}')
            (folder / 'installed').touch()
    return str(folder)


class _Received(io.BufferedReader):
    """The received bytes of a connection. A response closes it at its end, when the next one can have arrived."""

    def close(self) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing, also when a collected response calls this after the end."""


class RawClient:
    """A connection and its responses."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self.socket = connect()
        self.socket.settimeout(PATIENCE)
        self._received = _Received(self.socket.makefile('rb', buffering=0))

    def send(self, data: bytes) -> RawClient:
        """Send bytes."""
        self.socket.sendall(data)
        return self

    def get(self, path: str = '/', *fields: str) -> RawClient:
        """Send a request."""
        return self.send('\r\n'.join((f'GET {path} HTTP/1.1', 'Host: a', *fields, '', '')).encode())

    def response(self) -> HTTPResponse:
        """Return the head of the next response; read its body before the next one."""
        response = HTTPResponse(self.socket)
        response.fp.close()
        response.fp = self._received
        response.begin()
        return response

    def closed(self) -> bool:
        """Return whether the server has closed, without further bytes."""
        return self._received.read(1) == b''

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *args: object) -> None:
        self._received.raw.close()
        self.socket.close()


class Gunicorn:
    """A gunicorn that serves ``target`` of the directory of applications; the end of the context stops it.

    :param directory: a writable directory.
    :param configuration: the content of its configuration file.
    :param arguments: of its command line.
    :param bind: the setting, instead of a socket of the test.
    :param version: :data:`OLDEST`, or None for the installed version of gunicorn.
    """

    def __init__(
        self,
        directory: Path,
        target: str = 'gunicorned:application',
        configuration: str = '',
        *arguments: Any,
        workers: int = 1,
        worker: str = WORKER,
        bind: str | None = None,
        status: int = 0,
        cwd: Path = APPS,
        env: dict[str, str] | None = None,
        version: str | None = None,
    ) -> None:
        self._directory = directory
        self._status = status
        self.said: list[str] = []
        # there is one for each user, and several tests run concurrently
        (directory / 'gunicorn.conf.py').write_text(f'control_socket_disable = True\n{configuration}')
        self._listening = socket.create_server(('127.0.0.1', 0), backlog=512)
        self.port = self._listening.getsockname()[1]
        program, paths = 'gunicorn', PYTHONPATH
        if version is not None:
            program, paths = 'oldest gunicorn', f'{folder_of(version)}:{PYTHONPATH}'
        command = [
            '-c',
            str(directory / 'gunicorn.conf.py'),
            '-k',
            worker,
            '-b',
            bind or f'fd://{self._listening.fileno()}',
            '-w',
            str(workers),
            *map(str, arguments),
            target,
        ]
        self.process = start(
            program,
            command,
            cwd=cwd,
            stderr=subprocess.STDOUT,
            pass_fds=[self._listening.fileno()],
            env={
                'HOME': str(directory),
                'PYTHONPATH': f'{paths}:{APPS}',
                **(env or {}),
            },
            forks=worker.startswith('geventnode.'),
            paths=paths,
        )
        self._listening.close()

    # -- its log ------------------------------------------------------------------------------------------------------

    def wait_for(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Read its output until ``count`` more lines match; return the match of the last."""
        given_up = time.monotonic() + PATIENCE
        for line in self.process.stdout:
            self.said.append(line)
            found = re.search(pattern, line)
            if found is not None:
                count -= 1
                if not count:
                    return found
            # a process that is started again and again has output for ever
            assert time.monotonic() < given_up, f'gunicorn has not said {pattern!r}:\n{"".join(self.said[-100:])}'
        raise AssertionError(f'gunicorn has ended before it said {pattern!r}:\n{"".join(self.said)}')

    def wait_for_each(self, *patterns: str) -> list[re.Match[str]]:
        """Read its output until a line has matched each of the patterns, in any order; return the matches."""
        found: dict[str, re.Match[str]] = {}
        while len(found) < len(patterns):
            line = self.wait_for('|'.join(f'(?:{pattern})' for pattern in patterns if pattern not in found)).string
            for pattern in patterns:
                match = re.search(pattern, line)
                if match is not None and pattern not in found:
                    found[pattern] = match
        return [found[pattern] for pattern in patterns]

    def booted(self, count: int = 1) -> int:
        """Wait until ``count`` more workers have started; return the process id of the last."""
        return int(self.wait_for(r'Booting worker with pid: (\d+)', count)[1])

    def exited(self, count: int = 1) -> None:
        """Wait until ``count`` more workers have exited."""
        self.wait_for('Worker exiting', count)

    # -- talking to it ------------------------------------------------------------------------------------------------

    def connect(self) -> RawClient:
        """Return a new connection."""
        return RawClient(lambda: socket.create_connection(('127.0.0.1', self.port), PATIENCE))

    def ask(self, path: str = '/', method: str = 'GET', **headers: str) -> tuple[int, str]:
        """Return status and body of a response on a new connection."""
        with contextlib.closing(HTTPConnection('127.0.0.1', self.port, timeout=PATIENCE)) as client:
            client.request(method, path, headers={name.replace('_', '-'): value for name, value in headers.items()})
            response = client.getresponse()
            return response.status, response.read().decode()

    def wait_until_refused(self) -> None:
        """Wait until connections are refused."""
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                with self.connect() as client:
                    client.closed()

    @contextlib.contextmanager
    def slow_request(self) -> Iterator[tuple[RawClient, HTTPResponse]]:
        """A request with a response that has begun, and that ends after five more bytes."""
        with self.connect() as client:
            client.send(b'POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345')
            response = client.response()
            assert response.read(6) == b'begun\n'
            yield client, response

    # -- its end ------------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def finish(self) -> str:
        """Wait until it has exited, and return its output."""
        if not self.process.stdout.closed:
            rest, _ = self.process.communicate(timeout=PATIENCE)
            self.said.append(rest)
        return ''.join(self.said)

    def __enter__(self) -> Gunicorn:
        return self

    def __exit__(self, kind: Any, *args: object) -> None:
        if self.process.poll() is None:
            # a failed test can leave active requests
            self.process.send_signal(signal.SIGTERM if kind is None else signal.SIGQUIT)
        said = self.finish()
        if kind is None:
            assert self.process.returncode == self._status, said
        else:
            print(said)  # noqa: T201 - a failing test shows it
