"""Receiving requests: what a connection does with the bytes that come in.

The parser holds them. A body is pulled out of it by whoever reads the message, or thrown away when nobody does; what is
held beyond the mark, or beyond what all connections together may hold, stops the socket from reading.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent import getcurrent

from geventnode.errors import IncompleteBody, ParseError, StreamError
from geventnode.http.server.lifecycle import State
from geventnode.protocol import EndOfMessage, ForwardedPolicy, Parser, Role

if TYPE_CHECKING:
    from geventnode.http.incoming import IncomingMessage
    from geventnode.http.server.response import ServerResponse
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['Receiver']


class Receiver(ABC):
    """The receiving part of a connection."""

    __slots__ = (
        '_awaited',
        '_counted',
        '_eof',
        '_failure',
        '_paused',
        '_reader',
        'began',
        'body_window',
        'expires',
        'hub',
        'parser',
        'request',
        'response',
        'server',
        'socket',
        'state',
    )

    def __init__(self, server: Server, socket: Socket) -> None:
        self.server = server
        self.hub = server.hub
        self.socket = socket
        self.parser = Parser(Role.REQUEST, server.limits)
        self.state = State.PARKED
        self.request: IncomingMessage | None = None
        self.response: ServerResponse | None = None
        #: When the present state, or request, began (monotonic).
        self.began = socket.active
        #: A time before which no deadline can have passed.
        self.expires = socket.active + server.shortest_timeout
        #: When the present window of a slow body began, in seconds of the request, and how many bytes had come then.
        self.body_window: tuple[float, int] | None = None
        self._reader: Any = None
        self._eof = False
        self._paused = False
        self._failure: Exception | None = None
        self._counted = 0
        #: How many seconds a patient listener has waited for the body.
        self._awaited = 0.0

    # -- for the whole connection ---------------------------------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """Say that this is all, give the peer time to read it, and go."""

    @abstractmethod
    def _exchange_over(self) -> None:
        """The response has ended and the request is consumed: what next?"""

    @abstractmethod
    def _refuse_body(self, message: IncomingMessage, failure: Exception) -> None:
        """Answer a request whose body has failed, where that is the server's affair, and raise ``RequestRefused`` in
        its reader then."""

    # -- what is held ---------------------------------------------------------------------------------------------

    def _hold_back(self) -> None:
        """Nobody reads at present: keep what came, up to the mark."""
        buffered = self.parser.buffered
        self._count(buffered)
        if buffered >= self.socket.readable_high_water_mark:
            self._pause()

    def _pause(self) -> None:
        self._paused = True
        self.socket.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            # nothing could arrive meanwhile: that is no part of a window
            self.body_window = None
            self.socket.resume_reading()

    def _count(self, buffered: int) -> None:
        """Tell the server how much is held here; it may ask to pause."""
        change = buffered - self._counted
        if change:
            self._counted = buffered
            self.server.budget.change(self, change)

    def pause_for_budget(self) -> None:
        """All connections together hold too much."""
        self._pause()

    def resume_for_budget(self) -> None:
        """There is room again."""
        if self.state is not State.OVER and self.parser.buffered < self.socket.readable_high_water_mark:
            self._resume()

    # -- who asks -------------------------------------------------------------------------------------------------

    @property
    def forwarding(self) -> ForwardedPolicy | None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        return self.server.forwarding

    # -- the request's body: run by whoever reads it --------------------------------------------------------------

    def read_body(self, message: IncomingMessage) -> bytes:
        if message is not self.request:
            raise self._failure or StreamError('the body was discarded: the response has ended before it was read')
        response = self.response
        if response is not None and response.awaits_continue and not response._head_sent:
            response.write_continue()
        parser = self.parser
        while True:
            try:
                event = parser.next_event()
            except ParseError as error:
                failure = self._body_failed(error)
                self._refuse_body(message, failure)
                if failure is error:
                    raise
                raise failure from error
            if event is not None:
                self._handed_out()
                if type(event) is bytes:
                    # applications read to the length that was declared, and not to the end behind it (PEP 3333)
                    end = parser.take_end()
                    if end is not None:
                        self._body_complete(end.raw_trailers)
                    return event
                self._body_complete(cast(EndOfMessage, event).raw_trailers)
                return b''
            failed = self._failure
            if failed is None and self.state is State.OVER:
                failed = IncompleteBody('the connection was closed in the middle of a body')
            if failed is not None:
                self._refuse_body(message, failed)
                raise failed
            data = self.socket.receive_more()
            if data:
                self.more_received(data)
                continue
            self._resume()
            self._reader = getcurrent()
            try:
                if response is not None and response.patient:
                    self._await_client()
                else:
                    self.server.hub.switch()
            finally:
                self._reader = None

    def more_received(self, data: bytes) -> None:
        """Take what the reader of the body has received by itself."""
        self.parser.feed(data)

    def take_body(self, message: IncomingMessage) -> bytes | None:
        response = self.response
        if message is not self.request or (response is not None and response.awaits_continue):
            return None
        data = self.parser.take_content()
        if data is not None:
            self._handed_out()
            self._body_complete([])
        return data

    def _handed_out(self) -> None:
        """The parser holds less than before: there may be room for more."""
        if self._counted or self._paused:
            buffered = self.parser.buffered
            self._count(buffered)
            if not self._eof and buffered < self.socket.readable_high_water_mark:
                self._resume()

    def _await_client(self) -> None:
        """Wait for the body. The listener may have taken its time, which is not the client's fault: until now, nothing
        has counted but what was waited for before."""
        start = monotonic()
        self.began = start - self._awaited
        self.socket.touch()
        try:
            self.server.hub.switch()
        finally:
            self._awaited += monotonic() - start

    @property
    def has_all_input(self) -> bool:
        """Whether the last request is complete, and no further input has arrived."""
        parser = self.parser
        return parser.content_left == 0 and not parser.buffered and self.socket.active <= self.began

    @property
    def held_back(self) -> bool:
        """Whether the server has stopped reading, because the listener does not read."""
        return self._paused

    @property
    def client_is_awaited(self) -> bool:
        """Whether somebody waits for the client to send, or to take what is queued."""
        return self._reader is not None or self.socket.has_queued

    def _body_failed(self, error: ParseError) -> Exception:
        """Return what a reader is told, and see to it that the connection ends."""
        failure: Exception = error
        if error.code == 'HPE_INVALID_EOF_STATE':
            failure = (
                self._failure
                if self.state is State.OVER and self._failure is not None
                else IncompleteBody('the client ended the connection in the middle of a body')
            )
        self._failure = failure
        if self.response is not None:
            self.response.should_keep_alive = False
        return failure

    def _body_complete(self, raw_trailers: list[tuple[str, str]]) -> None:
        message = self.request
        assert message is not None
        message._set_complete(raw_trailers)
        self._awaited = 0.0
        self.body_window = None
        # a timeout that was not reported to any reader is over
        self._failure = None
        if self.response is not None and self.response.finished:
            self._exchange_over()

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self.server.hub.loop.run_callback(self._switch_to_reader)

    def _switch_to_reader(self) -> None:
        # it may have left meanwhile
        if self._reader is not None:
            self._reader.switch()

    def discard(self) -> None:
        """Discard the received part of a body without a reader. The response has said that the connection goes on."""
        parser = self.parser
        while True:
            try:
                event = parser.next_event()
            except ParseError:
                self.close()
                return
            if event is None:
                break
            if type(event) is not bytes:
                request = self.request
                assert request is not None
                self._body_complete(cast(EndOfMessage, event).raw_trailers)
                if request.listener_count('end'):
                    gevent.spawn(request._on_discarded)
                return
            if self.request is not None:
                self.request._mark_discarded()
        if self._eof:
            self.close()
        else:
            self._count(0)
            self._resume()
