"""Sources and sinks of bodies: a file is replaced only by a complete body, and blocking I/O does not stop the loop."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.os import tp_read

from geventnode.cli.endpoints import DescriptorSink, DescriptorSource, FileSink, OutputError, open_sink, open_source
from tests.fetching import Get, RawServer, commands, raw_servers, url
from tests.servers import Serve

TRUNCATED = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab'
MISSING = b'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno'


def answer_at_length(request: Any, response: Any) -> None:
    for _ in range(64):
        response.write(bytes(65536))
    response.end()


@pytest.fixture
def get_command(capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Get]:
    yield from commands(capfdbinary)


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    yield from raw_servers()


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures('umask')
def test_new_file_follows_the_umask(serve: Serve, get_command: Get, tmp_path: Path) -> None:
    file = tmp_path / 'file'
    assert get_command(url(serve(answer_at_length)), '-o', file) == (0, b'', '')
    assert file.read_bytes() == bytes(64 * 65536)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.usefixtures('umask')
def test_replaced_file_keeps_its_permissions(raw_server: RawServer, get_command: Get, tmp_path: Path) -> None:
    """The file keeps its permissions, and a link to it is not replaced."""
    file, link = tmp_path / 'file', tmp_path / 'link'
    file.write_text('old content')
    file.chmod(0o604)
    link.symlink_to('file')
    where = raw_server(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab')
    assert get_command(where, '-o', link, '--include').status == 0
    assert file.read_bytes() == b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab'
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_empty_body_makes_an_empty_file(raw_server: RawServer, get_command: Get, tmp_path: Path) -> None:
    assert get_command(raw_server(b'HTTP/1.1 204 No Content\r\n\r\n'), '-o', tmp_path / 'file').status == 0
    assert (tmp_path / 'file').read_bytes() == b''


@pytest.mark.parametrize('present', [True, False])
@pytest.mark.parametrize(('reply', 'status'), [(TRUNCATED, 1), (MISSING, 22), (b'', 1)])
def test_incomplete_body_leaves_no_file(
    raw_server: RawServer, get_command: Get, tmp_path: Path, reply: bytes, status: int, present: bool
) -> None:
    file = tmp_path / 'file'
    if present:
        file.write_text('old content')
    ran = get_command('--fail', raw_server(reply), '-o', file)
    assert (ran.status, ran.output, ran.errors.count('\n')) == (status, b'', 1)
    assert [(each, each.read_text()) for each in tmp_path.iterdir()] == ([(file, 'old content')] if present else [])


def test_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without write permission is not replaced, even if the directory allows it."""
    file = tmp_path / 'file'
    file.write_text('')
    # root can write to any file
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(PermissionError):
        FileSink(str(file))
    assert list(tmp_path.iterdir()) == [file]


def test_removed_directory_fails_the_commit(tmp_path: Path) -> None:
    """Closing then finds no file to remove."""
    (tmp_path / 'removed').mkdir()
    with contextlib.closing(FileSink(str(tmp_path / 'removed' / 'file'))) as sink:
        sink.write(b'abc')
        for each in (tmp_path / 'removed').iterdir():
            each.unlink()
        with pytest.raises(OutputError, match='No such file'):
            sink.commit()


@pytest.mark.parametrize('size', [1, 1_000_000])
def test_full_disk_leaves_no_file(tmp_path: Path, size: int) -> None:
    """``/dev/full`` simulates it: bytes that stay in the buffer fail later than others."""
    sink = FileSink(str(tmp_path / 'file'))
    with open('/dev/full', 'wb') as full:
        os.dup2(full.fileno(), sink._file.fileno())

    def write() -> None:
        sink.write(bytes(size))
        sink.commit()

    with contextlib.closing(sink):
        with pytest.raises(OutputError, match='No space left'):
            write()
    assert list(tmp_path.iterdir()) == []


# -- devices and pipes ------------------------------------------------------------------------------------------------


def test_device_is_written_directly(raw_server: RawServer, get_command: Get) -> None:
    where = raw_server(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab')
    assert get_command(where, '-o', '/dev/null') == (0, b'', '')
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)
    assert get_command(where, '-o', '/dev/full') == (
        1,
        b'',
        'geventnode: cannot write the body: No space left on device\n',
    )


def test_named_pipes_are_streamed(tmp_path: Path, serve: Serve, get_command: Get) -> None:
    """Each side of the exchange waits only for the process at the other end of its pipe."""
    source, target = tmp_path / 'source', tmp_path / 'target'
    os.mkfifo(source)
    os.mkfifo(target)

    def echo(request: Any, response: Any) -> None:
        for chunk in request:
            response.write(chunk)
        response.end()

    command = gevent.spawn(get_command, url(serve(echo)), '-d', f'@{source}', '-o', target)
    opened = gevent.get_hub().threadpool.apply
    writing = opened(os.open, (source, os.O_WRONLY))
    reading = opened(os.open, (target, os.O_RDONLY))
    for piece in (b'abc', b'def'):
        os.write(writing, piece)
        assert tp_read(reading, 100) == piece
    os.close(writing)
    assert command.get() == (0, b'', '')
    assert tp_read(reading, 100) == b''
    os.close(reading)


@pytest.mark.parametrize('blocking', [True, False])
def test_pipe_can_be_blocking_or_not(blocking: bool) -> None:
    """Another process can have made the pipe non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(reading, blocking)
    os.set_blocking(writing, blocking)
    source, sink = DescriptorSource(reading, owned=True), DescriptorSink(writing, owned=True)
    received: list[bytes] = []

    def read() -> None:
        received.extend(iter(lambda: source.read(65536), b''))

    reader = gevent.spawn(read)
    gevent.idle()
    sink.write(bytes(1_000_000))
    sink.commit()
    sink.close()
    reader.join()
    source.close()
    assert b''.join(received) == bytes(1_000_000)


def test_directory_is_no_source() -> None:
    with pytest.raises(IsADirectoryError):
        open_source('/')


def test_standard_output_can_be_a_file(tmp_path: Path) -> None:
    with open(tmp_path / 'file', 'wb') as file:
        sink = DescriptorSink(file.fileno(), owned=False)
        sink.write(b'abc')
        sink.close()
    assert (tmp_path / 'file').read_bytes() == b'abc'


def test_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    open_sink('-').write(b'abc')
    assert capfdbinary.readouterr().out == b'abc'


def test_closed_reader_raises_sigpipe(
    serve: Serve, get_command: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[int] = []
    monkeypatch.setattr(signal, 'raise_signal', raised.append)
    before = signal.getsignal(signal.SIGPIPE)
    os.mkfifo(tmp_path / 'pipe')
    reading = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)

    def listener(request: Any, response: Any) -> None:
        os.close(reading)
        response.end('x')

    try:
        ran = get_command(url(serve(listener)), '-o', tmp_path / 'pipe')
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert (ran.output, ran.errors, raised) == (b'', '', [signal.SIGPIPE])
