"""Applications that configure logging: the access log and the errors of the server are still written."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.needed import need
from tests.servers import Client
from tests.system.gunicorns import Gunicorn
from tests.system.running import APPS, PATIENCE, Served, start

need('flask')

#: The way in which logging is configured, and whether a request does it.
CONFIGURATIONS = [('dictionary', ''), ('dictionary', 'late'), ('file', ''), ('file', 'late')]


def make_requests(port: int) -> None:
    """Make three requests, one of which fails, and send one invalid request."""
    for path, status in (('/configure', 200), ('/logged', 200), ('/fail', 500)):
        client = Client(('127.0.0.1', port))
        assert client.get(path).status == status
        client.close()
    client = Client(('127.0.0.1', port))
    assert client.send(b'nonsense\r\n\r\n').response().status == 400
    client.close()


def assert_written(output: str) -> None:
    """Check that every line was written once."""
    for line in (
        '"GET /configure HTTP/1.1" 200',
        '"GET /logged HTTP/1.1" 200',
        '"GET /fail HTTP/1.1" 500',
        'own INFO: path logged',
        'LookupError: on purpose',
        'request line is not a method',
    ):
        assert output.count(line) == 1, output


@pytest.mark.parametrize(('by', 'late'), CONFIGURATIONS)
def test_serve_writes_its_logs(by: str, late: str) -> None:
    env = {'CONFIGURED_BY': by, 'CONFIGURED_LATE': late}
    with Served('configuring:app', program='geventnode serve with Flask', access_log=True, env=env) as served:
        make_requests(served.port)
        served.process.terminate()
        printed, errors = served.finish()
    assert_written(printed + errors)
    assert printed.count('HTTP/1.1') == 3


@pytest.mark.parametrize('preload', [(), ('--preload',)], ids=['', 'preload'])
@pytest.mark.parametrize(('by', 'late'), CONFIGURATIONS)
def test_gunicorn_writes_its_logs(tmp_path: Path, by: str, late: str, preload: tuple[str, ...]) -> None:
    """The configuration disables gunicorn's own loggers in the same way."""
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
        make_requests(gunicorn.port)
        gunicorn.process.terminate()
        assert_written(gunicorn.finish())


@pytest.mark.parametrize(('by', 'late'), CONFIGURATIONS)
def test_workers_write_their_logs(by: str, late: str) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening:
        process = start(
            'geventnode serve --workers',
            ['serve', 'configuring:app', '--workers', '1', '--bind', f'fd:{listening.fileno()}'],
            cwd=APPS,
            stderr=subprocess.STDOUT,
            pass_fds=[listening.fileno()],
            env={'CONFIGURED_BY': by, 'CONFIGURED_LATE': late},
        )
        port = listening.getsockname()[1]
    make_requests(port)
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert_written(output)
