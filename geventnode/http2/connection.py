"""One client's connection by HTTP/2: many requests at a time, and no greenlet of its own.

The socket passes on input in the hub. The engine turns it into events, and each event goes to a
:class:`~geventnode.http2.stream.Stream`, one for each request; a new stream takes a worker, as a request of HTTP/1.1
does. While no request is served, the connection has neither greenlet nor buffers, only the engine with its HPACK
tables.

The output of the streams is sent in turn, at most :data:`TURN` bytes of each, while the socket has room
(:meth:`Connection.pump`): memory is bounded by the high-water marks of the streams and that of the socket. During one
input, output is collected and sent by one call.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventnode.errors import ConnectionClosed, GeventnodeError, IncompleteBody, ParseError
from geventnode.http.server.refusals import refusal_reason
from geventnode.http.server.served import Exchange, ServedConnection
from geventnode.http.server.workers import Worker
from geventnode.http2.codes import ErrorCode, code_name
from geventnode.http2.deadlines import STALL_TIME, pending
from geventnode.http2.engine import (
    ConnectionFailed,
    DataReceived,
    Engine,
    GoAwayAcknowledged,
    HeadReceived,
    RequestRejected,
    StreamFailed,
    StreamReset,
    TrailersReceived,
    WindowOpened,
)
from geventnode.http2.stream import SMALL_WRITE, Stream, error_fields
from geventnode.http2.stream_socket import SharedSocket
from geventnode.net.deadlines import deadlines
from geventnode.net.server import DRAIN_TIME

if TYPE_CHECKING:
    from geventnode.http.server.response import ServerResponse
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['TRANSITIONS', 'Connection', 'ConnectionState']

log = logging.getLogger('geventnode.error')

#: How many requests of one input, and for how many seconds, are begun before other connections have their turn.
ROUNDS, ROUND_TIME = 16, 0.001

#: Bytes that a stream sends in its turn, while others wait.
TURN = 65536

#: Bytes of output that are collected before they are passed to the socket.
OUTPUT_SIZE = 65536

#: Bytes in the queue of the socket, beyond its high-water mark, above which no input is read. The bodies of responses
#: stay below; a client that sends requests or PINGs, and does not read the answers, gets there.
MAX_UNREAD = 4 * OUTPUT_SIZE


class ConnectionState(enum.Enum):
    """The states of a connection."""

    #: Serves requests, or waits for them.
    OPEN = 'open'
    #: The connection ends soon, as GOAWAY announces; requests that are on their way are served.
    DRAINING = 'draining'
    #: There is a last request, which GOAWAY names; those that have begun are served.
    CLOSING = 'closing'
    #: Everything was sent; the client has some time to read it.
    LINGERING = 'lingering'
    #: The socket is closed.
    CLOSED = 'closed'


_OPEN, _DRAINING, _CLOSING, _LINGERING, _CLOSED = ConnectionState

#: The states that can follow each state. In tests, any other change raises.
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    _OPEN: frozenset({_DRAINING, _CLOSING, _LINGERING, _CLOSED}),
    _DRAINING: frozenset({_CLOSING, _LINGERING, _CLOSED}),
    _CLOSING: frozenset({_LINGERING, _CLOSED}),
    _LINGERING: frozenset({_CLOSED}),
    _CLOSED: frozenset(),
}


class Connection(ServedConnection):
    """The protocol of one accepted socket.

    :param server: the server, with its settings.
    :param socket: the socket; its first bytes are the preface of HTTP/2.
    """

    __slots__ = (
        '_accounted',
        '_blocked',
        '_corked',
        '_delayed',
        '_eof',
        '_output_full',
        '_paused',
        '_ready',
        '_waiting',
        'block_began',
        'engine',
        'goaway_due',
        'goaway_sent',
        'hub',
        'paused_since',
        'server',
        'shared_socket',
        'state',
        'streams',
        'unflushed',
    )

    def __init__(self, server: Server, socket: Socket) -> None:
        self.server = server
        self.hub = server._hub
        self.socket = socket
        #: The socket that all requests have.
        self.shared_socket = SharedSocket(socket)
        self.engine = Engine(server._http2_limits)
        self.state = _OPEN
        self.streams: dict[int, Stream] = {}
        self.served = 0
        #: When the present state began, or the last request ended (monotonic).
        self.began = socket._last_activity
        #: When the header block began that is incomplete; None without one.
        self.block_began: float | None = None
        #: When a GOAWAY is sent that waits for the end of the requests in progress; None without one.
        self.goaway_due: float | None = None
        #: When the last GOAWAY was sent.
        self.goaway_sent = 0.0
        self._expires = socket._last_activity + server._shortest_timeout
        #: Streams with output that can be sent, in their turn. Empty dicts are smaller than other queues.
        self._ready: dict[Stream, None] = {}
        #: Streams that wait for the window of the connection, in their turn.
        self._blocked: dict[Stream, None] = {}
        #: Requests that have arrived and wait for their turn.
        self._waiting: dict[Stream, None] = {}
        #: Whether output is collected.
        self._corked = False
        #: Bytes of streams that are sent with the collected output, and are not in it.
        self._delayed = 0
        self._eof = False
        #: Whether reading is paused: by the limit of buffered input, and until the client reads.
        self._paused = False
        self._output_full = False
        #: When reading was paused by that limit.
        self.paused_since = 0.0
        self._accounted = 0
        #: Responses that have ended, and are still queued in part: in their streams, or behind these in the socket.
        self.unflushed: dict[ServerResponse, None] | None = None
        deadlines(self.hub).watch(self)
        self._corked = True
        try:
            socket._set_protocol(self)
        finally:
            self._corked = False
        self.flush()
        if server.draining:
            self.begin_draining()

    # -- input, as a geventnode.net.socket.Protocol: run by the hub -----------------------------------------------

    def data_received(self, data: bytes) -> None:
        engine = self.engine
        if self.state is _LINGERING:
            return
        self._corked = True
        try:
            rounds, started = 0, 0.0
            for event in engine.receive(data, self.socket._last_activity):
                if self.state is _CLOSED:
                    return
                if type(event) is HeadReceived:
                    stream = self._open(event)
                    rounds += 1
                    if rounds == 1:
                        started = monotonic()
                    elif self._waiting or rounds > ROUNDS or monotonic() - started > ROUND_TIME:
                        self._waiting[stream] = None
                        continue
                    self._start_worker(stream)
                else:
                    getattr(self, _HANDLERS[type(event)])(event)
            if self._waiting:
                self.server._run_queue.add(self)
            if not engine.in_block:
                self.block_began = None
            elif self.block_began is None:
                self.block_began = self.socket._last_activity
        finally:
            self._corked = False
        self.pump()
        socket = self.socket
        if socket.writable_length > socket.writable_high_water_mark + MAX_UNREAD:
            self._output_full = True
            socket._pause_reading()
        if not self.streams and self.state is not _OPEN:
            self._close_if_done()

    def eof_received(self) -> None:
        self._eof = True
        if self.state is _LINGERING:
            if not self.socket.writable_length:
                self.socket.destroy()
            return
        for stream in tuple(self.streams.values()):
            stream.client_ended()
        if not self.streams:
            self.close()

    def queue_drained(self) -> None:
        if self._output_full:
            self._output_full = False
            if not self._paused:
                self.socket._resume_reading()
        if self.state is _LINGERING:
            self.began = monotonic()
            if self._eof:
                self.socket.destroy()
        else:
            self.pump()

    def send_failed(self, error: BaseException) -> bool:
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        self.state = _CLOSED
        self._eof = True
        self.server._past_requests += self.served
        deadlines(self.hub).forget(self)
        self.server._run_queue.discard(self)
        self._waiting.clear()
        self._ready.clear()
        self._blocked.clear()
        failure: Exception | None = None
        if isinstance(error, GeventnodeError):
            failure = error
        elif isinstance(error, Exception):
            failure = IncompleteBody('the connection was lost in the middle of a body')
            failure.__cause__ = error
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.lost(failure)
        for response in tuple(self.unflushed or ()):
            self.end_unflushed(response)
        self.account(-self._accounted)
        if isinstance(error, OSError) and not self.engine.failed:
            self._emit_error(error)

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`."""
        found = pending(self, now)
        if min(when for when, _ in found) <= now and self.socket._has_progress():
            # of a client that receives slowly
            found = pending(self, now)
        self._expires = min([now + self.server._shortest_timeout, *(when for when, _ in found if when > now)])
        late = [act for when, act in found if when <= now]
        if not late:
            return
        if self.state is not _LINGERING and deadlines(self.hub).grants_grace(self.socket, now):
            # look again next time: it can have read until then
            self._expires = now
            return
        for act in late:
            act()
            if self.state is _LINGERING or self.state is _CLOSED:
                # the effect of one was the end of all streams
                return
        self.pump()

    # -- events of the engine: run by the hub ---------------------------------------------------------------------

    def _open(self, event: HeadReceived) -> Stream:
        stream = self.streams[event.stream.id] = Stream(self, event.stream, event.head)
        self.served += 1
        limit = self.server._request_limit
        if 0 < limit <= self.served and self.state is not _CLOSING:
            self.state = _CLOSING
            self.engine.refuse_later_requests()
            self._hold_goaway()
        return stream

    def _start_worker(self, stream: Stream) -> None:
        """Give ``stream`` to a worker: an idle one, or a new one."""
        idle = self.server._idle_workers
        if idle:
            idle.pop().switch(stream)
        else:
            worker = Worker(self.hub, idle)
            worker.job = stream
            worker.switch()

    def resume(self) -> None:
        """Begin requests that wait: the run queue has reached this connection."""
        waiting = self._waiting
        self._corked = True
        started = monotonic()
        try:
            for _ in range(ROUNDS):
                if not waiting or self.state is _CLOSED:
                    break
                stream = next(iter(waiting))
                del waiting[stream]
                self._start_worker(stream)
                if monotonic() - started > ROUND_TIME:
                    break
        finally:
            self._corked = False
        if waiting:
            self.server._run_queue.add(self)
        self.pump()

    def _on_data(self, event: DataReceived) -> None:
        owner: Stream | None = event.stream.owner
        if owner is None:
            self.engine.consumed(event.stream, len(event.data))
        else:
            owner.data_received(event.data)
            self._forget_if_done(owner)

    def _on_trailers(self, event: TrailersReceived) -> None:
        owner: Stream | None = event.stream.owner
        if owner is not None:
            owner.trailers_received(event.trailers)
            self._forget_if_done(owner)

    def _on_rejected(self, event: RequestRejected) -> None:
        """Send an error response to a request that exceeds a limit.

        It is complete at once. If the windows of the client do not allow its body, it has none.
        """
        error, engine, stream = event.error, self.engine, event.stream
        self.server._peer_log.log_refusal(refusal_reason(error), '%s: %s', self._client, error)
        fields, body = error_fields(error.status)
        if event.for_head:
            engine.send_head(stream, fields, True)
        elif engine.sendable(stream) >= len(body):
            engine.send_head(stream, fields, False)
            engine.send_data(stream, body, True)
        else:
            fields[-1] = b'content-length', b'0'
            engine.send_head(stream, fields, True)
        engine.reset(stream, ErrorCode.NO_ERROR)

    def _on_reset(self, event: StreamReset) -> None:
        owner: Stream | None = event.stream.owner
        if owner is not None:
            self._remove(owner)
            owner.reset_received(event.code)

    def _on_stream_failed(self, event: StreamFailed) -> None:
        self.server._peer_log.log_refusal(event.limit or 'malformed', '%s: %s', self._client, event.message)
        owner: Stream | None = None if event.stream is None else event.stream.owner
        if owner is not None:
            self._remove(owner)
            owner.failed(event.message)

    def _on_window(self, event: WindowOpened) -> None:
        if event.stream is None:
            # those that have waited come first: small credits would serve only the first streams
            blocked, self._blocked = self._blocked, {}
            self._ready.update(blocked)
            for stream in self.streams.values():
                self.schedule(stream)
        elif event.stream.owner is not None:
            self.schedule(event.stream.owner)

    def _on_goaway_acknowledged(self, event: GoAwayAcknowledged) -> None:
        if self.state is _DRAINING:
            self._go_away()

    def _on_failed(self, event: ConnectionFailed) -> None:
        """Close after the GOAWAY that the engine has sent."""
        self.server._peer_log.log_refusal(
            event.limit or 'http2_protocol', '%s: %s (%s)', self._client, event.message, code_name(event.code)
        )
        self._emit_error(ParseError(f'{event.message} ({code_name(event.code)})', code='ERR_HTTP2_SESSION_ERROR'))
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.lost(IncompleteBody(f'the client has broken a rule of HTTP/2: {event.message}'))
        self._waiting.clear()
        self._ready.clear()
        self._blocked.clear()
        self._corked = False
        self.flush()
        self.close()

    def _emit_error(self, error: Exception) -> None:
        """Emit ``'sessionError'``, once, for the end of the connection by ``error``."""
        if self.server.listener_count('sessionError'):
            gevent.spawn(_run_error_listeners, self.server, error, self.shared_socket)

    def fail(self, code: ErrorCode, message: str, limit: str) -> None:
        """End the connection of a client that has exceeded a time limit."""
        self.engine.failed = True
        self.engine.go_away(code)
        self._on_failed(ConnectionFailed(code, message, limit))

    @property
    def _client(self) -> str:
        """The client in a log line."""
        return self.socket.remote_address or 'a Unix socket'

    # -- output: run by the hub, or by the greenlet that writes ---------------------------------------------------

    def schedule(self, stream: Stream) -> None:
        """Let ``stream`` send in its turn, if it has output."""
        if stream._has_queued:
            self._ready[stream] = None

    def can_delay(self, stream: Stream, size: int) -> bool:
        """Return whether the queue of ``stream`` can wait.

        It can during an input if all of it is sent together with the output that is collected.

        :param size: bytes that were added to it. They are counted, so that no other stream relies on the same part of
            the window.
        """
        if not self._corked or self.socket._has_queued:
            return False
        delayed = self._delayed + size
        if delayed > self.engine.send_window or stream.writable_length > stream.state.send_window:
            return False
        self._delayed = delayed
        return True

    def send_at_once(self, stream: Stream, data: bytes) -> bool:
        """Send a piece of a body if nothing waits before it.

        The effect is that of the queue of ``stream`` and of :meth:`pump`, in fewer steps. Small writes during an input
        are left to :meth:`can_delay`.

        :returns: whether the piece was sent, or is in the collected output.
        """
        engine, state, size = self.engine, stream.state, len(data)
        if (
            self._ready
            or size > TURN
            or size > state.send_window
            or size > engine.send_window
            or self._delayed
            or (self._corked and size < SMALL_WRITE)
            or self.socket._has_queued
        ):
            return False
        engine.send_data(state, data, False)
        stream.last_activity = monotonic()
        if not self._corked or engine.output_size >= OUTPUT_SIZE:
            self._send_output()
        return True

    def pump(self) -> None:
        """Send the output of the streams in turn, while there is room."""
        ready, engine, socket = self._ready, self.engine, self.socket
        self._delayed = 0
        while ready:
            if engine.output_size >= OUTPUT_SIZE and not self._send_output():
                return
            if socket.writable_length >= socket.writable_high_water_mark:
                break
            stream = next(iter(ready))
            del ready[stream]
            if stream.destroyed:
                continue
            if stream.transmit(TURN):
                ready[stream] = None
            elif engine.send_window <= 0 and stream._has_queued:
                self._blocked[stream] = None
        self.flush()

    def flush(self) -> None:
        """Pass the collected output to the socket, unless more is being collected."""
        if not self._corked and self.engine.output_size:
            self._send_output()

    def _send_output(self) -> bool:
        """Pass the output to the socket; return whether it is open."""
        if self.socket.destroyed or self.socket.writable_ended:
            self.engine.take_pieces()
            return False
        size = self.engine.output_size
        try:
            self.socket._send_pieces(self.engine.take_pieces(), size)
        except ConnectionClosed:
            # the socket has reported it to this connection
            return False
        return True

    def when_flushed(self, callbacks: list[Callable[[], object]]) -> None:
        """Call ``callbacks`` in a greenlet when the present output was sent."""
        if self._corked:
            self._corked = False
            self.flush()
            self._corked = True
        if self.socket._has_queued and not self.socket.destroyed:
            for callback in callbacks:
                self.socket._when_flushed(callback)
        elif not self.socket.destroyed:
            gevent.spawn(_call, callbacks)

    # -- the end of a stream --------------------------------------------------------------------------------------

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Reset ``stream``, from this side."""
        if self._delayed:
            # its bytes count as sent
            self.pump()
        self.engine.reset(stream.state, code)
        self._remove(stream)
        self.flush()

    def forget(self, stream: Stream) -> None:
        """Remove ``stream``, which both sides have ended."""
        self._remove(stream)

    def end_unflushed(self, response: ServerResponse) -> None:
        """Notify the listeners of ``response`` that its queued part is lost."""
        assert self.unflushed is not None
        del self.unflushed[response]
        response.destroyed = True
        response._spawn_close()

    def _forget_if_done(self, stream: Stream) -> None:
        if stream.state.ended and stream.state.local_ended:
            self._remove(stream)

    def _remove(self, stream: Stream) -> None:
        if self.streams.pop(stream.state.id, None) is None:
            return
        stream.state.owner = None
        stream.release()
        self._waiting.pop(stream, None)
        self._blocked.pop(stream, None)
        if not self.streams:
            self.began = monotonic()
            if self.state is not _OPEN or self._eof:
                self.hub.loop.run_callback(self._close_if_done)
            elif self.server._at_capacity:
                self._expires = self.began

    # -- buffered input -------------------------------------------------------------------------------------------

    def account(self, change: int) -> None:
        """Report a change of the number of buffered bytes.

        The limit can pause reading.
        """
        if self.state is _CLOSED and not self._accounted:
            # all bytes were released when the connection was lost; some of them are read, or dropped, later
            return
        if change:
            self._accounted += change
            self.server._buffer_limit.change(self, change)
            if change < 0:
                self.resume_for_limit()

    def pause_for_limit(self) -> None:
        """See :class:`geventnode.http.server.buffer_limit.BufferHolder`."""
        if not self._paused:
            self._paused = True
            self.paused_since = monotonic()
            self._expires = min(self._expires, self.paused_since + STALL_TIME)
            deadlines(self.hub).watch(self)
        self.socket._pause_reading()

    def resume_for_limit(self) -> None:
        """See :class:`geventnode.http.server.buffer_limit.BufferHolder`."""
        if self._paused:
            self._paused = False
            if not self._output_full:
                self.socket._resume_reading()

    @property
    def stalled(self) -> bool:
        """Whether reading is paused while a stream waits for its window."""
        return self._paused and any(stream.waits_for_window for stream in self.streams.values())

    def refuse_bodies(self) -> None:
        """Reset streams with unread bodies, so that others get their windows.

        A body that has arrived as a whole needs no further input. It is refused only if its stream waits, too, and no
        other body is left.
        """
        limit = self.server.max_buffered
        unread = [stream for stream in self.streams.values() if stream.buffered]
        refused = [stream for stream in unread if not stream.state.ended]
        for stream in refused or [stream for stream in unread if stream.waits_for_window]:
            self.server._peer_log.log_refusal(
                'max_buffered', '%s: more unread input than max_buffered (%d bytes)', stream.describe(), limit
            )
            stream.abort(
                ErrorCode.ENHANCE_YOUR_CALM,
                IncompleteBody(f'the body was refused: connections have more unread input than max_buffered ({limit})'),
            )

    # -- the end --------------------------------------------------------------------------------------------------

    def begin_draining(self) -> None:
        """See :class:`geventnode.http.server.served.ServedConnection`."""
        if self.state is _OPEN:
            self.state = _DRAINING
            self.began = self._expires = monotonic()
            self._hold_goaway()
        if self.state is not _CLOSED:
            deadlines(self.hub).watch(self)

    def _hold_goaway(self) -> None:
        """Send GOAWAY after the requests in progress.

        It waits :data:`DRAIN_TIME` at most. Clients that use ``h2``, such as httpx, give up all requests in progress
        when they receive it, although the server completes them (RFC 9113, section 6.8).
        """
        if not self.streams:
            self.send_goaway()
        elif self.goaway_due is None:
            self.goaway_due = monotonic() + DRAIN_TIME
            self._expires = min(self._expires, self.goaway_due)
            deadlines(self.hub).watch(self)

    def send_goaway(self) -> None:
        """Send the GOAWAY of the present state."""
        self.goaway_due = None
        self.goaway_sent = monotonic()
        self._expires = min(self._expires, self.goaway_sent + DRAIN_TIME)
        self.engine.go_away(announce=self.state is _DRAINING)
        self.flush()

    def _go_away(self) -> None:
        """Send GOAWAY with the last request.

        The connection closes after those that have begun.
        """
        if self.state is _OPEN or self.state is _DRAINING:
            self.state = _CLOSING
            self.send_goaway()
            self._close_if_done()

    def end_draining(self) -> None:
        """Serve no further request: the client has had the time for its last ones. Run by the hub."""
        self._go_away()

    def _close_if_done(self) -> None:
        if self.streams or self.state is _LINGERING or self.state is _CLOSED:
            return
        if self.state is _CLOSING or self._eof:
            self.close()
        elif self.goaway_due is not None:
            self.send_goaway()

    def close(self) -> None:
        """Send GOAWAY, and close after the queued bytes."""
        socket = self.socket
        if self.state is _CLOSED or self.state is _LINGERING or socket.destroyed:
            return
        self._send_last_goaway(ErrorCode.NO_ERROR)
        if not socket.destroyed:
            self.state = _LINGERING
            socket._end_nowait()
            self._linger()

    def close_at_once(self, error: BaseException | None = None) -> None:
        """Send GOAWAY, and close without waiting for the client.

        Unfinished requests are lost, and so are the queued bytes. By GOAWAY the client knows which requests were never
        begun (RFC 9113, section 6.8).

        :param error: the reason, for :meth:`geventnode.net.Socket.destroy`.
        """
        if self.state is not _CLOSED and self.state is not _LINGERING:
            self._send_last_goaway(ErrorCode.NO_ERROR if error is None else ErrorCode.INTERNAL_ERROR)
        self.socket.destroy(error)

    def _send_last_goaway(self, code: ErrorCode) -> None:
        """Send the last GOAWAY, unless it was sent."""
        if not self.engine.failed and (self.state is not _CLOSING or self.goaway_due is not None):
            self.goaway_due = None
            self.engine.go_away(code)
        # also while output is being collected
        self._corked = False
        self.flush()

    def _linger(self) -> None:
        """Give the client the time to read the last bytes."""
        socket = self.socket
        if self._eof and not socket.writable_length:
            socket.destroy()
            return
        self.began = self._expires = monotonic()
        deadlines(self.hub).watch(self)

    # -- state, for deadlines, statistics and the monitor ---------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self.state is _CLOSED

    @property
    def input_ended(self) -> bool:
        """Whether the client has ended its direction."""
        return self._eof

    @property
    def idle(self) -> bool:
        """Whether no request is served, or has begun to arrive."""
        return not self.streams and not self.engine.in_block and self.state is _OPEN

    @property
    def activity(self) -> str:
        """The name of the present activity in the statistics of the server."""
        if self.state is _LINGERING:
            return 'closing'
        found = {stream.activity for stream in self.streams.values()}
        for name in ('handling', 'writing', 'reading', 'upgraded'):
            if name in found:
                return name
        return 'reading' if self.engine.in_block else 'idle'

    def exchanges(self) -> Iterator[Exchange]:
        """See :class:`geventnode.http.server.served.ServedConnection`."""
        for stream in tuple(self.streams.values()):
            if stream.request is not None:
                yield stream.request, stream.response, stream.began, stream.activity

    def __repr__(self) -> str:
        return (
            f'<{type(self).__name__} {self.state.value} streams={len(self.streams)} served={self.served} on '
            f'{self.socket!r}>'
        )


#: The methods for the events, by name: a traced connection overrides some.
_HANDLERS: dict[type, str] = {
    ConnectionFailed: '_on_failed',
    DataReceived: '_on_data',
    GoAwayAcknowledged: '_on_goaway_acknowledged',
    RequestRejected: '_on_rejected',
    StreamFailed: '_on_stream_failed',
    StreamReset: '_on_reset',
    TrailersReceived: '_on_trailers',
    WindowOpened: '_on_window',
}


def _run_error_listeners(server: Server, error: Exception, socket: SharedSocket) -> None:
    try:
        server.emit('sessionError', error, socket)
    except Exception:
        log.exception("a 'sessionError' listener failed")


def _call(callbacks: list[Callable[[], object]]) -> None:
    for callback in callbacks:
        callback()
