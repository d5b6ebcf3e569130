"""Responding: a worker runs the request listener, and whoever ends the response decides what comes next.

Several requests in one buffer are served by the same worker, but not for long: then the connection stands in line with
the others that are ready.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import getcurrent

from geventnode.errors import (
    ClientDisconnected,
    ConnectionClosed,
    DisconnectReason,
    IncompleteBody,
    ParseError,
    RequestRefused,
    RequestTimeout,
    StreamError,
)
from geventnode.http.incoming import IncomingMessage, describe_request
from geventnode.http.server.error_response import answer
from geventnode.http.server.lifecycle import State
from geventnode.http.server.listener_checks import ListenerReturned
from geventnode.http.server.receiving import Receiver
from geventnode.http.server.refusals import reason_of
from geventnode.http.server.response import ServerResponse
from geventnode.net.deadlines import deadlines
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import RequestHead

if TYPE_CHECKING:
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['Responder', 'Work']

log = logging.getLogger('geventnode.error')

#: Requests of one connection, and seconds, that a worker serves before others get their turn.
ROUNDS, ROUND_TIME = 16, 0.001

#: What a worker is given: a request, or what came in the place of one.
Work = RequestHead | ParseError | RequestTimeout

_PARKED, _BUSY, _DISCARDING, _FLUSHING = State.PARKED, State.BUSY, State.DISCARDING, State.FLUSHING


class Responder(Receiver):
    """The responding part of a connection."""

    __slots__ = ('_idle', '_ready', '_work', '_worker', 'partial', 'served', 'timeout', 'unflushed')

    def __init__(self, server: Server, socket: Socket) -> None:
        super().__init__(server, socket)
        #: How many requests were taken.
        self.served = 0
        #: Whether a head has begun to arrive.
        self.partial = False
        #: The inactivity timeout of this exchange, where it has one of its own.
        self.timeout: float | None = None
        #: Responses that have ended, and are still queued in part.
        self.unflushed: dict[ServerResponse, None] = {}
        self._idle = server.idle_workers
        self._work: Work | None = None
        self._worker: Any = None
        self._ready = False

    # -- for the whole connection ---------------------------------------------------------------------------------

    @abstractmethod
    def go_on(self) -> None:
        """Serve what is buffered: this connection's turn has come."""

    @abstractmethod
    def on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`."""

    @abstractmethod
    def detach(self) -> bytes:
        """Leave the socket to another protocol; return what was received of it."""

    # -- the next request -----------------------------------------------------------------------------------------

    def _next_work(self) -> Work | None:
        """Return the next head, or the error in its place; None when more input is needed."""
        parser = self.parser
        try:
            # between messages, the next event is a head
            head: Any = parser.next_event()
        except ParseError as error:
            return error
        if head is None:
            if not self.partial and parser.head_started:
                self.partial = True
                self.began = self.socket.active
                self.expires = self.began + self.server.shortest_timeout
            # what is there is not enough, however much it is
            self._resume()
            if self._counted or parser.buffered:
                self._count(parser.buffered)
            return None
        if self.partial:
            self.partial = False
            self._count(0)
        else:
            self.began = self.socket.active
        return head  # type: ignore[no-any-return]  # see above

    # -- run by a worker ------------------------------------------------------------------------------------------

    def work(self) -> None:
        """See :class:`geventnode.http.server.workers.Job`."""
        work = self._work
        self._work = None
        server = self.server
        worker = getcurrent()
        started = 0.0
        rounds = 0
        if self.socket.batching:
            self.socket.batching = False
        while work is not None:
            # one request may have asked for what another has not
            self._worker = worker if server.cancels else None
            if isinstance(work, RequestHead):
                self._serve(work)
            else:
                self._reject(work)
            if not self._ready or self._idle is None:
                break
            # more is buffered, and nobody else has taken it yet
            rounds += 1
            if rounds == 1:
                started = monotonic()
                self.socket.batching = True
            elif rounds >= ROUNDS or monotonic() - started > ROUND_TIME:
                break
            self._ready = False
            server.ready.discard(self)
            work = self._next_work()
            if work is not None:
                self.state = _BUSY
                worker.gr_context = None
            elif self._nothing_more():
                self.close()
        if self._worker is worker:
            # another one may be at work on the next request already
            self._worker = None

    def _serve(self, head: RequestHead) -> None:
        server = self.server
        self.served += 1
        request = server.request_class(head, self.socket, self)
        response = server.response_class(request, self)
        self.request = request
        self.response = response
        if not request.complete:
            # what came with the head is held until somebody reads it
            self._count(self.parser.buffered)
        try:
            if head.ordinary and not server.all_special:
                if not server.hand_out(request, response):
                    server.unheard(response)
            else:
                server.special_request(self, head, request, response)
            if self.request is request and response.finished:
                # the listener stopped reading after it had answered
                self.response_ended(response)
        except (Exception, gevent.Timeout, SystemExit) as error:
            # sys.exit() in a view shall not cut off all other requests
            self.listener_failed(request, response, error)
        except ClientDisconnected:
            if not response.refused:
                self.socket.destroy()
        except RequestRefused as error:
            # the server has answered, unless this is about another request
            if self.request is request and not (response.finished or self.socket.destroyed):
                self.listener_failed(request, response, error)
        except BaseException:
            # after its own end() the connection may be at work on the next request, which is none of its business, or
            # goes on when the rest of the body has come
            if self.request is request and not response.finished:
                self._ready = False
                self.socket.destroy()
            raise

    def _reject(self, error: ParseError | RequestTimeout) -> None:
        """Answer what is no request."""
        server = self.server
        server.peer_log.refused(reason_of(error), '%s: %s', self.socket.remote_address or 'a Unix socket', error)
        if server.listener_count('clientError'):
            try:
                server.emit('clientError', error, self.socket)
            except Exception:
                log.exception("a 'clientError' listener failed")
        elif not self.socket.destroyed:
            try:
                self.socket.put(answer(error.status))
            except ConnectionClosed:
                # nobody is left to hear it
                return
        self.close()

    def listener_failed(self, request: IncomingMessage, response: ServerResponse, error: BaseException) -> None:
        """A listener raised: 500 when nothing was sent, otherwise the client sees a message cut short."""
        if response.refused and (isinstance(error, (ConnectionClosed, StreamError)) or error is self._failure):
            # it has found that it is too late, for its answer or for the body
            return
        if self.request is not request or response.finished:
            log.error('%s: a listener failed after its response had ended', describe_request(request), exc_info=error)
            if response.upgraded:
                # nobody else knows what is spoken there now
                self.socket.destroy()
            return
        gone = self.socket.destroyed or request.aborted
        if isinstance(error, (ConnectionClosed, IncompleteBody)) and gone:
            self.server.peer_log.debug('%s: the client went away', describe_request(request))
        elif isinstance(error, (ParseError, IncompleteBody, RequestTimeout)) and error is self._failure:
            self.server.peer_log.refused(reason_of(error), '%s: %s', describe_request(request), error)
        elif isinstance(error, ListenerReturned):
            log.error('%s: %s', describe_request(request), error)
        else:
            log.error('%s: the request listener failed', describe_request(request), exc_info=error)
        if self.socket.destroyed:
            return
        if response._head_sent:
            if self._failure is not None or not response._end_if_whole():
                self.socket.destroy()
        else:
            self.refuse(getattr(error, 'status', 500) if error is self._failure else 500)

    def cancel(self, response: ServerResponse) -> None:
        """Run by the hub: throw into the greenlet that runs the listener of this very exchange."""
        worker = self._worker
        if worker is not None and (self.response is response or response.refused) and not worker.dead:
            self._worker = None
            worker.throw(ClientDisconnected())

    def cancel_on_disconnect(self, response: ServerResponse) -> None:
        """See :class:`geventnode.interfaces.IServerResponse`."""
        if response.request.aborted or response.destroyed:
            raise ClientDisconnected
        if response is self.response:
            self._worker = getcurrent()

    def refuse(self, status_code: int) -> None:
        """Answer the request in work in place of its listener, and close."""
        request, response = self.request, self.response
        assert request is not None
        assert response is not None
        response.destroyed = response.refused = True
        head_only = request.method == 'HEAD'
        text = answer(status_code, head_only=head_only)
        # as observers see it, whatever the listener has set
        response._replaced(0 if head_only else len(text) - text.index(b'\r\n\r\n') - 4)
        try:
            self.socket.put(text)
        except ConnectionClosed:
            # nobody is left to hear it
            return
        # a client that ends its direction in the middle of a body has left, as far as observers are concerned
        self.turn_away(None if isinstance(self._failure, IncompleteBody) else status_code)

    def give_up_listener(self) -> None:
        """Answer 503 in place of a listener that takes too long, which is notified as of a disconnect."""
        self._disconnected()
        self.refuse(503)

    def _refuse_body(self, message: IncomingMessage, failure: Exception) -> None:
        """See :class:`geventnode.http.server.receiving.Receiver`."""
        response = self.response
        if response is not None and response.refuses_bad_body and not response._head_sent:
            self.listener_failed(message, response, failure)
            raise RequestRefused(str(failure)) from failure

    def turn_away(self, status_code: int | None = None) -> None:
        """Close behind what was sent, without the response to the request in work.

        :param status_code: the status sent instead of its own; None: none, or none that the client waits for.
        """
        assert self.response is not None
        self.response._on_aborted(status_code)
        self.request = self.response = None
        self.close()

    # -- the exchange: run by whoever ends it ---------------------------------------------------------------------

    def may_go_on(self, response: ServerResponse, whole: bool) -> bool:
        """Return whether another request may follow the one that ``response`` answers: the head says so, and it
        is kept (RFC 9112, section 9.6).

        :param whole: whether all of the response leaves with the head.
        """
        server = self.server
        limit = server.request_limit
        return (
            not server.draining
            and not server.crowded
            and (not limit or self.served < limit)
            and (response.request.complete or self._may_outlive_body(response, whole))
        )

    def _may_outlive_body(self, response: ServerResponse, whole: bool) -> bool:
        """Return whether the connection goes on although the body of the request was not read to its end."""
        if response.awaits_continue or self._failure is not None:
            return False
        if response.request._read_started and not whole:
            # it will be read, or else discarded, however long it is
            return True
        left = self.parser.content_left
        if left is None:
            # the end of a chunked body can be in the kernel already
            data = self.socket.receive_now()
            if data:
                self.parser.feed(data)
                self._hold_back()
                left = self.parser.content_left
        return left is not None and left <= self.server.max_discard

    def response_ended(self, response: ServerResponse) -> None:
        """``end()`` was called, and everything handed to the socket."""
        if response is not self.response or (self.state is not _BUSY and self.state is not State.OVER):
            # told twice: the rest of the body is being thrown away, or was too much and the connection closes
            return
        request = self.request
        assert request is not None
        if not response.should_keep_alive:
            if request.complete or not request._has_reader:
                self._exchange_over()
        elif request.complete:
            self._exchange_over()
        elif not request._has_reader:
            self.state = _DISCARDING
            self.began = monotonic()
            self.body_window = None
            self.expires = self.began
            self.discard()

    def _exchange_over(self) -> None:
        """The response has ended and the request is consumed: what next?"""
        response = self.response
        socket = self.socket
        if response is not None and not response.should_keep_alive and not self._drops_next():
            self.request = self.response = None
            self.close()
            return
        if socket.writable_length >= socket.writable_high_water_mark:
            self.state = _FLUSHING
            return
        self.request = self.response = None
        self.timeout = None
        if self.state is State.OVER:
            return
        self.state = _PARKED
        self.began = socket.active
        self.expires = self.began
        if not (self.server.draining or self.server.crowded):
            self.expires += self.server.shortest_timeout
        buffered = self.parser.buffered
        if buffered:
            self._ready = True
            self.server.ready.add(self)
        elif self._eof:
            self.close()
            return
        if self._counted:
            self._count(buffered)
        if self._paused and buffered < socket.readable_high_water_mark:
            self._resume()

    def _drops_next(self) -> bool:
        """Whether a request is pipelined behind the last one that is allowed: it is told so."""
        request = self.request
        return (
            self.served == self.server.request_limit
            and self.parser.buffered > 0
            and request is not None
            and request.complete
        )

    def _nothing_more(self) -> bool:
        """Whether no further request can come: the peer has ended its side, or has had all its requests."""
        return self._eof or 0 < self.server.request_limit <= self.served

    def response_fell_short(self, response: ServerResponse, missing: int) -> None:
        """A response ended with less than it declared: the client must not take the next one for its rest."""
        log.error(
            '%s: the response ended %d bytes short of its Content-Length', describe_request(response.request), missing
        )
        self.socket.destroy()

    def response_destroyed(self, response: ServerResponse, error: BaseException | None) -> None:
        """A response was given up."""
        if response is self.response and not response.finished:
            self.socket.destroy(error)

    def on_message_destroyed(self, message: IncomingMessage, error: BaseException | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if message is self.request and self.state is not State.OVER:
            self.socket.destroy(error)

    def on_reader_paused(self, message: IncomingMessage) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`: the response may have ended before."""
        if message is self.request and self.response is not None and self.response.finished and self.state is _BUSY:
            self.response_ended(self.response)

    def on_message_error(self, message: IncomingMessage, error: BaseException) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if message is self.request and self.response is not None:
            self.listener_failed(message, self.response, error)

    def set_exchange_timeout(self, message: object, seconds: float | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        timeout = 0.0 if seconds is None else checked_seconds('timeout', seconds)
        if message is not self.request and message is not self.response:
            return
        self.timeout = timeout
        if self.state is not State.OVER and seconds:
            self.expires = min(self.expires, monotonic() + seconds)
            deadlines(self.server.hub).watch(self)

    def _disconnected(self) -> None:
        """The peer has gone, or has ended its side, while a response was open."""
        request, response = self.request, self.response
        if request is None or response is None or request.aborted or response.finished:
            return
        request.aborted = True
        if request._listeners is not None or response._listeners is not None:
            gevent.spawn(_tell_disconnect, request, response)
        if self._worker is not None:
            self.server.hub.loop.run_callback(self.cancel, response)


def _tell_disconnect(request: IncomingMessage, response: ServerResponse) -> None:
    request.emit('aborted')
    response.emit('close')
    if request.listener_count('error'):
        request._report_error(request._error or DisconnectReason('the client went away before the exchange was over'))
    request.emit('close')
