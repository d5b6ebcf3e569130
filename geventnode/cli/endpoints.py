"""The sources and sinks of the bodies of ``geventnode get``: files, pipes, terminals and devices.

A file is replaced only by a complete body: the body is written to a hidden file in the same directory, which is renamed
once it is on the disk. Any other output (standard output, a pipe, a device) is written as the body arrives.

Pipes and terminals are read and written in gevent's threads, so that the exchange continues and its deadline is kept
meanwhile. They are not made non-blocking, because other processes share them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, Protocol

from gevent import get_hub
from gevent.socket import wait_read, wait_write

from geventnode.errors import reduce_exception

__all__ = ['DescriptorSink', 'DescriptorSource', 'FileSink', 'OutputError', 'Sink', 'open_sink', 'open_source']

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1


class OutputError(Exception):
    """Writing the body failed. A type of its own, because connections raise ``OSError``, too.

    :ivar error: the ``OSError`` of the output.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f'cannot write the body: {error.strerror}')
        self.error = error

    def __reduce__(self) -> Any:
        return reduce_exception(self)


class Sink(Protocol):
    """An output that a body is written to."""

    def write(self, data: bytes) -> None:
        """Write all of ``data``. Blocks until it is written. Raises :class:`OutputError`."""

    def commit(self) -> None:
        """Publish the complete body under its name. Raises :class:`OutputError`."""

    def close(self) -> None:
        """Close the output, and discard a body that was not committed."""


class FileSink:
    """A regular file; one that it replaces passes on its permissions."""

    def __init__(self, path: str) -> None:
        # keep a symbolic link, and replace its target
        self._path = os.path.realpath(path)
        self._part = os.path.join(os.path.dirname(self._path), f'.geventnode-{secrets.token_hex(8)}.part')
        present = os.stat(self._path) if os.path.exists(self._path) else None
        if present is not None and not os.access(self._path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), 'wb')
        self._committed = False
        if present is not None:
            os.fchmod(self._file.fileno(), stat.S_IMODE(present.st_mode) & 0o777)

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise OutputError(error) from error

    def commit(self) -> None:
        try:
            self._file.flush()
            # rename(2) does not order the data before the name: a crash could leave an incomplete file
            os.fsync(self._file.fileno())
            os.replace(self._part, self._path)
        except OSError as error:
            raise OutputError(error) from error
        self._committed = True

    def close(self) -> None:
        # without the buffer: bytes that a full disk has refused are not written again
        self._file.raw.close()
        if not self._committed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._part)


class DescriptorSink:
    """Standard output, a pipe or a device."""

    def __init__(self, descriptor: int, owned: bool) -> None:
        self._descriptor = descriptor
        self._owned = owned
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._write: Callable[[int, Any], int] = os.write if regular else partial(_in_thread, os.write)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._write(self._descriptor, rest) :]
            except BlockingIOError:
                # another process has made it non-blocking
                wait_write(self._descriptor)
            except OSError as error:
                raise OutputError(error) from error

    def commit(self) -> None:
        pass

    def close(self) -> None:
        if self._owned:
            os.close(self._descriptor)


def open_sink(path: str | None) -> Sink:
    """Return a sink for the file ``path``.

    None and ``'-'`` are standard output. Blocks until a named pipe has a reader. Raises ``OSError``.
    """
    if path in (None, '-'):
        _check_open(sys.stdout)
        return DescriptorSink(STANDARD_OUTPUT, owned=False)
    assert path is not None
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if os.path.exists(path) and not os.path.isfile(path):
        return DescriptorSink(_open_in_thread(path, os.O_WRONLY), owned=True)
    return FileSink(path)


class DescriptorSource:
    """Standard input, a pipe or a device."""

    def __init__(self, descriptor: int, owned: bool) -> None:
        self._descriptor = descriptor
        self._owned = owned

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; ``b''`` at the end.

        Blocks until at least one byte arrives. Raises ``OSError``.
        """
        while True:
            try:
                data: bytes = _in_thread(os.read, self._descriptor, size)
            except BlockingIOError:
                # another process has made it non-blocking
                wait_read(self._descriptor)
            else:
                return data

    def close(self) -> None:
        """Close the descriptor, unless it is a standard stream."""
        if self._owned:
            os.close(self._descriptor)


def open_source(path: str) -> BinaryIO | DescriptorSource:
    """Return a source for the file ``path``; ``'-'`` is standard input.

    Blocks until a named pipe has a writer. Raises ``OSError``.
    """
    if path == '-':
        _check_open(sys.stdin)
        descriptor, owned = STANDARD_INPUT, False
    else:
        descriptor, owned = _open_in_thread(path, os.O_RDONLY), True
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        # a file has a size, and so the request a Content-Length
        return os.fdopen(descriptor, 'rb', closefd=owned)
    if stat.S_ISDIR(mode):
        if owned:
            os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return DescriptorSource(descriptor, owned)


def _check_open(stream: object) -> None:
    """Raise ``OSError`` for a standard stream that was closed from the beginning.

    Its descriptor can belong to another file now.
    """
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _open_in_thread(path: str, flags: int) -> int:
    descriptor: int = _in_thread(os.open, path, flags | os.O_NOCTTY)
    return descriptor


def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function`` in one of gevent's threads, and raise its exception here: the thread would print it."""
    result, error = get_hub().threadpool.apply(_outcome, (function, *args))
    if error is not None:
        raise error
    return result


def _outcome(function: Callable[..., Any], *args: Any) -> tuple[Any, Exception | None]:
    try:
        return function(*args), None
    except (OSError, ValueError) as error:
        return None, error
