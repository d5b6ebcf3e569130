"""``geventnode serve --workers``: gunicorn runs the processes, and everything else is the same."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Client
from tests.system.running import APPS, PATIENCE, PYTHONPATH, run_program, start


@contextlib.contextmanager
def workers(*arguments: str, path: str = '') -> Iterator[tuple[Any, int]]:
    """Yield the process of a command with two workers, and the port that it listens on."""
    command = ['serve', *arguments, '--workers', '2', '--bind', '127.0.0.1:0']
    env = {'PYTHONPATH': f'{path}:{PYTHONPATH}'}
    process = start('geventnode serve --workers', command, cwd=APPS, env=env, stderr=subprocess.STDOUT)
    port = None
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = re.search(r'Listening at: http://127\.0\.0\.1:(\d+)', line)
        port = int(found[1]) if found else port
        if 'Booting worker' in line and sum('Booting' in each for each in lines) == 2:
            break
    else:
        process.wait(PATIENCE)
        pytest.fail(''.join(lines))
    try:
        yield process, port
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize(
    'arguments',
    [
        ['gunicorned:listener'],
        ['gunicorned:server'],
        ['gunicorned:application'],
        ['handlers:listener', '--listener'],
        [],
        ['gunicorned.py:application', '--wsgi'],
    ],
)
def test_target_is_served(arguments: list[str]) -> None:
    with (
        workers(*arguments) as (_, port),
        contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/')
        response = client.getresponse()
        assert response.status == 200
        # the setting of the server, not gunicorn's
        assert response.getheader('Keep-Alive') == f'timeout={7 if arguments == ["gunicorned:server"] else 65}'


def test_application_sees_multiprocess() -> None:
    with (
        workers('gunicorned:application') as (_, port),
        contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/multiprocess')
        assert client.getresponse().read() == b'True'


def test_access_log_has_each_response() -> None:
    with (
        workers('gunicorned:listener') as (process, port),
        contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/logged')
        client.getresponse().read()
        assert re.match(r'127\.0\.0\.1 - - \[.+\] "GET /logged HTTP/1\.1" 200 \d+ "-" "-"', process.stdout.readline())


def test_refused_requests_are_logged() -> None:
    """Each is one line, as without workers."""
    with workers('gunicorned:listener') as (process, port), contextlib.closing(Client(('127.0.0.1', port))) as client:
        assert client.send(b'nonsense\r\n\r\n').response().status == 400
        assert '[INFO] 127.0.0.1: request line is not a method, a target and a version' in process.stdout.readline()


def refused(*arguments: str, path: str = '') -> tuple[int, str]:
    """Run the command until it ends; return its status and standard error."""
    env = {'PYTHONPATH': f'{path}:{PYTHONPATH}'}
    status, _, errors = run_program('geventnode serve --workers', ['serve', *arguments], env=env)
    return status, errors


def test_missing_gunicorn_is_reported(tmp_path: Path) -> None:
    (tmp_path / 'gunicorn.py').write_text('raise ModuleNotFoundError("No module named \'gunicorn\'", name="gunicorn")')
    # no fork: it would have gunicorn already
    command = [sys.executable, '-m', 'geventnode', 'serve', 'handlers:listener', '--workers', '2']
    environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}:{PYTHONPATH}'}
    ran = subprocess.run(command, capture_output=True, check=False, cwd=APPS, env=environment, text=True)
    assert (ran.returncode, ran.stderr) == (
        2,
        "geventnode: --workers needs gunicorn, which is not installed; pip install 'geventnode[gunicorn]'\n",
    )


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['handlers:nothing'], "geventnode: 'handlers' has no 'nothing'"),
        (['handlers:server', '--trusted-proxy', '::1', '--forwarded', 'forwarded'], 'remove --trusted-proxy'),
    ],
)
def test_bad_target_ends_the_master(arguments: list[str], complaint: str) -> None:
    status, errors = refused(*arguments, '--workers', '1', '--bind', '127.0.0.1:0')
    assert status == 4
    assert complaint in errors


def test_exception_of_the_target_ends_the_master() -> None:
    """The traceback begins in the target, and a line with the remedy follows."""
    status, errors = refused('broken:listener', '--workers', '1', '--bind', '127.0.0.1:0')
    assert status == 4
    assert 'geventnode/cli/targets.py' not in errors
    assert f'geventnode: the command runs with {sys.executable}; install the missing package there' in errors
    assert "geventnode: 'broken:listener' cannot be loaded: No module named 'not_installed'" in errors


@pytest.mark.parametrize(
    ('source', 'reason'),
    [
        ('import sys; sys.exit(1)', 'it called sys.exit(1)'),
        ('1 / 0', 'division by zero'),
        ('raise SystemExit', 'it called sys.exit(None)'),
    ],
)
def test_target_that_never_starts_ends_the_master(tmp_path: Path, source: str, reason: str) -> None:
    """There is one report, not one for each worker, and no second attempt."""
    (tmp_path / 'failing.py').write_text(f'{source}\n')
    status, errors = refused('failing:app', '--workers', '3', '--bind', '127.0.0.1:0', path=str(tmp_path))
    assert status == 4
    assert re.findall('^geventnode: .+', errors, re.MULTILINE) == [
        f"geventnode: 'failing:app' cannot be loaded: {reason}"
    ]
    assert errors.count('failing.py", line 1, in <module>') == 1


def test_worker_that_cannot_start_any_more_is_delayed(tmp_path: Path) -> None:
    """New code that fails does not end the master; corrected code is served."""
    target = tmp_path / 'changing.py'
    good = 'def app(environ, start_response):\n    start_response("200 OK", [])\n    return [b"good"]\n'
    target.write_text(good)
    with workers('changing:app', path=str(tmp_path)) as (process, port):
        with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
            client.request('GET', '/')
            assert client.getresponse().read() == b'good'
        # of another length: a compiled file is compared by its time in seconds, and its size
        target.write_text('import sys\nsys.exit(3)\n')
        process.send_signal(signal.SIGHUP)
        lines = iter(process.stdout.readline, '')
        delays = []
        for line in lines:
            found = re.search(r'the next attempt is in ([\d.]+) s', line)
            if found is not None:
                delays.append(float(found[1]))
            if len(delays) == 3:
                break
        assert sorted(delays)[0] == 0.5
        assert sorted(delays)[-1] > 0.5
        target.write_text(good)
        process.send_signal(signal.SIGHUP)
        with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
            client.request('GET', '/')
            assert client.getresponse().read() == b'good'


def test_new_master_inherits_the_sockets() -> None:
    """After SIGUSR2 the address is in use by the old master, which is no error."""
    command = [
        Path(sys.executable).with_name('geventnode'),
        'serve',
        'gunicorned:listener',
        '--workers',
        '1',
        '--bind',
        '127.0.0.1:0',
    ]
    with subprocess.Popen(command, cwd=APPS, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as old:

        def find_in_output(pattern: str) -> str:
            for line in old.stdout:
                found = re.search(pattern, line)
                if found is not None:
                    return found[1]
            raise AssertionError(f'gunicorn has not written {pattern}')

        port = int(find_in_output(r'Listening at: http://127\.0\.0\.1:(\d+)'))
        find_in_output('Booting (worker)')
        old.send_signal(signal.SIGUSR2)
        new = int(find_in_output(r'\[(\d+)\] \[INFO\] Listening at'))
        find_in_output('Booting (worker)')
        old.send_signal(signal.SIGTERM)
        old.wait(PATIENCE)
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            assert client.get().status == 200
        os.kill(new, signal.SIGTERM)
        old.communicate(timeout=PATIENCE)


@pytest.mark.parametrize('number', ['0', '-1', 'many'])
def test_bad_number_of_workers_is_refused(number: str) -> None:
    status, errors = refused('handlers:listener', '--workers', number)
    assert status == 2
    assert 'argument --workers: must be a whole number from 1' in errors
