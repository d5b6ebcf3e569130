"""The input of WSGI applications."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import pytest

from geventnode.errors import IncompleteBody
from geventnode.integrations.wsgi import input as wsgi_input
from geventnode.integrations.wsgi.input import BUFFER_SIZE
from tests.applications import PLAIN, Environ, Run, saying
from tests.servers import Log, get, post

LINES = b'first\nsecond\r\nthird'

CHUNKED = get('/', 'Transfer-Encoding: chunked', method='POST')


def chunked(*pieces: bytes) -> bytes:
    """Return a request with a chunked body."""
    return CHUNKED + b''.join(b'%x\r\n%b\r\n' % (len(piece), piece) for piece in pieces) + b'0\r\n\r\n'


def read_all(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Respond with the body of the request."""
    body = environ['wsgi.input'].read()
    start_response('200 OK', PLAIN)
    return [body]


@pytest.mark.parametrize(
    ('ask', 'expected'),
    [
        (lambda file: file.read(), LINES),
        (lambda file: file.read(-1), LINES),
        (lambda file: file.read(None), LINES),
        (lambda file: file.read(5) + file.read(100) + file.read(5), LINES),
        (lambda file: file.read(0), b''),
        (lambda file: file.readline() + file.read(), LINES),
        (lambda file: file.readline(3), b'fir'),
        (lambda file: file.read(3) + file.readline(), b'first\n'),
        (lambda file: b'|'.join(file), b'first\n|second\r\n|third'),
        (lambda file: b'|'.join(file.readlines()), b'first\n|second\r\n|third'),
        (lambda file: b'|'.join(file.readlines(7)), b'first\n|second\r\n'),
        (lambda file: file.readline(None), b'first\n'),
        (lambda file: b'|'.join(file.readlines(None)), b'first\n|second\r\n|third'),
    ],
)
@pytest.mark.parametrize('body', ['with a length', 'chunked', 'chunked, not buffered'])
def test_input_ends_with_the_body(run: Run, ask: Callable[[Any], bytes], expected: bytes, body: str) -> None:
    """With every framing; the bytes after it are another request."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        file = environ['wsgi.input']
        answer = ask(file)
        assert environ.get('CONTENT_LENGTH') == (None if body == 'chunked, not buffered' else str(len(LINES)))
        assert 'HTTP_TRANSFER_ENCODING' not in environ
        start_response('200 OK', PLAIN)
        return [answer]

    request = post(LINES) if body == 'with a length' else chunked(*(LINES[place : place + 1] for place in range(19)))
    client = run(application, buffer_chunked=body == 'chunked').send(request, request)
    assert client.response().body == client.response().body == expected


@pytest.mark.parametrize(
    ('ask', 'expected'),
    [
        (lambda file: io.TextIOWrapper(file, 'ascii', newline='').read().encode(), LINES),
        (lambda file: b'|'.join(line.encode() for line in io.TextIOWrapper(file, 'ascii')), b'first\n|second\n|third'),
        (lambda file: io.BufferedReader(file).read(), LINES),
        (lambda file: b'|'.join(io.BufferedReader(file)), b'first\n|second\r\n|third'),
        (lambda file: io.BufferedReader(file).read(5) + b'|', b'first|'),
        (lambda file: next(file) + b'|' + next(file), b'first\n|second\r\n'),
        (lambda file: b'|'.join(iter(file)), b'first\n|second\r\n|third'),
        (lambda file: b''.join(iter(lambda: file.read1(5), b'')), LINES),
        (lambda file: b''.join(iter(file.read1, b'')), LINES),
        (lambda file: file.readline() + file.read1(100), LINES),
        (lambda file: into(file.readinto), LINES),
        (lambda file: into(file.readinto1), LINES),
        (lambda file: file.readline() + into(file.readinto), LINES),
    ],
)
@pytest.mark.parametrize('body', ['with a length', 'chunked', 'chunked, not buffered'])
def test_input_is_a_file(run: Run, ask: Callable[[Any], bytes], expected: bytes, body: str) -> None:
    """It has the methods of a binary file, so that the standard library can wrap it."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        answer = ask(environ['wsgi.input'])
        start_response('200 OK', PLAIN)
        return [answer]

    request = post(LINES) if body == 'with a length' else chunked(LINES[:8], LINES[8:])
    client = run(application, buffer_chunked=body == 'chunked').send(request, request)
    assert client.response().body == client.response().body == expected


def into(readinto: Callable[[bytearray], int]) -> bytes:
    """Return all bytes, read with ``readinto``."""
    buffer, parts = bytearray(6), b''
    while size := readinto(buffer):
        parts += buffer[:size]
    return parts


@pytest.mark.parametrize('request_bytes', [get(), post(LINES), chunked(LINES)])
def test_input_can_be_closed(run: Run, request_bytes: bytes) -> None:
    """The next request on the connection has its own input."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        file = environ['wsgi.input']
        assert isinstance(file, io.BufferedIOBase)
        assert (file.closed, file.readable()) == (False, True)
        with file as entered:
            assert entered is file
            body = file.read()
        with contextlib.suppress(ValueError):
            # the input that all requests without a body share remains open
            assert file.read() == body == b''
        start_response('200 OK', PLAIN)
        return [body]

    client = run(application).send(request_bytes, request_bytes)
    assert client.response().body == client.response().body == (b'' if request_bytes == get() else LINES)


@pytest.mark.parametrize(
    'read',
    [
        lambda file: file.read(),
        lambda file: file.read1(),
        lambda file: file.readinto(bytearray(1)),
        lambda file: file.readline(),
        lambda file: file.readlines(),
        iter,
        next,
    ],
)
def test_closed_input(run: Run, read: Callable[[Any], object]) -> None:
    """It raises; the rest of the body is discarded like an unread one."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        file = environ['wsgi.input']
        file.close()
        assert file.closed
        with pytest.raises(ValueError, match='closed file'):
            read(file)
        start_response('200 OK', PLAIN)
        return []

    client = run(application).send(post(LINES), post(LINES))
    assert client.response().status == client.response().status == 200


@pytest.mark.parametrize('method', ['GET', 'POST'])
def test_no_input(run: Run, method: str) -> None:
    """Every call returns the end at once."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        file = environ['wsgi.input']
        assert [file.read(), file.read(5), file.readline(), file.readline(5), file.readlines(), list(file)] == [
            b'',
            b'',
            b'',
            b'',
            [],
            [],
        ]
        assert (file.read1(), file.readinto(bytearray(1)), next(file, None)) == (b'', 0, None)
        with io.TextIOWrapper(file) as text:
            assert text.read() == ''
        assert io.BufferedReader(file).read() == b''
        start_response('200 OK', PLAIN)
        return []

    fields = ['Content-Length: 0'] if method == 'POST' else []
    assert run(application).send(get('/', *fields, method=method)).response().status == 200


def test_input_streams(run: Run) -> None:
    """Received bytes can be read before the rest is sent."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        for line in environ['wsgi.input']:
            log.append(line)
            yield line

    client = run(application).send(post(b'', length=8))
    for line in (b'one\n', b'two\n'):
        client.send(line)
        log.wait_for(line)
    assert client.response().body == b'one\ntwo\n'


def test_incomplete_input(run: Run) -> None:
    """It raises and never looks complete."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        try:
            environ['wsgi.input'].read()
        except OSError as error:
            log.append(type(error))
            raise
        return []

    client = run(application, raise_body_errors=True).send(post(b'half', length=8))
    client.half_close()
    assert client.response().status == 400
    assert log == [IncompleteBody]


@pytest.mark.parametrize(('reads', 'continues'), [(True, True), (False, False)])
def test_100_continue_when_the_body_is_read(run: Run, reads: bool, continues: bool) -> None:
    """Once, and not if the application responds without reading."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        data = environ['wsgi.input'].read(2) + environ['wsgi.input'].read() if reads else b''
        start_response('200 OK' if reads else '401 Unauthorized', PLAIN)
        return [data]

    client = run(application).send(get('/', 'Expect: 100-continue', 'Content-Length: 4', method='PUT'))
    if continues:
        assert client.head().status == 100
        client.send(b'body')
    assert client.head().status == (200 if reads else 401)


def test_an_early_response_to_a_large_upload(run: Run) -> None:
    """The rest of it is not received."""
    site = run(saying([b'no'], '403 Forbidden'))
    client = site.send(post(b'x' * 1000, length=4 << 30))
    reply = client.response()
    assert (reply.status, reply.body, reply.closes) == (403, b'no', True)
    assert client.rest() == b''


def test_input_terminated(run: Run) -> None:
    """A framework can read a body of unknown length to its end."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        assert environ['wsgi.input_terminated'] is True
        return read_all(environ, start_response)

    client = run(application, buffer_chunked=False).send(chunked(b'body'), get())
    assert client.response().body == b'body'
    assert client.response().body == b''


# -- chunked bodies, which are buffered -------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [0, 1, BUFFER_SIZE, BUFFER_SIZE + 1, 3_000_000])
def test_a_chunked_body_has_a_length(run: Run, size: int) -> None:
    """Applications can read up to CONTENT_LENGTH; a large body is in a file, closed at the end."""
    body = bytes(range(250)) * (size // 250) + b'x' * (size % 250)
    seen = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(environ['wsgi.input'])
        start_response('200 OK', PLAIN)
        # in the generator, after the call
        yield environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH', 0)))

    client = run(application).send(chunked(*filter(None, (body[:1000], body[1000:]))), get())
    assert client.response().body == body
    assert client.response().body == b''
    assert isinstance(seen[0], io.BytesIO) is (size <= BUFFER_SIZE)
    assert seen[0].closed


def test_buffered_bodies_share_the_memory_of_the_server(run: Run) -> None:
    """Buffered bytes count for ``max_buffered``; at the limit, a body is in a file."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        log.append(environ['PATH_INFO'])
        log.wait_for('answer')
        return read_all(environ, start_response)

    site = run(application, max_buffered=10_000)
    body = b'x' * 6000
    clients = []
    for url in '/memory', '/file':
        head, _, rest = chunked(body).partition(b' / ')
        clients.append(site.send(head + f' {url} '.encode() + rest))
        log.wait_for(url)
        # including some bytes of the framing
        assert 6000 <= site.server.statistics()['buffered'] <= 6010
    log.append('answer')
    assert [client.response().body for client in clients] == [body, body]
    assert site.server.statistics()['buffered'] == 0


@pytest.mark.parametrize('failing', ['open', 'write', 'flush'])
def test_a_temporary_file_that_cannot_be_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full, or no descriptor is left: 503, one line in the log, no leak."""

    def open_file() -> Any:
        if failing == 'open':
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        # a device that is always full; the larger buffer is flushed only at the end
        return open('/dev/full', 'w+b', buffering=10_000_000 if failing == 'flush' else -1)

    monkeypatch.setattr(tempfile, 'TemporaryFile', open_file)
    site = run(read_all)
    reply = site.send(chunked(b'x' * BUFFER_SIZE, b'x')).response()
    assert (reply.status, reply.closes) == (503, True)
    (line,) = caplog.messages
    assert 'a chunked body cannot be buffered' in line
    assert site.server.statistics()['buffered'] == 0


def test_an_incomplete_buffered_body_frees_its_memory(run: Run) -> None:
    site = run(read_all)
    client = site.send(CHUNKED + b'4\r\nbody\r\n')
    while site.server.statistics()['buffered'] != 4:
        gevent.idle()
    assert client.send(b'nonsense\r\n').response().status == 400
    assert site.server.statistics()['buffered'] == 0


def test_a_chunked_body_is_buffered_before_the_call(run: Run) -> None:
    """100 Continue is sent before the application is called."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        log.append('called')
        return read_all(environ, start_response)

    client = run(application).send(get('/', 'Transfer-Encoding: chunked', 'Expect: 100-continue', method='PUT'))
    assert client.head().status == 100
    client.send(b'4\r\nbody\r\n')
    gevent.idle()
    assert not log
    client.send(b'0\r\n\r\n')
    assert client.response().body == b'body'


def test_a_chunked_body_that_is_not_buffered(run: Run) -> None:
    """The application reads received bytes, and responds before the rest is sent."""

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        yield from environ['wsgi.input']

    client = run(application, buffer_chunked=False).send(CHUNKED)
    for number, line in enumerate((b'one\n', b'two\n')):
        client.send(b'4\r\n' + line + b'\r\n')
        if number == 0:
            assert client.head().status == 200
        assert client.exactly(9) == b'4\r\n' + line + b'\r\n'
    client.send(b'0\r\n\r\n')
    assert client.exactly(5) == b'0\r\n\r\n'


@pytest.mark.parametrize(
    ('sent', 'options', 'status'),
    [
        (chunked(b'x' * 600), {'max_body_size': 1000}, 200),
        (chunked(b'x' * 600, b'x' * 600), {'max_body_size': 1000}, 413),
        (CHUNKED + b'nonsense\r\n', {}, 400),
        (CHUNKED + b'4\r\nbo', {}, 400),
        (CHUNKED + b'4\r\nbo', {'request_timeout': 0.05}, 408),
    ],
)
@pytest.mark.usefixtures('caplog')
def test_a_chunked_body_that_cannot_be_buffered(run: Run, sent: bytes, options: Any, status: int) -> None:
    """The server responds, and the application is not called."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        log.append('called')
        return read_all(environ, start_response)

    client = run(application, **options).send(sent)
    if status == 400:
        client.half_close()
    reply = client.response()
    assert (reply.status, reply.closes) == (status, status != 200)
    assert log == ['called'] * (status == 200)


def test_without_max_body_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another limit applies: a client must not fill the disk."""
    monkeypatch.setattr(wsgi_input, 'MAX_BUFFERED_BODY', 1000)
    site = run(read_all)
    for size, status in (500, 200), (501, 413):
        reply = site.send(chunked(b'x' * 500, b'x' * (size - 1), b'x')).response()
        assert (reply.status, reply.closes) == (status, status != 200)
    assert run(read_all, max_body_size=2000).send(chunked(b'x' * 1500)).response().status == 200
