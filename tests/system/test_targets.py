"""``geventnode serve`` with WSGI applications: recognizing them, and refusing ambiguous targets."""

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
def test_kind_of_target_is_recognized(arguments: list[str], expected: str) -> None:
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
            ("'targets:unclear' can be a WSGI application or a request listener; add --wsgi or --listener"),
        ),
        (
            ['targets:short'],
            "'targets:short' can be a WSGI application or a request listener; add --wsgi or --listener",
        ),
        (
            ['handlers:server', '--wsgi'],
            "'handlers:server' is an http.Server, which has its own settings; remove --wsgi",
        ),
        (
            ['handlers:server', '--listener'],
            "'handlers:server' is an http.Server, which has its own settings; remove --listener",
        ),
    ],
)
def test_ambiguous_target_is_refused(arguments: list[str], complaint: str) -> None:
    assert refused('serve', *arguments) == (2, f'geventnode: {complaint}\n')


def test_asgi_application_ends_gunicorn(tmp_path: Path) -> None:
    """Gunicorn ends at once, instead of failing with each request."""
    with Gunicorn(tmp_path, 'targets:asgi', status=4) as gunicorn:
        gunicorn.wait_for(r'the application cannot be served: asgi\(\) is an ASGI application')
        gunicorn.finish()


def test_both_kinds_at_once_are_refused() -> None:
    status, errors = refused('serve', 'targets:unclear', '--wsgi', '--listener')
    assert status == 2
    assert 'not allowed with argument' in errors
