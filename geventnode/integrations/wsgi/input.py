"""Provide ``wsgi.input``, the body of a request as a file, and ``wsgi.errors``."""

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

#: Bytes of a chunked body that are buffered in memory. A longer body is in a temporary file.
BUFFER_SIZE = 262144

#: The limit in bytes for a chunked body if the server has no ``max_body_size``.
MAX_BUFFERED_BODY = 1 << 30


class BufferFull(Exception):
    """A body cannot be buffered.

    It is longer than :data:`MAX_BUFFERED_BODY` (413), or its temporary file cannot be written (503): the disk is full,
    or the process has no descriptor left.
    """

    #: The status of the response.
    status: int = 413


class _MemoryBuffer(io.BytesIO):
    """A body in memory, counted by the receive-buffer limit until closed."""

    def __init__(self, limit: ReceiveBufferLimit) -> None:
        super().__init__()
        self._limit = limit
        self._counted = 0

    def reserve(self, size: int) -> bool:
        """Reserve ``size`` bytes; return False if the limit does not allow it."""
        if self._counted + size > BUFFER_SIZE or not self._limit.reserve(size):
            return False
        self._counted += size
        return True

    def close(self) -> None:
        """Free the memory."""
        counted, self._counted = self._counted, 0
        self._limit.release(counted)
        super().close()


def buffer_body(request: IncomingMessage, max_size: int | None, limit: ReceiveBufferLimit) -> tuple[IO[bytes], int]:
    """Receive the whole body; return a file with it and its size.

    Blocks until the body has arrived.

    :param max_size: the server's own limit in bytes, which reading the request checks; None: no limit.
    :param limit: the server's receive-buffer limit. When it is exhausted, even a short body is in a temporary file.

    Raises :class:`BufferFull`, and the errors of reading the request.
    """
    size = 0
    memory = _MemoryBuffer(limit)
    file: IO[bytes] = memory
    try:
        while chunk := request.read1():
            size += len(chunk)
            if size > MAX_BUFFERED_BODY and max_size is None:
                raise BufferFull(f'a chunked body is longer than {MAX_BUFFERED_BODY} bytes; set max_body_size')
            try:
                if file is memory and not memory.reserve(len(chunk)):
                    file = tempfile.TemporaryFile()  # noqa: SIM115 - returned to the caller
                    file.write(memory.getvalue())
                    memory.close()
                file.write(chunk)
            except OSError as error:
                raise _file_error(error) from error
        try:
            # flushes the file
            file.seek(0)
        except OSError as error:
            raise _file_error(error) from error
    except BaseException:
        memory.close()
        # close() fails if it cannot write buffered bytes, and closes the file in any case
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
    """Read the body of a request as a binary file.

    See PEP 3333, "Input and Error Streams". Bytes are received as the application reads. At the end of the body,
    however it is framed, reads return ``b''``. An incomplete body is an error and never looks complete: see
    ``raise_body_errors`` of :func:`~geventnode.integrations.wsgi.wsgi`. Every read blocks until the bytes have arrived,
    and raises ``ValueError`` after :meth:`close`.
    """

    def __init__(self, request: IncomingMessage) -> None:
        self._request = request
        #: Finds the ends of lines; made at the first read of a line.
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
        """Return ``size`` bytes, fewer at the end; without ``size``, all."""
        data: bytes = self._source.read(-1 if size is None else size)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes as soon as any have arrived."""
        data: bytes = self._source.read1(size)
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer``; return the number of bytes, less at the end."""
        view = memoryview(buffer).cast('B')
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readinto1(self, buffer: Any, /) -> int:
        """Copy the bytes of :meth:`read1` to ``buffer`` and return their number."""
        view = memoryview(buffer).cast('B')
        data = self.read1(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return one line, at most ``size`` bytes of it."""
        return self._lines.readline(-1 if size is None else size)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Return the remaining lines, or whole lines of about ``hint`` bytes."""
        return self._lines.readlines(-1 if hint is None else hint)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the remaining lines."""
        return iter(self._lines)

    def __next__(self) -> bytes:
        """Return the next line."""
        return next(self._lines)


def _closed() -> ValueError:
    return ValueError('I/O operation on closed file: wsgi.input was closed before')


class EmptyInput(io.BufferedIOBase):
    """The empty body: shared by all requests without a body, and so never closed."""

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
    """Write to the current ``sys.stderr``: ``environ['wsgi.errors']``. Blocks as long as that does."""

    def write(self, text: str) -> Any:
        """Write ``text``."""
        return sys.stderr.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        sys.stderr.writelines(lines)

    def flush(self) -> None:
        """Flush ``sys.stderr``."""
        sys.stderr.flush()
