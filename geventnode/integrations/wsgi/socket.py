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
import errno
import socket as stdlib
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent import get_hub, socket
from gevent.lock import RLock

from geventnode.errors import ConnectionClosed
from geventnode.http import ServerResponse
from geventnode.http.server.deadlines import LINGER_TIME
from geventnode.net import Socket
from geventnode.net.deadlines import NEVER, deadlines

__all__ = ['ENVIRON_KEYS', 'LazySocket', 'finish_hijacked', 'is_end_of_connection']

#: The variables of the environ. Those who take the second one raise ``StopIteration`` in place of a response.
ENVIRON_KEYS = 'werkzeug.socket', 'gunicorn.socket'


class LazySocket:
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
            taken = _hijacked[response] = _HijackedConnection(connection, received)
            self._socket = taken.socket
        return getattr(self._socket, name)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {"not taken" if self._socket is None else repr(self._socket)}>'


def finish_hijacked(response: ServerResponse) -> None:
    """Close the connection if an application has taken it in place of ``response``."""
    taken = _hijacked.pop(response, None)
    if taken is not None:
        taken.close()


def is_end_of_connection(response: ServerResponse, error: BaseException) -> bool:
    """Return whether ``error``, raised by an application that has taken the connection, only reports its end.

    Libraries raise it because a WSGI application must return something: ``StopIteration`` under gunicorn, a
    ``ConnectionError`` without arguments under Werkzeug (python-engineio). An error of the socket itself, when the
    client has left, is the third kind.
    """
    taken = _hijacked.get(response)
    return isinstance(error, StopIteration) or (
        taken is not None
        and isinstance(error, ConnectionError)
        and ((type(error) is ConnectionError and not error.args) or vars(error).get(_MARK) is taken.socket.sending)
    )


#: The attribute by which an error of a socket is known; its value refers to no frame, so that nothing refers to itself.
_MARK = '_raised_by'


class _SendState:
    """One connection, shared by all duplicates of its socket."""

    __slots__ = ('lock', 'on_closed', 'open', 'partial', 'size')

    def __init__(self) -> None:
        #: Held by the greenlet that sends.
        self.lock = RLock()
        #: Bytes that were sent.
        self.size = 0
        #: Whether a message was sent in part.
        self.partial = False
        #: How many of the sockets are open.
        self.open = 1
        #: Called when the last of them is closed.
        self.on_closed: Callable[[], object] | None = None


class _Socket(socket.socket):
    """The socket that an application gets: gevent's, except that a blocking one sends everything.

    ``send()`` of a blocking socket of gevent may send less than it was given; libraries that ignore its result then
    write the next message into the middle of a cut one. Here ``send()`` returns the size of its argument or
    raises, and messages of several greenlets do not mix. When a part of a message was sent, because of a timeout or
    because the sender was killed, every later call raises ``ConnectionClosed``.
    """

    #: Why the connection ended, unless the peer ended it in good order.
    lost: BaseException | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sending = _SendState()
        self._counted = True

    def dup(self) -> _Socket:
        """Return another socket of the same connection."""
        made: _Socket = super().dup()
        made.sending = self.sending
        made.sending.open += 1
        return made

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all of ``data`` and return its size. May switch. Raises ``OSError``.

        A non-blocking socket, or ``MSG_DONTWAIT``, sends as much as there is room for, and returns its size.
        """
        blocking = self.timeout != 0.0 and not flags & getattr(stdlib, 'MSG_DONTWAIT', 0)
        with memoryview(data) as view, view.cast('B') as view:
            return self._send_all(view, flags) if blocking else self._send_some(view, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of ``data``. May switch. Raises ``OSError``."""
        with memoryview(data) as view, view.cast('B') as view:
            self._send_all(view, flags)

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        """As :meth:`send`, for several pieces. May switch. Raises ``OSError``; ``NotImplementedError`` for ancillary
        data and addresses, which a connection does not have."""
        if ancdata or address is not None:
            raise NotImplementedError('sendmsg() on a connection takes no ancillary data and no address')
        return self.send(b''.join(buffers), flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file as one message, and return its size. May switch. Raises ``OSError``."""
        sending = self.sending
        with sending.lock:
            before = sending.size
            try:
                sent: int = super().sendfile(file, offset, count)
            except BaseException:
                # it is sent block by block
                sending.partial = sending.partial or sending.size > before
                raise
            return sent

    def _send_all(self, data: memoryview, flags: int) -> int:
        sending = self.sending
        try:
            with gevent.Timeout(self.timeout, TimeoutError('timed out')), sending.lock:
                self._check_sendable()
                before = sending.size
                left = data
                try:
                    while left:
                        sent = super().send(left, flags)
                        sending.size += sent
                        left = left[sent:]
                except BaseException:
                    sending.partial = sending.size > before
                    raise
        except OSError as error:
            vars(error)[_MARK] = self.sending
            raise
        return len(data)

    def _send_some(self, data: memoryview, flags: int) -> int:
        turn = self.sending.lock
        if not turn.acquire(blocking=False):
            raise BlockingIOError(errno.EWOULDBLOCK, 'another greenlet sends a message')
        try:
            self._check_sendable()
            send: Any = super().send
            sent: int = send(data, flags, 0.0)
            self.sending.size += sent
            return sent
        finally:
            turn.release()

    def _check_sendable(self) -> None:
        if self.sending.partial:
            raise ConnectionClosed('a part of a message was sent before, and nothing can follow it; close the socket')

    def recv(self, *args: Any) -> bytes:
        """As of gevent. May switch. Raises ``ConnectionResetError`` when the connection ended without a FIN or,
        with TLS, without ``close_notify``."""
        return self._received(super().recv, *args)  # type: ignore[no-any-return]

    def recv_into(self, *args: Any) -> int:
        """As :meth:`recv`."""
        return self._received(super().recv_into, *args)  # type: ignore[no-any-return]

    def _received(self, receive: Callable[..., Any], *args: Any) -> Any:
        try:
            result = receive(*args)
            if not result and self.lost is not None:
                raise ConnectionResetError(errno.ECONNRESET, str(self.lost)) from self.lost
        except OSError as error:
            vars(error)[_MARK] = self.sending
            raise
        return result

    def close(self) -> None:
        """Close it, unless a file made of it is still open."""
        super().close()
        if self._counted and self.fileno() < 0:
            self._counted = False
            sending = self.sending
            sending.open -= 1
            if not sending.open and sending.on_closed is not None:
                on_closed, sending.on_closed = sending.on_closed, None
                on_closed()


class _HijackedConnection:
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
        connection.on('error', self._failed)
        raw = None if connection.encrypted or connection.has_queued or received else connection.duplicate()
        if raw is not None:
            connection.pause_reading()
            self.socket = _Socket(raw.family, raw.type, raw.proto, fileno=raw.detach())
            self.socket.sending.on_closed = self._end
            return
        own, other = stdlib.socketpair()
        self.socket = _Socket(own.family, own.type, own.proto, fileno=own.detach())
        self._joined = joined = Socket(other, allow_half_open=True)
        if received:
            joined.put(received)
        joined.once('close', self._on_application_closed)
        joined.on('error', self._failed)
        connection.pipe(joined)
        joined.pipe(connection)

    def _failed(self, error: BaseException) -> None:
        """The connection has failed: calls of the application report it."""
        self.socket.lost = error.__cause__ or error

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

    def _on_application_closed(self, *args: object) -> None:
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
        """See :class:`geventnode.net.deadlines.HasDeadline`."""
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


_hijacked: WeakKeyDictionary[ServerResponse, _HijackedConnection] = WeakKeyDictionary()
