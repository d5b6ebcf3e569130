"""One client's connection: it serves one request at a time, and holds no greenlet while it waits.

The socket passes on input in the hub. While the connection is idle, the head of a request is parsed right there, and
only a complete one takes a worker, which runs the request listener. The bytes after the head stay in the parser until
the listener reads the body, or until the response has ended and the next request can be served. A worker serves the
requests of one buffer one after the other; after some of them, the connection joins the run queue.

:meth:`Connection._serve_request` shows an exchange from its head to the next state of the connection.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import getcurrent

from geventnode.errors import (
    ClientDisconnected,
    ConnectionClosed,
    DisconnectReason,
    GeventnodeError,
    IncompleteBody,
    ParseError,
    RequestRefused,
    RequestTimeout,
    StreamError,
)
from geventnode.http.incoming import IncomingMessage, describe_request
from geventnode.http.server.deadlines import due
from geventnode.http.server.error_response import error_response
from geventnode.http.server.listener_checks import ListenerReturned
from geventnode.http.server.refusals import refusal_reason
from geventnode.http.server.request_body import RequestBody
from geventnode.http.server.response import ServerResponse
from geventnode.http.server.served import Exchange, ServedConnection
from geventnode.http.server.workers import Worker
from geventnode.net.deadlines import deadlines
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import ForwardedPolicy, Limits, Parser, RequestHead, Role

if TYPE_CHECKING:
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['TRANSITIONS', 'Connection', 'ConnectionState', 'emit_disconnect']

log = logging.getLogger('geventnode.error')

#: How many requests of one connection, and for how many seconds, a worker serves before other connections have their
#: turn.
ROUNDS, ROUND_TIME = 16, 0.001

#: A request, or the error that was received instead of one.
Work = RequestHead | ParseError | RequestTimeout


class ConnectionState(enum.Enum):
    """The states of a connection."""

    #: Waits for a request, or for the rest of its head. No greenlet.
    IDLE = 'idle'
    #: A request is served.
    ACTIVE = 'active'
    #: The response has ended; the rest of the request's body is discarded as it arrives. No greenlet.
    DISCARDING = 'discarding'
    #: The response has ended, and much of it is still queued. No greenlet.
    FLUSHING = 'flushing'
    #: Everything was sent; the client has some time to read it (RFC 9112, section 9.6). No greenlet.
    LINGERING = 'lingering'
    #: Another protocol took over, or the socket is closed.
    CLOSED = 'closed'


_IDLE, _ACTIVE, _DISCARDING, _FLUSHING, _LINGERING, _CLOSED = ConnectionState

#: The states that can follow each state. The documentation draws them; in tests, any other change raises.
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    _IDLE: frozenset({_ACTIVE, _LINGERING, _CLOSED}),
    _ACTIVE: frozenset({_IDLE, _DISCARDING, _FLUSHING, _LINGERING, _CLOSED}),
    _DISCARDING: frozenset({_IDLE, _FLUSHING, _LINGERING, _CLOSED}),
    _FLUSHING: frozenset({_IDLE, _LINGERING, _CLOSED}),
    _LINGERING: frozenset({_CLOSED}),
    _CLOSED: frozenset(),
}

#: The activity of a connection in the states that have only one.
_ACTIVITIES = {_DISCARDING: 'reading', _FLUSHING: 'writing', _LINGERING: 'closing'}


class Connection(ServedConnection):
    """The protocol of one accepted socket: parses its requests, and has workers serve them."""

    __slots__ = (
        '_accounted',
        '_body',
        '_eof',
        '_failure',
        '_idle_workers',
        '_paused',
        '_queued',
        '_work',
        '_worker',
        'head_started',
        'hub',
        'parser',
        'request',
        'response',
        'server',
        'state',
        'timeout',
        'unflushed',
    )

    def __init__(self, server: Server, socket: Socket) -> None:
        self.server = server
        self.hub = server._hub
        self.socket = socket
        self.parser = Parser(Role.REQUEST, server._limits)
        self.state = _IDLE
        self.request: IncomingMessage | None = None
        self.response: ServerResponse | None = None
        #: The body of the request, while it is read in pieces or discarded.
        self._body: RequestBody | None = None
        #: The error that cut the body of the request short.
        self._failure: Exception | None = None
        #: How many requests were taken.
        self.served = 0
        #: Whether a head has begun to arrive; ``began`` is then the time of its first bytes.
        self.head_started = False
        #: When the present state, or request, began (monotonic).
        self.began = socket._last_activity
        #: A time before which no deadline can have passed.
        self._expires = socket._last_activity + server._shortest_timeout
        #: The inactivity timeout of this exchange, where it has one of its own.
        self.timeout: float | None = None
        #: Responses that have ended, and are still queued in part. None: there was no such response.
        self.unflushed: dict[ServerResponse, None] | None = None
        #: The workers that wait for a request; None: each request gets a new one.
        self._idle_workers = server._idle_workers
        self._work: Work | None = None
        #: The worker that a disconnect cancels.
        self._worker: Any = None
        #: Whether the connection is in the run queue.
        self._queued = False
        self._eof = False
        self._paused = False
        #: How many bytes the receive-buffer limit of the server counts for this connection.
        self._accounted = 0
        if server.draining:
            self._expires = self.began
        # before the input, which can end the connection at once
        deadlines(server._hub).watch(self)
        socket._set_protocol(self)

    # -- input, as a geventnode.net.socket.Protocol: run by the hub -----------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is _IDLE:
            self.parser.feed(data)
            if self._queued:
                # the run queue will resume it
                self._pause_if_full()
                return
            work = self._next_work()
            if work is not None:
                self._start_worker(work)
        elif state is _ACTIVE or state is _DISCARDING or state is _FLUSHING:
            self.parser.feed(data)
            body = self._body
            if body is not None and body.reader is not None:
                body.reader.switch()
            elif state is _DISCARDING:
                assert body is not None
                body.discard()
            else:
                self._pause_if_full()

    def eof_received(self) -> None:
        self._eof = True
        self.parser.feed_eof()
        state = self.state
        if state is _IDLE:
            if self._queued:
                return
            if self.parser.at_boundary:
                self.close()
            else:
                work = self._next_work()
                if work is not None:
                    self._start_worker(work)
                else:
                    self.close()
        elif state is _ACTIVE:
            self._on_disconnect()
            if self._body is not None:
                self._body.wake()
        elif state is _DISCARDING:
            assert self._body is not None
            self._body.discard()
        elif state is _LINGERING and not self.socket.writable_length:
            self.socket.destroy()

    def queue_drained(self) -> None:
        if self.state is _FLUSHING:
            self._end_exchange()
        elif self.state is _LINGERING:
            self.began = monotonic()
            if self._eof:
                self.socket.destroy()

    def send_failed(self, error: BaseException) -> bool:
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        state, self.state = self.state, _CLOSED
        self._queued = False
        self._eof = True
        self._account(0)
        server = self.server
        server._past_requests += self.served
        deadlines(server._hub).forget(self)
        if self._failure is None and isinstance(error, Exception):
            self._failure = error if isinstance(error, GeventnodeError) else _lost(error)
        body, self._body = self._body, None
        if state is _ACTIVE:
            self._on_disconnect()
            if body is not None:
                body.wake()
        if self.response is not None and not self.response.finished:
            self.response._on_aborted(None)
        unflushed, self.unflushed = self.unflushed, None
        for response in unflushed or ():
            response.destroyed = True
            response._spawn_close()
        if error is not None and server.listener_count('clientError') and isinstance(error, OSError):
            gevent.spawn(server.emit, 'clientError', error, self.socket)

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`."""
        when, act = due(self)
        if when <= now and self.socket._has_progress():
            # of a client that receives slowly
            when, act = due(self)
        if when > now:
            self._expires = when
        elif self.state is not _LINGERING and deadlines(self.server._hub).grants_grace(self.socket, now):
            # look again next time: it can have read until then
            self._expires = now
        else:
            self._expires = now + self.server._shortest_timeout
            act(self)

    def resume(self) -> None:
        """Serve the buffered requests: the run queue has reached this connection."""
        if self._queued and self.state is _IDLE:
            self._queued = False
            work = self._next_work()
            if work is not None:
                self._start_worker(work)
            elif self._no_more_requests():
                self.close()

    def _next_work(self) -> Work | None:
        """Return the next head or error, None if more input is needed."""
        parser = self.parser
        try:
            # between messages, the next event is a head
            head: Any = parser.next_event()
        except ParseError as error:
            return error
        if head is None:
            if not self.head_started and parser.head_started:
                self.head_started = True
                self.began = self.socket._last_activity
                self._expires = self.began + self.server._shortest_timeout
            if self._accounted or parser.buffered:
                self._account(parser.buffered)
            # however much is buffered, it is not enough. The limit of all connections does not pause an incomplete
            # head: nothing but its rest can end it, and heads that wait for each other would end by their deadlines.
            self.resume_input()
            return None
        if self.head_started:
            self.head_started = False
            self._account(0)
        else:
            self.began = self.socket._last_activity
        return head  # type: ignore[no-any-return]  # see above

    def _start_worker(self, work: Work) -> None:
        """Give ``work`` to a worker: an idle one, or a new one."""
        self.state = _ACTIVE
        self._expires = self.began + self.server._shortest_timeout
        self._work = work
        idle = self._idle_workers
        if idle:
            idle.pop().switch(self)
        else:
            worker = Worker(self.server._hub, idle)
            worker.job = self
            worker.switch()

    # -- requests: run by a worker --------------------------------------------------------------------------------

    def work(self) -> None:
        """Serve a request, and those buffered after it. See :class:`geventnode.http.server.workers.Job`."""
        work = self._work
        self._work = None
        server = self.server
        worker = getcurrent()
        started = 0.0
        rounds = 0
        if self.socket._batching:
            self.socket._batching = False
        while work is not None:
            # set again for each request, because a listener can call cancel_on_disconnect()
            self._worker = worker if server._cancels_listeners else None
            if isinstance(work, RequestHead):
                self._serve_request(work)
            else:
                self._reject(work)
            if not self._queued or self._idle_workers is None:
                break
            # more is buffered, and no other worker has taken it
            rounds += 1
            if rounds == 1:
                started = monotonic()
                self.socket._batching = True
            elif rounds >= ROUNDS or monotonic() - started > ROUND_TIME:
                break
            self._queued = False
            server._run_queue.discard(self)
            work = self._next_work()
            if work is not None:
                self.state = _ACTIVE
                worker.gr_context = None
            elif self._no_more_requests():
                self.close()
        if self._worker is worker:
            # unless another worker serves the next request already
            self._worker = None

    def _serve_request(self, head: RequestHead) -> None:
        """Serve one request: an exchange from its head to the next state of the connection.

        1. The messages are made.
        2. The server calls its request listeners; a request that is not ordinary (``Expect``, ``CONNECT``, an upgrade)
           goes through ``Server._dispatch_special``.
        3. The listener reads the body: a complete one by :meth:`take_body`, any other in pieces, which a
           :class:`RequestBody` reads (:meth:`read_body`). The head of the response depends on
           :meth:`can_keep_alive`.
        4. When the response has ended, :meth:`response_ended` decides: the exchange is over (:meth:`_end_exchange`), or
           the rest of the body is discarded first. That can be before the listener returns, or long after.
        5. An exception of the listener becomes a response, or ends the connection (:meth:`listener_failed`).
        """
        server = self.server
        self.served += 1
        request = server.request_class(head, self.socket, self)
        response = server.response_class(request, self)
        self.request = request
        self.response = response
        if not request.complete:
            # the bytes received with the head are held until the listener reads them
            self._account(self.parser.buffered)
        try:
            if head.ordinary and not server._all_special:
                if not server._dispatch(request, response):
                    server._respond_unhandled(response)
            else:
                server._dispatch_special(self, head, request, response)
            if self.request is request and response.finished:
                # the listener was still reading when its response ended
                self.response_ended(response)
        except (Exception, gevent.Timeout, SystemExit) as error:
            # sys.exit() in a listener must not end all other exchanges
            self.listener_failed(request, response, error)
        except ClientDisconnected:
            if not response._overridden:
                self.socket.destroy()
        except RequestRefused as error:
            # the server has sent a response, unless the error is about another request
            if self.request is request and not (response.finished or self.socket.destroyed):
                self.listener_failed(request, response, error)
        except BaseException:
            # after the listener has called end(), the connection stays open: it can serve the next request already, or
            # wait for the rest of the body
            if self.request is request and not response.finished:
                self._queued = False
                self.socket.destroy()
            raise

    def _reject(self, error: ParseError | RequestTimeout) -> None:
        """Send an error response to malformed or late input, and close."""
        server = self.server
        server._peer_log.log_refusal(
            refusal_reason(error), '%s: %s', self.socket.remote_address or 'a Unix socket', error
        )
        if server.listener_count('clientError'):
            try:
                server.emit('clientError', error, self.socket)
            except Exception:
                log.exception("a 'clientError' listener failed")
        elif not self.socket.destroyed:
            try:
                self.socket._send(error_response(error.status))
            except ConnectionClosed:
                # the client has disconnected
                return
        self.close()

    def listener_failed(self, request: IncomingMessage, response: ServerResponse, error: BaseException) -> None:
        """Handle an exception of a listener: send 500, or end the connection.

        If the head was sent, the connection ends, so that the client recognizes the response as incomplete. If all
        bytes of the body were sent, too, the response is complete, and the connection can stay open.
        """
        failure = self._failure
        if response._overridden and (isinstance(error, (ConnectionClosed, StreamError)) or error is failure):
            # the listener has found that it is too late for its response, or for the body
            return
        if self.request is not request or response.finished:
            log.error('%s: a listener failed after its response had ended', describe_request(request), exc_info=error)
            if response._upgraded:
                # only the listener knew the protocol that is spoken now
                self.socket.destroy()
            return
        disconnected = self.socket.destroyed or request.aborted
        if isinstance(error, (ConnectionClosed, IncompleteBody)) and disconnected:
            self.server._peer_log.debug('%s: the client went away', describe_request(request))
        elif isinstance(error, (ParseError, IncompleteBody, RequestTimeout)) and error is failure:
            self.server._peer_log.log_refusal(refusal_reason(error), '%s: %s', describe_request(request), error)
        elif isinstance(error, ListenerReturned):
            log.error('%s: %s', describe_request(request), error)
        else:
            log.error('%s: the request listener failed', describe_request(request), exc_info=error)
        if self.socket.destroyed:
            return
        if response._head_sent:
            if failure is not None or not response._end_if_whole():
                self.socket.destroy()
        else:
            self.send_error(getattr(error, 'status', 500) if error is failure else 500)

    def cancel(self, response: ServerResponse) -> None:
        """Throw ``ClientDisconnected`` into the worker that serves ``response``. Run by the hub."""
        worker = self._worker
        if worker is not None and (self.response is response or response._overridden) and not worker.dead:
            self._worker = None
            worker.throw(ClientDisconnected())

    def cancel_on_disconnect(self, response: ServerResponse) -> None:
        """See :class:`geventnode.interfaces.IServerResponse`."""
        if response.request.aborted or response.destroyed:
            raise ClientDisconnected
        if response is self.response:
            self._worker = getcurrent()

    # -- error responses ------------------------------------------------------------------------------------------

    def send_error(self, status_code: int) -> None:
        """Send an error response instead of the listener's response, and close."""
        request, response = self.request, self.response
        assert request is not None
        assert response is not None
        response.destroyed = response._overridden = True
        head_only = request.method == 'HEAD'
        text = error_response(status_code, head_only=head_only)
        # observers see the size of this body, and not the Content-Length that the listener has set
        response._override(0 if head_only else len(text) - text.index(b'\r\n\r\n') - 4)
        try:
            self.socket._send(text)
        except ConnectionClosed:
            # the client has disconnected
            return
        # to observers, a client that ends its direction in the middle of a body has disconnected
        self.close_without_response(None if isinstance(self._failure, IncompleteBody) else status_code)

    def close_without_response(self, status_code: int | None = None) -> None:
        """Close after the queued bytes, without the listener's response.

        :param status_code: the status of the error response that was sent instead; None if there was none, or the
            client does not wait for it.
        """
        assert self.response is not None
        self.response._on_aborted(status_code)
        body = self._body
        self.request = self.response = self._body = None
        self.close()
        if body is not None:
            # a reader in another greenlet than the listener's
            body.wake()

    def time_out(self, error: RequestTimeout) -> None:
        """Send an error response for a late request.

        If the response has begun, destroy the connection instead.
        """
        state = self.state
        if state is _IDLE:
            self._start_worker(error)
            return
        if state is _DISCARDING:
            # the response is complete, and there is no reader
            self.close()
            return
        self._failure = error
        body, response = self._body, self.response
        if body is not None and body.reader is not None:
            body.wake()
        elif response is None or response._head_sent:
            self.socket.destroy(error)
        else:
            self.send_error(error.status)

    def time_out_listener(self) -> None:
        """Send 503 instead of the response of a slow listener.

        The listener is notified as if the client had disconnected.
        """
        self._on_disconnect()
        self.send_error(503)

    # -- the body of the request: run by its reader ---------------------------------------------------------------

    @property
    def forwarded_policy(self) -> ForwardedPolicy | None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        return self.server._forwarded_policy

    def read_body(self, message: IncomingMessage) -> bytes:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if message is not self.request:
            raise self._failure or StreamError('the body was discarded: the response has ended before it was read')
        response = self.response
        if response is not None and response._awaits_continue:
            response._continue_to_body()
        return self.body.read(message)

    def take_body(self, message: IncomingMessage) -> bytes | None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        response = self.response
        if message is not self.request or (response is not None and response._awaits_continue):
            return None
        data = self.parser.take_content()
        if data is not None:
            self.input_taken()
            self.body_complete(message, [])
        return data

    def more_received(self, data: bytes) -> None:
        """See :class:`geventnode.http.body_reader.ReceivingConnection`."""
        self.parser.feed(data)

    def input_taken(self) -> None:
        """Account for a taken piece; resume reading if there is room."""
        if self._accounted or self._paused:
            buffered = self.parser.buffered
            self._account(buffered)
            if self._paused and not self._eof and buffered < self.socket.readable_high_water_mark:
                self.resume_input()

    def input_discarded(self) -> None:
        """Receive the rest of a discarded body, or close without one."""
        if self._eof:
            self.close()
        else:
            self._account(0)
            self.resume_input()

    def body_failed(self, error: ParseError) -> Exception:
        """Return the error that the reader of a malformed body gets.

        The connection closes after the response.
        """
        failure: Exception = error
        if error.code == 'HPE_INVALID_EOF_STATE':
            # the error of a lost connection says more
            failure = (
                self._failure
                if self.state is _CLOSED and self._failure is not None
                else IncompleteBody('the client ended the connection in the middle of a body')
            )
        self._failure = failure
        if self.response is not None:
            self.response.should_keep_alive = False
        return failure

    def body_complete(self, message: IncomingMessage, raw_trailers: list[tuple[str, str]]) -> None:
        """Complete ``message``, and end the exchange if the response has ended before."""
        message._set_complete(raw_trailers)
        self._body = None
        # the body has arrived after all: drop a timeout that no reader has seen
        self._failure = None
        if self.response is not None and self.response.finished:
            self._end_exchange()

    # -- the end of the response: run by the greenlet that ends it ------------------------------------------------

    def can_keep_alive(self, response: ServerResponse, whole: bool) -> bool:
        """Return whether another request can follow that of ``response``.

        The head of the response declares it, and the connection keeps to it (RFC 9112, section 9.6).

        :param whole: whether all of the response is sent with the head.
        """
        server = self.server
        limit = server._request_limit
        return (
            not server.draining
            and not server._at_capacity
            and (not limit or self.served < limit)
            and (response.request.complete or self._can_outlive_body(response, whole))
        )

    def _can_outlive_body(self, response: ServerResponse, whole: bool) -> bool:
        """Return whether the connection can stay open with an unread body."""
        if response._awaits_continue or self._failure is not None:
            return False
        if response.request._read_started and not whole:
            # it will be read, or else discarded, however long it is
            return True
        left = self.parser.content_left
        if left is None:
            # the end of a chunked body can be in the kernel already
            data = self.socket._receive_now()
            if data:
                self.parser.feed(data)
                self._pause_if_full()
                left = self.parser.content_left
        return left is not None and left <= self.server.max_unread_body

    def response_ended(self, response: ServerResponse) -> None:
        """End the exchange, or discard the rest of the body first.

        ``end()`` was called, and the socket has the whole response.
        """
        if response is not self.response or (self.state is not _ACTIVE and self.state is not _CLOSED):
            # called twice: the rest of the body is being discarded, or was too long and the connection closes
            return
        request = self.request
        assert request is not None
        if not response.should_keep_alive:
            if request.complete or not request._has_reader:
                self._end_exchange()
        elif request.complete:
            self._end_exchange()
        elif not request._has_reader:
            body = self.body
            body.window = None
            self.state = _DISCARDING
            self.began = monotonic()
            self._expires = self.began
            body.discard()

    def _end_exchange(self) -> None:
        """Change to the next state after the last byte of the exchange.

        The response has ended. The request was consumed, unless the connection closes.
        """
        response = self.response
        socket = self.socket
        if response is not None and not response.should_keep_alive and not self._drops_next_request():
            self.request = self.response = self._body = None
            self.close()
            return
        queued = socket.writable_length
        if queued and queued >= socket.writable_high_water_mark:
            self.state = _FLUSHING
            return
        self.request = self.response = None
        self.timeout = None
        if self.state is _CLOSED:
            return
        self.state = _IDLE
        server = self.server
        began = self.began = socket._last_activity
        self._expires = began if server.draining or server._at_capacity else began + server._shortest_timeout
        parser = self.parser
        buffered = parser.buffered if parser._buffer else 0
        if buffered:
            self._queued = True
            server._run_queue.add(self)
        elif self._eof:
            self.close()
            return
        if self._accounted:
            self._account(buffered)
        if self._paused and buffered < socket.readable_high_water_mark:
            self.resume_input()

    def _drops_next_request(self) -> bool:
        """Return whether a request is pipelined after the last allowed one.

        It gets a response of its own, and ``'dropRequest'`` is emitted.
        """
        request = self.request
        return (
            self.served == self.server._request_limit
            and self.parser.buffered > 0
            and request is not None
            and request.complete
        )

    def _no_more_requests(self) -> bool:
        """Return whether the client can make no more requests."""
        return self._eof or 0 < self.server._request_limit <= self.served

    def response_fell_short(self, response: ServerResponse, missing: int) -> None:
        """Destroy the connection, because ``missing`` bytes of the body were not sent.

        The client would take the next response for them.
        """
        log.error(
            '%s: the response ended %d bytes short of its Content-Length', describe_request(response.request), missing
        )
        self.socket.destroy()

    def response_destroyed(self, response: ServerResponse, error: BaseException | None) -> None:
        """Destroy the connection if ``response`` has not ended."""
        if response is self.response and not response.finished:
            self.socket.destroy(error)

    def on_message_destroyed(self, message: IncomingMessage, error: BaseException | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if message is self.request and self.state is not _CLOSED:
            self.socket.destroy(error)

    def on_reader_paused(self, message: IncomingMessage) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        # the response can have ended before
        if message is self.request and self.response is not None and self.response.finished and self.state is _ACTIVE:
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
        if self.state is not _CLOSED and seconds:
            self._expires = min(self._expires, monotonic() + seconds)
            deadlines(self.server._hub).watch(self)

    def _on_disconnect(self) -> None:
        """Notify the exchange that the client has disconnected or ended its direction."""
        request, response = self.request, self.response
        if request is None or response is None or request.aborted or response.finished:
            return
        request.aborted = True
        if request._listeners is not None or response._listeners is not None:
            gevent.spawn(emit_disconnect, request, response)
        if self._worker is not None:
            self.server._hub.loop.run_callback(self.cancel, response)

    # -- the bytes that the parser holds --------------------------------------------------------------------------

    def _pause_if_full(self) -> None:
        """Keep input without a reader, and pause at the high-water mark."""
        buffered = self.parser.buffered
        self._account(buffered)
        if buffered >= self.socket.readable_high_water_mark:
            self.pause_for_limit()

    def resume_input(self) -> None:
        """See :class:`geventnode.http.body_reader.ReceivingConnection`."""
        if self._paused:
            self._paused = False
            if self._body is not None:
                # no input could arrive while the socket was paused: that time belongs to no window
                self._body.window = None
            self.socket._resume_reading()

    def _account(self, buffered: int) -> None:
        """Report the number of buffered bytes; the limit can pause reading."""
        change = buffered - self._accounted
        if change:
            self._accounted = buffered
            self.server._buffer_limit.change(self, change)

    def pause_for_limit(self) -> None:
        """See :class:`geventnode.http.server.buffer_limit.BufferHolder`."""
        self._paused = True
        self.socket._pause_reading()

    def resume_for_limit(self) -> None:
        """See :class:`geventnode.http.server.buffer_limit.BufferHolder`."""
        if self.state is not _CLOSED and self.parser.buffered < self.socket.readable_high_water_mark:
            self.resume_input()

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close after the queued bytes.

        The client gets FIN, and time to read the bytes before the socket is destroyed (RFC 9112, section 9.6).
        """
        socket = self.socket
        if self.state is _CLOSED or socket.destroyed:
            return
        self._account(0)
        socket._flush_now()
        if self._eof and not socket.writable_length:
            if socket._resetting:
                # the response that was to end with the connection is complete
                socket._end_nowait()
            socket.destroy()
            return
        self.state = _LINGERING
        self._queued = False
        socket._end_nowait()
        if self._eof and not socket.writable_length:
            # the rest of the queue was sent just now, and no more input will arrive
            socket.destroy()
            return
        # set after the last sending: later activity of the socket means received input (see has_all_input)
        self.began = self._expires = monotonic()
        if self.server.draining:
            deadlines(self.server._hub).watch(self)
        self._paused = True
        self.resume_input()

    def begin_draining(self) -> None:
        """See :class:`geventnode.http.server.served.ServedConnection`."""
        self._expires = min(self._expires, self.server._draining_since)
        if self.state is _LINGERING:
            # the closing server waits for it
            deadlines(self.server._hub).watch(self)

    def upgrade(self) -> bytes:
        """Leave the socket to another protocol; return the bytes received of it."""
        self.state = _CLOSED
        self.request = self.response = None
        self.server._past_requests += self.served
        deadlines(self.server._hub).forget(self)
        self._account(0)
        self.socket._set_protocol(None)
        self._paused = True
        self.resume_input()
        rest = self.parser.take_rest()
        # the request can live as long as the other protocol, and refers to this object
        self.parser = _ended_parser
        return rest

    # -- state, for deadlines, statistics and the monitor ---------------------------------------------------------

    @property
    def body(self) -> RequestBody:
        """The body of the request, which is not complete. Made when it is first read in pieces or discarded."""
        if self._body is None:
            self._body = RequestBody(self)
        return self._body

    @property
    def failure(self) -> Exception | None:
        """The error that cut the body of the request short."""
        return self._failure

    @property
    def closed(self) -> bool:
        """Whether another protocol took over, or the socket is closed."""
        return self.state is _CLOSED

    @property
    def idle(self) -> bool:
        """Whether no request is served, queued, or has begun to arrive."""
        return self.state is _IDLE and not self._queued and not self.parser.head_started

    @property
    def has_all_input(self) -> bool:
        """Whether the last request is complete, and no further input has arrived."""
        parser = self.parser
        return parser.content_left == 0 and not parser.buffered and self.socket._last_activity <= self.began

    @property
    def reading_paused(self) -> bool:
        """Whether the server has stopped receiving, because the listener does not read."""
        return self._paused

    @property
    def waits_for_client(self) -> bool:
        """Whether the exchange waits for input, or for the client to read."""
        return (self._body is not None and self._body.reader is not None) or self.socket._has_queued

    @property
    def activity(self) -> str:
        """The name of the present activity in the statistics of the server."""
        state = self.state
        if state is _IDLE:
            return 'reading' if self.parser.head_started or self._queued else 'idle'
        if state is _ACTIVE:
            if self._body is not None and self._body.reader is not None:
                return 'reading'
            return 'writing' if self.socket._has_queued else 'handling'
        return _ACTIVITIES.get(state, 'upgraded')

    def exchanges(self) -> Iterator[Exchange]:
        """See :class:`geventnode.http.server.served.ServedConnection`."""
        if self.request is not None:
            yield self.request, self.response, self.began, self.activity

    def __repr__(self) -> str:
        activity = 'closed' if self.state is _CLOSED else self.activity
        return f'<{type(self).__name__} {activity} served={self.served} on {self.socket!r}>'


#: The parser of all upgraded connections, which takes no input.
_ended_parser = Parser(Role.REQUEST, Limits())
_ended_parser.take_rest()


def emit_disconnect(request: IncomingMessage, response: ServerResponse) -> None:
    """Emit the events of a client that has disconnected. Run by a greenlet."""
    request.emit('aborted')
    response._emit_close()
    if request.listener_count('error'):
        request._report_error(request._error or DisconnectReason('the client went away before the exchange was over'))
    request.emit('close')


def _lost(error: Exception) -> IncompleteBody:
    """Return the error of a reader after the kernel has reported ``error``."""
    failure = IncompleteBody('the connection was lost in the middle of a body')
    failure.__cause__ = error
    return failure
