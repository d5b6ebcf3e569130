"""PROXY headers, versions 1 and 2: results at every division, and errors."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from geventnode.errors import ParseError
from geventnode.protocol.proxy import FIXED, MAX_BLOCK, MAX_LINE, SIGNATURE, ProxyHeader, parse_proxy_header
from tests.proxies import TLS_NOT_USED, TLS_USED, UNIX_ADDRESSES, ipv4, ipv6, v2

PEER_V4 = (('1.2.3.4', 1000), ('5.6.7.8', 443))
PEER_V6 = (('2001:db8::1', 1000), ('::2', 443))

GOOD: list[tuple[bytes, tuple[Any, ...], bool]] = [
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n', (1, False, *PEER_V4), False),
    (b'PROXY TCP6 2001:db8::1 ::2 1000 443\r\n', (1, False, *PEER_V6), False),
    (
        b'PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0001 0000:0000:0000:0000:0000:0000:0000:0002 1000 443\r\n',
        (1, False, *PEER_V6),
        False,
    ),
    (b'PROXY TCP6 ::ffff:1.2.3.4 ::ffff:5.6.7.8 1000 443\r\n', (1, False, *PEER_V4), False),
    (b'PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n', (1, False, ('255.255.255.255', 65535), ('0.0.0.0', 0)), False),
    (b'PROXY UNKNOWN\r\n', (1, False), False),
    (b'PROXY UNKNOWN 1.2.3.4 anything \x00\xff\r\n', (1, False), False),
    (b'PROXY UNKNOWN ' + b'f' * (MAX_LINE - 16) + b'\r\n', (1, False), False),
    (v2(block=ipv4()), (2, False, *PEER_V4), False),
    (v2(family=0x12, block=ipv4()), (2, False, *PEER_V4), False),
    (v2(family=0x21, block=ipv6()), (2, False, *PEER_V6), False),
    (v2(family=0x22, block=ipv6()), (2, False, *PEER_V6), False),
    (v2(family=0x21, block=ipv6('::ffff:1.2.3.4', '::ffff:5.6.7.8')), (2, False, *PEER_V4), False),
    (v2(family=0x31, block=UNIX_ADDRESSES), (2, False), False),
    (v2(family=0x31, block=UNIX_ADDRESSES + TLS_USED), (2, False, None, None, ((0x20, TLS_USED[3:]),)), True),
    (v2(family=0x00), (2, False), False),
    (v2(family=0x00, block=b'anything'), (2, False), False),
    (v2(family=0x10, block=ipv4()), (2, False), False),
    (v2(family=0x01), (2, False), False),
    (v2(0x20, 0x00), (2, True), False),
    (v2(0x20, 0x11, ipv4()), (2, True), False),
    (v2(0x20, 0xFF, b'anything'), (2, True), False),
    (v2(block=ipv4() + TLS_USED), (2, False, *PEER_V4, ((0x20, TLS_USED[3:]),)), True),
    (v2(block=ipv4() + TLS_NOT_USED), (2, False, *PEER_V4, ((0x20, TLS_NOT_USED[3:]),)), False),
    (v2(block=ipv4() + b'\x20\x00\x00'), (2, False, *PEER_V4, ((0x20, b''),)), False),
    (
        v2(block=ipv4() + b'\x01\x00\x02h2' + b'\x04\x00\x00' + b'\xea\x00\x03\x01vp'),
        (2, False, *PEER_V4, ((1, b'h2'), (4, b''), (0xEA, b'\x01vp'))),
        False,
    ),
    (
        v2(block=ipv4() + b'\x04' + struct.pack('!H', MAX_BLOCK - 15) + b'\0' * (MAX_BLOCK - 15)),
        (2, False, *PEER_V4, ((4, b'\0' * (MAX_BLOCK - 15)),)),
        False,
    ),
]
BAD: list[tuple[bytes, str]] = [
    # no header
    (b'G', 'MISSING'),
    (b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 'MISSING'),
    (b'PROXYX', 'MISSING'),
    (b'proxy ', 'MISSING'),
    (b'PROXY\tTCP4', 'MISSING'),
    (b'\r\nPROXY ', 'MISSING'),
    (b'\x16\x03\x01', 'MISSING'),
    (b' PROXY', 'MISSING'),
    (SIGNATURE[:-1] + b'\r', 'MISSING'),
    (b'\r\n\r\n\r\n', 'MISSING'),
    (b'\0', 'MISSING'),
    # version 1
    (b'PROXY \r\n', 'INVALID'),
    (b'PROXY TCP4\r\n', 'INVALID'),
    (b'PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY UNKNOWNX\r\n', 'INVALID'),
    (b'PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 256.2.3.4 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8.9 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 ::1 ::2 1 2\r\n', 'INVALID'),
    (b'PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n', 'INVALID'),
    (b'PROXY TCP6 1::2::3 ::2 1 2\r\n', 'INVALID'),
    (b'PROXY TCP6 fe80::1%1 ::2 1 2\r\n', 'INVALID'),
    (b'PROXY TCP6 [::1] [::2] 1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\nGET / HTTP/1.1\r\n', 'INVALID'),
    (b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rGET / HTTP/1.1\r\n', 'INVALID'),
    (b'PROXY UNKNOWN\nGET / HTTP/1.1\r\n', 'INVALID'),
    (b'PROXY UNKNOWN \n\r\n', 'INVALID'),
    (b'PROXY ' + b'x' * (MAX_LINE - 6), 'OVERFLOW'),
    (b'PROXY UNKNOWN ' + b'f' * (MAX_LINE - 15) + b'\r\n', 'OVERFLOW'),
    # version 2
    (v2(0x11, block=ipv4()), 'INVALID'),
    (v2(0x31, block=ipv4()), 'INVALID'),
    (v2(0x22, block=ipv4()), 'INVALID'),
    (v2(0x2F, block=ipv4()), 'INVALID'),
    (v2(0x00), 'INVALID'),
    (v2(family=0x41, block=ipv4()), 'INVALID'),
    (v2(family=0x13, block=ipv4()), 'INVALID'),
    (v2(family=0xF0), 'INVALID'),
    (v2(family=0x0F), 'INVALID'),
    (v2(block=ipv4()[:-1]), 'INVALID'),
    (v2(), 'INVALID'),
    (v2(family=0x21, block=ipv4()), 'INVALID'),
    (v2(family=0x31, block=UNIX_ADDRESSES[:-1]), 'INVALID'),
    (v2(block=ipv4() + b'\x01'), 'INVALID'),
    (v2(block=ipv4() + b'\x01\x00'), 'INVALID'),
    (v2(block=ipv4() + b'\x01\x00\x01'), 'INVALID'),
    (v2(block=ipv4() + b'\x01\xff\xff' + b'x' * 100), 'INVALID'),
    (v2(size=MAX_BLOCK + 1), 'OVERFLOW'),
    (v2(size=65535), 'OVERFLOW'),
    (v2(0x20, size=65535), 'OVERFLOW'),
]


@pytest.mark.parametrize(('data', 'expected', 'encrypted'), GOOD)
def test_valid_header(data: bytes, expected: tuple[Any, ...], encrypted: bool) -> None:
    """A header is parsed alone, with bytes after it, and not before its last byte has arrived."""
    header = ProxyHeader(*expected)
    assert parse_proxy_header(data) == (header, len(data))
    assert parse_proxy_header(data + b'\r\nPROXY GET') == (header, len(data))
    assert [cut for cut in range(len(data)) if parse_proxy_header(data[:cut]) is not None] == []
    assert header.encrypted is encrypted


@pytest.mark.parametrize(('data', 'code'), BAD)
def test_invalid_header(data: bytes, code: str) -> None:
    """Every prefix is incomplete or rejected, and so are all longer ones; the message is one printable line."""
    cuts = [data[:cut] for cut in range(len(data) + 1)]
    first = next(number for number, cut in enumerate(cuts) if _error(cut) is not None)
    for cut in cuts[first:]:
        error = _error(cut)
        assert error is not None
        assert error.code == f'PROXY_HEADER_{code}'
        assert str(error).isascii()
        assert str(error).isprintable()
        assert len(str(error)) < 400


def _error(data: bytes) -> ParseError | None:
    """Return the code of the error for ``data``; None if it is incomplete."""
    try:
        assert parse_proxy_header(data) is None
    except ParseError as error:
        return error
    return None


def test_other_protocols_are_rejected_by_their_first_byte() -> None:
    """The first byte is enough, so that the parser does not wait for the rest."""
    for first in range(256):
        data = bytes([first])
        if data in (b'P', b'\r'):
            assert parse_proxy_header(data) is None
        else:
            with pytest.raises(ParseError):
                parse_proxy_header(data)
    assert parse_proxy_header(b'') is None


def test_incomplete_headers_are_bounded() -> None:
    """An incomplete header is always shorter than the limits."""
    assert parse_proxy_header(b'PROXY '.ljust(MAX_LINE - 1, b'x')) is None
    assert parse_proxy_header(v2(size=MAX_BLOCK).ljust(FIXED + MAX_BLOCK - 1, b'x')) is None


def test_random_headers(seed: int) -> None:
    """Mutated headers raise only ParseError, and a longer input never changes the verdict on a shorter one."""
    chance = random.Random(seed)
    seeds = [data for data, _, _ in GOOD if len(data) < 300] + [data for data, _ in BAD]
    for _ in range(3000):
        data = bytearray(chance.choice(seeds) + chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.choice(b'\r\n \0:.019fPQ\x20\x21\xff')
        verdicts = []
        for cut in (chance.randrange(len(data)), len(data)):
            try:
                verdicts.append(parse_proxy_header(bytes(data[:cut])))
            except ParseError as error:
                verdicts.append(error.code)
        if verdicts[0] is not None:
            assert verdicts[0] == verdicts[1]
