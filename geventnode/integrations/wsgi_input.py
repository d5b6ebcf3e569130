"""``wsgi.input`` and ``wsgi.errors``: the request's body as a file, and the way to standard error."""
from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from geventnode.http import IncomingMessage

__all__ = ['NO_INPUT', 'ErrorStream', 'Input', 'NoInput']


class Input:
    """The body of one request, received as it is read (PEP 3333, "Input and Error Streams").

    It ends where the body ends, however that is framed: reading on gives ``b''`` and never waits for the next request.
    A body that was cut short never looks complete: see ``raise_body_errors`` of ``wsgi()``. Every call may
    switch.

    :param request: whose body it is.
    """

    __slots__ = ('_file', '_request')

    def __init__(self, request: IncomingMessage) -> None:
        self._request = request
        #: Finds the ends of lines; made for those who ask for lines.
        self._file: io.BufferedReader | None = None

    @property
    def _lines(self) -> io.BufferedReader:
        if self._file is None:
            self._file = self._request.makefile()
        return self._file

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, less only at the end; everything that is left without a size."""
        data: bytes = (self._file or self._request).read(-1 if size is None else size)
        return data

    def readline(self, size: int | None = -1) -> bytes:
        """Return one line, ``size`` bytes of it at most."""
        return self._lines.readline(-1 if size is None else size)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return the lines that are left, as many whole ones as make ``hint`` bytes."""
        return self._lines.readlines(-1 if hint is None else hint)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines that are left."""
        return iter(self._lines)


class NoInput:
    """The body of requests that have none, shared by all of them. Never switches."""

    __slots__ = ()

    def read(self, size: int | None = -1) -> bytes:
        """Return ``b''``."""
        return b''

    def readline(self, size: int | None = -1) -> bytes:
        """Return ``b''``."""
        return b''

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return no lines."""
        return []

    def __iter__(self) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())


NO_INPUT = NoInput()


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
