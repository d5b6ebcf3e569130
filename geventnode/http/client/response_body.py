"""Responses as a client receives them, and the socket of an exchange whose connection serves others by now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventnode.errors import ConnectionClosed
from geventnode.http.incoming import IncomingMessage
from geventnode.net.socket import Socket
from geventnode.protocol import Framing

if TYPE_CHECKING:
    from geventnode.http.client.connection import Connection
    from geventnode.protocol import ResponseHead

__all__ = ['ClientResponse', 'ReleasedSocket']

_NONE = Framing.NONE

#: Attributes still known of the connection of an exchange that is over; without the names of TLS, if it is plain.
KNOWN = frozenset(
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
    """The socket of an exchange that is over: it reports the peer, and otherwise behaves as a destroyed one.

    The connection is in the pool or serves another request, so nothing that is done here reaches it. Only
    ``destroy()`` closes it, if no other request has had it since.
    """

    destroyed: bool = True

    def __init__(self, connection: Connection, turn: int) -> None:
        super().__init__()
        self._connection = connection
        self._exchange_number = turn

    def __getattribute__(self, name: str) -> Any:
        if name in KNOWN:
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


class ClientResponse(IncomingMessage):
    """A response, made by the connection that receives it."""

    _connection: Connection
    _released: ReleasedSocket | None = None

    def __init__(self, head: ResponseHead, connection: Connection) -> None:
        self._head = head
        self._connection = connection
        self._exchange_number = connection.exchange_number
        self.complete = head.framing is _NONE
        self.status_code = head.status_code
        self.status_message = head.status_message

    @property
    def socket(self) -> Socket:  # type: ignore[override]  # an attribute that is never set
        """The connection that it arrived on; a :class:`ReleasedSocket` as soon as other requests can have that."""
        connection = self._connection
        if connection.is_in_exchange(self._exchange_number):
            return connection.socket
        if self._released is None:
            self._released = ReleasedSocket(connection, self._exchange_number)
        return self._released

    @property
    def emits(self) -> bool:
        """Whether it is consumed by events, and has not ended."""
        return self._pump is not None and not self.readable_ended and not self.destroyed

    def _emit_end(self) -> None:
        try:
            super()._emit_end()
        finally:
            self._connection.message_ended(self)

    def _report_error(self, error: BaseException) -> None:
        super()._report_error(error)
        if self.readable_ended and not self.listener_count('error'):
            # raised by a listener of 'end': the hub reports it
            raise error
