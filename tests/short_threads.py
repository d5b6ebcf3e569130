"""A program with short-lived threads, under a limit of descriptors.

    python -m tests.short_threads WHAT LIMIT COUNT

It is Python's ``ThreadingHTTPServer``: a thread for each connection, which gets its response from another server.
``WHAT`` names the way, or the object that a thread leaves open. The program exits with 0 when ``COUNT`` requests were
answered, and as many descriptors are open as before.
"""

from __future__ import annotations

import http.client
import os
import resource
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gevent
import requests

import geventnode.http
import geventnode.net
from geventnode.integrations.requests import AgentAdapter

__all__ = ['WAYS', 'main']

#: The requests after which the number of open descriptors no longer grows.
WARM_UP = 5

session = requests.Session()
session.mount('http://', AgentAdapter())


def _get(url: str) -> bytes:
    return geventnode.http.get(url).get_response().read()  # type: ignore[no-any-return]


def _get_kept(url: str) -> bytes:
    agent = geventnode.http.Agent(keep_alive=True)
    return geventnode.http.get(url, agent=agent).get_response().read()  # type: ignore[no-any-return]


def _session(url: str) -> bytes:
    return session.get(url).content


def _stream(url: str) -> bytes:
    """Leave a response unread."""
    return next(session.get(url, stream=True).iter_content(5))


def _socket(url: str) -> bytes:
    """Leave a socket open."""
    geventnode.net.connect(int(url.rpartition(':')[2]), '127.0.0.1').wait_connected()
    return b'hello'


def _server(url: str) -> bytes:
    """Leave a server listening."""
    geventnode.http.create_server(print).listen(0, '127.0.0.1')
    return b'hello'


def _hub_destroyed(url: str) -> bytes:
    """Destroy the hub, as gevent requires it, and leave the other objects."""
    found = _session(url)
    gevent.get_hub().destroy(destroy_loop=True)
    return found


WAYS: dict[str, Callable[[str], bytes]] = {
    'get': _get,
    'kept': _get_kept,
    'session': _session,
    'stream': _stream,
    'socket': _socket,
    'server': _server,
    'hub-destroyed': _hub_destroyed,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    ask: Callable[[str], bytes] = staticmethod(lambda url: b'hello')
    origin = ''

    def do_GET(self) -> None:
        body = self.ask(self.origin)
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    failed = False

    def handle_error(self, request: object, client_address: object) -> None:
        super().handle_error(request, client_address)  # type: ignore[arg-type]
        self.failed = True


def _serve(handler: type[_Handler]) -> _Server:
    server = _Server(('127.0.0.1', 0), handler)
    # the end of a server waits for its next poll
    threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()
    return server


def _descriptors() -> int:
    """Return the number of open descriptors."""
    return len(os.listdir('/proc/self/fd'))


def main(what: str, limit: str, count: str) -> None:
    """Answer requests by threads that end."""
    resource.setrlimit(resource.RLIMIT_NOFILE, 2 * (int(limit),))
    origin = _serve(_Handler)
    front = _serve(
        type(
            'Front', (_Handler,), {'ask': staticmethod(WAYS[what]), 'origin': f'http://127.0.0.1:{origin.server_port}'}
        )
    )
    before = 0
    for number in range(int(count)):
        if number <= WARM_UP:
            before = max(before, _descriptors())
        connection = http.client.HTTPConnection('127.0.0.1', front.server_port, timeout=30)
        connection.request('GET', '/', headers={'Connection': 'close'})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'hello')
        connection.close()
    assert not front.failed
    for server in (front, origin):
        server.shutdown()
        # waits for its threads
        server.server_close()
    assert _descriptors() <= before, (_descriptors(), before)


if __name__ == '__main__':
    main(*sys.argv[1:])
