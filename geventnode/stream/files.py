"""A binary file over a stream, for interruptible reads without data loss.

:class:`io.BufferedReader` reads several times when the first result is too short. When a later read raises (a timeout,
a kill, the end of the connection), it drops the earlier data. Therefore the raw file below it does not raise but
reports "no data at present". The buffered file then returns the earlier data; this module puts that data back into
the stream and raises the error.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geventnode.stream.readable import ReadableBase

__all__ = ['File']


class _Raw(io.RawIOBase):
    """The raw file that :class:`io.BufferedReader` reads from."""

    def __init__(self, stream: ReadableBase) -> None:
        self.stream = stream
        self.error: BaseException | None = None
        #: Whether no buffered file is left to raise the error.
        self.detached = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        try:
            return self.stream.readinto(buffer)
        except BaseException as error:
            if self.detached:
                raise
            self.error = error
            return None

    def readall(self) -> Any:
        # the loop of io.RawIOBase takes twice the memory
        try:
            return self.stream.read()
        except BaseException as error:
            if self.detached:
                raise
            self.error = error
            return None


class File(io.BufferedReader):
    """A buffered binary file over a stream: the result of ``makefile()``."""

    def __init__(self, stream: ReadableBase, size: int) -> None:
        self._input = _Raw(stream)
        super().__init__(self._input, size)

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        return data if self._input.error is None else self._interrupted(data)

    def read1(self, size: int = -1, /) -> bytes:
        data = super().read1(size)
        return data if self._input.error is None else self._interrupted(data)

    def peek(self, size: int = 0, /) -> bytes:
        data = super().peek(size)
        return data if self._input.error is None else self._interrupted(b'')

    def readline(self, size: int | None = -1, /) -> bytes:
        data = super().readline(size)
        return data if self._input.error is None else self._interrupted(data)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        try:
            while line := self.readline():
                lines.append(line)
                size += len(line)
                if hint is not None and 0 < hint < size:
                    break
        except BaseException:
            # before the part of a line that readline() has put back
            if lines:
                self._input.stream._unshift(b''.join(lines))
            raise
        return lines

    def readinto(self, buffer: Any, /) -> int:
        return self._fill(super().readinto, buffer)

    def readinto1(self, buffer: Any, /) -> int:
        return self._fill(super().readinto1, buffer)

    def _fill(self, fill: Callable[[Any], int], buffer: Any) -> int:
        size = fill(buffer)
        return (
            size if self._input.error is None else self._interrupted(bytes(memoryview(buffer).cast('B')[: size or 0]))
        )

    def detach(self) -> io.RawIOBase:
        self._input.detached = True
        return super().detach()

    def _interrupted(self, data: bytes | None) -> Any:
        """Put ``data`` back into the stream and raise the stored error."""
        error, self._input.error = self._input.error, None
        assert error is not None
        if data:
            self._input.stream._unshift(data)
        raise error
