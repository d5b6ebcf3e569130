"""Responses as a client receives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geventnode.http.client.released_socket import ReleasedSocket
from geventnode.http.incoming import IncomingMessage
from geventnode.protocol import Framing

if TYPE_CHECKING:
    from geventnode.http.client.connection import Connection
    from geventnode.net.socket import Socket
    from geventnode.protocol import ResponseHead

__all__ = ['ClientResponse']

_NONE = Framing.NONE


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
        """The connection, or a :class:`ReleasedSocket` after the exchange."""
        connection = self._connection
        if connection.is_in_exchange(self._exchange_number):
            return connection.socket
        if self._released is None:
            self._released = ReleasedSocket(connection, self._exchange_number)
        return self._released

    @property
    def _is_flowing(self) -> bool:
        """Whether it is consumed by events, and has not ended."""
        return self._pump is not None and not self.readable_ended and not self.destroyed

    def _emit_end(self) -> None:
        try:
            super()._emit_end()
        finally:
            self._connection.on_message_ended(self)

    def _report_error(self, error: BaseException) -> None:
        super()._report_error(error)
        if self.readable_ended and not self.listener_count('error'):
            # raised by a listener of 'end': the hub reports it
            raise error
