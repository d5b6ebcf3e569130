"""The example that mounts ``/healthz``, ``/metrics`` and the monitor beside a Flask application."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.needed import need
from tests.servers import Client
from tests.system.gunicorns import Gunicorn
from tests.system.running import ROOT, Served, run

need('flask', 'prometheus_client')

EXAMPLE = ROOT / 'contrib' / 'examples' / 'flask_operations.py'
PRIVATE = ['/metrics', '/monitor', '/monitor?state', '/monitor?stream', '/metrics?x']


def basic(credentials: bytes) -> str:
    return f'Authorization: Basic {base64.b64encode(credentials).decode()}'


RIGHT = basic('operator:s\u00e9cret:x'.encode())


def by_command(directory: Path, env: dict[str, str]) -> Any:
    return Served(EXAMPLE.name, program='geventnode serve with Flask', cwd=EXAMPLE.parent, env=env)


def by_gunicorn(directory: Path, env: dict[str, str]) -> Any:
    return Gunicorn(directory, 'flask_operations:server', cwd=EXAMPLE.parent, env=env)


@pytest.fixture(scope='module', params=[by_command, by_gunicorn])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run the example with a password, in both ways."""
    with request.param(tmp_path_factory.mktemp('example'), {'OPERATOR_PASSWORD': 's\u00e9cret:x'}) as served:
        yield served.port


def get(port: int, path: str, *fields: str) -> Any:
    with contextlib.closing(Client(('127.0.0.1', port))) as client:
        return client.get(path, *fields)


def test_application_and_probe_are_public(port: int) -> None:
    assert get(port, '/').body == b'hello\n'
    assert get(port, '/healthz').body == b'ready\n'
    # other paths are Flask's
    assert get(port, '/metrics/').status == get(port, '/monitoring').status == 404


@pytest.mark.parametrize('path', PRIVATE)
@pytest.mark.parametrize(
    'fields',
    [
        [],
        [basic(b'operator:wrong')],
        [basic(b'operator:')],
        [basic(b'operator')],
        ['Authorization: Basic ???'],
        ['Authorization: Basic \xe9'],
        [RIGHT.replace('Basic', 'Bearer')],
    ],
)
def test_private_pages_need_the_password(port: int, path: str, fields: list[str]) -> None:
    found = get(port, path, *fields)
    assert (found.status, found.values('WWW-Authenticate')) == (401, ['Basic realm="operators"'])
    assert found.body == b'This page needs the password of operators.\n'


def test_private_pages_are_shown_with_the_password(port: int) -> None:
    get(port, '/')
    metrics = get(port, '/metrics', RIGHT).body.decode()
    assert 'geventnode_http_requests_total{method="GET",status="200"}' in metrics
    state = json.loads(get(port, '/monitor?state', RIGHT).body)
    assert state['requests']['total'] > 0
    assert b'<html' in get(port, '/monitor', RIGHT).body
    # as a client of another kind sends it
    assert 'geventnode_connections' in run(
        'curl', '--silent', '--fail', '--user', 'any:s\u00e9cret:x', f'http://127.0.0.1:{port}/metrics'
    )


@pytest.mark.parametrize('password', [None, ''])
def test_private_pages_are_denied_without_a_configured_password(tmp_path: Path, password: str | None) -> None:
    """Even to clients on the same machine, and to an empty password."""
    with by_command(tmp_path, {} if password is None else {'OPERATOR_PASSWORD': password}) as served:
        for path in PRIVATE:
            for credentials in (b'operator:', b'operator', b''):
                assert get(served.port, path, basic(credentials)).status == 401
        assert get(served.port, '/healthz').status == 200
