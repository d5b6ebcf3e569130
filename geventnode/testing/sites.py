"""Sites: a server that lives as long as a ``with`` block, and connections to it.

The target of a site becomes a server by the rules of the command line. When the block ends, every connection is closed
and the server stopped, even if a handler is still at work.
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
from geventnode.tls.server import TLSServerMixin

__all__ = ['ListeningSite', 'MemorySite', 'Site', 'server_of', 'serving', 'serving_in_memory']


def server_of(target: Any, options: Mapping[str, Any]) -> net.Server:
    """Return ``target`` itself, or a server with ``options`` that calls it.

    Raises ``TypeError`` for options of a server that exists, and ``InvalidInput``.
    """
    if isinstance(target, net.Server):
        if options:
            names = ', '.join(sorted(options))
            raise TypeError(f'{type(target).__name__} has its own settings; remove {names}')
        return target
    create: Callable[..., net.Server] = https.create_server if SERVER_OPTIONS & options.keys() else http.create_server
    return create(wsgi(target) if is_wsgi(target) else target, **options)


class Site(ABC):
    """A server and the connections to it."""

    def __init__(self, server: net.Server) -> None:
        #: The server.
        self.server = server
        self._connections: list[RawConnection] = []

    def _track(self, connection: RawConnection) -> RawConnection:
        self._connections.append(connection)
        return connection

    @abstractmethod
    def connect(self, *, timeout: float | None = TIMEOUT) -> RawConnection:
        """Return a new connection to the server, closed with the site.

        Blocks until it is established. Raises ``OSError``.

        :param timeout: seconds after which each wait of the connection raises ``TimeoutError``; None: never.
        """

    def send(self, *pieces: bytes) -> RawConnection:
        """Open a connection, send the pieces, and return the connection.

        Each piece is sent in its own call. Blocks until all of them are sent. Raises ``OSError``.
        """
        return self.connect().send(*pieces)

    def get(self, target: str = '/', *fields: str) -> RawResponse:
        """Send a GET request on a new connection, and return the response.

        Blocks until the response has arrived. Raises ``OSError``, ``EOFError`` if the server closes earlier, and
        ``TimeoutError``.

        :param target: the request target (RFC 9112, section 3.2).
        :param fields: header fields after ``Host``, each ``'Name: value'``.
        """
        with self.connect() as connection:
            return connection.get(target, *fields)

    def close(self) -> None:
        """Close all connections, and stop the server.

        Blocks until the server has stopped. The end of the ``with`` block calls this.
        """
        for connection in self._connections:
            connection.close()
        self.server.stop(0)
        if isinstance(self.server, http.Server):
            # stop() leaves the connections of a server that never listened
            self.server.close_all_connections()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} of {self.server!r}>'


class ListeningSite(Site):
    """A server that listens: on its own address if it did before, otherwise on a free port of 127.0.0.1."""

    def __init__(self, server: net.Server) -> None:
        super().__init__(server)
        if not server.listening:
            server.listen(0, '127.0.0.1')
        #: The address to connect to: a pair of host and port, or the path of a Unix socket.
        self.where = _reachable(server.address())

    @property
    def host(self) -> str:
        """The IP address of the server. Raises ``TypeError`` for a Unix socket."""
        return self._tcp()[0]

    @property
    def port(self) -> int:
        """The port of the server. Raises ``TypeError`` for a Unix socket."""
        return self._tcp()[1]

    @property
    def url(self) -> str:
        """The origin of the server's URLs, without a trailing slash. Raises ``TypeError`` for a Unix socket."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'{"https" if isinstance(self.server, TLSServerMixin) else "http"}://{host}:{self.port}'

    def _tcp(self) -> tuple[str, int]:
        if isinstance(self.where, str):
            raise TypeError(f'the server listens on the Unix socket {self.where!r}, which has no port; use site.where')
        return self.where

    def connect(self, *, timeout: float | None = TIMEOUT) -> RawConnection:
        return self._track(RawConnection.connect(self.where, timeout))


class MemorySite(Site):
    """A server with connections in memory: it has no port and opens no descriptor."""

    def __init__(self, server: net.Server) -> None:
        super().__init__(server)
        if isinstance(server, http.Server) and not server.listening:
            # as listen() does: another site can have stopped it
            server.draining = False

    def connect(
        self, *, timeout: float | None = TIMEOUT, peer: Any = CLIENT, capacity: int = CAPACITY
    ) -> RawConnection:
        """Return a new connection to the server, closed with the site.

        :param timeout: seconds after which each wait of the connection raises ``TimeoutError``; None: never.
        :param peer: the client's address, as ``(host, port)``.
        :param capacity: the most bytes on their way, in each direction.

        Raises ``ValueError`` for a capacity below 1.
        """
        end = memory_connection(self.server, peer=peer, capacity=capacity)
        return self._track(RawConnection(end, timeout))

    def create_connection(self, options: Mapping[str, Any]) -> net.Socket:
        """Return the client's end of a new connection, for requests.

        Pass this method as the option ``create_connection`` of :func:`geventnode.http.request`.

        :param options: the options of the request, which are ignored.
        """
        return memory_client(self.server)


def _reachable(address: Any) -> tuple[str, int] | str:
    """Return the address to connect to, which is never a wildcard."""
    if isinstance(address, str):
        return address
    host: str = address['address']
    return {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host), address['port']


@contextlib.contextmanager
def serving(target: Any, **options: Any) -> Iterator[ListeningSite]:
    """Serve ``target`` on a free port of 127.0.0.1.

    The server is stopped at the end of the ``with`` block, which blocks until then.

    :param target: a request listener, a WSGI application, or a server; a server can be listening already.
    :param options: the options of :func:`geventnode.http.create_server`. With one of TLS among them, those of
        :func:`geventnode.https.create_server`. None of either with a server.

    Raises ``TypeError`` for options with a server, ``InvalidInput``, and ``OSError`` if listening fails.
    """
    server = server_of(target, options)
    site = ListeningSite(server)
    try:
        yield site
    finally:
        site.close()


@contextlib.contextmanager
def serving_in_memory(target: Any, **options: Any) -> Iterator[MemorySite]:
    """Serve ``target`` in memory, without port and descriptors.

    The server is stopped at the end of the ``with`` block, which blocks until then.

    :param target: a request listener, a WSGI application, or a server.
    :param options: as for :func:`serving`.

    Raises ``TypeError`` for options with a server, and ``InvalidInput``.
    """
    site = MemorySite(server_of(target, options))
    try:
        yield site
    finally:
        site.close()
