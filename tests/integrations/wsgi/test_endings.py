"""The ends of WSGI responses, and files as responses."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geventnode.errors import ClientDisconnected
from geventnode.integrations.wsgi import FileWrapper
from tests.applications import PLAIN, Environ, Run, saying
from tests.servers import Log, get

# -- closing ----------------------------------------------------------------------------------------------------------


class Closing:
    """An iterable that records its end."""

    def __init__(self, items: Iterable[Any], log: Log) -> None:
        self._items = items
        self._log = log

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def close(self) -> None:
        """Record the call."""
        self._log.append('closed')


def failing() -> Iterator[bytes]:
    """Yield something and fail."""
    yield b'begun'
    raise ValueError('a part of the test')


@pytest.mark.parametrize('items', [[b'a', b'b'], [], failing(), ['text']])
def test_close_is_called(run: Run, items: Any) -> None:
    """Once, for every kind of end."""
    log = Log()
    run(saying(Closing(items, log))).send(get('/', 'Connection: close')).rest()
    log.wait_for('closed')
    assert log == ['closed']


def test_a_generator_is_closed_after_its_client_has_disconnected(run: Run) -> None:
    """At the first item that cannot be sent, also an empty one."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', [('Content-Type', 'text/event-stream')])
        try:
            while True:
                log.append('yields')
                yield b'data: tick\n\n'
                gevent.sleep(0.001)
        finally:
            log.append('closed')

    client = run(application).send(get())
    client.until(b'tick')
    client.abort()
    log.wait_for('closed')


def test_a_view_is_notified_of_a_disconnected_client(run: Run) -> None:
    """Without writing anything."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ['geventnode.request'].on('aborted', log.note('aborted'))
        log.append('waits')
        log.wait_for('aborted')
        assert environ['geventnode.request'].aborted
        log.append('knows')
        start_response('200 OK', PLAIN)
        return []

    client = run(application).send(get())
    log.wait_for('waits')
    client.close()
    log.wait_for('knows')


@pytest.mark.parametrize('where', ['view', 'generator'])
def test_cancel_on_disconnect(run: Run, where: str) -> None:
    """The application gets the exception; ``finally`` and ``close()`` run."""
    log = Log()

    def wait() -> Iterator[bytes]:
        try:
            log.append('waits')
            gevent.sleep(1000)
            yield b''
        except Exception:
            log.append('swallowed')
        except ClientDisconnected:
            log.append('cancelled')
            raise
        finally:
            log.append('closed')

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        return wait() if where == 'generator' else list(wait())

    client = run(application, cancel_on_disconnect=True).send(get())
    log.wait_for('waits')
    client.close()
    log.wait_for('closed')
    assert log == ['waits', 'cancelled', 'closed']


def test_a_disconnected_client_is_logged_without_traceback(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        try:
            while True:
                yield b'x' * 1000
                gevent.sleep(0.001)
        finally:
            log.append('closed')

    with caplog.at_level(logging.DEBUG):
        client = run(application).send(get())
        client.until(b'xxx')
        client.abort()
        log.wait_for('closed')
        gevent.idle()
    assert 'the client went away' in caplog.text
    assert 'Traceback' not in caplog.text


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / 'file'
    path.write_bytes(bytes(range(256)) * 4000)
    return path


def file_application(path: Path, headers: Any = PLAIN, log: Any = None) -> Any:
    """Return an application that responds with a file."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', headers)
        file = path.open('rb')
        if log is not None:
            log.append(file)
        return environ['wsgi.file_wrapper'](file, 1024)

    return application


@pytest.mark.parametrize('declared', [None, 1_024_000, 1000])
def test_a_file(run: Run, path: Path, declared: int | None) -> None:
    """It is sent up to the declared length, or to its end, and closed."""
    log = Log()
    headers = PLAIN if declared is None else [*PLAIN, ('Content-Length', str(declared))]
    reply = run(file_application(path, headers, log)).get()
    assert reply.body == path.read_bytes()[:declared]
    assert reply.values('Content-Length') == [str(declared or 1_024_000)]
    assert log[0].closed


def test_a_file_that_is_iterated(run: Run, path: Path) -> None:
    """As middleware does it."""
    application = file_application(path)

    def middleware(environ: Environ, start_response: Any) -> Iterator[bytes]:
        with contextlib.closing(application(environ, start_response)) as items:
            yield from items

    assert run(middleware).get().body == path.read_bytes()


def test_a_file_without_sendfile(run: Run, path: Path) -> None:
    """It is read in blocks, for file systems without support for sendfile, and closed."""
    sizes: list[int] = []

    class Read(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            sizes.append(size)
            return super().read(size)

    file = Read(path)

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', [*PLAIN, ('Content-Length', '1024000')])
        return environ['wsgi.file_wrapper'](file, 1024)

    assert run(application, sendfile=False).get().body == path.read_bytes()
    assert sizes == 1001 * [1024]
    assert file.closed


def test_a_file_without_a_descriptor(run: Run) -> None:
    """It only has a ``read`` method."""

    class Minimal:
        def __init__(self) -> None:
            self._pieces = [b'one ', b'two']

        def read(self, size: int) -> bytes:
            return self._pieces.pop(0) if self._pieces else b''

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        return FileWrapper(Minimal())

    assert run(application).get().body == b'one two'
