"""An HTTP server in this process, and a client that knows nothing but bytes.

The client is the raw one of the testing kit, which shares no code with what is tested, so that it cannot share its
mistakes. Every wait has a limit, which is a guard against hangs and no assertion.
"""

from __future__ import annotations

import contextlib
import socket as stdlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gevent import socket
from gevent.event import Event

from geventnode import http
from geventnode.testing import RawConnection
from geventnode.testing import RawResponse as Response
from geventnode.testing import raw_request as get

__all__ = ['Answer', 'Client', 'Log', 'Response', 'Serve', 'Site', 'answer', 'bodies', 'get', 'ok', 'post', 'serve']

#: Seconds after which a client that waits gives up: the test then fails.
GUARD = 60.0


class Client(RawConnection):
    """One connection to a server."""

    def __init__(self, where: Any, receive_buffer: int | None = None) -> None:
        endpoint = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        if receive_buffer is not None:
            endpoint.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_RCVBUF, receive_buffer)
        endpoint.settimeout(GUARD)
        try:
            endpoint.connect(where)
        except OSError:
            endpoint.close()
            raise
        super().__init__(endpoint, GUARD)


class Site:
    """A server that listens, and its clients."""

    def __init__(self, server: http.Server) -> None:
        self.server = server
        self._clients: list[Client] = []

    @property
    def where(self) -> Any:
        """What to connect to."""
        address = self.server.address()
        return address if isinstance(address, str) else ('127.0.0.1', address['port'])

    def connect(self, receive_buffer: int | None = None) -> Client:
        """Return a new connection."""
        client = Client(self.where, receive_buffer)
        self._clients.append(client)
        return client

    def get(self, url: str = '/', *fields: str) -> Response:
        """Make one request on a connection of its own."""
        with contextlib.closing(self.connect()) as client:
            return client.get(url, *fields)

    def send(self, *pieces: bytes) -> Client:
        """Send ``pieces`` on a connection of their own, and return it."""
        return self.connect().send(*pieces)

    def alive(self) -> bool:
        """Whether the server accepts and closes as it should."""
        return self.server.listening

    def stop(self) -> None:
        """Close everything."""
        for client in self._clients:
            client.close()
        if self.server.listening:
            self.server.stop(0)
        else:
            self.server.close_all_connections()


Serve = Callable[..., Site]
Answer = Callable[..., Response]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers: ``serve(listener, **options)`` returns a :class:`Site`."""
    sites = []

    def start(listener: Any = None, **options: Any) -> Site:
        server = listener if isinstance(listener, http.Server) else http.create_server(listener, **options)
        if not server.listening:
            server.listen(0, '127.0.0.1')
        sites.append(Site(server))
        return sites[-1]

    yield start
    for site in sites:
        site.stop()


@pytest.fixture
def answer(serve: Serve) -> Answer:
    """What a GET gets from a listener: ``answer(listener, *fields, version='1.1', method='GET')``."""

    def ask(listener: Any, *fields: str, version: str = '1.1', method: str = 'GET') -> Response:
        client = serve(listener).send(get('/', *fields, version=version, method=method))
        return client.response(method)

    return ask


def bodies(client: Client, count: int) -> list[bytes]:
    """Return the bodies of the next ``count`` responses."""
    return [client.response().body for _ in range(count)]


class Log(list[Any]):
    """What happened, in order; others can wait for it."""

    def __init__(self) -> None:
        super().__init__()
        # one for each who waits: one for all could be cleared by the first before the others have noticed
        self._waiting: list[Event] = []

    def append(self, what: Any) -> None:
        """Note ``what``."""
        super().append(what)
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    def note(self, what: Any) -> Callable[..., None]:
        """Return a listener that notes ``what``, whatever it is called with."""

        def listener(*args: Any) -> None:
            self.append(what)

        return listener

    def wait_for(self, what: Any) -> None:
        """Return when ``what`` was noted; the guard against hangs raises if it never is."""
        while what not in self:
            self._wait()

    def wait_for_length(self, length: int) -> None:
        """Return when so many things were noted."""
        while len(self) < length:
            self._wait()

    def _wait(self) -> None:
        event = Event()
        self._waiting.append(event)
        event.wait()


def post(body: bytes, url: str = '/', *fields: str, length: int | None = None, version: str = '1.1') -> bytes:
    """Return a request with a body; ``length`` if it declares another one than it has."""
    declared = len(body) if length is None else length
    return get(url, f'Content-Length: {declared}', *fields, version=version, method='POST') + body


def ok(request: Any, response: Any) -> None:
    """A listener that says where it was."""
    response.end(f'{request.method} {request.url}')
