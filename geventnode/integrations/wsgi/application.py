"""WSGI applications as request listeners (PEP 3333).

An application is called in the greenlet that serves the request, and may block cooperatively: its database driver, its
``requests`` and its ``time.sleep`` hold up nobody else once the standard library is patched. A body is received as the
application reads, and each item that it yields is sent before the next one is asked for; who does not keep up is waited
for. What WSGI has no word for is reached through ``environ['geventnode.request']`` and
``environ['geventnode.response']``.
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
from geventnode.net.deadlines import check_hub

__all__ = ['Application', 'FileWrapper', 'Listener', 'StartResponse', 'check_application', 'is_wsgi', 'wsgi']

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

log = logging.getLogger('geventnode.error')

#: Bytes that a :class:`FileWrapper` reads at once.
BLOCK_SIZE = 65536


class FileWrapper:
    """``wsgi.file_wrapper``: a file as a response (PEP 3333, "Optional Platform-Specific File Handling").

    Returned by an application as it is, a regular file goes to the client from kernel to kernel where the connection
    allows it; otherwise, and for whoever iterates, it is read in blocks.

    :param file: an object with ``read(size)``.
    :param block_size: bytes to be read at once.
    """

    _can_sendfile: ClassVar[bool] = True

    def __init__(self, file: Any, block_size: int = BLOCK_SIZE) -> None:
        self.file = file
        self._block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks. May switch as the file does."""
        while block := self.file.read(self._block_size):
            yield block

    def close(self) -> None:
        """Close the file, if it can be closed."""
        close = getattr(self.file, 'close', None)
        if close is not None:
            close()


class _ReadingFileWrapper(FileWrapper):
    """One whose file is always read."""

    _can_sendfile = False


class _Call:
    """One call of an application: what it says with ``start_response`` and ``write``, until the response has begun."""

    __slots__ = ('_head', '_response')

    def __init__(self, response: ServerResponse) -> None:
        self._response = response
        self._head: Head | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """See PEP 3333."""
        if exc_info is not None:
            try:
                if self._response.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                # a traceback that refers to the frame that it is kept in would live until it is collected
                exc_info = None
        elif self._head is not None:
            raise AssertionError('start_response() was called a second time, without exc_info')
        self._head = find_head(status, headers)
        return self._write

    def early_hints(self, headers: Any) -> None:
        """``environ['wsgi.early_hints']``, as gunicorn has it: send ``103 Early Hints`` (RFC 8297), unless the response
        has begun or the client speaks HTTP/1.0. May switch. Raises ``InvalidHeader``, ``TypeError``,
        ``BodyNotAllowed``, ``ConnectionClosed``."""
        self._response.write_early_hints(early_hints(headers))

    def _write(self, data: bytes) -> None:
        """The ``write()`` callable. May switch."""
        if type(data) is not bytes:
            data = _to_bytes(data)
        # before the head is fixed: a refused call changes nothing
        check_hub(self._response.server.hub, self._response)
        self._begin()
        self._response.write(data)

    def _begin(self) -> None:
        """Fix the head, unless it is."""
        response = self._response
        if response.headers_sent:
            return
        head = self._head
        if head is None:
            raise AssertionError('the application has not called start_response()')
        if head.length is None and head.prepared is not None:
            response.write_prepared(head.prepared)
            return
        fields = list(head.fields.values())
        if head.length is not None:
            fields.append(('Content-Length', head.length))
        if head.closes:
            fields.append(('Connection', 'close'))
        response.write_head(head.status_code, head.reason, fields)

    def finish(self, result: Iterable[bytes]) -> None:
        """Send what the application has returned. May switch."""
        if (type(result) is list or type(result) is tuple) and len(result) == 1:
            body = result[0]
            if type(body) is not bytes:
                body = _to_bytes(body)
            self._send_last(body)
        elif self._response.upgraded:
            # what is said there now is the application's own
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
                'a WSGI application must return an iterable of bytes, and this one returned None: a return '
                'may be missing'
            )
        else:
            self._send_items(result)

    def _send_last(self, body: bytes) -> None:
        """Send what is known to be the whole rest of the body."""
        response, head = self._response, self._head
        if (
            head is not None
            and head.prepared is not None
            and not response.headers_sent
            and (head.length is None or head.length == len(body))
        ):
            # what comes most: the length of the body is what will be declared
            response.write_prepared(head.prepared)
        elif response.upgraded:
            return
        else:
            self._begin()
        response.end(body)

    def _send_items(self, items: Iterable[bytes]) -> None:
        response = self._response
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
                # nothing can follow: more would be refused
                self._send_last(item)
        if not response.finished:
            self._begin()
            response.end()


def _to_bytes(item: Any) -> bytes:
    """Return ``item``, which is not of type ``bytes``, as that. Subclasses are common: HexBytes, ``bson.Binary``."""
    if not isinstance(item, bytes | bytearray | memoryview):
        raise TypeError(
            f'a WSGI application must return an iterable of bytes, and there was {type(item).__name__} in '
            f"it{'; return a list of one item' if isinstance(item, int) else ''}"
        )
    # no method of a subclass decides about the bytes
    return memoryview(item).tobytes()


class Listener:
    """A request listener that calls an application. See :func:`wsgi`."""

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
        """Answer ``request``. May switch. Lets through what the application raises: the server answers 500, or cuts the
        response off."""
        try:
            environ = self._environs.make(request, response)
        except OutsideScriptName:
            response.write_head(404)
            response.end()
            return
        # a view may take its time: what has a limit is waiting for the client
        response.handler_may_block = True
        response.refuses_bad_body = self._server_refuses_bad_bodies
        if self._cancel_on_disconnect:
            response.cancel_on_disconnect()
        call = _Call(response)
        environ['wsgi.early_hints'] = call.early_hints
        result: Iterable[bytes] = []
        body: IO[bytes] | None = None
        if not request.complete and self._buffer_chunked and request._head.content_length is None:
            try:
                body, size = buffer_body(request, response.server.max_body_size, response.server.budget)
            except BufferFull as error:
                if error.status == 413:
                    response.server.peer_log.refused('body_too_large', '%s: %s', describe_request(request), error)
                else:
                    log.error('%s: %s', describe_request(request), error)
                response.write_head(error.status, {'Connection': 'close'})
                response.end()
                return
            environ['CONTENT_LENGTH'] = str(size)
            environ['wsgi.input'] = body
        try:
            result = self.application(environ, call.start_response)
            call.finish(result)
        except Exception as error:
            if not (response.upgraded and is_end_of_connection(response, error)):
                raise
        finally:
            if response.upgraded:
                finish_hijacked(response)
            try:
                # a list is the commonest kind, which has nothing to close
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
    """Return a ``'request'`` listener that calls ``application``, a WSGI application (PEP 3333).

    The view may take as long as it likes: with it, the server's ``timeout`` and ``request_timeout`` count only while
    the client is waited for. ``environ`` has ``geventnode.request`` and ``geventnode.response`` beside what the
    specification says. ``Connection``, ``Transfer-Encoding`` and the like are the server's affair: what an application
    says there is dropped, except that ``Connection: close`` ends the connection.

    :param script_name: the path below which the application is, as ``/app``: it becomes ``SCRIPT_NAME``, and what is
        outside of it is answered with 404.
    :param multiprocess: whether other processes serve the same application, for those who ask. A server that knows it
        (:attr:`geventnode.interfaces.IHTTPServer.multiprocess`) need not be told here.
    :param cancel_on_disconnect: throw ``ClientDisconnected`` into a view, or the generator that it has returned, whose
        client has gone.
    :param sendfile: whether files in ``wsgi.file_wrapper`` go from kernel to kernel where that is possible: some file
        systems do not bear it.
    :param raise_body_errors: leave a request body that is too large, malformed, late or cut short to the application,
        as ``ParseError``, ``RequestTimeout`` or ``IncompleteBody`` of :mod:`geventnode.errors`. Without it, the server
        answers (413, 400, 408) while no head was sent, and ends the view with ``RequestRefused``.
    :param buffer_chunked: whether a body without a declared length is received before the application is called, into
        memory or, when it is longer than 256 KiB or finds no room in the server's ``max_buffered``, into a temporary
        file. ``CONTENT_LENGTH`` is then its length, without which most frameworks read nothing. A body over the
        server's ``max_body_size``, or over 1 GiB where that is not set, is answered with 413, one that cannot be
        written to the file with 503, and a body that fails is answered by the server even with ``raise_body_errors``.
        With False the application reads such a body as it arrives, without ``CONTENT_LENGTH``, to its end.

    Raises ``TypeError`` when ``application`` cannot be called, or is an ASGI application or a coroutine function,
    ``InvalidInput`` for a bad ``script_name``.
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
    """Raise ``TypeError`` for callables that are no WSGI application: an ASGI application, or a coroutine
    function."""
    problem = asgi_problem(application)
    if problem is not None:
        raise TypeError(f'{listener_name(application)} is {problem}')
    if deferred_kind(application) == 'async def':
        raise TypeError(
            f'a WSGI application must be a plain function, and {listener_name(application)} is async def, which '
            'would never run: write def without await'
        )


def is_wsgi(target: Any) -> bool | None:
    """Return whether a callable is a WSGI application rather than a request listener, None when that cannot be told.

    What is callable says so by the names of its parameters: the first one of an application is called ``environ`` or
    ``env``, or the second one begins with ``start``; the first one of a listener begins with ``req``, or the second one
    with ``res``. Underscores in front do not count.
    """
    return has_wsgi_signature(target)
