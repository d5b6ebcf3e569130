"""WSGI applications for tests, and servers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from geventnode.integrations.wsgi import wsgi
from tests.servers import Serve, Site, get

__all__ = ['PLAIN', 'Environ', 'Run', 'environ_of', 'run', 'saying']

PLAIN = [('Content-Type', 'text/plain')]
Environ = dict[str, Any]
Run = Callable[..., Site]


@pytest.fixture
def run(serve: Serve) -> Run:
    """Serve an application: ``run(application, **options)``, with options of ``wsgi`` and of the server."""

    def start(application: Any, **options: Any) -> Site:
        own = {
            name: options.pop(name)
            for name in (
                'script_name',
                'multiprocess',
                'cancel_on_disconnect',
                'sendfile',
                'raise_body_errors',
                'buffer_chunked',
            )
            if name in options
        }
        return serve(wsgi(application, **own), **options)

    return start


def saying(body: Any, status: str = '200 OK', headers: Any = None) -> Any:
    """Return an application with a fixed response."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(status, PLAIN if headers is None else headers)
        return body

    return application


def environ_of(run: Run, request: bytes = get(), **options: Any) -> Environ:
    """Return the environ of an application for ``request``."""
    seen: list[Environ] = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(environ)
        start_response('200 OK', PLAIN)
        return [b'seen']

    assert run(application, **options).send(request).response().status == 200
    return seen[0]
