"""Where the command's bodies come from and where they go: files, and descriptors that may block.

A file that is written is complete or not there at all: everything goes to a hidden file beside it, which takes its
name, and with it its place, when the whole body was written and is on the disk. Whatever else an output is (standard
output, a pipe, a device) is written as the body comes.

Pipes and terminals are read and written in gevent's threads, so that meanwhile the exchange goes on and its deadline
is kept. They are not made non-blocking: other processes share them.
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

__all__ = ['DescriptorSink', 'DescriptorSource', 'FileSink', 'Sink', 'Unwritable', 'open_sink', 'open_source']

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1


class Unwritable(Exception):
    """The output takes no more.

    :ivar error: the ``OSError`` that says why; that of a connection would be taken for it otherwise.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f'cannot write the body: {error.strerror}')
        self.error = error

    def __reduce__(self) -> Any:
        return reduce_exception(self)


class Sink(Protocol):
    """What a body is written to."""

    def write(self, data: bytes) -> None:
        """Write all of ``data``. May switch. Raises :class:`Unwritable`."""

    def commit(self) -> None:
        """Everything was written: let it be seen. Raises :class:`Unwritable`."""

    def close(self) -> None:
        """Let go; what was not committed is no result."""


class FileSink:
    """A regular file, new or in the place of another, whose permissions it keeps."""

    def __init__(self, path: str) -> None:
        # a symbolic link stays one
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
            raise Unwritable(error) from error

    def commit(self) -> None:
        try:
            self._file.flush()
            # so that a crash of the machine leaves no file of that name with less in it (rename(2) promises nothing)
            os.fsync(self._file.fileno())
            os.replace(self._part, self._path)
        except OSError as error:
            raise Unwritable(error) from error
        self._committed = True

    def close(self) -> None:
        # past the buffer: what a full disk did not take is not tried again
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
                # somebody else who has it open made it non-blocking
                wait_write(self._descriptor)
            except OSError as error:
                raise Unwritable(error) from error

    def commit(self) -> None:
        pass

    def close(self) -> None:
        if self._owned:
            os.close(self._descriptor)


def open_sink(path: str | None) -> Sink:
    """Return what writes to the file ``path``, to standard output for None and ``'-'``. May switch: a named pipe waits
    for its reader. Raises ``OSError``."""
    if path in (None, '-'):
        _check_open(sys.stdout)
        return DescriptorSink(STANDARD_OUTPUT, owned=False)
    assert path is not None
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if os.path.exists(path) and not os.path.isfile(path):
        return DescriptorSink(_opened(path, os.O_WRONLY), owned=True)
    return FileSink(path)


class DescriptorSource:
    """Standard input, a pipe or a device, to be read from."""

    def __init__(self, descriptor: int, owned: bool) -> None:
        self._descriptor = descriptor
        self._owned = owned

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, waiting for the first; ``b''`` at the end. May switch. Raises ``OSError``."""
        while True:
            try:
                data: bytes = _in_thread(os.read, self._descriptor, size)
            except BlockingIOError:
                # somebody else who has it open made it non-blocking
                wait_read(self._descriptor)
            else:
                return data

    def close(self) -> None:
        """Let go."""
        if self._owned:
            os.close(self._descriptor)


def open_source(path: str) -> BinaryIO | DescriptorSource:
    """Return what reads the file ``path``, or standard input for ``'-'``. May switch: a named pipe waits for its
    writer. Raises ``OSError``."""
    if path == '-':
        _check_open(sys.stdin)
        descriptor, owned = STANDARD_INPUT, False
    else:
        descriptor, owned = _opened(path, os.O_RDONLY), True
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        # its size is known, and with it the Content-Length
        return os.fdopen(descriptor, 'rb', closefd=owned)
    if stat.S_ISDIR(mode):
        if owned:
            os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return DescriptorSource(descriptor, owned)


def _check_open(stream: object) -> None:
    """Raise ``OSError`` for a standard stream that was closed when the process began: its number may have gone to
    something else."""
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _opened(path: str, flags: int) -> int:
    descriptor: int = _in_thread(os.open, path, flags | os.O_NOCTTY)
    return descriptor


def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function`` in one of gevent's threads, which would print what is raised there."""
    result, error = get_hub().threadpool.apply(_outcome, (function, *args))
    if error is not None:
        raise error
    return result


def _outcome(function: Callable[..., Any], *args: Any) -> tuple[Any, Exception | None]:
    try:
        return function(*args), None
    except (OSError, ValueError) as error:
        return None, error
