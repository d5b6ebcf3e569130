"""Files as bodies: ``response.send_file``."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventnode.errors import ContentLengthMismatch, WriteAfterEnd
from tests.servers import Log, Serve, get, ok

DATA = bytes(range(256)) * 40_000
FIRST = b'a head of its own\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that no socket takes at once."""
    path = tmp_path / 'file'
    path.write_bytes(DATA)
    return path


def test_a_whole_file(serve: Serve, path: Path) -> None:
    """Its length is declared, and the connection goes on."""

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            assert response.send_file(file) is response
            assert file.tell() == len(DATA)
            assert response.finished

    client = serve(listener).connect()
    for _ in range(2):
        reply = client.get()
        assert reply.values('Content-Length') == [str(len(DATA))]
        assert reply.body == DATA


def test_the_kernel_sends_it(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads it."""

    def listener(request: Any, response: Any) -> None:
        with path.open('rb', buffering=0) as file:
            monkeypatch.setattr(os, 'read', None)
            response.send_file(file)

    sent = []
    original = os.sendfile
    monkeypatch.setattr(os, 'sendfile', lambda *args: sent.append(original(*args)) or sent[-1])
    assert serve(listener).get().body == DATA
    assert sum(sent) == len(DATA)


@pytest.mark.parametrize(
    ('position', 'size', 'expected'),
    [
        (0, 10, DATA[:10]),
        (5, None, DATA[5:]),
        (5, 7, DATA[5:12]),
        (len(DATA) - 3, 10, DATA[-3:]),
        (len(DATA), None, b''),
        (len(DATA) + 5, 3, b''),
    ],
)
def test_a_part(serve: Serve, path: Path, position: int, size: int | None, expected: bytes) -> None:
    """From the position of the file on, and no more than asked for."""

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            file.seek(position)
            response.send_file(file, size)

    reply = serve(listener).get()
    assert reply.values('Content-Length') == [str(len(expected))]
    assert reply.body == expected


def test_behind_what_was_written(serve: Serve, path: Path) -> None:
    """In order; then in chunks, or as far as the declared length goes."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/declared':
            response.set_header('Content-Length', len(FIRST) + len(DATA))
        response.write(FIRST)
        with path.open('rb') as file:
            response.send_file(file)

    client = serve(listener).connect()
    assert client.get('/chunked').body == FIRST + DATA
    assert client.get('/declared').body == FIRST + DATA


def test_what_is_no_file_of_the_system(serve: Serve) -> None:
    """Is read."""
    reply = serve(lambda request, response: response.send_file(io.BytesIO(DATA), len(DATA) - 1)).get()
    assert reply.body == DATA[:-1]
    assert reply.values('Transfer-Encoding') == ['chunked']


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        ('report.txt', r"not str: open\('report.txt', 'rb'\)$"),
        (b'report.txt', r"not bytes: open\(b'report.txt', 'rb'\)$"),
        (Path('report.txt'), r"not \w*Path: open\('report.txt', 'rb'\)$"),
        (3, 'not int$'),
        ([b'data'], 'not list$'),
        (io.StringIO('text'), "not StringIO, which returns text: open it with the mode 'rb'$"),
        (codecs.getreader('utf-8')(io.BytesIO(b'text')), 'which returns text'),
        (
            codecs.StreamReaderWriter(io.BytesIO(), codecs.getreader('utf-8'), codecs.getwriter('utf-8')),
            'which returns text',
        ),
    ],
)
def test_what_is_no_binary_file(serve: Serve, file: Any, message: str) -> None:
    """Is refused before the head leaves, and not sent itself."""

    def listener(request: Any, response: Any) -> None:
        with pytest.raises(TypeError, match='takes a file opened for reading in binary mode, .*' + message):
            response.send_file(file)
        response.write_head(404)
        response.end()

    assert serve(listener).get().status == 404


@pytest.mark.parametrize(
    'open_it',
    [partial(open, encoding='utf-8'), partial(gzip.open, mode='rt'), lambda path: tempfile.NamedTemporaryFile('w+')],  # noqa: SIM115
)
def test_a_file_that_is_open_for_text(serve: Serve, path: Path, open_it: Any) -> None:
    """As above."""

    def listener(request: Any, response: Any) -> None:
        with open_it(path) as file, pytest.raises(TypeError, match='which returns text'):
            response.send_file(file)
        response.end('refused')

    assert serve(listener).get().body == b'refused'


@pytest.mark.parametrize('kind', [gzip, bz2, lzma])
def test_a_compressed_file(serve: Serve, tmp_path: Path, kind: Any) -> None:
    """Is read, too: its descriptor would give what is compressed."""
    path = tmp_path / 'compressed'
    path.write_bytes(kind.compress(DATA[:200_000]))

    def listener(request: Any, response: Any) -> None:
        with kind.open(path) as file:
            response.send_file(file)

    assert serve(listener).get().body == DATA[:200_000]


def test_a_temporary_file(serve: Serve) -> None:
    """Is one of the system within another object."""

    def listener(request: Any, response: Any) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(DATA)
            file.seek(5)
            response.send_file(file)

    reply = serve(listener).get()
    assert reply.values('Content-Length') == [str(len(DATA) - 5)]
    assert reply.body == DATA[5:]


@pytest.mark.parametrize('method', ['HEAD', 'GET'])
def test_without_a_body(serve: Serve, path: Path, method: str) -> None:
    """HEAD, and statuses that have none: nothing of the file is sent."""

    def listener(request: Any, response: Any) -> None:
        if request.method == 'GET':
            response.status_code = 304
        with path.open('rb') as file:
            response.send_file(file)

    client = serve(listener).send(get('/', method=method), get('/', method='HEAD'))
    for asked in (method, 'HEAD'):
        assert client.response(asked).body == b''


def test_longer_than_declared(serve: Serve, path: Path) -> None:
    """The client must not take the rest for the next response."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 5)
        with path.open('rb') as file, pytest.raises(ContentLengthMismatch, match='Content-Length is 5'):
            response.send_file(file)
        log.append('raised')
        response.destroy()

    client = serve(listener).send(get())
    assert client.rest().endswith(b'\r\n\r\n')
    assert log == ['raised']


def test_a_file_that_gets_shorter(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is cut off: what was declared no longer comes."""
    original = os.sendfile

    def sendfile(out: int, source: int, offset: int, count: int) -> int:
        os.truncate(path, 1000)
        return original(out, source, offset, count)

    monkeypatch.setattr(os, 'sendfile', sendfile)

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            response.send_file(file)

    client = serve(listener).send(get())
    head, _, body = client.rest().partition(b'\r\n\r\n')
    assert b'Content-Length: %d' % len(DATA) in head
    assert body == DATA[:1000]


def test_a_client_that_goes(serve: Serve, path: Path) -> None:
    """Whoever sends is told, and holds nothing any more."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            try:
                response.send_file(file)
            except ConnectionError as error:
                log.append(error)
                raise

    site = serve(listener)
    client = site.connect(receive_buffer=4096).send(get())
    client.exactly(1000)
    client.abort()
    log.wait_for_length(1)


def test_others_go_on_meanwhile(serve: Serve, path: Path) -> None:
    """A client that takes nothing holds up nobody but its own request."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/other':
            ok(request, response)
        else:
            with path.open('rb') as file:
                response.send_file(file)

    site = serve(listener)
    slow = site.connect(receive_buffer=4096).send(get())
    slow.until(b'\r\n\r\n')
    assert site.get('/other').body == b'GET /other'
    assert slow.exactly(len(DATA)) == DATA


def test_after_the_end(serve: Serve, path: Path) -> None:
    """There is nothing to send any more."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.end()
        with path.open('rb') as file, pytest.raises(WriteAfterEnd):
            response.send_file(file)
        log.append('raised')

    assert serve(listener).get().body == b''
    log.wait_for('raised')


def test_a_kind_that_cannot_be_sent_so(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read then."""

    def sendfile(*args: int) -> int:
        raise OSError(22, 'Invalid argument')

    monkeypatch.setattr(os, 'sendfile', sendfile)

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            response.send_file(file)

    assert serve(listener).get().body == DATA


def test_a_greenlet_that_is_killed(serve: Serve, path: Path) -> None:
    """Leaves nothing behind, and the message is cut off."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(gevent.getcurrent())
        with path.open('rb') as file:
            response.send_file(file)

    client = serve(listener).connect(receive_buffer=4096).send(get())
    client.until(b'\r\n\r\n')
    log.wait_for_length(1)
    log[0].kill()
    assert len(client.rest()) < len(DATA)
