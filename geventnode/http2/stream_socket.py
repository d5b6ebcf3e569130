"""The socket of a request that arrived by HTTP/2: the addresses and certificates of the connection, without its bytes.

Many requests share the connection. A listener that read from its socket, or wrote to it, would take the bytes of the
others.
"""

from __future__ import annotations

from typing import Any

from geventnode.errors import InvalidInput
from geventnode.net.socket import Socket
from geventnode.net.threads import check_thread

__all__ = ['SharedSocket']

#: Methods that read or write. Node's documentation: http2, "request.socket".
_REFUSED = frozenset(
    {
        'connect',
        'cork',
        'end',
        'makefile',
        'pause',
        'pipe',
        'read',
        'read1',
        'readinto',
        'resume',
        'set_encoding',
        'uncork',
        'unpipe',
        'unshift',
        'write',
    }
)


class SharedSocket:
    """Everything of a connection's socket but its bytes: ``request.socket`` and ``response.socket`` of HTTP/2.

    ``destroy()`` ends the connection, with all of its requests; ``request.destroy()`` ends only one. Reading and
    writing raise ``InvalidInput`` with Node's code ``ERR_HTTP2_NO_SOCKET_MANIPULATION``.

    :param socket: the socket of the connection.
    """

    __slots__ = ('__weakref__', '_derived', '_socket')

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        #: See :class:`geventnode.net.Socket`.
        self._derived: Any = None

    def destroy(self, error: BaseException | None = None) -> SharedSocket:
        """End the connection with all of its requests, and return the socket.

        The client gets GOAWAY. See :meth:`geventnode.net.Socket.destroy`.

        :param error: the reason, which is emitted as ``'error'`` if there is a listener for it. GOAWAY then has
            INTERNAL_ERROR.
        """
        check_thread(self._socket._hub, self)
        protocol: Any = self._socket._protocol
        if protocol is not None:
            protocol.close_at_once(error)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _REFUSED:
            raise InvalidInput(
                f'{name} of the socket would affect the other requests of an HTTP/2 connection; use the request or the '
                'response',
                'ERR_HTTP2_NO_SOCKET_MANIPULATION',
            )
        return getattr(self._socket, name)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} of {self._socket!r}>'
