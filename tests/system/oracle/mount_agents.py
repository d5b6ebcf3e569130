"""A plugin of pytest that lets every new ``requests.Session`` use agents.

It also gives the tests an address on this machine that never responds. And it gives their servers more time
to wait, as half a second is too short on a busy machine, and the test then never ends. A server that sleeps for ten
seconds serves other requests meanwhile, and the end of a server's context ends its waits.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from functools import partial
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIServer

import pytest
import requests

from geventnode.integrations.requests import AgentAdapter

__all__ = [
    'ThreadingServer',
    'accept_connection',
    'consume_socket_content',
    'is_complete',
    'make_with_agents',
    'pytest_configure',
    'short_way_to_nowhere',
    'tarpit',
]

#: Seconds that the tests' servers wait for input, enough for a busy machine.
PATIENCE = 60

make_session = requests.Session.__init__


def make_with_agents(self: Any) -> None:
    """Replace ``requests.Session.__init__``, with other adapters."""
    make_session(self)
    self.mount('https://', AgentAdapter())
    self.mount('http://', AgentAdapter())


def consume_socket_content(sock: socket.socket, timeout: float = 0.5) -> bytes:
    """Return the next request of a client, or its input until it is silent.

    A request ends by its framing. Other input ends when the client sends nothing for ``timeout`` seconds, or does not
    begin for ten times as long.
    """
    content = b''
    while not is_complete(content):
        # TLS has decrypted these bytes; the socket has no others.
        pending = hasattr(sock, 'pending') and sock.pending()
        if not pending and not select.select([sock], [], [], timeout if content else 10 * timeout)[0]:
            break
        received = sock.recv(65536)
        if not received:
            break
        content += received
    return content


def is_complete(content: bytes) -> bool:
    """Return whether ``content`` is a request with its body, as clients of these tests send it."""
    head, end, body = content.partition(b'\r\n\r\n')
    if not end:
        return False
    fields = dict(line.lower().split(b': ', 1) for line in head.split(b'\r\n')[1:])
    if fields.get(b'transfer-encoding') == b'chunked':
        return body.endswith(b'0\r\n\r\n')
    return len(body) >= int(fields.get(b'content-length', 0))


def accept_connection(self: Any) -> Any:
    """Replace the method of the tests' ``Server``: return the next client, None without one."""
    for _ in range(PATIENCE):
        try:
            if select.select([self.server_sock], [], [], 1)[0]:
                return self.server_sock.accept()[0]
        except OSError:
            return None
        if getattr(self, 'is_left', False):
            return None
    return None


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """Serve each request of a test in its own thread."""

    daemon_threads = True


def pytest_configure() -> None:
    """Prepare the tests before pytest imports them."""
    requests.Session.__init__ = make_with_agents
    from pytest_httpbin import serve

    serve.make_server = partial(serve.make_server, server_class=ThreadingServer)
    from tests.testserver import server

    server.consume_socket_content = consume_socket_content
    leave = server.Server.__exit__

    def leave_at_once(self: Any, *error: Any) -> Any:
        self.is_left = True
        if self.wait_to_close_event:
            self.wait_to_close_event.set()
        return leave(self, *error)

    server.Server.WAIT_EVENT_TIMEOUT = PATIENCE
    server.Server._accept_connection = accept_connection
    server.Server.__exit__ = leave_at_once


@pytest.fixture(scope='session')
def tarpit() -> Iterator[str]:
    """The URL of a listening socket that never accepts: its queue is full."""
    with socket.socket() as listener, socket.socket() as queued:
        listener.bind(('127.0.0.1', 0))
        listener.listen(0)
        queued.connect(listener.getsockname())
        yield f'http://127.0.0.1:{listener.getsockname()[1]}'


@pytest.fixture(autouse=True)
def short_way_to_nowhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tarpit: str) -> None:
    """Let the tests use :func:`tarpit`."""
    if hasattr(request.module, 'TARPIT'):
        monkeypatch.setattr(request.module, 'TARPIT', tarpit)
