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
from geventnode.http.client.phase import Phase
from geventnode.http.client.receiving import ResponseReceiver
from geventnode.http.client.response_body import ClientResponse
from geventnode.net.deadlines import NEVER, deadlines, is_alive
from geventnode.net.forks import inherited
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import Framing, ResponseHead

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Destination
    from geventnode.http.client.pool import Bucket
    from geventnode.http.client.request import ClientRequest
    from geventnode.net.socket import Socket

__all__ = ['ClientConnection']

_IDLE, _WAITING, _RECEIVING, _SENDING, _DELIVERING, _DISCARDING, _OVER = Phase

#: Turns of the loop that listeners have before their connection goes to a request that waits for one. They are enough
#: to call them, and to emit ``'data'`` and ``'end'`` of a body that is here.
LISTENERS_TURNS = 4


class ClientConnection(ResponseReceiver):
    """The HTTP side of one socket of an agent."""

    __slots__ = (
        '_delivered',
        '_yielding',
        'asked',
        'bucket',
        'deadline',
        'heard',
        'idle_limit',
        'keep_alive',
        'late',
        'number',
        'opened_at',
        'reused',
        'timeout',
        'tuned',
        'tunnels',
        'turn',
    )

    def __init__(
        self,
        agent: Agent,
        bucket: Bucket[ClientRequest, ClientConnection],
        destination: Destination,
        socket: Socket,
        number: int,
    ) -> None:
        super().__init__(agent, destination, socket)
        self.bucket = bucket
        #: Which one of the agent's connections it is, from 1 on.
        self.number = number
        #: Which of the connection's exchanges is in work, or was last, from 1 on.
        self.turn = 0
        #: Whether the ``'response'`` listeners have returned, and whether the connection is about to leave them.
        self._delivered = False
        self._yielding = False
        #: Whether another request was served before this one.
        self.reused = False
        #: Whether anything came in answer to the request in work.
        self.heard = False
        #: What both sides said about another exchange, and the server about how long it waits for one.
        self.keep_alive = False
        self.idle_limit: float | None = None
        #: Whether the request asks for a tunnel.
        self.tunnels = False
        #: Whether a request has changed settings of the socket.
        self.tuned = False
        self.opened_at = socket.active
        #: Of the request whose response has begun, which its users may have forgotten: see below.
        self.asked: tuple[str, str, float] | None = None
        #: When the exchange in work must be over, and after how much inactivity it is given up.
        self.deadline = NEVER
        self.timeout: float | None = None
        #: The time of the last traffic when the server was reported to be late: that is done once until there is more.
        self.late = 0.0
        socket.on('agentRemove', self._leave)
        socket.set_sink(self)
        deadlines(agent.hub).watch(self)

    # -- an exchange ----------------------------------------------------------------------------------------------

    def start(self, request: ClientRequest, reused: bool, now: float) -> None:
        """Serve ``request`` from now on; it may be sent."""
        self.phase = _WAITING
        self.turn += 1
        self.request = request
        self.reused = reused
        self.heard = False
        self.sent = False
        parser = self.parser
        parser.limits = request.limits
        parser.record_chunk_sizes = request._keeps_chunks
        parser.expect_response_to(request.method, request.wants_upgrade)
        self.tunnels = request.method == 'CONNECT'
        self.deadline = request.deadline_at
        self.timeout = request.timeout
        self.since = now
        expires = now + request.shortest_timeout
        # it may have waited for a connection, and its deadline has begun before
        self.expires = expires if expires < self.deadline else self.deadline
        if request.precise:
            self.watch()

    def watch(self) -> None:
        """Look at the deadlines anew."""
        self.expires = due(self)[0]
        if self.phase is not _OVER:
            deadlines(self.agent.hub).watch(self)

    def request_ended(self) -> None:
        """The whole request was handed to the socket."""
        self.sent = True
        # a source may have taken its time to end
        self.socket.touch()
        if self.phase is _SENDING:
            self._exchange_over()

    # -- run by the hub -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase is _WAITING:
            self.heard = True
            parser = self.parser
            parser.feed(data)
            # whoever listens for 'connect' wants the body unread
            if self.sent and not self.tunnels and (whole := parser.take_response()) is not None:
                self._serve_whole(*whole)
            else:
                self._read_head()
        elif phase is _RECEIVING:
            self.parser.feed(data)
            if self._reader is not None:
                self._reader.switch()
            else:
                self._keep()
        elif phase is _DISCARDING:
            self.parser.feed(data)
            self._discard()
        elif phase is not _OVER:
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
                IncompleteBody(
                    f'{self.destination} ended the connection without close_notify (TLS) in the middle of a body'
                )
            )
            return
        self.parser.feed_eof()
        phase = self.phase
        if phase is _WAITING:
            if self.heard:
                self._read_head()
            else:
                self.close()
        elif phase is _RECEIVING:
            if self._reader is not None:
                self._reader.switch()
            else:
                self._keep()
        elif phase is not _OVER and phase is not _DELIVERING:
            self.close()

    def queue_drained(self) -> None:
        if self.phase is _SENDING and self.sent:
            self._exchange_over()

    def send_failed(self, error: BaseException) -> bool:
        # the server may have answered before it stopped to listen
        return self.phase is _WAITING or self.phase is _RECEIVING

    def connection_lost(self, error: BaseException | None) -> None:
        phase, self.phase = self.phase, _OVER
        deadlines(self.agent.hub).forget(self)
        self.agent.closed()
        self.agent.holding.discard(self)
        # what refers to each other would have to wait for the collector
        self.socket.remove_listener('agentRemove', self._leave)
        request, self.request = self.request, None
        if phase is _WAITING:
            assert request is not None
            self.agent.lost(self, request, error)
        else:
            self.agent.removed(self)
            if phase is _RECEIVING:
                self._cut_off(error)
            elif phase is _SENDING:
                self._tell_request(error)

    def on_deadline(self, now: float) -> None:
        when, act = due(self)
        if when > now:
            self.expires = when
        elif deadlines(self.agent.hub).excuse(self.socket, now):
            # look again next time: it may have read until then
            self.expires = now
        else:
            self.expires = now + 0.25
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
                    self.fail(SocketHangUp(f'socket hang up: {self.destination} ended the connection within a head'))
                else:
                    self.fail(without_traceback(error))
                return
            if head is None:
                if self._eof:
                    self.close()
                return
            if head.status_code >= 200 or head.upgrade:
                break
            request.informed(head)
            if self.request is not request:
                return
        if head.upgrade or (
            request.method == 'CONNECT' and (head.status_code < 300 or request.listener_count('connect'))
        ):
            self._hand_over(request, head)
        else:
            self._begin_response(request, head)

    def _begin_response(self, request: ClientRequest, head: ResponseHead) -> None:
        response = ClientResponse(head, self)
        self.request = None
        self.keep_alive = head.keep_alive and request.should_keep_alive
        self._request = weakref.ref(request, self._forgotten)
        if request._listeners is not None:
            self._hold(request, response)
        if head.framing is Framing.NONE:
            self._message_over(head)
        else:
            self.phase = _RECEIVING
            self.asked = request.method, request.path, self.since
            self._response = weakref.ref(response, self._forgotten)
            if request._keeps_chunks:
                response._chunk_sizes = self.parser.chunk_sizes
            self._keep()
        # the last thing here: it may switch to who waits
        request.responded(response)

    def _serve_whole(self, head: ResponseHead, body: bytes) -> None:
        """A small response has arrived in one piece, after the whole request was sent."""
        request = self.request
        assert request is not None
        response = ClientResponse(head, self)
        response.keep(body)
        response.complete = True
        if request._listeners is not None:
            self._request = weakref.ref(request)
            self._hold(request, response)
        self.keep_alive = head.keep_alive and request.should_keep_alive
        self._message_over(head)
        request.responded(response)

    def _hand_over(self, request: ClientRequest, head: ResponseHead) -> None:
        """Leave the socket to another protocol."""
        socket = self.socket
        response = ClientResponse(head, self)
        response.grant(self.parser.take_rest())
        self.phase = _OVER
        self.request = None
        deadlines(self.agent.hub).forget(self)
        socket.remove_listener('agentRemove', self._leave)
        socket.set_sink(None)
        self.agent.removed(self)
        request.handed_over(response)

    # -- the end of an exchange -----------------------------------------------------------------------------------

    def _message_over(self, head: Any) -> None:
        """The response is complete."""
        hint = head.block.fields.get('keep-alive')
        self.idle_limit = None if hint is None else hinted(hint)
        if not self.sent or self.socket.writable_length:
            request = self.current_request
            self.phase = _SENDING
            # RFC 9112, section 9.5: who says no, and closes, does not want the rest
            unwanted = head.status_code >= 300 and not head.keep_alive
            if request is None or request.send_refused or unwanted or self.socket.send_broken:
                self.close()
            return
        self._exchange_over()

    def _exchange_over(self) -> None:
        """Request and response are complete."""
        if not self.sent or self.socket.writable_length:
            if self.phase is _DISCARDING:
                self.close()
            return
        held = None if self._held is None else self._held()
        if held is None or held.readable_ended or (self._delivered and not held.emits):
            self._release()
            return
        self.phase = _DELIVERING
        self.deadline = self.expires = NEVER
        self.request = self._response = None
        self.agent.holding.add(self)
        self.yield_soon()

    # -- listeners ------------------------------------------------------------------------------------------------

    def _hold(self, request: ClientRequest, response: ClientResponse) -> None:
        """If ``request`` has ``'response'`` listeners, keep the connection until they have run, and ``'end'`` of
        ``response`` was emitted."""
        if request.listener_count('response'):
            self._held = weakref.ref(response, self._forgotten)
            self._delivered = False
            response.end_awaited = True

    def listeners_returned(self, response: ClientResponse) -> None:
        """The ``'response'`` listeners have returned: unless one of them consumes ``response`` by events, the
        connection is no longer needed."""
        if self._held is not None and self._held() is response:
            self._delivered = True
            if self.phase is _DELIVERING and not response.emits:
                self._release()

    def message_ended(self, message: ClientResponse) -> None:
        """``'end'`` of ``message`` was emitted."""
        if self._held is not None and self._held() is message:
            self._held = None
            if self.phase is _DELIVERING:
                self._release()

    def yield_soon(self) -> None:
        """Leave the listeners within some turns of the loop, if a request waits for a connection then: listeners may
        block, and for that request."""
        if not self._yielding and self.agent.lacks_connections(self.bucket):
            self._yielding = True
            self._count_down(self.turn, LISTENERS_TURNS)

    def _count_down(self, turn: int, left: int) -> None:
        if self.phase is not _DELIVERING or self.turn != turn:
            self._yielding = False
        elif left:
            self.agent.hub.loop.run_callback(self._count_down, turn, left - 1)
        else:
            self._yielding = False
            if self.agent.lacks_connections(self.bucket):
                self._release()

    def _release(self) -> None:
        """The exchange is over, and nothing is kept for its listeners: into the pool, or away."""
        if self.phase is _DELIVERING:
            self.agent.holding.discard(self)
        self.request = self._request = self._response = self._held = None
        socket = self.socket
        if not self.keep_alive or self._eof or self.parser.buffered or socket.send_broken or socket.destroyed:
            self.phase = _IDLE
            self.close()
            return
        self.phase = _IDLE
        self.since = socket.active
        self.deadline = self.expires = NEVER
        if self._paused:
            self._paused = False
            socket.resume_reading()
        if self.tuned:
            self.tuned = False
            socket.set_no_delay()
            self.agent.set_probes(socket)
        if socket.timeout is not None:
            socket.set_timeout(None)
        self.agent.released(self)

    def went_idle(self, limit: float | None) -> None:
        """Nobody waits for this connection: it is kept for ``limit`` seconds (None: as long as it lives)."""
        self.idle_limit = limit
        if limit is not None:
            self.expires = self.since + limit

    def fail(self, error: Exception) -> None:
        """End the exchange in work with ``error``."""
        self.socket.destroy(error)

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.destroy()

    def give_up(self, request: ClientRequest, error: BaseException | None) -> None:
        """End the exchange in work if it is that of ``request``."""
        if self.serves(request):
            self.socket.destroy(error)

    def serves(self, request: ClientRequest) -> bool:
        """Return whether the exchange in work is that of ``request``."""
        return self.phase is not _OVER and self.current_request is request

    def has_turn(self, turn: int) -> bool:
        """Return whether the connection still is that of this exchange."""
        return self.turn == turn and self.phase is not _IDLE

    def change_timeout(self, request: ClientRequest, timeout: float | None) -> None:
        """Set the inactivity timeout of the exchange of ``request``."""
        if self.serves(request):
            self.timeout = timeout
            self.late = 0.0
            self.watch()

    def abandon(self) -> None:
        """Let go without a word: the connection is the parent process's."""
        request, phase = self.current_request, self.phase
        self.phase = _OVER
        deadlines(self.agent.hub).forget(self)
        self.socket.set_sink(None)
        self.socket.abandon()
        if not is_alive(self.agent.hub):
            # the threads that could wait are the parent's, too
            return
        if phase is _RECEIVING:
            self._cut_off(inherited())
        elif phase is _SENDING:
            self._tell_request(inherited())
        elif phase is _WAITING and request is not None:
            request.destroy(inherited())

    @property
    def activity(self) -> str:
        """What it does, in the words of a survey."""
        phase = self.phase
        if phase is _WAITING:
            return 'connecting' if self.socket.pending or self.socket.handshaking else 'waiting'
        if phase is _RECEIVING:
            return 'unread' if self._reader is None else 'receiving'
        return phase.value

    @property
    def in_work(self) -> tuple[str | None, str | None, float]:
        """Method and target of the exchange in work, None where they are not known any more, and when it began."""
        request = self.current_request
        if self.asked is not None and (self.phase is _RECEIVING or self.phase is _DISCARDING):
            return self.asked
        return (None, None, self.since) if request is None else (request.method, request.path, self.since)

    def stands_still(self, since: float) -> bool:
        """Return whether nobody has read the response since then."""
        return self.phase is _RECEIVING and self._reader is None and self.since <= since

    def _leave(self) -> None:
        """``'agentRemove'``: the connection counts no more."""
        self.keep_alive = False
        request = self.current_request
        if request is not None:
            request.should_keep_alive = False
        self.agent.removed(self)

    def _tell_request(self, error: BaseException | None) -> None:
        request = self.current_request
        if request is not None:
            request.cut_off(error)

    def set_exchange_timeout(self, message: object, seconds: float | None) -> None:
        """See :class:`geventnode.http.incoming.BodySource`."""
        timeout = None if seconds is None else checked_seconds('timeout', seconds) or None
        if message is self.current_response and self.phase is _RECEIVING:
            self.timeout = timeout
            self.late = 0.0
            self.watch()

    def __repr__(self) -> str:
        return f'<ClientConnection {self.phase.value} {self.socket!r}>'
