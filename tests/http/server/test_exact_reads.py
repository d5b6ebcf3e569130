"""Test readers that read a body to its last byte and no further: the connection stays open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gevent
import pytest

from geventnode.integrations.wsgi import wsgi
from tests.servers import Client, Log, Serve, get, post

#: Sizes on both sides of every buffer between client and listener, and of ``max_unread_body``.
SIZES = (1, 60_000, 65_536, 65_537, 100_000, 1_000_000)

PIECE = 16_384


def _read_at_once(body: Any, size: int) -> int:
    return len(body.read(size))


def _read_in_pieces(body: Any, size: int) -> int:
    return _in_pieces(lambda limit: len(body.read(limit)), size)


def _read1(body: Any, size: int) -> int:
    return _in_pieces(lambda limit: len(body.read1(limit)), size)


def _readinto(body: Any, size: int) -> int:
    return _in_pieces(lambda limit: body.readinto(bytearray(limit)), size)


def _read_file(body: Any, size: int) -> int:
    return len(body.makefile().read(size))


def _in_pieces(read: Callable[[int], int], size: int) -> int:
    """Read ``size`` bytes and no more, as PEP 3333 requires of applications."""
    missing = size
    while missing:
        missing -= read(min(missing, PIECE))
    return size


WAYS = (_read_at_once, _read_in_pieces, _read1, _readinto, _read_file)


def _exact(read: Callable[[Any, int], int]) -> Callable[[Any, Any], None]:
    """Return a listener that reads up to the declared length."""

    def listener(request: Any, response: Any) -> None:
        size = int(request.headers.get('content-length') or request.headers.get('x-length') or 0)
        response.end(str(read(request, size)))

    return listener


def _chunked(body: bytes, chunk: int = 50_000) -> bytes:
    """Return a request with a chunked body, of which only the application knows the length."""
    chunks = [body[start : start + chunk] for start in range(0, len(body), chunk)]
    return get('/', 'Transfer-Encoding: chunked', f'X-Length: {len(body)}', method='POST') + b''.join(
        b'%x\r\n%b\r\n' % (len(each), each) for each in chunks
    )


def _send_meanwhile(client: Client, *pieces: bytes) -> None:
    """Send more than the kernel can buffer while the responses are read."""
    gevent.spawn(client.send, *pieces)


@pytest.mark.parametrize('read', WAYS)
@pytest.mark.parametrize('size', SIZES)
def test_the_next_request_is_served_after_an_exact_read(
    serve: Serve, read: Callable[[Any, int], int], size: int
) -> None:
    """It arrives later, or is pipelined."""
    client = serve(_exact(read)).connect()
    _send_meanwhile(client, post(b'x' * size))
    first = client.response()
    assert (first.body, first.closes) == (str(size).encode(), False)
    _send_meanwhile(client, post(b'x' * size), get('/next'))
    assert client.response().body == str(size).encode()
    assert client.response().body == b'0'


@pytest.mark.parametrize('read', [_read_in_pieces, _read1, _readinto])
@pytest.mark.parametrize('size', SIZES)
def test_an_exact_read_finds_a_received_end_of_chunks(serve: Serve, read: Callable[[Any, int], int], size: int) -> None:
    """There is no wait after the last data."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        read(request, size)
        if request.method == 'POST':
            # the end arrives with the next request, and both before the response
            log.append('read')
            log.wait_for('sent')
        response.end(request.url)

    client = serve(listener).connect()
    _send_meanwhile(client, _chunked(b'x' * size))
    log.wait_for('read')
    client.send(b'0\r\nX-Trailer: 1\r\n\r\n')
    log.append('sent')
    size = 0
    assert not client.response().closes
    assert client.get('/next').body == b'/next'


@pytest.mark.parametrize('size', SIZES)
def test_an_exact_read_after_100_continue(serve: Serve, size: int) -> None:
    client = serve(_exact(_read_in_pieces)).send(
        get('/', f'Content-Length: {size}', 'Expect: 100-continue', method='POST')
    )
    assert client.head().status == 100
    _send_meanwhile(client, b'x' * size, get('/next'))
    assert client.response().body == str(size).encode()
    assert client.response().body == b'0'


@pytest.mark.parametrize('size', SIZES)
def test_an_exact_read_of_a_wsgi_application(serve: Serve, size: int) -> None:
    """PEP 3333 requires it."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get('CONTENT_LENGTH') or 0)
        read = _in_pieces(lambda limit: len(environ['wsgi.input'].read(limit)), length)
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [str(read).encode()]

    client = serve(wsgi(application)).connect()
    for _ in range(2):
        _send_meanwhile(client, post(b'x' * size))
        reply = client.response()
        assert (reply.body, reply.closes) == (str(size).encode(), False)
    assert client.get('/next').body == b'0'


def test_an_exact_read_after_the_response_has_ended(serve: Serve) -> None:
    """The reader of the last byte frees the connection, and gets that byte."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        if request.method == 'GET':
            response.end('next')
            return
        gevent.spawn(lambda: log.append(len(request.read(60_000))))
        gevent.sleep(0)
        response.end('early')

    client = serve(listener).send(post(b'x', length=60_000))
    assert client.response().body == b'early'
    client.send(b'x' * 59_999, get('/next'))
    assert client.response().body == b'next'
    log.wait_for(60_000)


def test_the_end_event_follows_an_exact_read(serve: Serve) -> None:
    """``complete`` is true with the last byte. Only a further read gets ``'end'`` and the trailers."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('end', log.note('end'))
        log.append((request.read(3), request.complete, request.trailers, request.readable_ended))
        log.append((request.read(3), request.trailers.get('x-trailer'), request.readable_ended))
        response.end()

    client = serve(listener).send(
        get('/', 'Transfer-Encoding: chunked', method='POST') + b'3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n'
    )
    client.response()
    assert log == [(b'abc', True, {}, False), 'end', (b'', '1', True)]


def test_a_malformed_end_of_chunks_raises_after_the_data(serve: Serve) -> None:
    """It is parsed early, and raises at the next read."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.read(3))
        request.read(1)

    client = serve(listener).send(
        get('/', 'Transfer-Encoding: chunked', method='POST') + b'3\r\nabc\r\n0\r\nno field\r\n\r\n'
    )
    assert client.response().status == 400
    assert log == [b'abc']
