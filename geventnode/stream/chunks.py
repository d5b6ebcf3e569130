"""Chunks of streams: conversion, decoding, and the read buffer.

:class:`ReadBuffer` returns slices of its first chunk by moving an index, so that reading byte by byte is linear.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Mapping, Set
from typing import Any

__all__ = ['Decoder', 'ReadBuffer', 'as_bytes']


def as_bytes(chunk: Any, encoding: str = 'utf-8') -> bytes | memoryview:
    """Return ``chunk`` as bytes, or as a flat view of its buffer.

    The owner of a buffer can still change it.

    :raises TypeError: the chunk is neither text nor bytes-like.
    """
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, str):
        return chunk.encode(encoding)
    try:
        return memoryview(chunk).cast('B')
    except TypeError:
        hint = ': encode it first, with json.dumps() or urllib.parse.urlencode()'
        raise TypeError(
            f'a chunk must be str or bytes-like, not {type(chunk).__name__}'
            + (hint if isinstance(chunk, (Mapping, Set, list, tuple)) else '')
        ) from None


class Decoder:
    """Decodes bytes incrementally; after an error, every further read raises it again."""

    __slots__ = ('_decoder', '_failure')

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)()
        # an exception refers to the frames of its traceback, so it is made anew each time it is raised
        self._failure: tuple[type[UnicodeError], tuple[Any, ...]] | None = None

    def check(self) -> None:
        """Raise the earlier exception of :meth:`decode` again, if there was one."""
        if self._failure is not None:
            kind, args = self._failure
            raise kind(*args)

    def decode(self, data: bytes, final: bool = False) -> str:
        """Return the complete characters of ``data`` and keep the rest."""
        try:
            return self._decoder.decode(data, final)
        except UnicodeError as error:
            self._failure = type(error), error.args
            raise


class ReadBuffer:
    """Unread chunks, all bytes or all text, in the order of reading."""

    __slots__ = ('_chunks', '_position', 'size')

    def __init__(self) -> None:
        self._chunks: deque[Any] = deque()
        self._position = 0
        #: The number of buffered bytes (or characters).
        self.size = 0

    def __bool__(self) -> bool:
        return self.size > 0

    def append(self, chunk: Any) -> None:
        """Add ``chunk``, which must not be empty, at the end."""
        self._chunks.append(chunk)
        self.size += len(chunk)

    def push_front(self, chunk: Any) -> None:
        """Add ``chunk``, which must not be empty, at the beginning."""
        if self._position:
            self._chunks[0] = self._chunks[0][self._position :]
            self._position = 0
        self._chunks.appendleft(chunk)
        self.size += len(chunk)

    def take(self, size: int) -> Any:
        """Return the rest of the first chunk, or ``size`` bytes of it.

        :param size: the maximum number of bytes; negative for no limit.
        """
        first = self._chunks[0]
        position = self._position
        rest = len(first) - position
        if 0 <= size < rest:
            self._position = position + size
            self.size -= size
            return first[position : position + size]
        self._chunks.popleft()
        self._position = 0
        self.size -= rest
        return first[position:] if position else first

    def take_all(self) -> Any:
        """Return all chunks as one; the buffer must not be empty."""
        chunk = self.take(-1)
        return chunk if not self.size else chunk[:0].join((chunk, *(self.take(-1) for _ in tuple(self._chunks))))

    def clear(self) -> None:
        """Discard all chunks."""
        self._chunks.clear()
        self._position = 0
        self.size = 0
