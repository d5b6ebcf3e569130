"""Targets of every kind: WSGI applications, request listeners, and ambiguous ones."""

from __future__ import annotations

import functools

from geventnode.integrations.wsgi import wsgi

__all__ = ['Class', 'app', 'instance', 'listener', 'partial', 'renamed', 'short', 'unclear', 'wrapped']


def app(environ, start_response):
    """An application with the usual names."""
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'application']


def renamed(env, start):
    """An application with other names."""
    return app(env, start)


class Class:
    """An application: its instances are the results (PEP 3333, "The Application/Framework Side")."""

    def __init__(self, environ, start_response):
        self._answer = app(environ, start_response)

    def __iter__(self):
        return iter(self._answer)


class _Instance:
    def __call__(self, environ, start_response):
        return app(environ, start_response)


instance = _Instance()


def _configured(settings, environ, start_response):
    return app(environ, start_response)


partial = functools.partial(_configured, {})


def listener(request, response):
    """A request listener."""
    response.end('listener')


wrapped = wsgi(app)


def short(e, sr):
    """An application with unspecific parameter names."""
    return app(e, sr)


def unclear(*arguments):
    """An application and a request listener in one."""
    first, second = arguments
    if isinstance(first, dict):
        return app(first, second)
    return listener(first, second)


async def asgi(scope, receive, send):
    """An ASGI application, which is refused."""
