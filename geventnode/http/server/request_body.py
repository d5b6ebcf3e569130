"""The body of a request: read in pieces by its reader, or discarded after the response has ended.

A request without content has none, and a body that has arrived in full when it is read needs none: see
:meth:`geventnode.http.server.connection.Connection.take_body`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, NoReturn

import gevent

from geventnode.errors import IncompleteBody, ParseError, RequestRefused, StreamError
from geventnode.http.body_reader import BodyReader, pass_on

if TYPE_CHECKING:
    from geventnode.http.incoming import IncomingMessage
    from geventnode.http.server.connection import Connection

__all__ = ['RequestBody']


class RequestBody(BodyReader):
    """The body of the request that a connection serves.

    It gets the message as an argument instead of referring to it: a cycle would keep both until the garbage collector
    runs.
    """

    _connection: Connection

    #: The present window of a body with a minimum rate: when it began, in seconds of the request, and how many bytes
    #: had arrived then. See :mod:`geventnode.http.server.deadlines`.
    window: tuple[float, int] | None = None
    #: How many seconds a listener with ``handler_may_block`` has waited for the body.
    awaited: float = 0.0

    # -- run by the reader ----------------------------------------------------------------------------------------

    def _piece_taken(self) -> None:
        self._connection.input_taken()

    def _complete(self, message: IncomingMessage, raw_trailers: list[tuple[str, str]]) -> None:
        self._connection.body_complete(message, raw_trailers)

    def _check_failure(self, message: IncomingMessage) -> None:
        connection = self._connection
        failure = connection.failure
        if failure is None:
            if connection.closed:
                failure = IncompleteBody('the connection was closed in the middle of a body')
            elif connection.request is not message:
                failure = StreamError(
                    'the body was discarded: the server has sent an error response before it was read'
                )
        if failure is not None:
            self._send_error(message, failure)
            raise failure

    def _raise_parse_error(self, message: IncomingMessage, error: ParseError) -> NoReturn:
        failure = self._connection.body_failed(error)
        self._send_error(message, failure)
        if failure is error:
            raise error
        raise failure from error

    def _send_error(self, message: IncomingMessage, failure: Exception) -> None:
        """Send an error response if the response has ``_rejects_bad_body`` set.

        Raises ``RequestRefused`` after that. Otherwise, or if the head was sent, it does nothing.
        """
        connection = self._connection
        response = connection.response
        if response is not None and response._rejects_bad_body and not response._head_sent:
            connection.listener_failed(message, response, failure)
            raise RequestRefused(str(failure)) from failure

    def _wait(self) -> None:
        connection = self._connection
        response = connection.response
        if response is None or not response.handler_may_block:
            super()._wait()
            return
        # The listener's own time is not the client's fault: of the time since the request began, only the time that
        # was spent waiting counts.
        start = monotonic()
        connection.began = start - self.awaited
        connection.socket._record_activity()
        try:
            super()._wait()
        finally:
            self.awaited += monotonic() - start

    # -- run by the hub, or by the end of the response ------------------------------------------------------------

    def discard(self) -> None:
        """Discard the received part of the body.

        The response has ended, and its head has declared that the connection stays open.
        """
        connection = self._connection
        message = connection.request
        assert message is not None

        def drop(piece: bytes) -> bool:
            message._mark_discarded()
            return True

        try:
            end = pass_on(connection.parser, drop)
        except ParseError:
            connection.close()
            return
        if end is None:
            connection.input_discarded()
            return
        self._complete(message, end.raw_trailers)
        if message.listener_count('end'):
            gevent.spawn(message._on_discarded)
