"""gunicorn's dirty workers and its control socket, with this worker, alone and with preloading.

The dirty workers are processes of gunicorn's for actions that block: web workers call them through a Unix socket.

On Python 3.12 and later, a dirty worker that was called does not end at SIGTERM, with web workers of any class
(gunicorn 27.0.1): its ``asyncio.Server`` waits for the connection of the dirty arbiter, which keeps it open. The
arbiter kills it after ``dirty_graceful_timeout``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent import get_hub

from tests.system.frameworks import Gate
from tests.system.gunicorns import Gunicorn
from tests.system.running import PATIENCE

pytest.importorskip('gunicorn.dirty', reason='gunicorn has dirty workers from 25.0 on')
ControlClient = pytest.importorskip(
    'gunicorn.ctl.client', reason='gunicorn has a control socket from 25.1 on'
).ControlClient

#: Log lines of gunicorn.
BOOTED = r'Booting worker with pid: (\d+)'
LISTENING = r'Dirty worker (\d+) listening'
CONTROLLED = 'Control socket listening'

preloaded_or_not = pytest.mark.parametrize('preload', [True, False], ids=['preloaded', 'loaded'])


class Site:
    """An application under gunicorn that calls dirty workers."""

    def __init__(self, gunicorn: Gunicorn, gate: Gate, directory: Path) -> None:
        self.gunicorn = gunicorn
        self.gate = gate
        self.directory = directory

    def call(self, path: str) -> Any:
        """Return the result of a call. Waits in a real thread, as in another program."""
        return self.begin(path).get()

    def begin(self, path: str) -> Any:
        """Begin a call, and return its future result."""
        return get_hub().threadpool.spawn(self._call, path)

    def _call(self, path: str) -> Any:
        status, body = self.gunicorn.ask(path)
        assert status == 200, body
        return body if path.startswith('/stream') else json.loads(body)

    def control(self, command: str) -> Any:
        """Return the result of a command, as ``gunicornc`` gets it."""
        with ControlClient(str(self.directory / 'control')) as client:
            return client.send_command(command)

    def run_gunicornc(self, command: str) -> Any:
        """Run ``gunicornc``, and return its result."""
        ran = subprocess.run(
            [sys.executable, '-m', 'gunicorn.ctl.cli', '-s', self.directory / 'control', '-j', '-c', command],
            check=False,
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            env={**os.environ, 'HOME': str(self.directory)},
        )
        assert ran.returncode == 0, f'{command}\n{ran.stdout}{ran.stderr}'
        return json.loads(ran.stdout)


def has_ended(pid: int) -> bool:
    """Return whether a process has ended; the system has not always noticed it (proc(5))."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2][0] == 'Z'
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Make a directory with a short name.

    The path of gunicorn's socket in a directory of pytest's can be longer than the kernel allows (unix(7): 108 bytes).
    """
    with tempfile.TemporaryDirectory(prefix='dirty') as name:
        yield Path(name)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@contextlib.contextmanager
def site(directory: Path, preload: bool, settings: str = '', **options: Any) -> Iterator[Site]:
    """Run gunicorn with two dirty workers, and wait until they listen."""
    (directory / 'version').write_text('1')
    configuration = (
        f'preload_app = {preload}\ndirty_apps = ["heavy:Heavy"]\ndirty_workers = 2\ndirty_graceful_timeout = 1\n'
        f'control_socket_disable = False\ncontrol_socket = {str(directory / "control")!r}\n{settings}'
    )
    with contextlib.closing(Gate()) as gate:
        env = {'GATE': str(gate.port), 'DIRECTORY': str(directory), 'TMPDIR': str(directory)}
        with Gunicorn(directory, 'dirtied:application', configuration, env=env, **options) as gunicorn:
            gunicorn.wait_for_each(f'{LISTENING} on .*worker-1', f'{LISTENING} on .*worker-2', CONTROLLED)
            yield Site(gunicorn, gate, directory)


# -- dirty workers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module', params=[True, False], ids=['preloaded', 'loaded'])
def shared(request: pytest.FixtureRequest) -> Iterator[Site]:
    """An application with one web worker, for several tests."""
    with short_directory() as directory, site(directory, request.param) as made:
        yield made


def test_calls_run_in_other_processes(shared: Site) -> None:
    """Both dirty workers are used, in turns; errors reach the caller, and the next call succeeds."""
    first, second, third = (shared.call('/identify') for _ in range(3))
    assert first != second
    assert first == third
    assert shared.call('/pid') not in (first[0], second[0], shared.gunicorn.process.pid)
    assert shared.call('/fail').startswith('DirtyAppError: on purpose')
    assert shared.call('/identify') in (first, second)


def test_calls_of_two_requests_overlap(shared: Site) -> None:
    """Each request has its own connection to the dirty workers, and other requests are served meanwhile."""
    calls = [shared.begin('/wait?a'), shared.begin('/wait?b')]
    shared.gate.wait_for('a')
    shared.gate.wait_for('b')
    assert shared.call('/put?value') is None
    shared.gate.open('b')
    assert calls[1].get() == 'b'
    shared.gate.open('a')
    assert calls[0].get() == 'a'


def test_streams_of_two_requests(shared: Site) -> None:
    """They do not mix, with each other or with a call in between."""
    streams = [shared.begin('/stream?c'), shared.begin('/stream?d')]
    shared.gate.wait_for('c')
    shared.gate.wait_for('d')
    assert shared.call('/put?value') is None
    assert shared.call('/get') == 'value'
    shared.gate.open('c')
    assert streams[0].get() == 'c1 c2 c3 '
    shared.gate.open('d')
    assert streams[1].get() == 'd1 d2 d3 '


def test_a_call_that_is_interrupted(shared: Site) -> None:
    """A closed client has no reply of an earlier call."""
    called = shared.begin('/interrupted?e')
    shared.gate.wait_for('e')
    shared.gate.open('e')
    assert len(called.get()) == 3


def test_the_shared_tables(shared: Site) -> None:
    """Web workers and dirty workers use the same ones."""
    assert shared.call('/put?written') is None
    assert {shared.call('/recall') for _ in range(2)} == {'written'}


@preloaded_or_not
def test_a_dirty_worker_that_was_killed(directory: Path, preload: bool) -> None:
    """It is replaced, and calls succeed. SIGTERM ends all processes, and no file is left."""
    with site(directory, preload) as made:
        pid, _, _ = made.call('/identify')
        os.kill(pid, signal.SIGKILL)
        made.gunicorn.wait_for(f'{LISTENING} on .*worker-3')
        pids = {made.call('/identify')[0] for _ in range(2)}
        assert pid not in pids
        made.gunicorn.signal(signal.SIGTERM)
        # the end of all processes that hold its output
        made.gunicorn.finish()
    # the dirty arbiter does not wait for the workers that it kills
    assert all(has_ended(pid) for pid in pids)
    assert not [path for path in directory.rglob('*') if path.is_socket()]


# -- the control socket -----------------------------------------------------------------------------------------------


@preloaded_or_not
def test_every_command(directory: Path, preload: bool) -> None:
    """``gunicornc`` shows and changes web workers and dirty workers, reloads, and stops."""
    with site(directory, preload) as made:
        pid = made.call('/pid')
        shown = made.run_gunicornc('show all')
        assert [each['pid'] for each in shown['web_workers']] == [pid]
        assert {each['pid'] for each in shown['dirty_workers']} == {made.call('/identify')[0] for _ in range(2)}
        (worker,) = made.control('show workers')['workers']
        assert (worker['last_heartbeat'] < PATIENCE, worker['booted']) == (True, False)
        assert made.control('show dirty')['enabled']
        assert made.control('show config')['worker_class']
        assert made.control('show stats')['workers_current'] == 1
        assert made.control('show listeners')['count'] == 1
        made.control('dirty add 1')
        made.gunicorn.wait_for(f'{LISTENING} on .*worker-3')
        made.control('dirty remove 1')
        # it was called: see above
        if sys.version_info < (3, 12):
            made.gunicorn.wait_for('Dirty worker exited')
        made.control('worker add 1')
        second = int(made.gunicorn.wait_for_each(BOOTED, CONTROLLED)[0][1])
        made.control('worker remove 1')
        made.gunicorn.wait_for(rf'Worker exiting \(pid: {pid}\)')
        while made.call('/pid') != second:
            pass
        made.control('reopen')
        made.gunicorn.wait_for('Handling signal: usr1')
        made.control('reload')
        booted, _, _ = made.gunicorn.wait_for_each(BOOTED, CONTROLLED, rf'Worker exiting \(pid: {second}\)')
        while made.call('/pid') != int(booted[1]):
            pass
        made.control('shutdown')
        made.gunicorn.finish()
