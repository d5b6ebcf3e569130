"""The short way of the client's parser says what the long way says, or nothing."""

from __future__ import annotations

import random

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import Limits, Parser, ResponseHead, ResponseParser, Role
from tests.corpus.cases import load

CASES = [case.data for name in ('responses', 'attacks') for case in load(name) if case.kind == 'response']
GOOD = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.0 404 No\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.1 101 Switching\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nhello',
]


def whole(parser: Parser) -> tuple[ResponseHead, bytes] | None:
    """Return the head and the content of a message that ends with what was fed, by events."""
    try:
        head = parser.next_event()
        body = parser.next_event()
        end = parser.next_event()
    except ParseError:
        return None
    if isinstance(head, ResponseHead) and isinstance(body, bytes) and end is not None and not parser.buffered:
        return head, body
    return None


@pytest.mark.parametrize('method', ['GET', 'HEAD', 'CONNECT'])
@pytest.mark.parametrize(
    'limits',
    [Limits(), Limits(max_header_size=60), Limits(max_headers_count=1), Limits(max_body_size=3)],
    ids=['default', 'size', 'count', 'body'],
)
def test_the_ways_agree(method: str, limits: Limits, seed: int) -> None:
    chance = random.Random(seed)
    taken = 0
    for data in CASES + GOOD * 3 + [_changed(chance.choice(GOOD), chance) for _ in range(300)]:
        # both know the lines and sections that come often
        for _ in range(2):
            slow, fast = Parser(Role.RESPONSE, limits), ResponseParser(limits)
            for parser in (slow, fast):
                parser.expect_response_to(method)
                parser.feed(data)
            found = fast.take_response()
            expected = whole(slow)
            if found is None:
                continue
            taken += 1
            assert expected is not None
            assert found[1] == expected[1]
            assert (found[0].status_code, found[0].raw_headers, found[0].keep_alive, found[0].framing) == (
                expected[0].status_code,
                expected[0].raw_headers,
                expected[0].keep_alive,
                expected[0].framing,
            )
            assert (fast.at_boundary, fast.bytes_parsed) == (slow.at_boundary, slow.bytes_parsed)
            if limits == Limits():
                for parser in (slow, fast):
                    parser.feed(GOOD[0])
                assert (fast.next_event() is None) == (slow.next_event() is None)
    if method == 'HEAD' or limits.max_body_size is None:
        assert bool(taken) is (method != 'HEAD')


def _changed(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] = chance.choice(b'\r\n 0159:xA\0\xff')
    return bytes(changed)


def test_the_short_way_is_for_a_fresh_start_only() -> None:
    parser = ResponseParser(Limits())
    assert parser.take_response() is None
    parser.feed(GOOD[0][:10])
    assert parser.take_response() is None
    parser.feed(GOOD[0][10:])
    assert parser.take_response() is None, 'it came in pieces'
    assert parser.next_event() is not None
