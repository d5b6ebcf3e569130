"""One connection of a client: it carries one exchange at a time, and is idle in the pool between two of them.

The socket passes on received bytes in the hub, where heads are parsed and small bodies are buffered. So an exchange
needs no greenlet of its own: a greenlet that waits for the response, or reads it, is switched to, and listeners are
called from a greenlet of the request. :meth:`Connection._advance` is one exchange from top to bottom.

Until the head of the response has arrived, the connection refers to the request. Afterwards the request and the
response belong to their users: when the users have forgotten both, the rest of the body is discarded. A request that is
still being written belongs to its writer: when that has forgotten it, nothing can end it, and the connection is closed.
"""

from __future__ import annotations

import enum
import weakref
from typing import TYPE_CHECKING, Any

from geventnode.errors import IncompleteBody, ParseError, SocketHangUp, StreamError, without_traceback
from geventnode.http.body_reader import DISCARD_TIME
from geventnode.http.client.deadlines import Deadline, close, exchange_deadline, parse_keep_alive_hint
from geventnode.http.client.response import ClientResponse
from geventnode.http.client.response_body import ResponseBody
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.forks import inherited_error
from geventnode.net.threads import is_alive
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import Framing, Limits, ResponseHead, ResponseParser

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Origin
    from geventnode.http.client.pool import Bucket
    from geventnode.http.client.request import ClientRequest
    from geventnode.http.incoming import IncomingMessage
    from geventnode.net.socket import Socket

__all__ = ['TRANSITIONS', 'Connection', 'ConnectionState']

LIMITS = Limits()

#: Turns of the loop that listeners have before their connection is given to a waiting request. They are enough to call
#: the listeners, and to emit ``'data'`` and ``'end'`` of a buffered body.
LISTENERS_TURNS = 4


class ConnectionState(enum.Enum):
    """The step of an exchange that a connection is at."""

    #: Idle in the pool.
    IDLE = 'idle'
    #: Until the head of the response has arrived; the request is being sent, or was.
    WAITING = 'waiting'
    #: The body of the response arrives.
    RECEIVING = 'receiving'
    #: The response is complete, the request is still being sent.
    SENDING = 'sending'
    #: The exchange is complete, and the connection is kept for the listeners of the response.
    DELIVERING = 'delivering'
    #: The rest of a body is discarded, because its users have forgotten it.
    DISCARDING = 'discarding'
    #: The socket was destroyed, or another protocol has taken it over.
    CLOSED = 'closed'


_IDLE, _WAITING, _RECEIVING, _SENDING, _DELIVERING, _DISCARDING, _CLOSED = ConnectionState

#: The states that can follow each state. The documentation draws them; in tests, any other change raises.
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    _IDLE: frozenset({_WAITING, _CLOSED}),
    _WAITING: frozenset({_RECEIVING, _SENDING, _CLOSED}),
    _RECEIVING: frozenset({_SENDING, _DISCARDING, _CLOSED}),
    _SENDING: frozenset({_DELIVERING, _IDLE, _CLOSED}),
    _DELIVERING: frozenset({_IDLE, _CLOSED}),
    _DISCARDING: frozenset({_SENDING, _CLOSED}),
    _CLOSED: frozenset(),
}


class Connection:
    """The HTTP side of one socket of an agent."""

    __slots__ = (
        '_eof',
        '_expires',
        '_kept_response',
        '_listeners_returned',
        '_paused',
        '_releasing',
        '_request',
        'agent',
        'body',
        'bucket',
        'deadline',
        'exchange_number',
        'hub',
        'idle_limit',
        'is_connect',
        'keep_alive',
        'number',
        'opened_at',
        'origin',
        'parser',
        'received_any',
        'reported_timeout_at',
        'request',
        'reused',
        'sent',
        'since',
        'socket',
        'socket_options_changed',
        'state',
        'timeout',
    )

    def __init__(
        self, agent: Agent, bucket: Bucket[ClientRequest, Connection], origin: Origin, socket: Socket, number: int
    ) -> None:
        self.agent = agent
        self.hub = agent._hub
        self.bucket = bucket
        self.origin = origin
        self.socket = socket
        self.parser = ResponseParser(LIMITS)
        #: The number of this connection among those of its agent, from 1.
        self.number = number
        self.opened_at = socket._last_activity
        self.state = _IDLE
        #: When the state, or a wait for the body, began (monotonic).
        self.since = socket._last_activity
        #: See :class:`geventnode.net.deadlines.HasDeadline`.
        self._expires = NEVER
        self._eof = False
        self._paused = False
        #: Whether a request has changed options of the socket.
        self.socket_options_changed = False

        #: The number of the current or last exchange, from 1.
        self.exchange_number = 0
        #: The request until the head of its response has arrived; afterwards, and while only its writer can end it, a
        #: weak reference to it.
        self.request: ClientRequest | None = None
        self._request: weakref.ref[ClientRequest] | None = None
        #: Whether the request asks for a tunnel.
        self.is_connect = False
        #: Whether another request was served before this one.
        self.reused = False
        #: Whether any bytes of the response have arrived.
        self.received_any = False
        #: Whether the whole request was passed to the socket.
        self.sent = False
        #: When the exchange must be complete (monotonic), and the seconds of inactivity that are allowed.
        self.deadline = NEVER
        self.timeout: float | None = None
        #: The time of the last traffic when ``'timeout'`` was emitted: it is emitted once until there is more traffic.
        self.reported_timeout_at = 0.0

        #: The body of the response while it arrives; None for a response without content.
        self.body: ResponseBody | None = None
        #: Whether both sides allow another exchange, and the seconds that the server waits for it (None: not known).
        self.keep_alive = False
        self.idle_limit: float | None = None
        #: The response that the connection is kept for, and whether its ``'response'`` listeners have returned.
        self._kept_response: weakref.ref[ClientResponse] | None = None
        self._listeners_returned = False
        #: Whether the connection will soon be taken from the listeners.
        self._releasing = False

        socket.on('agentRemove', self._on_agent_remove)
        socket._set_protocol(self)
        deadlines(self.hub).watch(self)

    # -- one exchange ---------------------------------------------------------------------------------------------

    def start(self, request: ClientRequest, reused: bool, now: float) -> None:
        """Begin the exchange of ``request``; the caller then sends it."""
        self.state = _WAITING
        self.exchange_number += 1
        self.request = request
        self.reused = reused
        self.received_any = False
        self.sent = False
        parser = self.parser
        parser.limits = request._limits
        parser.record_chunk_sizes = request._keeps_chunks
        method = request.method
        self.is_connect = False
        if method != 'GET' or request._wants_upgrade:
            parser.expect_response_to(method, request._wants_upgrade)
            self.is_connect = method == 'CONNECT'
        deadline = self.deadline = request._deadline
        self.timeout = request._timeout
        self.since = now
        expires = now + request._shortest_timeout
        # The deadline began when the request was made; the request can have waited in the queue since.
        self._expires = expires if expires < deadline else deadline
        if request._needs_precise_timer:
            self.watch()

    def _advance(self) -> None:
        """Take the exchange as far as it can go now. This is one exchange from top to bottom.

        :meth:`start` has begun it. Each step sets the state of the next one when it is complete. This method is called
        again after more bytes have arrived, the request was sent, or the body was read.
        """
        request: Any = self.request
        response = None
        if self.state is _WAITING:
            if request is None:
                request = self.current_request
                if request is None:
                    self.close()
                    return
            # the head, and the bytes of the body that have arrived with it
            response = self._receive_head(request)
        elif self.state is _RECEIVING:
            # the body: to its reader, or into the buffer of the response
            self.body.advance()  # type: ignore[union-attr]  # in these two states there is a body
        elif self.state is _DISCARDING:
            self.body.discard()  # type: ignore[union-attr]  # as above
        if self.state is _SENDING and self.sent and not self.socket.writable_length:
            # request and response are complete: to the listeners, then into the pool
            self._on_exchange_complete()
        if response is not None:
            # last, because it can switch to a greenlet that waits for the response
            request._on_response(response)

    def on_request_sent(self) -> None:
        """Note that the whole request was passed to the socket."""
        self.sent = True
        if self.request is None and self.state is _WAITING:
            self.request, self._request = self.current_request, None
        # the source of the body may have taken its time to end
        self.socket._record_activity()
        if self.state is _SENDING:
            self._advance()

    # -- run by the socket, in the hub ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See :class:`geventnode.net.socket.Protocol`."""
        state = self.state
        if state is _WAITING:
            self.received_any = True
            # a CONNECT request can become a tunnel: its listeners get the bytes after the head unparsed
            if not self.sent or self.is_connect:
                self.parser.feed(data)
            elif (whole := self.parser.take_response(data)) is not None:
                self._receive_whole_response(*whole)
                return
            self._advance()
        elif state is _RECEIVING or state is _DISCARDING:
            self.parser.feed(data)
            self._advance()
        elif state is not _CLOSED:
            # no request is waiting for it (RFC 9112, section 9.2); a complete response stays valid
            self.close()

    def eof_received(self) -> None:
        """See :class:`geventnode.net.socket.Protocol`."""
        self._eof = True
        response = self.current_response
        if self.socket.truncated and response is not None and response._head.framing is Framing.UNTIL_CLOSE:
            # an attacker can have ended it (RFC 9112, section 9.8)
            self.fail(
                IncompleteBody(f'{self.origin} ended the connection without close_notify (TLS) in the middle of a body')
            )
            return
        self.parser.feed_eof()
        state = self.state
        if state is _RECEIVING or (state is _WAITING and self.received_any):
            self._advance()
        elif state is not _CLOSED and state is not _DELIVERING:
            self.close()

    def queue_drained(self) -> None:
        """See :class:`geventnode.net.socket.Protocol`."""
        if self.state is _SENDING:
            self._advance()

    def send_failed(self, error: BaseException) -> bool:
        """See :class:`geventnode.net.socket.Protocol`: the server can have responded already."""
        return self.state is _WAITING or self.state is _RECEIVING

    def connection_lost(self, error: BaseException | None) -> None:
        """See :class:`geventnode.net.socket.Protocol`."""
        state, self.state = self.state, _CLOSED
        agent = self.agent
        deadlines(self.hub).forget(self)
        agent._on_connection_closed()
        agent._delivering.discard(self)
        # without these, no cycle of references is left for the garbage collector
        self.socket.remove_listener('agentRemove', self._on_agent_remove)
        request, self.request = self.request, None
        body, self.body = self.body, None
        if state is _WAITING:
            request = request or self.current_request
            if request is None:
                agent._on_request_forgotten(self)
            else:
                agent._on_connection_lost(self, request, error)
        else:
            agent._remove(self)
            if state is _RECEIVING:
                assert body is not None
                body.abort(error)
            elif state is _SENDING:
                self._abort_request(error)

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`."""
        when, act = self._next_deadline()
        if when <= now and self.socket._has_progress():
            # of a server that receives slowly
            when, act = self._next_deadline()
        if when > now:
            self._expires = when
        elif deadlines(self.hub).grants_grace(self.socket, now):
            # after a stall of the loop the socket is polled first: check again at the next sweep
            self._expires = now
        else:
            self._expires = now + 0.25
            act(self)

    def _next_deadline(self) -> Deadline:
        """Return when the next deadline is, and the function to call then."""
        state = self.state
        if state is _IDLE:
            return self.since + (self.idle_limit or NEVER), close
        if state is _DELIVERING:
            return NEVER, close
        if state is _DISCARDING:
            return self.since + DISCARD_TIME, close
        return exchange_deadline(self)

    def watch(self) -> None:
        """Compute the deadline anew."""
        self._expires = self._next_deadline()[0]
        if self.state is not _CLOSED:
            deadlines(self.hub).watch(self)

    # -- the head of the response ---------------------------------------------------------------------------------

    def _receive_head(self, request: ClientRequest) -> ClientResponse | None:
        """Return the response after its head has arrived, otherwise None."""
        while True:
            try:
                # between messages, the next event is a head
                head: Any = self.parser.next_event()
            except ParseError as error:
                if error.code == 'HPE_INVALID_EOF_STATE':
                    self.fail(SocketHangUp(f'socket hang up: {self.origin} ended the connection within a head'))
                else:
                    self.fail(without_traceback(error))
                return None
            if head is None:
                if self._eof:
                    self.close()
                return None
            if head.status_code >= 200 or head.upgrade:
                break
            request._on_informational(head)
            if self.state is not _WAITING:
                return None
        if head.upgrade or (
            request.method == 'CONNECT' and (head.status_code < 300 or request.listener_count('connect'))
        ):
            self._upgrade(request, head)
            return None
        return self._begin_response(request, head)

    def _begin_response(self, request: ClientRequest, head: ResponseHead) -> ClientResponse:
        """Return the response that ``head`` begins."""
        response = ClientResponse(head, self)
        self.request = None
        self.keep_alive = head.keep_alive and request.should_keep_alive
        self._request = weakref.ref(request, self._on_forgotten)
        if request._events is not None:
            self._keep_for_listeners(request, response)
        if head.framing is Framing.NONE:
            self._on_response_complete(head)
        else:
            self.state = _RECEIVING
            self.body = ResponseBody(self, response, (request.method, request.path, self.since))
            if request._keeps_chunks:
                response._chunk_sizes = self.parser.chunk_sizes
            self.body.buffer()
        return response

    def _receive_whole_response(self, head: ResponseHead, body: bytes) -> None:
        """Deliver a response that has arrived in one piece. These are the last steps of an exchange in one.

        The exchange is complete before the request is notified, because that can switch to a greenlet that waits for
        the response.
        """
        request: Any = self.request
        response = ClientResponse(head, self)
        response._buffer_whole(body)
        self.keep_alive = head.keep_alive and request.should_keep_alive
        if request._events is not None:
            self._request = weakref.ref(request)
            self._keep_for_listeners(request, response)
        self._on_response_complete(head)
        if self.state is _SENDING and not self.socket.writable_length:
            self._on_exchange_complete()
        request._on_response(response)

    def _upgrade(self, request: ClientRequest, head: ResponseHead) -> None:
        """Leave the socket to another protocol."""
        socket = self.socket
        response = ClientResponse(head, self)
        response._set_upgraded(self.parser.take_rest())
        self.state = _CLOSED
        self.request = None
        deadlines(self.hub).forget(self)
        socket.remove_listener('agentRemove', self._on_agent_remove)
        socket._set_protocol(None)
        self.agent._remove(self)
        request._on_upgrade(response)

    # -- the body of the response ---------------------------------------------------------------------------------

    def read_body(self, message: IncomingMessage) -> bytes:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if self.body is None or self.body.response is not message:
            raise StreamError('the connection of this message was closed')
        return self.body.read(message)

    def take_body(self, message: IncomingMessage) -> bytes | None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if self.body is None or self.body.response is not message:
            return None
        return self.body.take(message)

    def more_received(self, data: bytes) -> None:
        """Parse bytes that the reader of the body has received itself."""
        self.parser.feed(data)

    def pause_input(self) -> None:
        """Stop receiving: the buffer of the response is full."""
        if not self._paused:
            self._paused = True
            self.socket._pause_reading()

    def resume_input(self) -> None:
        """Receive again after :meth:`pause_input`."""
        if self._paused:
            self._paused = False
            self.socket._resume_reading()

    def fail_body(self, error: Exception) -> None:
        """Destroy the connection because its response is malformed or incomplete."""
        if self.state is _RECEIVING:
            self.socket.destroy(error)

    def on_body_complete(self, head: ResponseHead) -> None:
        """Go on after the body of the response with ``head`` was taken."""
        self.body = None
        self._on_response_complete(head)
        self._advance()

    def on_body_discarded(self, head: ResponseHead) -> None:
        """Go on after the rest of a body without users was discarded. Its response has had ``head``."""
        self.body = None
        self._on_response_complete(head)

    # -- the end of an exchange -----------------------------------------------------------------------------------

    def _on_response_complete(self, head: ResponseHead) -> None:
        """Read the Keep-Alive hint, and close if the request is unwanted."""
        self.state = _SENDING
        hint = head.fields.get('keep-alive')
        self.idle_limit = None if hint is None else parse_keep_alive_hint(hint)
        if not self.sent or self.socket.writable_length:
            request = self.current_request
            # RFC 9112, section 9.5: a server that rejects the request and closes does not want the rest
            unwanted = head.status_code >= 300 and not head.keep_alive
            if request is None or request._body_refused or unwanted or self.socket._send_broken:
                self.close()

    def _on_exchange_complete(self) -> None:
        """Keep the connection for listeners that use the response, or release it."""
        if self._kept_response is None:
            self._release()
            return
        response = self._kept_response()
        if response is None or response.readable_ended or (self._listeners_returned and not response._is_flowing):
            self._release()
            return
        self.state = _DELIVERING
        self.deadline = self._expires = NEVER
        self.request = None
        self.agent._delivering.add(self)
        self.release_soon()

    def _release(self) -> None:
        """Give the connection back to the agent, or close it."""
        if self.state is _DELIVERING:
            self.agent._delivering.discard(self)
        self.request = self._request = self._kept_response = None
        socket = self.socket
        self.state = _IDLE
        if not self.keep_alive or self._eof or self.parser.buffered or socket._send_broken or socket.destroyed:
            self.close()
            return
        self.since = socket._last_activity
        self.deadline = self._expires = NEVER
        if self._paused:
            self.resume_input()
        if self.socket_options_changed:
            self.socket_options_changed = False
            socket.set_no_delay()
            self.agent._set_keep_alive_probes(socket)
        if socket.timeout is not None:
            socket.set_timeout(None)
        self.agent._put_idle(self)

    def set_idle_deadline(self, limit: float | None) -> None:
        """Close the connection after ``limit`` seconds without a request; None: never."""
        self.idle_limit = limit
        if limit is not None:
            self._expires = self.since + limit

    # -- listeners ------------------------------------------------------------------------------------------------

    def _keep_for_listeners(self, request: ClientRequest, response: ClientResponse) -> None:
        """Keep the connection until the listeners have had the whole response."""
        if request.listener_count('response'):
            self._kept_response = weakref.ref(response, self._on_forgotten)
            self._listeners_returned = False
            response._notify_end = True

    def on_response_delivered(self, response: ClientResponse) -> None:
        """Release the connection, unless a listener consumes ``response`` by events."""
        if self._kept_response is not None and self._kept_response() is response:
            self._listeners_returned = True
            if self.state is _DELIVERING and not response._is_flowing:
                self._release()

    def on_message_ended(self, message: ClientResponse) -> None:
        """Release the connection after ``'end'`` of ``message`` was emitted."""
        if self._kept_response is not None and self._kept_response() is message:
            self._kept_response = None
            if self.state is _DELIVERING:
                self._release()

    def release_soon(self) -> None:
        """Release the connection within some turns if a request waits for one.

        A listener can block, even on that request.
        """
        if not self._releasing and self.agent._has_queued(self.bucket):
            self._releasing = True
            self._count_down(self.exchange_number, LISTENERS_TURNS)

    def _count_down(self, exchange_number: int, turns: int) -> None:
        if self.state is not _DELIVERING or self.exchange_number != exchange_number:
            self._releasing = False
        elif turns:
            self.hub.loop.run_callback(self._count_down, exchange_number, turns - 1)
        else:
            self._releasing = False
            if self.agent._has_queued(self.bucket):
                self._release()

    # -- a request or response without users ----------------------------------------------------------------------

    def leave_to_writer(self, request: ClientRequest) -> None:
        """Refer to ``request`` weakly until its end.

        Its listeners can end it, too, and nothing else refers to them: with one, it is not forgotten.
        """
        if request._can_be_forgotten:
            self.request, self._request = None, weakref.ref(request, self._on_forgotten)

    def on_listener_added(self, request: ClientRequest) -> None:
        """Undo :meth:`leave_to_writer`."""
        if self.request is None and self.state is _WAITING and self.serves(request):
            self.request, self._request = request, None

    def _on_forgotten(self, reference: weakref.ref[Any]) -> None:
        """React to the end of a request or a response. Runs wherever the garbage collector does."""
        # without a loop, the thread has ended, and the connection with it
        if self._is_abandoned(reference) and (loop := self.hub.loop) is not None:
            loop.run_callback_threadsafe(self._drop_abandoned, reference)

    def _is_abandoned(self, reference: weakref.ref[Any]) -> bool:
        """Return whether the current exchange has lost its last user."""
        return (
            (self.state is _RECEIVING and self.body is not None and reference is self.body.reference)
            or (self.state is _DELIVERING and reference is self._kept_response)
            or ((self.state is _SENDING or self.state is _WAITING) and not self.sent and reference is self._request)
        )

    def _drop_abandoned(self, reference: weakref.ref[Any]) -> None:
        if not self._is_abandoned(reference):
            # the connection serves another exchange by now
            return
        if self.state is _SENDING or self.state is _WAITING:
            self.close()
        elif self.state is _DELIVERING:
            self._release()
        else:
            self.state = _DISCARDING
            assert self.body is not None
            self.since = self.body.start_discarding()
            self._expires = self.since + DISCARD_TIME
            self.resume_input()
            self._advance()

    # -- called by the request, the response and the agent --------------------------------------------------------

    @property
    def current_request(self) -> ClientRequest | None:
        """The request of the current exchange, None if it was forgotten."""
        if self.request is not None:
            return self.request
        return None if self._request is None else self._request()

    @property
    def lost_its_request(self) -> bool:
        """Whether the writer has forgotten the request before its end."""
        return self.state is _WAITING and self.current_request is None

    @property
    def current_response(self) -> ClientResponse | None:
        """The response that is arriving, None if it was forgotten."""
        return None if self.body is None else self.body.response

    def fail(self, error: Exception) -> None:
        """End the current exchange with ``error``, and the connection with it."""
        self.socket.destroy(error)

    def close(self) -> None:
        """Close the connection."""
        self.socket.destroy()

    def abort_exchange(self, request: ClientRequest, error: BaseException | None) -> None:
        """Close the connection if the current exchange is that of ``request``."""
        if self.serves(request):
            self.socket.destroy(error)

    def serves(self, request: ClientRequest | None) -> bool:
        """Return whether the current exchange is that of ``request``."""
        return self.state is not _CLOSED and self.current_request is request

    def is_in_exchange(self, number: int) -> bool:
        """Return whether the exchange with this number is not over."""
        return self.exchange_number == number and self.state is not _IDLE

    def change_timeout(self, request: ClientRequest, timeout: float | None) -> None:
        """Set the inactivity timeout for the exchange of ``request``, in seconds."""
        if self.serves(request):
            self._set_timeout(timeout)

    def set_exchange_timeout(self, message: object, seconds: float | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        timeout = None if seconds is None else checked_seconds('timeout', seconds) or None
        if self.state is _RECEIVING and message is self.current_response:
            self._set_timeout(timeout)

    def _set_timeout(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.reported_timeout_at = 0.0
        self.watch()

    def _on_agent_remove(self) -> None:
        """Take the connection out of the pool, after ``'agentRemove'``."""
        self.keep_alive = False
        request = self.current_request
        if request is not None:
            request.should_keep_alive = False
        self.agent._remove(self)

    def _abort_request(self, error: BaseException | None) -> None:
        request = self.current_request
        if request is not None:
            request._on_send_aborted(error)

    @property
    def forwarded_policy(self) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`: responses are never forwarded."""
        return None

    def on_reader_paused(self, message: IncomingMessage) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if self.body is not None and self.body.response is message and not message.destroyed:
            self.body.buffer()

    def on_message_error(self, message: IncomingMessage, error: BaseException) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        self.on_message_destroyed(message, error)

    def on_message_destroyed(self, message: IncomingMessage, error: BaseException | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if (self.state is _RECEIVING and self.current_response is message) or (
            self.state is _DELIVERING and self._kept_response is not None and self._kept_response() is message
        ):
            self.socket.destroy(error)

    def _discard_after_fork(self) -> None:
        """Give up the connection in a forked child, without closing it: it belongs to the parent process."""
        request, state, body = self.current_request, self.state, self.body
        self.state = _CLOSED
        self.body = None
        deadlines(self.hub).forget(self)
        self.socket._set_protocol(None)
        self.socket._discard_after_fork()
        if not is_alive(self.hub):
            # the threads that could wait exist only in the parent process
            return
        if state is _RECEIVING:
            assert body is not None
            body.abort(inherited_error())
        elif state is _SENDING:
            self._abort_request(inherited_error())
        elif state is _WAITING and request is not None:
            request.destroy(inherited_error())

    # -- for observers --------------------------------------------------------------------------------------------

    @property
    def is_unread(self) -> bool:
        """Whether a body is arriving that no greenlet reads at present."""
        return self.state is _RECEIVING and (self.body is None or self.body.reader is None)

    def is_unread_since(self, since: float) -> bool:
        """Return whether the body has had no reader since ``since`` (monotonic)."""
        return self.is_unread and self.since <= since

    @property
    def activity(self) -> str:
        """The state, in the terms of a snapshot (:mod:`geventnode.monitor`)."""
        if self.state is _WAITING:
            return 'connecting' if self.socket.pending or self.socket.handshaking else 'waiting'
        return 'unread' if self.is_unread else self.state.value

    @property
    def current_exchange(self) -> tuple[str | None, str | None, float]:
        """Method, target and start of the current exchange; None where forgotten."""
        if self.body is not None:
            return self.body.exchange
        request = self.current_request
        return (None, None, self.since) if request is None else (request.method, request.path, self.since)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.state.value} {self.socket!r}>'
