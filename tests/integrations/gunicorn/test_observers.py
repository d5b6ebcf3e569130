"""The observer of the gunicorn worker: its memory of the exchanges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gevent.event import Event

from geventnode import http
from geventnode.integrations.gunicorn.observers import GunicornObserver
from geventnode.integrations.wsgi import wsgi
from tests.servers import Log, Serve, get


def test_environ_of_a_lost_client_is_forgotten(serve: Serve) -> None:
    """Also if its client has disconnected before the application is called."""
    log, go_on = Log(), Event()

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        log.append('called')
        return []

    def pre_request(request: Any) -> None:
        log.append('hook')
        go_on.wait()

    observer = GunicornObserver(lambda response: None, pre_request, None, lambda *args: log.append('ended'))
    site = serve(wsgi(observer.record_environs(application)))
    observer.add_pre_request(site.server)
    http.observe_exchanges(site.server, observer)
    client = site.connect().send(get())
    log.wait_for('hook')
    client.abort()
    log.wait_for('ended')
    go_on.set()
    log.wait_for('called')
    assert not observer._environs
