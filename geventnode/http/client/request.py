"""The request of a client: sent while it is written, and ended by one response or one error.

A greenlet that waits in :meth:`ClientRequest.get_response` is switched to as soon as the head of the response has
arrived. Listeners are called by :class:`~geventnode.http.client.request_events.RequestEvents`.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import gevent
from gevent import get_hub, getcurrent
from zope.interface import implementer

from geventnode.errors import (
    ConnectionClosed,
    ContentLengthMismatch,
    GeventnodeError,
    RequestAborted,
    RequestTimeout,
    SocketHangUp,
    WriteAfterEnd,
    copy_for_raising,
    without_credentials,
)
from geventnode.http.body_framing import NO_BODY_BY_DEFAULT, frame_request
from geventnode.http.body_source import BodySource, is_body_source
from geventnode.http.client.released_socket import ReleasedSocket
from geventnode.http.client.request_events import RequestEvents
from geventnode.http.client.response import ClientResponse
from geventnode.http.client.write_buffer import WriteBuffer
from geventnode.http.header_fields import field_lines, join_field
from geventnode.http.outgoing import JOIN_BELOW, OutgoingMessage, OutgoingState
from geventnode.interfaces import IClientRequest
from geventnode.net.deadlines import NEVER, PRECISE_BELOW, deadlines
from geventnode.net.threads import wrong_thread_error
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import Framing, Limits, connection_options, last_chunk
from geventnode.stream.chunks import as_bytes
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.connection import Connection
    from geventnode.http.client.dial import Dial
    from geventnode.http.client.origin import Origin
    from geventnode.http.header_fields import Fields
    from geventnode.http.incoming import IncomingMessage
    from geventnode.net.socket import Socket
    from geventnode.protocol import ResponseHead

__all__ = ['ClientRequest', 'response_limits']

Self = TypeVar('Self', bound='ClientRequest')

log = logging.getLogger('geventnode.error')

#: Methods that can be sent again when the first attempt may have had an effect: those that are safe or idempotent
#: (RFC 9110, section 9.2.2) and need no other request in between (the registry of section 16.1.1).
IDEMPOTENT = frozenset({'GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PROPFIND', 'QUERY', 'REPORT', 'SEARCH', 'TRACE'})

#: Fields that take part in the framing of a request, or in the fate of its connection.
REQUEST_FRAMING_FIELDS = frozenset({'connection', 'content-length', 'trailer', 'transfer-encoding', 'upgrade'})

DEFAULT_TIMEOUT, DEFAULT_CONNECT_TIMEOUT = 120.0, 60.0

#: Seconds for which a body waits after ``Expect: 100-continue`` by default (RFC 9110, section 10.1.1).
CONTINUE_TIME = 1.0

_OPEN, _FIXED, _ENDED = OutgoingState.OPEN, OutgoingState.FIXED, OutgoingState.ENDED
_CHUNKED = Framing.CHUNKED


@lru_cache(maxsize=64)
def response_limits(max_header_size: int, max_headers_count: int) -> Limits:
    """Return the limits for the heads of responses."""
    return Limits(max_header_size=max_header_size, max_headers_count=max_headers_count)


class _UnretrievedErrorLogger:
    """Log the error of a request if it was not retrieved."""

    __slots__ = ('description', 'error')

    def __init__(self, description: str, error: BaseException) -> None:
        self.description = description
        self.error: BaseException | None = error

    def __del__(self) -> None:
        if self.error is not None:
            log.error(
                '%s: exception was never retrieved: %s: %s', self.description, type(self.error).__name__, self.error
            )


class _UnclaimedSocket:
    """Close an upgraded connection that is freed before it was taken."""

    __slots__ = ('socket',)

    def __init__(self, socket: Socket) -> None:
        self.socket: Socket | None = socket

    def __del__(self) -> None:
        # without a loop, the thread has ended, and the connection with it
        if self.socket is not None and (loop := self.socket._hub.loop) is not None:
            loop.run_callback_threadsafe(self.socket.destroy)


@implementer(IClientRequest)
class ClientRequest(OutgoingMessage):
    """A request to a server; :func:`geventnode.http.request` and :func:`geventnode.http.get` make it.

    Nothing is sent before the first :meth:`write`, :meth:`end` or :meth:`flush_headers`. Each request ends in exactly
    one way: with a response, or with one error. :meth:`get_response` raises the error, and ``'error'`` is emitted with
    it; an error that is never retrieved is logged once. When the program has forgotten both request and response, the
    rest of the exchange is discarded.

    ``with http.get(url) as response:`` waits for the response, and destroys it at the end of the block unless it was
    read completely.

    The events, in this order:

    - ``'socket'`` (socket): the request has a connection.
    - ``'continue'`` (): the server has sent ``100 Continue``.
    - ``'information'`` (head): the server has sent an informational response.
    - ``'finish'`` (): the request was passed to the kernel.
    - one of ``'response'`` (response), ``'upgrade'`` (response, socket, head), ``'connect'`` (response, socket, head)
      and ``'error'`` (exception).
    - ``'close'`` (): the connection was lost before the exchange was over, or has left HTTP.

    ``'timeout'`` () is emitted after inactivity. Listeners run in a greenlet of the request, and can block. The
    connection stays with the request until the ``'response'`` listeners have returned and, if one of them consumes the
    response by events, ``'end'`` was emitted.
    """

    events: ClassVar[frozenset[str]] = OutgoingMessage.events | {
        'socket',
        'continue',
        'information',
        'response',
        'connect',
        'upgrade',
    }

    send_date: bool = False

    #: The agent that provides the connection.
    agent: Agent
    #: The method, in upper case.
    method: str
    #: The request-target.
    path: str
    #: The response, as soon as its head has arrived.
    response: IncomingMessage | None = None
    #: Whether :meth:`abort` was called.
    aborted: bool = False
    #: Whether the connection served another request before.
    reused_socket: bool = False
    #: Whether this side allows another request on the connection.
    should_keep_alive: bool

    _origin: Origin
    #: Times in seconds, None for no limit, and the end of the whole exchange (monotonic).
    _timeout: float | None = DEFAULT_TIMEOUT
    _connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT
    _queue_timeout: float | None = None
    _deadline: float = NEVER
    #: Seconds before which no deadline can pass, and whether the periodic sweep is too coarse for it.
    _shortest_timeout: float = DEFAULT_CONNECT_TIMEOUT
    _needs_precise_timer: bool = False
    #: See :class:`geventnode.net.deadlines.HasDeadline`; set only while the request is queued.
    _expires: float = NEVER
    _queued_at: float = 0.0

    #: The limits for the head of the response.
    _limits: Limits = response_limits(16384, 1000)
    #: Whether the response records the sizes of its chunks, for a reader that needs them.
    _keeps_chunks: bool = False
    #: A function that is called instead of the agent's, and the call that is connecting for this request.
    _create_connection: Any = None
    #: Options for a new connection that are not a part of its origin.
    _own_connect_options: dict[str, Any] | None = None
    _dial: Dial | None = None

    #: Whether the request asks for another protocol.
    _wants_upgrade: bool = False
    #: Whether the head is sent before the body is known.
    _flushing: bool = False
    #: The whole message, if it was rendered at once: its head, with a small body, and a large body.
    _rendered: tuple[bytes, bytes | memoryview] | None = None
    #: The greenlet that sends a body from a file or an iterable.
    _body_writer: Any = None
    #: Whether ``100 Continue`` has arrived.
    _continued: bool = False
    #: Whether the request was sent again, after a reused connection had turned out to be closed.
    _retried: bool = False

    _connection: Connection | None = None
    #: The number of the exchange on the connection.
    _exchange_number: int = 0
    _released: ReleasedSocket | None = None
    #: Setters of the socket to call as soon as there is one, with their arguments.
    _socket_options: dict[str, tuple[Any, ...]] | None = None

    #: The greenlets that wait for the response or for ``100 Continue``.
    _waiters: list[Any] | None = None
    #: Made when the first listener is added.
    _events: RequestEvents | None = None
    #: The reason why there is no response.
    _failure: BaseException | None = None
    #: Whether the connection was lost, or has left HTTP.
    _closed: bool = False
    _unretrieved: _UnretrievedErrorLogger | None = None
    _unclaimed: _UnclaimedSocket | None = None

    def __init__(self, agent: Agent, origin: Origin, method: str, path: str, fields: Fields, keep_alive: bool) -> None:
        self.agent = agent
        self._hub = agent._hub
        self._origin = origin
        self.method = method
        self.path = path
        self._state = _OPEN
        self._fields = fields
        self.should_keep_alive = keep_alive

    @property
    def host(self) -> str:
        """The host of the request."""
        return self._requested_origin.host

    @property
    def _requested_origin(self) -> Origin:
        """The origin of the URL."""
        return self._origin

    @property
    def _connect_step(self) -> str:
        """The step of its connect that is waited for.

        It is for an error, and empty if there is one step only.
        """
        return ''

    @property
    def protocol(self) -> str:
        """``'http:'`` or ``'https:'``."""
        return self.agent.protocol

    @property
    def max_headers_count(self) -> int:
        """The maximum number of fields in the head of the response; 0: no limit. 1000."""
        return self._limits.max_headers_count

    @max_headers_count.setter
    def max_headers_count(self, value: int) -> None:
        self._limits = response_limits(self._limits.max_header_size, value)

    # -- the head -------------------------------------------------------------------------------------------------

    def _build_head(self, length: int | None) -> str:
        fields = self._fields
        # an earlier head can have failed
        self._chunked = False
        self._length = None
        if (
            not length
            and length is not None
            and self.method in NO_BODY_BY_DEFAULT
            and not self._removed_fields
            and self._trailers is None
            and REQUEST_FRAMING_FIELDS.isdisjoint(fields)
        ):
            start = f'{self.method} {self.path} HTTP/1.1'
            end = 'Connection: keep-alive\r\n\r\n' if self.should_keep_alive else 'Connection: close\r\n\r\n'
            try:
                # as field_lines() does, with one join for the whole head
                return '\r\n'.join((start, *map(join_field, fields.values()), end))
            except TypeError:
                # a list of values
                return f'{start}\r\n{field_lines(fields)}{end}'
        return (
            f'{self.method} {self.path} HTTP/1.1\r\n'
            f'{field_lines(fields)}{self._connection_line()}{self._frame_body(length)}\r\n'
        )

    def _connection_line(self) -> str:
        """Return the Connection field to add, or read the given one."""
        given = self._fields.get('connection')
        if given is None:
            if 'connection' in self._removed_fields:
                return ''
            return 'Connection: keep-alive\r\n' if self.should_keep_alive else 'Connection: close\r\n'
        value = given[1]
        options = connection_options(value if isinstance(value, list) else [value])
        if 'close' in options:
            self.should_keep_alive = False
        self._wants_upgrade = 'upgrade' in options and 'upgrade' in self._fields
        return ''

    def _frame_body(self, length: int | None) -> str:
        """Set the framing of the body, and return its field line."""
        kind, self._length, line = frame_request(
            self.method, self._fields, self._removed_fields, self._trailers, length, self._flushing
        )
        self._chunked = kind is _CHUNKED
        return line

    def flush_headers(self) -> None:
        self._check_thread()
        self._flushing = True
        try:
            super().flush_headers()
        finally:
            self._flushing = False

    # -- the body -------------------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Any = None) -> bool:
        self._check_thread()
        if self._body_writer is not None:
            raise WriteAfterEnd('write() after end() on this ClientRequest')
        return super().write(chunk, encoding, callback)

    def end(self: Self, data: Any = None, encoding: str = 'utf-8', callback: Any = None) -> Self:
        """End the request, after ``data`` as the last part of its body.

        Returns the request. If earlier parts fill the buffer, blocks until there is room.

        :param data: bytes or text; or a binary file or an iterable of chunks, which a greenlet then sends.
        :param encoding: the encoding of text.
        :param callback: called without arguments when the request was passed to the kernel.
        :raises QueueFull: ``max_queued`` requests wait for the server already.
        :raises WriteAfterEnd: ``data`` was given after an earlier :meth:`end`.
        :raises ContentLengthMismatch: the body does not have the length of the Content-Length field.
        :raises ConnectionClosed: the request is over.
        """
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        if data is not None and type(data) is not bytes and is_body_source(data):
            self._end_with_source(data, callback)
        elif self.writable_corked or (self._state is not _OPEN and self._state is not _FIXED):
            if self._body_writer is None:
                super().end(data, encoding, callback)
            elif data:
                raise WriteAfterEnd('end() with data after end() on this ClientRequest')
        else:
            if self.destroyed:
                self._check_alive()
            body = data if type(data) is bytes else b'' if data is None else as_bytes(data, encoding)
            if body and self._expects_continue and not self._continued:
                self._end_with_source((body,), callback, len(body))
                return self
            self._render_message(body)
            if callback is not None:
                self.once('finish', callback)
            self.agent._add_request(self)
        return self

    def _render_message(self, body: bytes | memoryview) -> None:
        """Render the whole message, so that it can be sent again."""
        size = len(body)
        head = self._build_head(size).encode('latin-1')
        length = self._length
        if length is not None and length != size:
            raise ContentLengthMismatch(f'Content-Length is {length}, and the body has {size} bytes')
        if self._chunked:
            end = last_chunk(self._trailers or ())
            self._rendered = b''.join((head, b'%x\r\n' % size, body, b'\r\n', end)) if size else head + end, b''
        elif not size:
            self._rendered = head, b''
        elif size < JOIN_BELOW:
            self._rendered = head + body, b''
        else:
            self._rendered = head, body if isinstance(body, bytes) or isinstance(body.obj, bytes) else bytes(body)
        if size:
            self.body_size = size
        self._state = _ENDED

    def _end_with_source(self, body: Any, callback: Any, size: int | None = None) -> None:
        """Send a body from a file or an iterable, in a greenlet."""
        if self._body_writer is not None or self._state is _ENDED:
            raise WriteAfterEnd('end() with data after end() on this ClientRequest')
        self._check_alive()
        if callback is not None:
            self.once('finish', callback)
        source = BodySource(body)
        size = source.size if size is None else size
        fields = self._fields
        if (
            size is not None
            and self._state is _OPEN
            and 'content-length' not in fields
            and 'transfer-encoding' not in fields
            and not self._removed_fields
            and not self._trailers
        ):
            fields['content-length'] = 'Content-Length', str(size)
        if self._state is _OPEN or self._state is _FIXED:
            # a head that cannot be sent raises here, in the caller
            head = self._begin_body(None).encode('latin-1')
            # the failure of a reused connection is reported by get_response(), unless a response arrives all the same
            with contextlib.suppress(ConnectionClosed):
                self._attach()._send(head)
        self._body_writer = gevent.Greenlet(self._write_body, source)
        # the source is the caller's code, and runs with the caller's context variables
        self._body_writer.gr_context = copy_context()
        self._body_writer.start()

    def _write_body(self, source: BodySource) -> None:
        try:
            if self._expects_continue and not self._continued and not self.wait_continue(CONTINUE_TIME):
                return
            # a ConnectionClosed of the source is about another connection, and is reported as any other error
            for chunk in source:
                if not _sent_unless_closed(super().write, chunk):
                    return
            _sent_unless_closed(super().end)
        except Exception as error:
            self._abort_with(error)
        except gevent.Timeout as error:
            # it would end the greenlet that waits for the response, which has not started it
            late = RequestTimeout(f'{self._origin}: the source of the body has raised a timeout ({error})')
            late.__cause__ = error
            self._origin.locate(late, 'send')
            self._abort_with(late)
        except BaseException:
            self._abort_with(ConnectionClosed('the greenlet that sent the body was killed'))
            raise

    @property
    def _expects_continue(self) -> bool:
        """Whether the request has ``Expect: 100-continue``."""
        value = self._fields.get('expect', ('', ''))[1]
        return isinstance(value, str) and value.lower() == '100-continue'

    @property
    def _body_refused(self) -> bool:
        """Whether a final response that arrives now makes the body unwanted."""
        return self._expects_continue and not self._continued and not self.body_size and self._state is not _ENDED

    @property
    def _awaits_source(self) -> bool:
        """Whether the body waits for its source, and not for the server."""
        return self._body_writer is not None and not self._body_writer.ready() and not self._body_refused

    def _on_short_body(self, missing: int) -> None:
        self._abort_with(ContentLengthMismatch(f'the body has ended {missing} bytes short of its Content-Length'))

    @property
    def writable_ended(self) -> bool:
        return self._state is _ENDED or self._body_writer is not None

    @property
    def finished(self) -> bool:
        return self.writable_ended

    @property
    def writable(self) -> bool:
        return not self.writable_ended and not self.destroyed

    @property
    def writable_length(self) -> int:
        return 0 if self._out is None else super().writable_length

    @property
    def writable_high_water_mark(self) -> int:
        return DEFAULT_HIGH_WATER_MARK if self._out is None else super().writable_high_water_mark

    def _check_alive(self) -> None:
        if self.destroyed or (self._out is not None and self._out.destroyed):
            error = ConnectionClosed('this request is over: nothing can be sent any more')
            error.__cause__ = self._failure or self._error
            raise error

    def _await_drain(self) -> None:
        # a queue that the server does not take must not keep a request that its writer has forgotten
        drained = weakref.WeakMethod(self._on_drained)

        def on_flushed() -> None:
            if (found := drained()) is not None:
                found()

        self._out._when_flushed(on_flushed)

    def _on_complete(self) -> None:
        if self._connection is not None:
            self._connection.on_request_sent()

    def _on_finished(self) -> None:
        self.writable_finished = True
        self._schedule_events()

    # -- the connection -------------------------------------------------------------------------------------------

    def _attach(self) -> Any:
        if self._out is None:
            if self._connection is None:
                self._out = WriteBuffer()
            self.agent._add_request(self)
        return self._out

    def _assign(self, connection: Connection) -> None:
        """Send the request on ``connection``. Called by the agent."""
        socket = connection.socket
        out = self._out
        self._connection = connection
        self._exchange_number = connection.exchange_number
        self._out = socket
        self.reused_socket = connection.reused
        if self._expires is not NEVER:
            self._stop_queue_timer()
        if self._socket_options is not None:
            connection.socket_options_changed = True
            self._apply_socket_options()
        if self._rendered is not None:
            head, body = self._rendered
            connection.sent = True
            try:
                flushed = socket._send_vectored(head, body) if body else socket._send(head)
            except ConnectionClosed:
                # the connection has reported it already, or a response can still arrive
                pass
            else:
                if flushed:
                    self.writable_finished = True
                else:
                    socket._when_flushed(self._on_finished)
        elif out is not None:
            out.transfer(socket)
            if self._state is _ENDED:
                connection.on_request_sent()
            else:
                connection.leave_to_writer(self)
        if self._events is not None:
            self._events.schedule(self)

    def _connect_options(self) -> dict[str, Any]:
        """Return the argument of ``create_connection``."""
        options = self._origin.options
        return options if self._own_connect_options is None else {**options, **self._own_connect_options}

    def _prepare_retry(self, error: BaseException | None) -> bool:
        """Return whether to send the request again on a new connection.

        Called by the agent when a reused connection turned out to be closed.
        """
        if (
            self._retried
            or self.destroyed
            or self._rendered is None
            or self.method not in IDEMPOTENT
            or isinstance(error, GeventnodeError)
        ):
            return False
        self._retried = True
        self._connection = self._out = None
        return True

    @property
    def socket(self) -> Any:
        """The connection of the request, None before there is one.

        After the exchange it is a :class:`~geventnode.http.client.released_socket.ReleasedSocket`, which reports the
        peer and cannot touch the requests that the connection serves next.
        """
        connection = self._connection
        if connection is None:
            return None
        if connection.is_in_exchange(self._exchange_number):
            return connection.socket
        if self._released is None:
            self._released = ReleasedSocket(connection, self._exchange_number)
        return self._released

    def _enter_queue(self) -> None:
        """Start the timer of the queue. Called by the agent, which has no connection yet."""
        now = self._queued_at = monotonic()
        expires = min(self._deadline, now + (self._queue_timeout or NEVER))
        if expires != NEVER:
            self._expires = expires
            # the connections can be paused, behind unread responses: nothing else would keep the loop running
            deadlines(self._hub).watch(self, awaited=True)

    def _stop_queue_timer(self) -> None:
        if self._expires is not NEVER:
            self._expires = NEVER
            deadlines(self._hub).forget(self)

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`: the request is still queued."""
        if self._deadline <= now:
            self._abort_with(self._origin.deadline_error())
        else:
            self._abort_with(
                RequestTimeout(f'{self._origin}: no connection within queue_timeout ({self._queue_timeout} seconds)')
            )

    # -- called by the connection and the agent -------------------------------------------------------------------

    def _on_informational(self, head: ResponseHead) -> None:
        """Report an informational response. Runs in the hub."""
        if head.status_code == 100:
            self._continued = True
            self._wake_soon()
        if self._events is not None:
            self._events.add_informational(head)
            self._events.schedule(self)

    def _on_response(self, response: IncomingMessage) -> None:
        """Deliver the response after its head. Runs in the hub, and switches to the waiters."""
        self.response = response
        if self._events is not None:
            self._events.schedule(self)
            if self._events.has_informational:
                # after the greenlet that calls the listeners for them, which is about to start
                self._wake_soon()
                return
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.switch()

    def _on_refused(self, error: BaseException) -> None:
        """End the request: the agent does not take it, and raises ``error`` in the caller, too."""
        self._set_failure(error)
        self._schedule_events()

    def _on_upgrade(self, response: IncomingMessage) -> None:
        """Deliver the response and its socket, which has left HTTP. Runs in the hub, and switches to the waiters."""
        event = self._upgrade_event
        if self._waiters is None and not self.listener_count(event) and self.listener_count('response'):
            response.socket.destroy()
            self._fail(
                SocketHangUp(f'socket hang up: {self._origin} has switched protocols, and {event!r} has no listener')
            )
            return
        self._closed = True
        self._unclaimed = _UnclaimedSocket(response.socket)
        self._on_response(response)

    def _on_response_delivered(self) -> None:
        """Release the connection, after the ``'response'`` listeners have returned."""
        if self._connection is not None and isinstance(self.response, ClientResponse):
            self._connection.on_response_delivered(self.response)

    def _on_send_aborted(self, error: BaseException | None) -> None:
        """End the request: its connection was lost after the response was complete."""
        self.destroyed = True
        self._error = error
        self._closed = True
        self._schedule_events()

    def _fail(self, error: BaseException) -> None:
        """Deliver ``error``: there will be no response."""
        if self._failure is not None or self.response is not None:
            return
        self._origin.locate(error, self._phase)
        self._set_failure(error)
        self.agent._on_request_failed()
        self._stop_queue_timer()
        self._unretrieved = _UnretrievedErrorLogger(repr(self), error)
        self._wake_soon()
        self._schedule_events()

    def _set_failure(self, error: BaseException) -> None:
        self._failure = self._error = error
        self.destroyed = self._closed = True
        if isinstance(self._out, WriteBuffer):
            self._out.destroy(error)

    @property
    def _phase(self) -> str:
        """The step before the response; see :attr:`geventnode.errors.GeventnodeError.phase`."""
        if self._connection is None:
            return 'queue' if self._dial is None else 'connect'
        socket = self._connection.socket
        if socket.pending:
            return 'connect'
        if socket.handshaking:
            return 'handshake'
        return 'response' if self.writable_finished else 'send'

    @property
    def _upgrade_event(self) -> str:
        return 'connect' if self.method == 'CONNECT' else 'upgrade'

    def _listener_added(self, event: str) -> None:
        if self._events is None:
            self._events = RequestEvents()
        if self._connection is not None:
            self._connection.on_listener_added(self)
        if self._connection is not None or self._failure is not None:
            self._events.schedule(self)

    @property
    def _can_be_forgotten(self) -> bool:
        """Whether only its writer can end it: no listener can."""
        return self._events is None

    def _schedule_events(self) -> None:
        if self._events is not None:
            self._events.schedule(self)

    # -- waiting --------------------------------------------------------------------------------------------------

    def get_response(self, timeout: float | None = None) -> IncomingMessage:
        """Return the response. Blocks until its head has arrived.

        For an upgrade, and for CONNECT with a 2xx status, ``upgrade`` of the response is true. Its ``socket`` then
        belongs to the caller, and its ``head`` has the bytes that were received after the head.

        Leaving this call by any exception, also by a ``gevent.Timeout`` or a kill, destroys the request.

        :param timeout: seconds to wait in this call; None for no limit but those of the request.
        :raises RuntimeError: :meth:`end` was not called, and the head was not sent.
        :raises ConnectError: no connection could be made.
        :raises SocketHangUp: the connection was lost before the response.
        :raises ParseError: the response is malformed, or larger than a limit.
        :raises RequestTimeout: a time limit has passed; the message names it.
        :raises RequestAborted: :meth:`abort` was called.
        """
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        response = self.response
        if response is None:
            if self._state is not _ENDED and not (self.writable_ended or self._head_sent or self._failure is not None):
                raise RuntimeError('get_response() before end(): nothing was sent yet')
            if timeout is None and self._waiters is None and self._failure is None:
                # the most common case, without the cost of the others
                current = getcurrent()
                self._waiters = [current]
                try:
                    self._hub.switch()
                except BaseException:
                    self._on_wait_interrupted()
                    raise
                finally:
                    if self._waiters is not None:
                        self._remove_waiter(current)
                response = self.response
            if response is None:
                self._wait_for('get_response', timeout)
                response = self.response
        if response is None:
            self._mark_error_retrieved()
            assert self._failure is not None
            raise copy_for_raising(self._failure)
        if self._events is not None and self._events.has_informational:
            # the greenlet that calls the listeners for them is about to start
            gevent.sleep(0)
        if self._unclaimed is not None:
            self._claim_socket()
        return response

    def wait_continue(self, timeout: float | None = None) -> bool:
        """Send the head, and return whether to send the body.

        Blocks until ``100 Continue`` or the final response has arrived; returns False for the latter. After
        ``timeout`` seconds without either, it returns True (RFC 9110, section 10.1.1).

        :param timeout: in seconds; None for no limit but those of the request.

        Raises the errors of :meth:`get_response`.
        """
        self.flush_headers()
        try:
            self._wait_for('wait_continue', timeout, continued=True)
        except RequestTimeout as error:
            if error.phase != 'wait_continue':
                raise
            return True
        if self._failure is not None:
            self.get_response()
        return self.response is None

    def _wait_for(self, call: str, timeout: float | None, continued: bool = False) -> None:
        """Wait for the response or the error, or for ``100 Continue``."""
        timer = None
        if timeout is not None:
            timer = gevent.Timeout(timeout)
            timer.start()
        try:
            while self.response is None and self._failure is None and not (continued and self._continued):
                self._wait_once()
        except BaseException as error:
            if error is timer:
                late = RequestTimeout(f'{self._origin}: no answer within the timeout of {call}() ({timeout} seconds)')
                if continued:
                    self._origin.locate(late, call)
                    raise late from None
                self._abort_with(late)
            else:
                self._on_wait_interrupted()
                raise
        finally:
            if timer is not None:
                timer.close()

    def _on_wait_interrupted(self) -> None:
        """Destroy the request after an exception in a waiter."""
        self._abort_with(SocketHangUp('socket hang up: the wait for the response was interrupted'))
        self._mark_error_retrieved()

    @property
    def _has_waiters(self) -> bool:
        """Whether a greenlet waits for the response."""
        return self._waiters is not None

    def _wait_once(self) -> None:
        current = getcurrent()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(current)
        try:
            get_hub().switch()
        finally:
            if self._waiters is not None:
                self._remove_waiter(current)

    def _remove_waiter(self, greenlet: Any) -> None:
        if self._waiters is not None and greenlet in self._waiters:
            self._waiters.remove(greenlet)
            if not self._waiters:
                self._waiters = None

    def _wake(self) -> None:
        """Switch to the waiters. Runs in the hub."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.switch()

    def _wake_soon(self) -> None:
        if self._waiters is not None:
            get_hub().loop.run_callback(self._wake)

    def _claim_socket(self) -> None:
        """Note that the user has the upgraded connection, if there is one."""
        if self._unclaimed is not None:
            self._unclaimed.socket = None

    def _mark_error_retrieved(self) -> None:
        """Note that the error need not be logged."""
        if self._unretrieved is not None:
            self._unretrieved.error = None

    def __enter__(self) -> IncomingMessage:
        return self.get_response()

    def __exit__(self, *args: object) -> None:
        if self.response is None or not self.response.complete:
            self._abort_with(SocketHangUp('socket hang up: the block that used the response was left'))
            self._mark_error_retrieved()

    # -- giving up ------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Give up the request: it leaves the queue, or its connection is destroyed.

        ``'close'`` is emitted, ``'error'`` is not. A greenlet that waits for the response gets ``RequestAborted``.
        """
        self._check_thread()
        if not self.aborted:
            self.aborted = True
            self._abort_with(RequestAborted(f'{self.method} to {self._origin} was aborted'))
            self._mark_error_retrieved()

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        """Give up the request, and return it.

        :param error: the error for waiters and ``'error'``; None for ``SocketHangUp``, which is then not logged.
        """
        self._check_thread()
        self._abort_with(error or SocketHangUp('socket hang up: the request was destroyed'))
        if error is None:
            self._mark_error_retrieved()
        return self

    def _abort_with(self, error: BaseException) -> None:
        """Leave the queue, or close the connection, because of ``error``."""
        if self._failure is not None:
            return
        self._check_thread()
        self.destroyed = True
        if self.response is None:
            self._fail(error)
            self.agent._cancel(self)
        if self._connection is not None:
            self._connection.abort_exchange(self, error)
        if self._body_writer is not None and self._body_writer is not gevent.getcurrent():
            self._body_writer.kill(block=False)

    # -- times and options ----------------------------------------------------------------------------------------

    def _set_time_limits(
        self, timeout: float | None, connect_timeout: float | None, queue_timeout: float | None, deadline: float | None
    ) -> None:
        """Set the limits, each in seconds, None for none."""
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._queue_timeout = queue_timeout
        if deadline is not None:
            self._deadline = monotonic() + deadline
        self._update_shortest_timeout(deadline)

    def _update_shortest_timeout(self, deadline: float | None = None) -> None:
        self._shortest_timeout = min(self._timeout or NEVER, self._connect_timeout or NEVER, deadline or NEVER)
        self._needs_precise_timer = self._shortest_timeout < PRECISE_BELOW

    def _set_exchange_timeout(self, seconds: float | None) -> None:
        self._timeout = None if seconds is None else checked_seconds('timeout', seconds) or None
        self._update_shortest_timeout()
        if self._connection is not None:
            self._connection.change_timeout(self, self._timeout)

    def set_no_delay(self, no_delay: bool = True) -> None:
        """Set TCP_NODELAY, now or as soon as there is a connection. Connections of an agent begin with it set."""
        self._set_socket_option('set_no_delay', no_delay)

    def set_socket_keep_alive(self, enable: bool = False, initial_delay: float = 0) -> None:
        """Set SO_KEEPALIVE, now or as soon as there is a connection.

        :param enable: whether the system probes the connection while it is idle.
        :param initial_delay: seconds without traffic before the first probe; 0 leaves that to the system.
        """
        self._set_socket_option('set_keep_alive', enable, initial_delay)

    def _set_socket_option(self, setter: str, *args: Any) -> None:
        self._check_thread()
        self._socket_options = {**(self._socket_options or {}), setter: args}
        if self._connection is not None and self._connection.serves(self):
            self._connection.socket_options_changed = True
            self._apply_socket_options()

    def _apply_socket_options(self) -> None:
        assert self._connection is not None
        socket = self._connection.socket
        for setter, args in (self._socket_options or {}).items():
            getattr(socket, setter)(*args)

    def __repr__(self) -> str:
        state = (
            'failed'
            if self._failure is not None
            else self._state.value
            if self.response is None
            else str(self.response.status_code)
        )
        origin = self._requested_origin
        scheme = 'http' if origin.tls_settings is None else 'https'
        target = without_credentials(self.path)
        return f'<{type(self).__name__} {self.method} {scheme}://{origin}{target} {state}>'


def _sent_unless_closed(send: Callable[..., object], *args: Any) -> bool:
    """Return whether ``send`` succeeds; False if the connection was closed."""
    try:
        send(*args)
    except ConnectionClosed:
        return False
    return True
