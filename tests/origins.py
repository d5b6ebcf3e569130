"""Servers for the tests of the client: a script sends exact bytes, and reads requests in a simple way."""

from __future__ import annotations

import contextlib
import socket as stdlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gevent
import pytest
from gevent import socket

from geventnode import http
from geventnode.testing import RawConnection
from tests.servers import GUARD, Log

__all__ = [
    'EVENTS',
    'HELLO',
    'MakeOrigin',
    'Origin',
    'Peer',
    'Received',
    'Recorder',
    'agent',
    'hello',
    'noted',
    'once',
    'origin',
    'read',
    'recorder',
    'silent',
]

HELLO = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'


class Received(NamedTuple):
    """A request as it was received."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def value(self, name: str) -> str | None:
        """Return the value of the only field of that name, None if there is none."""
        values = [value for field, value in self.headers if field.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None


class Peer(RawConnection):
    """One accepted connection."""

    def __init__(self, accepted: Any) -> None:
        super().__init__(accepted, GUARD)

    def request(self) -> Received:
        """Return the next request with its body. Raises ``EOFError`` at the end."""
        line, *lines = self.until(b'\r\n\r\n').decode('latin-1')[:-4].split('\r\n')
        headers = [(name, value.strip(' ')) for name, _, value in (each.partition(':') for each in lines)]
        received = Received(line, headers, b'')
        if received.value('Transfer-Encoding'):
            return received._replace(body=self._chunks()[0])
        return received._replace(body=self.exactly(int(received.value('Content-Length') or 0)))

    def closed(self) -> bool:
        """Wait for the end of the client; return whether no data arrived before it."""
        return not self.rest()


class Origin:
    """Accept connections, and run the script on each in a greenlet."""

    def __init__(self, script: Callable[[Peer], object], path: str | None = None, host: str = '127.0.0.1') -> None:
        self._listener = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        self._listener.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_REUSEADDR, 1)
        self._listener.bind((host, 0) if path is None else path)
        self._listener.listen(128)
        self._script = script
        self._greenlets: list[gevent.Greenlet] = []
        self._peers: list[Peer] = []
        self.port = 0 if path is not None else self._listener.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}'
        #: The number of accepted connections.
        self.accepted = 0
        self._acceptor = gevent.spawn(self._accept)

    def _accept(self) -> None:
        while True:
            accepted, _ = self._listener.accept()
            self.accepted += 1
            peer = Peer(accepted)
            self._peers.append(peer)
            self._greenlets.append(gevent.spawn(self._run, peer))

    def _run(self, peer: Peer) -> None:
        try:
            self._script(peer)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
        finally:
            peer.close()

    def stop(self) -> None:
        """Close every connection, and raise the error of a script."""
        self._acceptor.kill()
        self._listener.close()
        for peer in self._peers:
            peer.close()
        gevent.killall(self._greenlets)
        for greenlet in self._greenlets:
            if greenlet.exception is not None and not isinstance(greenlet.exception, OSError):
                raise greenlet.exception


def hello(peer: Peer) -> None:
    """Respond to every request."""
    while True:
        peer.request()
        peer.send(HELLO)


MakeOrigin = Callable[..., Origin]


@pytest.fixture
def origin() -> Iterator[MakeOrigin]:
    """Start servers: ``origin(script)``; bytes instead of a script are the response to every request."""
    origins = []

    def start(script: Any = hello, path: str | None = None) -> Origin:
        if isinstance(script, bytes):
            said = script

            def script(peer: Peer) -> None:
                while True:
                    peer.request()
                    peer.send(said)

        origins.append(Origin(script, path))
        return origins[-1]

    with contextlib.ExitStack() as stack:
        yield start
        for each in origins:
            stack.callback(each.stop)


@pytest.fixture
def agent() -> Iterator[Callable[..., http.Agent]]:
    """Make agents that are destroyed at the end of the test: ``agent(**options)``."""
    agents = []

    def make(**options: Any) -> http.Agent:
        agents.append(http.Agent(**options))
        return agents[-1]

    yield make
    for each in agents:
        each.destroy()


class Recorder:
    """An origin that records requests, and responds to each."""

    def __init__(self, origin: MakeOrigin) -> None:
        self.requests: list[Received] = []
        self.raw = b''
        self.origin: Origin = origin(self._script)

    def _script(self, peer: Peer) -> None:
        while True:
            self.requests.append(peer.request())
            peer.send(HELLO)

    def options(self, **options: Any) -> dict[str, Any]:
        """Return options for a request to the origin."""
        return {'port': self.origin.port, 'host': '127.0.0.1', **options}

    def sent(self, **options: Any) -> Received:
        """Return the received request for one with ``options``, ended without a body unless they have one."""
        request = http.request(**self.options(**options))
        if 'body' not in options:
            request.end()
        assert request.get_response().read() == b'hello'
        return self.requests[-1]


@pytest.fixture
def recorder(origin: MakeOrigin) -> Recorder:
    """Return an origin that records requests."""
    return Recorder(origin)


def silent(peer: Peer) -> None:
    """Read, and never respond."""
    peer.request()
    peer.closed()


def once(said: bytes, then: str = 'close') -> Callable[[Peer], None]:
    """Return a script that responds once with ``said``, and then closes, resets or waits."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(said)
        if then == 'reset':
            peer.abort()
        elif then == 'wait':
            peer.closed()

    return script


#: The events of a request.
EVENTS = ('socket', 'finish', 'continue', 'information', 'response', 'error', 'close', 'timeout')


def noted(request: http.ClientRequest) -> Log:
    """Return a log of the events of ``request``."""
    log = Log()
    for event in EVENTS:
        request.on(event, log.note(event))
    return log


def read(url: str, **options: Any) -> bytes:
    """Return the body of a GET."""
    body: bytes = http.get(url, **options).get_response().read()
    return body
