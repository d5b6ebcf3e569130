"""Restart and kill workers under load, behind a real HAProxy or nginx, and report the failures that clients see.

The configurations are those in this directory, with other addresses. An Agent of this library makes the load: as many
requests at a time as it has connections, one in ten a POST. No request may fail in a restart. When a worker is killed,
its active requests can fail, and those sent to it until the proxy has seen that its sockets are closed. So a failure is
explained if a worker was being killed during the request, and no other worker has begun it. Any other failure is a
fault, and makes the exit status 1.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402 - patching comes first
import contextlib  # noqa: E402
import os  # noqa: E402
import re  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from time import monotonic  # noqa: E402
from typing import Any, NamedTuple  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from geventnode import http  # noqa: E402

__all__ = ['main']

HERE = Path(__file__).parent
SYSTEM_PROGRAMS = '/usr/local/sbin:/usr/sbin:/sbin'

NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
worker_processes 1;
events {{ worker_connections 4096; }}
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


class Failure(NamedTuple):
    """A request that has failed."""

    name: str
    began: float
    ended: float
    reason: str


class Kill(NamedTuple):
    """A killed worker: the time of the signal, and the time when the proxy had seen its end."""

    pid: int
    began: float
    ended: float


class Workers:
    """gunicorn, and its workers according to its log."""

    def __init__(self, directory: Path, count: int) -> None:
        self.count = count
        self.live: list[int] = []
        self.exited = 0
        self._changed = Event()
        with socket.create_server(('127.0.0.1', 0), backlog=2048) as listening:
            self.port = listening.getsockname()[1]
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    '-m',
                    'gunicorn',
                    '-c',
                    HERE / 'gunicorn.conf.py',
                    '-b',
                    f'fd://{listening.fileno()}',
                    'rolling_site:listener',
                ],
                cwd=HERE,
                pass_fds=[listening.fileno()],
                stderr=subprocess.PIPE,
                text=True,
                env={
                    **os.environ,
                    'WORKERS': str(count),
                    'ROLLING_NOTES': str(directory),
                    'HOME': str(directory),
                    'PYTHONPATH': os.pathsep.join(
                        filter(None, [str(HERE), str(HERE.parent.parent), os.environ.get('PYTHONPATH')])
                    ),
                },
            )
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        for line in self.process.stderr:
            if found := re.search(r'Booting worker with pid: (\d+)', line):
                self.live.append(int(found[1]))
            elif found := re.search(r'Worker exiting \(pid: (\d+)\)|Worker \(pid:(\d+)\) was sent SIG', line):
                with contextlib.suppress(ValueError):
                    self.live.remove(int(found[1] or found[2]))
                    self.exited += 1
            elif '[INFO]' not in line:
                print(line, end='', file=sys.stderr)
            self._changed.set()

    def wait(self, exited: int) -> None:
        """Wait until ``exited`` workers have ended in total, and all others are running."""
        self._wait_until(lambda: self.exited >= exited and len(self.live) == self.count)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.wait()
            self._changed.clear()

    def restart(self) -> None:
        """Replace all workers, and wait until they are running."""
        exited = self.exited + self.count
        self.process.send_signal(signal.SIGHUP)
        self.wait(exited)

    def kill(self, front: str) -> Kill:
        """Kill a worker, and wait until the proxy at ``front`` has seen it and another worker runs."""
        victim = self.live[0]
        began = monotonic()
        os.kill(victim, signal.SIGKILL)
        self._wait_until(lambda: victim not in self.live)
        wait_for_proxy(front)
        killed = Kill(victim, began, monotonic())
        self.wait(self.exited)
        return killed

    def stop(self) -> None:
        """Stop gunicorn."""
        self.process.terminate()
        self.process.wait()
        self._reader.join()


@contextlib.contextmanager
def proxy(name: str, directory: Path, port: int) -> Iterator[str]:
    """Run HAProxy or nginx as the proxy of the workers at ``port``; yield the Unix socket that it listens on."""
    front = f'{directory}/front'
    program = shutil.which(name, path=f'{os.environ.get("PATH", os.defpath)}:{SYSTEM_PROGRAMS}')
    if program is None:
        raise SystemExit(f'{name} is not installed')
    if name == 'nginx':
        text = NGINX.format(
            directory=directory, rest=(HERE / 'nginx.conf').read_text().replace('listen 80;', f'listen unix:{front};')
        )
        command = [program, '-p', str(directory), '-e', 'stderr', '-c']
    else:
        # one thread, as nginx has one process: see wait_for_proxy
        text = (
            (HERE / 'haproxy.cfg')
            .read_text()
            .replace('bind :80', f'bind unix@{front}')
            .replace('global\n', 'global\n    nbthread 1\n')
        )
        command = [program, '-db', '-q', '-f']
    configuration = directory / 'proxy.conf'
    configuration.write_text(text.replace('127.0.0.1:8000', f'127.0.0.1:{port}'))
    with subprocess.Popen([*command, str(configuration)]) as process:
        try:
            while True:
                if process.poll() is not None:
                    raise SystemExit(f'{name} has ended with status {process.returncode}')
                with (
                    contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
                    socket.socket(socket.AF_UNIX) as probe,
                ):
                    probe.connect(front)
                    break
                gevent.sleep(0.01)
            yield front
        finally:
            process.terminate()


def wait_for_proxy(front: str) -> None:
    """Return when the proxy at ``front`` has handled all events before this call.

    The proxy itself refuses an invalid request, after all older events, because it has only one event loop.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(front)
        probe.sendall(b'?\r\n\r\n')
        answer = probe.recv(100)
    if b' 400 ' not in answer:
        raise SystemExit(f'the proxy answered {answer!r} to an invalid request')


class Load:
    """A steady load."""

    def __init__(self, path: str, clients: int) -> None:
        self._path = path
        self._agent = http.Agent(keep_alive=True, max_sockets=clients)
        self.sent = 0
        self.failures: list[Failure] = []
        self.times: list[float] = []
        self.over = False
        self._clients = [gevent.spawn(self._run) for _ in range(clients)]

    def _run(self) -> None:
        while not self.over:
            self.sent += 1
            self._request(f'/{self.sent}', self.sent % 10 == 0)

    def _request(self, name: str, post: bool) -> None:
        options: dict[str, Any] = {'method': 'POST', 'body': b'x' * 1000} if post else {'method': 'GET', 'body': b''}
        began = monotonic()
        reason = ''
        try:
            response = http.request(
                path=name, socket_path=self._path, host='site', agent=self._agent, deadline=100, **options
            ).get_response()
            body = response.read()
            if response.status_code != 200 or body != name.encode():
                reason = f'{response.status_code} {body[:60]!r}'
        except Exception as error:
            reason = repr(error)
        ended = monotonic()
        self.times.append(ended - began)
        if reason:
            self.failures.append(Failure(name, began, ended, f'{options["method"]}: {reason}'))

    def wait(self, sent: int) -> None:
        """Wait until ``sent`` requests were sent."""
        while self.sent < sent:
            gevent.sleep(0.01)

    def stop(self) -> None:
        """Send no more, and wait for the active requests."""
        self.over = True
        gevent.joinall(self._clients)
        self._agent.destroy()


def unexplained(failures: list[Failure], kills: list[Kill], notes: Path) -> list[Failure]:
    """Return the failures that no kill explains."""
    begun: dict[str, set[int]] = {}
    for path in notes.iterdir():
        if path.name.isdecimal():
            for line in path.read_text().splitlines():
                begun.setdefault(line, set()).add(int(path.name))
    found = []
    for failure in failures:
        near = {kill.pid for kill in kills if failure.began <= kill.ended and kill.began <= failure.ended}
        if not near or not begun.get(failure.name, set()) <= near:
            found.append(failure)
    return found


def run(options: argparse.Namespace, name: str) -> bool:
    """Restart and kill behind one proxy, print the result, and return whether it is as expected."""
    with tempfile.TemporaryDirectory(prefix='rolling-') as made:
        directory = Path(made)
        workers = Workers(directory, options.workers)
        try:
            workers.wait(0)
            with proxy(name, directory, workers.port) as front:
                return measure(options, name, workers, front, directory)
        finally:
            workers.stop()


def measure(options: argparse.Namespace, name: str, workers: Workers, front: str, directory: Path) -> bool:
    """Measure with running workers and proxy; see :func:`run`."""
    load = Load(front, options.clients)
    began = monotonic()
    steps = options.restarts + options.kills
    for number in range(options.restarts):
        load.wait(options.requests * (number + 1) // (steps + 2))
        workers.restart()
    # one step without an action separates restarts and kills, so that failures are not counted for the wrong one
    load.wait(options.requests * (options.restarts + 1) // (steps + 2))
    in_restarts, sent = len(load.failures), load.sent
    kills = []
    for number in range(options.kills):
        load.wait(options.requests * (options.restarts + number + 2) // (steps + 2))
        kills.append(workers.kill(front))
    load.wait(options.requests)
    load.stop()
    seconds = monotonic() - began
    wrong = unexplained(load.failures, kills, directory)
    load.times.sort()
    middle, late = (load.times[int(len(load.times) * share)] * 1000 for share in (0.5, 0.99))
    print(
        f'{name}: {load.sent} requests in {seconds:.0f} s, {options.clients} at a time, {options.workers} workers; '
        f'median {middle:.1f} ms, 99 % {late:.1f} ms, slowest {load.times[-1] * 1000:.0f} ms'
    )
    print(f'  {options.restarts} restarts, {sent} requests: {in_restarts} failed')
    print(
        f'  {options.kills} kills, {load.sent - sent} requests: {len(load.failures) - in_restarts} failed, '
        f'{len(wrong)} of all failures unexplained'
    )
    for failure in (*load.failures[:in_restarts], *wrong)[:20]:
        print(f'  {failure}')
    return not in_restarts and not wrong


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--proxy', choices=['haproxy', 'nginx'], action='append', help='both by default')
    parser.add_argument('--requests', type=int, default=100000)
    parser.add_argument('--restarts', type=int, default=10)
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--clients', type=int, default=16)
    parser.add_argument('--workers', type=int, default=2)
    options = parser.parse_args()
    return max(not run(options, name) for name in options.proxy or ['haproxy', 'nginx'])


if __name__ == '__main__':
    sys.exit(main())
