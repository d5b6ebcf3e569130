"""Receiving responses: what a client's connection does with the bytes of a body.

Whoever reads the response pulls them out of the parser. What nobody reads at present is kept with the message, up to
the mark; what nobody can read any more, because request and response are forgotten, is thrown away as it comes.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent import getcurrent

from geventnode.errors import (
    GeventnodeError,
    IncompleteBody,
    ParseError,
    StreamError,
    copy_for_raising,
    without_traceback,
)
from geventnode.http.client.phase import ConnectionState
from geventnode.net.deadlines import NEVER
from geventnode.protocol import EndOfMessage, Limits, ResponseParser

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Origin
    from geventnode.http.client.request import ClientRequest
    from geventnode.http.client.response_body import ClientResponse
    from geventnode.http.incoming import IncomingMessage
    from geventnode.net.socket import Socket

__all__ = ['DISCARD_TIME', 'ResponseReceiver']

#: Bytes of an unread body that are thrown away to keep a connection, and the seconds in which they must come.
MAX_DISCARD, DISCARD_TIME = 65536, 5.0

LIMITS = Limits()

_RECEIVING, _SENDING, _DELIVERING, _DISCARDING = (
    ConnectionState.RECEIVING,
    ConnectionState.SENDING,
    ConnectionState.DELIVERING,
    ConnectionState.DISCARDING,
)


class ResponseReceiver(ABC):
    """The receiving part of a client's connection."""

    __slots__ = (
        '_discarded',
        '_eof',
        '_expires',
        '_kept_response',
        '_paused',
        '_reader',
        '_request',
        '_response',
        'agent',
        'hub',
        'origin',
        'parser',
        'request',
        'sent',
        'since',
        'socket',
        'state',
    )

    def __init__(self, agent: Agent, origin: Origin, socket: Socket) -> None:
        self.agent = agent
        self.hub = agent._hub
        self.origin = origin
        self.socket = socket
        self.parser = ResponseParser(LIMITS)
        self.state = ConnectionState.IDLE
        #: When the phase began, or somebody began to wait for the body; a time before which no deadline can pass.
        self.since = socket._last_activity
        self._expires = NEVER
        #: The request whose response has not begun; afterwards there are only weak references.
        self.request: ClientRequest | None = None
        self._request: weakref.ref[ClientRequest] | None = None
        self._response: weakref.ref[ClientResponse] | None = None
        #: The response whose listeners the connection is kept for.
        self._kept_response: weakref.ref[ClientResponse] | None = None
        #: Whether the whole request was handed to the socket.
        self.sent = False
        self._reader: Any = None
        self._eof = False
        self._paused = False
        self._discarded = 0

    # -- for the whole connection ---------------------------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Let go of the socket."""

    @abstractmethod
    def _on_response_complete(self, head: Any) -> None:
        """The response with this head is complete."""

    @abstractmethod
    def _on_exchange_complete(self) -> None:
        """Request and response are complete."""

    @abstractmethod
    def _release(self) -> None:
        """The exchange is over, and nothing is kept for its listeners."""

    @property
    def current_request(self) -> ClientRequest | None:
        """The request of the exchange in work, if there is one and its users have not forgotten it."""
        if self.request is not None:
            return self.request
        return None if self._request is None else self._request()

    @property
    def current_response(self) -> ClientResponse | None:
        """The response that is coming, if its users have not forgotten it."""
        return None if self._response is None else self._response()

    @property
    def being_read(self) -> bool:
        """Whether somebody waits for the body."""
        return self._reader is not None

    # -- the body -------------------------------------------------------------------------------------------------

    def _buffer_body(self) -> None:
        """Collect what came of a body that nobody reads at present, up to the mark."""
        response = self.current_response
        if response is None:
            return
        parser = self.parser
        mark = response.readable_high_water_mark
        while response._buffered_size < mark:
            try:
                event = parser.next_event()
            except ParseError as error:
                self._fail_body(self._body_error(error))
                return
            if event is None:
                return
            if type(event) is not bytes:
                self._complete(response, cast(EndOfMessage, event).raw_trailers)
                return
            response._buffer(event)
        if not self._paused:
            self._paused = True
            self.socket._pause_reading()

    def read_body(self, message: IncomingMessage) -> bytes:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if self.current_response is not message:
            raise StreamError('the connection of this message is gone')
        parser = self.parser
        while True:
            try:
                event = parser.next_event()
            except ParseError as error:
                self._fail_body(self._body_error(error))
                assert message._failure is not None
                raise copy_for_raising(message._failure) from None
            if event is not None:
                if type(event) is bytes:
                    # a reader that knows the length reads no further, and the next request may wait for this connection
                    end = parser.take_end()
                    if end is not None:
                        self._complete(message, end.raw_trailers)
                    return event
                self._complete(message, cast(EndOfMessage, event).raw_trailers)
                return b''
            if message._failure is not None:
                raise copy_for_raising(message._failure)
            data = self.socket._receive_more()
            if data:
                self.more_received(data)
                continue
            if self._paused:
                self._paused = False
                self.socket._resume_reading()
            self.since = monotonic()
            self._reader = getcurrent()
            try:
                self.agent._hub.switch()
            except BaseException:
                self._reader = None
                self.close()
                raise
            finally:
                self._reader = None

    def more_received(self, data: bytes) -> None:
        """Take what the reader of the body has received by itself."""
        self.parser.feed(data)

    def take_body(self, message: IncomingMessage) -> bytes | None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        data = self.parser.take_content() if self.current_response is message else None
        if data is not None:
            self._complete(message, [])
        return data

    def _body_error(self, error: ParseError) -> Exception:
        if error.code == 'HPE_INVALID_EOF_STATE':
            return IncompleteBody(f'{self.origin} ended the connection in the middle of a body')
        return without_traceback(error)

    def _fail_body(self, error: Exception) -> None:
        """The body is cut short by ``error``."""
        if self.state is _RECEIVING:
            self.socket.destroy(error)

    def _abort_response(self, error: BaseException | None) -> None:
        """The connection is gone, and with it what has not come of the body."""
        response = self.current_response
        if response is None:
            return
        # a body that is here in full stays readable whatever happens to the socket
        try:
            while (event := self.parser.next_event()) is not None:
                if type(event) is not bytes:
                    response._set_complete(cast(EndOfMessage, event).raw_trailers)
                    self._wake_reader()
                    return
                response._buffer(event)
        except ParseError as found:
            error = error or self._body_error(found)
        if not isinstance(error, GeventnodeError):
            lost = IncompleteBody(f'{self.origin}: the connection was lost in the middle of a body')
            lost.__cause__ = error
            error = lost
        self.origin.locate(error, 'body')
        response._abort(error)
        self._wake_reader()
        request = self.current_request
        if response._listeners is not None or (request is not None and request._listeners is not None):
            gevent.spawn(_tell_cut_off, request, response)

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self.agent._hub.loop.run_callback(self._switch_to_reader)

    def _switch_to_reader(self) -> None:
        # it may have left meanwhile
        if self._reader is not None:
            self._reader.switch()

    def _complete(self, response: IncomingMessage, raw_trailers: list[tuple[str, str]]) -> None:
        response._set_complete(raw_trailers)
        self._response = None
        self._on_response_complete(response._head)

    # -- what nobody wants ----------------------------------------------------------------------------------------

    def _on_forgotten(self, reference: weakref.ref[Any]) -> None:
        """The users have forgotten the request or the response. Runs wherever the collector does."""
        if self._is_forgotten(reference):
            self.agent._hub.loop.run_callback_threadsafe(self._discard_forgotten, reference)

    def _is_forgotten(self, reference: weakref.ref[Any]) -> bool:
        """Return whether ``reference`` is of the exchange in work, which is not wanted any more."""
        return (
            (reference is self._response and self.state is _RECEIVING)
            or (reference is self._kept_response and self.state is _DELIVERING)
            or (reference is self._request and self.state is _SENDING and not self.sent)
        )

    def _discard_forgotten(self, reference: weakref.ref[Any]) -> None:
        if not self._is_forgotten(reference):
            # the connection serves another exchange by now
            return
        if self.state is _SENDING:
            self.close()
        elif self.state is _DELIVERING:
            self._release()
        else:
            self.state = _DISCARDING
            self.since = monotonic()
            self._discarded = 0
            self._expires = self.since + DISCARD_TIME
            if self._paused:
                self._paused = False
                self.socket._resume_reading()
            self._discard()

    def _discard(self) -> None:
        parser = self.parser
        while self._discarded <= MAX_DISCARD:
            try:
                event = parser.next_event()
            except ParseError:
                break
            if event is None:
                if self._eof:
                    break
                return
            if type(event) is not bytes:
                self._on_exchange_complete()
                return
            self._discarded += len(event)
        self.close()

    # -- for messages ---------------------------------------------------------------------------------------------

    @property
    def forwarding(self) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`: a server speaks for itself."""
        return None

    def on_reader_paused(self, message: IncomingMessage) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if message is self.current_response and not message.destroyed:
            self._buffer_body()

    def on_message_error(self, message: IncomingMessage, error: BaseException) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        self.on_message_destroyed(message, error)

    def on_message_destroyed(self, message: IncomingMessage, error: BaseException | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        state = self.state
        if (state is _RECEIVING and self.current_response is message) or (
            state is _DELIVERING and self._kept_response is not None and self._kept_response() is message
        ):
            self.socket.destroy(error)


def _tell_cut_off(request: ClientRequest | None, response: IncomingMessage) -> None:
    response.emit('aborted')
    if request is not None:
        request.emit('close')
    response._finish_abort()
