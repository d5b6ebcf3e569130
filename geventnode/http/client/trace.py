"""Log the events of an agent's connections while ``debug_connections`` is on.

An agent then makes its connections of a class that logs and calls the methods of the usual class; open connections
change their class. So nothing is checked on a connection that is not traced. The server does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geventnode.errors import excerpt, without_credentials
from geventnode.http.client.connection import Connection, ConnectionState

if TYPE_CHECKING:
    from geventnode.http.client.request import ClientRequest
    from geventnode.http.client.response import ClientResponse
    from geventnode.protocol import ResponseHead

__all__ = ['TracedConnection']


class TracedConnection(Connection):
    """A connection that logs its events. It has no slots, so that an open connection can change its class."""

    __slots__ = ()

    def __init__(self, agent: Any, bucket: Any, origin: Any, socket: Any, number: int) -> None:
        super().__init__(agent, bucket, origin, socket, number)
        if socket.pending:
            self._trace('connecting')
            socket.once('connect', self._trace_connected)
        else:
            self._trace_connected()

    def _trace(self, message: str, *args: object) -> None:
        self.agent._connection_log.add(f'%s #%d: {message}', self.origin, self.number, *args)

    def _trace_connected(self) -> None:
        socket = self.socket
        if socket.remote_address is None:
            self._trace('connected')
        else:
            self._trace('connected to %s:%s from port %s', socket.remote_address, socket.remote_port, socket.local_port)

    # -- an exchange ----------------------------------------------------------------------------------------------

    def start(self, request: ClientRequest, reused: bool, now: float) -> None:
        self._trace(
            'request: %s %s%s',
            request.method,
            excerpt(without_credentials(request.path).encode('latin-1')),
            ', on a reused connection' if reused else '',
        )
        super().start(request, reused, now)

    def _begin_response(self, request: ClientRequest, head: ResponseHead) -> ClientResponse:
        self._trace('response: %d', head.status_code)
        return super()._begin_response(request, head)

    def _receive_whole_response(self, head: ResponseHead, body: bytes) -> None:
        self._trace('response: %d', head.status_code)
        super()._receive_whole_response(head, body)

    def _upgrade(self, request: ClientRequest, head: ResponseHead) -> None:
        self._trace('response: %d; upgraded', head.status_code)
        super()._upgrade(request, head)

    def _on_exchange_complete(self) -> None:
        self._trace('the exchange is over')
        super()._on_exchange_complete()

    def more_received(self, data: bytes) -> None:
        self._trace('received %d bytes more', len(data))
        super().more_received(data)

    # -- run by the hub -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._trace('received %d bytes while %s', len(data), self.activity)
        super().data_received(data)

    def eof_received(self) -> None:
        self._trace('the server has ended its side')
        super().eof_received()

    def connection_lost(self, error: BaseException | None) -> None:
        socket = self.socket
        socket.remove_listener('connect', self._trace_connected)
        self._trace(
            'closed while %s, %d bytes written, %d received%s',
            self.activity,
            socket.bytes_written,
            socket.bytes_read,
            f': {type(error).__name__}: {error}' if error is not None else '',
        )
        super().connection_lost(error)

    # -- the end --------------------------------------------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        self._trace('failed while %s: %s: %s', self.activity, type(error).__name__, error)
        super().fail(error)

    def close(self) -> None:
        if self.state is not ConnectionState.CLOSED:
            self._trace('closing')
        super().close()

    def _on_agent_remove(self) -> None:
        self._trace('removed from the agent')
        super()._on_agent_remove()
