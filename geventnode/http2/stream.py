"""One request of an HTTP/2 connection, and its response.

A stream has the role that :class:`geventnode.http.server.connection.Connection` has for the messages of HTTP/1.1: it is
the source of the request's body, and the output of the response. It is notified of the events of its engine in the hub;
a worker calls the listeners. The output of the application is queued here, and the connection sends it: as much as the
windows allow, some frames of each stream in turn (:meth:`Stream.transmit`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import getcurrent

from geventnode.errors import (
    ClientDisconnected,
    ConnectionClosed,
    IncompleteBody,
    ParseError,
    RequestRefused,
    RequestTimeout,
    StreamError,
)
from geventnode.http.incoming import IncomingMessage, describe_request
from geventnode.http.server.connection import emit_disconnect
from geventnode.http.server.listener_checks import ListenerReturned
from geventnode.http.server.refusals import refusal_reason
from geventnode.http.status import STATUS_CODES, date_line
from geventnode.http2.codes import ErrorCode, code_name
from geventnode.http2.engine import StreamState
from geventnode.http2.fields import StreamHead
from geventnode.http2.response import EncodedFields, StreamResponse, response_class
from geventnode.http2.tunnel import TunnelSocket
from geventnode.net.deadlines import deadlines
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import ForwardedPolicy

if TYPE_CHECKING:
    from geventnode.http.server.server import Server
    from geventnode.http2.connection import Connection

__all__ = ['SMALL_WRITE', 'Stream', 'error_fields']

log = logging.getLogger('geventnode.error')

#: Bytes below which a received piece is joined to the one before: an object for each would take much more memory.
SMALL_PIECE = 512

#: Bytes below which queued writes are joined: a frame for each would cost more than the copy.
SMALL_WRITE = 16384

#: The types of heads in the queue: final ones, and informational ones.
_HEADS = (list, tuple)


class Stream:
    """One exchange of a connection.

    :param connection: the connection.
    :param state: the engine's record of the stream.
    :param head: the head of the request.
    """

    __slots__ = (
        '_callbacks',
        '_ending',
        '_error',
        '_failure',
        '_head',
        '_pieces',
        '_queue',
        '_serving',
        '_trailers',
        '_worker',
        '_writers',
        'began',
        'buffered',
        'connection',
        'destroyed',
        'discarding',
        'head',
        'hub',
        'last_activity',
        'over',
        'reader',
        'received_trailers',
        'request',
        'response',
        'server',
        'state',
        'timeout',
        'tunnel',
        'window',
        'writable_length',
    )

    #: Requests that were served before, for :attr:`geventnode.http.Server.max_requests_per_socket`: the connection
    #: sends GOAWAY instead of refusing a request.
    served: int = 0

    def __init__(self, connection: Connection, state: StreamState, head: StreamHead) -> None:
        self.connection = connection
        self.server: Server = connection.server
        self.hub = connection.hub
        self.state = state
        state.owner = self
        self.head = head
        self.request: IncomingMessage | None = None
        #: The socket of a CONNECT request.
        self.tunnel: TunnelSocket | None = None
        self.response: StreamResponse | None = None
        self.began = self.last_activity = connection.socket._last_activity
        #: The inactivity timeout of this exchange, where it has one of its own.
        self.timeout: float | None = None
        #: Received pieces of the body without a reader, and their size.
        self._pieces: deque[bytes] = deque()
        self.buffered = 0
        #: The trailers of the request, when they have arrived.
        self.received_trailers: list[tuple[str, str]] = []
        #: The greenlet that waits for the body.
        self.reader: Any = None
        #: The present window of a body with a minimum rate: when it began, and how many bytes had arrived then.
        self.window: tuple[float, int] | None = None
        #: Whether the rest of the body is discarded as it arrives.
        self.discarding = False
        #: Whether the exchange has ended.
        self.over = False
        self._failure: Exception | None = None
        #: Whether a worker runs the listeners.
        self._serving = False
        #: The worker that a disconnect cancels.
        self._worker: Any = None
        #: Output: heads and pieces of the body, whether the stream ends after them, and with which trailers.
        self._queue: deque[Any] = deque()
        self._head: EncodedFields | None = None
        self._ending = False
        self._trailers: EncodedFields | None = None
        self._callbacks: list[Callable[[], object]] = []
        #: The greenlets that wait for the queue, each in a list that is empty when it no longer waits.
        self._writers: list[list[Any]] | None = None
        #: As of a writable stream: see :class:`geventnode.http.outgoing.OutgoingMessage`.
        self.writable_length = 0
        self.destroyed = False
        self._error: BaseException | None = None

    # -- requests: run by a worker --------------------------------------------------------------------------------

    @property
    def socket(self) -> Any:
        """The socket that the messages of the exchange have."""
        return self.tunnel or self.connection.shared_socket

    def work(self) -> None:
        """Serve the request. See :class:`geventnode.http.server.workers.Job`."""
        server = self.server
        worker = getcurrent()
        self._worker = worker if server._cancels_listeners else None
        if self.head.method == 'CONNECT':
            self.tunnel = TunnelSocket(self)
        request = server.request_class(self.head, self.socket, self)
        request.stream_id = self.state.id
        response = response_class(server.response_class)(request, self)
        self.request = request
        self.response = response
        self._serving = True
        try:
            self._serve_request(request, response)
        finally:
            self._serving = False
            if self._worker is worker:
                self._worker = None
            self.release()

    def _serve_request(self, request: IncomingMessage, response: StreamResponse) -> None:
        server, head = self.server, self.head
        role: Any = self
        try:
            if head.ordinary and not server._all_special:
                if not server._dispatch(request, response):
                    server._respond_unhandled(response)
            else:
                server._dispatch_special(role, head, request, response)
            if response.finished:
                # the listener was still reading when its response ended
                self.response_ended(response)
        except (Exception, gevent.Timeout, SystemExit) as error:
            # sys.exit() in a listener must not end all other exchanges
            self.listener_failed(request, response, error)
        except ClientDisconnected:
            if not response._overridden:
                self.abort(ErrorCode.CANCEL)
        except RequestRefused as error:
            if not (response.finished or response.destroyed):
                self.listener_failed(request, response, error)
        except BaseException:
            if not response.finished:
                self.abort(ErrorCode.INTERNAL_ERROR)
            raise

    def listener_failed(self, request: IncomingMessage, response: StreamResponse, error: BaseException) -> None:
        """Handle an exception of a listener: send 500, or reset the stream if the head was sent."""
        failure = self._failure
        if response._overridden and (isinstance(error, (ConnectionClosed, StreamError)) or error is failure):
            return
        if self.destroyed and (error is failure or isinstance(error, (ConnectionClosed, IncompleteBody))):
            self.server._peer_log.debug('%s: the client went away', describe_request(request))
            return
        if self.over or response.finished:
            log.error('%s: a listener failed after its response had ended', describe_request(request), exc_info=error)
            return
        if isinstance(error, (ConnectionClosed, IncompleteBody)) and request.aborted:
            self.server._peer_log.debug('%s: the client went away', describe_request(request))
        elif isinstance(error, (ParseError, IncompleteBody, RequestTimeout)) and error is failure:
            self.server._peer_log.log_refusal(refusal_reason(error), '%s: %s', describe_request(request), error)
        elif isinstance(error, ListenerReturned):
            log.error('%s: %s', describe_request(request), error)
        else:
            log.error('%s: the request listener failed', describe_request(request), exc_info=error)
        if self.destroyed:
            return
        if response._head_sent:
            if failure is not None or not response._end_if_whole():
                self.abort(ErrorCode.INTERNAL_ERROR)
        else:
            self.send_error(getattr(error, 'status', 500) if error is failure else 500)

    def cancel(self, response: StreamResponse) -> None:
        """Throw ``ClientDisconnected`` into the worker that serves ``response``. Run by the hub."""
        worker = self._worker
        if worker is not None and not worker.dead:
            self._worker = None
            worker.throw(ClientDisconnected())

    def cancel_on_disconnect(self, response: StreamResponse) -> None:
        """See :class:`geventnode.interfaces.IServerResponse`."""
        if response.request.aborted or response.destroyed:
            raise ClientDisconnected
        if response is self.response and not self.over:
            self._worker = getcurrent()

    # -- error responses ------------------------------------------------------------------------------------------

    def send_error(self, status_code: int) -> None:
        """Send an error response instead of the listener's response."""
        request, response = self.request, self.response
        assert request is not None
        assert response is not None
        response.destroyed = response._overridden = True
        fields, body = error_fields(status_code)
        if request.method == 'HEAD':
            body = b''
        response._override(len(body))
        self.send_whole(fields, body)
        self.close_without_response(None if isinstance(self._failure, IncompleteBody) else status_code)

    def send_whole(self, fields: EncodedFields, body: bytes) -> None:
        """Send a complete message of the server's own.

        The rest of the request is discarded.
        """
        self._begin_discarding()
        self._drop_body()
        self.set_head(fields)
        # the client can have disconnected meanwhile
        with contextlib.suppress(ConnectionClosed):
            self.finish(body, None)

    def close_without_response(self, status_code: int | None = None) -> None:
        """End the exchange without the listener's response.

        :param status_code: the status of the error response that was sent instead; None if there was none, or the
            client does not wait for it.
        """
        assert self.response is not None
        self.response._on_aborted(status_code)
        if not self._ending:
            self.abort(ErrorCode.CONNECT_ERROR if self.head.method == 'CONNECT' else ErrorCode.CANCEL)
        self.over = True
        self._wake_reader()
        self.release()

    def time_out(self, error: RequestTimeout) -> None:
        """Send an error response for a late request, or reset the stream."""
        self._failure = error
        response = self.response
        if self.reader is not None:
            self._wake_reader()
        elif response is None or response._head_sent:
            self.server._peer_log.log_refusal('timeout', '%s: %s', self.describe(), error)
            self.abort(ErrorCode.CANCEL, error)
        else:
            self.server._peer_log.log_refusal('timeout', '%s: %s', self.describe(), error)
            self.send_error(error.status)

    def time_out_listener(self) -> None:
        """Send 503 instead of the response of a slow listener.

        The listener is notified as if the client had disconnected.
        """
        self._on_disconnect()
        self.send_error(503)

    def describe(self) -> str:
        """Return method and target for a log line."""
        return describe_request(self.request) if self.request is not None else f'{self.head.method} {self.head.url}'

    # -- the body of the request: run by its reader ---------------------------------------------------------------

    @property
    def forwarded_policy(self) -> ForwardedPolicy | None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        return self.server._forwarded_policy

    def read_body(self, message: IncomingMessage) -> bytes:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        response = self.response
        if response is not None and response._awaits_continue:
            response._continue_to_body()
        pieces = self._pieces
        while True:
            if pieces:
                piece = pieces.popleft()
                self._consumed(len(piece))
                if not pieces and self.state.ended and self._failure is None:
                    # a reader that knows the length does not read on to the end
                    self._complete(message)
                return piece
            if self._failure is not None:
                self._refuse_body(message, self._failure)
                raise self._failure
            if self.state.ended:
                self._complete(message)
                return b''
            if self.over or self.discarding:
                raise StreamError('the body was discarded: the response has ended before it was read')
            self._wait(response)

    def _wait(self, response: StreamResponse | None) -> None:
        """Block until a piece of the body arrives."""
        if response is not None and response.handler_may_block:
            # only the time that is spent waiting is the client's
            self.last_activity = monotonic()
        self.reader = getcurrent()
        try:
            self.hub.switch()
        finally:
            self.reader = None

    def _refuse_body(self, message: IncomingMessage, failure: Exception) -> None:
        """Send an error response if the response has ``_rejects_bad_body`` set.

        Raises ``RequestRefused`` after that.
        """
        response = self.response
        if response is not None and response._rejects_bad_body and not response._head_sent:
            self.listener_failed(message, response, failure)
            raise RequestRefused(str(failure)) from failure

    def take_body(self, message: IncomingMessage) -> bytes | None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        response = self.response
        if (
            not self.state.ended
            or self._failure is not None
            or self.discarding
            or (response is not None and response._awaits_continue)
        ):
            return None
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b''.join(pieces)
        pieces.clear()
        self._consumed(len(data))
        self._complete(message)
        return data

    def _complete(self, message: IncomingMessage) -> None:
        """Complete ``message``, and end the exchange if the response has ended before."""
        message._set_complete(self.received_trailers)
        if self.response is not None and self.response.finished:
            self._end_exchange()

    def _consumed(self, size: int) -> None:
        """Give credit for ``size`` bytes of the body, which the application has."""
        if size:
            self.buffered -= size
            connection = self.connection
            if self.destroyed:
                return
            connection.engine.consumed(self.state, size)
            connection.account(-size)
            connection.flush()

    def _drop_body(self) -> None:
        """Discard the received pieces."""
        if self._pieces:
            self._pieces.clear()
            self._consumed(self.buffered)
            if self.request is not None:
                self.request._mark_discarded()

    # -- events of the engine: run by the hub ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take a piece of the body."""
        if not self.discarding:
            self.last_activity = self.connection.socket._last_activity
        if self.destroyed or self._failure is not None:
            self.connection.engine.consumed(self.state, len(data))
            return
        size = len(data)
        if size:
            self.buffered += size
            self.connection.account(size)
            pieces = self._pieces
            if size < SMALL_PIECE and pieces and len(pieces[-1]) < SMALL_PIECE:
                pieces[-1] += data
            else:
                pieces.append(data)
        limits = self.server._limits
        if limits.max_body_size is not None and self.state.received > limits.max_body_size and not self.discarding:
            self._pieces.clear()
            self._consumed(self.buffered)
            self._failure = limits.body_too_large()
        if self.discarding:
            self._discard()
        elif self.reader is not None:
            self.reader.switch()

    def _begin_discarding(self) -> None:
        """Discard the body from now on, for a limited time."""
        self.discarding = True
        self.last_activity = monotonic()

    def _discard(self) -> None:
        """Discard the received part of the body.

        The stream is reset if too much of it follows.
        """
        self._drop_body()
        state, request = self.state, self.request
        if state.ended:
            if request is not None and not request.complete:
                request._set_complete(self.received_trailers)
                if request.listener_count('end'):
                    gevent.spawn(request._on_discarded)
        elif state.local_ended:
            left = state.received if state.expected is None else state.expected - state.received
            # a client that waits for 100 Continue, or has ended its direction, will not send the body
            unsent = self.connection.input_ended or (self.response is not None and self.response._awaits_continue)
            if unsent or left > self.server.max_unread_body:
                # RFC 9113, section 8.1: the response is complete, and the client can stop
                self.connection.reset(self, ErrorCode.NO_ERROR)

    def trailers_received(self, trailers: list[tuple[str, str]]) -> None:
        """Take the trailers, which end the body."""
        self.received_trailers = trailers
        self.data_received(b'')

    def reset_received(self, code: int) -> None:
        """Take note that the client has reset the stream: it has left."""
        self.lost(IncompleteBody(f'the client has reset the stream ({code_name(code)})'))

    def failed(self, message: str) -> None:
        """Take note that the client has broken a rule.

        The engine has reset the stream.
        """
        self.lost(ParseError(message, code='ERR_HTTP2_STREAM_ERROR'))

    def lost(self, error: Exception | None) -> None:
        """End the exchange: the stream, or the connection, is no more."""
        if self.destroyed:
            return
        self.destroyed = True
        self._error = error
        if self._failure is None and not self.state.ended:
            self._failure = error or IncompleteBody('the connection was closed in the middle of a body')
        self._queue.clear()
        self.writable_length = 0
        self._wake_writers()
        # the received pieces can still be read
        self.connection.account(-self.buffered)
        response = self.response
        self._on_disconnect()
        if response is not None and not response.finished:
            response._on_aborted(None)
        # the stream can have dropped them before
        for each in tuple(self.unflushed or ()):
            if each._connection is self:
                self.connection.end_unflushed(each)
        self._callbacks.clear()
        self.over = True
        self._wake_reader()
        if self.tunnel is not None and not self.tunnel.destroyed:
            self.tunnel.destroy(error)
        self.release()

    def client_ended(self) -> None:
        """Take note that the client has ended its direction of the connection."""
        if not self.state.ended and self._failure is None:
            self._failure = IncompleteBody('the client ended the connection in the middle of a body')
        self._on_disconnect()
        self._wake_reader()
        if self.state.local_ended:
            # the rest of the body will not arrive
            self.connection.reset(self, ErrorCode.NO_ERROR)

    def _on_disconnect(self) -> None:
        """Notify the exchange that the client has disconnected."""
        request, response = self.request, self.response
        if request is None or response is None or request.aborted or response.finished:
            return
        request.aborted = True
        if request._listeners is not None or response._listeners is not None:
            gevent.spawn(emit_disconnect, request, response)
        if self._worker is not None:
            self.hub.loop.run_callback(self.cancel, response)

    def _wake_reader(self) -> None:
        if self.reader is not None:
            self.hub.loop.run_callback(self._switch_to_reader)

    def _switch_to_reader(self) -> None:
        # it can have left since
        if self.reader is not None:
            self.reader.switch()

    # -- the response: run by the greenlet that writes it ----------------------------------------------------------

    @property
    def writable_high_water_mark(self) -> int:
        """The size of the queue at which writers block."""
        return self.connection.socket.writable_high_water_mark

    @property
    def _has_queued(self) -> bool:
        return bool(self._queue) or self._ending_queued

    @property
    def _ending_queued(self) -> bool:
        return self._ending and not self.state.local_ended and not self.destroyed

    def set_head(self, fields: EncodedFields) -> None:
        """Set the head, which is sent before the next bytes."""
        self._head = fields

    def send_informational(self, fields: EncodedFields) -> None:
        """Send an informational response."""
        # a tuple: its size counts, so that informational responses cannot fill the memory
        self._queue.append(tuple(fields))
        size = _size(fields)
        self.writable_length += size
        self._push(size)

    def send(self, data: bytes | memoryview) -> bool:
        """Send a piece of the body.

        Returns whether the kernel has all of it. Raises ``ConnectionClosed``.
        """
        if self.destroyed:
            raise ConnectionClosed('the stream of this message was closed')
        head = self._head
        if head is not None:
            self._head = None
            self._queue.append(head)
        if type(data) is not bytes:
            # its owner can change the buffer before it is sent
            data = bytes(data)
        size = len(data)
        queue = self._queue
        if size and not queue and not self._ending and self.connection.send_at_once(self, data):
            flushed = not self.connection.socket._has_queued
        else:
            if size:
                queue.append(data)
                self.writable_length += size
            flushed = self._push(size)
        if self.destroyed:
            raise ConnectionClosed('the stream of this message was closed')
        return flushed

    #: As a socket has it, for :class:`geventnode.http.outgoing.OutgoingMessage`.
    _send = send

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        # the head is not part of the bytes
        return self.send(body)

    def finish(self, data: bytes | memoryview, trailers: EncodedFields | None) -> bool:
        """Send the last piece, and end the stream.

        Returns whether the kernel has everything.
        """
        self._ending = True
        self._trailers = trailers
        return self.send(data)

    def _push(self, size: int) -> bool:
        """Send the queue; return whether the kernel has all of it.

        :param size: bytes that were added to the queue.
        """
        connection = self.connection
        connection.schedule(self)
        if size and not self._ending and self.writable_length < SMALL_WRITE and connection.can_delay(self, size):
            # the following writes of this turn of the loop are in the same frame
            return True
        connection.pump()
        return not self._has_queued and not connection.socket._has_queued

    def transmit(self, limit: int) -> bool:
        """Send heads, and at most ``limit`` bytes of the body.

        Returns whether more can follow at once.
        """
        queue, state = self._queue, self.state
        engine = self.connection.engine
        while queue and type(queue[0]) in _HEADS:
            head = queue.popleft()
            if type(head) is tuple:
                self._taken(_size(head))
            end = self._ending and not queue and self._trailers is None
            engine.send_head(state, head, end)
            if end:
                self._on_sent()
                return False
        if queue:
            allowed = min(state.send_window, engine.send_window, limit)
            if allowed <= 0:
                return False
            data = queue.popleft()
            size = len(data)
            if size > allowed:
                view = memoryview(data)
                data = view[:allowed]
                queue.appendleft(view[allowed:])
                size = allowed
            elif queue and size < SMALL_WRITE:
                data = self._join_writes(data, allowed)
                size = len(data)
            end = self._ending and not queue and self._trailers is None
            engine.send_data(state, data, end)
            self.last_activity = monotonic()
            self._taken(size)
            if queue:
                return True
            if end or not self._ending:
                self._on_sent()
                return False
        if self._ending and not state.local_ended:
            if self._trailers is not None:
                engine.send_head(state, self._trailers, True)
            else:
                engine.send_data(state, b'', True)
        self._on_sent()
        return False

    def _join_writes(self, data: bytes | memoryview, allowed: int) -> bytes:
        """Return ``data`` with the small writes that are queued after it.

        :param allowed: bytes of the result at most.
        """
        queue = self._queue
        parts = [data]
        size = len(data)
        while queue and size < SMALL_WRITE:
            following = len(queue[0])
            if following >= SMALL_WRITE or size + following > allowed:
                break
            parts.append(queue.popleft())
            size += following
        return b''.join(parts)

    def _taken(self, size: int) -> None:
        """Subtract ``size`` bytes from the queue, and wake blocked writers."""
        self.writable_length -= size
        if self.writable_length < self.writable_high_water_mark:
            self._wake_writers()

    def _on_sent(self) -> None:
        """React to the empty queue."""
        connection = self.connection
        # the end of the stream can follow its last byte
        self._wake_writers()
        if self._callbacks:
            callbacks, self._callbacks = self._callbacks, []
            connection.when_flushed(callbacks)
        if self.state.local_ended:
            if self.state.ended:
                connection.forget(self)
            elif connection.input_ended:
                connection.reset(self, ErrorCode.NO_ERROR)
            elif self.discarding:
                self._discard()

    def _when_flushed(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` in a greenlet when the queued data is sent."""
        if self._has_queued:
            self._callbacks.append(callback)
        else:
            self.connection.when_flushed([callback])

    def _wait_for_drain(self) -> None:
        """Blocks until the queue is below the high-water mark.

        Returns, too, when the stream is destroyed.
        """
        while self.writable_length >= self.writable_high_water_mark and not self.destroyed:
            self._wait_for_output()

    def wait_until_sent(self) -> None:
        """Blocks until the connection has the whole output.

        Raises ``ConnectionClosed`` if the stream is destroyed before.
        """
        while self._has_queued and not self.destroyed:
            self._wait_for_output()
        if self.destroyed:
            raise ConnectionClosed('the stream of this message was closed before its end')

    def _wait_for_output(self) -> None:
        """Blocks until a part of the queue is sent.

        Returns, too, when the stream is destroyed.
        """
        waiting = [getcurrent()]
        if self._writers is None:
            self._writers = []
        self._writers.append(waiting)
        try:
            self.hub.switch()
        finally:
            if self._writers is not None and waiting in self._writers:
                # something else has woken it
                self._writers.remove(waiting)
            waiting.clear()

    def _wake_writers(self) -> None:
        if self._writers is not None:
            writers, self._writers = self._writers, None
            self.hub.loop.run_callback(_switch_to_each, writers)

    # -- the end of the response ----------------------------------------------------------------------------------

    @property
    def unflushed(self) -> dict[Any, None] | None:
        """See :class:`geventnode.http2.connection.Connection`."""
        return self.connection.unflushed

    @unflushed.setter
    def unflushed(self, responses: dict[Any, None]) -> None:
        self.connection.unflushed = responses

    def can_keep_alive(self, response: Any, whole: bool) -> bool:
        """Return True: the other streams decide how long the connection lives."""
        return True

    def response_ended(self, response: Any) -> None:
        """End the exchange, or discard the rest of the body. ``end()`` was called."""
        request = self.request
        if response is not self.response or self.over or request is None:
            return
        if request.complete:
            self._end_exchange()
        elif not request._has_reader:
            self._begin_discarding()
            self._discard()
            self._end_exchange()

    def _end_exchange(self) -> None:
        """Take note that the application has done its part."""
        self.over = True
        self.release()

    def release(self) -> None:
        """Drop the messages of an exchange that is over: they refer to this stream."""
        if self.over and (self.state.closed or self.destroyed) and not self._serving:
            self.request = self.response = None
            if self._failure is not None:
                # its frames refer to this stream
                self._failure = self._failure.with_traceback(None)

    def response_fell_short(self, response: Any, missing: int) -> None:
        """Reset the stream, because ``missing`` bytes of the body were not sent."""
        log.error('%s: the response ended %d bytes short of its Content-Length', self.describe(), missing)
        self.abort(ErrorCode.INTERNAL_ERROR)

    def response_destroyed(self, response: Any, error: BaseException | None) -> None:
        """Reset the stream if ``response`` has not ended."""
        if response is self.response and not self.over and not self._ending:
            self.abort(ErrorCode.CANCEL, error)

    def on_message_destroyed(self, message: IncomingMessage, error: BaseException | None) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if message is self.request and not self.over:
            self.abort(ErrorCode.CANCEL, error)

    def on_reader_paused(self, message: IncomingMessage) -> None:
        """See :class:`geventnode.http.incoming.MessageConnection`."""
        if message is self.request and self.response is not None and self.response.finished:
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
        connection = self.connection
        if not connection.closed and seconds:
            self.last_activity = monotonic()
            connection._expires = min(connection._expires, self.last_activity + seconds)
            deadlines(self.hub).watch(connection)

    def abort(self, code: ErrorCode, error: BaseException | None = None) -> None:
        """Reset the stream: the client sees that the response is not complete."""
        if not self.destroyed:
            self.connection.reset(self, code)
            self.lost(error if isinstance(error, Exception) else None)

    def upgrade(self) -> bytes:
        """Leave the stream to another protocol; return the bytes received of it."""
        self.request = self.response = None
        return b''

    # -- a tunnel: run by its readers and writers -----------------------------------------------------------------

    def read_tunnel(self) -> bytes:
        """Return the next bytes of a tunnel, ``b''`` at its end. Blocks until there are some."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self.state.ended:
                return b''
            if self.destroyed:
                raise ConnectionClosed('this tunnel was closed')
            self._wait(None)
        piece = self._pieces.popleft()
        self._consumed(len(piece))
        return piece

    @property
    def at_tunnel_end(self) -> bool:
        """Whether all bytes of a tunnel were read."""
        return self.state.ended and not self._pieces

    def tunnel_destroyed(self, code: ErrorCode) -> None:
        """Reset the stream, unless both sides have ended it."""
        if not self.state.closed:
            self.abort(code)

    # -- state, for deadlines, statistics and the monitor ---------------------------------------------------------

    @property
    def waits_for_client(self) -> bool:
        """Whether the exchange waits for input, or for the client to read."""
        return self.reader is not None or self._has_queued

    @property
    def waits_for_window(self) -> bool:
        """Whether a window of the client delays the output."""
        return self._has_queued and self.connection.engine.sendable(self.state) <= 0

    @property
    def activity(self) -> str:
        """The name of the present activity in the statistics of the server."""
        if self.tunnel is not None and self.request is None:
            return 'upgraded'
        if self.reader is not None:
            return 'reading'
        return 'writing' if self._has_queued else 'handling'

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.state.id} {self.describe()} {self.activity}>'


def _switch_to_each(waiting: list[list[Any]]) -> None:
    for each in waiting:
        if each:
            each[0].switch()


def _size(fields: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) for name, value in fields)


def error_fields(status_code: int) -> tuple[EncodedFields, bytes]:
    """Return the head and the body of an error response."""
    body = f'{status_code} {STATUS_CODES[status_code]}\n'.encode('ascii')
    return [
        (b':status', b'%d' % status_code),
        (b'date', date_line()[6:-2].encode('ascii')),
        (b'content-type', b'text/plain; charset=utf-8'),
        (b'content-length', b'%d' % len(body)),
    ], body
