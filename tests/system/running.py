"""Helpers of the system tests: ``geventnode serve`` as a process, and the programs that drive it.

Nothing here waits for a fixed time. A server is ready when it prints its address, and over when its process has ended.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.system.forkserver import PROGRAMS, Forked, ForkServer

__all__ = [
    'APPS',
    'NGINX',
    'PATIENCE',
    'PYTHONPATH',
    'ROOT',
    'Served',
    'fork_servers',
    'haproxy_with',
    'nginx_with',
    'peak_memory',
    'run',
    'run_program',
    'start',
    'tool',
]

ROOT = Path(__file__).parent.parent.parent
APPS = Path(__file__).parent / 'apps'

#: The variable PYTHONPATH of interpreters that tests start: the package is found, and they start fast.
PYTHONPATH = f'{Path(__file__).parent / "startup"}{os.pathsep}{ROOT}'

#: Seconds after which a process is considered to hang; no test needs as many.
PATIENCE = 300

#: Directories of servers' programs, which are not on every user's path.
SYSTEM_PROGRAMS = '/usr/local/sbin:/usr/sbin:/sbin'


def tool(name: str) -> str:
    """Return the path of the program ``name``, or skip the test."""
    found = shutil.which(name, path=f'{os.environ.get("PATH", os.defpath)}:{SYSTEM_PROGRAMS}')
    if found is None:
        pytest.skip(f'{name} is not installed')
    return found


def run(name: str, *arguments: Any, **options: Any) -> str:
    """Run a program, check that it succeeds, and return its output."""
    ran = subprocess.run(
        [tool(name), *map(str, arguments)], check=False, text=True, timeout=PATIENCE, capture_output=True, **options
    )
    assert ran.returncode == 0, f'{name} {arguments}: status {ran.returncode}\n{ran.stdout}\n{ran.stderr}'
    return ran.stdout


#: The running fork servers, by the program that they start.
_fork_servers: dict[str, ForkServer] = {}


@contextlib.contextmanager
def fork_servers(directory: Path) -> Iterator[None]:
    """Let :func:`start` fork programs from processes that have loaded their modules.

    :param directory: the same in all processes of a run.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_fork_servers.clear)
        for program in PROGRAMS:
            _fork_servers[program] = stack.enter_context(contextlib.closing(ForkServer(program, directory)))
        yield


def start(
    program: str,
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stderr: int,
    pass_fds: Sequence[int] = (),
    start_new_session: bool = False,
    umask: int = -1,
    forks: bool = True,
    paths: str = PYTHONPATH,
) -> subprocess.Popen[str] | Forked:
    """Start a program with a pipe for its output: as a fork if there is a fork server, else in a new interpreter.

    A fork has the settings of the interpreter and of gevent that the fork server was started with.

    :param program: one of the fork servers' ``PROGRAMS``.
    :param forks: False if the program loads other modules first than these.
    :param paths: the variable PYTHONPATH of the fork server.
    """
    options: dict[str, Any] = {'cwd': cwd, 'stderr': stderr, 'pass_fds': pass_fds}
    options |= {'start_new_session': start_new_session, 'umask': umask}
    environment = {**os.environ, 'PYTHONPATH': PYTHONPATH, **env}
    server = _fork_servers.get(program)
    if forks and server is not None and _settings(environment) == _settings(os.environ):
        return server.start(arguments, paths=paths, env=environment, **options)
    module, _ = PROGRAMS[program]
    return subprocess.Popen(
        [sys.executable, '-m', module, *arguments],
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
        **options,
    )


def run_program(
    program: str, arguments: Sequence[str], cwd: Path = APPS, env: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Start a program as :func:`start` does, and wait for its end; return its status, its output and its errors."""
    with tempfile.TemporaryFile('w+') as errors:
        process = start(program, arguments, cwd=cwd, env=env or {}, stderr=errors.fileno())
        output, _ = process.communicate(timeout=PATIENCE)
        errors.seek(0)
        return process.wait(), output, errors.read()


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if re.match(r'PYTHON(?!PATH$)|GEVENT_', name)}


def peak_memory(pid: int) -> int:
    """Return the peak resident size of a process, in bytes (VmHWM, proc(5))."""
    return int(re.search(r'^VmHWM:\s+(\d+) kB$', Path(f'/proc/{pid}/status').read_text(), re.MULTILINE)[1]) * 1024


#: The configuration of every nginx of the tests; ``rest`` is the content of its ``http`` block.
NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    {rest}
}}
"""


@contextlib.contextmanager
def nginx_with(directory: Path, rest: str) -> Iterator[subprocess.Popen[str]]:
    """Yield the process of an nginx; ``rest`` is the content of its ``http`` block."""
    configuration = directory / 'nginx.conf'
    configuration.write_text(NGINX.format(directory=directory, rest=rest))
    with subprocess.Popen(
        [tool('nginx'), '-p', directory, '-e', 'stderr', '-c', configuration], text=True, stderr=subprocess.PIPE
    ) as nginx:
        lines = []
        for line in nginx.stderr:
            lines.append(line)
            # nginx listens before it starts its event loop
            if 'getrlimit(RLIMIT_NOFILE)' in line or 'start worker' in line:
                break
        else:
            pytest.fail(''.join(lines))
        try:
            yield nginx
        finally:
            nginx.terminate()
            nginx.communicate(timeout=PATIENCE)


@contextlib.contextmanager
def haproxy_with(directory: Path, configuration: str) -> Iterator[subprocess.Popen[str]]:
    """Yield the process of an HAProxy that listens at ``directory / 'front'``, called {front} in ``configuration``.

    It inherits the listening socket, so that clients can connect at once.
    """
    path = directory / 'haproxy.cfg'
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / 'front'))
        listener.listen()
        path.write_text(configuration.replace('{front}', f'fd@{listener.fileno()}'))
        process = subprocess.Popen(
            [tool('haproxy'), '-db', '-q', '-f', path], pass_fds=[listener.fileno()], text=True, stderr=subprocess.PIPE
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=PATIENCE)
            print(errors)  # noqa: T201 - a failing test shows it


class Served:
    """A running ``geventnode serve``; leaving the context stops it and checks its exit status.

    :param arguments: the arguments after ``serve``; without ``--bind``, the kernel chooses a port.
    :param errors: a regular expression for all of standard error.
    :param program: the fork servers' program.
    :param options: for :func:`start`.
    """

    def __init__(
        self,
        *arguments: Any,
        program: str = 'geventnode serve',
        status: int = 0,
        access_log: bool = False,
        bind: str | None = '127.0.0.1:0',
        errors: str = '',
        **options: Any,
    ) -> None:
        command = ['serve', *map(str, arguments)]
        if bind is not None:
            command += ['--bind', bind]
        if not access_log:
            command.append('--no-access-log')
        self._status = status
        self._expected = errors
        self._errors = tempfile.TemporaryFile('w+')  # noqa: SIM115 - closed by finish()
        self.process = start(
            program,
            command,
            **{'cwd': APPS, 'stderr': self._errors.fileno(), 'env': {}, **options},
        )
        #: The first line that the server printed.
        self.greeting = self.next_line()
        found = re.fullmatch(r'Serving .+ on (\S+)', self.greeting)
        if found is None:
            self.process.kill()
            raise AssertionError(f'no greeting: {self.greeting!r}\n{self.finish()}')
        #: The URL that the server printed, without a trailing slash.
        self.url = found[1].rstrip('/')
        assert self.next_line().startswith('To stop, press Ctrl+C')

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.url.rpartition(':')[2])

    def next_line(self) -> str:
        """Return the next line that the server prints; ``''`` at the end."""
        return self.process.stdout.readline().rstrip('\n')

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        self.process.send_signal(number)

    def finish(self) -> tuple[str, str]:
        """Wait until the process has ended; return the rest of its output, and standard error."""
        try:
            printed, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        self._errors.seek(0)
        with self._errors:
            return printed, self._errors.read()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: Any, *args: object) -> None:
        if self._errors.closed:
            return
        self.process.terminate()
        printed, errors = self.finish()
        if kind is None:
            assert self.process.returncode == self._status, f'{printed}\n{errors}'
            assert re.fullmatch(self._expected, errors), f'{printed}\n{errors}'
