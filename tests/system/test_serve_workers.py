"""``geventnode serve --workers``: gunicorn runs the processes, and everything else is as without."""

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

import pytest

from tests.servers import Client
from tests.system.running import APPS, PATIENCE, ROOT


@contextlib.contextmanager
def workers(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield the process of a command with two workers, and the port that it listens on."""
    command = [sys.executable, '-m', 'geventnode', 'serve', *arguments, '--workers', '2', '--bind', '127.0.0.1:0']
    with subprocess.Popen(
        command,
        cwd=APPS,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    ) as process:
        port = None
        said = []
        for line in process.stdout:
            said.append(line)
            found = re.search(r'Listening at: http://127\.0\.0\.1:(\d+)', line)
            port = int(found[1]) if found else port
            if 'Booting worker' in line and sum('Booting' in each for each in said) == 2:
                break
        else:
            pytest.fail(''.join(said))
        try:
            yield process, port
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
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
def test_what_it_serves(arguments: list[str]) -> None:
    with (
        workers(*arguments) as (_, port),
        contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/')
        response = client.getresponse()
        assert response.status == 200
        # not gunicorn's setting, but that of our servers
        assert response.getheader('Keep-Alive') == f'timeout={7 if arguments == ["gunicorned:server"] else 65}'


def test_an_application_is_told_of_the_others() -> None:
    with (
        workers('gunicorned:application') as (_, port),
        contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/multiprocess')
        assert client.getresponse().read() == b'True'


def test_the_access_log() -> None:
    with (
        workers('gunicorned:listener') as (process, port),
        contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/logged')
        client.getresponse().read()
        assert re.match(r'127\.0\.0\.1 - - \[.+\] "GET /logged HTTP/1\.1" 200 \d+ "-" "-"', process.stdout.readline())


def test_refused_requests() -> None:
    """A line for each, as without workers."""
    with workers('gunicorned:listener') as (process, port), contextlib.closing(Client(('127.0.0.1', port))) as client:
        assert client.send(b'nonsense\r\n\r\n').response().status == 400
        assert '[INFO] 127.0.0.1: request line is not a method, a target and a version' in process.stdout.readline()


def refused(*arguments: str, path: str = '') -> tuple[int, str]:
    """Run the command to its end; return its status and standard error."""
    ran = subprocess.run(
        [sys.executable, '-m', 'geventnode', 'serve', *arguments],
        cwd=APPS,
        check=False,
        text=True,
        env={**os.environ, 'PYTHONPATH': f'{path}:{ROOT}'},
        capture_output=True,
        timeout=PATIENCE,
    )
    return ran.returncode, ran.stderr


def test_gunicorn_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / 'gunicorn.py').write_text('raise ModuleNotFoundError("No module named \'gunicorn\'", name="gunicorn")')
    assert refused('handlers:listener', '--workers', '2', path=str(tmp_path)) == (
        2,
        "geventnode: --workers needs gunicorn, which is not installed: pip install 'geventnode[gunicorn]'\n",
    )


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['handlers:nothing'], "geventnode: 'handlers' has no 'nothing'"),
        (['handlers:server', '--trusted-proxy', '::1', '--forwarded', 'forwarded'], 'leave out --trusted-proxy'),
    ],
)
def test_a_target_that_cannot_be_served(arguments: list[str], complaint: str) -> None:
    status, errors = refused(*arguments, '--workers', '1', '--bind', '127.0.0.1:0')
    assert status == 4
    assert complaint in errors


def test_a_target_that_raises() -> None:
    """Its traceback begins in the target, and the last line of ours says what to do."""
    status, errors = refused('broken:listener', '--workers', '1', '--bind', '127.0.0.1:0')
    assert status == 4
    assert 'geventnode/cli/targets.py' not in errors
    assert f'geventnode: the command runs with {sys.executable}: install the missing package there' in errors
    assert "geventnode: 'broken:listener' cannot be loaded: No module named 'not_installed'" in errors


def test_a_new_master_takes_the_sockets_over() -> None:
    """SIGUSR2: that the old one listens is no reason to give up."""
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

        def said(pattern: str) -> str:
            for line in old.stdout:
                found = re.search(pattern, line)
                if found is not None:
                    return found[1]
            raise AssertionError(f'it has never said {pattern}')

        port = int(said(r'Listening at: http://127\.0\.0\.1:(\d+)'))
        said('Booting (worker)')
        old.send_signal(signal.SIGUSR2)
        new = int(said(r'\[(\d+)\] \[INFO\] Listening at'))
        said('Booting (worker)')
        old.send_signal(signal.SIGTERM)
        old.wait(PATIENCE)
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            assert client.get().status == 200
        os.kill(new, signal.SIGTERM)
        old.communicate(timeout=PATIENCE)


@pytest.mark.parametrize('number', ['0', '-1', 'many'])
def test_a_bad_number(number: str) -> None:
    status, errors = refused('handlers:listener', '--workers', number)
    assert status == 2
    assert 'argument --workers: must be a whole number from 1' in errors
