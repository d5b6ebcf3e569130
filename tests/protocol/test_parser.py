"""The interface of the parser: its properties, content, the end of a stream, limits and errors."""

from __future__ import annotations

import contextlib
import gc
import random
import sys

import pytest

from geventnode.errors import BodyTooLarge, ParseError, StreamError
from geventnode.protocol import EndOfMessage, Framing, Limits, Parser, RequestHead, ResponseHead, ResponseParser, Role
from tests.corpus.cases import load
from tests.corpus.parsers import CHUNKED, GET, POST, error_of, exhaust, requests, responses

CASES = [case.data for name in ('responses', 'attacks') for case in load(name) if case.kind == 'response']
GOOD = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.0 404 No\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.1 101 Switching\r\nContent-Length: 5\r\n\r\nhello',
    b'HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nhello',
]


# -- the receive buffer -----------------------------------------------------------------------------------------------


def test_properties_within_an_incomplete_head() -> None:
    parser = requests()
    assert parser.at_boundary
    assert not parser.head_started
    parser.feed(b'\r\n\r')
    assert not parser.head_started
    assert parser.next_event() is None
    assert (parser.buffered, parser.head_started, parser.at_boundary) == (1, False, False)
    parser.feed(b'\nG')
    assert parser.head_started
    assert parser.next_event() is None
    assert parser.head_started
    parser.feed(GET[1:] + b'POST')
    assert parser.next_event().method == 'GET'
    assert parser.head_started
    assert (parser.buffered, parser.bytes_parsed) == (4, 4 + len(GET))


def test_a_parser_within_a_message_is_not_at_a_boundary() -> None:
    parser = requests(POST)
    parser.next_event()
    assert (parser.at_boundary, parser.head_started, parser.buffered) == (False, False, 0)
    parser.feed(b'hello')
    assert (parser.at_boundary, parser.head_started, parser.buffered) == (False, False, 5)
    assert parser.next_event() == b'hello'
    assert not parser.at_boundary
    assert isinstance(parser.next_event(), EndOfMessage)
    assert parser.at_boundary


def test_nothing_is_parsed_before_an_event_is_requested() -> None:
    parser = requests(GET + b'\x00\n')
    assert parser.next_event().method == 'GET'
    assert parser.buffered == 2
    assert error_of(parser).code == 'HPE_CR_EXPECTED'


def test_heads_alone_and_with_others_are_found() -> None:
    parser = requests()
    many = b''.join(GET.replace(b'/x', b'/%d' % number) for number in range(3))
    for data, count in (
        (GET, 1),
        (many, 3),
        (b'\r\n' + many, 3),
        (many + GET[:-1], 3),
        (GET[-1:], 1),
        (GET, 1),
        (POST + b'hello', 1),
        (POST, 1),
        (b'hello', 0),
        (many, 3),
        (GET, 1),
    ):
        parser.feed(data)
        heads = [event for event in iter(parser.next_event, None) if isinstance(event, RequestHead)]
        assert len(heads) == count
    assert parser.at_boundary


def test_a_short_malformed_head_after_several_heads_is_refused() -> None:
    parser = requests(GET + GET)
    for _ in range(2):
        assert isinstance(parser.next_event(), RequestHead)
    parser.feed(b'BAD\r\n\r\n')
    assert error_of(parser).code == 'HPE_INVALID_CONSTANT'


def test_a_long_head_after_longer_ones_is_found() -> None:
    """A head above a limit of its parts takes the slow path."""
    parser = Parser(Role.REQUEST, Limits(max_request_line=len(GET)))
    for _ in range(2):
        parser.feed(GET * 9)
        for _ in range(9):
            assert isinstance(parser.next_event(), RequestHead)
        parser.feed(GET[:-2] + b'A: b\r\n\r\n')
        assert isinstance(parser.next_event(), RequestHead)
    assert parser.at_boundary


def test_the_end_of_the_stream() -> None:
    parser = requests(GET)
    parser.feed_eof()
    assert parser.next_event().method == 'GET'
    assert parser.next_event() is None
    for data in (b'G', b'\r', GET[:-1], POST, POST + b'hell', CHUNKED, CHUNKED + b'5\r\nhel', CHUNKED + b'0\r\n'):
        parser = requests(data)
        parser.feed_eof()
        error = error_of(parser)
        assert (error.code, error.status) == ('HPE_INVALID_EOF_STATE', 400)


def test_take_rest_returns_the_buffered_bytes() -> None:
    parser = requests(GET + b'RAW')
    parser.next_event()
    assert parser.take_rest() == b'RAW'
    assert parser.take_rest() == b''
    assert parser.next_event() is None
    assert not parser.at_boundary
    with pytest.raises(StreamError):
        parser.feed(b'more')
    assert parser.bytes_parsed == len(GET) + 3


def test_connect_is_a_tunnel() -> None:
    parser = requests(
        b'CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nRA'
    )
    head = parser.next_event()
    assert (head.framing, head.content_length, head.upgrade) == (Framing.NONE, None, False)
    parser.feed(b'W\n')
    parser.feed_eof()
    assert parser.next_event() is None
    assert parser.take_rest() == b'RAW\n'


def test_bytes_after_the_last_message_are_discarded() -> None:
    for data in (
        GET.replace(b'1.1', b'1.0'),
        GET[:-2] + b'Connection: close\r\n\r\n',
        POST[:-2] + b'Connection: close\r\n\r\nhello',
    ):
        parser = requests(data + b'\x00')
        exhaust(parser)
        parser.feed(b'\x00')
        assert parser.next_event() is None
        assert parser.buffered == 0
        assert not parser.at_boundary
        assert parser.bytes_parsed == len(data)
        assert parser.take_rest() == b''


def test_bytes_after_an_upgrade_are_kept_despite_close() -> None:
    parser = requests(b'GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: x\r\n\r\nRAW')
    assert parser.next_event().upgrade
    assert parser.take_rest() == b'RAW'


# -- content ----------------------------------------------------------------------------------------------------------


def test_take_content_returns_the_whole_content() -> None:
    """It works if all content is buffered; otherwise events are needed."""
    parser = requests(POST + b'hel')
    assert parser.take_content() is None
    parser.next_event()
    assert parser.take_content() is None
    parser.feed(b'lo' + GET)
    assert parser.take_content() == b'hello'
    assert parser.take_content() is None
    assert parser.next_event().url == '/x'
    assert parser.at_boundary
    assert parser.bytes_parsed == len(POST) + 5 + len(GET)


def test_take_content_returns_the_rest_of_the_content() -> None:
    parser = requests(POST + b'hel')
    assert [parser.next_event() is not None, parser.next_event(), parser.take_content()] == [True, b'hel', None]
    parser.feed(b'lo')
    assert parser.take_content() == b'lo'
    assert parser.at_boundary


def test_take_content_needs_a_known_length() -> None:
    for parser in (requests(CHUNKED + b'0\r\n\r\n'), responses(b'HTTP/1.1 200 OK\r\n\r\nhello')):
        parser.next_event()
        assert parser.take_content() is None


def test_bytes_after_the_content_of_the_last_message_are_discarded() -> None:
    parser = requests(POST[:-2] + b'Connection: close\r\n\r\nhello' + GET)
    parser.next_event()
    assert parser.take_content() == b'hello'
    assert parser.next_event() is None
    assert parser.buffered == 0


def test_content_is_not_copied() -> None:
    parser = requests(POST)
    parser.next_event()
    data = b'x' * 4
    parser.feed(data)
    assert parser.next_event() is data
    parser.feed(b'yz')
    assert parser.next_event() == b'y'
    end = parser.next_event()
    assert (end.raw_trailers, repr(end)) == ([], '<EndOfMessage with 0 trailers>')
    assert parser.buffered == 1


def test_content_of_joined_pieces() -> None:
    parser = requests(POST + b'he')
    parser.feed(b'l')
    parser.next_event()
    parser.feed(b'loGET')
    assert parser.next_event() == b'hello'
    assert isinstance(parser.next_event(), EndOfMessage)
    assert parser.buffered == 3


def test_content_that_ends_with_cr() -> None:
    parser = requests(POST + b'hell\r\n')
    assert [type(parser.next_event()).__name__ for _ in range(3)] == ['RequestHead', 'bytes', 'EndOfMessage']
    error = error_of(parser)
    assert (error.code, error.offset) == ('HPE_CR_EXPECTED', len(POST) + 5)


def test_content_of_zero_bytes() -> None:
    head = requests(POST.replace(b'5', b'0')).next_event()
    assert (head.framing, head.content_length) == (Framing.NONE, 0)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_the_size_of_a_head_is_limited() -> None:
    size = len(GET)
    assert requests(GET, max_header_size=size).next_event() is not None
    error = error_of(requests(GET, max_header_size=size - 1))
    assert (error.code, error.status) == ('HPE_HEADER_OVERFLOW', 431)
    assert f'max_header_size ({size - 1} bytes)' in str(error)
    assert error_of(requests(GET[:size], max_header_size=17)).status == 431
    error = error_of(requests(GET, max_header_size=16))
    assert (error.code, error.status) == ('HPE_URI_OVERFLOW', 414)
    assert error_of(requests(b'G' * 101, max_header_size=100)).status == 414
    assert error_of(responses(b'H' * 101, max_header_size=100)).status == 431
    assert requests(b'G' * 100, max_header_size=100).next_event() is None
    assert error_of(requests(GET[:-4] + b'a' * 99, max_header_size=100)).status == 431


def test_the_number_of_headers_is_limited() -> None:
    data = GET[:-2] + b'A: b\r\n\r\n'
    assert requests(data, max_headers_count=2).next_event() is not None
    assert requests(data, max_headers_count=0).next_event() is not None
    error = error_of(requests(data, max_headers_count=1))
    assert (error.code, error.status) == ('HPE_HEADER_OVERFLOW', 431)
    assert 'max_headers_count (1)' in str(error)
    assert error_of(responses(b'HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\n\r\n', max_headers_count=1)).status == 431


def test_limits_are_read_for_each_message() -> None:
    parser = requests(GET + GET)
    parser.next_event()
    parser.limits = Limits(max_header_size=20)
    assert error_of(parser).status == 431


def test_host_is_optional_without_require_host() -> None:
    assert requests(b'GET / HTTP/1.1\r\n\r\n', require_host=False).next_event().host is None


def test_the_size_of_content_is_limited() -> None:
    assert requests(POST, max_body_size=5).next_event() is not None
    error = error_of(requests(POST, max_body_size=4))
    assert isinstance(error, BodyTooLarge)
    assert (error.status, error.offset) == (413, len(POST))
    assert 'max_body_size (4 bytes)' in str(error)
    parser = responses(b'HTTP/1.1 200 OK\r\n\r\nabcdef', max_body_size=4)
    parser.next_event()
    assert parser.next_event() == b'abcd'
    assert isinstance(error_of(parser), BodyTooLarge)
    parser = responses(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n', 'HEAD', max_body_size=4)
    assert parser.next_event().content_length == 9


def test_the_number_of_empty_lines_is_limited() -> None:
    assert requests(b'\r\n\r\n' + GET, max_empty_lines=2).next_event() is not None
    error = error_of(requests(b'\r\n\r\n\r\n' + GET, max_empty_lines=2))
    assert (error.status, error.offset) == (400, 4)
    parser = requests((b'\r\n' + GET) * 3, max_empty_lines=1)
    assert [parser.next_event().url for _ in range(3)] == ['/x'] * 3


def test_the_number_of_informational_responses_is_limited() -> None:
    interim = b'HTTP/1.1 103 Early Hints\r\n\r\n'
    final = b'HTTP/1.1 204 No Content\r\n\r\n'
    parser = responses((interim * 2 + final) * 2, max_informational=2)
    assert [parser.next_event().status_code for _ in range(6)] == [103, 103, 204, 103, 103, 204]
    assert 'max_informational (2)' in str(error_of(responses(interim * 3, max_informational=2)))


def test_limits_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Limits().max_header_size = 1


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'data',
    [
        b'BAD\r\n\r\n',
        b'GET / HTTP/1.1\n',
        b'GET / HTTP/1.1\r\n\r\n',
        GET[:-2] + b'X\r\n\r\n',
        b'G' * 20000,
        POST[:-2] + b'Host: b\r\n\r\n',
        CHUNKED + b'X\r\n',
        CHUNKED + b'5\n',
        CHUNKED + b'0\r\nX\r\n\r\n',
        CHUNKED + b'0\r\nX\n',
        b'\r\n' * 99,
    ],
)
def test_an_error_needs_no_garbage_collector(data: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        parser = requests(data)
        for _ in range(2):
            with contextlib.suppress(ParseError):
                exhaust(parser)
                pytest.fail('no error')
        del parser
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_an_idle_parser_is_small() -> None:
    parser = requests(GET)
    exhaust(parser)
    assert sys.getsizeof(parser) < 256
    own = [each for each in gc.get_referents(parser) if not isinstance(each, type | Limits)]
    assert all(sys.getsizeof(each) < 100 for each in own), own


# -- whole responses --------------------------------------------------------------------------------------------------


def whole(parser: Parser) -> tuple[ResponseHead, bytes] | None:
    """Return the head and the content of a message that ends with the fed bytes, from events."""
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
def test_take_response_agrees_with_the_events(method: str, limits: Limits, seed: int) -> None:
    chance = random.Random(seed)
    taken = 0
    for data in CASES + GOOD * 3 + [_changed(chance.choice(GOOD), chance) for _ in range(300)]:
        # both use the caches of lines and sections
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


def test_take_response_needs_a_response_in_one_piece() -> None:
    parser = ResponseParser(Limits())
    assert parser.take_response() is None
    parser.feed(GOOD[0][:10])
    assert parser.take_response() is None
    parser.feed(GOOD[0][10:])
    assert parser.take_response() is None, 'it came in pieces'
    assert parser.next_event() is not None
