"""Files as bodies: ``response.send_file``."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventnode.errors import ContentLengthMismatch, WriteAfterEnd
from geventnode.http.body_source import BodySource
from geventnode.net.socket import FILE_SLICE
from tests.servers import Log, Serve, get, ok

DATA = bytes(range(256)) * 40_000
FIRST = b'a head of its own\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is too large for the buffer of a socket."""
    path = tmp_path / 'file'
    path.write_bytes(DATA)
    return path


def test_whole_file_is_sent_with_its_length(serve: Serve, path: Path) -> None:
    """The connection is kept."""

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


def test_kernel_sends_the_file(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process does not read it."""

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
def test_part_of_a_file_is_sent(serve: Serve, path: Path, position: int, size: int | None, expected: bytes) -> None:
    """From its position, and up to the given number of bytes."""

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            file.seek(position)
            response.send_file(file, size)

    reply = serve(listener).get()
    assert reply.values('Content-Length') == [str(len(expected))]
    assert reply.body == expected


def test_file_follows_earlier_writes(serve: Serve, path: Path) -> None:
    """It is sent in chunks, or up to the declared length."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/declared':
            response.set_header('Content-Length', len(FIRST) + len(DATA))
        response.write(FIRST)
        with path.open('rb') as file:
            response.send_file(file)

    client = serve(listener).connect()
    assert client.get('/chunked').body == FIRST + DATA
    assert client.get('/declared').body == FIRST + DATA


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere, there is no /proc')
def test_file_of_proc_is_read(serve: Serve) -> None:
    """It is a regular file with bytes, and its size is 0."""

    def listener(request: Any, response: Any) -> None:
        with open('/proc/version', 'rb') as file:
            response.send_file(file)

    assert serve(listener).get().body == Path('/proc/version').read_bytes()


def test_file_object_without_a_descriptor_is_read(serve: Serve) -> None:
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
def test_path_or_text_file_is_refused(serve: Serve, file: Any, message: str) -> None:
    """Before the head is sent, and nothing of it is sent."""

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
def test_file_opened_for_text_is_refused(serve: Serve, path: Path, open_it: Any) -> None:

    def listener(request: Any, response: Any) -> None:
        with open_it(path) as file, pytest.raises(TypeError, match='which returns text'):
            response.send_file(file)
        response.end('refused')

    assert serve(listener).get().body == b'refused'


@pytest.mark.parametrize('kind', [gzip, bz2, lzma])
def test_compressed_file_is_read(serve: Serve, tmp_path: Path, kind: Any) -> None:
    """Its descriptor would return the compressed bytes."""
    path = tmp_path / 'compressed'
    path.write_bytes(kind.compress(DATA[:200_000]))

    def listener(request: Any, response: Any) -> None:
        with kind.open(path) as file:
            response.send_file(file)

    assert serve(listener).get().body == DATA[:200_000]


class Inverted:
    """A wrapper with other bytes than its file, and with its descriptor."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        return invert(self.file.read(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class InvertedReader(io.BufferedReader):
    """A file of the standard library with other bytes than its descriptor."""

    def read(self, size: int | None = -1, /) -> bytes:
        return invert(super().read(size))


class InvertedRaw(io.FileIO):
    """A raw file with other bytes than its descriptor."""

    def readinto(self, buffer: Any, /) -> int:
        size = super().readinto(buffer)
        buffer[:size] = invert(buffer[:size])
        return size


@pytest.mark.parametrize('length', [None, 102])
def test_file_follows_corked_pieces(serve: Serve, path: Path, length: int | None) -> None:
    def listener(request: Any, response: Any) -> None:
        if length is not None:
            response.set_header('Content-Length', length)
        response.cork()
        response.cork()
        response.write('ab')
        with path.open('rb') as file:
            response.send_file(file, 100)

    assert serve(listener).get().body == b'ab' + DATA[:100]


class Unchanged(io.FileIO):
    """A file with the bytes of its descriptor, such as one that is deleted when it is closed."""


class UnchangedReader(io.BufferedReader):
    """The same, with a buffer."""


class OnlyRead:
    """A wrapper without a descriptor."""

    def __init__(self, path: Path) -> None:
        self.file = path.open('rb')

    def read(self, size: int = -1) -> bytes:
        return invert(self.file.read(size))


def invert(data: bytes) -> bytes:
    return bytes(each ^ 255 for each in data)


@pytest.mark.parametrize(
    'open_it',
    [
        lambda path: Inverted(path.open('rb')),
        lambda path: InvertedReader(io.FileIO(path)),
        lambda path: io.BufferedReader(InvertedRaw(path)),
        OnlyRead,
    ],
    ids=['delegating', 'subclass', 'raw', 'without a descriptor'],
)
def test_file_with_a_read_of_its_own_is_read(serve: Serve, path: Path, open_it: Any) -> None:
    """Its descriptor would return other bytes, and possibly another number of them."""
    path.write_bytes(DATA[:1000])

    def listener(request: Any, response: Any) -> None:
        file = open_it(path)
        assert BodySource(file).size is None
        response.send_file(file)
        getattr(file, 'file', file).close()

    assert serve(listener).get().body == invert(DATA[:1000])


class Delegating:
    """A file like those of Django: a property for each method."""

    def __init__(self, file: Any) -> None:
        self.file = file

    @property
    def read(self) -> Any:
        return self.file.read


def test_wrapped_file_is_sent_by_the_kernel(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its wrapper is wrapped, and has no descriptor."""

    def listener(request: Any, response: Any) -> None:
        with path.open('rb', buffering=0) as file:
            monkeypatch.setattr(os, 'read', None)
            response.send_file(Delegating(Delegating(file)))
            assert file.tell() == len(DATA)

    reply = serve(listener).get()
    assert reply.values('Content-Length') == [str(len(DATA))]
    assert reply.body == DATA


@pytest.mark.parametrize('open_it', [Unchanged, lambda path: UnchangedReader(Unchanged(path))])
def test_subclass_that_reads_as_its_base_has_a_length(serve: Serve, path: Path, open_it: Any) -> None:
    def listener(request: Any, response: Any) -> None:
        with open_it(path) as file:
            response.send_file(file)

    reply = serve(listener).get()
    assert reply.values('Content-Length') == [str(len(DATA))]
    assert reply.body == DATA


def test_temporary_file_is_sent_by_the_kernel(serve: Serve) -> None:
    """It wraps a file with a descriptor."""

    def listener(request: Any, response: Any) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(DATA)
            file.seek(5)
            response.send_file(file)

    reply = serve(listener).get()
    assert reply.values('Content-Length') == [str(len(DATA) - 5)]
    assert reply.body == DATA[5:]


@pytest.mark.parametrize('method', ['HEAD', 'GET'])
def test_file_is_not_sent_without_a_body(serve: Serve, path: Path, method: str) -> None:
    """For HEAD, and for statuses without a body."""

    def listener(request: Any, response: Any) -> None:
        if request.method == 'GET':
            response.status_code = 304
        with path.open('rb') as file:
            response.send_file(file)

    client = serve(listener).send(get('/', method=method), get('/', method='HEAD'))
    for asked in (method, 'HEAD'):
        assert client.response(asked).body == b''


def test_file_longer_than_declared_is_refused(serve: Serve, path: Path) -> None:
    """The client would parse the rest as the next response."""
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


def test_file_that_becomes_shorter_aborts_the_response(
    serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The declared bytes are missing."""
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


def test_disconnect_raises_in_send_file(serve: Serve, path: Path) -> None:
    """The sender holds no resource afterwards."""
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


def test_slow_reader_blocks_only_its_own_request(serve: Serve, path: Path) -> None:

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


@pytest.mark.parametrize('wrap', [lambda file: file, lambda file: io.BytesIO(file.read())], ids=['kernel', 'read'])
def test_interrupted_send_file_can_be_continued(serve: Serve, path: Path, wrap: Any) -> None:
    """The position of the file is after the last byte that was sent."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as plain, wrap(plain) as file:
            with gevent.Timeout(0, False):
                response.send_file(file)
                log.append('not interrupted')
            log.append(0 < file.tell() == response.body_size)
            response.send_file(file)

    client = serve(listener).send(get())
    log.wait_for_length(1)
    assert client.response().body == DATA
    assert log == [True]


@pytest.mark.parametrize('by_kernel', [True, False])
def test_others_run_while_a_file_is_sent(
    serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch, by_kernel: bool
) -> None:
    """Even if the client is always ready to receive."""
    log, seen = Log(), []
    others = 0

    def note(*args: int) -> int:
        """Note how often others have run, and return the number of bytes."""
        seen.append(others)
        return args[-1]

    class Zeros:
        def read(self, size: int) -> bytes:
            return bytes(note(size))

    def run_beside() -> None:
        nonlocal others
        while True:
            others += 1
            # runs again whenever the sender gives way
            gevent.sleep(0)

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            response.send_file(file if by_kernel else Zeros(), 4 * FILE_SLICE if by_kernel else 100_000)
        log.append('sent')

    # each turn takes a second
    monkeypatch.setattr('geventnode.stream.turn.monotonic', itertools.count().__next__)
    monkeypatch.setattr(os, 'sendfile', note)
    beside = gevent.spawn(run_beside)
    try:
        client = serve(listener).send(get())
        log.wait_for('sent')
        client.until(b'\r\n\r\n')
    finally:
        beside.kill()
    assert len(seen) == (4 if by_kernel else 2)
    assert len(set(seen)) == len(seen)


def test_send_file_after_end_raises(serve: Serve, path: Path) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.end()
        with path.open('rb') as file, pytest.raises(WriteAfterEnd):
            response.send_file(file)
        log.append('raised')

    assert serve(listener).get().body == b''
    log.wait_for('raised')


def test_file_that_sendfile_refuses_is_read(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def sendfile(*args: int) -> int:
        raise OSError(22, 'Invalid argument')

    monkeypatch.setattr(os, 'sendfile', sendfile)

    def listener(request: Any, response: Any) -> None:
        with path.open('rb') as file:
            response.send_file(file)

    assert serve(listener).get().body == DATA


def test_killed_greenlet_releases_the_file(serve: Serve, path: Path) -> None:
    """The response is aborted."""
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
