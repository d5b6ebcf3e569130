"""Received messages. Bytes of a body are taken from the connection only when a reader asks for them.

Mappings and lists of headers are made on first use, and so is the client's address behind a proxy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import PrematureClose, StreamError, copy_for_raising
from geventnode.interfaces import IIncomingMessage
from geventnode.net.threads import wrong_thread_error
from geventnode.protocol import ClientAddress, ForwardedPolicy, Framing, Headers, RequestHead, ResponseHead, distinct
from geventnode.protocol.headers import copy_fields
from geventnode.stream.readable import Mode, ReadableBase

if TYPE_CHECKING:
    from geventnode.net.socket import Socket

__all__ = ['IncomingMessage', 'MessageConnection', 'describe_request']

Self = TypeVar('Self', bound='IncomingMessage')

#: Characters of a request in a log line.
MAX_LOGGED = 200


class MessageConnection(Protocol):
    """The HTTP connection of a message: its source of body bytes, notified of its events."""

    #: The hub of the thread that the messages are used in.
    hub: Any

    @property
    def forwarded_policy(self) -> ForwardedPolicy | None:
        """The policy that finds the client's address in forwarding headers; None: they are ignored."""

    @abstractmethod
    def read_body(self, message: IncomingMessage) -> bytes:
        """Return the next piece of the body, or ``b''`` at its end. Blocks until a piece arrives.

        Raises the error that cut the body short.
        """

    def take_body(self, message: IncomingMessage) -> bytes | None:
        """Return the rest of the body and complete the message.

        Returns None if a part has not arrived, or if that cannot be determined cheaply.
        """

    def on_message_error(self, message: IncomingMessage, error: BaseException) -> None:
        """End the exchange: a listener of ``message`` raised, or its body failed without an ``'error'`` listener."""

    def on_message_destroyed(self, message: IncomingMessage, error: BaseException | None) -> None:
        """End the exchange: ``message`` was destroyed before its end was read."""

    def on_reader_paused(self, message: IncomingMessage) -> None:
        """Buffer the input: the reader of ``message`` has paused."""

    def set_exchange_timeout(self, message: object, seconds: float | None) -> None:
        """Set the inactivity timeout of the exchange, unless it is over."""


_NONE = Framing.NONE
_UNUSED, _SEQUENTIAL = Mode.UNUSED, Mode.SEQUENTIAL
#: The status of a request, and the URL of a response. A listener knows which of the two it has; None in the types would
#: make every listener exclude it for the type checker.
_ABSENT: Any = None


@implementer(IIncomingMessage)
class IncomingMessage(ReadableBase):
    """A received message: a request in a server, a response in a client.

    Servers and clients make these messages; programs do not. The body is read as from any
    :class:`~geventnode.stream.Readable`.

    Emits, besides the events of a readable stream, ``'aborted'`` () when the peer disconnects before the exchange is
    complete, and ``'timeout'`` (socket); see :meth:`set_timeout`.

    Node's documentation: http.IncomingMessage.
    """

    events: ClassVar[frozenset[str]] = ReadableBase.events | {'aborted', 'timeout'}

    #: Requests: the method. None in a response.
    method: str = _ABSENT
    #: Requests: the request target as it was sent. None in a response.
    url: str = _ABSENT
    #: Responses: the status. None in a request.
    status_code: int = _ABSENT
    #: Responses: the reason phrase. None in a request.
    status_message: str = _ABSENT
    #: Whether the whole message was received and parsed.
    complete: bool
    #: Whether the peer disconnected before the exchange was complete.
    aborted: bool = False
    #: Responses that accept an upgrade: the bytes of the other protocol that followed the head.
    head: bytes = b''
    #: Requests by HTTP/2: the identifier of the stream. None in HTTP/1.1.
    stream_id: int | None = None

    _headers: Headers | None = None
    _raw_headers: list[tuple[str, str]] | None = None
    _raw_trailers: list[tuple[str, str]] | None = None
    _trailers: Headers | None = None
    _known_client_address: ClientAddress | None = None
    #: Whether a piece of the body was discarded unread.
    _discarded: bool = False
    #: Sizes of the chunks, recorded when a size line is parsed; the reader removes them. None: they are not recorded.
    _chunk_sizes: deque[int] | None = None
    #: Pieces of the body that arrived before a reader asked for them, and their size together. It is a tuple of one if
    #: the whole body arrived with the head.
    _buffered: deque[bytes] | tuple[bytes] | None = None
    _buffered_size: int = 0
    #: The error that cut the body short; it is raised after the buffered pieces were read.
    _failure: BaseException | None = None
    #: Whether the connection was upgraded with this message.
    _upgraded: bool = False
    #: Whether the connection needs to know the end of the body even if no listener does.
    _notify_end: bool = False

    def __init__(self, head: RequestHead | ResponseHead, socket: Socket, connection: MessageConnection) -> None:
        self._head = head
        self._connection = connection
        #: The connection of the message. In a client, see :attr:`geventnode.interfaces.IIncomingMessage.socket`.
        self.socket = socket
        self.complete = head.framing is _NONE
        # read from the instance, it takes a fifth of the time
        self._headers = None
        if isinstance(head, RequestHead):
            self.method = head.method
            self.url = head.url
        else:
            self.status_code = head.status_code
            self.status_message = head.status_message

    # -- the head -------------------------------------------------------------------------------------------------

    @property
    def http_version(self) -> str:
        """The version in the start line, or ``'2.0'`` by HTTP/2.

        In a start line it is ``'1.1'``, ``'1.0'`` or a later minor version (RFC 9110, section 2.5).
        """
        return self._head.http_version

    @property
    def http_version_major(self) -> int:
        """The first number of :attr:`http_version`."""
        return int(self._head.http_version.partition('.')[0])

    @property
    def http_version_minor(self) -> int:
        """The second number of :attr:`http_version`."""
        return int(self._head.http_version.partition('.')[2])

    @property
    def upgrade(self) -> bool:
        """Whether the message requests or accepts another protocol (RFC 9110, section 7.8)."""
        return self._head.upgrade or self.method == 'CONNECT' or self._upgraded

    @property
    def connection(self) -> Socket:
        """The same as ``socket``, under Node's older name."""
        return self.socket

    @property
    def headers(self) -> Headers:
        """The header fields by lower-cased name; lookups ignore case.

        Lines of one name are joined by ``', '``, Cookie lines by ``'; '``. Of a field that has one value by definition,
        such as Content-Type, the first line counts. Set-Cookie is a list. See :attr:`headers_distinct` for the value of
        each line.
        """
        headers = self._headers
        if headers is None:
            headers = self._headers = copy_fields(self._head.fields)
        return headers

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """The header lines as (name, value) pairs, in the order of arrival."""
        if self._raw_headers is None:
            self._raw_headers = self._head.raw_headers
        return self._raw_headers

    @property
    def headers_distinct(self) -> dict[str, list[str]]:
        """The values of each header line, by lower-cased name."""
        return distinct(self._head.raw_headers)

    # -- the client's address: determined on first use -------------------------------------------------------------

    @property
    def remote_address(self) -> str | None:
        """The IP address of the client; None on Unix sockets.

        Behind trusted proxies it is the address that they forwarded: see ``forwarded_headers`` of the server. In a
        response, it is the address of the server.
        """
        return self.socket.remote_address if self._connection.forwarded_policy is None else self._client_address.address

    @property
    def remote_port(self) -> int | None:
        """The client's port; None if a proxy forwarded none.

        None on Unix sockets, too.
        """
        return self._client_address.port

    @property
    def scheme(self) -> str:
        """``'http'`` or ``'https'``: how the client made the request, as far as trusted proxies forwarded it."""
        return self._client_address.scheme

    @property
    def host(self) -> str | None:
        """The host, and the port if given, that the client requested.

        It is taken from the target or from Host, unless a trusted proxy forwarded another one. None in responses, and
        in HTTP/1.0 requests without Host.
        """
        return self._client_address.host

    @property
    def _client_address(self) -> ClientAddress:
        address = self._known_client_address
        if address is None:
            socket, policy = self.socket, self._connection.forwarded_policy
            head, header = self._head, socket.proxy_header
            encrypted = socket.encrypted or (header is not None and header.encrypted)
            address = ClientAddress(
                socket.remote_address,
                socket.remote_port,
                'https' if encrypted else 'http',
                head.requested_host if isinstance(head, RequestHead) else None,
            )
            if policy is not None:
                named = header is not None and header.source is not None
                address = policy.resolve_scheme(
                    self.headers, address, socket.proxy_address if named else socket.remote_address
                )
            # a proxy that names no client in its PROXY header does not know the author of these fields
            if policy is not None and (header is None or header.local or header.source is not None):
                address = policy.resolve(self.headers, address)
            self._known_client_address = address
        return address

    # -- the trailers ---------------------------------------------------------------------------------------------

    @property
    def raw_trailers(self) -> list[tuple[str, str]]:
        """The trailer lines as (name, value) pairs, in the order of arrival.

        Empty until the body was read to its end (RFC 9110, section 6.5).
        """
        if self._raw_trailers is None or not self.readable_ended:
            return []
        return self._raw_trailers

    @property
    def trailers(self) -> Headers:
        """The trailer fields, as :attr:`headers`.

        Empty until the body was read to its end.
        """
        if self._trailers is None:
            if not self.readable_ended:
                return Headers()
            self._trailers = Headers.from_raw(self.raw_trailers)
        return self._trailers

    @property
    def trailers_distinct(self) -> dict[str, list[str]]:
        """The values of each trailer line, by lower-cased name."""
        return distinct(self.raw_trailers)

    # -- called by the connection ---------------------------------------------------------------------------------

    def _set_complete(self, raw_trailers: list[tuple[str, str]]) -> None:
        """Note that the whole message was parsed."""
        self.complete = True
        self._raw_trailers = raw_trailers

    def _buffer(self, chunk: bytes) -> None:
        """Keep ``chunk`` for the reader."""
        buffered = self._buffered
        if type(buffered) is not deque:
            # a message that was complete with its head gets no further pieces
            buffered = self._buffered = deque()
        buffered.append(chunk)
        self._buffered_size += len(chunk)

    def _buffer_whole(self, body: bytes) -> None:
        """Keep the whole ``body``, which arrived with the head."""
        self._buffered = (body,)
        self._buffered_size = len(body)
        self.complete = True

    def _set_upgraded(self, rest: bytes) -> None:
        """Note that this message upgrades the connection; ``rest`` followed it."""
        self._upgraded = True
        self.complete = True
        self.head = rest

    def _abort(self, error: BaseException) -> None:
        """Note that the rest of the body will not arrive."""
        self._failure = error
        self.aborted = True

    def _finish_abort(self) -> None:
        """Emit ``'error'``, where it is due, and ``'close'``. Runs in a greenlet, after ``'aborted'`` was emitted."""
        error = self._failure
        assert error is not None
        # a reader gets the error after the buffered pieces
        if not self._has_reader and not self._buffered_size and not self.destroyed and self.listener_count('error'):
            self._report_error(error)
        self.emit('close')

    def _mark_discarded(self) -> None:
        """Note that a piece of the body was discarded: a later read fails."""
        self._discarded = True

    def _on_discarded(self) -> None:
        """Emit ``'end'``: the connection has discarded the rest of the body. Runs in a greenlet."""
        if self.complete and not self.destroyed:
            self._emit_end()

    @property
    def _read_started(self) -> bool:
        """Whether a reader has begun to consume the body."""
        return self._mode is not Mode.UNUSED

    @property
    def _has_reader(self) -> bool:
        """Whether a greenlet waits for the body, or a pump forwards it."""
        return self._reading or (self._pump is not None and self._pump.busy)

    # -- the body -------------------------------------------------------------------------------------------------

    def _fetch(self) -> bytes:
        if self.destroyed:
            raise self._error or PrematureClose('the message was destroyed before it was read')
        if self._discarded:
            raise StreamError('the body was discarded: the response has ended before it was read')
        buffered = self._buffered
        if buffered:
            if type(buffered) is deque:
                chunk = buffered.popleft()
            else:
                chunk, self._buffered = buffered[0], None
            self._buffered_size -= len(chunk)
            return chunk
        if self.complete:
            return b''
        if self._failure is not None:
            raise copy_for_raising(self._failure)
        return self._connection.read_body(self)

    def _at_end(self) -> bool:
        return self.complete and not self._buffered and not self._discarded and not self.destroyed

    def _check_thread(self) -> None:
        if get_hub() is not self._connection.hub:
            raise wrong_thread_error(self)

    def read(self, size: int = -1) -> Any:
        if get_hub() is not self._connection.hub:
            raise wrong_thread_error(self)
        if (
            size < 0
            and not self._read_buffer
            and not self._reading
            and not self.destroyed
            and self._decoder is None
            and ((mode := self._mode) is _UNUSED or mode is _SEQUENTIAL)
        ):
            data = self._take_rest()
            if data is not None:
                self._mode = _SEQUENTIAL
                if self._listeners is None and not self._notify_end:
                    self.readable_ended = True
                else:
                    self._emit_end()
                return data
        return super().read(size)

    def _take_rest(self) -> bytes | None:
        """Return the rest of the body, or None until it has arrived."""
        if self._discarded:
            return None
        buffered = self._buffered
        if not self.complete:
            return None if buffered or self._failure is not None else self._connection.take_body(self)
        if not buffered:
            return b''
        data = buffered[0] if len(buffered) == 1 else b''.join(buffered)
        self._buffered = None
        self._buffered_size = 0
        return data

    @property
    def readable_length(self) -> int:
        """Bytes, or characters of text, that wait for a reader."""
        return super().readable_length + self._buffered_size

    def _on_listener_error(self, error: BaseException) -> None:
        self._connection.on_message_error(self, error)

    def _on_reader_paused(self) -> None:
        if not self.complete:
            self._connection.on_reader_paused(self)

    def _report_error(self, error: BaseException) -> None:
        # without a listener the connection handles it: a client that disconnects is no reason for a traceback
        if self.listener_count('error'):
            super()._report_error(error)
        else:
            self._connection.on_message_error(self, error)

    def _destroy(self) -> None:
        if not (self.complete and self.readable_ended):
            self._connection.on_message_destroyed(self, self._error)

    def _emit_close(self, error: BaseException | None) -> None:
        if error is not None and self.listener_count('error'):
            self._report_error(error)

    # -- the connection -------------------------------------------------------------------------------------------

    def set_timeout(self: Self, seconds: float | None, callback: Callable[..., object] | None = None) -> Self:
        """Set the connection's inactivity timeout for this exchange; return the message.

        ``'timeout'`` is emitted with the socket. The exchange ends if there is no listener for it.

        :param seconds: seconds without received or sent bytes; None or 0: no limit.
        :param callback: a listener for ``'timeout'``.
        """
        self._check_thread()
        if callback is not None:
            self.on('timeout', callback)
        self._connection.set_exchange_timeout(self, seconds)
        return self

    def __repr__(self) -> str:
        subject = (
            f'{self.method} {self.url}' if self.method is not None else f'{self.status_code} {self.status_message}'
        )
        state = 'aborted' if self.aborted else 'complete' if self.complete else 'receiving'
        return f'<{type(self).__name__} {subject} {state}>'


def describe_request(request: IncomingMessage) -> str:
    """Return method and target of ``request`` for a log line.

    Both are printable ASCII: the parser refuses anything else. More than :data:`MAX_LOGGED` characters are shortened.
    """
    text = f'{request.method} {request.url}'
    return text if len(text) <= MAX_LOGGED else f'{text[:MAX_LOGGED]}... ({len(text)} characters)'
