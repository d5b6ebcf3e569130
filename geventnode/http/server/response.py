"""The response to a request.

Its head decides how the body ends, and whether the connection can serve another request.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import gevent
from gevent import get_hub
from zope.interface import implementer

from geventnode.errors import BodyNotAllowed, ConnectionClosed, ContentLengthMismatch, HeadersSent, InvalidInput
from geventnode.http.body_framing import BODILESS_STATUSES, frame_response
from geventnode.http.body_source import BodySource, check_file
from geventnode.http.header_fields import (
    Fields,
    HeadersArgument,
    check_field,
    check_transfer_encoding,
    field_lines,
    join_field,
    merge_headers,
)
from geventnode.http.incoming import describe_request
from geventnode.http.outgoing import JOIN_BELOW, OutgoingMessage, OutgoingState
from geventnode.http.server.head_cache import render_plain_fields
from geventnode.http.server.response_head import RESPONSE_FRAMING_FIELDS, STANDARD_LINES, final_status_line
from geventnode.http.status import STATUS_CODES, date_line
from geventnode.interfaces import IServerResponse
from geventnode.net.threads import wrong_thread_error
from geventnode.protocol import Framing, connection_options
from geventnode.stream.chunks import as_bytes

if TYPE_CHECKING:
    from geventnode.http.incoming import IncomingMessage
    from geventnode.http.server.connection import Connection
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['ServerResponse']

_OPEN, _FIXED, _BODY, _ENDED = OutgoingState.OPEN, OutgoingState.FIXED, OutgoingState.BODY, OutgoingState.ENDED
_NONE, _CHUNKED, _UNTIL_CLOSE = Framing.NONE, Framing.CHUNKED, Framing.UNTIL_CLOSE


#: Attributes of usual responses; an instance has at most 30 without a dict of its own.
USUAL_ATTRIBUTES = (
    *('request', 'should_keep_alive', 'socket', 'status_code', 'status_message', 'destroyed', 'body_size'),
    *('writable_corked', 'writable_finished', '_chunked', '_connection', '_corked', '_corked_size', '_declared'),
    *('_fields', '_has_body', '_hub', '_is_plain', '_length', '_listeners', '_out', '_start', '_state', '_status_line'),
)


class _WrongName:
    """Reject a misspelled attribute, and name the right one.

    Without this, an assignment to it would have no effect.
    """

    def __init__(self, right: str) -> None:
        self._right = right

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, thing: object, owner: type) -> NoReturn:
        raise AttributeError(f'{owner.__name__} has no attribute {self._name!r}; use {self._right!r}')

    def __set__(self, thing: object, value: Any) -> NoReturn:
        self.__get__(thing, type(thing))


@implementer(IServerResponse)
class ServerResponse(OutgoingMessage):
    """The response to one request. The server makes it, never a user.

    The complete response to a pipelined request can be delayed until the end of this turn of the loop, and sent
    together with the next one. It counts as sent at once. A listener that blocks the loop delays it, and it is lost if
    the process dies. A response with listeners is never delayed.
    """

    #: The status to be sent; afterwards, the status that was sent.
    status_code: int = 200
    #: The reason phrase; None: the standard one.
    status_message: str | None = None

    #: Names from other libraries, which are rejected.
    status = _WrongName('status_code')
    statusCode = _WrongName('status_code')  # noqa: N815
    statusMessage = _WrongName('status_message')  # noqa: N815

    #: The fixed status line, without its line end.
    _status_line: str | None = None
    #: The checked and rendered beginning of a fixed head, without its last line end: the status line and all fields,
    #: except Content-Length, which is :attr:`_declared`. None: it is rendered when it is sent.
    _start: str | None = None
    _declared: str | None = None

    #: Whether the client waits for 100 Continue.
    _awaits_continue: bool = False
    #: Whether ``timeout`` and ``request_timeout`` exclude the time in which the listener blocks.
    handler_may_block: bool = False
    #: Whether the connection was upgraded or hijacked instead of a response.
    _upgraded: bool = False
    #: Whether the server sends an error response if the body fails before the head was sent, even if the reader handles
    #: the error.
    _rejects_bad_body: bool = False
    #: Whether the server has sent an error response instead of this response.
    _overridden: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _reserve_attributes(cls)

    def __init__(self, request: IncomingMessage, connection: Connection) -> None:
        self._state = _OPEN
        self._is_plain = True
        self.destroyed = False
        self._fields = {}
        self.socket = self._out = request.socket
        #: The request that this is the response to.
        self.request = request
        self._connection = connection
        self._hub = connection.hub
        #: Whether the connection can serve another request afterwards.
        self.should_keep_alive = request._head.keep_alive

    @property
    def server(self) -> Server:
        """The server that received the request."""
        return self._connection.server

    # -- the head -------------------------------------------------------------------------------------------------

    def write_head(
        self, status_code: int, reason_phrase: Any = None, headers: HeadersArgument | None = None
    ) -> ServerResponse:
        """Fix the status and the headers.

        They are sent with the first bytes of the body, or by ``end()``. The reason phrase can be omitted, as in
        ``write_head(200, {'content-type': 'text/plain'})``.

        :param status_code: from 200 to 999.
        :param reason_phrase: None: the standard one (RFC 9110, section 15).
        :param headers: a mapping or an iterable of pairs. They replace headers of the same name that were set before.

        Returns the response. Raises ``HeadersSent`` the second time, ``InvalidInput`` (a ``ValueError``) for a bad
        status or a reason phrase with control characters, ``TypeError`` for a status that is not an int, and
        ``InvalidHeader`` as ``set_header()`` does.
        """
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        if self._state is not _OPEN:
            raise HeadersSent('write_head() was called before, or the head was sent')
        if headers is None and type(reason_phrase) is dict:
            reason_phrase, headers = None, reason_phrase
        if type(headers) is dict and reason_phrase is None and not self._fields and self.status_message is None:
            # the most frequent case
            line = STANDARD_LINES.get(status_code)
            if line is not None and type(status_code) is int:
                rendered = render_plain_fields(line, headers.items(), True)
                if rendered is not None:
                    self._fields, self._start, self._declared = rendered
                    self._status_line = line
                    self.status_code = status_code
                    self._state = _FIXED
                    return self
        if reason_phrase is not None and not isinstance(reason_phrase, str):
            if headers is not None:
                raise TypeError(f'a reason phrase must be str, not {type(reason_phrase).__name__}')
            reason_phrase, headers = None, reason_phrase
        if reason_phrase is None:
            reason_phrase = self.status_message
        line = final_status_line(status_code, reason_phrase)
        if headers is not None:
            fields = merge_headers(self._fields, headers)
            if 'transfer-encoding' in fields:
                check_transfer_encoding(fields)
            self._fields = fields
        self.status_code = status_code
        self.status_message = reason_phrase
        self._status_line = line
        self._state = _FIXED
        return self

    def _write_rendered(self, status_code: int, reason: str | None, fields: Fields, line: str, start: str) -> bool:
        """Fix the status and the headers with a checked and rendered head.

        No header was set, and the caller is in the thread of the connection. Returns False, without an effect, if the
        head is fixed already.

        :param fields: the fields in ``start``.
        :param line: the status line, without its line end.
        :param start: as :attr:`_start`.
        """
        if self._state is not _OPEN:
            return False
        self._fields = fields
        self._start = start
        self._status_line = line
        self.status_code = status_code
        self.status_message = reason
        self._state = _FIXED
        return True

    def _build_head(self, length: int | None) -> str:
        # end() renders the most frequent heads in fewer steps
        fields = self._fields
        status = self.status_code
        # first: a bad status must change nothing
        line = self._status_line or final_status_line(status, self.status_message)
        framing = self._frame_body(length)
        adds_date = self.send_date and 'date' not in fields and 'date' not in self._removed_fields
        date = date_line() if adds_date else ''
        connection = self._connection_line(length is not None)
        start = self._start
        if start is None or self._declared is not None:
            start = f'{line}\r\n{field_lines(fields)}'[:-2]
        return f'{start}\r\n{date}{connection}{framing}\r\n'

    def _render_start(self) -> tuple[str | None, str | None]:
        """Return :attr:`_start` and :attr:`_declared` of checked fields.

        Both are None if there are other fields about framing or the connection.
        """
        fields = self._fields
        declared: str | None = None
        if not RESPONSE_FRAMING_FIELDS.isdisjoint(fields):
            others = fields.copy()
            declared = others.pop('content-length', ('', None))[1]
            if not RESPONSE_FRAMING_FIELDS.isdisjoint(others):
                return None, None
            fields = others
        line = self._status_line or final_status_line(self.status_code, self.status_message)
        try:
            return '\r\n'.join([line, *map(join_field, fields.values())]), declared
        except TypeError:
            # a list of values
            return f'{line}\r\n{field_lines(fields)}'[:-2], declared

    # -- the body -------------------------------------------------------------------------------------------------

    def end(
        self, data: Any = None, encoding: str = 'utf-8', callback: Callable[[], object] | None = None
    ) -> ServerResponse:
        """Send the last piece of the body; return the response.

        If nothing was sent before, Content-Length is the size of ``data``. A second call has no effect. Blocks until
        the queue of the socket is below ``writable_high_water_mark``; the bytes queued afterwards are sent in the
        background.

        :param data: bytes, another bytes-like object, or a str; None: nothing.
        :param encoding: the encoding of a str.
        :param callback: a listener for ``'finish'``: the whole response was passed to the kernel.

        Raises :exc:`~geventnode.errors.ConnectionClosed` if the connection is lost,
        :exc:`~geventnode.errors.ContentLengthMismatch` if the body is longer than Content-Length, and
        :exc:`~geventnode.errors.WriteAfterEnd` for data after the end.
        """
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        state = self._state
        request = self.request
        server = self._connection.server
        out = self._out
        if not (
            (state is _FIXED or state is _OPEN)
            and self._is_plain
            and callback is None
            and not self.destroyed
            and self.send_date
            and self.should_keep_alive
            and request.complete
            and request.method != 'HEAD'
            and not server.draining
            and not server._at_capacity
            and not server._request_limit
            and out.writable_length < out.writable_high_water_mark
        ):
            return super().end(data, encoding, callback)
        # the most frequent case: as the method of the base class and _build_head(), in fewer steps
        start = self._start
        declared: str | None
        if start is not None:
            declared = self._declared
        else:
            start, declared = self._render_start()
            if start is None:
                return super().end(data, encoding, callback)
        body: bytes | memoryview = b''
        text = ''
        if type(data) is bytes:
            body = data
            size = len(data)
        elif type(data) is str and encoding == 'utf-8' and data.isascii():
            text = data
            size = len(data)
        elif data is not None:
            body = as_bytes(data, encoding)
            size = len(body)
        else:
            size = 0
        if self.status_code in BODILESS_STATUSES:
            if declared is not None or self.status_code == 205:
                return super().end(data, encoding, callback)
            self._has_body = False
            body = b''
            head = f'{start}\r\n{date_line()}{server._keep_alive_fields}\r\n'
        elif declared is None or (declared == f'{size}' and self._fields['content-length'][0] == 'Content-Length'):
            head = f'{start}\r\n{date_line()}{server._keep_alive_fields}Content-Length: {size}\r\n\r\n{text}'
        elif declared == f'{size}':
            # joined: a format could replace the checked text of a subclass of str, as that of an enum does
            name = join_field((self._fields['content-length'][0], ''))
            head = f'{start}\r\n{date_line()}{server._keep_alive_fields}{name}{size}\r\n\r\n{text}'
        else:
            return super().end(data, encoding, callback)
        self.body_size = size
        self._state = _BODY
        if size < JOIN_BELOW or text:
            message = head.encode('latin-1') + body
            if out._batching:
                out._send_later(message)
                flushed = True
            else:
                flushed = out._send(message)
        else:
            flushed = out._send_vectored(head.encode('latin-1'), body)
        self._state = _ENDED
        self._on_complete()
        if flushed:
            self.writable_finished = True
        else:
            self._on_queued()
            out._when_flushed(self._on_finished)
        return self

    def _frame_body(self, length: int | None) -> str:
        """Set how the body ends, and return the field line for it."""
        fields = self._fields
        request = self.request
        method = request.method
        kind, self._length, line = frame_response(
            self.status_code, method, request._head.http_version, fields, self._removed_fields, self._trailers, length
        )
        self._has_body = has_body = kind is not _NONE and method != 'HEAD'
        if kind is _CHUNKED:
            self._chunked = has_body
        elif kind is _UNTIL_CLOSE:
            fields.pop('transfer-encoding', None)
            if has_body:
                self.should_keep_alive = False
                # a body that is cut short must not look complete (RFC 9112, section 8)
                self.socket._reset_unless_ended()
        elif kind is _NONE:
            # RFC 9112, section 6.1: no Transfer-Encoding; RFC 9110, section 8.6: no Content-Length but that of GET
            fields.pop('transfer-encoding', None)
            if self.status_code != 304:
                fields.pop('content-length', None)
        return line

    def _connection_line(self, whole: bool) -> str:
        """Decide whether the connection stays open, and return its field."""
        connection = self._connection
        if self.should_keep_alive and not connection.can_keep_alive(self, whole):
            self.should_keep_alive = False
        given = self._fields.get('connection')
        if given is None:
            if not self.should_keep_alive:
                return 'Connection: close\r\n'
            if 'connection' in self._removed_fields:
                return ''
            return (
                'Connection: keep-alive\r\n' if 'keep-alive' in self._fields else connection.server._keep_alive_fields
            )
        value = given[1]
        if 'close' in connection_options(value if isinstance(value, list) else [value]):
            self.should_keep_alive = False
            return ''
        return '' if self.should_keep_alive else 'Connection: close\r\n'

    # -- informational responses ----------------------------------------------------------------------------------

    def write_continue(self, callback: Callable[[], object] | None = None) -> None:
        """Send ``100 Continue`` if the client waits for it.

        See RFC 9110, section 10.1.1. The server sends it when the body is first read, so that few listeners need to.
        Nothing is sent after the final head. Blocks until the queue has room.

        :param callback: called without arguments afterwards.
        """
        self._check_thread()
        if self._awaits_continue:
            self._awaits_continue = False
            self._inform('HTTP/1.1 100 Continue\r\n\r\n')
        if callback is not None:
            callback()

    def _continue_to_body(self) -> None:
        """Send ``100 Continue`` for a reader of the body. Blocks as :meth:`write_continue`."""
        # the reader gets the error of the body instead: it is incomplete
        with contextlib.suppress(ConnectionClosed):
            if not self._head_sent:
                self.write_continue()

    def write_processing(self, callback: Callable[[], object] | None = None) -> None:
        """Send ``102 Processing``, unless the final head was sent.

        See RFC 2518, section 10.1. Blocks until the queue has room.

        :param callback: called without arguments afterwards.
        """
        self._check_thread()
        self._inform('HTTP/1.1 102 Processing\r\n\r\n')
        if callback is not None:
            callback()

    def write_early_hints(self, hints: Mapping[str, Any], callback: Callable[[], object] | None = None) -> None:
        """Send ``103 Early Hints`` (RFC 8297), unless the final head was sent.

        Blocks until the queue has room.

        :param hints: the fields, such as ``{'link': ['</style.css>; rel=preload']}``; nothing is sent without any.
        :param callback: called without arguments afterwards.

        Raises ``InvalidHeader``, and ``BodyNotAllowed`` for Content-Length and Transfer-Encoding.
        """
        self._check_thread()
        lines = ''
        for name, value in hints.items():
            lower, checked = check_field(name, value)
            if lower in ('content-length', 'transfer-encoding'):
                raise BodyNotAllowed(f'an informational response has no body; remove {name}')
            lines += field_lines({lower: (name, checked)})
        if lines:
            self._inform(f'HTTP/1.1 103 Early Hints\r\n{lines}\r\n')
        if callback is not None:
            callback()

    def write_information(
        self, status_code: int, headers: HeadersArgument | None = None, callback: Callable[[], object] | None = None
    ) -> None:
        """Send an informational response with any status.

        See RFC 9110, section 15.2. A client of HTTP/1.0 gets none. Blocks until the queue has room.

        :param status_code: 100 to 199, but not 101: see :meth:`upgrade`.
        :param headers: a mapping, or (name, value) pairs; a list of values makes several lines.
        :param callback: called without arguments afterwards.
        :raises HeadersSent: the final head was sent.
        :raises InvalidInput: the status is not an informational one, or is 101.
        :raises InvalidHeader: a field cannot be sent.
        :raises BodyNotAllowed: a field is Content-Length or Transfer-Encoding.
        """
        self._check_thread()
        if isinstance(status_code, bool) or not isinstance(status_code, int):
            raise TypeError(f'status_code must be int, not {type(status_code).__name__}')
        if not 100 <= status_code < 200 or status_code == 101:
            raise InvalidInput(
                f'an informational status is from 100 to 199, and not 101: {status_code}; for 101 call upgrade()',
                'ERR_HTTP_INVALID_STATUS_CODE',
            )
        fields = merge_headers({}, headers or ())
        for lower, (name, _) in fields.items():
            if lower in ('content-length', 'transfer-encoding'):
                raise BodyNotAllowed(f'an informational response has no body; remove {name}')
        if self._head_sent:
            raise HeadersSent('cannot send an informational response: the final head was sent')
        if status_code == 100:
            self._awaits_continue = False
        reason = STATUS_CODES.get(status_code, '')
        self._inform(f'HTTP/1.1 {status_code} {reason}\r\n{field_lines(fields)}\r\n')
        if callback is not None:
            callback()

    def _inform(self, head: str) -> None:
        """Send an informational response, unless the final head was sent.

        A client of HTTP/1.0 gets none (RFC 9110, section 15.2). Blocks until the queue has room.
        """
        if self._state in (_OPEN, _FIXED) and self.request.http_version != '1.0':
            self._check_alive()
            if self.socket.writable_length >= self.socket.writable_high_water_mark:
                self._wait_for_drain()
                if self._state not in (_OPEN, _FIXED):
                    return
            self.socket._send(head.encode('latin-1'))

    # -- files, and other protocols -------------------------------------------------------------------------------

    def send_file(self, file: Any, size: int | None = None) -> ServerResponse:
        """Send the rest of a file as the body, and end.

        The kernel copies a regular file that was opened in binary mode, where the connection and the system allow it
        (``sendfile``). Its length is declared unless the headers frame the body otherwise. Afterwards its position is
        after the last byte that was sent. Blocks until the whole file is with the kernel or in the queue.

        :param file: an object with ``read(size)`` that returns bytes.
        :param size: the maximum number of bytes; None: up to the end.

        Returns the response. Raises ``ConnectionClosed``, ``WriteAfterEnd``, ``ContentLengthMismatch`` if the file
        becomes shorter meanwhile, and the errors of reading it. Raises ``TypeError``, before the head is sent, for a
        path and for a text file.
        """
        self._check_thread()
        check_file(file)
        self._send_corked()
        source = BodySource(file, size)
        count = source.size
        if count is not None and (self._state is _OPEN or self._state is _FIXED):
            # the head is sent first: it cannot be joined with bytes that the kernel copies
            self._check_alive()
            self.socket._send(self._begin_body(count).encode('latin-1'))
        if count and self._has_body and not self._chunked and self._state is _BODY and self.socket._can_sendfile:
            if self._length is not None and self.body_size + count > self._length:
                raise ContentLengthMismatch(
                    f'Content-Length is {self._length}, and the file would make the body {self.body_size + count} bytes'
                )
            plain = source.plain_file
            for sent in self.socket._sendfile(plain.fileno(), plain.tell(), count):
                # at once: a caller that is interrupted can send the rest, or end the response
                self.body_size += sent
                plain.seek(sent, os.SEEK_CUR)
                count -= sent
            # the bytes that the kernel did not copy are read
            source = BodySource(file, count)
        return self._send_chunks(source)

    def _send_corked(self) -> None:
        """Send the collected pieces, which precede a file. Blocks as :meth:`uncork` does."""
        while self.writable_corked:
            self.uncork()

    def _send_chunks(self, source: BodySource) -> ServerResponse:
        """Send the chunks of a file that is read, and end. Blocks as :meth:`end` does."""
        chunks = iter(source) if self._has_body else iter(())
        while True:
            if not self._has_room():
                # before the next chunk is read: an interrupted write() would lose it
                self._wait_for_drain()
            chunk = next(chunks, None)
            if chunk is None:
                return self.end()
            self.write(chunk)

    def upgrade(self, headers: HeadersArgument | None = None) -> tuple[Socket, bytes]:
        """Respond ``101 Switching Protocols``, and take the connection from the server.

        For ``'request'`` listeners of a server without ``'upgrade'`` listeners. See RFC 9110, section 7.8.

        :param headers: further fields. ``Connection: Upgrade`` is added, and ``Upgrade`` with the value of the request
            unless it is among them.

        Returns the socket, which the caller owns, and the bytes that were received after the request. Raises
        ``InvalidInput`` if the request does not ask for another protocol or has a body, ``HeadersSent`` if the head is
        fixed, ``InvalidHeader``, and ``ConnectionClosed``.
        """
        self._check_thread()
        request = self.request
        self._check_may_upgrade()
        fields = merge_headers(
            {'connection': ('Connection', 'Upgrade'), 'upgrade': ('Upgrade', request.headers['upgrade'])}, headers or {}
        )
        self._check_alive()
        head = f'HTTP/1.1 101 Switching Protocols\r\n{field_lines(fields)}\r\n'
        self.socket._send(head.encode('latin-1'))
        return self._hijack()

    def _hijack(self) -> tuple[Socket, bytes]:
        """Take the connection from the server without a response.

        The caller sends one. Raises as :meth:`upgrade`.
        """
        self._check_may_upgrade()
        # the responses to earlier requests
        self.socket._flush_now()
        self._check_alive()
        self._state = OutgoingState.ENDED
        self._upgraded = True
        return self.socket, self._connection.upgrade()

    def _check_may_upgrade(self) -> None:
        self._check_headers_open('set')
        if not self.request._head.upgrade or not self.request.complete:
            raise InvalidInput(
                f'{describe_request(self.request)} cannot be upgraded: it has no Upgrade field, or it has a body'
            )

    # -- the exchange ---------------------------------------------------------------------------------------------

    def cancel_on_disconnect(self) -> None:
        """Throw ``ClientDisconnected`` into this greenlet when the client disconnects.

        That happens until the response has ended. This is the server's option ``cancel_on_disconnect`` for one request.
        In the greenlet of the listener, it has no effect after the listener has returned. Raises ``ClientDisconnected``
        if the client has disconnected already.
        """
        self._check_thread()
        self._connection.cancel_on_disconnect(self)

    def _on_complete(self) -> None:
        self._connection.response_ended(self)

    def _on_queued(self) -> None:
        connection = self._connection
        if connection.unflushed is None:
            connection.unflushed = {}
        connection.unflushed[self] = None

    def _on_flushed(self) -> None:
        if self._connection.unflushed is not None:
            self._connection.unflushed.pop(self, None)

    def _on_short_body(self, missing: int) -> None:
        self.destroyed = True
        self._error = ContentLengthMismatch(f'the body has ended {missing} bytes short of its Content-Length')
        self._spawn_close()
        self._connection.response_fell_short(self, missing)

    def _on_destroyed(self, error: BaseException | None) -> None:
        self._connection.response_destroyed(self, error)

    def _end_if_whole(self) -> bool:
        """End a failed listener's response if all its bytes were sent.

        Returns whether they were. That is a response to HEAD, or one with all of its declared length. Blocks until the
        queue has room.
        """
        whole = self._state is _BODY and not self._chunked and (not self._has_body or self.body_size == self._length)
        if whole:
            # corked data would exceed the body
            self._corked = None
            # the client can disconnect while the queue is full
            with contextlib.suppress(ConnectionClosed):
                self.end()
        return whole

    def _override(self, size: int) -> None:
        """Take the size of the error response, which observers then see."""
        self.body_size = size
        self._has_body = size > 0

    def _on_aborted(self, status_code: int | None) -> None:
        """Mark this response as one that will not end.

        :param status_code: the status of the error response that the server has sent instead; None: the connection is
            closed.
        """
        self.destroyed = True
        self._spawn_close()

    def _spawn_close(self) -> None:
        """Emit ``'close'`` in a greenlet, unless it has no listener."""
        if self.listener_count('close'):
            gevent.spawn(self._emit_close)

    def _emit_close(self) -> None:
        """Emit ``'close'``, once to each listener. Run by a greenlet.

        It has two occasions if the client ends its direction, and the response does not finish. Listeners can be added
        in between.
        """
        notified = tuple(self._listeners.get('close', ())) if self._listeners else ()
        try:
            self.emit('close')
        finally:
            for listener in notified:
                self.remove_listener('close', listener)

    def _on_passed_on(self) -> None:
        """Do nothing: an ``'upgrade'`` or ``'connect'`` listener gets the connection, and responds itself."""

    def _set_exchange_timeout(self, seconds: float | None) -> None:
        self._connection.set_exchange_timeout(self, seconds)

    def __repr__(self) -> str:
        state = 'destroyed' if self.destroyed else self._state.value
        return f'<{type(self).__name__} {self.status_code} {state} to {self.request!r}>'


def _reserve_attributes(cls: type[ServerResponse]) -> None:
    """Make access to the attributes of usual responses fast.

    CPython keeps the names of attributes with the class, but only those of its first instances. An instance with
    another name has a dict of its own: a response with one takes a tenth more instructions.
    """
    instance = cls.__new__(cls)
    for name in USUAL_ATTRIBUTES:
        setattr(instance, name, None)


_reserve_attributes(ServerResponse)
