"""Find the server name in a ClientHello before OpenSSL reads it.

See RFC 8446, section 4.1.2, and RFC 6066, section 3.

After the beginning of a handshake, OpenSSL can change the certificate of the connection, but not its verify mode, its
versions or its session keys. Therefore the server chooses the context first, and creates the connection with it.

Input that is not a ClientHello has no name: OpenSSL then refuses it for its own reason.
"""

from __future__ import annotations

__all__ = ['ClientHello', 'offered_ciphers']

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
_HOST_NAME = 0

#: Bytes of legacy_version and random.
_FIXED = 34

#: Bytes of the longest ClientHello that OpenSSL accepts (``CLIENT_HELLO_MAX_LENGTH``).
MAX_LENGTH = 131396

#: Bytes that are kept for it. In records of one byte, or of no bytes, it would need more: OpenSSL refuses these, too.
MAX_SIZE = 2 * MAX_LENGTH


class ClientHello:
    """Collect the first message of a client, however it is divided."""

    __slots__ = ('_chunks', '_message', '_record', '_size', 'complete', 'servername')

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        #: The bytes of a record that is not complete yet, and those of the message so far.
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
        """Take ``data``, the next bytes of the connection."""
        self._chunks.append(data)
        if self.complete:
            return
        if (
            not self._size
            and data[:1] == b'\x16'
            and data[5:6] == b'\x01'
            and (
                _RECORD_HEADER + (data[3] << 8) + data[4]
                == len(data)
                == _RECORD_HEADER + _MESSAGE_HEADER + int.from_bytes(data[6:9], 'big')
            )
        ):
            # the most common case: all of it in one record
            self.servername = _servername(data, _RECORD_HEADER + _MESSAGE_HEADER)
            self.complete = True
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
        """Return whether the message is complete, or cannot become a ClientHello."""
        message = self._message
        if len(message) < _MESSAGE_HEADER:
            return False
        end = _MESSAGE_HEADER + int.from_bytes(message[1:4], 'big')
        if message[0] != _CLIENT_HELLO or end > MAX_LENGTH:
            return True
        if len(message) < end:
            return False
        self.servername = _servername(message, _MESSAGE_HEADER)
        return True


def offered_ciphers(data: bytes) -> list[bytes]:
    """Return the cipher suites in ``data``, two bytes for each.

    :param data: a ClientHello in one record.
    """
    start = _RECORD_HEADER + _MESSAGE_HEADER + _FIXED
    start += 1 + data[start]
    end = start + 2 + int.from_bytes(data[start : start + 2], 'big')
    return [data[at : at + 2] for at in range(start + 2, end, 2)]


def _servername(data: bytes | bytearray, at: int) -> str | None:
    """Return the name in a ClientHello, None without one.

    :param at: the offset of its body in ``data``.

    It is also None for a malformed message, which OpenSSL then refuses.
    """
    try:
        # the session id, the cipher suites and the compression methods, each after its length
        at += _FIXED
        at += 1 + data[at]
        at += 2 + (data[at] << 8) + data[at + 1]
        at += 1 + data[at]
        end = at + 2 + (data[at] << 8) + data[at + 1]
        at += 2
        while at < end:
            size = (data[at + 2] << 8) + data[at + 3]
            if data[at] == 0 == data[at + 1]:
                # server_name: a list, of which there is one entry: its type, host_name, and a name
                content = data[at + 4 : at + 4 + size]
                name = content[5:]
                if content[2] == _HOST_NAME and len(name) == (content[3] << 8) + content[4]:
                    return name.decode('ascii')
                return None
            at += 4 + size
    except (IndexError, UnicodeDecodeError):
        pass
    return None
