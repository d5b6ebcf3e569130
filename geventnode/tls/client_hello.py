"""Find the server name in a ClientHello before OpenSSL reads it (RFC 8446, section 4.1.2; RFC 6066, section 3).

OpenSSL can change the certificate of a connection whose handshake has begun, but not its verify mode, its versions or
its session keys. Therefore the server chooses the context first, and creates the connection with it.

Input that is no ClientHello has no name: OpenSSL then refuses it with its own reason.
"""
from __future__ import annotations

__all__ = ['ClientHello', 'offered_ciphers']

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
_SERVER_NAME, _HOST_NAME = 0, 0

#: Bytes of the longest ClientHello that OpenSSL accepts (``CLIENT_HELLO_MAX_LENGTH``).
MAX_LENGTH = 131396

#: Bytes that are kept for it. In records of one byte, or of none, it would take more: OpenSSL refuses these, too.
MAX_SIZE = 2 * MAX_LENGTH


class ClientHello:
    """Collect the first message of a client, however it is divided."""

    __slots__ = ('_chunks', '_message', '_record', '_size', 'complete', 'servername')

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        #: The bytes of records that are not complete yet, and of the message so far.
        self._record = bytearray()
        self._message = bytearray()
        #: Whether :attr:`servername` is final: no further input changes it.
        self.complete = False
        #: The name as the client sent it; None without one.
        self.servername: str | None = None

    @property
    def received(self) -> bytes:
        """Everything that was fed, for OpenSSL."""
        return b''.join(self._chunks)

    def feed(self, data: bytes) -> None:
        """Take ``data``, the next bytes of the connection. Never switches."""
        self._chunks.append(data)
        if self.complete:
            return
        self._size += len(data)
        if self._size > MAX_SIZE:
            self.complete = True
            return
        record = self._record
        record += data
        while len(record) >= _RECORD_HEADER:
            if record[0] != _HANDSHAKE:
                self.complete = True
                return
            end = _RECORD_HEADER + int.from_bytes(record[3:5], 'big')
            if len(record) < end:
                return
            self._message += record[_RECORD_HEADER:end]
            del record[:end]
            if self._read_message():
                self.complete = True
                return

    def _read_message(self) -> bool:
        """Return whether the message is complete, or none that could become a ClientHello."""
        message = self._message
        if len(message) < _MESSAGE_HEADER:
            return False
        end = _MESSAGE_HEADER + int.from_bytes(message[1:4], 'big')
        if message[0] != _CLIENT_HELLO or end > MAX_LENGTH:
            return True
        if len(message) < end:
            return False
        self.servername = _servername(_Fields(bytes(message[_MESSAGE_HEADER:end])))
        return True


class _Fields:
    """Read the fields of a message; a missing byte is an ``IndexError``."""

    __slots__ = ('_data', '_position')

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def more(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        end = self._position + size
        if end > len(self._data):
            raise IndexError(size)
        found = self._data[self._position:end]
        self._position = end
        return found

    def number(self, size: int) -> int:
        """Return the number in the next ``size`` bytes."""
        return int.from_bytes(self.take(size), 'big')

    def vector(self, size: int) -> bytes:
        """Return the content of a vector whose length has ``size`` bytes (RFC 8446, section 3.4)."""
        return self.take(self.number(size))


def offered_ciphers(data: bytes) -> list[bytes]:
    """Return the cipher suites in ``data``, a ClientHello in one record, two bytes for each. Never switches."""
    hello = _Fields(data[_RECORD_HEADER + _MESSAGE_HEADER:])
    hello.take(34)
    hello.vector(1)
    suites = hello.vector(2)
    return [suites[start:start + 2] for start in range(0, len(suites), 2)]


def _servername(hello: _Fields) -> str | None:
    """Return the name in the body of a ClientHello, None without one or where OpenSSL refuses the message anyway."""
    try:
        # legacy_version and random, then the session id, the cipher suites and the compression methods
        hello.take(34)
        hello.vector(1)
        hello.vector(2)
        hello.vector(1)
        extensions = _Fields(hello.vector(2))
        while extensions.more:
            kind, content = extensions.number(2), _Fields(extensions.vector(2))
            if kind == _SERVER_NAME:
                names = _Fields(content.vector(2))
                return names.vector(2).decode('ascii') if names.number(1) == _HOST_NAME else None
    except (IndexError, UnicodeDecodeError):
        pass
    return None
