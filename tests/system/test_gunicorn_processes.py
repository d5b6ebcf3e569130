"""Starts and stops of gunicorn's workers and masters, with and without preloading, for two releases of gunicorn.

Since gunicorn 24 the master waits in a queue that it creates before the worker class can patch, and since 25.1
it has a thread for the control socket. The hub must run while the master waits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.gunicorns import OLDEST, Gunicorn

SETTINGS = """
keepalive = 1000
graceful_timeout = 200
def post_worker_init(worker):
    worker.log.info('Initialized: %s', worker.pid)
"""

#: Log lines of the settings, and of gunicorn.
INITIALIZED = r'Initialized: (\d+)'
CONTROLLED = 'Control socket listening'
LISTENING = r'Listening at: http://127\.0\.0\.1:(\d+) \((\d+)\)'

#: An application with a greenlet that prints a line after some time in the importing process.
TICKING = """
import os
import gevent
from gunicorned import application

def tick(process):
    for _ in range(10):
        gevent.sleep(.1)
    print('ticked in', 'the master' if process == os.getpid() else 'a copy', flush=True)

gevent.spawn(tick, os.getpid())
"""

Start = Callable[..., Gunicorn]

preloaded_or_not = pytest.mark.parametrize('preload', [True, False], ids=['preloaded', 'loaded'])
every_version = pytest.mark.parametrize('version', [OLDEST, None], ids=['oldest', 'installed'])


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that starts gunicorn."""

    def started(version: str | None, preload: bool, settings: str = '', **options: Any) -> Gunicorn:
        configuration = f'{SETTINGS}preload_app = {preload}\n{settings}'
        return Gunicorn(tmp_path, 'gunicorned:application', configuration, version=version, **options)

    return started


def exiting(pid: int) -> str:
    """Return the pattern of the line that the worker ``pid`` logs when it exits."""
    return rf'Worker exiting \(pid: {pid}\)'


def answering(gunicorn: Gunicorn) -> int:
    """Return the process id of the worker that responds."""
    status, text = gunicorn.ask('/pid')
    assert status == 200
    return int(text)


def ready(gunicorn: Gunicorn, *patterns: str) -> int:
    """Wait until one more worker responds, and so has signal handlers; return its process id.

    :param patterns: of lines that are logged meanwhile, before or after that of the worker.
    """
    pid = int(gunicorn.wait_for_each(INITIALIZED, *patterns)[0][1])
    # before that line, these requests would only delay it
    while answering(gunicorn) != pid:
        pass
    return pid


@every_version
@preloaded_or_not
def test_a_worker_that_was_killed_is_replaced(start: Start, version: str | None, preload: bool) -> None:
    with start(version, preload, workers=2) as gunicorn:
        pids = [ready(gunicorn), ready(gunicorn)]
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            os.kill(pids.pop(0), number)
            pids.append(ready(gunicorn))


@every_version
@preloaded_or_not
def test_workers_at_max_requests_are_replaced(start: Start, version: str | None, preload: bool) -> None:
    with start(version, preload, 'max_requests = 2\n') as gunicorn:
        seen: set[int] = set()
        while len(seen) < 3:
            seen.add(answering(gunicorn))


@every_version
@preloaded_or_not
def test_more_and_fewer_workers(start: Start, version: str | None, preload: bool) -> None:
    """SIGTTIN, SIGTTOU, twice: the master handles more than the first signal."""
    with start(version, preload) as gunicorn:
        first = ready(gunicorn)
        gunicorn.signal(signal.SIGTTIN)
        second = ready(gunicorn)
        gunicorn.signal(signal.SIGTTOU)
        gunicorn.wait_for(exiting(first))
        assert answering(gunicorn) == second
        gunicorn.signal(signal.SIGTTIN)
        ready(gunicorn)
        os.kill(second, signal.SIGKILL)
        ready(gunicorn)


@every_version
@preloaded_or_not
def test_reloading(start: Start, version: str | None, preload: bool) -> None:
    """SIGHUP replaces all workers, twice; workers that exit afterwards are replaced, too."""
    with start(version, preload) as gunicorn:
        pid = ready(gunicorn)
        for _ in range(2):
            gunicorn.signal(signal.SIGHUP)
            pid = ready(gunicorn, exiting(pid))
        os.kill(pid, signal.SIGKILL)
        ready(gunicorn)


@every_version
def test_reloading_changes_preload_app(tmp_path: Path, version: str | None) -> None:
    """The master is patched when it already has workers; their exits are noticed, and they are replaced."""
    with Gunicorn(tmp_path, 'gunicorned:application', SETTINGS, version=version) as gunicorn:
        pid = ready(gunicorn)
        configuration = tmp_path / 'gunicorn.conf.py'
        configuration.write_text(f'{configuration.read_text()}preload_app = True\n')
        gunicorn.signal(signal.SIGHUP)
        pid = ready(gunicorn, exiting(pid))
        os.kill(pid, signal.SIGKILL)
        ready(gunicorn)


@every_version
@preloaded_or_not
def test_a_new_master(start: Start, version: str | None, preload: bool, tmp_path: Path) -> None:
    """SIGUSR2 starts a second master, the old one is stopped, and the new one supervises its workers."""
    # gunicorn cannot pass on a socket that it got as a descriptor
    with start(version, preload, bind='127.0.0.1:0') as gunicorn:
        gunicorn.port = int(gunicorn.wait_for(LISTENING)[1])
        old = ready(gunicorn)
        gunicorn.signal(signal.SIGUSR2)
        master = int(gunicorn.wait_for(LISTENING)[2])
        new = ready(gunicorn)
        gunicorn.signal(signal.SIGTERM)
        gunicorn.wait_for_each(exiting(old), 'Master has been promoted')
        os.kill(new, signal.SIGKILL)
        newest = ready(gunicorn)
        os.kill(master, signal.SIGTERM)
        gunicorn.wait_for_each(exiting(newest), 'Shutting down: Master$')


@every_version
@preloaded_or_not
def test_a_new_master_that_is_stopped(start: Start, version: str | None, preload: bool) -> None:
    """The old one continues, and supervises its workers."""
    with start(version, preload, bind='127.0.0.1:0') as gunicorn:
        gunicorn.port = int(gunicorn.wait_for(LISTENING)[1])
        old = ready(gunicorn)
        gunicorn.signal(signal.SIGUSR2)
        master = int(gunicorn.wait_for(LISTENING)[2])
        new = ready(gunicorn)
        os.kill(master, signal.SIGTERM)
        gunicorn.wait_for_each(exiting(new), r'Shutting down: Master\.2')
        assert answering(gunicorn) == old
        os.kill(old, signal.SIGKILL)
        ready(gunicorn)


@every_version
def test_the_hub_of_the_master_runs(tmp_path: Path, version: str | None) -> None:
    """Greenlets of a preloaded application run in the master, and its monitor thread reports no blocked loop."""
    (tmp_path / 'ticking.py').write_text(TICKING)
    with Gunicorn(
        tmp_path,
        'ticking:application',
        'preload_app = True\n',
        version=version,
        cwd=tmp_path,
        env={'GEVENT_MONITOR_THREAD_ENABLE': 'true', 'PYTHONWARNINGS': 'ignore'},
    ) as gunicorn:
        gunicorn.wait_for('ticked in the master')
    assert 'appears to be blocked' not in gunicorn.finish()


@preloaded_or_not
def test_the_control_socket(start: Start, preload: bool, tmp_path: Path) -> None:
    """It exists after its line in the log, responds, and still does after workers were forked."""
    control = pytest.importorskip('gunicorn.ctl.client', reason='gunicorn has a control socket from 25.1 on')
    path = str(tmp_path / 'control')
    settings = f'control_socket_disable = False\ncontrol_socket = {path!r}\n'
    with start(None, preload, settings) as gunicorn:
        first = ready(gunicorn, CONTROLLED)
        with control.ControlClient(path) as client:
            shown = client.send_command('show workers')['workers']
            assert [worker['pid'] for worker in shown] == [first]
            client.send_command('worker add 1')
        second = ready(gunicorn, CONTROLLED)
        with control.ControlClient(path) as client:
            client.send_command(f'worker kill {first}')
        third = ready(gunicorn, CONTROLLED)
        with control.ControlClient(path) as client:
            shown = client.send_command('show workers')['workers']
            assert sorted(worker['pid'] for worker in shown) == sorted([second, third])
            client.send_command('shutdown')
        gunicorn.finish()
    assert not os.path.exists(path)
