"""The memory for what was parsed: bounded, and keeps what is used."""

from __future__ import annotations

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import Limits, Parser, Role
from geventnode.protocol.head import REQUEST_LINES
from geventnode.protocol.parse_cache import ParseCache


def test_kept_from_the_second_time_on() -> None:
    made = []
    memo = ParseCache(lambda data: made.append(data) or len(data))
    assert (memo[b'abc'], dict(memo), memo.get(b'abc')) == (3, {}, None)
    assert [memo[b'abc'], memo[b'abc'], memo.get(b'abc')] == [3, 3, 3]
    assert made == [b'abc', b'abc']
    assert memo.get(b'other') is None


def test_what_comes_once_pushes_nothing_out() -> None:
    memo = ParseCache(len, max_entries=4)
    for _ in range(2):
        memo[b'used']
    for number in range(50):
        memo[b'%d' % number]
        assert len(memo.seen) <= 4
    assert memo.get(b'used') == 4


def test_what_is_used_stays() -> None:
    made = []
    memo = ParseCache(lambda data: made.append(data) or data, max_entries=4)
    for number in range(50):
        memo[b'used']
        for _ in range(2):
            memo[b'%d' % number]
    assert made.count(b'used') == 2
    assert len(memo) <= 4
    assert len(memo.old) <= 4
    made.clear()
    memo[b'0']
    assert made == [b'0']


def test_long_keys_are_not_kept() -> None:
    memo = ParseCache(len, max_key=3)
    for _ in range(2):
        assert [memo[b'abc'], memo[b'abcd']] == [3, 4]
    assert list(memo) == [b'abc']


def test_errors_are_not_kept() -> None:
    def make(data: bytes) -> int:
        raise ParseError('no')

    memo = ParseCache(make)
    for _ in range(2):
        with pytest.raises(ParseError):
            memo[b'x']
    assert memo.look_up(b'x') is None
    assert not memo
    assert not memo.seen
    assert ParseCache(len).look_up(b'x') == 1


def test_the_parser_remembers_a_bounded_number_of_lines() -> None:
    parser = Parser(Role.REQUEST, Limits())
    for number in sorted([*range(3 * REQUEST_LINES.max_entries)] * 2):
        parser.feed(b'GET /%d HTTP/1.1\r\nHost: a%d\r\n\r\n' % (number, number))
        head = parser.next_event()
        assert (head.url, head.host) == (f'/{number}', f'a{number}')
        assert len(REQUEST_LINES) <= REQUEST_LINES.max_entries
        assert len(head.block.pairs) == 1


def test_the_same_block_in_another_version_is_another_thing() -> None:
    block = b'\r\nHost: same\r\nConnection: upgrade\r\nUpgrade: x\r\nExpect: 100-continue\r\n\r\n'
    for _ in range(2):
        parser = Parser(Role.REQUEST, Limits())
        parser.feed(b'GET / HTTP/1.1' + block)
        new = parser.next_event()
        parser = Parser(Role.REQUEST, Limits())
        parser.feed(b'GET / HTTP/1.0' + block)
        old = parser.next_event()
        assert (new.keep_alive, new.upgrade, new.expect) == (True, True, '100-continue')
        assert (old.keep_alive, old.upgrade, old.expect) == (False, False, None)


def test_limits_hold_for_what_is_remembered() -> None:
    data = b'GET /limits HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n'
    parser = Parser(Role.REQUEST, Limits())
    parser.feed(data)
    assert parser.next_event().url == '/limits'
    for limits in (Limits(max_headers_count=1), Limits(max_header_size=len(data) - 1)):
        parser = Parser(Role.REQUEST, limits)
        parser.feed(data)
        with pytest.raises(ParseError) as caught:
            parser.next_event()
        assert caught.value.status == 431
