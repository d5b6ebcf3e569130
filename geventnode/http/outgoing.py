"""Messages to be sent: headers that can be changed until the head is fixed, then a body in one of three framings.

A subclass renders the head, in :meth:`OutgoingMessage._build_head`, when the first bytes are sent. It decides there, by
:mod:`geventnode.http.body_framing`, how the body ends: by its Content-Length if the length is known, otherwise by
chunks, or by the end of the connection where the peer does not know chunks. The head and the first piece of the body
are sent in one call.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import gevent
from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import ConnectionClosed, ContentLengthMismatch, HeadersSent, WriteAfterEnd
from geventnode.events import EventEmitter
from geventnode.http.header_fields import (
    Fields,
    HeadersArgument,
    add_values,
    check_field,
    check_trailers,
    copy_value,
    merge_headers,
)
from geventnode.interfaces import IOutgoingMessage
from geventnode.net.threads import wrong_thread_error
from geventnode.protocol import last_chunk
from geventnode.stream.chunks import as_bytes
from geventnode.stream.writable import Callback

if TYPE_CHECKING:
    from geventnode.net.socket import Socket

__all__ = ['JOIN_BELOW', 'OutgoingMessage', 'OutgoingState']

Self = TypeVar('Self', bound='OutgoingMessage')

#: Bytes below which a head and a body are joined; a larger body is sent as a second buffer of the same call.
JOIN_BELOW = 16384

#: The last chunk of a message without trailers.
LAST_CHUNK = last_chunk()

#: Fields that are added automatically, unless they were removed.
AUTOMATIC_FIELDS = frozenset({'date', 'connection', 'content-length', 'transfer-encoding'})


class OutgoingState(enum.Enum):
    """The progress of a message that is sent."""

    #: Headers can be set.
    OPEN = 'open'
    #: The head is fixed, but not sent.
    FIXED = 'fixed'
    #: The head was sent.
    BODY = 'body'
    #: ``end()`` was called.
    ENDED = 'ended'


_OPEN, _FIXED, _BODY, _ENDED = OutgoingState.OPEN, OutgoingState.FIXED, OutgoingState.BODY, OutgoingState.ENDED


@implementer(IOutgoingMessage)
class OutgoingMessage(EventEmitter):
    """A message to be sent: a response in a server, a request in a client.

    Servers and clients make these messages; programs do not. Headers can be set until the head is fixed, which the
    first :meth:`write`, :meth:`flush_headers` or :meth:`end` does. The body is written as to any
    :class:`~geventnode.stream.Writable`.

    Emits, besides the events of a writable stream, ``'close'`` () when the connection is lost before the message was
    sent, or when the server gives it up, and ``'timeout'`` (socket); see :meth:`set_timeout`.

    Node's documentation: http.OutgoingMessage.
    """

    events: ClassVar[frozenset[str]] = EventEmitter.events | {
        'drain',
        'finish',
        'pipe',
        'unpipe',
        'error',
        'close',
        'timeout',
    }

    #: Whether a Date header is added if there is none (RFC 9110, section 6.6.1).
    send_date: bool = True
    #: Whether the whole message was passed to the kernel.
    writable_finished: bool = False
    #: Whether ``'drain'`` will be emitted.
    writable_need_drain: bool = False
    #: How many times :meth:`cork` was called without :meth:`uncork`.
    writable_corked: int = 0
    #: Whether the message was destroyed, or its connection lost before its end.
    destroyed: bool = False
    #: Bytes of the body that were written, without their framing.
    body_size: int = 0

    _state: OutgoingState
    _fields: Fields
    #: Whether the server can send the message in fewer steps: it is one of HTTP/1.1, and none of cork(), on(),
    #: remove_header() and add_trailers() was called.
    _is_plain: bool = True
    _removed_fields: frozenset[str] = frozenset()
    _trailers: list[tuple[str, str]] | None = None

    #: Set by :meth:`_build_head`: whether the body is sent in chunks, the number of bytes it must have (None: any), and
    #: whether there is a body at all. Data that is written to a message without one is dropped.
    _chunked: bool = False
    _length: int | None = None
    _has_body: bool = True
    #: The pieces that were written between cork() and uncork(), and their size.
    _corked: list[bytes] | None = None
    _corked_size: int = 0
    _error: BaseException | None = None

    #: The socket, or the write buffer that replaces it until there is one. None: see :meth:`_attach`.
    _out: Any = None

    def __init__(self, socket: Socket) -> None:
        self._state = _OPEN
        self._fields = {}
        #: The hub of the thread that can call the methods.
        self._hub: Any = socket._hub
        #: The connection of the message; in a client, None before there is one.
        self.socket: Any = socket
        self._out = socket

    def _check_thread(self) -> None:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)

    def _listener_added(self, event: str) -> None:
        self._is_plain = False

    # -- for subclasses -------------------------------------------------------------------------------------------

    def _build_head(self, length: int | None) -> str:
        """Decide the framing, and return the head.

        :param length: the number of bytes in the body; None: not known yet.
        """
        raise HeadersSent('this message has no head')

    def _attach(self) -> Any:
        """Make the output for the first bytes, and return it."""
        raise ConnectionClosed('this message has no connection')

    def _on_complete(self) -> None:
        """React to the end of the message: all of it was passed to the socket. Called once."""

    def _on_queued(self) -> None:
        """React to the end, while a part is queued in the socket."""

    def _on_flushed(self) -> None:
        """React to the empty queue of the socket, after :meth:`_on_queued`."""

    def _on_short_body(self, missing: int) -> None:
        """React to an end that is ``missing`` bytes short of Content-Length.

        :meth:`_on_complete` is not called then.
        """

    def _on_destroyed(self, error: BaseException | None) -> None:
        """React to :meth:`destroy` before the end."""

    def _set_exchange_timeout(self, seconds: float | None) -> None:
        """Set the inactivity timeout of the connection for this exchange."""

    # -- the headers ----------------------------------------------------------------------------------------------

    def set_header(self: Self, name: str, value: Any) -> Self:
        """Set a header, replacing one of the same name in any case.

        Return the message.

        :param value: a str, an int, or a list of them; each item of a list makes a line of its own.

        Raises :exc:`~geventnode.errors.HeadersSent` if the head is fixed, ``TypeError`` for a value of another type,
        and :exc:`~geventnode.errors.InvalidHeader` if the name is not a token (RFC 9110, section 5.6.2). It raises
        that, too, if the value has control characters or characters outside latin-1.
        """
        if get_hub() is not self._hub or self._state is not _OPEN:
            self._check_headers_open('set')
        lower, checked = check_field(name, value)
        self._fields[lower] = name, checked
        return self

    def set_headers(self: Self, headers: HeadersArgument) -> Self:
        """Set several headers, each as :meth:`set_header` does.

        Return the message. If one of them is invalid, none is set.

        :param headers: a mapping, or (name, value) pairs; several pairs of one name make several lines.
        """
        self._check_headers_open('set')
        self._fields = merge_headers(self._fields, headers)
        return self

    def append_header(self: Self, name: str, value: Any) -> Self:
        """Add lines to a header, keeping those it has; return the message. Raises as :meth:`set_header` does."""
        self._check_headers_open('append')
        lower, checked = check_field(name, value)
        field = add_values(self._fields.get(lower), name, checked)
        check_field(*field)
        self._fields[lower] = field
        return self

    def get_header(self, name: str) -> Any:
        """Return the value of a header: a str, a list, or None."""
        present = self._fields.get(name.lower())
        return None if present is None else copy_value(present[1])

    def get_headers(self) -> dict[str, Any]:
        """Return a copy of the headers that were set, by lower-cased name."""
        return {lower: copy_value(value) for lower, (_, value) in self._fields.items()}

    def get_header_names(self) -> list[str]:
        """Return the lower-cased names of the headers, in their order."""
        return list(self._fields)

    def has_header(self, name: str) -> bool:
        """Return whether the header ``name``, in any case, was set."""
        return name.lower() in self._fields

    def remove_header(self, name: str) -> None:
        """Remove a header, and do not add it automatically: Date, Connection, Content-Length or Transfer-Encoding.

        Raises :exc:`~geventnode.errors.HeadersSent` if the head is fixed.
        """
        self._check_headers_open('remove')
        lower = name.lower()
        self._fields.pop(lower, None)
        if lower in AUTOMATIC_FIELDS:
            self._is_plain = False
            self._removed_fields |= {lower}

    def _check_headers_open(self, action: str) -> None:
        self._check_thread()
        if self._state is not _OPEN:
            raise HeadersSent(f'cannot {action} headers: the head is fixed')

    def add_trailers(self, headers: HeadersArgument) -> None:
        """Set the trailer section, replacing an earlier one.

        It is sent after a chunked body, and dropped if the body has another framing (RFC 9110, section 6.5).

        :param headers: a mapping, or (name, value) pairs; a list of values makes several lines.

        Raises :exc:`~geventnode.errors.InvalidHeader` as :meth:`set_header` does, and for a field that is not allowed
        in trailers, such as Content-Length or Host.
        """
        self._check_thread()
        self._is_plain = False
        self._trailers = check_trailers(headers)

    @property
    def headers_sent(self) -> bool:
        """Whether the head is fixed: headers can no longer change."""
        return self._state is not _OPEN

    @property
    def _head_sent(self) -> bool:
        """Whether the head was passed to the socket: another response can no longer replace this one."""
        return self._state is _BODY or self._state is _ENDED

    # -- the head -------------------------------------------------------------------------------------------------

    def flush_headers(self) -> None:
        """Send the head now, before any body. Has no effect after the head was sent.

        The length of the body is not known then: unless Content-Length was set, the body is sent in chunks.

        Raises :exc:`~geventnode.errors.ConnectionClosed` if the connection is lost.
        """
        self._check_thread()
        if self._state is _OPEN or self._state is _FIXED:
            self._check_alive()
            head = self._begin_body(None).encode('latin-1')
            (self._out or self._attach())._send(head)

    def _render_head(self, length: int | None) -> str:
        """Decide the framing again, and return the head."""
        self._chunked = False
        self._length = None
        return self._build_head(length)

    def _begin_body(self, length: int | None) -> str:
        """Return the head; the body is sent next."""
        head = self._render_head(length)
        self._state = _BODY
        return head

    # -- the body -------------------------------------------------------------------------------------------------

    def write(self, chunk: Any, encoding: str = 'utf-8', callback: Callback | None = None) -> bool:
        """Send a piece of the body.

        The head is sent with the first piece. Blocks until the queue of the socket is below
        ``writable_high_water_mark``.

        :param chunk: bytes, another bytes-like object, or a str.
        :param encoding: the encoding of a str.
        :param callback: called without arguments after the piece was passed to the kernel.
        :return: False if a part is queued; ``'drain'`` is emitted after the queue was sent. Callers can ignore it: the
            next call blocks.

        Raises :exc:`~geventnode.errors.WriteAfterEnd`, :exc:`~geventnode.errors.ConnectionClosed` if the connection is
        lost, and :exc:`~geventnode.errors.ContentLengthMismatch` if the body becomes longer than Content-Length; the
        piece is not sent then.
        """
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        data = chunk if type(chunk) is bytes else as_bytes(chunk, encoding)
        out = self._out
        size = len(data)
        if (
            self._state is _BODY
            and self._chunked
            and callback is None
            and 0 < size < JOIN_BELOW
            and not self.writable_corked
            and not self.destroyed
            and not out.destroyed
            and out.writable_length < out.writable_high_water_mark
        ):
            # a usual piece after the first one: as below, in fewer steps
            self.body_size += size
            piece = b'%x\r\n%b\r\n' % (size, data)  # type: ignore[str-format]  # a memoryview is formatted, too
            return out._send(piece) or self._after_write(False, None)
        if self._state is _ENDED:
            raise WriteAfterEnd(f'write() after end() on this {type(self).__name__}')
        self._check_alive()
        if self.writable_corked:
            return self._add_corked(data if type(data) is bytes else bytes(data), callback)
        if out is not None and out.writable_length >= out.writable_high_water_mark:
            self._wait_for_drain()
            if self._state is _ENDED:
                raise WriteAfterEnd(
                    f'another greenlet called end() while write() was waiting on this {type(self).__name__}'
                )
        return self._send(data, callback)

    def _send(self, data: bytes | memoryview, callback: Callback | None) -> bool:
        """Send ``data`` in its framing, and the head before it if necessary."""
        size = len(data)
        head = b''
        if self._state is not _BODY:
            if not size:
                # the head is fixed, and sent with the first bytes: only the last chunk can be empty
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
                self._await_drain()
            if callback is not None:
                self._out._when_flushed(callback)
        elif callback is not None:
            callback()
        return flushed

    def _await_drain(self) -> None:
        self._out._when_flushed(self._on_drained)

    def _on_drained(self) -> None:
        if self._out.writable_length and not self._out.destroyed:
            # more data was queued meanwhile
            self._await_drain()
            return
        self.writable_need_drain = False
        if self._state is not _ENDED:
            self.emit('drain')

    def end(self: Self, data: Any = None, encoding: str = 'utf-8', callback: Callback | None = None) -> Self:
        """Send the last piece of the body; return the message.

        If nothing was sent before, Content-Length is the size of ``data``. A second call has no effect. Blocks until
        the queue of the socket is below ``writable_high_water_mark``; the bytes queued afterwards are sent in the
        background.

        :param data: as for :meth:`write`; None: nothing.
        :param callback: a listener for ``'finish'``: the whole message was passed to the kernel.

        Raises :exc:`~geventnode.errors.ConnectionClosed` if the connection is lost,
        :exc:`~geventnode.errors.ContentLengthMismatch` if the body is longer than Content-Length, and
        :exc:`~geventnode.errors.WriteAfterEnd` for data after the end.
        """
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
        if out.writable_length >= out.writable_high_water_mark:
            self._wait_for_drain()
            if self._state is _ENDED:
                # another greenlet called end() meanwhile
                return self.end(body, callback=callback)
            out = self._out
        if callback is not None:
            self.once('finish', callback)
        if self.writable_corked:
            self.writable_corked = 0
            if self._corked is not None:
                body = b''.join((*self._corked, body))
                self._corked = None
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
        """Send a message of which the whole body is known."""
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
            return out._send(last_chunk(self._trailers) if self._trailers else LAST_CHUNK)
        return not out.writable_length

    def _on_finished(self) -> None:
        self._on_flushed()
        self.writable_finished = True
        self.emit('finish')

    def cork(self) -> None:
        """Collect the next pieces, to send them as one.

        They are sent by :meth:`uncork` or :meth:`end`. More than ``writable_high_water_mark`` bytes are sent all the
        same, so that memory stays limited.
        """
        self._check_thread()
        self._is_plain = False
        self.writable_corked += 1

    def uncork(self) -> None:
        """Undo one :meth:`cork`; the last one sends the collected pieces. Blocks as :meth:`write` does."""
        self._check_thread()
        if self.writable_corked == 1 and self._corked and not self._has_room():
            # a caller that is interrupted here finds the pieces where they were
            self._wait_for_drain()
        if self.writable_corked:
            self.writable_corked -= 1
            if not self.writable_corked and self._corked:
                chunks, self._corked = self._corked, None
                self.write(b''.join(chunks))

    def _has_room(self) -> bool:
        """Return whether :meth:`write` would send without waiting."""
        out = self._out
        return out is None or out.writable_length < out.writable_high_water_mark

    def _add_corked(self, data: bytes, callback: Callback | None) -> bool:
        collected = self._corked_size if self._corked else 0
        if collected + len(data) >= self.writable_high_water_mark and not self._has_room():
            # before the piece is added: an interrupted call has no effect
            self._wait_for_drain()
            return self.write(data, callback=callback)
        if self._corked is None:
            self._corked = []
            self._corked_size = 0
        self._corked.append(data)
        self._corked_size += len(data)
        if callback is not None:
            self.once('finish', callback)
        if self._corked_size >= self.writable_high_water_mark:
            # limit the memory of a caller that never uncorks
            chunks, self._corked = self._corked, None
            corked, self.writable_corked = self.writable_corked, 0
            try:
                return self.write(b''.join(chunks))
            finally:
                self.writable_corked = corked
        return False

    def _wait_for_drain(self) -> None:
        self._out._wait_for_drain()
        self._check_alive()

    # -- state ----------------------------------------------------------------------------------------------------

    def _check_alive(self) -> None:
        if self.destroyed or self._out.destroyed:
            error = ConnectionClosed('the connection of this message was closed')
            error.__cause__ = self._error or self._out._error
            raise error

    @property
    def finished(self) -> bool:
        """Whether :meth:`end` was called. The same as :attr:`writable_ended`, under Node's older name."""
        return self._state is _ENDED

    @property
    def writable_ended(self) -> bool:
        """Whether :meth:`end` was called."""
        return self._state is _ENDED

    @property
    def writable(self) -> bool:
        """Whether :meth:`write` can be called."""
        return self._state is not _ENDED and not self.destroyed

    @property
    def writable_length(self) -> int:
        """Bytes that were written, and are queued or corked."""
        queued: int = self._out.writable_length
        return queued + (self._corked_size if self._corked else 0)

    @property
    def writable_high_water_mark(self) -> int:
        """Bytes in the queue of the socket at which :meth:`write` blocks."""
        mark: int = self._out.writable_high_water_mark
        return mark

    @property
    def connection(self) -> Any:
        """The same as :attr:`socket`, under Node's older name."""
        return self.socket

    def set_timeout(self: Self, seconds: float | None, callback: Callable[..., object] | None = None) -> Self:
        """Set the connection's inactivity timeout for this exchange; return the message.

        ``'timeout'`` is emitted with the socket. The exchange ends if there is no listener for it.

        :param seconds: seconds without received or sent bytes; None or 0: no limit.
        :param callback: a listener for ``'timeout'``.
        """
        self._check_thread()
        if callback is not None:
            self.on('timeout', callback)
        self._set_exchange_timeout(seconds)
        return self

    def destroy(self: Self, error: BaseException | None = None) -> Self:
        """Abort the message; return it.

        Its connection is closed, unless the message has ended.

        :param error: emitted as ``'error'`` if there is a listener.
        """
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
