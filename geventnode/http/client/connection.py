"""One connection of a client: it carries one exchange at a time, and between two of them it waits in the pool.

The socket hands over what arrives, in the hub, where heads are parsed and small bodies are collected. So an exchange
needs no greenlet of its own: whoever waits for the response, or reads it, is switched to, and listeners are called from
a greenlet of the request. A body that nobody reads is kept up to the mark, then the socket stops receiving.

Until the head of the response is here the connection holds on to the request. Afterwards the request and the response
belong to their users: when they have forgotten both, what is left of the body is thrown away.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from geventnode.errors import IncompleteBody, ParseError, SocketHangUp, without_traceback
from geventnode.http.client.deadlines import due, hinted
from geventnode.http.client.phase import ConnectionState
from geventnode.http.client.receiving import ResponseReceiver
from geventnode.http.client.response_body import ClientResponse
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.forks import inherited_error
from geventnode.net.threads import is_alive
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import Framing, ResponseHead

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Origin
    from geventnode.http.client.pool import Bucket
    from geventnode.http.client.request import ClientRequest
    from geventnode.net.socket import Socket

__all__ = ['Connection']

_IDLE, _WAITING, _RECEIVING, _SENDING, _DELIVERING, _DISCARDING, _CLOSED = ConnectionState

#: Turns of the loop that listeners have before their connection goes to a request that waits for one. They are enough
#: to call them, and to emit ``'data'`` and ``'end'`` of a body that is here.
LISTENERS_TURNS = 4


class Connection(ResponseReceiver):
    """The HTTP side of one socket of an agent."""

    __slots__ = (
        '_listeners_returned',
        '_releasing',
        'bucket',
        'deadline',
        'describe_request',
        'exchange_number',
        'idle_limit',
        'is_connect',
        'keep_alive',
        'number',
        'opened_at',
        'received_any',
        'reported_timeout_at',
        'reused',
        'socket_options_changed',
        'timeout',
    )

    def __init__(
        self,
        agent: Agent,
        bucket: Bucket[ClientRequest, Connection],
        origin: Origin,
        socket: Socket,
        number: int,
    ) -> None:
        super().__init__(agent, origin, socket)
        self.bucket = bucket
        #: Which one of the agent's connections it is, from 1 on.
        self.number = number
        #: Which of the connection's exchanges is in work, or was last, from 1 on.
        self.exchange_number = 0
        #: Whether the ``'response'`` listeners have returned, and whether the connection is about to leave them.
        self._listeners_returned = False
        self._releasing = False
        #: Whether another request was served before this one.
        self.reused = False
        #: Whether anything came in answer to the request in work.
        self.received_any = False
        #: What both sides said about another exchange, and the server about how long it waits for one.
        self.keep_alive = False
        self.idle_limit: float | None = None
        #: Whether the request asks for a tunnel.
        self.is_connect = False
        #: Whether a request has changed settings of the socket.
        self.socket_options_changed = False
        self.opened_at = socket._last_activity
        #: Of the request whose response has begun, which its users may have forgotten: see below.
        self.describe_request: tuple[str, str, float] | None = None
        #: When the exchange in work must be over, and after how much inactivity it is given up.
        self.deadline = NEVER
        self.timeout: float | None = None
        #: The time of the last traffic when the server was reported to be late: that is done once until there is more.
        self.reported_timeout_at = 0.0
        socket.on('agentRemove', self._on_agent_remove)
        socket._set_protocol(self)
        deadlines(agent._hub).watch(self)

    # -- an exchange ----------------------------------------------------------------------------------------------

    def start(self, request: ClientRequest, reused: bool, now: float) -> None:
        """Serve ``request`` from now on; it may be sent."""
        self.state = _WAITING
        self.exchange_number += 1
        self.request = request
        self.reused = reused
        self.received_any = False
        self.sent = False
        parser = self.parser
        parser.limits = request._limits
        parser.record_chunk_sizes = request._keeps_chunks
        parser.expect_response_to(request.method, request._wants_upgrade)
        self.is_connect = request.method == 'CONNECT'
        self.deadline = request._deadline
        self.timeout = request._timeout
        self.since = now
        expires = now + request._shortest_timeout
        # it may have waited for a connection, and its deadline has begun before
        self._expires = expires if expires < self.deadline else self.deadline
        if request._needs_precise_timer:
            self.watch()

    def watch(self) -> None:
        """Look at the deadlines anew."""
        self._expires = due(self)[0]
        if self.state is not _CLOSED:
            deadlines(self.agent._hub).watch(self)

    def on_request_sent(self) -> None:
        """The whole request was handed to the socket."""
        self.sent = True
        # a source may have taken its time to end
        self.socket._record_activity()
        if self.state is _SENDING:
            self._on_exchange_complete()

    # -- run by the hub -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is _WAITING:
            self.received_any = True
            parser = self.parser
            parser.feed(data)
            # whoever listens for 'connect' wants the body unread
            if self.sent and not self.is_connect and (whole := parser.take_response()) is not None:
                self._receive_whole_response(*whole)
            else:
                self._read_head()
        elif state is _RECEIVING:
            self.parser.feed(data)
            if self._reader is not None:
                self._reader.switch()
            else:
                self._buffer_body()
        elif state is _DISCARDING:
            self.parser.feed(data)
            self._discard()
        elif state is not _CLOSED:
            # nobody has asked for it (RFC 9112, section 9.2): what was answered so far stands
            self.close()

    def eof_received(self) -> None:
        self._eof = True
        if (
            self.socket.truncated
            and (response := self.current_response) is not None
            and (response._head.framing is Framing.UNTIL_CLOSE)
        ):
            # anybody could have ended it (RFC 9112, section 9.8)
            self.fail(
                IncompleteBody(f'{self.origin} ended the connection without close_notify (TLS) in the middle of a body')
            )
            return
        self.parser.feed_eof()
        state = self.state
        if state is _WAITING:
            if self.received_any:
                self._read_head()
            else:
                self.close()
        elif state is _RECEIVING:
            if self._reader is not None:
                self._reader.switch()
            else:
                self._buffer_body()
        elif state is not _CLOSED and state is not _DELIVERING:
            self.close()

    def queue_drained(self) -> None:
        if self.state is _SENDING and self.sent:
            self._on_exchange_complete()

    def send_failed(self, error: BaseException) -> bool:
        # the server may have answered before it stopped to listen
        return self.state is _WAITING or self.state is _RECEIVING

    def connection_lost(self, error: BaseException | None) -> None:
        state, self.state = self.state, _CLOSED
        deadlines(self.agent._hub).forget(self)
        self.agent._on_connection_closed()
        self.agent._delivering.discard(self)
        # what refers to each other would have to wait for the collector
        self.socket.remove_listener('agentRemove', self._on_agent_remove)
        request, self.request = self.request, None
        if state is _WAITING:
            assert request is not None
            self.agent._on_connection_lost(self, request, error)
        else:
            self.agent._remove(self)
            if state is _RECEIVING:
                self._abort_response(error)
            elif state is _SENDING:
                self._abort_request(error)

    def _on_deadline(self, now: float) -> None:
        when, act = due(self)
        if when > now:
            self._expires = when
        elif deadlines(self.agent._hub).grants_grace(self.socket, now):
            # look again next time: it may have read until then
            self._expires = now
        else:
            self._expires = now + 0.25
            act(self)

    # -- the head -------------------------------------------------------------------------------------------------

    def _read_head(self) -> None:
        request = self.request
        assert request is not None
        while True:
            try:
                # between messages, the next event is a head
                head: Any = self.parser.next_event()
            except ParseError as error:
                if error.code == 'HPE_INVALID_EOF_STATE':
                    self.fail(SocketHangUp(f'socket hang up: {self.origin} ended the connection within a head'))
                else:
                    self.fail(without_traceback(error))
                return
            if head is None:
                if self._eof:
                    self.close()
                return
            if head.status_code >= 200 or head.upgrade:
                break
            request._on_informational(head)
            if self.request is not request:
                return
        if head.upgrade or (
            request.method == 'CONNECT' and (head.status_code < 300 or request.listener_count('connect'))
        ):
            self._upgrade(request, head)
        else:
            self._begin_response(request, head)

    def _begin_response(self, request: ClientRequest, head: ResponseHead) -> None:
        response = ClientResponse(head, self)
        self.request = None
        self.keep_alive = head.keep_alive and request.should_keep_alive
        self._request = weakref.ref(request, self._on_forgotten)
        if request._listeners is not None:
            self._keep_for_listeners(request, response)
        if head.framing is Framing.NONE:
            self._on_response_complete(head)
        else:
            self.state = _RECEIVING
            self.describe_request = request.method, request.path, self.since
            self._response = weakref.ref(response, self._on_forgotten)
            if request._keeps_chunks:
                response._chunk_sizes = self.parser.chunk_sizes
            self._buffer_body()
        # the last thing here: it may switch to who waits
        request._on_response(response)

    def _receive_whole_response(self, head: ResponseHead, body: bytes) -> None:
        """A small response has arrived in one piece, after the whole request was sent."""
        request = self.request
        assert request is not None
        response = ClientResponse(head, self)
        response._buffer(body)
        response.complete = True
        if request._listeners is not None:
            self._request = weakref.ref(request)
            self._keep_for_listeners(request, response)
        self.keep_alive = head.keep_alive and request.should_keep_alive
        self._on_response_complete(head)
        request._on_response(response)

    def _upgrade(self, request: ClientRequest, head: ResponseHead) -> None:
        """Leave the socket to another protocol."""
        socket = self.socket
        response = ClientResponse(head, self)
        response._set_upgraded(self.parser.take_rest())
        self.state = _CLOSED
        self.request = None
        deadlines(self.agent._hub).forget(self)
        socket.remove_listener('agentRemove', self._on_agent_remove)
        socket._set_protocol(None)
        self.agent._remove(self)
        request._on_upgrade(response)

    # -- the end of an exchange -----------------------------------------------------------------------------------

    def _on_response_complete(self, head: Any) -> None:
        """The response is complete."""
        hint = head.block.fields.get('keep-alive')
        self.idle_limit = None if hint is None else hinted(hint)
        if not self.sent or self.socket.writable_length:
            request = self.current_request
            self.state = _SENDING
            # RFC 9112, section 9.5: who says no, and closes, does not want the rest
            unwanted = head.status_code >= 300 and not head.keep_alive
            if request is None or request._body_refused or unwanted or self.socket._send_broken:
                self.close()
            return
        self._on_exchange_complete()

    def _on_exchange_complete(self) -> None:
        """Request and response are complete."""
        if not self.sent or self.socket.writable_length:
            if self.state is _DISCARDING:
                self.close()
            return
        held = None if self._kept_response is None else self._kept_response()
        if held is None or held.readable_ended or (self._listeners_returned and not held.emits):
            self._release()
            return
        self.state = _DELIVERING
        self.deadline = self._expires = NEVER
        self.request = self._response = None
        self.agent._delivering.add(self)
        self.release_soon()

    # -- listeners ------------------------------------------------------------------------------------------------

    def _keep_for_listeners(self, request: ClientRequest, response: ClientResponse) -> None:
        """If ``request`` has ``'response'`` listeners, keep the connection until they have run, and ``'end'`` of
        ``response`` was emitted."""
        if request.listener_count('response'):
            self._kept_response = weakref.ref(response, self._on_forgotten)
            self._listeners_returned = False
            response._notify_end = True

    def on_response_delivered(self, response: ClientResponse) -> None:
        """The ``'response'`` listeners have returned: unless one of them consumes ``response`` by events, the
        connection is no longer needed."""
        if self._kept_response is not None and self._kept_response() is response:
            self._listeners_returned = True
            if self.state is _DELIVERING and not response.emits:
                self._release()

    def message_ended(self, message: ClientResponse) -> None:
        """``'end'`` of ``message`` was emitted."""
        if self._kept_response is not None and self._kept_response() is message:
            self._kept_response = None
            if self.state is _DELIVERING:
                self._release()

    def release_soon(self) -> None:
        """Leave the listeners within some turns of the loop, if a request waits for a connection then: listeners may
        block, and for that request."""
        if not self._releasing and self.agent._has_queued(self.bucket):
            self._releasing = True
            self._count_down(self.exchange_number, LISTENERS_TURNS)

    def _count_down(self, turn: int, left: int) -> None:
        if self.state is not _DELIVERING or self.exchange_number != turn:
            self._releasing = False
        elif left:
            self.agent._hub.loop.run_callback(self._count_down, turn, left - 1)
        else:
            self._releasing = False
            if self.agent._has_queued(self.bucket):
                self._release()

    def _release(self) -> None:
        """The exchange is over, and nothing is kept for its listeners: into the pool, or away."""
        if self.state is _DELIVERING:
            self.agent._delivering.discard(self)
        self.request = self._request = self._response = self._kept_response = None
        socket = self.socket
        if not self.keep_alive or self._eof or self.parser.buffered or socket._send_broken or socket.destroyed:
            self.state = _IDLE
            self.close()
            return
        self.state = _IDLE
        self.since = socket._last_activity
        self.deadline = self._expires = NEVER
        if self._paused:
            self._paused = False
            socket._resume_reading()
        if self.socket_options_changed:
            self.socket_options_changed = False
            socket.set_no_delay()
            self.agent._set_keep_alive_probes(socket)
        if socket.timeout is not None:
            socket.set_timeout(None)
        self.agent._put_idle(self)

    def set_idle_deadline(self, limit: float | None) -> None:
        """Nobody waits for this connection: it is kept for ``limit`` seconds (None: as long as it lives)."""
        self.idle_limit = limit
        if limit is not None:
            self._expires = self.since + limit

    def fail(self, error: Exception) -> None:
        """End the exchange in work with ``error``."""
        self.socket.destroy(error)

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.destroy()

    def abort_exchange(self, request: ClientRequest, error: BaseException | None) -> None:
        """End the exchange in work if it is that of ``request``."""
        if self.serves(request):
            self.socket.destroy(error)

    def serves(self, request: ClientRequest) -> bool:
        """Return whether the exchange in work is that of ``request``."""
        return self.state is not _CLOSED and self.current_request is request

    def is_in_exchange(self, turn: int) -> bool:
        """Return whether the connection still is that of this exchange."""
        return self.exchange_number == turn and self.state is not _IDLE

    def change_timeout(self, request: ClientRequest, timeout: float | None) -> None:
        """Set the inactivity timeout of the exchange of ``request``."""
        if self.serves(request):
            self.timeout = timeout
            self.reported_timeout_at = 0.0
            self.watch()

    def _discard_after_fork(self) -> None:
        """Let go without a word: the connection is the parent process's."""
        request, state = self.current_request, self.state
        self.state = _CLOSED
        deadlines(self.agent._hub).forget(self)
        self.socket._set_protocol(None)
        self.socket._discard_after_fork()
        if not is_alive(self.agent._hub):
            # the threads that could wait are the parent's, too
            return
        if state is _RECEIVING:
            self._abort_response(inherited_error())
        elif state is _SENDING:
            self._abort_request(inherited_error())
        elif state is _WAITING and request is not None:
            request.destroy(inherited_error())

    @property
    def activity(self) -> str:
        """What it does, in the words of a survey."""
        state = self.state
        if state is _WAITING:
            return 'connecting' if self.socket.pending or self.socket.handshaking else 'waiting'
        if state is _RECEIVING:
            return 'unread' if self._reader is None else 'receiving'
        return state.value

    @property
    def current_exchange(self) -> tuple[str | None, str | None, float]:
        """Method and target of the exchange in work, None where they are not known any more, and when it began."""
        request = self.current_request
        if self.describe_request is not None and (self.state is _RECEIVING or self.state is _DISCARDING):
            return self.describe_request
        return (None, None, self.since) if request is None else (request.method, request.path, self.since)

    def is_unread_since(self, since: float) -> bool:
        """Return whether nobody has read the response since then."""
        return self.state is _RECEIVING and self._reader is None and self.since <= since

    def _on_agent_remove(self) -> None:
        """``'agentRemove'``: the connection counts no more."""
        self.keep_alive = False
        request = self.current_request
        if request is not None:
            request.should_keep_alive = False
        self.agent._remove(self)

    def _abort_request(self, error: BaseException | None) -> None:
        request = self.current_request
        if request is not None:
            request._on_send_aborted(error)

    def set_exchange_timeout(self, message: object, seconds: float | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        timeout = None if seconds is None else checked_seconds('timeout', seconds) or None
        if message is self.current_response and self.state is _RECEIVING:
            self.timeout = timeout
            self.reported_timeout_at = 0.0
            self.watch()

    def __repr__(self) -> str:
        return f'<ClientConnection {self.state.value} {self.socket!r}>'
