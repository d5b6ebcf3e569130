"""The cache of parse results: its bounds, and the entries that it keeps."""

from __future__ import annotations

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import Limits, Parser, Role
from geventnode.protocol.head import REQUEST_HEADS
from geventnode.protocol.parse_cache import MANY_MISSES, SAMPLED, ParseCache


def test_results_are_stored_from_the_second_lookup_on() -> None:
    parsed = []
    cache = ParseCache(lambda data: parsed.append(data) or len(data))
    assert (cache[b'abc'], dict(cache), cache.get(b'abc')) == (3, {}, None)
    assert [cache[b'abc'], cache[b'abc'], cache.get(b'abc')] == [3, 3, 3]
    assert parsed == [b'abc', b'abc']
    assert cache.get(b'other') is None


def test_data_without_repetition_displaces_nothing() -> None:
    cache = ParseCache(len, max_entries=4)
    for _ in range(2):
        cache[b'used']
    for number in range(50):
        cache[b'%d' % number]
        assert len(cache.seen) <= 4
    assert cache.get(b'used') == 4


def test_used_entries_stay() -> None:
    parsed = []
    cache = ParseCache(lambda data: parsed.append(data) or data, max_entries=4)
    for number in range(50):
        cache[b'used']
        for _ in range(2):
            cache[b'%d' % number]
    assert parsed.count(b'used') == 2
    assert len(cache) <= 4
    assert len(cache.old) <= 4
    parsed.clear()
    cache[b'0']
    assert parsed == [b'0']


def test_long_keys_are_not_stored() -> None:
    cache = ParseCache(len, max_key=3)
    for _ in range(2):
        assert [cache[b'abc'], cache[b'abcd']] == [3, 4]
    assert list(cache) == [b'abc']


def test_errors_are_not_stored() -> None:
    def parse(data: bytes) -> int:
        raise ParseError('no')

    cache = ParseCache(parse)
    for _ in range(2):
        with pytest.raises(ParseError):
            cache[b'x']
    assert not cache
    assert not cache.seen


def test_data_that_never_repeats_is_seldom_looked_for() -> None:
    looked_for = []

    class Observed(ParseCache):
        def get(self, data: bytes) -> None:
            looked_for.append(data)

    cache = Observed(len)
    for number in range(MANY_MISSES + 10 * SAMPLED):
        assert cache.find(b'%4d' % number) == 4
    assert len(looked_for) == MANY_MISSES + 10


def test_data_that_repeats_again_is_found() -> None:
    parsed = []
    cache = ParseCache(lambda data: parsed.append(data) or len(data))
    for number in range(10 * MANY_MISSES):
        cache.find(b'%d' % number)
    for _ in range(3 * SAMPLED):
        assert cache.find(b'used') == 4
    parsed.clear()
    for _ in range(3):
        assert cache.find(b'used') == 4
    assert parsed == []
    assert cache.misses == 0


def test_long_data_is_not_looked_for() -> None:
    cache = ParseCache(len, max_key=3)
    for _ in range(3):
        assert [cache.find(b'abc'), cache.find(b'abcd')] == [3, 4]
    assert list(cache) == [b'abc']
    assert len(cache.seen) == 1


def test_the_parser_caches_a_bounded_number_of_heads() -> None:
    parser = Parser(Role.REQUEST, Limits())
    for number in sorted([*range(3 * REQUEST_HEADS.max_entries)] * 2):
        parser.feed(b'GET /%d HTTP/1.1\r\nHost: a%d\r\n\r\n' % (number, number))
        head = parser.next_event()
        assert (head.url, head.host) == (f'/{number}', f'a{number}')
        assert len(REQUEST_HEADS) <= REQUEST_HEADS.max_entries
        assert head.raw_headers == [('Host', f'a{number}')]


def test_each_version_has_its_own_blocks() -> None:
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


def test_limits_apply_to_cached_heads() -> None:
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


@pytest.mark.parametrize('data', [b'GET /twice HTTP/1.1\r\nHost: a\r\nA b\r\n\r\n'])
def test_malformed_heads_are_not_kept(data: bytes) -> None:
    REQUEST_HEADS.misses = REQUEST_HEADS.skip = 0
    for _ in range(3):
        parser = Parser(Role.REQUEST, Limits())
        parser.feed(data)
        with pytest.raises(ParseError):
            parser.next_event()
        assert REQUEST_HEADS.wanted is None


def test_failed_results_are_not_kept() -> None:
    cache = ParseCache(int)
    for _ in range(3):
        with pytest.raises(ValueError, match='invalid literal'):
            cache.find(b'x')
        assert cache.wanted is None
