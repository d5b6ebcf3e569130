"""Requests that are made: what is sent, where to, and within which time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import (
    ConnectionClosed,
    ContentLengthMismatch,
    GeventnodeError,
    RequestTimeout,
    WriteAfterEnd,
)
from geventnode.http.body_source import BodySource, is_body_source
from geventnode.http.client.framing import FramedRequest
from geventnode.http.client.response_body import ClientResponse, ReleasedSocket
from geventnode.http.client.write_buffer import WriteBuffer
from geventnode.http.outgoing import JOIN_BELOW, OutgoingState
from geventnode.interfaces import IClientRequest
from geventnode.net.deadlines import NEVER, PRECISE_BELOW, deadlines
from geventnode.net.threads import wrong_thread_error
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import Limits, last_chunk
from geventnode.stream.chunks import as_bytes
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.connection import Connection
    from geventnode.http.client.origin import Origin
    from geventnode.http.header_fields import Fields
    from geventnode.net.socket import Socket

__all__ = ['ClientRequest', 'response_limits']

#: Methods that may be sent again when it is not known whether the first time counted: those that are safe or idempotent
#: (RFC 9110, section 9.2.2) and need no other request between (the registry of section 16.1.1).
IDEMPOTENT = frozenset({'GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PROPFIND', 'QUERY', 'REPORT', 'SEARCH', 'TRACE'})

DEFAULT_TIMEOUT, DEFAULT_CONNECT_TIMEOUT = 120.0, 60.0

#: Seconds for which a body waits behind ``Expect: 100-continue`` when nobody else decides (RFC 9110, section 10.1.1).
CONTINUE_TIME = 1.0

_OPEN, _FIXED, _ENDED = OutgoingState.OPEN, OutgoingState.FIXED, OutgoingState.ENDED


@lru_cache(maxsize=64)
def response_limits(max_header_size: int, max_headers_count: int) -> Limits:
    """Return what is refused in responses."""
    return Limits(max_header_size=max_header_size, max_headers_count=max_headers_count)


@implementer(IClientRequest)
class ClientRequest(FramedRequest):
    """See :class:`geventnode.interfaces.IClientRequest`."""

    send_date: bool = False
    reused_socket: bool = False
    _timeout: float | None = DEFAULT_TIMEOUT
    _connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT
    _queue_timeout: float | None = None
    #: When the exchange must be over (monotonic).
    _deadline: float = NEVER
    #: Seconds before which no deadline can pass, and whether they must be kept more precisely than the sweep can.
    _shortest_timeout: float = DEFAULT_CONNECT_TIMEOUT
    _needs_precise_timer: bool = False

    _limits: Limits = response_limits(16384, 1000)
    #: Whether the response keeps the sizes of its chunks, for a reader that needs them.
    _keeps_chunks: bool = False
    #: A function in place of the agent's, and what calls it.
    _create_connection: Any = None
    _dial: Any = None

    _queued_at: float = 0.0
    _expires: float = NEVER

    _connection: Connection | None = None
    #: Which exchange of that it is.
    _turn: int = 0
    _released: ReleasedSocket | None = None
    #: A message that was rendered as a whole: its head, with a small body, and a large body.
    _rendered: tuple[bytes, bytes | memoryview] | None = None
    _body_writer: Any = None
    _retried: bool = False
    _socket_options: dict[str, tuple[Any, ...]] | None = None

    def __init__(self, agent: Agent, origin: Origin, method: str, path: str, fields: Fields, keep_alive: bool) -> None:
        self.agent = agent
        self._hub = agent._hub
        self._origin = origin
        self.method = method
        self.path = path
        self._fields = fields
        self.should_keep_alive = keep_alive

    @property
    def host(self) -> str:
        return self._origin.host

    @property
    def protocol(self) -> str:
        return self.agent.protocol

    @property
    def max_headers_count(self) -> int:
        return self._limits.max_headers_count

    @max_headers_count.setter
    def max_headers_count(self, value: int) -> None:
        self._limits = response_limits(self._limits.max_header_size, value)

    # -- the body -------------------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Any = None) -> bool:
        self._check_thread()
        if self._body_writer is not None:
            raise WriteAfterEnd('write() after end() on this ClientRequest')
        return super().write(chunk, encoding, callback)

    def end(self, data: Any = None, encoding: str = 'utf-8', callback: Any = None) -> Any:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        if data is not None and type(data) is not bytes and is_body_source(data):
            self._end_with_source(data, callback)
        elif (
            self._body_writer is not None
            or self.writable_corked
            or (self._state is not _OPEN and self._state is not _FIXED)
        ):
            if self._body_writer is None:
                super().end(data, encoding, callback)
            elif data:
                raise WriteAfterEnd('end() with data after end() on this ClientRequest')
        else:
            if self.destroyed:
                self._check_alive()
            body = data if type(data) is bytes else b'' if data is None else as_bytes(data, encoding)
            if body and self._continue_expected and not self._continued:
                self._end_with_source((body,), callback, len(body))
                return self
            self._render_message(body)
            if callback is not None:
                self.once('finish', callback)
            self.agent._add_request(self)
        return self

    def _render_message(self, body: bytes | memoryview) -> None:
        """Render the whole message, so that it can be sent more than once."""
        size = len(body)
        head = self._render_head(size).encode('latin-1')
        length = self._length
        if length is not None and length != size:
            raise ContentLengthMismatch(f'Content-Length is {length}, and the body has {size} bytes')
        self.body_size = size
        if self._chunked:
            end = last_chunk(self._trailers or ())
            self._rendered = b''.join((head, b'%x\r\n' % size, body, b'\r\n', end)) if size else head + end, b''
        elif size < JOIN_BELOW:
            self._rendered = head + body if size else head, b''
        else:
            self._rendered = head, body if isinstance(body, bytes) or isinstance(body.obj, bytes) else bytes(body)
        self._state = _ENDED

    def _end_with_source(self, body: Any, callback: Any, size: int | None = None) -> None:
        """Send a body that comes in pieces, from a greenlet of its own."""
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
            # so that what is wrong with the head is raised here
            head = self._begin_body(None).encode('latin-1')
            # a used connection may turn out to be dead: the outcome says so, or a response comes all the same
            with contextlib.suppress(ConnectionClosed):
                self._attach()._send(head)
        self._body_writer = gevent.Greenlet(self._write_body, source)
        # what yields the body is the caller's code, and finds the caller's context variables
        self._body_writer.gr_context = copy_context()
        self._body_writer.start()

    def _write_body(self, source: BodySource) -> None:
        try:
            if self._continue_expected and not self._continued and not self.wait_continue(CONTINUE_TIME):
                return
            # what the source raises is told, ConnectionClosed too: it is about another connection
            for chunk in source:
                if not _sent_unless_closed(super().write, chunk):
                    return
            _sent_unless_closed(super().end)
        except Exception as error:
            self._abandon(error)
        except BaseException:
            self._abandon(ConnectionClosed('the greenlet that sent the body was killed'))
            raise

    @property
    def _continue_expected(self) -> bool:
        """Whether the server is asked before the body is sent."""
        value = self._fields.get('expect', ('', ''))[1]
        return isinstance(value, str) and value.lower() == '100-continue'

    @property
    def _body_refused(self) -> bool:
        """Whether a final response that comes now is in place of 100 Continue, and the body not wanted."""
        return self._continue_expected and not self._continued and not self.body_size and self._state is not _ENDED

    @property
    def _awaits_source(self) -> bool:
        """Whether a source of the body is asked for more, and the server not for its permission."""
        return self._body_writer is not None and not self._body_writer.ready() and not self._body_refused

    def _on_short_body(self, missing: int) -> None:
        self._abandon(ContentLengthMismatch(f'the body has ended {missing} bytes short of its Content-Length'))

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

    def _on_complete(self) -> None:
        if self._connection is not None:
            self._connection.on_request_sent()

    # -- the connection -------------------------------------------------------------------------------------------

    def _attach(self) -> Any:
        if self._out is None:
            if self._connection is None:
                self._out = WriteBuffer()
            self.agent._add_request(self)
        return self._out

    def _assign(self, connection: Connection) -> None:
        """Called by the agent: use ``connection``."""
        socket = connection.socket
        out = self._out
        self._connection = connection
        self._exchange_number = connection.exchange_number
        self._out = socket
        self.reused_socket = connection.reused
        if self._expires is not NEVER:
            self._expires = NEVER
            deadlines(connection.agent._hub).forget(self)
        if self._socket_options is not None:
            connection.socket_options_changed = True
            self._apply_socket_options()
        if self._rendered is not None:
            self._send_rendered(connection, socket)
        elif out is not None:
            out.hand_over(socket)
            if self._state is _ENDED:
                connection.on_request_sent()
        if self._listeners is not None:
            self._tell()

    def _send_rendered(self, connection: Connection, socket: Socket) -> None:
        assert self._rendered is not None
        head, body = self._rendered
        connection.sent = True
        try:
            flushed = socket._send_vectored(head, body) if body else socket._send(head)
        except ConnectionClosed:
            # the connection has told already, or a response may still come
            return
        if flushed:
            self.writable_finished = True
        else:
            socket._when_flushed(self._on_finished)

    def _prepare_retry(self, error: BaseException | None) -> bool:
        """Called by the agent when a used connection turned out to be dead: whether to try again on a new one."""
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
        """The connection that it uses, None before there is one; a
        :class:`~geventnode.http.client.response_body.ReleasedSocket` as soon as other requests can have that."""
        connection = self._connection
        if connection is None:
            return None
        if connection.is_in_exchange(self._exchange_number):
            return connection.socket
        if self._released is None:
            self._released = ReleasedSocket(connection, self._exchange_number)
        return self._released

    def _on_response_delivered(self) -> None:
        if self._connection is not None and isinstance(self.response, ClientResponse):
            self._connection.on_response_delivered(self.response)

    def _on_queued(self) -> None:
        """Called by the agent: there is no connection yet."""
        now = self._queued_at = monotonic()
        expires = min(self._deadline, now + (self._queue_timeout or NEVER))
        if expires is not NEVER and expires != NEVER:
            self._expires = expires
            deadlines(self.agent._hub).watch(self)

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`: still in the queue."""
        if self._deadline <= now:
            self._abandon(self._origin.past_deadline())
        else:
            self._abandon(
                RequestTimeout(
                    f'{self._origin}: no connection was free within queue_timeout ({self._queue_timeout} seconds)'
                )
            )

    def _abandon(self, error: BaseException) -> None:
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

    def _failed(self) -> None:
        self.agent._on_request_failed()
        if self._expires is not NEVER:
            self._expires = NEVER
            deadlines(self.agent._hub).forget(self)

    # -- times and settings ---------------------------------------------------------------------------------------

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
        self._set_socket_option('set_no_delay', no_delay)

    def set_socket_keep_alive(self, enable: bool = False, initial_delay: float = 0) -> None:
        self._set_socket_option('set_keep_alive', enable, initial_delay)

    def _set_socket_option(self, setting: str, *args: Any) -> None:
        self._check_thread()
        self._socket_options = {**(self._socket_options or {}), setting: args}
        if self._connection is not None and self._connection.serves(self):
            self._connection.socket_options_changed = True
            self._apply_socket_options()

    def _apply_socket_options(self) -> None:
        assert self._connection is not None
        socket = self._connection.socket
        for setting, args in (self._socket_options or {}).items():
            getattr(socket, setting)(*args)

    def __repr__(self) -> str:
        state = (
            'failed'
            if self._failure is not None
            else self._state.value
            if self.response is None
            else str(self.response.status_code)
        )
        scheme = 'http' if self._origin.peer is None else 'https'
        return f'<{type(self).__name__} {self.method} {scheme}://{self._origin}{self.path} {state}>'


def _sent_unless_closed(send: Callable[..., object], *args: Any) -> bool:
    """Return whether ``send`` goes through; where the connection is gone, the outcome says why."""
    try:
        send(*args)
    except ConnectionClosed:
        return False
    return True
