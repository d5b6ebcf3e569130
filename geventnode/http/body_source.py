"""Sources of bodies to be sent: files and iterables, read as chunks, with their size if it is known."""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from geventnode.errors import ContentLengthMismatch
from geventnode.stream.files import File
from geventnode.stream.readable import ReadableBase
from geventnode.stream.turn import Turn

__all__ = ['BodySource', 'check_file', 'is_body_source']

#: Bytes that one read of a file requests.
READ_SIZE = 65536

#: The methods that decide which bytes are read, and from where.
READERS = 'read', 'readinto', 'seek', 'tell', 'fileno'


def is_body_source(data: Any) -> bool:
    """Return whether ``data`` is a file or an iterable of chunks.

    A chunk itself is none. Neither are mappings and sets, which the caller probably forgot to encode.
    """
    return not isinstance(data, (bytes, str, bytearray, memoryview, Mapping, Set)) and (
        hasattr(data, 'read') or isinstance(data, Iterable)
    )


def check_file(file: Any) -> None:
    """Raise ``TypeError`` unless ``file`` is readable, and not known to return text."""
    wanted = 'send_file() takes a file opened for reading in binary mode'
    if not hasattr(file, 'read'):
        hint = f": open({os.fspath(file)!r}, 'rb')" if isinstance(file, (str, bytes, os.PathLike)) else ''
        raise TypeError(f'{wanted}, not {type(file).__name__}{hint}')
    if isinstance(_reader(file), (io.TextIOBase, codecs.StreamReader, codecs.StreamReaderWriter)):
        raise TypeError(f"{wanted}, not {type(file).__name__}, which returns text: open it with the mode 'rb'")


class BodySource:
    """A body to be sent, as chunks.

    :param source: an object with ``read(size)``, or an iterable of bytes-like objects or str.
    :param limit: the largest number of bytes to read from a file; None: all of it.
    """

    def __init__(self, source: Any, limit: int | None = None) -> None:
        self._source = source
        self._limit = limit
        #: The file that the kernel can send instead, None if there is none.
        self.plain_file: Any = _plain_file(source) if hasattr(source, 'read') else None
        #: The number of bytes in the body; None: not known.
        self.size = None if self.plain_file is None else _size(self.plain_file)
        if self.size is not None and limit is not None:
            self.size = min(self.size, limit)

    def __iter__(self) -> Iterator[Any]:
        """Yield the chunks. Blocks until the source returns the next one; other greenlets run between those of a file.

        Raises ``ContentLengthMismatch`` if a file ends before its size, and every error of the source.
        """
        if not hasattr(self._source, 'read'):
            yield from self._source
            return
        # read() of a stream waits for all of the size: a body that is passed on would be held back
        read = self._source.read1 if isinstance(self._source, (ReadableBase, File)) else self._source.read
        turn = Turn()
        missing = self._limit if self.size is None else self.size
        while missing is None or missing > 0:
            chunk = read(READ_SIZE if missing is None else min(READ_SIZE, missing))
            if not chunk:
                if missing and self.size is not None:
                    raise ContentLengthMismatch(f'the file ended {missing} bytes before its size')
                return
            if missing is not None:
                missing -= len(chunk)
            yield chunk
            turn.give_way()


def _reader(file: Any) -> Any:
    """Return the file that the method ``file.read`` belongs to.

    A wrapper with a method of its own, which can change the bytes or count them, is that file itself.
    """
    if not hasattr(type(file), 'read') and hasattr(file, 'file'):
        # a temporary file has all methods of the file that it wraps
        file = file.file
    # a file of Django has a property for each method of the file that it wraps
    return getattr(file.read, '__self__', file)


def _plain_file(file: Any) -> Any:
    """Return the file in binary mode that ``file`` is or wraps.

    None for any other: its descriptor can have other bytes, as that of a gzip file has the compressed ones.
    """
    plain = _reader(file)
    raw = plain.raw if _reads_as(plain, io.BufferedReader) or _reads_as(plain, io.BufferedRandom) else plain
    return plain if _reads_as(raw, io.FileIO) else None


def _reads_as(file: Any, kind: type) -> bool:
    """Return whether ``file`` reads as ``kind`` does: a subclass can, for instance, have only its own ``close``."""
    return isinstance(file, kind) and all(getattr(type(file), name) is getattr(kind, name) for name in READERS)


def _size(file: Any) -> int | None:
    """Return the number of bytes left in a plain file.

    None unless it is a regular one with a known size.
    """
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        position = int(file.tell())
        if not status.st_size and hasattr(os, 'pread') and os.pread(file.fileno(), 1, position):
            # the files of /proc, and of some file systems in user space, have bytes and no size
            return None
        return max(status.st_size - position, 0)
    except (OSError, ValueError):
        # closed, or without a position
        return None
