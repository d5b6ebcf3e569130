"""The connection behind a response, for libraries that look for http.client's.

With plain ``requests``, ``response.raw._fp`` is an ``http.client.HTTPResponse``, its ``fp`` a buffered file, and
``fp.raw`` a file over the socket. docker-py, SSE clients and NTLM authentication use them. The objects here have the
same names and methods. They keep no state: everything is read through the body of the response, so no byte is lost
between two of them, and chunks are decoded.
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
    """The body of a response, or the bytes of a connection after 101."""

    message: http.IncomingMessage

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether nothing is left to read."""

    @abstractmethod
    def read(self, size: int | None = None) -> bytes:
        """Return the given number of bytes, fewer at the end. May switch."""

    @abstractmethod
    def read1(self, size: int | None = None) -> bytes:
        """Return the bytes that are there, after a wait for the first. May switch."""

    @abstractmethod
    def peek(self) -> bytes:
        """Return the bytes that are there, after a wait for the first, and leave them there. May switch."""

    def write(self, data: bytes) -> None:
        """Send to the peer. May switch. Raises ``OSError`` where the protocol has no place for it."""

    def end(self) -> None:
        """Send nothing more."""

    @abstractmethod
    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to read, in the kernel or here."""

    @property
    @abstractmethod
    def timeout(self) -> float | None:
        """Seconds that a read waits for the peer; None: any number."""

    def set_timeout(self, seconds: float | None) -> None:
        """Set :attr:`timeout`."""

    def close(self) -> None:
        """Give up the unread bytes, and the connection with them."""

    def abort(self) -> None:
        """Do the same, but let a present or later reader get an error."""


class AlwaysReadable:
    """A descriptor that can be read at any time: the end of a stream."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        other.close()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def __del__(self) -> None:
        self._socket.close()


class BodyFile(io.BufferedIOBase):
    """A substitute for ``HTTPResponse.fp``: the body of a response as a buffered file."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def __del__(self) -> None:
        """Leave the body alone: it belongs to the response."""

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
        """Return the bytes that are there, after a wait for the first, and leave them there. May switch."""
        return self._source.peek()

    def fileno(self) -> int:
        return self._source.fileno()


class SocketFile(socket.SocketIO):
    """A substitute for ``HTTPResponse.fp.raw``."""

    _sock: Any

    def __del__(self) -> None:
        """Leave the connection alone: it belongs to the response."""

    @property
    def sock(self) -> BodySocket:
        """The socket, as transports of others than urllib3 name it."""
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
    """A substitute for the socket: it receives the body of the response, and sends only after 101."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._socket: Any = source.message.socket

    # -- receiving and sending ----------------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return at most the given number of bytes, ``b''`` at the end. May switch. Raises ``OSError`` or urllib3's
        exceptions."""
        return self._source.peek()[:size] if flags & socket.MSG_PEEK else self._source.read1(size)

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """See :meth:`recv`."""
        view = memoryview(buffer).cast('B')
        data = self.recv(size or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all of ``data``. May switch. Raises ``OSError``."""
        view = memoryview(data).cast('B')
        self._source.write(bytes(view))
        return len(view)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """See :meth:`send`."""
        self.send(data)

    def settimeout(self, seconds: float | None) -> None:
        """Set the seconds that a read waits for the peer."""
        self._source.set_timeout(seconds)

    def gettimeout(self) -> float | None:
        """Return the seconds set by :meth:`settimeout`."""
        return self._source.timeout

    def setblocking(self, blocking: bool) -> None:
        """Raises ``OSError`` for a socket that is not to block: there is none."""
        if not blocking:
            raise io.UnsupportedOperation(
                'the socket behind a response of AgentAdapter always blocks; wait for its '
                'fileno() with select or poll before you read'
            )
        self.settimeout(None)

    def makefile(self, mode: str = 'r', *args: Any, **options: Any) -> Any:
        """Return the body as a file; see ``socket.socket.makefile``."""
        file: Any = BodyFile(self._source)
        return file if 'b' in mode else io.TextIOWrapper(file, *args, **options)

    # -- the end ------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """End the sending side (``SHUT_WR``), or the whole exchange: its reader gets an error."""
        if how == socket.SHUT_WR:
            self._source.end()
        else:
            self._source.abort()

    def close(self) -> None:
        """End the exchange: its reader gets an error."""
        self._source.abort()

    def _decref_socketios(self) -> None:
        """For ``socket.SocketIO``, which is closed."""
        self.close()

    # -- the descriptor -----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable when :meth:`recv` has something to return, for ``select`` and ``poll``;
        ask anew for each wait. Reading from it would lose bytes."""
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
        """Return the address of the peer. Raises ``OSError`` when the connection is closed."""
        found = self._socket
        if found._raw is None and found.remote_address is not None:
            return found.remote_address, found.remote_port
        return self._call_socket('getpeername')

    def getsockname(self) -> Any:
        """Return our own address. Raises ``OSError`` when the connection is closed."""
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
            raise OSError('the connection of this response is closed, or serves other requests')
        method: Callable[..., Any] = getattr(raw, name)
        return method(*args)


class TLSBodySocket(BodySocket):
    """The same for a connection that speaks TLS."""

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
    """Return the socket behind ``source``."""
    return (TLSBodySocket if source.message.socket.encrypted else BodySocket)(source)
