"""Received messages. The body is pulled from the connection, so that nothing is read before somebody wants it; maps and
lists of headers are made when first asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import PrematureClose, StreamError, copy_for_raising
from geventnode.interfaces import IIncomingMessage
from geventnode.net.threads import wrong_thread_error
from geventnode.protocol import ClientAddress, ForwardedPolicy, Framing, Headers, RequestHead, ResponseHead, distinct
from geventnode.stream.readable import Mode, ReadableBase

if TYPE_CHECKING:
    from geventnode.net.socket import Socket

__all__ = ['IncomingMessage', 'MessageConnection', 'describe_request']

#: Characters of a request in a line of a log.
MAX_LOGGED = 200


class MessageConnection(Protocol):
    """The connection as a message sees it."""

    #: The hub of the thread that messages are used in.
    hub: Any

    @property
    def forwarding(self) -> ForwardedPolicy | None:
        """Whose word is taken about where a message comes from; None: nobody's."""

    @abstractmethod
    def read_body(self, message: IncomingMessage) -> bytes:
        """Return the next piece of the body, ``b''`` at its end, or raise what cut it short. May switch."""

    def take_body(self, message: IncomingMessage) -> bytes | None:
        """Return what is left of the body, and complete the message, when all of that has come; None when that is not
        known, or not cheap to say."""

    def on_message_error(self, message: IncomingMessage, error: BaseException) -> None:
        """A listener of ``message`` raised."""

    def on_message_destroyed(self, message: IncomingMessage, error: BaseException | None) -> None:
        """``message`` was given up."""

    def on_reader_paused(self, message: IncomingMessage) -> None:
        """Nobody reads ``message`` at present who did before."""

    def set_exchange_timeout(self, message: object, seconds: float | None) -> None:
        """Set the inactivity timeout for the exchange of ``message``, if it is still in work."""


_NONE = Framing.NONE
#: What a request has for a status, and a response for a URL. A listener knows which of them it has, and should not have
#: to rule None out, which is what it would be to a type checker.
_ABSENT: Any = None


@implementer(IIncomingMessage)
class IncomingMessage(ReadableBase):
    """See :class:`geventnode.interfaces.IIncomingMessage`. Made by a server or a client, never by their users."""

    events: ClassVar[frozenset[str]] = ReadableBase.events | {'aborted', 'timeout'}

    method: str = _ABSENT
    url: str = _ABSENT
    status_code: int = _ABSENT
    status_message: str = _ABSENT
    aborted: bool = False
    head: bytes = b''

    _headers: Headers | None = None
    _raw_headers: list[tuple[str, str]] | None = None
    _raw_trailers: list[tuple[str, str]] | None = None
    _trailers: Headers | None = None
    _known_client_address: ClientAddress | None = None
    #: Whether some of the body was thrown away.
    _discarded: bool = False
    #: The sizes of chunks whose lines were read, which the reader takes away; None: they are not kept.
    _chunk_sizes: deque[int] | None = None
    #: Body that came before anybody wanted it, and how much of it.
    _buffered: deque[bytes] | None = None
    _buffered_size: int = 0
    #: What cut the body short, behind what is kept.
    _failure: BaseException | None = None
    #: Whether the connection was handed over with this message.
    _upgraded: bool = False
    #: Whether the connection is to be notified of the end, even if no listener is.
    _notify_end: bool = False

    def __init__(self, head: RequestHead | ResponseHead, socket: Socket, source: MessageConnection) -> None:
        self._head = head
        self._connection = source
        self.socket = socket
        self.complete = head.framing is _NONE
        if isinstance(head, RequestHead):
            self.method = head.method
            self.url = head.url
        else:
            self.status_code = head.status_code
            self.status_message = head.status_message

    # -- the head -------------------------------------------------------------------------------------------------

    @property
    def http_version(self) -> str:
        return self._head.http_version

    @property
    def http_version_major(self) -> int:
        return int(self._head.http_version.partition('.')[0])

    @property
    def http_version_minor(self) -> int:
        return int(self._head.http_version.partition('.')[2])

    @property
    def upgrade(self) -> bool:
        return self._head.upgrade or self.method == 'CONNECT' or self._upgraded

    @property
    def connection(self) -> Socket:
        return self.socket

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = self._head.headers
        return self._headers

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        if self._raw_headers is None:
            self._raw_headers = self._head.raw_headers
        return self._raw_headers

    @property
    def headers_distinct(self) -> dict[str, list[str]]:
        return distinct(self._head.raw_headers)

    # -- where it comes from: worked out when first asked for -----------------------------------------------------

    @property
    def remote_address(self) -> str | None:
        return self.socket.remote_address if self._connection.forwarding is None else self._client_address.address

    @property
    def remote_port(self) -> int | None:
        return self._client_address.port

    @property
    def scheme(self) -> str:
        return self._client_address.scheme

    @property
    def host(self) -> str | None:
        return self._client_address.host

    @property
    def _client_address(self) -> ClientAddress:
        origin = self._known_client_address
        if origin is None:
            socket, policy = self.socket, self._connection.forwarding
            head, header = self._head, socket.proxy_header
            encrypted = socket.encrypted or (header is not None and header.encrypted)
            origin = ClientAddress(
                socket.remote_address,
                socket.remote_port,
                'https' if encrypted else 'http',
                head.requested_host if isinstance(head, RequestHead) else None,
            )
            if policy is not None:
                named = header is not None and header.source is not None
                origin = policy.resolve_scheme(
                    self.headers, origin, socket.proxy_address if named else socket.remote_address
                )
            # behind a proxy that does not know its client somebody unknown has written the request
            if policy is not None and (header is None or header.local or header.source is not None):
                origin = policy.resolve(self.headers, origin)
            self._known_client_address = origin
        return origin

    # -- the trailers ---------------------------------------------------------------------------------------------

    @property
    def raw_trailers(self) -> list[tuple[str, str]]:
        if self._raw_trailers is None or not self.readable_ended:
            return []
        return self._raw_trailers

    @property
    def trailers(self) -> Headers:
        if self._trailers is None:
            if not self.readable_ended:
                return Headers()
            self._trailers = Headers.from_raw(self.raw_trailers)
        return self._trailers

    @property
    def trailers_distinct(self) -> dict[str, list[str]]:
        return distinct(self.raw_trailers)

    def _set_complete(self, raw_trailers: list[tuple[str, str]]) -> None:
        """Called by the connection: the whole message was parsed."""
        self.complete = True
        self._raw_trailers = raw_trailers

    # -- the body -------------------------------------------------------------------------------------------------

    def _fetch(self) -> bytes:
        if self.destroyed:
            raise self._error or PrematureClose('the message was destroyed before it was read')
        if self._discarded:
            raise StreamError('the body was discarded: the response has ended before it was read')
        if self._buffered:
            chunk = self._buffered.popleft()
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
            and (self._mode is Mode.UNUSED or self._mode is Mode.SEQUENTIAL)
        ):
            data = self._take_rest()
            if data is not None:
                self._mode = Mode.SEQUENTIAL
                if self._listeners is None and not self._notify_end:
                    self.readable_ended = True
                else:
                    self._emit_end()
                return data
        return super().read(size)

    def _take_rest(self) -> bytes | None:
        """Return what is left when it is here in full, so that nobody need look for its end."""
        if self._discarded:
            return None
        kept = self._buffered
        if not self.complete:
            return None if kept or self._failure is not None else self._connection.take_body(self)
        if not kept:
            return b''
        data = kept[0] if len(kept) == 1 else b''.join(kept)
        kept.clear()
        self._buffered_size = 0
        return data

    def _buffer(self, chunk: bytes) -> None:
        """Called by the connection: hold ``chunk`` until somebody reads."""
        if self._buffered is None:
            self._buffered = deque()
        self._buffered.append(chunk)
        self._buffered_size += len(chunk)

    def _set_upgraded(self, rest: bytes) -> None:
        """Called by the connection: this message hands it over, and ``rest`` came behind it."""
        self._upgraded = True
        self.complete = True
        self.head = rest

    def _abort(self, error: BaseException) -> None:
        """Called by the connection: the rest of the body will not come."""
        self._failure = error
        self.aborted = True

    def _finish_abort(self) -> None:
        """Called by the connection, in a greenlet, after ``'aborted'``: emit what else belongs to :meth:`_abort`."""
        error = self._failure
        assert error is not None
        # who consumes it comes to the error behind what is left
        if not self._has_reader and not self._buffered_size and not self.destroyed and self.listener_count('error'):
            self._report_error(error)
        self.emit('close')

    @property
    def readable_length(self) -> int:
        return super().readable_length + self._buffered_size

    @property
    def _read_started(self) -> bool:
        """Whether a reader has begun to consume the body."""
        return self._mode is not Mode.UNUSED

    @property
    def _has_reader(self) -> bool:
        """Whether somebody waits for the body, or a pump hands it on."""
        return self._reading or (self._pump is not None and self._pump.busy)

    def _mark_discarded(self) -> None:
        """Called by the connection: a piece of the body was thrown away."""
        self._discarded = True

    def _on_discarded(self) -> None:
        """Called by the connection, in a greenlet: what was left of the body is consumed."""
        if self.complete and not self.destroyed:
            self._emit_end()

    def _on_listener_error(self, error: BaseException) -> None:
        self._connection.on_message_error(self, error)

    def _on_reader_paused(self) -> None:
        if not self.complete:
            self._connection.on_reader_paused(self)

    def _report_error(self, error: BaseException) -> None:
        # a body that was cut off and that nobody listens for is the connection's affair, and no reason for a traceback
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

    def set_timeout(self, seconds: float | None, callback: Callable[..., object] | None = None) -> Any:
        self._check_thread()
        if callback is not None:
            self.on('timeout', callback)
        self._connection.set_exchange_timeout(self, seconds)
        return self

    def __repr__(self) -> str:
        what = f'{self.method} {self.url}' if self.method is not None else f'{self.status_code} {self.status_message}'
        state = 'aborted' if self.aborted else 'complete' if self.complete else 'receiving'
        return f'<{type(self).__name__} {what} {state}>'


def describe_request(request: IncomingMessage) -> str:
    """Return what a line of a log calls ``request``: method and target, which are printable ASCII, cut to a sensible
    length."""
    text = f'{request.method} {request.url}'
    return text if len(text) <= MAX_LOGGED else f'{text[:MAX_LOGGED]}... ({len(text)} characters)'
