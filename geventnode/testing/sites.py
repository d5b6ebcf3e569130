"""Sites: a server for the time of a test, and connections to it, through the kernel or in memory.

Whatever a test hands in is made a server by the same rules as on the command line. When the block ends, every
connection is closed and the server stopped, whatever state they are in.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from geventnode import http, https, net
from geventnode.integrations.wsgi import is_wsgi, wsgi
from geventnode.testing.memory import CAPACITY, CLIENT, memory_client, memory_connection
from geventnode.testing.raw import TIMEOUT, RawConnection, RawResponse
from geventnode.tls.contexts import SERVER_OPTIONS
from geventnode.tls.server import TLSAcceptor

__all__ = ['ListeningSite', 'MemorySite', 'Site', 'server_of', 'serving', 'serving_in_memory']


def server_of(target: Any, options: Mapping[str, Any]) -> net.Server:
    """Return a server for ``target``: itself, or one with ``options`` that calls it. Raises
    ``TypeError``, ``InvalidInput``."""
    if isinstance(target, net.Server):
        if options:
            raise TypeError(f'{type(target).__name__} has settings of its own: leave out {", ".join(sorted(options))}')
        return target
    create: Callable[..., net.Server] = https.create_server if SERVER_OPTIONS & options.keys() else http.create_server
    return create(wsgi(target) if is_wsgi(target) else target, **options)


class Site(ABC):
    """A server and the connections to it."""

    def __init__(self, server: net.Server) -> None:
        #: What serves.
        self.server = server
        self._connections: list[RawConnection] = []

    def _connected(self, connection: RawConnection) -> RawConnection:
        self._connections.append(connection)
        return connection

    @abstractmethod
    def connect(self, *, timeout: float | None = TIMEOUT) -> RawConnection:
        """Return a new connection. May switch. Raises ``OSError``.

        :param timeout: seconds after which its waits end with ``TimeoutError``; None: never.
        """

    def send(self, *pieces: bytes) -> RawConnection:
        """Send ``pieces`` on a connection of their own, each in a call of its own, and return it. May switch. Raises
        ``OSError``."""
        return self.connect().send(*pieces)

    def get(self, target: str = '/', *fields: str) -> RawResponse:
        """Send a GET with these ``fields``, each ``'Name: value'``, on a connection of its own, and return the
        response. May switch. Raises ``OSError``, ``EOFError``, ``TimeoutError``."""
        with self.connect() as connection:
            return connection.get(target, *fields)

    def close(self) -> None:
        """Close all connections, and stop the server. May switch."""
        for connection in self._connections:
            connection.close()
        self.server.stop(0)
        if isinstance(self.server, http.Server):
            # those of a server that never listened
            self.server.close_all_connections()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} of {self.server!r}>'


class ListeningSite(Site):
    """A server that listens, on a port that the kernel has chosen unless it was listening already."""

    def __init__(self, server: net.Server) -> None:
        super().__init__(server)
        if not server.listening:
            server.listen(0, '127.0.0.1')
        #: What to connect to: a host and a port, or the path of a Unix socket.
        self.where = _reachable(server.address())

    @property
    def host(self) -> str:
        """The IP address that the server is reached at. Raises ``TypeError`` for a Unix socket, which has none."""
        return self._tcp()[0]

    @property
    def port(self) -> int:
        """The port that it listens on. Raises ``TypeError`` for a Unix socket, which has none."""
        return self._tcp()[1]

    @property
    def url(self) -> str:
        """The beginning of its URLs, without a slash at the end. Raises ``TypeError`` for a Unix socket."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'{"https" if isinstance(self.server, TLSAcceptor) else "http"}://{host}:{self.port}'

    def _tcp(self) -> tuple[str, int]:
        if isinstance(self.where, str):
            raise TypeError(f'the server listens on a Unix socket, {self.where!r}: connect to site.where')
        return self.where

    def connect(self, *, timeout: float | None = TIMEOUT) -> RawConnection:
        return self._connected(RawConnection.connect(self.where, timeout))


class MemorySite(Site):
    """A server that is handed its connections in memory."""

    def connect(
        self, *, timeout: float | None = TIMEOUT, peer: Any = CLIENT, capacity: int = CAPACITY
    ) -> RawConnection:
        """As :meth:`Site.connect`.

        :param peer: who the client is: address and port.
        :param capacity: bytes that are on their way at most, in each direction.
        """
        end = memory_connection(self.server, peer=peer, capacity=capacity)
        return self._connected(RawConnection(end, timeout))

    def create_connection(self, options: Mapping[str, Any]) -> net.Socket:
        """Return the client's end of a new connection as a socket of ours: for the option ``create_connection`` of
        :func:`geventnode.http.request`."""
        return memory_client(self.server)


def _reachable(address: Any) -> tuple[str, int] | str:
    """Return where a server is reached that listens on ``address``, which may be all addresses of the machine."""
    if isinstance(address, str):
        return address
    host: str = address['address']
    return {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host), address['port']


@contextlib.contextmanager
def serving(target: Any, **options: Any) -> Iterator[ListeningSite]:
    """Serve ``target`` on a free port of 127.0.0.1 for the time of a ``with`` block. May switch.

    :param target: a request listener, a WSGI application, or a server, which may be listening already.
    :param options: those of :func:`geventnode.http.create_server`, or of :func:`geventnode.https.create_server` when
        one of TLS is among them; none with a server.

    Raises ``TypeError``, ``InvalidInput``, ``OSError``.
    """
    server = server_of(target, options)
    site = ListeningSite(server)
    try:
        yield site
    finally:
        site.close()


@contextlib.contextmanager
def serving_in_memory(target: Any, **options: Any) -> Iterator[MemorySite]:
    """Serve ``target`` in memory for the time of a ``with`` block: no port, no descriptors. Never switches, but to
    close.

    :param target: a request listener, a WSGI application, or a server.
    :param options: as for :func:`serving`.

    Raises ``TypeError``, ``InvalidInput``.
    """
    site = MemorySite(server_of(target, options))
    try:
        yield site
    finally:
        site.close()
