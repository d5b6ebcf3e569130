"""``geventnode serve`` with WSGI applications: what it takes for one, what it is told, and what it refuses."""

from __future__ import annotations

import contextlib
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.system.gunicorns import Gunicorn
from tests.system.running import APPS, PATIENCE, Served
from tests.system.test_process import refused


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['targets:app'], 'application'),
        (['targets:renamed'], 'application'),
        (['targets:Class'], 'application'),
        (['targets:instance'], 'application'),
        (['targets:partial'], 'application'),
        (['targets:wrapped'], 'application'),
        ([APPS / 'targets.py:app'], 'application'),
        (['targets:listener'], 'listener'),
        (['targets:listener', '--listener'], 'listener'),
        (['targets:short', '--wsgi'], 'application'),
        (['targets:unclear', '--wsgi'], 'application'),
        (['targets:unclear', '--listener'], 'listener'),
    ],
)
def test_what_it_is(arguments: list[str], expected: str) -> None:
    with (
        Served(*arguments) as served,
        contextlib.closing(HTTPConnection('127.0.0.1', served.port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/')
        response = client.getresponse()
        assert (response.status, response.read().decode()) == (200, expected)


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (
            ['targets:unclear'],
            ("'targets:unclear' may be a WSGI application or a request listener: say --wsgi or --listener"),
        ),
        (
            ['targets:short'],
            "'targets:short' may be a WSGI application or a request listener: say --wsgi or --listener",
        ),
        (
            ['handlers:server', '--wsgi'],
            "'handlers:server' is an http.Server with settings of its own: leave out --wsgi",
        ),
        (
            ['handlers:server', '--listener'],
            "'handlers:server' is an http.Server with settings of its own: leave out --listener",
        ),
    ],
)
def test_what_it_refuses(arguments: list[str], complaint: str) -> None:
    assert refused('serve', *arguments) == (2, f'geventnode: {complaint}\n')


def test_an_asgi_application_under_gunicorn(tmp_path: Path) -> None:
    """It would fail with each request: gunicorn gives up at once."""
    with Gunicorn(tmp_path, 'targets:asgi', status=4) as gunicorn:
        gunicorn.wait_for(r'the application cannot be served: asgi\(\) is an ASGI application')
        gunicorn.finish()


def test_both_kinds_at_once() -> None:
    status, errors = refused('serve', 'targets:unclear', '--wsgi', '--listener')
    assert status == 2
    assert 'not allowed with argument' in errors
