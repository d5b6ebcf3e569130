"""``wsgi.input`` and ``wsgi.errors``: the request's body as a file, and the way to standard error."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

from geventnode.http import IncomingMessage
from geventnode.http.server.buffer_limit import ReceiveBufferLimit

__all__ = ['EMPTY_INPUT', 'BufferFull', 'EmptyInput', 'ErrorStream', 'Input', 'buffer_body']

#: Bytes of a chunked body that are buffered in memory; a longer one is in a file.
BUFFER_SIZE = 262144

#: Bytes of a chunked body that are buffered at most where the server has no ``max_body_size``.
MAX_BUFFERED_BODY = 1 << 30


class BufferFull(Exception):
    """A body is longer than :data:`MAX_BUFFERED_BODY`, or its file cannot be written: the disk is full, or there is no
    descriptor left."""

    #: The status of the response.
    status: int = 413


class _MemoryBuffer(io.BytesIO):
    """A body in memory, counted by the server's budget until this is closed."""

    def __init__(self, budget: ReceiveBufferLimit) -> None:
        super().__init__()
        self._budget = budget
        self._counted = 0

    def has_room(self, size: int) -> bool:
        """Return whether ``size`` bytes more may be written."""
        if self._counted + size > BUFFER_SIZE or not self._budget.take(size):
            return False
        self._counted += size
        return True

    def close(self) -> None:
        """Free the memory."""
        counted, self._counted = self._counted, 0
        self._budget.give_back(counted)
        super().close()


def buffer_body(request: IncomingMessage, max_size: int | None, budget: ReceiveBufferLimit) -> tuple[IO[bytes], int]:
    """Return a file with the whole body of ``request``, and its size. May switch.

    :param max_size: the server's own limit in bytes, which the request's reads check; None: it has no limit.
    :param budget: the server's: a body that finds no room in it goes to a temporary file, however short it is.

    Raises :class:`BufferFull`, and the errors of reading the request.
    """
    size = 0
    memory = _MemoryBuffer(budget)
    file: IO[bytes] = memory
    try:
        while chunk := request.read1():
            size += len(chunk)
            if size > MAX_BUFFERED_BODY and max_size is None:
                raise BufferFull(f'a chunked body is longer than {MAX_BUFFERED_BODY} bytes; set max_body_size')
            try:
                if file is memory and not memory.has_room(len(chunk)):
                    file = tempfile.TemporaryFile()  # noqa: SIM115 - returned to the caller
                    file.write(memory.getvalue())
                    memory.close()
                file.write(chunk)
            except OSError as error:
                raise _file_error(error) from error
        try:
            # flushes
            file.seek(0)
        except OSError as error:
            raise _file_error(error) from error
    except BaseException:
        memory.close()
        # it is closed even if what it holds cannot be written
        with contextlib.suppress(OSError):
            file.close()
        raise
    return file, size


def _file_error(error: OSError) -> BufferFull:
    full = BufferFull(
        f'a chunked body cannot be buffered in a temporary file: {error}; free space or descriptors, or '
        'set buffer_chunked=False'
    )
    full.status = 503
    return full


class Input(io.BufferedIOBase):
    """The body of one request as a binary file, received as it is read (PEP 3333, "Input and Error Streams").

    It ends where the body ends, however that is framed: reading on gives ``b''`` and never waits for the next request.
    A body that was cut short never looks complete: see ``raise_body_errors`` of ``wsgi()``. Every read may switch, and
    raises ``ValueError`` when this file was closed.

    :param request: whose body it is.
    """

    def __init__(self, request: IncomingMessage) -> None:
        self._request = request
        #: Finds the ends of lines; made for those who ask for lines.
        self._file: io.BufferedReader | None = None

    @property
    def _source(self) -> Any:
        if self.closed:
            raise _closed()
        return self._file or self._request

    @property
    def _lines(self) -> io.BufferedReader:
        if self.closed:
            raise _closed()
        if self._file is None:
            self._file = self._request.makefile()
        return self._file

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return ``size`` bytes, less only at the end; everything that is left without a size."""
        data: bytes = self._source.read(-1 if size is None else size)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """Return the bytes that are there, ``size`` at most; wait for the first."""
        data: bytes = self._source.read1(size)
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` and return how many bytes that were, less than it holds only at the end."""
        view = memoryview(buffer).cast('B')
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readinto1(self, buffer: Any, /) -> int:
        """As :meth:`readinto`, with the bytes of :meth:`read1`."""
        view = memoryview(buffer).cast('B')
        data = self.read1(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return one line, ``size`` bytes of it at most."""
        return self._lines.readline(-1 if size is None else size)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Return the lines that are left, as many whole ones as make ``hint`` bytes."""
        return self._lines.readlines(-1 if hint is None else hint)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines that are left."""
        return iter(self._lines)

    def __next__(self) -> bytes:
        """Return the next line."""
        return next(self._lines)


def _closed() -> ValueError:
    return ValueError('I/O operation on closed file: wsgi.input was closed before')


class EmptyInput(io.BufferedIOBase):
    """The body of requests that have none, shared by all of them, and so never closed."""

    __slots__ = ()

    def close(self) -> None:
        """Do nothing."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return ``b''``."""
        return b''

    def read1(self, size: int = -1, /) -> bytes:
        """Return ``b''``."""
        return b''

    def readinto(self, buffer: Any, /) -> int:
        """Return 0."""
        return 0

    readinto1 = readinto

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return ``b''``."""
        return b''

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Return no lines."""
        return []


EMPTY_INPUT = EmptyInput()


class ErrorStream:
    """What is written to ``wsgi.errors`` goes to what ``sys.stderr`` is then. May switch where that does."""

    def write(self, text: str) -> Any:
        """Write ``text``."""
        return sys.stderr.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        sys.stderr.writelines(lines)

    def flush(self) -> None:
        """Let it be seen."""
        sys.stderr.flush()
