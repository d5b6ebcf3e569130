"""Heads of requests and responses, and their errors."""

from __future__ import annotations

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import EndOfMessage, Framing, RequestHead
from tests.corpus.parsers import GET, error_of, requests, responses

# -- heads ------------------------------------------------------------------------------------------------------------


def test_request_head() -> None:
    parser = requests(GET)
    head = parser.next_event()
    assert isinstance(head, RequestHead)
    assert (head.method, head.url, head.http_version, head.host) == ('GET', '/x', '1.1', 'a')
    assert (head.framing, head.content_length) == (Framing.NONE, None)
    assert (head.keep_alive, head.upgrade, head.expect) == (True, False, None)
    assert head.raw_headers == [('Host', 'a')]
    assert head.headers == {'host': 'a'}
    assert repr(head) == '<RequestHead GET /x HTTP/1.1>'
    assert parser.next_event() is None
    assert parser.at_boundary
    assert parser.bytes_parsed == len(GET)


def test_headers_and_lists_are_copies() -> None:
    """Heads of equal bytes share parsed objects without visible effects."""
    data = b'GET /copy HTTP/1.1\r\nHost: copy\r\nSet-Cookie: a\r\n\r\n'
    parser = requests(data + data)
    first, second = parser.next_event(), parser.next_event()
    first.headers['set-cookie'].append('b')
    first.headers['host'] = 'changed'
    first.raw_headers.clear()
    for head in (first, second, requests(data).next_event()):
        assert head.headers == {'host': 'copy', 'set-cookie': ['a']}
        assert head.raw_headers == [('Host', 'copy'), ('Set-Cookie', 'a')]


def test_a_repeated_head_is_shared() -> None:
    parser = requests()
    for _ in range(3):
        parser.feed(GET)
        assert parser.next_event().url == '/x'
        assert parser.next_event() is None
    assert parser.bytes_parsed == 3 * len(GET)


@pytest.mark.parametrize(
    ('head', 'expected'),
    [
        (b'GET / HTTP/1.1\r\nHost:\r\n\r\n', ''),
        (b'GET / HTTP/1.0\r\n\r\n', None),
        (b'GET http://b:1/x HTTP/1.1\r\nHost: a\r\n\r\n', 'b:1'),
        (b'CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n', 'a'),
        (b'OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n', '[::1]:80'),
    ],
)
def test_host_of_a_request(head: bytes, expected: str | None) -> None:
    assert requests(head).next_event().host == expected


@pytest.mark.parametrize(
    ('version', 'value', 'expected'),
    [
        (b'1.1', b'100-continue', '100-continue'),
        (b'1.1', b'100-Continue', '100-continue'),
        (b'1.1', b'x', 'x'),
        (b'1.0', b'100-continue', None),
        (b'1.1', b'100-continue\r\nExpect: x', '100-continue, x'),
        # a list (RFC 9110, sections 5.6.1.2 and 10.1.1)
        (b'1.1', b', 100-Continue,', '100-continue'),
        (b'1.1', b'100-continue\r\nExpect: 100-continue', '100-continue'),
        (b'1.1', b'100-continue, x,', '100-continue, x,'),
        (b'1.1', b'100-continue;q=1', '100-continue;q=1'),
        (b'1.1', b',', None),
        (b'1.1', b'', None),
    ],
)
def test_expect_of_a_request(version: bytes, value: bytes, expected: str | None) -> None:
    head = requests(b'PUT / HTTP/' + version + b'\r\nHost: a\r\nExpect: ' + value + b'\r\n\r\n').next_event()
    assert head.expect == expected


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        (b'Connection: upgrade\r\nUpgrade: x', True),
        (b'Connection: a, Upgrade\r\nUpgrade: x', True),
        (b'Connection: ' + b'a, ' * 40 + b'upgrade\r\nUpgrade: x', True),
        (b'Upgrade: x', False),
        (b'Connection: upgrade', False),
        (b'Connection: upgrade\r\nUpgrade:', False),
    ],
)
def test_upgrade_of_a_request(fields: bytes, expected: bool) -> None:
    assert requests(b'GET / HTTP/1.1\r\nHost: a\r\n' + fields + b'\r\n\r\n').next_event().upgrade is expected
    assert not requests(b'GET / HTTP/1.0\r\nHost: a\r\n' + fields + b'\r\n\r\n').next_event().upgrade


def test_a_later_minor_version() -> None:
    assert requests(GET.replace(b'1.1', b'1.7')).next_event().http_version == '1.7'


def test_blanks_and_latin_1() -> None:
    data = b'GET / HTTP/1.1\r\nHost: a\r\nA: \t b\xe9 c\t \r\nB:\r\nC: \t \r\nD:\xa0x\x85\r\n\r\n'
    head = requests(data).next_event()
    assert head.raw_headers == [('Host', 'a'), ('A', 'b\xe9 c'), ('B', ''), ('C', ''), ('D', '\xa0x\x85')]


@pytest.mark.parametrize(
    ('data', 'code', 'status'),
    [
        (b'GET /\r\nHost: a\r\n\r\n', 'HPE_INVALID_VERSION', 400),
        (b'GET / HTTP/2.0\r\n\r\n', 'HPE_INVALID_VERSION', 505),
        (b'GET / HTTP/0.9\r\n\r\n', 'HPE_INVALID_VERSION', 400),
        (b'GET / HTTP/1.10\r\n\r\n', 'HPE_INVALID_VERSION', 400),
        (b'GET / http/1.1\r\n\r\n', 'HPE_INVALID_VERSION', 400),
        (b'G(T / HTTP/1.1\r\n\r\n', 'HPE_INVALID_METHOD', 400),
        (b'@\r\n\r\n', 'HPE_INVALID_METHOD', 400),
        (b'{"a": 1}\r\n\r\n', 'HPE_INVALID_METHOD', 400),
        (b' GET / HTTP/1.1\r\n\r\n', 'HPE_INVALID_METHOD', 400),
        (b'GET\t/ HTTP/1.1\r\n\r\n', 'HPE_INVALID_METHOD', 400),
        (b'/ HTTP/1.1\r\n\r\n', 'HPE_INVALID_METHOD', 400),
        (b'GET /\xe9 HTTP/1.1\r\n\r\n', 'HPE_INVALID_URL', 400),
        (b'GET /\x7f HTTP/1.1\r\n\r\n', 'HPE_INVALID_URL', 400),
        (b'GET  / HTTP/1.1\r\n\r\n', 'HPE_INVALID_CONSTANT', 400),
        (b'GET  HTTP/1.1\r\n\r\n', 'HPE_INVALID_URL', 400),
        (b'GET HTTP/1.1\r\n\r\n', 'HPE_INVALID_CONSTANT', 400),
        (b'GET * HTTP/1.1\r\n\r\n', 'HPE_INVALID_URL', 400),
        (b'GET / HTTP/1.1\nHost: a\r\n\r\n', 'HPE_CR_EXPECTED', 400),
        (b'GET / HTTP/1.1\rHost: a\r\n\r\n', 'HPE_LF_EXPECTED', 400),
        (b'\rGET / HTTP/1.1\r\n\r\n', 'HPE_LF_EXPECTED', 400),
        (b'\nGET / HTTP/1.1\r\n\r\n', 'HPE_CR_EXPECTED', 400),
        (b'GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n', 'HPE_CR_EXPECTED', 400),
        (b'GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n', 'HPE_LF_EXPECTED', 400),
        (b'GET / HTTP/1.1\r\n Host: a\r\n\r\n', 'HPE_UNEXPECTED_SPACE', 400),
        (b'GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n', 'HPE_UNEXPECTED_SPACE', 400),
        (b'GET / HTTP/1.1\r\nHost : a\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN', 400),
        (b'GET / HTTP/1.1\r\nHost\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN', 400),
        (b'GET / HTTP/1.1\r\n: a\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN', 400),
        (b'GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\nY: z\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN', 400),
        (b'GET / HTTP/1.1\r\nHost: a\r\nX: y\x7f\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN', 400),
        (b'GET / HTTP/1.1\r\n\r\n', 'HPE_INVALID_HOST', 400),
        (b'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n', 'HPE_INVALID_HOST', 400),
        (b'GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n', 'HPE_INVALID_HOST', 400),
        (b'GET / HTTP/1.1\r\nHost: a b\r\n\r\n', 'HPE_INVALID_HOST', 400),
        (b'GET /#a HTTP/1.1\r\nHost: a\r\n\r\n', 'HPE_INVALID_URL', 400),
        (
            b'PUT / HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-type: a/b\r\n\r\n',
            'HPE_INVALID_HEADER_TOKEN',
            400,
        ),
        (
            b'PUT / HTTP/1.0\r\nContent-Range: bytes 0-1/2\r\nX: y\r\nContent-Range: bytes 1-1/2\r\n\r\n',
            'HPE_INVALID_HEADER_TOKEN',
            400,
        ),
        (
            b'GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\nauthorization: Basic YTpj\r\n\r\n',
            'HPE_INVALID_HEADER_TOKEN',
            400,
        ),
        (
            b'GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: a\r\nProxy-Authorization: b\r\n\r\n',
            'HPE_INVALID_HEADER_TOKEN',
            400,
        ),
    ],
)
def test_invalid_request_head(data: bytes, code: str, status: int) -> None:
    error = error_of(requests(data))
    assert (error.code, error.status, error.offset) == (code, status, 0)


@pytest.mark.parametrize(
    ('data', 'code'),
    [
        (b'HTP/1.1 200 OK\r\n\r\n', 'HPE_INVALID_CONSTANT'),
        (b'HTTP/2.0 200 OK\r\n\r\n', 'HPE_INVALID_VERSION'),
        (b'HTTP/1.1\t200 OK\r\n\r\n', 'HPE_INVALID_VERSION'),
        (b'HTTP/1.1\r\n\r\n', 'HPE_INVALID_STATUS'),
        (b'HTTP/1.1 20 OK\r\n\r\n', 'HPE_INVALID_STATUS'),
        (b'HTTP/1.1 2000 OK\r\n\r\n', 'HPE_INVALID_STATUS'),
        (b'HTTP/1.1 099 x\r\n\r\n', 'HPE_INVALID_STATUS'),
        (b'HTTP/1.1 2\xb20 x\r\n\r\n', 'HPE_INVALID_STATUS'),
        (b'HTTP/1.1 200 O\x00\r\n\r\n', 'HPE_INVALID_CONSTANT'),
        (b'HTTP/1.1 200 OK\r\nX\r\n\r\n', 'HPE_INVALID_HEADER_TOKEN'),
        (b'HTTP/1.1 101 Switching Protocols\r\n\r\n', 'HPE_INVALID_STATUS'),
    ],
)
def test_invalid_response_head(data: bytes, code: str) -> None:
    assert error_of(responses(data)).code == code


def test_an_error_has_offset_and_data() -> None:
    error = error_of(requests(GET + b'BAD\r\n\r\n'))
    assert error.offset == len(GET)
    assert error.data == b'BAD'
    assert 'BAD' in str(error)


# -- responses --------------------------------------------------------------------------------------------------------


def test_response_head() -> None:
    parser = responses(b'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nSet-Cookie: a\r\n\r\nok')
    head = parser.next_event()
    assert (head.status_code, head.status_message, head.http_version) == (404, 'Not Found', '1.1')
    assert (head.framing, head.content_length, head.keep_alive, head.upgrade) == (Framing.LENGTH, 2, True, False)
    assert head.headers == {'content-length': '2', 'set-cookie': ['a']}
    assert head.raw_headers == [('Content-Length', '2'), ('Set-Cookie', 'a')]
    assert repr(head) == '<ResponseHead HTTP/1.1 404 Not Found>'
    assert parser.next_event() == b'ok'
    assert isinstance(parser.next_event(), EndOfMessage)
    assert parser.at_boundary


def test_the_method_applies_to_one_response() -> None:
    parser = responses(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n' * 2, 'HEAD')
    assert parser.next_event().framing is Framing.NONE
    assert parser.next_event().framing is Framing.LENGTH


def test_an_informational_response_keeps_the_method() -> None:
    parser = responses(
        b'HTTP/1.1 100 Continue\r\nContent-Length: 9\r\nConnection: close\r\n\r\n'
        b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n',
        'HEAD',
    )
    assert parser.next_event().status_code == 100
    assert parser.next_event().framing is Framing.NONE
    assert parser.at_boundary


@pytest.mark.parametrize(
    ('data', 'method', 'upgrade'),
    [
        (b'HTTP/1.1 101 Switching Protocols\r\nContent-Length: 1\r\n\r\nRAW', 'GET', True),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nRAW', 'CONNECT', False),
    ],
)
def test_a_response_can_begin_a_tunnel(data: bytes, method: str, upgrade: bool) -> None:
    parser = responses(data, method, upgrade)
    head = parser.next_event()
    assert head.framing is Framing.NONE
    assert head.upgrade is upgrade
    assert parser.next_event() is None
    assert parser.take_rest() == b'RAW'


#: Fields with contradictory or unknown framing.
UNCERTAIN = [
    b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n',
    b'Content-Length: 5\r\nContent-Length: 6\r\n',
    b'Content-Length: five\r\n',
    b'Transfer-Encoding: gzip, chunked\r\n',
    b'Transfer-Encoding: gzip\r\n',
]


@pytest.mark.parametrize('fields', UNCERTAIN)
@pytest.mark.parametrize(
    ('status', 'method'),
    [(b'200', 'CONNECT'), (b'200', 'HEAD'), (b'404', 'HEAD'), (b'204', 'GET'), (b'304', 'GET'), (b'103', 'GET')],
)
def test_framing_of_responses_without_content_is_ignored(status: bytes, method: str, fields: bytes) -> None:
    """RFC 9112, section 6.3, items 1 and 2; RFC 9110, section 9.3.6: such a response has no body."""
    said = b'HTTP/1.1 %b x\r\n%b\r\n' % (status, fields)
    for _ in range(3):
        parser = responses(said, method)
        head = parser.next_event()
        assert (head.framing, head.content_length) == (Framing.NONE, None)
        assert len(head.raw_headers) == fields.count(b'\r\n')
        # the same fields in a response that can have a body
        with pytest.raises(ParseError):
            responses(said.replace(b'1.1 %b' % status, b'1.1 200')).next_event()


@pytest.mark.parametrize(
    ('fields', 'found'),
    [
        (b'A: b\r\n c\r\n', [('A', 'b c')]),
        (b'A: b\r\n \t c\r\n\td\r\nE: f\r\n', [('A', 'b c d'), ('E', 'f')]),
        (b'A: b \r\n c\r\n', [('A', 'b  c')]),
        (b'A:\r\n b\r\n', [('A', 'b')]),
        (b'A: b\r\n \r\n', [('A', 'b')]),
        (b'Content-Length:\r\n 0\r\n', [('Content-Length', '0')]),
    ],
)
def test_folded_lines_of_a_response(fields: bytes, found: list[tuple[str, str]]) -> None:
    """RFC 9112, section 5.2: a user agent replaces each fold by blanks."""
    said = b'HTTP/1.1 200 OK\r\n' + fields + b'\r\n'
    for _ in range(3):
        assert responses(said).next_event().raw_headers == found
    trailers = responses(
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-'
        + fields.replace(b'\r\nE:', b'\r\nX-E:')
        + b'\r\n'
    )
    trailers.next_event()
    assert [(f'X-{name}', value) for name, value in found] == trailers.next_event().raw_trailers


@pytest.mark.parametrize(
    'fields',
    [
        b' A: b\r\n',
        b'\tc\r\nA: b\r\n',
        b'A\r\n : b\r\n',
        b'A: b\r\n \0\r\n',
        b'A: b\n c\r\n',
        b'Content-Length: 1\r\n 2\r\n',
    ],
)
def test_invalid_folds_are_rejected(fields: bytes) -> None:
    """A fold before the first field (RFC 9112, section 2.2), within a name, and with invalid characters."""
    with pytest.raises(ParseError):
        responses(b'HTTP/1.1 200 OK\r\n' + fields + b'\r\n').next_event()


def test_an_error_response_to_connect_has_content() -> None:
    parser = responses(b'HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno', 'CONNECT')
    assert parser.next_event().framing is Framing.LENGTH
    assert parser.next_event() == b'no'


@pytest.mark.parametrize(
    ('head', 'framing', 'keep_alive'),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n', Framing.UNTIL_CLOSE, False),
        (b'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n', Framing.UNTIL_CLOSE, False),
        (b'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n', Framing.LENGTH, True),
        (b'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n', Framing.CHUNKED, False),
        (b'HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n', Framing.NONE, False),
    ],
)
def test_whether_a_connection_can_be_reused(head: bytes, framing: Framing, keep_alive: bool) -> None:
    head = responses(head).next_event()
    assert (head.framing, head.keep_alive) == (framing, keep_alive)


def test_content_until_the_end_of_the_connection() -> None:
    parser = responses(b'HTTP/1.1 200 OK\r\n\r\nab')
    parser.next_event()
    assert parser.next_event() == b'ab'
    assert parser.next_event() is None
    parser.feed(b'cd')
    assert parser.next_event() == b'cd'
    parser.feed_eof()
    assert isinstance(parser.next_event(), EndOfMessage)
    assert parser.next_event() is None


@pytest.mark.parametrize('name', ['Age', 'Authorization', 'Cookie', 'Content-Length', 'X-Request-ID', 'X-Own', 'Host'])
@pytest.mark.parametrize('place', [0, 1])
def test_a_name_without_a_colon_is_refused(name: str, place: int) -> None:
    lines = ['Host: a']
    lines.insert(place, name)
    section = '\r\n'.join((*lines, '', '')).encode()
    for parser in (requests(b'GET / HTTP/1.1\r\n' + section), responses(b'HTTP/1.1 200 OK\r\n' + section)):
        error = error_of(parser)
        assert error.code == 'HPE_INVALID_HEADER_TOKEN'
        assert 'without a colon' in str(error)
