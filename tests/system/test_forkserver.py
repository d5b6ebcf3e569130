"""Servers that the tests fork (``forkserver.py``) are like those that the interpreter starts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Client
from tests.system.forkserver import Forked, ForkServer
from tests.system.gunicorns import OLDEST, Gunicorn
from tests.system.running import APPS, PATIENCE, PYTHONPATH, Served, run_program, start

#: Modules that the fork server itself needs, where the program has not loaded them.
OWN = {'fcntl', 'json', 'json.decoder', 'json.encoder', 'json.scanner', '_json'}


def by_serve(directory: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    with Served('started:listener', **options) as served, Client(('127.0.0.1', served.port)) as client:
        return json.loads(client.get('/').body), served.process


def by_gunicorn(directory: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    with Gunicorn(directory, 'started:application', **options) as gunicorn:
        return json.loads(gunicorn.ask('/')[1]), gunicorn.process


def by_oldest_gunicorn(directory: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    return by_gunicorn(directory, version=OLDEST, **options)


def by_workers(directory: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    arguments = ['serve', 'started:application', '--workers', '1', '--bind', f'unix:{directory}/socket']
    process = start(
        'geventnode serve --workers', arguments, cwd=APPS, stderr=subprocess.STDOUT, **{'env': {}, **options}
    )
    said = ''
    while 'Booting worker' not in said:
        said = process.stdout.readline()
        assert said
    with Client(f'{directory}/socket') as client:
        found = json.loads(client.get('/').body)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return found, process


@pytest.mark.parametrize('way', [by_serve, by_workers, by_gunicorn, by_oldest_gunicorn])
def test_fork_is_like_a_start(tmp_path: Path, way: Any) -> None:
    """It has loaded the same modules, has the same arguments and paths, and no descriptor more."""
    forked, process = way(tmp_path)
    started, other = way(tmp_path, env={'PYTHONSAFEPATH': ''})
    assert (type(process), type(other)) == (Forked, subprocess.Popen)
    del started['environment']['PYTHONSAFEPATH']
    for each in forked, started:
        each['argv'] = [re.sub(r'fd://\d+', 'fd://N', argument) for argument in each['argv']]
        each['orig_argv'] = [re.sub(r'fd://\d+', 'fd://N', argument) for argument in each['orig_argv']]
    assert set(forked.pop('loaded')) - OWN == set(started.pop('loaded')) - OWN
    assert forked == started


@pytest.mark.parametrize('arguments', [['doctor', 'late.py', '--json'], ['get', 'http://127.0.0.1:1/']])
def test_command_of_a_fork_is_like_a_started_one(tmp_path: Path, arguments: list[str]) -> None:
    """Its status and output are the same; a report of ``doctor`` has the modules that were imported too early."""
    (tmp_path / 'late.py').write_text(
        'import ssl\nfrom gevent import monkey\nmonkey.patch_all()\nlistener = lambda request, response: None\n'
    )
    forked, started = (
        run_program(f'geventnode {arguments[0]}', arguments, cwd=tmp_path, env=env)
        for env in ({}, {'PYTHONSAFEPATH': ''})
    )
    assert forked == started


def test_forks_find_early_imports(tmp_path: Path) -> None:
    """Patching warns of modules that imported a class of ``ssl``; the fork server has loaded this one."""
    with Gunicorn(tmp_path, configuration='import logging, ssl\nlogging.early = ssl.SSLContext\n') as gunicorn:
        gunicorn.ask()
    assert re.search(r'direct imports \(NOT patched\): .*logging \(', gunicorn.finish())


def test_ends_of_forks(tmp_path: Path) -> None:
    """A fork's exit status, its output, and the signal that killed it are reported; sessions are its own if it asks."""
    with Served('started:listener', start_new_session=True, status=-signal.SIGKILL) as served:
        with Client(('127.0.0.1', served.port)) as client:
            assert json.loads(client.get('/').body)['session'] == served.process.pid
        assert served.process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(0)
        served.process.kill()
        assert served.process.wait(PATIENCE) == -signal.SIGKILL == served.process.poll()


def test_forks_end_with_their_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of failed tests do not remain. Processes share a fork server, which ends with the last of them."""
    # longer than the path of a socket
    directory = tmp_path / ('directory' * 12)
    directory.mkdir()
    first, second, third = (ForkServer('geventnode serve', directory) for _ in range(3))
    remaining = serving(first)
    with contextlib.closing(second):
        ended = serving(second)
        shared = parent(ended)
        assert shared == parent(remaining) != os.getpid()
    assert ended.poll() == -signal.SIGKILL
    assert remaining.poll() is None

    def send(*arguments: Any) -> int:
        """Connect when the last other process has ended."""
        monkeypatch.undo()
        first._control.shutdown(socket.SHUT_WR)
        remaining.wait(PATIENCE)
        return socket.send_fds(*arguments)

    with contextlib.closing(third):
        monkeypatch.setattr(socket, 'send_fds', send)
        latest = serving(third)
        first.close()
        assert parent(latest) == shared
        assert any(each.is_socket() for each in directory.iterdir())
    assert (remaining.poll(), latest.poll()) == (-signal.SIGKILL, -signal.SIGKILL)
    assert not any(each.is_socket() for each in directory.iterdir())


def serving(server: ForkServer) -> Forked:
    """Return a fork that serves."""
    forked = server.start(
        ['serve', 'started:listener', '--bind', '127.0.0.1:0'],
        paths=PYTHONPATH,
        cwd=APPS,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        stderr=subprocess.STDOUT,
    )
    with forked.stdout:
        assert 'http://127.0.0.1:' in forked.stdout.readline()
    return forked


def parent(process: Forked) -> int:
    """Return the parent of a process (proc(5))."""
    return int(Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2].split()[1])
