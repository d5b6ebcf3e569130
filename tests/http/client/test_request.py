"""The head and the framing of a request on the wire."""

from __future__ import annotations

import base64
import enum
import socket as stdlib
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import (
    BodyNotAllowed,
    ConnectError,
    ConnectionClosed,
    ContentLengthMismatch,
    GeventnodeError,
    HeadersSent,
    InvalidHeader,
    InvalidInput,
    NameNotResolved,
)
from tests.origins import HELLO, MakeOrigin, Peer, Recorder, read

# -- the head ---------------------------------------------------------------------------------------------------------


def test_plain_get_has_host_and_connection(recorder: Recorder) -> None:
    sent = recorder.sent()
    host = f'127.0.0.1:{recorder.origin.port}'
    assert sent == ('GET / HTTP/1.1', [('Host', host), ('Connection', 'keep-alive')], b'')


def test_get_accepts_another_method(recorder: Recorder) -> None:
    http.get(**recorder.options(method='POST', path='/x?y=z')).get_response()
    assert recorder.requests[0].line == 'POST /x?y=z HTTP/1.1'


def test_headers_keep_their_order(recorder: Recorder) -> None:
    sent = recorder.sent(headers={'X-B': 'b', 'x-a': ['1', '2'], 'Host': 'other', 'Z': 3})
    assert sent.headers == [
        ('Host', 'other'),
        ('X-B', 'b'),
        ('x-a', '1'),
        ('x-a', '2'),
        ('Z', '3'),
        ('Connection', 'keep-alive'),
    ]


class Text(str, enum.Enum):
    """Strings with another format and another upper-case form, as in some applications."""

    METHOD = 'put'
    PATH = '/path'
    NAME = 'X-Own'
    VALUE = 'text'

    def __format__(self, form: str) -> str:
        return 'formatted'

    def upper(self) -> str:
        return 'UPPER'


@pytest.mark.parametrize('values', [Text.VALUE, [Text.VALUE]])
def test_the_text_of_a_str_subclass_is_sent(recorder: Recorder, values: Any) -> None:
    sent = recorder.sent(method=Text.METHOD, path=Text.PATH, headers={Text.NAME: values})
    assert sent.line == 'PUT /path HTTP/1.1'
    assert sent.value('X-Own') == 'text'
    assert '/path' in repr(http.request(path=Text.PATH))


@pytest.mark.parametrize('way', ['one', 'mixed', 'list'])
@pytest.mark.parametrize(
    ('name', 'value'),
    [('X', 'a\r\nB: c'), ('X', 'a\0'), ('X', '\x7f'), ('X', '€'), ('X Y', 'a'), ('', 'a'), ('X:', 'a'), ('é', 'a')],
)
def test_a_bad_field_raises_before_anything_is_sent(recorder: Recorder, way: str, name: str, value: str) -> None:
    headers = {'A': 'b', name: [value] if way == 'list' else value}
    if way == 'mixed':
        headers['N'] = 5  # type: ignore[assignment]
    with pytest.raises(InvalidHeader, match=r'name must be a token|invalid character'):
        http.get(f'http://127.0.0.1:{recorder.origin.port}/', headers=headers)
    assert not recorder.requests


@pytest.mark.parametrize(
    ('headers', 'expected'),
    [
        ({'a': '1', 'A': '2'}, [('a', '1'), ('a', '2')]),
        ({'HOST': 'other', 'a': 'x\t b'}, [('HOST', 'other'), ('a', 'x\t b')]),
        ({'a': 'é'}, [('a', 'é')]),
        ({'a': ''}, [('a', '')]),
    ],
)
def test_unusual_headers_are_sent_as_given(
    recorder: Recorder, headers: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    http.get(f'http://127.0.0.1:{recorder.origin.port}/', headers=headers).get_response()
    names = {name for name, _ in expected}
    assert [field for field in recorder.requests[0].headers if field[0] in names] == expected


@pytest.mark.parametrize('length', ['x', '-1', '１', ['1', '2']])
def test_bad_content_length_raises(length: Any) -> None:
    with pytest.raises(InvalidHeader, match='Content-Length'):
        http.request('http://127.0.0.1/', headers={'A': 'b', 'Content-Length': length})


def test_headers_as_pairs_keep_duplicates(recorder: Recorder) -> None:
    sent = recorder.sent(headers=[('A', '1'), ('B', '2'), ('A', '3')], auth='u:p')
    assert [pair for pair in sent.headers if pair[0] in 'AB'] == [('A', '1'), ('A', '3'), ('B', '2')]
    assert sent.value('Authorization') == 'Basic dTpw'
    assert sent.value('Host')


def test_authorization_header_overrides_auth(recorder: Recorder) -> None:
    assert recorder.sent(auth='u:p', headers={'authorization': 'Bearer x'}).value('Authorization') == 'Bearer x'


def test_auth_is_utf_8(recorder: Recorder) -> None:
    assert recorder.sent(auth='ü:€').value('Authorization') == 'Basic w7w64oKs'


@pytest.mark.parametrize(
    ('user', 'wanted'),
    [
        ('key', 'key:'),
        ('key:', 'key:'),
        (':word', ':word'),
        ('a%20b', 'a b:'),
        ('a%3Ab', 'a:b:'),
        ('key:w:d', 'key:w:d'),
        ('key:a%40b', 'key:a@b'),
        ('', None),
        (':', None),
    ],
)
def test_user_in_a_url_is_sent(recorder: Recorder, user: str, wanted: str | None) -> None:
    """As in Node and curl, a colon ends the user (RFC 7617, section 2). Without user and password there is no field."""
    address = recorder.origin.url.replace('//', f'//{user}@')
    read(address)
    field = recorder.requests[-1].value('Authorization')
    assert field == (None if wanted is None else f'Basic {base64.b64encode(wanted.encode()).decode()}')


@pytest.mark.parametrize('options', [{}, {'family': 4}])
def test_user_in_a_url_can_have_another_encoding(recorder: Recorder, options: dict[str, Any]) -> None:
    """An escape is a byte, and not a character of UTF-8."""
    read(recorder.origin.url.replace('//', '//us%FFer:%E4@'), **options)
    field = recorder.requests[-1].value('Authorization')
    assert field == f'Basic {base64.b64encode(b"us" + bytes([0xFF]) + b"er:" + bytes([0xE4])).decode()}'


@pytest.mark.parametrize(
    ('auth', 'field'), [('key', 'Basic a2V5Og=='), ('key:', 'Basic a2V5Og=='), ('', None), (':', None)]
)
def test_user_without_password_is_sent(recorder: Recorder, auth: str, field: str | None) -> None:
    assert recorder.sent(auth=auth).value('Authorization') == field


def test_set_host_false_omits_host(recorder: Recorder) -> None:
    assert recorder.sent(set_host=False).value('Host') is None


@pytest.mark.parametrize('agent', [False, None])
def test_connection_field_depends_on_the_agent(recorder: Recorder, agent: Any) -> None:
    assert recorder.sent(agent=agent).value('Connection') == ('close' if agent is False else 'keep-alive')


def test_given_connection_field_is_the_only_one(recorder: Recorder) -> None:
    sent = recorder.sent(headers={'Keep-Alive': 'timeout=5'})
    assert sent.headers[1:] == [('Keep-Alive', 'timeout=5'), ('Connection', 'keep-alive')]


def test_headers_are_mutable_until_they_are_sent(recorder: Recorder) -> None:
    request = http.request(**recorder.options(headers={'A': '1', 'B': '2'}))
    request.set_header('a', 'one')
    request.remove_header('B')
    request.append_header('C', 'x')
    assert request.get_header('A') == 'one'
    assert not request.headers_sent
    request.end()
    with pytest.raises(HeadersSent):
        request.set_header('D', '4')
    request.get_response().read()
    assert request.headers_sent
    assert recorder.requests[0].headers[1:3] == [('a', 'one'), ('C', 'x')]


def test_nothing_is_sent_before_write(origin: MakeOrigin) -> None:
    server = origin()
    request = http.request(server.url)
    request.set_header('A', 'b')
    gevent.idle()
    assert request.socket is None
    with pytest.raises(RuntimeError, match=r'before end\(\)'):
        request.get_response()
    assert server.accepted == 0


def test_invalid_header_raises_at_once() -> None:
    request = http.request()
    with pytest.raises(InvalidHeader):
        request.set_header('A', 'x\r\nB: y')
    with pytest.raises(InvalidHeader):
        request.add_trailers({'A': 'x\ny'})


def test_flush_headers_sends_the_head(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        head = peer.until(b'\r\n\r\n')
        assert b'Transfer-Encoding: chunked\r\n' in head
        flushed.set()
        assert peer.until(b'0\r\n\r\n') == b'1\r\nx\r\n0\r\n\r\n'
        peer.send(HELLO)

    flushed = Event()
    request = http.request(origin(script).url, method='POST')
    request.flush_headers()
    flushed.wait()
    request.end('x')
    assert request.get_response().read() == b'hello'


def test_flush_headers_of_a_get_declares_no_body(recorder: Recorder) -> None:
    request = http.request(recorder.origin.url)
    request.flush_headers()
    assert request.get_response().read() == b'hello'
    with pytest.raises((ContentLengthMismatch, ConnectionClosed)):
        request.write('x')
    request.destroy()
    assert recorder.requests[0].value('Transfer-Encoding') is None


# -- framing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('method', ['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])
def test_get_without_a_body_has_no_framing(origin: MakeOrigin, method: str) -> None:
    server = origin(b'HTTP/1.1 204 No Content\r\n\r\n')
    request = http.request(server.url, method=method)
    request.end()
    assert request.get_response().status_code == 204
    assert request._rendered is not None
    assert b'Content-Length' not in request._rendered[0]
    assert b'Transfer-Encoding' not in request._rendered[0]


@pytest.mark.parametrize('method', ['POST', 'PUT', 'PATCH', 'PROPFIND'])
def test_post_without_a_body_has_length_zero(recorder: Recorder, method: str) -> None:
    assert recorder.sent(method=method).value('Content-Length') == '0'


@pytest.mark.parametrize('method', ['GET', 'DELETE', 'OPTIONS', 'POST'])
@pytest.mark.parametrize(
    'body',
    ['héllo', b'h\xc3\xa9llo', bytearray(b'h\xc3\xa9llo'), memoryview(b'h\xc3\xa9llo')],
    ids=['str', 'bytes', 'bytearray', 'memoryview'],
)
def test_whole_body_has_a_length(recorder: Recorder, method: str, body: Any) -> None:
    sent = recorder.sent(method=method, body=body)
    assert (sent.value('Content-Length'), sent.value('Transfer-Encoding'), sent.body) == ('6', None, 'héllo'.encode())


@pytest.mark.parametrize('method', ['GET', 'DELETE', 'POST'])
def test_written_body_is_chunked(recorder: Recorder, method: str) -> None:
    request = http.request(**recorder.options(method=method))
    request.write('a')
    request.write(b'')
    request.write('bc')
    request.end('d')
    assert request.get_response().read() == b'hello'
    sent = recorder.requests[0]
    assert (sent.value('Transfer-Encoding'), sent.value('Content-Length'), sent.body) == ('chunked', None, b'abcd')


def test_given_content_length_is_kept(recorder: Recorder) -> None:
    request = http.request(**recorder.options(method='POST', headers={'content-length': 3}))
    request.write('ab')
    with pytest.raises(ContentLengthMismatch):
        request.write('cd')
    request.end('c')
    request.get_response().read()
    assert recorder.requests[0].body == b'abc'


@pytest.mark.parametrize(('length', 'body'), [(3, 'ab'), (3, 'abcd')])
def test_wrong_content_length_raises_before_sending(origin: MakeOrigin, length: int, body: str) -> None:
    server = origin()
    request = http.request(server.url, method='POST', headers={'Content-Length': length})
    with pytest.raises(ContentLengthMismatch):
        request.end(body)
    assert server.accepted == 0


def test_short_body_fails_the_request(origin: MakeOrigin) -> None:
    request = http.request(origin().url, method='POST', headers={'Content-Length': 10})
    request.write('abc')
    request.end()
    with pytest.raises(ContentLengthMismatch, match='7 bytes short'):
        request.get_response()


def test_trailers_are_sent_after_a_chunked_body(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        assert peer.until(b'\r\n\r\n') == b'1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n'
        peer.send(HELLO)

    request = http.request(origin(script).url, method='POST', headers={'Trailer': 'X-Sum'})
    request.add_trailers({'X-Sum': '1'})
    request.end('x')
    assert request.get_response().read() == b'hello'


@pytest.mark.parametrize('method', ['TRACE', 'CONNECT'])
def test_bodiless_method_with_a_body_raises(method: str) -> None:
    with pytest.raises(BodyNotAllowed):
        http.request('http://127.0.0.1:1/', method=method, body='x')
    request = http.request('http://127.0.0.1:1/', method=method)
    with pytest.raises(BodyNotAllowed):
        request.write('x')
    request.destroy()


def test_body_without_framing_raises() -> None:
    request = http.request('http://127.0.0.1:1/', method='POST')
    request.remove_header('Content-Length')
    request.remove_header('Transfer-Encoding')
    with pytest.raises(BodyNotAllowed):
        request.end('x')


@pytest.mark.parametrize(
    'headers', [{'Transfer-Encoding': 'gzip'}, {'Transfer-Encoding': 'chunked', 'Content-Length': '1'}]
)
def test_unknown_framing_raises(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidHeader):
        http.request('http://127.0.0.1:1/', method='POST', headers=headers, body='x')


@pytest.mark.parametrize('value', [1, 'text', ['a', 2], ''])
def test_valid_header_value_is_sent(value: Any) -> None:
    """Also by ``set_header()``."""
    http.validate_header_value('x', value)
    http.request().set_header('x', value)


@pytest.mark.parametrize(
    ('value', 'error'),
    [('a\r\nb', InvalidHeader), (['a', '\0'], InvalidHeader), (None, TypeError), (True, TypeError), (1.5, TypeError)],
)
def test_invalid_header_value_raises(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        http.validate_header_value('x', value)
    with pytest.raises(error):
        http.request().set_header('x', value)


def test_query_method_has_a_body() -> None:
    """The method is safe, and has a body; Node has it since 22."""
    assert 'QUERY' in http.METHODS
    assert list(http.METHODS) == sorted(http.METHODS)


# -- options for new connections, and default headers -----------------------------------------------------------------


def test_lookup_and_local_port_are_for_new_connections(agent: Any, recorder: Recorder) -> None:
    asked = []

    def lookup(host: str, family: int) -> str:
        asked.append((host, family))
        return '127.0.0.1'

    pool = agent(keep_alive=True)
    with stdlib.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    url = f'http://made.up:{recorder.origin.port}/'
    request = http.get(url, agent=pool, lookup=lookup, local_port=port)
    response = request.get_response()
    assert request.socket.local_port == port
    assert response.read() == b'hello'
    assert http.get(url, agent=pool, lookup=lookup).get_response().read() == b'hello'
    assert asked == [('made.up', 0)]
    assert list(pool.free_sockets) == [f'made.up:{recorder.origin.port}']
    assert http.get(url, lookup=lookup, agent=False, family=4).get_response().read() == b'hello'
    assert asked[1:] == [('made.up', 4)]
    # without a reset, the port could not be used again for a minute
    for (socket,) in pool.free_sockets.values():
        socket._reset_unless_ended()


@pytest.mark.parametrize(
    ('raised', 'kind'), [(gevent.Timeout(2), NameNotResolved), (gevent.GreenletExit(), ConnectError)]
)
def test_lookup_that_is_interrupted_fails_the_request(
    agent: Any, raised: BaseException, kind: type[ConnectError]
) -> None:
    """The next one gets its place."""

    def lookup(host: str, family: int) -> str:
        raise raised

    pool = agent(max_sockets=1)
    for _ in range(2):
        with pytest.raises(kind):
            http.get('http://made.up/', agent=pool, lookup=lookup).get_response()
    assert not pool.total_socket_count


def test_lookup_reaches_create_connection(agent: Any, recorder: Recorder) -> None:
    seen = []
    pool = agent()
    plain = pool.create_connection

    def create(options: Any) -> Any:
        seen.append(set(options))
        return plain(options)

    options = {'agent': pool, 'create_connection': create, 'lookup': lambda host, family: '127.0.0.1'}
    recorder.sent(**options)
    assert seen == [{'host', 'port', 'local_address', 'family', 'socket_path', 'lookup'}]


@pytest.mark.parametrize(
    ('options', 'kind', 'message'),
    [
        ({'lookup': 'x'}, TypeError, 'lookup must be callable, not str'),
        ({'local_port': 70000}, InvalidInput, 'local_port must be from 1 to 65535, not 70000'),
        ({'local_port': 'x'}, InvalidInput, 'local_port must be from'),
        ({'set_default_headers': 0}, TypeError, 'set_default_headers must be True or False, not int'),
    ],
)
def test_bad_option_for_a_connection_is_refused(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        http.request('http://localhost/', **options)


def test_without_default_headers(recorder: Recorder) -> None:
    assert recorder.sent(set_default_headers=False).headers == []
    received = recorder.sent(
        set_default_headers=False, method='POST', headers={'Host': 'a', 'Content-Length': '3'}, body=b'abc'
    )
    assert received.headers == [('Host', 'a'), ('Content-Length', '3')]
    assert received.body == b'abc'
    with pytest.raises(GeventnodeError):
        http.request(**recorder.options(set_default_headers=False, method='POST', body=b'abc'))
