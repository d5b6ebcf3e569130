"""A Flask application with ``/healthz``, ``/metrics`` and the monitor beside it.

    OPERATOR_PASSWORD=... geventnode serve flask_operations.py

The three paths do not reach Flask, so they respond even if the application is broken. ``/healthz`` is public. The
other two show private data: they need the password, of any user, and without ``OPERATOR_PASSWORD`` all clients are
denied. Prometheus sends it with ``basic_auth``, and browsers ask for it. Use TLS up to the server, or a proxy on the
same machine.

The target is an ``http.Server``, because metrics and monitor watch one. It also runs under gunicorn's workers.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable
from typing import Any

from flask import Flask

from geventnode import http
from geventnode.integrations.prometheus import Metrics
from geventnode.integrations.wsgi import wsgi
from geventnode.monitor import Monitor

__all__ = ['app', 'server']

PASSWORD = os.environ.get('OPERATOR_PASSWORD', '')

app = Flask(__name__)


@app.get('/')
def index() -> str:
    """Respond to a user."""
    return 'hello\n'


def knows_password(request: Any) -> bool:
    """Return whether the request has the password (RFC 7617)."""
    scheme, _, credentials = request.headers.get('authorization', '').partition(' ')
    try:
        _, _, password = base64.b64decode(credentials, validate=True).partition(b':')
    except ValueError:
        return False
    # in a time that does not depend on the first wrong character
    right = hmac.compare_digest(password, PASSWORD.encode())
    return bool(PASSWORD) and scheme.lower() == 'basic' and right


def private(listener: Callable[[Any, Any], object]) -> Callable[[Any, Any], object]:
    """Return a listener that passes only requests with the password to ``listener``."""

    def check(request: Any, response: Any) -> object:
        if knows_password(request):
            return listener(request, response)
        response.write_head(401, {'WWW-Authenticate': 'Basic realm="operators"', 'Cache-Control': 'no-store'})
        response.end('This page needs the password of operators.\n')
        return None

    return check


metrics = Metrics()
# every client, because private() has checked it; by default, clients on the same machine only
monitor = Monitor(clients=['0.0.0.0/0', '::/0', 'unix'])
routes = {'/metrics': private(metrics), '/monitor': private(monitor)}
site = wsgi(app)


def listener(request: Any, response: Any) -> None:
    """Pass the request to one of the operators' pages, or to Flask."""
    routes.get(request.url.partition('?')[0], site)(request, response)


server = http.create_server(http.readiness(listener))
metrics.watch_server(server)
