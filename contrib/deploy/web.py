"""The target of the configurations here: a WSGI application, with /healthz for load balancers.

Replace ``app`` by your own application; with Flask or Django nothing else changes. Let the ``check`` of ``readiness()``
test a resource that the application needs, unless all instances share it: if the database fails, it does not help to
take every instance out of service. The check can also announce that this machine is about to stop.
"""

from __future__ import annotations

from geventnode.http import readiness
from geventnode.integrations.wsgi import wsgi

__all__ = ['app', 'listener']


def app(environ, start_response):
    """Respond with the path."""
    body = f'You asked for {environ["PATH_INFO"]}\n'.encode('latin-1')
    start_response('200 OK', [('Content-Type', 'text/plain; charset=iso-8859-1'), ('Content-Length', str(len(body)))])
    return [body]


listener = readiness(wsgi(app))
