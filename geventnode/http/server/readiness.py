"""The readiness probe of load balancers: whether requests should be sent here.

A wrapper of a listener responds to it, at one path, from the server's attribute ``available``: yes, until the
application sets it to False or the server begins to close. Liveness is another question; any response affirms it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ['DEFAULT_PATH', 'readiness']

#: The path that Kubernetes' own programs use, and most others.
DEFAULT_PATH = '/healthz'


def readiness(
    listener: Callable[[Any, Any], object], path: str = DEFAULT_PATH, check: Callable[[], object] | None = None
) -> Callable[[Any, Any], object]:
    """Return a listener that responds to readiness probes before ``listener``.

    It responds to GET and HEAD of ``path``: 200 while :attr:`~geventnode.interfaces.IHTTPServer.available` of the
    server is true, 503 otherwise. All other requests are passed to ``listener``.

    :param listener: the ``'request'`` listener, which can be a WSGI application made by
        :func:`~geventnode.integrations.wsgi.wsgi`.
    :param path: the path of the probe; a query is ignored.
    :param check: called for each probe while the server is available; 503 is sent if it returns a false value or raises
        an ``Exception``. It can block.
    """

    def respond(request: Any, response: Any) -> object:
        if request.url.partition('?')[0] != path or request.method not in ('GET', 'HEAD'):
            return listener(request, response)
        ready = response.server.available and (check is None or _passes(check))
        # a cached response would be outdated
        response.write_head(200 if ready else 503, {'Content-Type': 'text/plain', 'Cache-Control': 'no-store'})
        response.end('ready\n' if ready else 'not ready\n')
        return None

    return respond


def _passes(check: Callable[[], object]) -> bool:
    try:
        return bool(check())
    except Exception:
        return False
