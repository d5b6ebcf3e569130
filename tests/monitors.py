"""Sites with a monitor, and clients for it."""

from __future__ import annotations

import json
import re
from typing import Any

from geventnode import http
from geventnode.monitor import Monitor
from tests.servers import Client, Response, Site, ok

__all__ = ['answer', 'ask', 'event', 'monitored', 'state', 'watch']


def ask(client: Client, url: str = '/', *fields: str, host: str = 'localhost', method: str = 'GET') -> Client:
    """Send a request for ``host``, and return the client."""
    lines = [f'{method} {url} HTTP/1.1', f'Host: {host}', *fields]
    return client.send(('\r\n'.join(lines) + '\r\n\r\n').encode('latin-1'))


def answer(site: Site, url: str = '/', *fields: str, host: str = 'localhost', method: str = 'GET') -> Response:
    """Return the response to a request on a new connection."""
    return ask(site.connect(), url, *fields, host=host, method=method).response(method)


def state(site: Site) -> Any:
    """Return the state from the monitor at its default path."""
    reply = answer(site, '/monitor?state')
    assert (reply.status, reply.values('Content-Type')) == (200, ['application/json'])
    return json.loads(reply.body)


def watch(site: Site) -> Client:
    """Return a client that reads a stream."""
    client = ask(site.connect(), '/monitor?stream')
    head = client.head()
    assert (head.status, head.values('Content-Type')) == (200, ['text/event-stream; charset=utf-8'])
    return client


def _chunk(client: Client) -> bytes:
    data = client.exactly(int(client.until(b'\r\n'), 16))
    assert client.exactly(2) == b'\r\n'
    return data


def event(client: Client) -> Any:
    """Return the next event of a stream."""
    found = re.fullmatch(rb'data: (.+)\n\n', _chunk(client))
    return json.loads(found[1])


def monitored(listener: Any = ok, path: str = '/monitor', **options: Any) -> http.Server:
    """Return a server with a monitor and ``listener``."""
    server = http.create_server(listener)
    Monitor(**options).mount(server, path)
    return server
