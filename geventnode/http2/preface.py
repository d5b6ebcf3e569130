"""Find the version of HTTP by the first bytes of a connection.

On a port without TLS, a client that knows that the server speaks HTTP/2 begins with the preface (RFC 9113,
section 3.3). No request of HTTP/1.1 begins with it. A connection of HTTP/1.1 is the same as on a server without HTTP/2
after its first bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from geventnode.http.server.served import Exchange, ServedConnection
from geventnode.http2.connection import Connection
from geventnode.http2.engine import PREFACE
from geventnode.http2.trace import TracedConnection
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.server import DRAIN_TIME

if TYPE_CHECKING:
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['PrefaceReader', 'accept', 'trace']

#: The bytes that are compared; a method of HTTP/1.1 cannot contain them.
FIRST_BYTES = PREFACE[:18]


def accept(server: Server, socket: Socket) -> None:
    """Begin to serve a new connection.

    A TLS client has chosen the version by ALPN (RFC 7301).
    """
    if not socket.encrypted:
        PrefaceReader(server, socket)
    elif getattr(socket, 'alpn_protocol', None) == 'h2':
        _http2_class(server)(server, socket)
    else:
        server._connection_class(server, socket)


def _http2_class(server: Server) -> type[Connection]:
    return TracedConnection if server.debug_connections else Connection


def trace(connection: ServedConnection, enabled: bool) -> None:
    """Begin or end tracing an open connection of HTTP/2."""
    if isinstance(connection, Connection):
        # both classes have the same slots
        connection.__class__ = TracedConnection if enabled else Connection


class PrefaceReader(ServedConnection):
    """The protocol of a socket until its first bytes have arrived."""

    __slots__ = ('_received', 'server')

    def __init__(self, server: Server, socket: Socket) -> None:
        self.server = server
        self.socket = socket
        self.served = 0
        self.began = socket._last_activity
        self._received = b''
        self._expires = self.began + (server.headers_timeout or NEVER)
        deadlines(server._hub).watch(self)
        socket._set_protocol(self)
        if server.draining:
            self.begin_draining()

    # -- input, as a geventnode.net.socket.Protocol: run by the hub -----------------------------------------------

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        if received.startswith(FIRST_BYTES):
            self._hand_over(_http2_class(self.server))
        elif not FIRST_BYTES.startswith(received):
            self._hand_over(self.server._connection_class)

    def eof_received(self) -> None:
        self._hand_over(self.server._connection_class)

    def _hand_over(self, kind: Any) -> None:
        """Replace this protocol, and pass on the received bytes."""
        deadlines(self.server._hub).forget(self)
        self.socket._restore_input(self._received)
        kind(self.server, self.socket)

    def queue_drained(self) -> None:
        """Do nothing: nothing was sent."""

    def send_failed(self, error: BaseException) -> bool:
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        deadlines(self.server._hub).forget(self)

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`."""
        if self.socket._poll_now():
            self._expires = now
        else:
            # the protocol of HTTP/1.1 knows how to end a connection without a request
            self._hand_over(self.server._connection_class)

    # -- as of a connection ---------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing has arrived."""
        return not self._received

    @property
    def activity(self) -> str:
        """The name of the present activity in the statistics of the server."""
        return 'reading' if self._received else 'idle'

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self.socket.destroyed

    def exchanges(self) -> Iterator[Exchange]:
        """Yield nothing."""
        yield from ()

    def begin_draining(self) -> None:
        """See :class:`geventnode.http.server.served.ServedConnection`."""
        self._expires = min(self._expires, self.server._draining_since + DRAIN_TIME)
        deadlines(self.server._hub).watch(self)

    def close(self) -> None:
        """Close the connection, on which nothing was sent."""
        self.socket.destroy()
