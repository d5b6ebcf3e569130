"""The body of a response while it arrives.

A greenlet that reads the response pulls the body out of the parser. Without a reader it is buffered in the response, up
to the high-water mark; when the users have forgotten both request and response, the rest is discarded.
"""

from __future__ import annotations

import weakref
from time import monotonic
from typing import TYPE_CHECKING, NoReturn, cast

import gevent

from geventnode.errors import GeventnodeError, IncompleteBody, ParseError, copy_for_raising, without_traceback
from geventnode.http.body_reader import BodyReader, pass_on
from geventnode.protocol import ResponseHead

if TYPE_CHECKING:
    from geventnode.http.client.connection import Connection
    from geventnode.http.client.request import ClientRequest
    from geventnode.http.client.response import ClientResponse
    from geventnode.http.incoming import IncomingMessage

__all__ = ['ResponseBody']

#: Bytes of an unread body that are discarded to keep a connection.
MAX_UNREAD_BODY = 65536


class ResponseBody(BodyReader):
    """The body of one response, from its head to its end. Made only for a response that has content."""

    _connection: Connection

    def __init__(self, connection: Connection, response: ClientResponse, exchange: tuple[str, str, float]) -> None:
        super().__init__(connection)
        #: A weak reference to the response; the connection is notified when the response is forgotten.
        self.reference = weakref.ref(response, connection._on_forgotten)
        #: Method, target and start of the exchange, for observers: its users may have forgotten the request.
        self.exchange = exchange
        self._head = cast(ResponseHead, response._head)
        self._discarded = 0

    @property
    def response(self) -> ClientResponse | None:
        """The response, None after its users have forgotten it."""
        return self.reference()

    def advance(self) -> None:
        """Pass the received bytes to the reader or the buffer. Runs in the hub."""
        if self.reader is not None:
            self.reader.switch()
        else:
            self.buffer()

    # -- with a reader --------------------------------------------------------------------------------------------

    def take(self, message: IncomingMessage) -> bytes | None:
        """Return the rest of the body if it has arrived, otherwise None."""
        data = self._connection.parser.take_content()
        if data is not None:
            self._complete(message, [])
        return data

    def _wait(self) -> None:
        self._connection.since = monotonic()
        try:
            super()._wait()
        except BaseException:
            # the reader was killed, or has run into a timeout: the rest of the body is lost
            self._connection.close()
            raise

    def _complete(self, message: IncomingMessage, raw_trailers: list[tuple[str, str]]) -> None:
        message._set_complete(raw_trailers)
        self._connection.on_body_complete(self._head)

    def _check_failure(self, message: IncomingMessage) -> None:
        if message._failure is not None:
            raise copy_for_raising(message._failure)

    def _raise_parse_error(self, message: IncomingMessage, error: ParseError) -> NoReturn:
        self._connection.fail_body(self._explain(error))
        assert message._failure is not None
        raise copy_for_raising(message._failure) from None

    def _explain(self, error: ParseError) -> Exception:
        """Return the error to report for a body that cannot be parsed."""
        if error.code == 'HPE_INVALID_EOF_STATE':
            return IncompleteBody(f'{self._connection.origin} ended the connection in the middle of a body')
        return without_traceback(error)

    # -- without a reader -----------------------------------------------------------------------------------------

    def buffer(self) -> None:
        """Buffer the received pieces, and pause the socket at the high-water mark."""
        response = self.response
        if response is None:
            return
        mark = response.readable_high_water_mark

        def take(piece: bytes) -> bool:
            response._buffer(piece)
            return response._buffered_size < mark

        if response._buffered_size < mark:
            try:
                end = pass_on(self._connection.parser, take)
            except ParseError as error:
                self._connection.fail_body(self._explain(error))
                return
            if end is not None:
                self._complete(response, end.raw_trailers)
                return
        if response._buffered_size >= mark:
            self._connection.pause_input()

    def start_discarding(self) -> float:
        """Discard the body from now on. Returns the current monotonic time."""
        self._discarded = 0
        return monotonic()

    def discard(self) -> None:
        """Discard the received pieces; after too many, close the connection."""
        connection = self._connection
        try:
            end = pass_on(connection.parser, self._discard_piece)
        except ParseError:
            connection.close()
            return
        if end is not None:
            connection.on_body_discarded(self._head)
        elif self._discarded > MAX_UNREAD_BODY or connection._eof:
            connection.close()

    def _discard_piece(self, piece: bytes) -> bool:
        self._discarded += len(piece)
        return self._discarded <= MAX_UNREAD_BODY

    # -- a lost connection ----------------------------------------------------------------------------------------

    def abort(self, error: BaseException | None) -> None:
        """Report that the connection was lost before the end of the body.

        A body that has arrived completely stays readable.
        """
        response = self.response
        if response is None:
            return
        connection = self._connection

        def take(piece: bytes) -> bool:
            response._buffer(piece)
            return True

        try:
            end = pass_on(connection.parser, take)
        except ParseError as found:
            error = error or self._explain(found)
        else:
            if end is not None:
                response._set_complete(end.raw_trailers)
                self.wake()
                return
        if not isinstance(error, GeventnodeError):
            lost = IncompleteBody(f'{connection.origin}: the connection was lost in the middle of a body')
            lost.__cause__ = error
            error = lost
        connection.origin.locate(error, 'body')
        response._abort(error)
        self.wake()
        request = connection.current_request
        if response._listeners is not None or (request is not None and request._listeners is not None):
            gevent.spawn(_emit_aborted, request, response)


def _emit_aborted(request: ClientRequest | None, response: IncomingMessage) -> None:
    response.emit('aborted')
    if request is not None:
        request.emit('close')
    response._finish_abort()
