"""The chunked transfer coding: chunks, extensions, trailers and their errors."""

from __future__ import annotations

import pytest

from geventnode.errors import BodyTooLarge, ParseError
from geventnode.protocol import ChunkedBody, EndOfMessage, Limits
from tests.corpus.drive import bytewise
from tests.corpus.parsers import CHUNKED, GET, error_of, requests


def content(data: bytes, **limits):
    """Return a parser that has read the head and was fed ``data``."""
    parser = requests(CHUNKED + data, **limits)
    parser.next_event()
    return parser


def test_all_buffered_chunks_are_returned_at_once() -> None:
    parser = content(b'1\r\na\r\n2\r\nbc\r\n3\r\nde')
    assert parser.next_event() == b'abcde'
    assert parser.next_event() is None
    parser.feed(b'f\r\n0\r\n\r\n' + GET)
    assert parser.next_event() == b'f'
    assert parser.next_event().raw_trailers == []
    assert parser.next_event().url == '/x'


def test_a_piece_of_a_chunk_is_not_copied() -> None:
    parser = content(b'')
    parser.feed(b'ff\r\n')
    assert parser.next_event() is None
    data = b'x' * 100
    parser.feed(data)
    assert parser.next_event() is data


def test_trailers() -> None:
    end = content(b'0\r\nA: 1\r\na:\t2 \r\n\r\n').next_event()
    assert end.raw_trailers == [('A', '1'), ('a', '2')]
    end.raw_trailers.clear()
    assert len(end.raw_trailers) == 2
    assert repr(end) == '<EndOfMessage with 2 trailers>'


@pytest.mark.parametrize(
    'line',
    [
        b'5',
        b'05',
        b'0000000000000005',
        b'5;a',
        b'5;a=b',
        b'5 ; a = b',
        b'5\t;\ta',
        b'5;a="b;\\" c\\\\"',
        b'5;a="";b',
        b"5;!#$%&'*+-.^_`|~=x",
    ],
)
def test_valid_chunk_line(line: bytes) -> None:
    parser = content(line + b'\r\nhello\r\n0\r\n\r\n')
    assert parser.next_event() == b'hello'
    assert isinstance(parser.next_event(), EndOfMessage)


@pytest.mark.parametrize(
    ('line', 'code'),
    [
        (b'', 'HPE_INVALID_CHUNK_SIZE'),
        (b' 5', 'HPE_INVALID_CHUNK_SIZE'),
        (b'+5', 'HPE_INVALID_CHUNK_SIZE'),
        (b'-5', 'HPE_INVALID_CHUNK_SIZE'),
        (b'0x5', 'HPE_INVALID_CHUNK_SIZE'),
        (b'5_0', 'HPE_INVALID_CHUNK_SIZE'),
        (b'G', 'HPE_INVALID_CHUNK_SIZE'),
        (b'\xb2', 'HPE_INVALID_CHUNK_SIZE'),
        (b'5 ', 'HPE_INVALID_CHUNK_SIZE'),
        (b'5 x', 'HPE_INVALID_CHUNK_SIZE'),
        (b'5\x00', 'HPE_INVALID_CHUNK_SIZE'),
        (b' ;a', 'HPE_INVALID_CHUNK_SIZE'),
        (b'0' * 17, 'HPE_INVALID_CHUNK_SIZE'),
        (b'1' * 40000, 'HPE_INVALID_CHUNK_SIZE'),
        (b'5;', 'HPE_STRICT'),
        (b'5;=b', 'HPE_STRICT'),
        (b'5;a=', 'HPE_STRICT'),
        (b'5;a b', 'HPE_STRICT'),
        (b'5;a="b', 'HPE_STRICT'),
        (b'5;a="b"c', 'HPE_STRICT'),
        (b'5;a="\\', 'HPE_STRICT'),
        (b'5;a\x7f', 'HPE_STRICT'),
        (b'5 ;a b', 'HPE_STRICT'),
        (b'5;a=b;', 'HPE_STRICT'),
        (b'5;a\nb', 'HPE_CR_EXPECTED'),
        (b'5\n', 'HPE_CR_EXPECTED'),
        (b'5;a\rb', 'HPE_LF_EXPECTED'),
        (b'5\r', 'HPE_LF_EXPECTED'),
    ],
)
def test_invalid_chunk_line(line: bytes, code: str) -> None:
    error = error_of(content(line + b'\r\nhello\r\n0\r\n\r\n'))
    assert (error.code, error.status, error.offset) == (code, 400, len(CHUNKED))


@pytest.mark.parametrize('data', [b'X', b'XX', b'\n', b'\rX', b'\r\r\n', b'0\r\n'])
def test_invalid_bytes_after_chunk_data(data: bytes) -> None:
    parser = content(b'5\r\nhello' + data)
    assert parser.next_event() == b'hello'
    error = error_of(parser)
    assert (error.code, error.offset) == ('HPE_STRICT', len(CHUNKED) + 8)


@pytest.mark.parametrize('tail', [b'', b'\r', b'\r\n', b'\r\n1', b'\r\n0\r\n', b'\r\n0\r\n\r', b'\r\n0\r\nA: b\r\n'])
def test_an_incomplete_end(tail: bytes) -> None:
    parser = content(b'5\r\nhello' + tail)
    assert parser.next_event() == b'hello'
    assert parser.next_event() is None


def test_an_error_is_raised_after_the_data_before_it() -> None:
    for bad in (b'X\r\n', b'1' * 17, b'0\r\n: x\r\n\r\n', b'5\n'):
        parser = content(b'5\r\nhello\r\n' + bad)
        assert parser.next_event() == b'hello'
        assert error_of(parser).offset >= len(CHUNKED) + 10


# -- limits -----------------------------------------------------------------------------------------------------------


def test_the_sum_of_extensions_is_limited() -> None:
    data = b'1;aa\r\nx\r\n' * 4
    assert content(data + b'0\r\n\r\n', max_chunk_extensions=12).next_event() == b'xxxx'
    parser = content(data, max_chunk_extensions=11)
    assert parser.next_event() == b'xxx'
    error = error_of(parser)
    assert (error.code, error.status) == ('HPE_CHUNK_EXTENSIONS_OVERFLOW', 413)
    assert 'max_chunk_extensions (11 bytes)' in str(error)


def test_an_endless_extension_is_rejected_early() -> None:
    parser = content(b'1;' + b'a' * 98, max_chunk_extensions=100)
    assert parser.next_event() is None
    parser.feed(b'a' * 17)
    assert parser.next_event() is None
    parser.feed(b'a')
    assert error_of(parser).code == 'HPE_CHUNK_EXTENSIONS_OVERFLOW'


def test_the_size_of_content_is_limited() -> None:
    parser = content(b'3\r\nabc\r\n3\r\ndef\r\n', max_body_size=5)
    assert parser.next_event() == b'abc'
    assert isinstance(error_of(parser), BodyTooLarge)
    assert content(b'3\r\nabc\r\n2\r\nde\r\n', max_body_size=5).next_event() == b'abcde'


@pytest.mark.parametrize(
    ('trailers', 'limits', 'status'),
    [
        (b'A: b\r\n' * 3, {'max_headers_count': 2}, 431),
        (b'A: ' + b'b' * 200, {'max_header_size': 100}, 431),
        (b'A: ' + b'b' * 200 + b'\r\n\r\n', {'max_header_size': 100}, 431),
        (b'A : b\r\n\r\n', {}, 400),
        (b'GET / HTTP/1.1\r\n\r\n', {}, 400),
        (b'A: b\nB: c\r\n\r\n', {}, 400),
        (b'A: b\rB: c', {}, 400),
        (b'\nA', {}, 400),
        (b'Content-Length: 5\r\n\r\n', {}, 400),
        (b'transfer-encoding: chunked\r\n\r\n', {}, 400),
        (b'A: b\r\nHost: a\r\n\r\n', {}, 400),
    ],
)
def test_invalid_trailers(trailers: bytes, limits, status: int) -> None:
    if trailers.startswith(b'A: b\r\n' * 3):
        trailers += b'\r\n'
    limits = {'max_header_size': 100, **limits}
    error = error_of(content(b'0\r\n' + trailers, **limits))
    assert (error.status, error.offset) == (status, len(CHUNKED) + 3)


def test_trailers_have_the_limit_of_headers() -> None:
    assert len(content(b'0\r\n' + b'A: b\r\n' * 3 + b'\r\n', max_headers_count=3).next_event().raw_trailers) == 3
    assert len(content(b'0\r\n' + b'A: b\r\n' * 3 + b'\r\n', max_headers_count=0).next_event().raw_trailers) == 3


# -- without a parser -------------------------------------------------------------------------------------------------


def test_bytes_and_bytearray_are_decoded() -> None:
    for kind in (bytes, bytearray):
        body = ChunkedBody()
        buffer = kind(b'--3\r\nabc\r\n0\r\nA: b\r\n\r\n--')
        assert body.decode(buffer, 2, Limits()) == (b'abc', 13)
        assert body.trailers is None
        assert body.decode(buffer, 13, Limits()) == (b'', 21)
        assert body.trailers == [('A', 'b')]


def test_decoding_byte_by_byte() -> None:
    body = ChunkedBody()
    buffer = bytearray()
    pos = 0
    out = []
    for byte in bytewise(b'1;a="b"\r\nx\r\n10\r\n0123456789abcdef\r\n000\r\nA: b\r\nB: c\r\n\r\n'):
        assert body.trailers is None
        buffer += byte
        data, pos = body.decode(buffer, pos, Limits())
        out.append(data)
    assert b''.join(out) == b'x0123456789abcdef'
    assert body.trailers == [('A', 'b'), ('B', 'c')]
    assert pos == len(buffer)


def test_an_error_has_its_position_in_the_buffer() -> None:
    with pytest.raises(ParseError) as caught:
        ChunkedBody().decode(b'--X\r\n', 2, Limits())
    assert caught.value.offset == 2
