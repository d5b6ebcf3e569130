"""What the configurations here serve: a WSGI application, and in front of it the answer to balancers at /healthz.

Put your own application in the place of ``app``; with Flask or Django nothing else changes. ``check`` is the place to
ask what the application cannot work without, if that is not shared by all instances: when the database is gone,
taking every instance out of service helps nobody. It is also the place to say that this machine is about to go.
"""

from __future__ import annotations

from geventnode.http import readiness
from geventnode.integrations.wsgi import wsgi

__all__ = ['app', 'listener']


def app(environ, start_response):
    """Answer with the path."""
    body = f'You asked for {environ["PATH_INFO"]}\n'.encode('latin-1')
    start_response('200 OK', [('Content-Type', 'text/plain; charset=iso-8859-1'), ('Content-Length', str(len(body)))])
    return [body]


listener = readiness(wsgi(app))
