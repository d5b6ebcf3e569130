"""Streams of every kind for the conformance suites, with a peer that the check controls.

HTTP messages belong to a server in this process; the peer is a plain socket, and reads with the standard library's
``http.client``.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
from gevent.event import AsyncResult, Event

from geventnode import http as geventnode_http
from geventnode.errors import IncompleteBody
from geventnode.net import Socket
from geventnode.stream import Duplex, Readable, Writable
from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from tests.conformance.readable import Maker as ReadableMaker
from tests.conformance.readable import Source
from tests.conformance.writable import PIECE, Sink
from tests.conformance.writable import Maker as WritableMaker
from tests.origins import Peer
from tests.sockets import Feeder, Taker, pair, reset, shrink, until

__all__ = ['READABLE_MAKERS', 'WRITABLE_MAKERS']

#: A high-water mark that is reached all the time.
TINY = 16


# -- streams with a producer or a function ----------------------------------------------------------------------------


def _pushed(make: Callable[[], Any]) -> ReadableMaker:
    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Source]:
        stream = make()
        try:
            yield Source(
                stream, stream.push, lambda: stream.push(None), lambda: stream.destroy(IncompleteBody('cut off'))
            )
        finally:
            stream.destroy()

    return maker


@contextlib.contextmanager
def _pulled(length: int) -> Iterator[Source]:
    """Make a stream with a producer that pushes only on demand."""
    chunks: list[bytes | None] = []
    waiting: list[Readable] = []

    def push() -> None:
        while chunks and waiting:
            waiting.pop().push(chunks.pop(0))

    def read(stream: Readable, size: int) -> None:
        waiting.append(stream)
        push()

    def produce(data: bytes | None) -> None:
        chunks.append(data)
        push()

    stream = Readable(read, high_water_mark=TINY)
    yield Source(stream, produce, lambda: produce(None), lambda: stream.destroy(IncompleteBody('cut off')))
    stream.destroy()


def _function(make: Callable[[Callable[[bytes], Any]], Any], *, clogged: bool) -> WritableMaker:
    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Sink]:
        gate = Event()
        taken = bytearray()

        def write(data: bytes) -> None:
            gate.wait()
            taken.extend(data)

        if not clogged:
            gate.set()
        stream = make(write)

        def collect() -> bytes:
            gate.set()
            while not stream.writable_finished:
                gevent.idle()
            return bytes(taken)

        try:
            yield Sink(stream, gate.set, collect, stream.destroy)
        finally:
            stream.destroy()
            gate.set()

    return maker


# -- sockets ----------------------------------------------------------------------------------------------------------


def _cut(family: str, stream: Any, far: Any) -> None:
    """Abort the connection."""
    if family == 'unix':
        # a Unix socket that is closed with unread data resets its peer
        stream._send(b'unread')
        far.close()
    else:
        reset(far)


def _socket_readable(family: str, **options: Any) -> ReadableMaker:
    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Source]:
        with pair(family, **options) as (stream, far):
            feeder = Feeder(far)
            try:
                yield Source(stream, feeder.send, feeder.end, lambda: _cut(family, stream, far))
            finally:
                feeder.stop()

    return maker


def _socket_writable(family: str, *, clogged: bool, **options: Any) -> WritableMaker:
    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Sink]:
        with pair(family, small=clogged, **options) as (stream, far):
            taker = Taker(far)
            if not clogged:
                taker.start()
            try:
                yield Sink(stream, taker.start, taker.all, lambda: _cut(family, stream, far))
            finally:
                taker.stop()

    return maker


# -- HTTP messages ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _exchange(head: bytes, *, small: bool = False) -> Iterator[tuple[Any, Any, Any]]:
    """Send ``head`` to a server; yield its request, its response and the socket of the client."""
    arrived: AsyncResult = AsyncResult()
    over = Event()

    def on_request(request: Any, response: Any) -> None:
        arrived.set((request, response))
        over.wait()

    server = geventnode_http.create_server(on_request)
    if small:
        server.on('connection', lambda socket: shrink(socket._raw))
    with server.listen(0, '127.0.0.1'):
        far = gevent.socket.socket()
        if small:
            shrink(far)
        far.connect(('127.0.0.1', server.address()['port']))
        far.sendall(head)
        request, response = arrived.get()
        try:
            yield request, response, far
        finally:
            over.set()
            far.close()
            server.close_all_connections()


def _request_body(*, chunked: bool, mark: int | None = None) -> ReadableMaker:
    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Source]:
        framing = 'Transfer-Encoding: chunked' if chunked else f'Content-Length: {length}'
        with _exchange(f'POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n'.encode()) as (request, _, far):
            if mark is not None:
                request.socket.readable_high_water_mark = mark
            feeder = Feeder(far)

            def feed(data: bytes) -> None:
                feeder.send(b'%x\r\n%b\r\n' % (len(data), data) if chunked else data)

            def finish() -> None:
                if chunked:
                    feeder.send(b'0\r\n\r\n')

            try:
                yield Source(request, feed, finish, lambda: reset(far))
            finally:
                feeder.stop()

    return maker


def _answer_body(*, chunked: bool) -> ReadableMaker:
    """Return a maker of responses that a client receives."""

    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Source]:
        framing = 'Transfer-Encoding: chunked' if chunked else f'Content-Length: {length}'
        listener = gevent.socket.socket()
        with contextlib.closing(listener), geventnode_http.Agent() as agent:
            listener.bind(('127.0.0.1', 0))
            listener.listen(1)
            request = geventnode_http.get(port=listener.getsockname()[1], host='127.0.0.1', agent=agent)
            far, _ = listener.accept()
            with contextlib.closing(far):
                far.recv(65536)
                far.sendall(f'HTTP/1.1 200 OK\r\n{framing}\r\n\r\n'.encode())
                feeder = Feeder(far)

                def feed(data: bytes) -> None:
                    feeder.send(b'%x\r\n%b\r\n' % (len(data), data) if chunked else data)

                def finish() -> None:
                    if chunked:
                        feeder.send(b'0\r\n\r\n')

                try:
                    yield Source(request.get_response(), feed, finish, lambda: reset(far))
                finally:
                    feeder.stop()

    return maker


class _Receiving:
    """A call of ``receive`` in a greenlet, at once or after :meth:`start`."""

    def __init__(self, receive: Callable[[], bytes], clogged: bool) -> None:
        self._greenlet = gevent.Greenlet(receive)
        if not clogged:
            self.start()

    def start(self) -> None:
        if not self._greenlet.started:
            self._greenlet.start()

    def all(self) -> bytes:
        self.start()
        return self._greenlet.get()

    def __enter__(self) -> _Receiving:
        return self

    def __exit__(self, *args: object) -> None:
        self._greenlet.kill()


def _response_body(framing: str, *, clogged: bool) -> WritableMaker:
    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Sink]:
        version = '1.0' if framing == 'close' else '1.1'
        with _exchange(f'GET / HTTP/{version}\r\nHost: x\r\n\r\n'.encode(), small=clogged) as (_, response, far):
            if framing == 'length':
                response.set_header('Content-Length', length)
            if clogged:
                response.socket.writable_high_water_mark = 2 * TINY

            def receive() -> bytes:
                answer = http.client.HTTPResponse(far)
                answer.begin()
                return answer.read()

            with _Receiving(receive, clogged) as received:
                yield Sink(response, received.start, received.all, lambda: reset(far))

    return maker


def _uploaded_body(framing: str, *, clogged: bool) -> WritableMaker:
    """Return a maker of requests that a client sends."""

    @contextlib.contextmanager
    def maker(length: int) -> Iterator[Sink]:
        def connect(options: dict[str, Any]) -> Socket:
            socket = Socket(high_water_mark=2 * TINY if clogged else DEFAULT_HIGH_WATER_MARK)
            return socket.connect(options['port'], options['host'])

        listener = gevent.socket.socket()
        with contextlib.closing(listener), geventnode_http.Agent() as agent:
            listener.bind(('127.0.0.1', 0))
            listener.listen(1)
            request = geventnode_http.request(
                port=listener.getsockname()[1],
                host='127.0.0.1',
                agent=agent,
                method='POST',
                create_connection=connect,
                headers={'Content-Length': length} if framing == 'length' else {'Transfer-Encoding': 'chunked'},
            )
            # the checks cut the connection
            request.on('error', lambda error: None)
            request.flush_headers()
            far, _ = listener.accept()
            until(lambda: request.socket is not None and not request.socket.pending)
            if clogged:
                shrink(request.socket._raw)
            try:
                with _Receiving(lambda: Peer(far).request().body, clogged) as received:
                    yield Sink(request, received.start, received.all, lambda: reset(far))
            finally:
                request.destroy()
                far.close()

    return maker


READABLE_MAKERS: dict[str, ReadableMaker] = {
    'Readable-free': _pushed(Readable),
    'Readable-clogged': _pulled,
    'Duplex-free': _pushed(Duplex),
    'tcp-free': _socket_readable('tcp'),
    'tcp-clogged': _socket_readable('tcp', high_water_mark=TINY),
    'unix-clogged': _socket_readable('unix', high_water_mark=TINY),
    'memory-free': _socket_readable('memory'),
    'memory-clogged': _socket_readable('memory', high_water_mark=TINY),
    'tls-free': _socket_readable('tls'),
    'tls-clogged': _socket_readable('tls', high_water_mark=TINY),
    'chunked-free': _request_body(chunked=True),
    'chunked-clogged': _request_body(chunked=True, mark=TINY),
    'length-free': _request_body(chunked=False),
    'chunked-answer-free': _answer_body(chunked=True),
    'length-answer-free': _answer_body(chunked=False),
}
WRITABLE_MAKERS: dict[str, WritableMaker] = {
    'Writable-free': _function(Writable, clogged=False),
    'Writable-clogged': _function(lambda write: Writable(write, high_water_mark=len(PIECE) + 1), clogged=True),
    'Duplex-clogged': _function(lambda write: Duplex(write=write, high_water_mark=len(PIECE) + 1), clogged=True),
    'tcp-free': _socket_writable('tcp', clogged=False, allow_half_open=True),
    'tcp-clogged': _socket_writable('tcp', clogged=True, high_water_mark=2 * TINY),
    'unix-clogged': _socket_writable('unix', clogged=True, high_water_mark=2 * TINY),
    'memory-free': _socket_writable('memory', clogged=False, allow_half_open=True),
    'memory-clogged': _socket_writable('memory', clogged=True, high_water_mark=2 * TINY),
    'tls-free': _socket_writable('tls', clogged=False, allow_half_open=True),
    'tls-clogged': _socket_writable('tls', clogged=True, high_water_mark=2 * TINY),
    'chunked-free': _response_body('chunked', clogged=False),
    'chunked-clogged': _response_body('chunked', clogged=True),
    'length-clogged': _response_body('length', clogged=True),
    'close-free': _response_body('close', clogged=False),
    'chunked-upload-free': _uploaded_body('chunked', clogged=False),
    'chunked-upload-clogged': _uploaded_body('chunked', clogged=True),
    'length-upload-clogged': _uploaded_body('length', clogged=True),
}
