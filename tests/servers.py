"""Run HTTP servers in this process, with a client that sends and receives bytes.

The client is the raw one of the testing kit. It shares no code with the server, and so no mistakes. The limit of
every wait guards against hangs; it is not an assertion.
"""

from __future__ import annotations

import contextlib
import socket as stdlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from geventnode import http
from geventnode.testing import ListeningSite, RawConnection
from geventnode.testing import RawResponse as Response
from geventnode.testing import raw_request as get

__all__ = [
    'Answer',
    'Client',
    'Log',
    'Response',
    'Serve',
    'Site',
    'answer',
    'bodies',
    'get',
    'ok',
    'post',
    'repeating',
    'serve',
]

#: Seconds after which a waiting client fails its test.
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


class Site(ListeningSite):
    """A listening server of a test, which can connect clients with small receive buffers."""

    def connect(self, receive_buffer: int | None = None) -> Client:
        """Open a connection."""
        client = Client(self.where, receive_buffer)
        self._track(client)
        return client

    def alive(self) -> bool:
        """Return whether the server listens."""
        return self.server.listening


Serve = Callable[..., Site]
Answer = Callable[..., Response]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers: ``serve(listener, **options)`` returns a :class:`Site`."""
    sites = []

    def start(listener: Any = None, **options: Any) -> Site:
        server = listener if isinstance(listener, http.Server) else http.create_server(listener, **options)
        sites.append(Site(server))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture
def answer(serve: Serve) -> Answer:
    """Return the response of a listener: ``answer(listener, *fields, version='1.1', method='GET')``."""

    def ask(listener: Any, *fields: str, version: str = '1.1', method: str = 'GET') -> Response:
        client = serve(listener).send(get('/', *fields, version=version, method=method))
        return client.response(method)

    return ask


def bodies(client: Client, count: int) -> list[bytes]:
    """Return the bodies of the next ``count`` responses."""
    return [client.response().body for _ in range(count)]


class Log(list[Any]):
    """A list of events in order; greenlets can wait for entries."""

    def __init__(self) -> None:
        super().__init__()
        # one for each waiter: the first waiter could clear a shared one before the others have seen it
        self._waiting: list[Event] = []

    def append(self, entry: Any) -> None:
        """Add ``entry``, and wake the waiters."""
        super().append(entry)
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    def note(self, entry: Any) -> Callable[..., None]:
        """Return a listener that adds ``entry`` and ignores its arguments."""

        def listener(*args: Any) -> None:
            self.append(entry)

        return listener

    def wait_for(self, entry: Any) -> None:
        """Block until the log contains ``entry``; the guard against hangs ends a wait without end."""
        while entry not in self:
            self._wait()

    def wait_for_length(self, length: int) -> None:
        """Block until the log has ``length`` entries."""
        while len(self) < length:
            self._wait()

    def _wait(self) -> None:
        event = Event()
        self._waiting.append(event)
        event.wait()


@contextlib.contextmanager
def repeating(send: Callable[[], object], pause: float = 0.05) -> Iterator[None]:
    """Call ``send`` every ``pause`` seconds while the block runs, until the server closes the connection."""

    def repeat() -> None:
        with contextlib.suppress(OSError):
            while True:
                send()
                gevent.sleep(pause)

    sender = gevent.spawn(repeat)
    try:
        yield
    finally:
        sender.kill()


def post(body: bytes, url: str = '/', *fields: str, length: int | None = None, version: str = '1.1') -> bytes:
    """Return a request with a body; ``length`` overrides its declared length."""
    declared = len(body) if length is None else length
    return get(url, f'Content-Length: {declared}', *fields, version=version, method='POST') + body


def ok(request: Any, response: Any) -> None:
    """Respond with the method and the URL of the request."""
    response.end(f'{request.method} {request.url}')
