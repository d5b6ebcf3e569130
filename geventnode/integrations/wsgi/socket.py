"""Offer the connection as a socket to applications with another protocol.

Libraries for WebSockets on WSGI, such as Flask-Sock and simple-websocket, look for ``environ['werkzeug.socket']``.
They write their own ``101 Switching Protocols`` to it, and then exchange frames. So the environ of an upgrade request
has a lazy socket: its first use takes the connection from the server (Go: hijacks it).

The application gets a duplicate of the connection's own socket where possible. With TLS, with bytes that were already
received or queued, or with a connection in memory, it gets one end of a socket pair instead; the other end is piped to
the connection. The connection still belongs to the server, which counts it and closes it on shutdown.
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

#: The variables of the environ. Applications that use the second one raise ``StopIteration`` instead of responding.
ENVIRON_KEYS = 'werkzeug.socket', 'gunicorn.socket'


class LazySocket:
    """Hijack the connection when a public attribute is first used.

    Every attribute of ``gevent.socket.socket`` is available. The first access raises ``HeadersSent`` after the head of
    the response, and ``ConnectionClosed``, an ``OSError``, after the client has disconnected.

    :param response: the response that the application replaces.
    """

    __slots__ = ('_response', '_socket')

    def __init__(self, response: ServerResponse) -> None:
        self._response = response
        self._socket: Any = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or not hasattr(stdlib.socket, name):
            # code that only inspects the environ must not hijack the connection
            raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')
        if self._socket is None:
            response = self._response
            connection, received = response._hijack()
            hijacked = _hijacked[response] = _HijackedConnection(connection, received)
            self._socket = hijacked.socket
        return getattr(self._socket, name)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {"not used" if self._socket is None else repr(self._socket)}>'


def finish_hijacked(response: ServerResponse) -> None:
    """Close the connection if the application has hijacked it, after its return."""
    hijacked = _hijacked.pop(response, None)
    if hijacked is not None:
        hijacked.finish()


def is_end_of_connection(response: ServerResponse, error: BaseException) -> bool:
    """Return whether ``error`` only reports the end of a hijacked connection.

    Libraries raise such errors because a WSGI application must return an iterable: ``StopIteration`` under gunicorn, a
    ``ConnectionError`` without arguments under Werkzeug (python-engineio). The third kind is an error of the socket
    itself, after the client has disconnected.
    """
    hijacked = _hijacked.get(response)
    return isinstance(error, StopIteration) or (
        hijacked is not None
        and isinstance(error, ConnectionError)
        and ((type(error) is ConnectionError and not error.args) or vars(error).get(_MARK) is hijacked.socket.sending)
    )


#: The attribute that marks errors of a socket. Its value refers to no frame, so it creates no reference cycle.
_MARK = '_raised_by'


class _SendState:
    """The sending side of a connection, shared by its sockets."""

    __slots__ = ('lock', 'on_closed', 'open', 'partial', 'size')

    def __init__(self) -> None:
        #: Held by the greenlet that sends a message.
        self.lock = RLock()
        #: The number of bytes sent.
        self.size = 0
        #: Whether only a part of a message was sent.
        self.partial = False
        #: The number of open sockets.
        self.open = 1
        #: Called when the last one is closed.
        self.on_closed: Callable[[], object] | None = None


class _Socket(socket.socket):
    """A socket of gevent that sends whole messages while it is blocking.

    ``send()`` of gevent's blocking socket can send a part of its argument. Libraries that ignore its result then write
    the next message into the middle of the previous one. Here ``send()`` returns the size of its argument or raises,
    and messages of several greenlets do not mix. After a partial message, due to a timeout or a killed sender, every
    later call raises ``ConnectionClosed``.
    """

    #: The error that closed the connection, None after an orderly close.
    failure: BaseException | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.sending = _SendState()
        self._counted = True

    def dup(self) -> _Socket:
        """Return another socket of the same connection."""
        duplicate: _Socket = super().dup()
        duplicate.sending = self.sending
        duplicate.sending.open += 1
        return duplicate

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all of ``data`` and return its size.

        Blocks until the kernel has accepted the bytes. A non-blocking socket, or ``MSG_DONTWAIT``, sends as many bytes
        as the kernel has room for, and returns their number. Raises ``OSError``.
        """
        blocking = self.timeout != 0.0 and not flags & getattr(stdlib, 'MSG_DONTWAIT', 0)
        with memoryview(data) as view, view.cast('B') as view:
            return self._send_all(view, flags) if blocking else self._send_some(view, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of ``data``. Blocks until the kernel has accepted it. Raises ``OSError``."""
        with memoryview(data) as view, view.cast('B') as view:
            self._send_all(view, flags)

    def sendmsg(self, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        """Send several buffers as one message; see :meth:`send`.

        Raises ``NotImplementedError`` for ancillary data and an address, which a connection does not support.
        """
        if ancdata or address is not None:
            raise NotImplementedError('sendmsg() on a connection takes no ancillary data and no address')
        return self.send(b''.join(buffers), flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file as one message, and return its size. Blocks as :meth:`send` does. Raises ``OSError``."""
        sending = self.sending
        with sending.lock:
            before = sending.size
            try:
                sent: int = super().sendfile(file, offset, count)
            except BaseException:
                # a file is sent in several blocks
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
            raise BlockingIOError(errno.EWOULDBLOCK, 'another greenlet is sending a message')
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
            raise ConnectionClosed('an earlier message was sent only in part, so no other can follow; close the socket')

    def recv(self, *args: Any) -> bytes:
        """Return received bytes; see ``gevent.socket.socket.recv``.

        Blocks until bytes arrive. Raises ``ConnectionResetError`` if the connection was closed without a FIN or, with
        TLS, without ``close_notify``.
        """
        return self._received(super().recv, *args)  # type: ignore[no-any-return]

    def recv_into(self, *args: Any) -> int:
        """Receive into a buffer; see :meth:`recv`."""
        return self._received(super().recv_into, *args)  # type: ignore[no-any-return]

    def _received(self, receive: Callable[..., Any], *args: Any) -> Any:
        try:
            result = receive(*args)
            if not result and self.failure is not None:
                raise ConnectionResetError(errno.ECONNRESET, str(self.failure)) from self.failure
        except OSError as error:
            vars(error)[_MARK] = self.sending
            raise
        return result

    def close(self) -> None:
        """Close the socket when no file made from it is open."""
        super().close()
        if self._counted and self.fileno() < 0:
            self._counted = False
            sending = self.sending
            sending.open -= 1
            if not sending.open and sending.on_closed is not None:
                on_closed, sending.on_closed = sending.on_closed, None
                on_closed()


class _HijackedConnection:
    """A connection that an application has hijacked.

    :param received: the bytes after the request.
    """

    def __init__(self, connection: Socket, received: bytes) -> None:
        self._expires = NEVER
        #: The application's socket.
        self.socket: Any = None
        self._connection = connection
        self._returned = False
        #: The server's end of a socket pair, None if the application has a duplicate of the connection's socket.
        self._pair_end: Socket | None = None
        connection.once('close', self._on_close)
        connection.on('error', self._on_error)
        raw = None if connection.encrypted or connection._has_queued or received else connection._duplicate()
        if raw is not None:
            connection._pause_reading()
            self.socket = _Socket(raw.family, raw.type, raw.proto, fileno=raw.detach())
            self.socket.sending.on_closed = self._end
            return
        own, other = stdlib.socketpair()
        self.socket = _Socket(own.family, own.type, own.proto, fileno=own.detach())
        self._pair_end = pair_end = Socket(other, allow_half_open=True)
        if received:
            pair_end._send(received)
        pair_end.once('close', self._on_application_closed)
        pair_end.on('error', self._on_error)
        connection.pipe(pair_end)
        pair_end.pipe(connection)

    def _on_error(self, error: BaseException) -> None:
        """Let the application's next call raise the error of the connection."""
        self.socket.failure = error.__cause__ or error

    def _on_close(self, *args: object) -> None:
        """Let the application read the end of the closed connection."""
        deadlines(get_hub()).forget(self)
        if self._pair_end is not None:
            self._pair_end.destroy()
        # not gevent's shutdown(): it raises in a greenlet that receives, where the end of the input is due. The
        # application can have closed the socket before.
        with contextlib.suppress(OSError):
            self.socket._sock.shutdown(stdlib.SHUT_RDWR)
        if self._returned:
            self.socket.close()

    def _on_application_closed(self, *args: object) -> None:
        """Destroy the connection after the application has closed its socket."""
        self._connection.destroy()

    def finish(self) -> None:
        """Close the connection after the application has returned."""
        self._returned = True
        if self._connection.destroyed:
            self.socket.close()
        elif self._pair_end is None:
            self._end()
        else:
            with contextlib.suppress(OSError):
                self.socket.shutdown(stdlib.SHUT_WR)
            self._linger()

    def _end(self) -> None:
        """Send the end of the stream, and discard all further input."""
        connection = self._connection
        if connection.destroyed or connection.writable_ended:
            return
        self._linger()
        connection._set_protocol(self)
        connection._end_nowait()
        connection._resume_reading()

    def _linger(self) -> None:
        """Limit the time to read the last bytes (RFC 9112, section 9.6)."""
        self._expires = monotonic() + LINGER_TIME
        deadlines(get_hub()).watch(self)

    # -- the protocol of the connection while it closes; run by the hub -----------------------------------------------

    def _on_deadline(self, now: float) -> None:
        """Destroy the connection, unless the client has lately received queued data."""
        connection = self._connection
        if connection._last_sent + LINGER_TIME > now:
            self._expires = connection._last_sent + LINGER_TIME
        else:
            connection.destroy()

    def data_received(self, data: bytes) -> None:
        """Discard the bytes."""

    def eof_received(self) -> None:
        """Destroy the connection: the client has read everything."""
        self._connection.destroy()

    def send_failed(self, error: BaseException) -> bool:
        """See :class:`geventnode.net.socket.Protocol`."""
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        """See :class:`geventnode.net.socket.Protocol`."""

    def queue_drained(self) -> None:
        """See :class:`geventnode.net.socket.Protocol`."""


_hijacked: WeakKeyDictionary[ServerResponse, _HijackedConnection] = WeakKeyDictionary()
