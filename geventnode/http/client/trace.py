"""What happens on each connection of an agent, told for as long as somebody wants to know.

As on the side of the server: an agent that is to tell makes its connections of a class whose methods tell, and do what
they do otherwise; those that are open already change their class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventnode.errors import excerpt
from geventnode.http.client.connection import ClientConnection
from geventnode.http.client.phase import Phase

if TYPE_CHECKING:
    from geventnode.http.client.request import ClientRequest
    from geventnode.protocol import ResponseHead

__all__ = ['ToldClientConnection']


class ToldClientConnection(ClientConnection):
    """A connection that tells. It has no slots of its own, so that the class of a connection can be changed."""

    __slots__ = ()

    def __init__(self, agent: Any, bucket: Any, destination: Any, socket: Any, number: int) -> None:
        super().__init__(agent, bucket, destination, socket, number)
        if socket.pending:
            self._tell('connecting')
            socket.once('connect', self._tell_connected)
        else:
            self._tell_connected()

    def _tell(self, message: str, *args: object) -> None:
        self.agent.connection_lines.add(f'%s #%d: {message}', self.destination, self.number, *args)

    def _tell_connected(self) -> None:
        socket = self.socket
        if socket.remote_address is None:
            self._tell('connected')
        else:
            self._tell('connected to %s:%s from port %s', socket.remote_address, socket.remote_port, socket.local_port)

    # -- an exchange ----------------------------------------------------------------------------------------------

    def start(self, request: ClientRequest, reused: bool, now: float) -> None:
        self._tell(
            'request: %s %s%s',
            request.method,
            excerpt(request.path.encode('latin-1')),
            ', on a connection that has served before' if reused else '',
        )
        super().start(request, reused, now)

    def _begin_response(self, request: ClientRequest, head: ResponseHead) -> None:
        self._tell('response: %d', head.status_code)
        super()._begin_response(request, head)

    def _serve_whole(self, head: ResponseHead, body: bytes) -> None:
        self._tell('response: %d', head.status_code)
        super()._serve_whole(head, body)

    def _hand_over(self, request: ClientRequest, head: ResponseHead) -> None:
        self._tell('response: %d; handed over', head.status_code)
        super()._hand_over(request, head)

    def _exchange_over(self) -> None:
        # it may be told before the request was sent
        if self.sent and not self.socket.writable_length:
            self._tell('the exchange is over')
        super()._exchange_over()

    def more_received(self, data: bytes) -> None:
        self._tell('received %d bytes more', len(data))
        super().more_received(data)

    # -- run by the hub -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._tell('received %d bytes while %s', len(data), self.activity)
        super().data_received(data)

    def eof_received(self) -> None:
        self._tell('the server has ended its side')
        super().eof_received()

    def connection_lost(self, error: BaseException | None) -> None:
        socket = self.socket
        socket.remove_listener('connect', self._tell_connected)
        self._tell(
            'over while %s, %d bytes written, %d received%s',
            self.activity,
            socket.bytes_written,
            socket.bytes_read,
            f': {type(error).__name__}: {error}' if error is not None else '',
        )
        super().connection_lost(error)

    # -- the end --------------------------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        self._tell('failed while %s: %s: %s', self.activity, type(error).__name__, error)
        super().fail(error)

    def close(self) -> None:
        if self.phase is not Phase.OVER:
            self._tell('closing')
        super().close()

    def _leave(self) -> None:
        self._tell("no longer the agent's")
        super()._leave()
