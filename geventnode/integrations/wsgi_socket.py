"""The connection as a socket, for applications that speak another protocol on it.

Libraries for WebSockets on WSGI, such as Flask-Sock and simple-websocket, look for ``environ['werkzeug.socket']``,
write their own ``101 Switching Protocols`` to it, and read and write from then on. So requests that ask for an upgrade
have it: an object that takes the connection from the server as soon as somebody uses it, and does nothing until then.

Where nothing stands in between, what they get is a second socket of the same connection. With TLS, with something
received or queued already, or with a connection in memory it is one end of a pair of sockets, whose other end is joined
with the connection. The connection itself stays the server's: it is counted, and closed with the server.
"""
from __future__ import annotations

import contextlib
import socket as stdlib
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from gevent import get_hub, socket

from geventnode.http import ServerResponse
from geventnode.http.timeouts import LINGER_TIME
from geventnode.net import Socket
from geventnode.net.hubs import NEVER, deadlines

__all__ = ['KEYS', 'OfferedSocket', 'application_returned']

#: The variables of the environ. Those who take the second one raise ``StopIteration`` in place of a response.
KEYS = 'werkzeug.socket', 'gunicorn.socket'


class OfferedSocket:
    """A ``gevent.socket.socket`` that is made, and the connection taken from the server, when a public attribute of it
    is first asked for. Never switches by itself.

    Raises ``HeadersSent`` when a response has begun, ``ConnectionClosed``, which is an ``OSError``, when the client has
    gone.

    :param response: the one in whose place the application speaks.
    """

    __slots__ = ('_response', '_socket')

    def __init__(self, response: ServerResponse) -> None:
        self._response = response
        self._socket: Any = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or not hasattr(stdlib.socket, name):
            # those who only look at all variables shall take nothing
            raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')
        if self._socket is None:
            response = self._response
            connection, received = response.hand_over()
            taken = _taken[response] = _Taken(connection, received)
            self._socket = taken.socket
        return getattr(self._socket, name)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {"not taken" if self._socket is None else repr(self._socket)}>'


def application_returned(response: ServerResponse) -> None:
    """Close the connection if an application has taken it in place of ``response``. Never switches."""
    taken = _taken.pop(response, None)
    if taken is not None:
        taken.close()


class _Second(socket.socket):
    """A second socket of a connection, which ends with this one."""

    #: Called when this is closed.
    on_closed: Callable[[], object] | None = None

    def close(self) -> None:
        """Close it, unless a file made of it is still open."""
        super().close()
        if self.on_closed is not None and self.fileno() < 0:
            on_closed, self.on_closed = self.on_closed, None
            on_closed()


class _Taken:
    """A connection that an application has taken.

    :param received: what has come behind the request.
    """

    def __init__(self, connection: Socket, received: bytes) -> None:
        self.expires = NEVER
        #: What the application has: gevent's own socket.
        self.socket: Any = None
        self._connection = connection
        self._returned = False
        #: The end of a pair that is joined with the connection, None where the application has a socket of that.
        self._joined: Socket | None = None
        connection.once('close', self._lost)
        raw = None if connection.encrypted or connection.has_queued or received else connection.duplicate()
        if raw is not None:
            connection.pause_reading()
            self.socket = _Second(raw.family, raw.type, raw.proto, fileno=raw.detach())
            self.socket.on_closed = self._end
            return
        self.socket, other = socket.socketpair()
        self._joined = joined = Socket(other, allow_half_open=True)
        if received:
            joined.put(received)
        joined.once('close', self._given_up)
        connection.pipe(joined)
        joined.pipe(connection)

    def _lost(self, *args: object) -> None:
        """The connection is gone: the application finds its end."""
        deadlines(get_hub()).forget(self)
        if self._joined is not None:
            self._joined.destroy()
        # it may have closed it; gevent's own method would raise in whoever receives, where this ends the input
        with contextlib.suppress(OSError):
            self.socket._sock.shutdown(stdlib.SHUT_RDWR)
        if self._returned:
            self.socket.close()

    def _given_up(self, *args: object) -> None:
        """The application has closed its end for both directions."""
        self._connection.destroy()

    def close(self) -> None:
        """The application has returned: end the connection, unless it has done so."""
        self._returned = True
        if self._connection.destroyed:
            self.socket.close()
        elif self._joined is None:
            self._end()
        else:
            with contextlib.suppress(OSError):
                self.socket.shutdown(stdlib.SHUT_WR)
            self._linger()

    def _end(self) -> None:
        """Say no more, and hear no more."""
        connection = self._connection
        if connection.destroyed or connection.writable_ended:
            return
        self._linger()
        connection.set_sink(self)
        connection.end_nowait()
        connection.resume_reading()

    def _linger(self) -> None:
        """Give the client some time to read what was said (RFC 9112, section 9.6)."""
        self.expires = monotonic() + LINGER_TIME
        deadlines(get_hub()).watch(self)

    # -- run by the hub, while the connection closes ------------------------------------------------------------------

    def on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.hubs.HasDeadline`."""
        self._connection.destroy()

    def data_received(self, data: bytes) -> None:
        """Nobody listens any more."""

    def eof_received(self) -> None:
        """The client has read everything."""
        self._connection.destroy()

    def send_failed(self, error: BaseException) -> bool:
        """See :class:`geventnode.net.inflow.InputSink`."""
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        """See :class:`geventnode.net.inflow.InputSink`."""

    def queue_drained(self) -> None:
        """See :class:`geventnode.net.inflow.InputSink`."""


_taken: WeakKeyDictionary[ServerResponse, _Taken] = WeakKeyDictionary()
