"""Offer the connection to libraries that expect ``http.client``.

With plain ``requests``, ``response.raw._fp`` is an ``http.client.HTTPResponse``, its ``fp`` a buffered file, and
``fp.raw`` a file over the socket. docker-py, SSE clients and NTLM authentication use them. The objects here have the
same attributes and methods. They have no state of their own: every read goes through the body of the response, so no
byte is lost between two objects, and chunks are decoded.
"""

from __future__ import annotations

import io
import socket
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, cast

from geventnode import http

__all__ = ['AlwaysReadable', 'BodyFile', 'BodySocket', 'ByteSource', 'SocketFile', 'TLSBodySocket', 'socket_for']


class ByteSource(Protocol):
    """A body, or the bytes of a connection after 101."""

    message: http.IncomingMessage

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether all bytes were read."""

    @abstractmethod
    def read(self, size: int | None = None) -> bytes:
        """Return ``size`` bytes, fewer at the end. Blocks until they have arrived."""

    @abstractmethod
    def read1(self, size: int | None = None) -> bytes:
        """Return available bytes. Blocks until the first has arrived."""

    @abstractmethod
    def peek(self) -> bytes:
        """Return available bytes without consuming them. Blocks until the first has arrived."""

    def write(self, data: bytes) -> None:
        """Send to the peer. Raises ``OSError`` if the protocol does not allow it."""

    def end(self) -> None:
        """End the sending side."""

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that is readable when bytes are."""

    @property
    @abstractmethod
    def timeout(self) -> float | None:
        """Seconds that a read waits for the peer; None: no limit."""

    def set_timeout(self, seconds: float | None) -> None:
        """Set :attr:`timeout`."""

    def close(self) -> None:
        """Discard the unread bytes and close the connection."""

    def abort(self) -> None:
        """Close the connection; the current or next reader gets an error."""


class AlwaysReadable:
    """A descriptor that is always readable: the end of a closed pair."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        other.close()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def __del__(self) -> None:
        self._socket.close()


class BodyFile(io.BufferedIOBase):
    """Substitute for ``HTTPResponse.fp``: the body of a response as a buffered file."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def __del__(self) -> None:
        """Do not close the body: it belongs to the response."""

    @property
    def raw(self) -> Any:
        """The socket as an unbuffered file."""
        return SocketFile(cast(Any, socket_for(self._source)), 'rwb')

    @property
    def closed(self) -> bool:
        return self._source.closed

    def close(self) -> None:
        self._source.close()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        return self._source.read(None if size is None or size < 0 else size)

    def read1(self, size: int = -1) -> bytes:
        return self._source.read1(None if size < 0 else size)

    def peek(self, size: int = 0) -> bytes:
        """Return available bytes without consuming them. Blocks until the first has arrived."""
        return self._source.peek()

    def fileno(self) -> int:
        return self._source.fileno()


class SocketFile(socket.SocketIO):
    """Substitute for ``HTTPResponse.fp.raw``: the socket as an unbuffered file."""

    _sock: Any

    def __del__(self) -> None:
        """Do not close the connection: it belongs to the response."""

    @property
    def sock(self) -> BodySocket:
        """The socket, under the name in other transports than urllib3."""
        found: BodySocket = self._sock
        return found

    def settimeout(self, seconds: float | None) -> None:
        """See :meth:`BodySocket.settimeout`."""
        self._sock.settimeout(seconds)

    def gettimeout(self) -> float | None:
        """See :meth:`BodySocket.gettimeout`."""
        seconds: float | None = self._sock.gettimeout()
        return seconds


class BodySocket:
    """Substitute for the socket: it receives the body, and sends only after 101."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._socket: Any = source.message.socket

    # -- receiving and sending ----------------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return at most ``size`` bytes, ``b''`` at the end.

        Blocks until the first byte has arrived. Raises ``OSError`` or urllib3's exceptions.
        """
        return self._source.peek()[:size] if flags & socket.MSG_PEEK else self._source.read1(size)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """Receive into ``buffer``; see :meth:`recv`."""
        view = memoryview(buffer).cast('B')
        data = self.recv(size or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all of ``data`` and return its size. Raises ``OSError``."""
        view = memoryview(data).cast('B')
        self._source.write(bytes(view))
        return len(view)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of ``data``; see :meth:`send`."""
        self.send(data)

    def settimeout(self, seconds: float | None) -> None:
        """Set the seconds that a read waits for the peer."""
        self._source.set_timeout(seconds)

    def gettimeout(self) -> float | None:
        """Return the seconds set by :meth:`settimeout`."""
        return self._source.timeout

    def setblocking(self, blocking: bool) -> None:
        """Remove the timeout. Raises ``OSError`` for a non-blocking socket, which is not supported."""
        if not blocking:
            raise io.UnsupportedOperation(
                'the socket of a response of AgentAdapter always blocks; wait for its fileno() with select or poll '
                'before a read'
            )
        self.settimeout(None)

    def makefile(self, mode: str = 'r', *args: Any, **options: Any) -> Any:
        """Return the body as a file; see ``socket.socket.makefile``."""
        file: Any = BodyFile(self._source)
        return file if 'b' in mode else io.TextIOWrapper(file, *args, **options)

    # -- the end ------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """End the sending side (``SHUT_WR``), or abort the exchange."""
        if how == socket.SHUT_WR:
            self._source.end()
        else:
            self._source.abort()

    def close(self) -> None:
        """Abort the exchange; its reader gets an error."""
        self._source.abort()

    def _decref_socketios(self) -> None:
        """Abort the exchange: ``socket.SocketIO`` calls this when it is closed."""
        self.close()

    # -- the descriptor -----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable when :meth:`recv` would not block.

        It is for ``select`` and ``poll``. Call this before each wait, since the descriptor can change. A read from the
        descriptor itself loses bytes.
        """
        return self._source.fileno()

    @property
    def _closed(self) -> bool:
        return self._source.closed

    @property
    def family(self) -> int:
        """``AF_INET``, ``AF_INET6`` or ``AF_UNIX``."""
        families = {'IPv4': socket.AF_INET, 'IPv6': socket.AF_INET6}
        return families.get(self._socket.remote_family or '', getattr(socket, 'AF_UNIX', socket.AF_INET))

    type: int = socket.SOCK_STREAM
    proto: int = 0

    def getpeername(self) -> Any:
        """Return the address of the peer. Raises ``OSError`` after the connection is closed."""
        found = self._socket
        if found._raw is None and found.remote_address is not None:
            return found.remote_address, found.remote_port
        return self._call_socket('getpeername')

    def getsockname(self) -> Any:
        """Return the local address. Raises ``OSError`` after the connection is closed."""
        found = self._socket
        if found._raw is None and found.local_address is not None:
            return found.local_address, found.local_port
        return self._call_socket('getsockname')

    def getsockopt(self, *args: Any) -> Any:
        """See ``socket.socket.getsockopt``."""
        return self._call_socket('getsockopt', *args)

    def setsockopt(self, *args: Any) -> None:
        """See ``socket.socket.setsockopt``."""
        self._call_socket('setsockopt', *args)

    def _call_socket(self, name: str, *args: Any) -> Any:
        raw = self._socket._raw
        if raw is None:
            raise OSError('the connection of this response is closed, or in use by another request')
        method: Callable[..., Any] = getattr(raw, name)
        return method(*args)


class TLSBodySocket(BodySocket):
    """A :class:`BodySocket` over TLS."""

    def getpeercert(self, binary_form: bool = False) -> Any:
        """See ``ssl.SSLSocket.getpeercert``."""
        if binary_form:
            return self._socket.get_peer_certificate().get('raw')
        return self._socket._certificate() or {}

    def version(self) -> str | None:
        """See ``ssl.SSLSocket.version``."""
        found: str | None = self._socket.get_protocol()
        return found

    def selected_alpn_protocol(self) -> str | None:
        """See ``ssl.SSLSocket.selected_alpn_protocol``."""
        found: str | None = self._socket.alpn_protocol
        return found


def socket_for(source: ByteSource) -> BodySocket:
    """Return the socket of ``source``."""
    return (TLSBodySocket if source.message.socket.encrypted else BodySocket)(source)
