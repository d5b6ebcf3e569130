"""Raise every exception of the package in the way in which users meet it.

``python -m tests.failures`` raises them in a ``multiprocessing.Pool``, and checks the copies that arrive. This needs a
standard library that is not patched.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import multiprocessing
import os
import pickle
import pkgutil
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import gevent
import requests

import geventnode
from geventnode import errors, http, https, net, stream, websocket
from geventnode.cli import get
from geventnode.cli.demo.uploads import MAX_UPLOADS, TooManyUploads, Uploads
from geventnode.cli.endpoints import OutputError, open_sink
from geventnode.cli.targets import Interrupted, UsageError, load_target
from geventnode.events import EventEmitter
from geventnode.http.server.listener_checks import ListenerReturned, check_returned
from geventnode.http.server.upgraded import WebSocketCounts
from geventnode.http2 import engine
from geventnode.http2.fields import Malformed, request_head
from geventnode.http2.header_decoder import BlockError, HeaderDecoder, ListTooLarge
from geventnode.http2.limits import ConnectionLimits
from geventnode.integrations.requests import AgentAdapter
from geventnode.integrations.wsgi import input as wsgi_input
from geventnode.integrations.wsgi import wsgi
from geventnode.integrations.wsgi.environ import OutsideScriptName, meta_variables
from geventnode.net.forks import inherited_error
from geventnode.protocol import Limits, Parser, Role
from geventnode.protocol.field_lines import FieldLines, MalformedLine
from geventnode.testing import memory_socket, websocket_pair
from geventnode.websocket.connection import WebSocket, settings
from geventnode.websocket.deflate import Deflate, MalformedExtensions, accept_offer
from tests.certificates import tls_certificates

__all__ = ['FAILURES', 'described', 'exception_classes', 'failure', 'main']

Attributes = dict[str, Any]


def exception_classes() -> set[type[BaseException]]:
    """Return every exception class of the package, except the base class."""
    found: set[type[BaseException]] = set()
    for module in pkgutil.walk_packages(geventnode.__path__, 'geventnode.'):
        if not module.name.endswith('__main__'):
            found.update(
                value
                for value in vars(importlib.import_module(module.name)).values()
                if isinstance(value, type)
                and issubclass(value, BaseException)
                and value.__module__.startswith('geventnode')
            )
    return found - {errors.GeventnodeError}


# -- peers ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(listener: Any, **options: Any) -> Iterator[str]:
    """Serve requests during the context, and yield the URL."""
    server = http.create_server(listener, **options).listen(0, '127.0.0.1')
    try:
        yield f'http://127.0.0.1:{server.address()["port"]}'
    finally:
        server.stop(0)


@contextlib.contextmanager
def saying(data: bytes | None) -> Iterator[str]:
    """Send ``data`` to each client and close; with None, send nothing. Yields the address."""

    def speak(socket: Any) -> None:
        # wait for the request
        socket.read1()
        if data is None:
            socket.read()
        socket.end(data)

    server = net.create_server(speak).listen(0, '127.0.0.1')
    try:
        yield f'127.0.0.1:{server.address()["port"]}'
    finally:
        server.stop(0)


def get_from(data: bytes | None, scheme: Any = http, **options: Any) -> bytes:
    """Send a request to a server that sends ``data``, and return the body."""
    with saying(data) as where:
        body: bytes = (
            scheme.get(f'{scheme.__name__.rpartition(".")[2]}://{where}/', agent=False, **options).get_response().read()
        )
        return body


def from_listener(work: Callable[[Any, Any], object], request: bytes, **options: Any) -> None:
    """Call ``work`` in a request listener, and raise its exception here."""
    raised: list[BaseException] = []
    over = gevent.event.Event()

    def listener(request: Any, response: Any) -> None:
        try:
            work(request, response)
        except BaseException as error:
            raised.append(error)
            if not isinstance(error, Exception):
                raise
        finally:
            over.set()

    with serving(listener, **options) as url:
        with net.connect(int(url.rpartition(':')[2]), '127.0.0.1') as client:
            client.write(request)
            client.end()
            over.wait()
    raise raised[0]


GET = b'GET / HTTP/1.1\r\nHost: x\r\n\r\n'


# -- failures ---------------------------------------------------------------------------------------------------------


def refused() -> None:
    with saying(b'') as where:
        pass
    http.get(f'http://{where}/').get_response()


def certificate() -> None:
    server = https.create_server(certfile=tls_certificates().server).listen(0, '127.0.0.1')
    try:
        https.get(f'https://127.0.0.1:{server.address()["port"]}/', agent=False).get_response()
    finally:
        server.stop(0)


def closed() -> None:
    socket = net.Socket()
    socket.destroy()
    socket.write(b'x')


def aborted() -> None:
    with saying(None) as where:
        request = http.get(f'http://{where}/')
        gevent.spawn(request.abort)
        request.get_response()


def full() -> None:
    with saying(None) as where, http.Agent(max_sockets=1, max_queued=1) as agent:
        for _ in range(3):
            http.get(f'http://{where}/', agent=agent)


def premature() -> None:
    source = stream.Readable()
    gevent.spawn(source.destroy)
    stream.finished(source)


def two_modes() -> None:
    source = stream.Readable()
    source.on('data', len)
    try:
        source.read()
    finally:
        source.destroy()


def written_after_end() -> None:
    sink = stream.Writable(write=lambda chunk: None)
    sink.end()
    sink.write(b'x')


def wrong_thread_error() -> None:
    agent = http.Agent()
    raised: list[BaseException] = []

    def use() -> None:
        try:
            http.get('http://127.0.0.1:1/', agent=agent)
        except errors.WrongThread as error:
            raised.append(error)
        finally:
            # this thread's own; a thread of a patched threading module would be a greenlet
            gevent.get_hub().destroy(destroy_loop=True)

    gevent.get_hub().threadpool.apply(use)
    raise raised[0]


def many_listeners() -> None:
    emitter = EventEmitter()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(20):
            emitter.on('x', lambda: None)


def disconnect_reason() -> None:
    def listener(request: Any, response: Any) -> None:
        reported = gevent.event.AsyncResult()
        request.on('error', reported.set)
        raise reported.get()

    from_listener(listener, GET)


def headers_sent(request: Any, response: Any) -> None:
    response.write_head(200)
    response.flush_headers()
    response.set_header('X', '1')


def too_long(request: Any, response: Any) -> None:
    response.write_head(200, {'Content-Length': '1'})
    response.end(b'xx')


def given_up() -> None:
    options = argparse.Namespace(data=None, output='/nowhere/file')
    get._exchange(options)


def unwritable() -> None:
    with tempfile.TemporaryDirectory() as directory:
        sink = open_sink(os.path.join(directory, 'file'))
        for part in os.listdir(directory):
            os.unlink(os.path.join(directory, part))
        with contextlib.closing(sink):
            sink.commit()


def too_many_uploads() -> None:
    uploads = Uploads()
    for number in range(MAX_UPLOADS + 1):
        uploads.get(f'{number:032x}')


def outside_script_name() -> None:
    parser = Parser(Role.REQUEST, Limits())
    parser.feed(b'GET /other HTTP/1.1\r\nHost: x\r\n\r\n')
    head: Any = parser.next_event()
    meta_variables(head, '/app')


def inherited_connection() -> None:
    # only a child process raises this for connections of its parent
    raise inherited_error()


def buffer_full() -> None:
    with mock.patch.object(wsgi_input, 'MAX_BUFFERED_BODY', 3):
        from_listener(
            lambda request, response: wsgi_input.buffer_body(request, None, response.server._buffer_limit),
            b'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
        )


def websocket_from(response: bytes) -> None:
    with net.create_server(lambda socket: socket.end(response)).listen(0, '127.0.0.1') as server:
        websocket.connect(f'ws://127.0.0.1:{server.address()["port"]}/')


def received_by_websocket(data: bytes, **options: Any) -> None:
    socket, end = memory_socket()
    with contextlib.closing(end):
        made = WebSocket(socket, data, True, settings(options, frozenset()), WebSocketCounts())
        try:
            made.receive()
        finally:
            made.destroy()


def pinged_by_websocket() -> None:
    with websocket_pair() as (client, server):
        # it does not receive, and so does not answer the ping
        server.socket._pause_reading()
        client.ping(timeout=0.001)


def sent_by_websocket(**options: Any) -> None:
    socket, end = memory_socket(capacity=1)
    with contextlib.closing(end):
        made = WebSocket(socket, b'', False, settings(options, frozenset()), WebSocketCounts())
        try:
            made.send(bytes(100_000))
            (made.send if 'send_timeout' in options else made.send_nowait)(b'x')
        finally:
            made.destroy()


def dropped_by_broadcast() -> None:
    def work(request: Any, response: Any) -> None:
        dropped = gevent.event.AsyncResult()
        response.on('error', dropped.set_exception)
        events = http.EventBroadcast(max_send_queue=1)
        events.add(response)
        # more than the kernel takes
        events.send('x' * 10_000_000)
        events.send('event')
        dropped.get()

    from_listener(work, GET)


def interrupted() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'target.py')
        with open(path, 'w') as file:
            file.write('raise KeyboardInterrupt')
        load_target(path)


FAILURES: dict[type[BaseException], Callable[[], object]] = {
    errors.ParseError: lambda: get_from(b'SSH-2.0-nonsense\r\n\r\n'),
    errors.BodyTooLarge: lambda: from_listener(
        lambda request, response: request.read(),
        b'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n',
        max_body_size=3,
    ),
    errors.IncompleteBody: lambda: get_from(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello'),
    errors.ConnectionClosed: closed,
    errors.ConnectError: lambda: http.get('http://x/', socket_path='/nowhere/socket').get_response(),
    errors.ConnectionRefused: refused,
    errors.NameNotResolved: lambda: http.get('http://a..b/').get_response(),
    errors.ProxyError: lambda: http.get('http://x/', agent=http.Agent(proxy='http://a..b')).get_response(),
    errors.TLSError: lambda: get_from(b'HTTP/1.1 400 Bad Request\r\n\r\n', https),
    errors.CertificateError: certificate,
    errors.RequestTimeout: lambda: get_from(None, timeout=0.01),
    errors.SocketHangUp: lambda: get_from(b''),
    errors.InheritedConnection: inherited_connection,
    errors.PrematureClose: premature,
    errors.DisconnectReason: disconnect_reason,
    errors.ClientDisconnected: lambda: from_listener(
        lambda request, response: gevent.sleep(60), GET, cancel_on_disconnect=True
    ),
    errors.RequestRefused: lambda: from_listener(
        wsgi(lambda environ, start_response: [environ['wsgi.input'].read()]),
        b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello',
    ),
    errors.InvalidInput: lambda: http.get('http://a b/'),
    errors.InvalidHeader: lambda: http.get('http://x/', headers={'a': 'b\r\nc'}, agent=False),
    errors.RequestAborted: aborted,
    errors.QueueFull: full,
    errors.UnknownOption: lambda: http.get('http://x/', tiemout=3),
    errors.HeadersSent: lambda: from_listener(headers_sent, GET),
    errors.ContentLengthMismatch: lambda: from_listener(too_long, GET),
    errors.BodyNotAllowed: lambda: http.request('http://127.0.0.1:1/', method='TRACE', body=b'x', agent=False),
    errors.StreamError: lambda: from_listener(
        lambda request, response: (response.end(b'x'), request.read()),
        b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nxxxxxxxxx',
    ),
    errors.StreamModeError: two_modes,
    errors.WebSocketHandshakeError: lambda: websocket_from(b'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'),
    errors.WebSocketClosed: lambda: received_by_websocket(b'\x88\x03\x0f\xa0x'),
    errors.WebSocketProtocolError: lambda: received_by_websocket(b'\x83\x00'),
    errors.MessageTooBig: lambda: received_by_websocket(b'\x81\x05hello', max_message_size=4),
    errors.TooManyFragments: lambda: received_by_websocket(b'\x01\x00\x00\x00', max_fragments=1),
    errors.PingTimeout: pinged_by_websocket,
    errors.SendTimeout: lambda: sent_by_websocket(send_timeout=0.001),
    errors.SendQueueFull: lambda: sent_by_websocket(max_send_queue=1),
    errors.EventQueueFull: dropped_by_broadcast,
    MalformedExtensions: lambda: accept_offer(';', Deflate({})),
    errors.WriteAfterEnd: written_after_end,
    errors.ServerNotRunning: lambda: http.create_server().serve_forever(),
    errors.WrongThread: wrong_thread_error,
    errors.UnhandledError: lambda: EventEmitter().emit('error', 'text'),
    errors.MaxListenersExceededWarning: many_listeners,
    ListenerReturned: lambda: check_returned(print, b'body'),
    UsageError: lambda: load_target('nonsense'),
    Interrupted: interrupted,
    OutsideScriptName: outside_script_name,
    wsgi_input.BufferFull: buffer_full,
    TooManyUploads: too_many_uploads,
    Malformed: lambda: request_head([], Limits(), ended=True),
    BlockError: lambda: HeaderDecoder(100).decode(b'\x80'),
    ListTooLarge: lambda: HeaderDecoder(1).decode(b'\x82'),
    engine._Failure: lambda: engine.Engine(ConnectionLimits(Limits()))._skip_preface(b'GET'),
    MalformedLine: lambda: FieldLines()[b'no colon'],
    get._Failure: given_up,
    OutputError: unwritable,
}


# -- through the adapter ----------------------------------------------------------------------------------------------


def asking(url: str, **options: Any) -> bytes:
    """Fetch a body with ``requests`` on the adapter."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount('http://', AgentAdapter())
        session.mount('https://', AgentAdapter())
        body: bytes = session.get(url, **options).content
        return body


def by_requests(data: bytes | None, scheme: str = 'http', **options: Any) -> bytes:
    with saying(data) as where:
        return asking(f'{scheme}://{where}/', **options)


def connect_timeout() -> None:
    with contextlib.closing(gevent.socket.socket()) as listener, contextlib.closing(gevent.socket.socket()) as queued:
        listener.bind(('127.0.0.1', 0))
        listener.listen(0)
        queued.connect(listener.getsockname())
        asking(f'http://127.0.0.1:{listener.getsockname()[1]}/', timeout=0.05)


def requests_refused(**options: Any) -> None:
    with saying(b'') as where:
        pass
    if options:
        asking('https://localhost/', proxies={'https': f'http://{where}'})
    asking(f'http://{where}/')


#: Exceptions of ``requests`` that contain exceptions or objects of the package.
ADAPTED: dict[type[BaseException], Callable[[], object]] = {
    requests.ConnectTimeout: connect_timeout,
    requests.ReadTimeout: lambda: by_requests(None, timeout=0.05),
    requests.ConnectionError: requests_refused,
    requests.exceptions.ProxyError: lambda: requests_refused(proxy=True),
    requests.exceptions.SSLError: lambda: by_requests(b'HTTP/1.1 400 Bad Request\r\n\r\n', 'https'),
    requests.exceptions.ChunkedEncodingError: lambda: by_requests(
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel'
    ),
    requests.exceptions.InvalidHeader: lambda: by_requests(
        b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'
    ),
}


# -- copies -----------------------------------------------------------------------------------------------------------


def failure(kind: type[BaseException]) -> BaseException:
    """Raise an exception of ``kind``, and return it."""
    try:
        {**FAILURES, **ADAPTED}[kind]()
    except BaseException as error:
        if type(error) is kind:
            return error
        raise
    raise AssertionError(f'{kind.__name__} was not raised')


def described(error: BaseException) -> Attributes:
    """Return the attributes that a copy of ``error`` must have, as text."""
    # copies of urllib3's exceptions have no pool
    text, args = (_POOL.sub('', each) for each in (str(error), repr(error.args)))
    names = ('errno', 'strerror', 'filename', 'code', 'status', 'offset', 'data', 'host', 'port', 'phase')
    return {
        'type': type(error),
        'text': text,
        'args': args,
        **{name: repr(getattr(error, name, None)) for name in names},
        **{name: repr(value) for name, value in vars(error).items() if name not in ('request', 'response')},
    }


#: The name of a pool in the texts of urllib3's exceptions.
_POOL = re.compile(r'(https?://[^ ]+|None): (?=Max |Read |\[Errno)')

_last: Attributes = {}


def fail(kind: type[BaseException]) -> BaseException:
    """Raise an exception of ``kind``, or return it if the pool does not catch its type. Runs in the pool."""
    error = failure(kind)
    _last.clear()
    _last.update(described(error))
    if isinstance(error, Exception):
        raise error
    return error


def last() -> Attributes:
    """Return the description of the last exception of :func:`fail`. Runs in the pool."""
    return _last


def copies(error: BaseException) -> list[BaseException]:
    """Return copies of ``error``, one for each way of copying."""
    made = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    return [*made, copy.copy(error), copy.deepcopy(error)]


def main() -> int:
    """Check every kind; print the faults, and return their number."""
    faults = 0
    # a new interpreter would import everything again
    with multiprocessing.get_context('fork').Pool(1) as pool:
        for kind in {**FAILURES, **ADAPTED}:
            try:
                arrived = pool.apply_async(fail, (kind,)).get(30)
            except Exception as error:
                arrived = error
            found, expected = described(arrived), pool.apply_async(last).get(30)
            if found != expected:
                faults += 1
                sys.stdout.write(f'{kind.__name__}: {expected} arrived as {found}\n')
                traceback.print_exception(arrived, file=sys.stdout)
    sys.stdout.write(f'{faults} faults\n')
    return faults


if __name__ == '__main__':
    sys.exit(bool(main()))
