"""WSGI applications as request listeners (PEP 3333).

The server calls an application in the greenlet of the request. The application can block cooperatively: with a patched
standard library, its database driver, its ``requests`` and its ``time.sleep`` let other greenlets run. A request body
is received as the application reads it. Each yielded item is sent before the next one is requested, and a client that
reads slowly makes the application wait. ``environ['geventnode.request']`` and ``environ['geventnode.response']`` offer
the features that WSGI does not define.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO, Any, ClassVar

from geventnode.errors import InvalidInput
from geventnode.http import IncomingMessage, ServerResponse
from geventnode.http.incoming import describe_request
from geventnode.http.server.listener_checks import asgi_problem, deferred_kind, has_wsgi_signature, listener_name
from geventnode.integrations.wsgi.environ import EnvironBuilder, OutsideScriptName
from geventnode.integrations.wsgi.head import Head, early_hints, find_head
from geventnode.integrations.wsgi.input import BufferFull, buffer_body
from geventnode.integrations.wsgi.socket import finish_hijacked, is_end_of_connection
from geventnode.integrations.wsgi.websocket import finish_websocket, is_end_of_websocket
from geventnode.net.threads import check_thread
from geventnode.stream.turn import Turn

__all__ = ['Application', 'FileWrapper', 'Listener', 'StartResponse', 'check_application', 'is_wsgi', 'wsgi']

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

log = logging.getLogger('geventnode.error')

#: Bytes that a :class:`FileWrapper` reads at a time.
BLOCK_SIZE = 65536


class FileWrapper:
    """Send a file as a response: ``environ['wsgi.file_wrapper']``.

    When an application returns it unchanged, the kernel sends a regular file to the client (``sendfile(2)``) where the
    connection allows it. Otherwise, and for code that iterates over it, the file is read in blocks. See PEP 3333,
    "Optional Platform-Specific File Handling".

    :param file: an object with ``read(size)``.
    :param block_size: bytes to read at a time.
    """

    _can_sendfile: ClassVar[bool] = True

    def __init__(self, file: Any, block_size: int = BLOCK_SIZE) -> None:
        self.file = file
        self._block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks of the file. Blocks as long as the file's ``read`` does."""
        while block := self.file.read(self._block_size):
            yield block

    def close(self) -> None:
        """Close the file, if it has a ``close`` method."""
        close = getattr(self.file, 'close', None)
        if close is not None:
            close()


class _ReadingFileWrapper(FileWrapper):
    """A wrapper without ``sendfile(2)``: its file is always read."""

    _can_sendfile = False


class _Call:
    """Hold the head of one call until it is sent."""

    __slots__ = ('_head', '_response')

    def __init__(self, response: ServerResponse) -> None:
        self._response = response
        self._head: Head | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Set the status and the headers, and return ``write``; see PEP 3333."""
        if exc_info is not None:
            try:
                if self._response.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                # a frame that refers to its own traceback is a cycle
                exc_info = None
        elif self._head is not None:
            raise AssertionError('start_response() was called a second time, without exc_info')
        self._head = find_head(status, headers)
        return self._write

    def early_hints(self, headers: Any) -> None:
        """Send ``103 Early Hints`` (RFC 8297): ``environ['wsgi.early_hints']``, as under gunicorn.

        Nothing is sent after the head of the response, or to a client of HTTP/1.0. Blocks until the server accepts the
        bytes. Raises ``InvalidHeader``, ``TypeError``, ``BodyNotAllowed``, ``ConnectionClosed``.
        """
        self._response.write_early_hints(early_hints(headers))

    def _write(self, data: bytes) -> None:
        """Send a part of the body: the ``write()`` callable. Blocks while the write buffer is full."""
        if type(data) is not bytes:
            data = _to_bytes(data)
        # checked first, so that a refused call leaves the head as it is
        check_thread(self._response.server._hub, self._response)
        self._begin()
        self._response.write(data)

    @property
    def status_code(self) -> int:
        """The status that the application has passed to :meth:`start_response`; 0 before."""
        return 0 if self._head is None else self._head.status_code

    def _begin(self) -> None:
        """Pass the head to the response, once."""
        response = self._response
        if response.headers_sent:
            return
        head = self._head
        if head is None:
            raise AssertionError('the application has not called start_response()')
        if head.length is None and head.start is not None:
            response._write_rendered(head.status_code, head.reason, head.fields, head.line, head.start)
            return
        fields = list(head.fields.values())
        if head.length is not None:
            fields.append(('Content-Length', head.length))
        if head.closes:
            fields.append(('Connection', 'close'))
        response.write_head(head.status_code, head.reason, fields)

    def finish(self, result: Iterable[bytes]) -> None:
        """Send the iterable that the application has returned. Blocks as :meth:`_write` does."""
        if (type(result) is list or type(result) is tuple) and len(result) == 1:
            body = result[0]
            if type(body) is not bytes:
                body = _to_bytes(body)
            self._send_last(body)
        elif self._response._upgraded:
            # the application speaks on the connection itself
            return
        elif (
            isinstance(result, FileWrapper)
            and result._can_sendfile
            and hasattr(result.file, 'fileno')
            and self._head is not None
        ):
            self._begin()
            length = self._head.length
            self._response.send_file(result.file, None if length is None else length - self._response.body_size)
        elif result is None:
            raise TypeError(
                'a WSGI application must return an iterable of bytes, and this one returned None: check that '
                'every path ends with a return statement'
            )
        else:
            self._send_items(result)

    def _send_last(self, body: bytes) -> None:
        """Send ``body``, the last item of the response."""
        response, head = self._response, self._head
        if head is not None:
            status_code, reason, fields, length, line, start, _ = head
            # the most frequent case: the body's own length is the declared one
            if (
                start is not None
                and (length is None or length == len(body))
                and response._write_rendered(status_code, reason, fields, line, start)
            ):
                response.end(body)
                return
        if not response._upgraded:
            self._begin()
            response.end(body)

    def _send_items(self, items: Iterable[bytes]) -> None:
        response = self._response
        turn = Turn()
        for item in items:
            if type(item) is not bytes:
                item = _to_bytes(item)
            if not item:
                continue
            head = self._head
            if response.headers_sent or head is None or head.length != len(item):
                self._begin()
                response.write(item)
            else:
                # the declared length is reached: a further item would be refused
                self._send_last(item)
            turn.give_way()
        if not response.finished:
            self._begin()
            response.end()


def _to_bytes(item: Any) -> bytes:
    """Return a bytes-like ``item`` as ``bytes``. Subclasses are common: HexBytes, ``bson.Binary``."""
    if not isinstance(item, bytes | bytearray | memoryview):
        raise TypeError(
            f'a WSGI application must return an iterable of bytes, and an item of this one is '
            f"{type(item).__name__}{'; return a list of one item' if isinstance(item, int) else ''}"
        )
    # not bytes(item): a subclass could return other bytes
    return memoryview(item).tobytes()


class Listener:
    """Call a WSGI application for each request. Made by :func:`wsgi`."""

    def __init__(
        self,
        application: Application,
        environs: EnvironBuilder,
        cancel_on_disconnect: bool,
        raise_body_errors: bool,
        buffer_chunked: bool,
    ) -> None:
        self.application = application
        self._environs = environs
        self._cancel_on_disconnect = cancel_on_disconnect
        self._server_refuses_bad_bodies = not raise_body_errors
        self._buffer_chunked = buffer_chunked

    def __call__(self, request: IncomingMessage, response: ServerResponse) -> None:
        """Call the application and send its response.

        Blocks until the response is sent. An exception of the application propagates: the server then answers 500 or,
        after the head, aborts the response.
        """
        try:
            environ = self._environs.build(request, response)
        except OutsideScriptName:
            response.write_head(404)
            response.end()
            return
        # deadlines apply to the client only, not to the application
        response.handler_may_block = True
        if self._cancel_on_disconnect:
            response.cancel_on_disconnect()
        call = _Call(response)
        environ['wsgi.early_hints'] = call.early_hints
        result: Iterable[bytes] = []
        body: IO[bytes] | None = None
        if not request.complete:
            response._rejects_bad_body = self._server_refuses_bad_bodies
        if not request.complete and self._buffer_chunked and request._head.content_length is None:
            try:
                body, size = buffer_body(request, response.server.max_body_size, response.server._buffer_limit)
            except BufferFull as error:
                if error.status == 413:
                    response.server._peer_log.log_refusal('body_too_large', '%s: %s', describe_request(request), error)
                else:
                    log.error('%s: %s', describe_request(request), error)
                response.write_head(error.status, {'Connection': 'close'})
                response.end()
                return
            environ['CONTENT_LENGTH'] = str(size)
            environ['wsgi.input'] = body
        failure: BaseException | None = None
        try:
            result = self.application(environ, call.start_response)
            call.finish(result)
        except BaseException as error:
            failure = error
            if not (
                response._upgraded
                and isinstance(error, Exception)
                and (is_end_of_connection(response, error) or is_end_of_websocket(response, error))
            ):
                raise
        finally:
            if response._upgraded:
                finish_hijacked(response)
                finish_websocket(response, call.status_code, failure)
                failure = None
            try:
                # a list, the most frequent result, has no close()
                if type(result) is not list:
                    close = getattr(result, 'close', None)
                    if close is not None:
                        close()
            finally:
                if body is not None:
                    body.close()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} for {self.application!r}>'


def wsgi(
    application: Application,
    *,
    script_name: str = '',
    multiprocess: bool = False,
    cancel_on_disconnect: bool = False,
    sendfile: bool = True,
    raise_body_errors: bool = False,
    buffer_chunked: bool = True,
) -> Listener:
    """Return a ``'request'`` listener that calls a WSGI application (PEP 3333).

    ``http.create_server(wsgi(application))`` serves it. A slow application exceeds no limit: the server's ``timeout``
    and ``request_timeout`` count only while the server waits for the client. ``environ`` has ``geventnode.request`` and
    ``geventnode.response`` in addition to the variables of the specification. The server frames responses itself: it
    drops the application's hop-by-hop fields (RFC 9110, section 7.6.1), such as ``Transfer-Encoding``, except that
    ``Connection: close`` closes the connection.

    :param application: called with ``environ`` and ``start_response``.
    :param script_name: the path of the application, such as ``'/app'``. It becomes ``SCRIPT_NAME``; requests for other
        paths are answered with 404.
    :param multiprocess: the value of ``wsgi.multiprocess``: whether other processes serve the same application. A
        server with :attr:`geventnode.interfaces.IHTTPServer.multiprocess` sets it in any case.
    :param cancel_on_disconnect: throw ``ClientDisconnected`` into the application, or into the generator that it has
        returned, when the client disconnects.
    :param sendfile: whether the kernel can send the files of ``wsgi.file_wrapper``. Set False for file systems that do
        not support ``sendfile(2)``.
    :param raise_body_errors: raise errors of a request body in the application: ``ParseError``, ``RequestTimeout`` or
        ``IncompleteBody`` of :mod:`geventnode.errors` for a body that is malformed or too large, late, or incomplete.
        By default, the server responds (400, 413, 408) unless the head is sent, and ends the application with
        ``RequestRefused``.
    :param buffer_chunked: receive a body without a declared length before the call of the application. ``environ``
        then has its ``CONTENT_LENGTH``, without which most frameworks read nothing. The body is in memory or, over
        256 KiB or when the server's ``max_buffered`` is exhausted, in a temporary file. A body over the server's
        ``max_body_size``, 1 GiB if that is not set, is answered with 413, and with 503 if the file cannot be written.
        The server responds to errors of such a body even with ``raise_body_errors``. With False, the application reads
        the body as it arrives, to its end, without ``CONTENT_LENGTH``.

    Raises ``TypeError`` if ``application`` is not callable, an ASGI application or a coroutine function, and
    ``InvalidInput`` for a wrong ``script_name``.
    """
    if not callable(application):
        raise TypeError(f'a WSGI application must be callable, not {type(application).__name__}')
    check_application(application)
    if script_name and (not script_name.startswith('/') or script_name.endswith('/')):
        raise InvalidInput(f"script_name must begin with a slash and end without one, as '/app', not {script_name!r}")
    common = {'wsgi.multiprocess': multiprocess, 'wsgi.file_wrapper': FileWrapper if sendfile else _ReadingFileWrapper}
    return Listener(
        application, EnvironBuilder(common, script_name), cancel_on_disconnect, raise_body_errors, buffer_chunked
    )


def check_application(application: Any) -> None:
    """Raise ``TypeError`` for an ASGI application and a coroutine function."""
    problem = asgi_problem(application)
    if problem is not None:
        raise TypeError(f'{listener_name(application)} is {problem}')
    if deferred_kind(application) == 'async def':
        raise TypeError(
            f'a WSGI application must be a plain function, and {listener_name(application)} is async def, which '
            'would never run: write def without await'
        )


def is_wsgi(target: Any) -> bool | None:
    """Return whether ``target`` is a WSGI application and not a request listener.

    The names of its parameters decide, without leading underscores. For an application, the first one is ``environ`` or
    ``env``, or the second one begins with ``start``. For a listener, the first one begins with ``req``, or the second
    one with ``res``. Return None for other names.
    """
    return has_wsgi_signature(target)
