"""PROXY headers for tests, built without the package."""

from __future__ import annotations

import socket
import struct

__all__ = ['TLS_NOT_USED', 'TLS_USED', 'UNIX_ADDRESSES', 'V1', 'ipv4', 'ipv6', 'v2']

#: The client 1.2.3.4 with its port 1000, in version 1.
V1 = b'PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n'

#: The TLS field of a proxy for a client that uses TLS, and for one that does not.
TLS_USED = b'\x20\x00\x05\x01\x00\x00\x00\x00'
TLS_NOT_USED = b'\x20\x00\x05\x00\x00\x00\x00\x01'

#: The addresses of a client that is connected to the proxy by a Unix socket.
UNIX_ADDRESSES = b'/run/client'.ljust(108, b'\0') + b'/run/proxy'.ljust(108, b'\0')

SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'


def v2(command: int = 0x21, family: int = 0x11, block: bytes = b'', size: int | None = None) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + struct.pack('!BBH', command, family, len(block) if size is None else size) + block


def ipv4(source: str = '1.2.3.4', destination: str = '5.6.7.8', ports: tuple[int, int] = (1000, 443)) -> bytes:
    """Return the addresses of an IPv4 connection in version 2."""
    return socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack('!HH', *ports)


def ipv6(source: str = '2001:db8::1', destination: str = '::2', ports: tuple[int, int] = (1000, 443)) -> bytes:
    """Return the addresses of an IPv6 connection in version 2."""
    return (
        socket.inet_pton(socket.AF_INET6, source)
        + socket.inet_pton(socket.AF_INET6, destination)
        + struct.pack('!HH', *ports)
    )
