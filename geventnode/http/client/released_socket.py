"""The socket of an exchange that is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventnode.errors import ConnectionClosed
from geventnode.net.socket import Socket

if TYPE_CHECKING:
    from geventnode.http.client.connection import Connection

__all__ = ['ReleasedSocket']

#: Attributes of the connection that can still be read after the exchange; those of TLS are missing on a plain socket.
READABLE = frozenset(
    {
        'address',
        'alpn_protocol',
        'authorization_error',
        'authorized',
        'bytes_read',
        'bytes_written',
        'encrypted',
        'get_cipher',
        'get_peer_certificate',
        'get_protocol',
        'local_address',
        'local_port',
        'proxy_address',
        'proxy_header',
        'remote_address',
        'remote_family',
        'remote_port',
        'servername',
        'session',
        'session_reused',
        'verify_peer',
    }
)


class ReleasedSocket(Socket):
    """The socket of an exchange that is over: it reports the peer, and otherwise behaves as a destroyed socket.

    The connection is in the pool or serves another request, so nothing that is done here reaches it. Only
    ``destroy()`` closes it, unless another request has used it since.
    """

    def __init__(self, connection: Connection, exchange_number: int) -> None:
        super().__init__()
        self.destroyed = True
        self._connection = connection
        self._exchange_number = exchange_number

    def __getattribute__(self, name: str) -> Any:
        if name in READABLE:
            return getattr(self._connection.socket, name)
        return super().__getattribute__(name)

    def destroy(self, error: BaseException | None = None) -> ReleasedSocket:
        if self._connection.exchange_number == self._exchange_number:
            self._connection.close()
        return self

    def _closed_error(self) -> Exception:
        return ConnectionClosed("the exchange of this socket is over: its connection is the agent's again")

    def __repr__(self) -> str:
        return f'<{type(self).__name__} of {self._connection.socket!r}>'
