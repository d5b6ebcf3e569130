"""Applications that configure logging: the access log and the errors of the server are still written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Client
from tests.system.gunicorns import Gunicorn
from tests.system.running import APPS, PATIENCE, ROOT, Served

pytest.importorskip('flask', reason='Flask is not installed; it is in the extra "test"')

#: How logging is configured, and whether that is in a request.
CONFIGURATIONS = [('dictionary', ''), ('dictionary', 'late'), ('file', ''), ('file', 'late')]


def asked(port: int) -> None:
    """Make three requests, one of which fails, and one that is none."""
    for path, status in (('/configure', 200), ('/told', 200), ('/fail', 500)):
        client = Client(('127.0.0.1', port))
        assert client.get(path).status == status
        client.close()
    client = Client(('127.0.0.1', port))
    assert client.send(b'nonsense\r\n\r\n').response().status == 400
    client.close()


def assert_written(said: str) -> None:
    """Check that everything was written, and nothing twice."""
    for line in (
        '"GET /configure HTTP/1.1" 200',
        '"GET /told HTTP/1.1" 200',
        '"GET /fail HTTP/1.1" 500',
        'own INFO: told about told',
        'LookupError: on purpose',
        'request line is not a method',
    ):
        assert said.count(line) == 1, said


@pytest.mark.parametrize(('by', 'late'), CONFIGURATIONS)
def test_serve(by: str, late: str) -> None:
    with Served('configuring:app', access_log=True, env={'CONFIGURED_BY': by, 'CONFIGURED_LATE': late}) as served:
        asked(served.port)
        served.process.terminate()
        printed, errors = served.finish()
    assert_written(printed + errors)
    assert printed.count('HTTP/1.1') == 3


@pytest.mark.parametrize('preload', [(), ('--preload',)], ids=['', 'preload'])
@pytest.mark.parametrize(('by', 'late'), CONFIGURATIONS)
def test_gunicorn(tmp_path: Path, by: str, late: str, preload: tuple[str, ...]) -> None:
    """Its own loggers are silenced in the same way."""
    with Gunicorn(
        tmp_path,
        'configuring:app',
        '',
        '--access-logfile',
        '-',
        *preload,
        env={'CONFIGURED_BY': by, 'CONFIGURED_LATE': late},
    ) as gunicorn:
        gunicorn.booted()
        asked(gunicorn.port)
        gunicorn.process.terminate()
        assert_written(gunicorn.finish())


@pytest.mark.parametrize(('by', 'late'), CONFIGURATIONS)
def test_serve_with_workers(by: str, late: str) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening:
        process = subprocess.Popen(
            [
                sys.executable,
                '-m',
                'geventnode',
                'serve',
                'configuring:app',
                '--workers',
                '1',
                '--bind',
                f'fd:{listening.fileno()}',
            ],
            cwd=APPS,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[listening.fileno()],
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'CONFIGURED_BY': by, 'CONFIGURED_LATE': late},
        )
        port = listening.getsockname()[1]
    with process:
        asked(port)
        process.terminate()
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert_written(said)
