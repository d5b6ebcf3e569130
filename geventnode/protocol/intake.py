"""Where a parser stands: the bytes that it was fed, how far it has come in them, and what it expects next.

Bytes that come alone stay the object that they were, so that the content of a message can be handed on without a copy.
Only where a piece is left over when the next one comes, both are put into a bytearray, which grows at its end and is
cut off at its front without moving what is between. So every byte is copied a bounded number of times.
"""

from __future__ import annotations

import enum

from geventnode.errors import StreamError

__all__ = ['Intake', 'Role', 'State']


class Role(enum.Enum):
    """Which messages a parser reads."""

    REQUEST = 'request'
    RESPONSE = 'response'


class State(enum.Enum):
    """What a parser expects next."""

    REQUEST_HEAD = 'the head of a request'
    RESPONSE_HEAD = 'the head of a response'
    LENGTH = 'content of a known length'
    CHUNKED = 'chunked content'
    UNTIL_CLOSE = 'content that ends with the connection'
    #: The content was handed out, its end not yet.
    MESSAGE_END = 'the end of the message'
    #: After CONNECT or a 101: bytes are kept until they are taken, and never parsed.
    TUNNEL = 'another protocol'
    #: After the last message of a connection: bytes are dropped (RFC 9112, section 9.6).
    CLOSED = 'nothing'
    FAILED = 'nothing, after an error'


class Intake:
    """The byte side of a parser. No method ever switches."""

    __slots__ = ('_buffer', '_eof', '_offset', '_pos', '_refuses', '_scanned', '_taken')

    def __init__(self) -> None:
        #: What was fed and not yet handed out; a bytearray where several pieces were put together; b'' when all was.
        self._buffer: bytes | bytearray = b''
        #: Where in the buffer the next construct begins.
        self._pos = 0
        #: Where in the buffer the search for the end of that construct goes on.
        self._scanned = 0
        #: How many bytes were dropped from the front of the buffer so far.
        self._offset = 0
        self._eof = False
        #: Whether what is fed is dropped: after an error, and after the last message.
        self._refuses = False
        #: Whether the rest of the stream belongs to somebody else.
        self._taken = False

    @property
    def buffered(self) -> int:
        """How many bytes were fed and not yet handed out."""
        return len(self._buffer) - self._pos

    @property
    def bytes_parsed(self) -> int:
        """How many bytes of the stream were handed out or skipped."""
        return self._offset + self._pos

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream. Nothing is parsed before the next event is asked for.

        After an error, and after the last message of a connection, they are dropped.

        :raises StreamError: :meth:`take_rest` was called.
        """
        if self._refuses:
            if self._taken:
                raise StreamError('the rest of the stream was taken from this parser')
            return
        buffer = self._buffer
        if not buffer:
            self._buffer = data
            return
        if type(buffer) is not bytearray:
            buffer = self._buffer = bytearray(buffer)
        pos = self._pos
        if pos:
            del buffer[:pos]
            self._offset += pos
            self._scanned -= pos
            self._pos = 0
        buffer += data

    def feed_eof(self) -> None:
        """Take note that the stream has ended."""
        self._eof = True

    def take_rest(self) -> bytes:
        """Return all bytes that were fed and not handed out. From then on the parser refuses input."""
        rest = bytes(self._buffer[self._pos :])
        self._advance(len(self._buffer))
        self._refuses = True
        self._taken = True
        return rest

    def _advance(self, pos: int) -> None:
        """Leave behind what is in front of ``pos`` in the buffer."""
        if pos == len(self._buffer):
            self._buffer = b''
            self._offset += pos
            self._pos = self._scanned = 0
        else:
            self._pos = self._scanned = pos

    def _drop(self) -> None:
        """Forget what is buffered, and refuse what comes."""
        self._buffer = b''
        self._offset += self._pos
        self._pos = self._scanned = 0
        self._refuses = True
