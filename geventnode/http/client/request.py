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
from geventnode.http.body_source import Upload, is_upload
from geventnode.http.client.framing import FramedRequest
from geventnode.http.client.response_body import ClientResponse, ReleasedSocket
from geventnode.http.client.write_buffer import Outbox
from geventnode.http.outgoing import JOIN_BELOW
from geventnode.http.progress import State
from geventnode.interfaces import IClientRequest
from geventnode.net.deadlines import NEVER, PRECISE_BELOW, deadlines, wrong_thread
from geventnode.options import seconds as checked_seconds
from geventnode.protocol import Limits, last_chunk
from geventnode.stream.chunks import as_bytes
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.connection import ClientConnection
    from geventnode.http.client.origin import Destination
    from geventnode.http.header_fields import Fields
    from geventnode.net.socket import Socket

__all__ = ['ClientRequest', 'response_limits']

#: Methods that may be sent again when it is not known whether the first time counted: those that are safe or idempotent
#: (RFC 9110, section 9.2.2) and need no other request between (the registry of section 16.1.1).
IDEMPOTENT = frozenset({'GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PROPFIND', 'QUERY', 'REPORT', 'SEARCH', 'TRACE'})

DEFAULT_TIMEOUT, DEFAULT_CONNECT_TIMEOUT = 120.0, 60.0

#: Seconds for which a body waits behind ``Expect: 100-continue`` when nobody else decides (RFC 9110, section 10.1.1).
CONTINUE_TIME = 1.0

_OPEN, _FIXED, _ENDED = State.OPEN, State.FIXED, State.ENDED


@lru_cache(maxsize=64)
def response_limits(max_header_size: int, max_headers_count: int) -> Limits:
    """Return what is refused in responses."""
    return Limits(max_header_size=max_header_size, max_headers_count=max_headers_count)


@implementer(IClientRequest)
class ClientRequest(FramedRequest):
    """See :class:`geventnode.interfaces.IClientRequest`."""

    send_date: bool = False
    reused_socket: bool = False
    timeout: float | None = DEFAULT_TIMEOUT
    connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT
    queue_timeout: float | None = None
    #: When the exchange must be over (monotonic).
    deadline_at: float = NEVER
    #: Seconds before which no deadline can pass, and whether they must be kept more precisely than the sweep can.
    shortest_timeout: float = DEFAULT_CONNECT_TIMEOUT
    precise: bool = False

    limits: Limits = response_limits(16384, 1000)
    #: Whether the response keeps the sizes of its chunks, for a reader that needs them.
    _keeps_chunks: bool = False
    #: A function in place of the agent's, and what calls it.
    create_connection: Any = None
    opening: Any = None

    queued_at: float = 0.0
    expires: float = NEVER

    _connection: ClientConnection | None = None
    #: Which exchange of that it is.
    _turn: int = 0
    _released: ReleasedSocket | None = None
    #: A message that was rendered as a whole: its head, with a small body, and a large body.
    _whole: tuple[bytes, bytes | memoryview] | None = None
    _feeder: Any = None
    _retried: bool = False
    _tunings: dict[str, tuple[Any, ...]] | None = None

    def __init__(
        self, agent: Agent, destination: Destination, method: str, path: str, fields: Fields, keep_alive: bool
    ) -> None:
        self.agent = agent
        self._hub = agent.hub
        self.destination = destination
        self.method = method
        self.path = path
        self._fields = fields
        self.should_keep_alive = keep_alive

    @property
    def host(self) -> str:
        return self.destination.host

    @property
    def protocol(self) -> str:
        return self.agent.protocol

    @property
    def max_headers_count(self) -> int:
        return self.limits.max_headers_count

    @max_headers_count.setter
    def max_headers_count(self, value: int) -> None:
        self.limits = response_limits(self.limits.max_header_size, value)

    # -- the body -------------------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Any = None) -> bool:
        self._check_thread()
        if self._feeder is not None:
            raise WriteAfterEnd('write() after end() on this ClientRequest')
        return super().write(chunk, encoding, callback)

    def end(self, data: Any = None, encoding: str = 'utf-8', callback: Any = None) -> Any:
        if get_hub() is not self._hub:
            raise wrong_thread(self)
        if data is not None and type(data) is not bytes and is_upload(data):
            self._end_with(data, callback)
        elif (
            self._feeder is not None or self.writable_corked or (self._state is not _OPEN and self._state is not _FIXED)
        ):
            if self._feeder is None:
                super().end(data, encoding, callback)
            elif data:
                raise WriteAfterEnd('end() with data after end() on this ClientRequest')
        else:
            if self.destroyed:
                self._check_alive()
            body = data if type(data) is bytes else b'' if data is None else as_bytes(data, encoding)
            if body and self._continue_expected and not self.continued:
                self._end_with((body,), callback, len(body))
                return self
            self._render_whole(body)
            if callback is not None:
                self.once('finish', callback)
            self.agent.add_request(self)
        return self

    def _render_whole(self, body: bytes | memoryview) -> None:
        """Render the whole message, so that it can be sent more than once."""
        size = len(body)
        head = self._render(size).encode('latin-1')
        length = self._length
        if length is not None and length != size:
            raise ContentLengthMismatch(f'Content-Length is {length}, and the body has {size} bytes')
        self.body_size = size
        if self._chunked:
            end = last_chunk(self._trailers or ())
            self._whole = b''.join((head, b'%x\r\n' % size, body, b'\r\n', end)) if size else head + end, b''
        elif size < JOIN_BELOW:
            self._whole = head + body if size else head, b''
        else:
            self._whole = head, body if isinstance(body, bytes) or isinstance(body.obj, bytes) else bytes(body)
        self._state = _ENDED

    def _end_with(self, source: Any, callback: Any, size: int | None = None) -> None:
        """Send a body that comes in pieces, from a greenlet of its own."""
        if self._feeder is not None or self._state is _ENDED:
            raise WriteAfterEnd('end() with data after end() on this ClientRequest')
        self._check_alive()
        if callback is not None:
            self.once('finish', callback)
        upload = Upload(source)
        size = upload.size if size is None else size
        fields = self._fields
        if (
            size is not None
            and self._state is _OPEN
            and 'content-length' not in fields
            and 'transfer-encoding' not in fields
            and not self._removed
            and not self._trailers
        ):
            fields['content-length'] = 'Content-Length', str(size)
        if self._state is _OPEN or self._state is _FIXED:
            # so that what is wrong with the head is raised here
            head = self._begin(None).encode('latin-1')
            # a used connection may turn out to be dead: the outcome says so, or a response comes all the same
            with contextlib.suppress(ConnectionClosed):
                self._attach().put(head)
        self._feeder = gevent.Greenlet(self._feed, upload)
        # what yields the body is the caller's code, and finds the caller's context variables
        self._feeder.gr_context = copy_context()
        self._feeder.start()

    def _feed(self, upload: Upload) -> None:
        try:
            if self._continue_expected and not self.continued and not self.wait_continue(CONTINUE_TIME):
                return
            # what the source raises is told, ConnectionClosed too: it is about another connection
            for chunk in upload:
                if not _passes(super().write, chunk):
                    return
            _passes(super().end)
        except Exception as error:
            self._quit(error)
        except BaseException:
            self._quit(ConnectionClosed('the greenlet that sent the body was killed'))
            raise

    @property
    def _continue_expected(self) -> bool:
        """Whether the server is asked before the body is sent."""
        value = self._fields.get('expect', ('', ''))[1]
        return isinstance(value, str) and value.lower() == '100-continue'

    @property
    def send_refused(self) -> bool:
        """Whether a final response that comes now is in place of 100 Continue, and the body not wanted."""
        return self._continue_expected and not self.continued and not self.body_size and self._state is not _ENDED

    @property
    def awaits_source(self) -> bool:
        """Whether a source of the body is asked for more, and the server not for its permission."""
        return self._feeder is not None and not self._feeder.ready() and not self.send_refused

    def _fell_short(self, missing: int) -> None:
        self._quit(ContentLengthMismatch(f'the body has ended {missing} bytes short of its Content-Length'))

    @property
    def writable_ended(self) -> bool:
        return self._state is _ENDED or self._feeder is not None

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
            error.__cause__ = self.failure or self._error
            raise error

    def _done(self) -> None:
        if self._connection is not None:
            self._connection.request_ended()

    # -- the connection -------------------------------------------------------------------------------------------

    def _attach(self) -> Any:
        if self._out is None:
            if self._connection is None:
                self._out = Outbox()
            self.agent.add_request(self)
        return self._out

    def assign(self, connection: ClientConnection) -> None:
        """Called by the agent: use ``connection``."""
        socket = connection.socket
        out = self._out
        self._connection = connection
        self._turn = connection.turn
        self._out = socket
        self.reused_socket = connection.reused
        if self.expires is not NEVER:
            self.expires = NEVER
            deadlines(connection.agent.hub).forget(self)
        if self._tunings is not None:
            connection.tuned = True
            self._apply_tunings()
        if self._whole is not None:
            self._send_rendered(connection, socket)
        elif out is not None:
            out.hand_over(socket)
            if self._state is _ENDED:
                connection.request_ended()
        if self._listeners is not None:
            self._tell()

    def _send_rendered(self, connection: ClientConnection, socket: Socket) -> None:
        assert self._whole is not None
        head, body = self._whole
        connection.sent = True
        try:
            flushed = socket.put_both(head, body) if body else socket.put(head)
        except ConnectionClosed:
            # the connection has told already, or a response may still come
            return
        if flushed:
            self.writable_finished = True
        else:
            socket.when_flushed(self._finished)

    def may_retry(self, error: BaseException | None) -> bool:
        """Called by the agent when a used connection turned out to be dead: whether to try again on a new one."""
        if (
            self._retried
            or self.destroyed
            or self._whole is None
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
        if connection.has_turn(self._turn):
            return connection.socket
        if self._released is None:
            self._released = ReleasedSocket(connection, self._turn)
        return self._released

    def _delivered(self) -> None:
        if self._connection is not None and isinstance(self.response, ClientResponse):
            self._connection.listeners_returned(self.response)

    def queued(self) -> None:
        """Called by the agent: there is no connection yet."""
        now = self.queued_at = monotonic()
        expires = min(self.deadline_at, now + (self.queue_timeout or NEVER))
        if expires is not NEVER and expires != NEVER:
            self.expires = expires
            deadlines(self.agent.hub).watch(self)

    def on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`: still in the queue."""
        if self.deadline_at <= now:
            self._quit(self.destination.past_deadline())
        else:
            self._quit(
                RequestTimeout(
                    f'{self.destination}: no connection was free within queue_timeout ({self.queue_timeout} seconds)'
                )
            )

    def _quit(self, error: BaseException) -> None:
        if self.failure is not None:
            return
        self._check_thread()
        self.destroyed = True
        if self.response is None:
            self.fail(error)
            self.agent.cancel(self)
        if self._connection is not None:
            self._connection.give_up(self, error)
        if self._feeder is not None and self._feeder is not gevent.getcurrent():
            self._feeder.kill(block=False)

    def _failed(self) -> None:
        self.agent.request_failed()
        if self.expires is not NEVER:
            self.expires = NEVER
            deadlines(self.agent.hub).forget(self)

    # -- times and settings ---------------------------------------------------------------------------------------

    def limit_times(
        self, timeout: float | None, connect_timeout: float | None, queue_timeout: float | None, deadline: float | None
    ) -> None:
        """Set the limits, each in seconds, None for none."""
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.queue_timeout = queue_timeout
        if deadline is not None:
            self.deadline_at = monotonic() + deadline
        self._note_shortest(deadline)

    def _note_shortest(self, deadline: float | None = None) -> None:
        self.shortest_timeout = min(self.timeout or NEVER, self.connect_timeout or NEVER, deadline or NEVER)
        self.precise = self.shortest_timeout < PRECISE_BELOW

    def _set_exchange_timeout(self, seconds: float | None) -> None:
        self.timeout = None if seconds is None else checked_seconds('timeout', seconds) or None
        self._note_shortest()
        if self._connection is not None:
            self._connection.change_timeout(self, self.timeout)

    def set_no_delay(self, no_delay: bool = True) -> None:
        self._tune('set_no_delay', no_delay)

    def set_socket_keep_alive(self, enable: bool = False, initial_delay: float = 0) -> None:
        self._tune('set_keep_alive', enable, initial_delay)

    def _tune(self, setting: str, *args: Any) -> None:
        self._check_thread()
        self._tunings = {**(self._tunings or {}), setting: args}
        if self._connection is not None and self._connection.serves(self):
            self._connection.tuned = True
            self._apply_tunings()

    def _apply_tunings(self) -> None:
        assert self._connection is not None
        socket = self._connection.socket
        for setting, args in (self._tunings or {}).items():
            getattr(socket, setting)(*args)

    def __repr__(self) -> str:
        state = (
            'failed'
            if self.failure is not None
            else self._state.value
            if self.response is None
            else str(self.response.status_code)
        )
        scheme = 'http' if self.destination.peer is None else 'https'
        return f'<{type(self).__name__} {self.method} {scheme}://{self.destination}{self.path} {state}>'


def _passes(send: Callable[..., object], *args: Any) -> bool:
    """Return whether ``send`` goes through; where the connection is gone, the outcome says why."""
    try:
        send(*args)
    except ConnectionClosed:
        return False
    return True
