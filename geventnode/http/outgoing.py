"""Messages to be sent: headers that can be changed until the head is fixed, then a body in one of three framings.

A subclass renders the head, in :meth:`OutgoingMessage._build_head`, when the first bytes are sent. It decides there, by
:mod:`geventnode.http.body_framing`, how the body ends: by its Content-Length if the length is known, otherwise by
chunks, or by the end of the connection where the peer does not know chunks. The head and the first piece of the body
are sent in one call.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import gevent
from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import ConnectionClosed, ContentLengthMismatch, HeadersSent, WriteAfterEnd
from geventnode.events import EventEmitter
from geventnode.http.header_fields import Fields, HeadersArgument, add_values, check_field, check_trailers, copy_value
from geventnode.interfaces import IOutgoingMessage
from geventnode.net.threads import wrong_thread_error
from geventnode.protocol import last_chunk
from geventnode.stream.chunks import as_bytes
from geventnode.stream.writable import Callback

if TYPE_CHECKING:
    from geventnode.net.socket import Socket

__all__ = ['JOIN_BELOW', 'OutgoingMessage', 'OutgoingState']

Self = TypeVar('Self', bound='OutgoingMessage')

#: A head and a body up to this many bytes together are joined; larger ones leave as two pieces of one call.
JOIN_BELOW = 16384

#: Fields that are added by themselves, unless they were removed.
AUTOMATIC_FIELDS = frozenset({'date', 'connection', 'content-length', 'transfer-encoding'})


class OutgoingState(enum.Enum):
    """How much of a message was sent."""

    #: Headers can be set.
    OPEN = 'open'
    #: The head is fixed, and not sent.
    FIXED = 'fixed'
    #: The head was sent.
    BODY = 'body'
    #: ``end()`` was called.
    ENDED = 'ended'


_OPEN, _FIXED, _BODY, _ENDED = OutgoingState.OPEN, OutgoingState.FIXED, OutgoingState.BODY, OutgoingState.ENDED


@implementer(IOutgoingMessage)
class OutgoingMessage(EventEmitter):
    """See :class:`geventnode.interfaces.IOutgoingMessage`."""

    events: ClassVar[frozenset[str]] = EventEmitter.events | {
        'drain',
        'finish',
        'pipe',
        'unpipe',
        'error',
        'close',
        'timeout',
    }

    send_date: bool = True
    writable_finished: bool = False
    writable_need_drain: bool = False
    writable_corked: int = 0
    destroyed: bool = False

    _state: OutgoingState = _OPEN
    _fields: Fields
    _removed_fields: frozenset[str] = frozenset()
    _trailers: list[tuple[str, str]] | None = None

    #: How many bytes of body were handed in.
    body_size: int = 0

    #: Set by :meth:`_build_head`: whether the body is sent in chunks, how many bytes it must have (None: any number),
    #: and whether there is a body at all; data that is written is dropped otherwise.
    _chunked: bool = False
    _length: int | None = None
    _has_body: bool = True
    _corked: list[bytes] | None = None
    _error: BaseException | None = None

    #: What is written to: the socket, or what stands in for one that is not there yet. None: see :meth:`_attach`.
    _out: Any = None

    def __init__(self, socket: Socket) -> None:
        self._fields = {}
        #: The hub of the thread that may call the methods.
        self._hub: Any = socket._hub
        self.socket: Any = socket
        self._out = socket

    def _check_thread(self) -> None:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)

    # -- for subclasses -------------------------------------------------------------------------------------------

    def _build_head(self, length: int | None) -> str:
        """Decide the framing, and return the head; ``length`` is the number of body bytes when all of them are
        known."""
        raise HeadersSent('this message has no head')

    def _attach(self) -> Any:
        """Provide what is written to, for the first bytes."""
        raise ConnectionClosed('this message has no connection')

    def _on_complete(self) -> None:
        """Called once, when everything was handed to the socket. May switch."""

    def _on_queued(self) -> None:
        """The message has ended, and some of it is still queued."""

    def _on_flushed(self) -> None:
        """What was queued then has gone to the kernel."""

    def _on_short_body(self, missing: int) -> None:
        """The message ended with ``missing`` bytes less than it declared. Called in place of :meth:`_on_complete`."""

    def _on_destroyed(self, error: BaseException | None) -> None:
        """The message was destroyed before its end."""

    def _set_exchange_timeout(self, seconds: float | None) -> None:
        """Set the connection's inactivity timeout for this exchange."""

    # -- the headers ----------------------------------------------------------------------------------------------

    def set_header(self: Self, name: str, value: Any) -> Self:
        self._check_headers_open('set')
        lower, checked = check_field(name, value)
        self._fields[lower] = name, checked
        return self

    def append_header(self: Self, name: str, value: Any) -> Self:
        self._check_headers_open('append')
        lower, checked = check_field(name, value)
        field = add_values(self._fields.get(lower), name, checked)
        check_field(*field)
        self._fields[lower] = field
        return self

    def get_header(self, name: str) -> Any:
        present = self._fields.get(name.lower())
        return None if present is None else copy_value(present[1])

    def get_headers(self) -> dict[str, Any]:
        return {lower: copy_value(value) for lower, (_, value) in self._fields.items()}

    def get_header_names(self) -> list[str]:
        return list(self._fields)

    def has_header(self, name: str) -> bool:
        return name.lower() in self._fields

    def remove_header(self, name: str) -> None:
        self._check_headers_open('remove')
        lower = name.lower()
        self._fields.pop(lower, None)
        if lower in AUTOMATIC_FIELDS:
            self._removed_fields |= {lower}

    def _check_headers_open(self, action: str) -> None:
        self._check_thread()
        if self._state is not _OPEN:
            raise HeadersSent(f'cannot {action} headers: the head is fixed')

    def add_trailers(self, headers: HeadersArgument) -> None:
        self._check_thread()
        self._trailers = check_trailers(headers)

    @property
    def headers_sent(self) -> bool:
        return self._state is not _OPEN

    @property
    def _head_sent(self) -> bool:
        """Whether the head was handed to the socket: too late for another answer."""
        return self._state is _BODY or self._state is _ENDED

    # -- the head -------------------------------------------------------------------------------------------------

    def flush_headers(self) -> None:
        self._check_thread()
        if self._state is _OPEN or self._state is _FIXED:
            self._check_alive()
            head = self._begin_body(None).encode('latin-1')
            (self._out or self._attach())._send(head)

    def _render_head(self, length: int | None) -> str:
        """Return the head, with the framing decided anew."""
        self._chunked = False
        self._length = None
        return self._build_head(length)

    def _begin_body(self, length: int | None) -> str:
        """Render the head and go on to the body."""
        head = self._render_head(length)
        self._state = _BODY
        return head

    # -- the body -------------------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Callback | None = None) -> bool:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        data = chunk if type(chunk) is bytes else as_bytes(chunk, encoding)
        if self._state is _ENDED:
            raise WriteAfterEnd(f'write() after end() on this {type(self).__name__}')
        self._check_alive()
        if self.writable_corked:
            return self._add_corked(bytes(data), callback)
        out = self._out
        if out is not None and out.writable_length >= out.writable_high_water_mark:
            self._wait_for_room()
            if self._state is _ENDED:
                raise WriteAfterEnd(
                    f'end() by another greenlet before there was room for write() on this {type(self).__name__}'
                )
        return self._send(data, callback)

    def _send(self, data: bytes | memoryview, callback: Callback | None) -> bool:
        """Send ``data`` in the framing of this message, after the head if that was not sent."""
        size = len(data)
        head = b''
        if self._state is not _BODY:
            if not size:
                # the head is fixed, and goes with the first bytes (there is no empty chunk but the last)
                self._state = _FIXED
                return self._after_write(True, callback)
            head = self._begin_body(None).encode('latin-1')
        out = self._out
        if out is None:
            out = self._attach()
        self.body_size += size
        if not self._has_body:
            return self._after_write(not head or out._send(head), callback)
        if self._length is not None and self.body_size > self._length:
            self.body_size -= size
            if head:
                self._state = _FIXED
            raise ContentLengthMismatch(
                f'Content-Length is {self._length}, and this write would make the body {self.body_size + size} bytes'
            )
        if self._chunked and size:
            head += b'%x\r\n' % size
            if size < JOIN_BELOW:
                flushed = out._send(b''.join((head, data, b'\r\n')))
            else:
                out._send_vectored(head, data)
                flushed = out._send(b'\r\n')
        elif not head:
            flushed = out._send(data)
        elif size < JOIN_BELOW:
            flushed = out._send(head + data)
        else:
            flushed = out._send_vectored(head, data)
        return self._after_write(flushed, callback)

    def _after_write(self, flushed: bool, callback: Callback | None) -> bool:
        if not flushed:
            if not self.writable_need_drain:
                self.writable_need_drain = True
                self._out._when_flushed(self._on_drained)
            if callback is not None:
                self._out._when_flushed(callback)
        elif callback is not None:
            callback()
        return flushed

    def _on_drained(self) -> None:
        if self._out.writable_length and not self._out.destroyed:
            # more was queued behind it
            self._out._when_flushed(self._on_drained)
            return
        self.writable_need_drain = False
        if self._state is not _ENDED:
            self.emit('drain')

    def end(self: Self, data: Any = None, encoding: str = 'utf-8', callback: Callback | None = None) -> Self:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        if type(data) is bytes:
            body: bytes | memoryview = data
        else:
            body = b'' if data is None else as_bytes(data, encoding)
        if self._state is _ENDED:
            if body:
                raise WriteAfterEnd(f'end() with data after end() on this {type(self).__name__}')
            if callback is not None:
                callback()
            return self
        out = self._out
        if out is None:
            out = self._attach()
        if self.destroyed or out.destroyed:
            self._check_alive()
        if callback is not None:
            self.once('finish', callback)
        if self.writable_corked:
            self.writable_corked = 0
            if self._corked is not None:
                body = b''.join((*self._corked, body))
                self._corked = None
        if out.writable_length >= out.writable_high_water_mark:
            self._wait_for_room()
            if self._state is _ENDED:
                # another greenlet was faster
                return self.end(body)
            out = self._out
        if self._state is not _BODY:
            flushed = self._send_message(body)
        else:
            if body:
                self._send(body, None)
            flushed = self._send_end()
        self._state = _ENDED
        if self._length is not None and self.body_size < self._length and self._has_body:
            self._on_short_body(self._length - self.body_size)
            return self
        self._on_complete()
        if not flushed:
            self._on_queued()
            out._when_flushed(self._on_finished)
        elif self._listeners is None:
            self.writable_finished = True
        else:
            self._on_finished()
        return self

    def _send_message(self, body: bytes | memoryview) -> bool:
        """Send a message whose whole body is at hand."""
        size = len(body)
        head = self._begin_body(size).encode('latin-1')
        if self._length is not None and size > self._length and self._has_body:
            self._state = _FIXED
            raise ContentLengthMismatch(f'Content-Length is {self._length}, and the body has {size} bytes')
        self.body_size = size
        out: Socket = self._out
        if not size or not self._has_body:
            if self._chunked:
                return out._send(head + last_chunk(self._trailers or ()))
            return out._send(head)
        if self._chunked:
            return out._send(b''.join((head, b'%x\r\n' % size, body, b'\r\n', last_chunk(self._trailers or ()))))
        if size < JOIN_BELOW:
            return out._send(head + body)
        return out._send_vectored(head, body)

    def _send_end(self) -> bool:
        out: Socket = self._out
        if self._chunked:
            return out._send(last_chunk(self._trailers or ()))
        return not out.writable_length

    def _on_finished(self) -> None:
        self._on_flushed()
        self.writable_finished = True
        self.emit('finish')

    def cork(self) -> None:
        self._check_thread()
        self.writable_corked += 1

    def uncork(self) -> None:
        self._check_thread()
        if self.writable_corked:
            self.writable_corked -= 1
            if not self.writable_corked and self._corked:
                held, self._corked = self._corked, None
                self.write(b''.join(held))

    def _add_corked(self, data: bytes, callback: Callback | None) -> bool:
        if self._corked is None:
            self._corked = []
        self._corked.append(data)
        if callback is not None:
            self.once('finish', callback)
        if sum(map(len, self._corked)) >= self.writable_high_water_mark:
            # memory stays bounded whatever the caller wants
            held, self._corked = self._corked, None
            corked, self.writable_corked = self.writable_corked, 0
            try:
                return self.write(b''.join(held))
            finally:
                self.writable_corked = corked
        return False

    def _wait_for_room(self) -> None:
        self._out._wait_for_drain()
        self._check_alive()

    # -- state ----------------------------------------------------------------------------------------------------

    def _check_alive(self) -> None:
        if self.destroyed or self._out.destroyed:
            error = ConnectionClosed('the connection of this message is gone')
            error.__cause__ = self._error or self._out._error
            raise error

    @property
    def finished(self) -> bool:
        return self._state is _ENDED

    @property
    def writable_ended(self) -> bool:
        return self._state is _ENDED

    @property
    def writable(self) -> bool:
        return self._state is not _ENDED and not self.destroyed

    @property
    def writable_length(self) -> int:
        queued: int = self._out.writable_length
        return queued + (sum(map(len, self._corked)) if self._corked else 0)

    @property
    def writable_high_water_mark(self) -> int:
        mark: int = self._out.writable_high_water_mark
        return mark

    @property
    def connection(self) -> Any:
        return self.socket

    def set_timeout(self: Self, seconds: float | None, callback: Any = None) -> Self:
        self._check_thread()
        if callback is not None:
            self.on('timeout', callback)
        self._set_exchange_timeout(seconds)
        return self

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        self._check_thread()
        if not self.destroyed:
            self.destroyed = True
            self._error = error
            if error is not None and self.listener_count('error'):
                gevent.spawn(self._emit_error, error)
            self._on_destroyed(error)
        return self

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {"destroyed" if self.destroyed else self._state.value}>'
