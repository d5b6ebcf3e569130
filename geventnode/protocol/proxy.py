"""The PROXY protocol, versions 1 and 2.

A proxy sends a header with the address of its client at the start of a connection.

One function parses the bytes that have arrived so far. It returns the header and its size, or None when it needs more
bytes, or raises. It never guesses: the caller expects a header, and the first byte that cannot belong to one is an
error. The two limits below bound the memory that a peer can use.

Source: "The PROXY protocol, versions 1 & 2", haproxy.org, 2020/03/05; sections are those of that document.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from geventnode.errors import ParseError
from geventnode.protocol.forwarded import Address, ip_address

__all__ = ['Endpoint', 'ProxyHeader', 'parse_proxy_header']

#: Bytes of a line of version 1, including its end (section 2.1).
MAX_LINE = 107

#: Bytes after the first 16 of version 2: the fields of the protocol take a few hundred, a client's certificate takes
#: some thousands.
MAX_BLOCK = 4096

SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'
FIXED = len(SIGNATURE) + 4

#: Bytes of the addresses by address family: IPv4, IPv6, Unix. For an unspecified family or transport, their length is
#: unknown (section 2.2).
ADDRESSES = {1: 12, 2: 36, 3: 216}
UNIX_FAMILY = 3
TRANSPORTS = (1, 2)

TLS = 0x20
CLIENT_USED_TLS = 0x01

_PORT = rb'(0|[1-9][0-9]{0,4})'
_LINE = re.compile(rb'PROXY (TCP[46]) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) ' + _PORT + b' ' + _PORT + rb'\r\n')
_UNKNOWN = re.compile(rb'PROXY UNKNOWN(?: [^\r\n]*)?\r\n')

#: An IP address and a port.
Endpoint = tuple[str, int]


class ProxyHeader(NamedTuple):
    """The PROXY header of a connection."""

    #: The version of the protocol, 1 or 2.
    version: int
    #: Whether the connection is the proxy's own, as for a health check, so that there is no client.
    local: bool
    #: The IP address and port of the client; None if the proxy does not know them, or for another address family.
    source: Endpoint | None = None
    #: The IP address and port to which the client connected, or None.
    destination: Endpoint | None = None
    #: The TLVs of version 2 as (type, value), in order (section 2.2).
    tlvs: tuple[tuple[int, bytes], ...] = ()

    @property
    def encrypted(self) -> bool:
        """Whether the client uses TLS to the proxy (section 2.2.6)."""
        return any(kind == TLS and value[:1] and value[0] & CLIENT_USED_TLS for kind, value in self.tlvs)


def parse_proxy_header(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Parse the header at the beginning of ``data``.

    :returns: the header and its size in bytes; None if more bytes are needed.
    :raises ParseError: there is no valid header. The code is ``'PROXY_HEADER_MISSING'`` for bytes that do not begin
        like one, ``'PROXY_HEADER_OVERFLOW'`` for one that is too long, otherwise ``'PROXY_HEADER_INVALID'``.
    """
    if data[:6] == b'PROXY '[: len(data)]:
        return _text(data)
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _binary(data)
    raise ParseError(
        'the connection does not begin with a PROXY header', code='PROXY_HEADER_MISSING', data=data[:MAX_LINE]
    )


def _invalid(problem: str, data: bytes) -> ParseError:
    return ParseError(f'PROXY header with {problem}', code='PROXY_HEADER_INVALID', data=data)


def _overflow(limit: int, data: bytes) -> ParseError:
    return ParseError(f'PROXY header longer than {limit} bytes', code='PROXY_HEADER_OVERFLOW', data=data)


# -- version 1 --------------------------------------------------------------------------------------------------------


def _text(data: bytes) -> tuple[ProxyHeader, int] | None:
    end = data.find(b'\r\n', 0, MAX_LINE)
    if end < 0:
        if len(data) >= MAX_LINE:
            raise _overflow(MAX_LINE, data[:MAX_LINE])
        return None
    line = data[: end + 2]
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(1, local=False), len(line)
    found = _LINE.fullmatch(line)
    if found is None:
        raise _invalid('a malformed line', line)
    family, source, destination, source_port, destination_port = found.groups()
    return ProxyHeader(
        1, False, _endpoint(family, source, source_port, line), _endpoint(family, destination, destination_port, line)
    ), len(line)


def _endpoint(family: bytes, address: bytes, port: bytes, line: bytes) -> Endpoint:
    ip = ip_address(address.decode('ascii'))
    # an IPv4-mapped IPv6 address is an IPv4 address; a family other than that of the address is an error
    if ip is None or (b':' in address) != (family == b'TCP6'):
        raise _invalid(f'an address that is not of {family.decode()}', line)
    if int(port) > 65535:
        raise _invalid('an invalid port', line)
    return ip.text, int(port)


# -- version 2 --------------------------------------------------------------------------------------------------------


def _binary(data: bytes) -> tuple[ProxyHeader, int] | None:
    if len(data) < FIXED:
        return None
    version, command = data[12] >> 4, data[12] & 15
    if version != 2 or command > 1:
        raise _invalid('an unknown version or command', data[:FIXED])
    size = int.from_bytes(data[14:FIXED], 'big')
    if size > MAX_BLOCK:
        raise _overflow(FIXED + MAX_BLOCK, data[:FIXED])
    if len(data) < FIXED + size:
        return None
    if command == 0:
        # the rest of the header has no meaning
        return ProxyHeader(2, local=True), FIXED + size
    family, transport = data[13] >> 4, data[13] & 15
    if family > UNIX_FAMILY or transport > max(TRANSPORTS):
        raise _invalid('an unknown address family or transport', data[:FIXED])
    size_of_addresses = ADDRESSES.get(family) if transport in TRANSPORTS else None
    if size_of_addresses is None:
        return ProxyHeader(2, local=False), FIXED + size
    block = data[FIXED : FIXED + size]
    if size < size_of_addresses:
        raise _invalid('incomplete addresses', data[: FIXED + size])
    tlvs = _tlvs(block[size_of_addresses:], data[:FIXED])
    if family == UNIX_FAMILY:
        return ProxyHeader(2, local=False, tlvs=tlvs), FIXED + size
    return ProxyHeader(2, False, *_endpoints(block[:size_of_addresses]), tlvs), FIXED + size


def _endpoints(block: bytes) -> tuple[Endpoint, Endpoint]:
    width = len(block) // 2 - 2
    ports = block[2 * width :]
    return (
        (Address.from_bytes(block[:width]).text, int.from_bytes(ports[:2], 'big')),
        (Address.from_bytes(block[width : 2 * width]).text, int.from_bytes(ports[2:], 'big')),
    )


def _tlvs(data: bytes, fixed: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    while data:
        end = 3 + int.from_bytes(data[1:3], 'big')
        if len(data) < 3 or len(data) < end:
            raise _invalid('an incomplete TLV', fixed + data)
        found.append((data[0], data[3:end]))
        data = data[end:]
    return tuple(found)
