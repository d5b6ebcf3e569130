"""Bodies that come from somewhere: files and iterables, as chunks and, where it is known, a length."""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from geventnode.errors import ContentLengthMismatch

__all__ = ['BodySource', 'check_file', 'is_body_source']

#: Bytes read from a file at once.
READ_SIZE = 65536


def is_body_source(data: Any) -> bool:
    """Return whether ``data`` is a file or an iterable of chunks: neither a chunk itself, nor a mapping or a set, which
    somebody forgot to encode."""
    return not isinstance(data, (bytes, str, bytearray, memoryview, Mapping, Set)) and (
        hasattr(data, 'read') or isinstance(data, Iterable)
    )


def check_file(file: Any) -> None:
    """Raise ``TypeError`` unless ``file`` can be read, and is not known to give text."""
    wanted = 'send_file() takes a file that is open for reading in binary mode'
    if not hasattr(file, 'read'):
        hint = f": open({os.fspath(file)!r}, 'rb')" if isinstance(file, (str, bytes, os.PathLike)) else ''
        raise TypeError(f'{wanted}, not {type(file).__name__}{hint}')
    # what temporary files and Django's files are wrapped around
    if isinstance(getattr(file, 'file', file), (io.TextIOBase, codecs.StreamReader, codecs.StreamReaderWriter)):
        raise TypeError(f"{wanted}, not {type(file).__name__}, which gives text: open it with the mode 'rb'")


class BodySource:
    """A body to be sent.

    :param source: an object with ``read(size)``, or an iterable of bytes-like objects or text.
    :param limit: bytes of a file that are sent at most.
    """

    def __init__(self, source: Any, limit: int | None = None) -> None:
        self._source = source
        self._limit = limit
        #: How many bytes there will be; None: not known.
        self.size = _size(source) if hasattr(source, 'read') else None
        if self.size is not None and limit is not None:
            self.size = min(self.size, limit)

    def __iter__(self) -> Iterator[Any]:
        """Yield the chunks. May switch as the source does.

        Raises ``ContentLengthMismatch`` when a file ends before its size, and what the source raises.
        """
        if not hasattr(self._source, 'read'):
            yield from self._source
            return
        missing = self._limit if self.size is None else self.size
        while missing is None or missing > 0:
            chunk = self._source.read(READ_SIZE if missing is None else min(READ_SIZE, missing))
            if not chunk:
                if missing and self.size is not None:
                    raise ContentLengthMismatch(f'the file to be sent has ended {missing} bytes before its size')
                return
            if missing is not None:
                missing -= len(chunk)
            yield chunk


def _size(file: Any) -> int | None:
    """Return how many bytes are left in a regular file that was opened in binary mode, None for anything else."""
    # what temporary files and Django's files are wrapped around
    plain = getattr(file, 'file', file)
    if not isinstance(getattr(plain, 'raw', plain), io.FileIO):
        # not what it seems: the descriptor of a compressed file, for one, gives what is compressed
        return None
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        return max(status.st_size - int(file.tell()), 0)
    except (OSError, ValueError):
        # closed, or not one that has positions
        return None
