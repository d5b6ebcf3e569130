"""Trace lines about connections, written while ``debug_connections`` is set.

The server then makes its connections of :class:`TracedConnection`, and changes the class of those that are open. A
server that does not trace has no code on the path of a request that would check it.
"""

from __future__ import annotations

from typing import Any

from geventnode.errors import ParseError, RequestTimeout, excerpt
from geventnode.http.server.connection import Connection, ConnectionState
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.served import ServedConnection
from geventnode.protocol import RequestHead

__all__ = ['TracedConnection', 'trace', 'trace_lost']


def trace(connection: ServedConnection, message: str, *args: object) -> None:
    """Write a line about ``connection``, with the name of its peer."""
    socket = connection.socket
    address = socket.remote_address
    # peers on Unix sockets have no address
    name = f'unix-{id(socket):x}' if address is None else f'{address}:{socket.remote_port}'
    connection.server._connection_log.add(f'%s: {message}', name, *args)


def trace_lost(connection: ServedConnection, error: BaseException | None) -> None:
    """Write the last line about ``connection``."""
    trace(
        connection,
        'closed after %d requests, %d bytes received, %d written%s',
        connection.served,
        connection.socket.bytes_read,
        connection.socket.bytes_written,
        f': {type(error).__name__}: {error}' if error is not None else '',
    )


class TracedConnection(Connection):
    """A connection that logs its events.

    It has no slots of its own, so that the class of an open connection can be changed.
    """

    __slots__ = ()

    def __init__(self, server: Any, socket: Any) -> None:
        super().__init__(server, socket)
        self._trace('accepted')

    def _trace(self, message: str, *args: object) -> None:
        trace(self, message, *args)

    # -- run by the hub -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._trace('received %d bytes while %s', len(data), self.activity)
        super().data_received(data)

    def eof_received(self) -> None:
        self._trace('the client has ended its side')
        super().eof_received()

    def queue_drained(self) -> None:
        self._trace('the queue was sent')
        super().queue_drained()

    def time_out(self, error: RequestTimeout) -> None:
        self._trace('%s', error)
        super().time_out(error)

    def connection_lost(self, error: BaseException | None) -> None:
        trace_lost(self, error)
        super().connection_lost(error)

    # -- run by a worker, or by another greenlet that ends an exchange ---------------------------------------------

    def more_received(self, data: bytes) -> None:
        self._trace('received %d bytes more', len(data))
        super().more_received(data)

    def _serve_request(self, head: RequestHead) -> None:
        self._trace('request %d: %s %s', self.served + 1, head.method, excerpt(head.url.encode('latin-1')))
        super()._serve_request(head)

    def _reject(self, error: ParseError | RequestTimeout) -> None:
        self._trace('rejected with %d: %s', error.status, error)
        super()._reject(error)

    def send_error(self, status_code: int) -> None:
        self._trace('sent %d instead of the response of the listener', status_code)
        super().send_error(status_code)

    def response_ended(self, response: ServerResponse) -> None:
        # this can be called twice
        if response is self.response and self.state is ConnectionState.ACTIVE:
            self._trace(
                'response %d: %d, %d bytes%s',
                self.served,
                response.status_code,
                response.body_size,
                '' if response.should_keep_alive else ', the last one',
            )
        super().response_ended(response)

    def close(self) -> None:
        self._trace('closing, %d bytes queued', self.socket.writable_length)
        super().close()

    def upgrade(self) -> bytes:
        self._trace('upgraded after %d requests', self.served)
        return super().upgrade()
