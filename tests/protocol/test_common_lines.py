"""The common lines of a connection: which are learned, and that the heads after them are parsed as all others."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import Limits, Parser, RequestHead, Role
from geventnode.protocol import common_lines as module
from geventnode.protocol import parser as parser_module
from geventnode.protocol.common_lines import MAX_KEPT, MAX_LEARNED, MAX_SIZE, CommonLines, learn
from geventnode.protocol.head import parse_request_head

LINES = [b'Host: a', b'Accept: */*', b'User-Agent: test', b'Accept-Language: en', b'Accept-Encoding: gzip']


def head(*lines: bytes, target: bytes = b'/') -> bytes:
    """Return a valid head, which was parsed once."""
    data = b'\r\n'.join((b'GET ' + target + b' HTTP/1.1', *lines, b'', b''))
    parse_request_head(data)
    return data


def learned(*lines: bytes, before: CommonLines | None = None) -> list[bytes] | None:
    """Return the lines that a connection learns from a head."""
    found = learn(head(*lines), before)
    return None if found is None else found.text.split(b'\r\n')[:-1]


def values(found: RequestHead) -> list[object]:
    """Return all that a head has, apart from the way in which it was parsed."""
    names = [name for name in RequestHead.__slots__ if name != 'has_common']
    return [*(getattr(found, name) for name in names), list(found.fields), found.raw_headers, found.headers]


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, '_kept', {})
    return


# -- learning ---------------------------------------------------------------------------------------------------------


def test_the_lines_before_the_first_one_of_the_message_are_learned() -> None:
    assert learned(*LINES, b'X-Request-Id: 1', b'X-Other: b') == LINES


@pytest.mark.parametrize('name', [b'Cookie', b'Authorization', b'X-API-Key', b'X-Session-Id'])
def test_no_secret_is_learned(name: bytes) -> None:
    for place in range(len(LINES) + 1):
        found = learned(*LINES[:place], name + b': sesame', *LINES[place:])
        assert found is None or found == LINES[:place]


def test_lines_that_were_not_repeated_are_forgotten() -> None:
    before = learn(head(*LINES, b'Referer: /1', b'Via: b'), None)
    assert before is not None
    assert before.count == 7
    assert learned(*LINES, b'Referer: /2', b'Via: b', before=before) == LINES
    assert learned(*LINES, before=before) == LINES
    assert learned(*LINES[1:], before=before) is None


def test_too_few_too_long_and_repeated_lines_are_not_learned() -> None:
    assert learned(*LINES[:3]) is None
    assert learned(*LINES[:4]) == LINES[:4]
    assert learned(*LINES, LINES[1]) is None
    assert learned(*LINES, *(b'X-%d: %b' % (number, b'x' * (MAX_SIZE // 5)) for number in range(5))) is None


def test_connections_share_a_bounded_number() -> None:
    assert learn(head(*LINES), None) is learn(head(*LINES), None)
    for number in range(2 * MAX_KEPT):
        # None if the cache of lines has just become an old one
        assert learned(*LINES, b'X: %d' % number) or learned(*LINES, b'X: %d' % number)
        assert len(module._kept) <= MAX_KEPT


# -- parsing ----------------------------------------------------------------------------------------------------------

ENDINGS = [
    (),
    (b'X-Request-Id: 1',),
    (b'X-Request-Id: 1', b'Cookie: a=b', b'X-New: c'),
    (b'Cookie:  a=b\t ', b'Cookie: c=d'),
    (b'Accept: text/html',),
    (b'Content-Length: 0', b'X:y'),
    (b'Connection: close',),
    (b'Connection: upgrade', b'Upgrade: x'),
    (b'Expect: 100-continue',),
    (b'X-Value: \xe9', b'Cookie: \xe9'),
]
INVALID = [
    (b'Host: b',),
    (b'Host: a',),
    (b' folded',),
    (b'Cookie: \x00',),
    (b'X-Request-Id: a\rb',),
    (b'Cookie: a\nb',),
    (b'no colon',),
    (b'a b: c',),
    (b'Content-Length: 1', b'Content-Length: 2'),
    (b'Transfer-Encoding: gzip',),
]


@pytest.mark.parametrize('ending', ENDINGS)
@pytest.mark.parametrize('target', [b'/', b'http://b/', b'*?'])
def test_a_head_with_common_lines_is_parsed_as_any_other(ending: tuple[bytes, ...], target: bytes) -> None:
    common = learn(head(*LINES), None)
    if target == b'*?':
        # a line that only the regular expression accepts
        data = head(*LINES, *ending).replace(b'GET / HTTP/1.1', b'M-SEARCH * HTTP/1.7')
    else:
        data = head(*LINES, *ending, target=target)
    found = parse_request_head(data, common)
    assert found.has_common
    assert values(found) == values(parse_request_head(data))


@pytest.mark.parametrize('ending', INVALID)
def test_an_invalid_head_with_common_lines_is_rejected_as_any_other(ending: tuple[bytes, ...]) -> None:
    common = learn(head(*LINES), None)
    data = b'\r\n'.join((b'GET / HTTP/1.1', *LINES, *ending, b'', b''))
    errors = []
    for lines in (None, common):
        with pytest.raises(ParseError) as caught:
            parse_request_head(data, lines)
        errors.append((caught.value.code, caught.value.status, str(caught.value)))
    assert errors[0] == errors[1]


def test_a_longer_line_is_not_the_common_one() -> None:
    common = learn(head(*LINES), None)
    for data in (head(*LINES[:-1], LINES[-1] + b', br'), head(*LINES[1:], LINES[0]), head(LINES[0])):
        found = parse_request_head(data, common)
        assert not found.has_common
        assert values(found) == values(parse_request_head(data))


@pytest.mark.parametrize('data', [b'GET / HTTP/1.1\r\n', b'GET /\n', b'\r\n', b'\r\n\r\n', b'GET /aaaaaaaaaaaaaaaa\n'])
def test_incomplete_heads_are_rejected(data: bytes) -> None:
    common = learn(head(*LINES), None)
    for lines in (None, common):
        with pytest.raises(ParseError):
            parse_request_head(data, lines)
        with pytest.raises(ParseError):
            parse_request_head(data + b'\r\n'.join((*LINES, b'')), lines)


def test_the_heads_of_a_connection_are_parsed_as_those_of_many() -> None:
    randomness = random.Random(15)
    for _ in range(100):
        parser = Parser(Role.REQUEST, Limits())
        own = randomness.sample(LINES, len(LINES))
        for _ in range(8):
            lines = list(own)
            if randomness.random() < 0.3:
                lines[randomness.randrange(len(lines))] += b'x'
            lines += randomness.choice(ENDINGS[:6])
            data = head(*lines, target=b'/%d' % randomness.randrange(3))
            parser.feed(data)
            found = parser.next_event()
            assert isinstance(found, RequestHead)
            assert values(found) == values(parse_request_head(data))


def test_a_connection_learns_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def observed(data: bytes, before: CommonLines | None) -> CommonLines | None:
        calls.append(before)
        return learn(data, before)

    monkeypatch.setattr(parser_module, 'learn', observed)
    parser = Parser(Role.REQUEST, Limits())
    for number in range(3 * MAX_LEARNED):
        # the learned lines are wrong each time, and there are enough of them
        parser.feed(head(*LINES, *(b'X-%d: %d' % (each, number) for each in range(9 - min(number, 9)))))
        assert parser.next_event() is not None
    assert 1 < len(calls) <= MAX_LEARNED


def test_a_connection_survives_the_loss_of_its_lines() -> None:
    parser = Parser(Role.REQUEST, Limits())
    for number in range(6):
        parser.feed(head(*LINES, b'X-Request-Id: %d' % number))
        found = parser.next_event()
        assert isinstance(found, RequestHead)
        assert found.has_common is (number not in (0, 1, 3))
        if number == 2:
            module._kept.clear()
    assert found.fields['x-request-id'] == '5'
