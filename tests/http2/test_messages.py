"""Test requests and responses by HTTP/2: an application finds the same objects as in HTTP/1.1."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import ClientDisconnected, ContentLengthMismatch, InvalidInput
from geventnode.integrations.wsgi import wsgi
from geventnode.net.deadlines import deadlines
from tests.http2.client import Client, Connect, Response
from tests.servers import Log, Serve, get, ok
from tests.sockets import until


def fetch(client: Client, path: str = '/', *fields: tuple[str, str], method: str = 'GET') -> Response:
    return client.response(client.get(path, *fields, method=method))


def test_request_has_the_attributes_of_http_1(connect_h2: Connect) -> None:
    seen: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        seen.append(request)
        response.end(b'ok')

    client = connect_h2(listener)
    response = fetch(client, '/a?b=c', ('x-one', '1'), ('cookie', 'a=1'), ('cookie', 'b=2'))
    request = seen[0]
    assert (request.http_version, request.http_version_major, request.http_version_minor) == ('2.0', 2, 0)
    assert (request.method, request.url, request.stream_id) == ('GET', '/a?b=c', 1)
    assert (request.host, request.scheme, request.remote_address) == ('localhost', 'http', '127.0.0.1')
    assert request.headers == {'host': 'localhost', 'x-one': '1', 'cookie': 'a=1; b=2'}
    assert request.raw_headers == [('host', 'localhost'), ('x-one', '1'), ('cookie', 'a=1'), ('cookie', 'b=2')]
    assert request.complete
    assert not request.upgrade
    assert (response.status, response.body, response.ended) == (200, b'ok', True)
    assert response.headers['content-length'] == '2'
    assert 'date' in response.headers
    assert 'connection' not in response.headers


def test_http_1_is_served_on_the_same_port(serve: Serve) -> None:
    site = serve(lambda request, response: response.end(f'{request.http_version} {request.stream_id}'), http2=True)
    for piece in (get('/'), get('/', method='PUT'), b'P', b'PRI'):
        client = site.connect()
        client.send(piece)
        if not piece.startswith(b'P') or len(piece) > 3:
            assert client.response().body == b'1.1 None'
        elif piece == b'P':
            client.send(get('/', method='OST'))
            assert client.response().body == b'1.1 None'
        else:
            client.send(b'X' + get('/')[3:])
            assert client.response().body == b'1.1 None'


@pytest.mark.parametrize('data', [b'', b'P', b'PRI * HTTP/2.0\r', get('/')])
def test_connection_that_ends_early_is_forgotten(serve: Serve, data: bytes) -> None:
    site = serve(ok, http2=True)
    client = site.connect()
    client.send(data)
    client.close()
    until(lambda: not site.server._sockets and not deadlines(site.server._hub)._owners)


def test_requests_of_one_connection_run_at_the_same_time(connect_h2: Connect) -> None:
    arrived: list[str] = []
    all_there = Event()

    def listener(request: Any, response: Any) -> None:
        arrived.append(request.url)
        if len(arrived) == 3:
            all_there.set()
        all_there.wait()
        response.end(request.url)

    client = connect_h2(listener)
    numbers = [client.get(f'/{index}') for index in range(3)]
    assert [client.response(number).body for number in numbers] == [b'/0', b'/1', b'/2']


@pytest.mark.parametrize('size', [0, 1, 16384, 16385, 65535, 65536, 300_000])
def test_bodies_of_both_directions(connect_h2: Connect, size: int) -> None:
    def listener(request: Any, response: Any) -> None:
        body = request.read()
        response.end(body + body)

    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    client = connect_h2(listener)
    response = client.response(client.post(body))
    assert response.body == body + body
    assert response.headers['content-length'] == str(2 * size)


def test_body_is_streamed_without_a_length(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        for chunk in request:
            response.write(chunk)
        response.end()

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.send_data(number, b'one')
    client.until(lambda: client.responses[number].body == b'one')
    client.send_data(number, b'two', end=True)
    response = client.response(number)
    assert response.body == b'onetwo'
    assert 'content-length' not in response.headers
    assert 'transfer-encoding' not in response.headers


def test_trailers_of_both_directions(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        request.read()
        response.add_trailers({'X-Sum': request.trailers['x-sum']})
        response.write(b'body')
        response.end()

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.send_data(number, b'abc')
    client.h2.send_headers(number, [(b'x-sum', b'7')], end_stream=True)
    client.flush()
    response = client.response(number)
    assert (response.body, response.trailers) == (b'body', {'x-sum': '7'})


@pytest.mark.parametrize(('method', 'status'), [('HEAD', 200), ('GET', 204), ('GET', 304)])
def test_responses_without_a_body(connect_h2: Connect, method: str, status: int) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(status, {'content-length': '5'} if status == 200 else {})
        response.write(b'12345')
        response.end()

    client = connect_h2(listener)
    response = fetch(client, method=method)
    assert (response.status, response.body, response.ended) == (status, b'', True)
    assert response.headers.get('content-length') == ('5' if method == 'HEAD' else None)


def test_fields_about_the_connection_are_dropped(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(
            200,
            'Fine',
            {'Connection': 'close', 'Keep-Alive': 'timeout=3', 'Transfer-Encoding': 'chunked', 'X-A': ['1', '2']},
        )
        response.end(b'x')

    client = connect_h2(listener)
    response = fetch(client)
    assert [pair for pair in response.raw_headers if pair[0] != 'date'] == [
        (':status', '200'),
        ('x-a', '1'),
        ('x-a', '2'),
    ]
    # the connection stays open
    assert fetch(client).body == b'x'


def test_continue_and_early_hints(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_early_hints({'Link': ['</a>; rel=preload', '</b>; rel=preload']})
        response.end(request.read())

    client = connect_h2(listener)
    number = client.start('POST', '/', ('expect', '100-continue'), ('content-length', '3'))
    client.until(lambda: len(client.responses[number].informational) == 2)
    client.send_data(number, b'abc', end=True)
    response = client.response(number)
    assert response.body == b'abc'
    assert [status for status, _ in response.informational] == [103, 100]
    assert response.informational[0][1]['link'] == '</b>; rel=preload'


def test_any_informational_response(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_information(110, {'X-Progress': '50%'})
        response.end(b'x')

    response = fetch(connect_h2(listener))
    assert [(status, fields['x-progress']) for status, fields in response.informational] == [(110, '50%')]
    assert response.body == b'x'


def test_check_continue_can_refuse(connect_h2: Connect, serve: Serve) -> None:
    server = http.create_server(ok, http2=True)
    server.on('checkContinue', lambda request, response: response.write_head(413).end())
    client = connect_h2(serve(server))
    number = client.start('POST', '/', ('expect', '100-continue'), ('content-length', '3'))
    client.until(lambda: client.responses[number].over)
    client.until(lambda: client.responses[number].reset is not None)
    refused = client.responses[number]
    assert (refused.status, refused.informational, refused.reset) == (413, [], 0)


def test_unknown_expectation_gets_417(connect_h2: Connect) -> None:
    client = connect_h2(ok)
    assert fetch(client, '/', ('expect', 'tea')).status == 417
    assert fetch(client).status == 200
    # an empty list (RFC 9110, sections 5.6.1.2 and 10.1.1)
    assert fetch(client, '/', ('expect', ',')).status == 200


def test_exception_of_a_listener_becomes_500(connect_h2: Connect, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/late':
            response.write(b'begun')
        if request.url != '/':
            raise ValueError(request.url)
        response.end(b'fine')

    client = connect_h2(listener)
    with caplog.at_level(logging.CRITICAL, 'geventnode.error'):
        assert fetch(client, '/early').status == 500
        late = fetch(client, '/late')
    assert (late.ended, late.reset) == (False, 2)
    assert fetch(client).body == b'fine'


def test_short_response_is_reset(connect_h2: Connect, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'Content-Length': '10'})
        if request.url == '/pieces':
            response.write(b'123')
            response.end()
        else:
            response.end(b'123')

    client = connect_h2(listener)
    for path in ('/pieces', '/whole'):
        response = fetch(client, path)
        assert (response.ended, response.reset) == (False, 2)
    assert 'bytes short of its Content-Length' in caplog.text


@pytest.mark.parametrize('path', ['/pieces', '/whole', '/head'])
def test_long_response_is_refused(connect_h2: Connect, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """The rest would be an error of the stream at the client, as of RFC 9113, section 8.1.1."""
    refused: list[str] = []

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'Content-Length': '3'})
        try:
            if path == '/whole':
                response.end(b'12345')
            else:
                response.write(b'123')
                response.write(b'45')
        except ContentLengthMismatch as error:
            refused.append(str(error))
            raise
        response.end()

    client = connect_h2(listener)
    response = fetch(client, path, method='HEAD' if path == '/head' else 'GET')
    if path == '/head':
        assert (response.status, response.body, response.ended) == (200, b'', True)
        assert response.headers['content-length'] == '3'
        return
    assert len(refused) == 1
    if path == '/whole':
        # nothing was sent before
        assert response.status == 500
    else:
        # all that was declared was sent
        assert (response.ended, response.body) == (True, b'123')


def test_crumbs_of_a_cookie_are_joined(connect_h2: Connect) -> None:
    """RFC 9113, section 8.2.3: an application that expects one field gets one."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [environ['HTTP_COOKIE'].encode('latin-1')]

    client = connect_h2(wsgi(app))
    assert fetch(client, '/', ('cookie', 'a=1'), ('x-other', 'x'), ('cookie', 'b=2; c=3')).body == b'a=1; b=2; c=3'


@pytest.mark.parametrize('upgrade', ['h2c', 'websocket', 'h2c, websocket'])
def test_upgrade_to_http_2_is_served_as_http_1(serve: Serve, upgrade: str) -> None:
    """A server may ignore Upgrade (RFC 9110, section 7.8); h2c was removed by RFC 9113."""
    site = serve(lambda request, response: response.end(request.http_version), http2=True)
    client = site.send(
        get('/', 'Connection: Upgrade, HTTP2-Settings', f'Upgrade: {upgrade}', 'HTTP2-Settings: AAMAAABkAAQAAP__')
    )
    reply = client.response()
    assert (reply.status, reply.body) == (200, b'1.1')
    assert client.get().status == 200


def refusals(response: Any, name: str, value: str) -> list[str]:
    """Set a field in each way, and return the errors."""
    refused = []
    for set_field in (
        lambda: response.set_header(name, value),
        lambda: response.write_head(200, {name: value}),
        lambda: response.add_trailers({name: value}),
        lambda: response.write_information(110, {name: value}),
    ):
        try:
            set_field()
        except InvalidInput as error:
            refused.append(str(error))
    return refused


@pytest.mark.parametrize('name', [':status', ':path', 'x y', '', 'x\r\ny'])
def test_application_cannot_send_other_names(connect_h2: Connect, name: str) -> None:
    refused: list[str] = []

    def listener(request: Any, response: Any) -> None:
        refused.extend(refusals(response, name, '1'))
        response.end(b'safe')

    response = fetch(connect_h2(listener))
    assert (response.status, response.body, len(refused)) == (200, b'safe', 4)
    assert sorted(response.headers) == [':status', 'content-length', 'date']


@pytest.mark.parametrize('value', ['1\r2', '1\n:status: 500', '1\x002'])
def test_application_cannot_send_other_values(connect_h2: Connect, value: str) -> None:
    refused: list[str] = []

    def listener(request: Any, response: Any) -> None:
        refused.extend(refusals(response, 'x-one', value))
        response.end(b'safe')

    response = fetch(connect_h2(listener))
    assert (response.status, response.body, len(refused)) == (200, b'safe', 4)


def test_blanks_around_values_are_removed(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_information(110, {'X-Early': ' 1\t'})
        response.set_header('X-One', ' a b\t')
        response.set_header('X-Two', ['c ', ' d', '\t'])
        response.add_trailers({'X-Sum': ' 2 '})
        response.end(b'x')

    response = fetch(connect_h2(listener))
    assert response.informational == [(110, {'x-early': '1'})]
    assert [pair for pair in response.raw_headers if pair[0].startswith('x-')] == [
        ('x-one', 'a b'),
        ('x-two', 'c'),
        ('x-two', 'd'),
        ('x-two', ''),
    ]
    assert response.trailers == {'x-sum': '2'}


def test_reset_is_a_client_that_left(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', log.note('aborted'))
        response.on('close', log.note('close'))
        response.cancel_on_disconnect()
        log.append('ready')
        try:
            gevent.sleep(60)
        except ClientDisconnected:
            log.append('cancelled')
            raise

    client = connect_h2(listener)
    number = client.get()
    log.wait_for('ready')
    client.reset(number)
    for entry in ('aborted', 'close', 'cancelled'):
        log.wait_for(entry)


def test_unread_body_is_discarded(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: response.end(b'early'))
    short = client.response(client.post(bytes(1000)))
    assert (short.body, short.reset) == (b'early', None)
    number = client.start('POST', '/', ('content-length', '1000000'))
    long = client.responses[number]
    client.until(lambda: long.reset is not None)
    assert (long.body, long.ended, long.reset) == (b'early', True, 0)


def test_wsgi_application(connect_h2: Connect) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ['wsgi.input'].read()
        start_response('201 Created', [('Content-Type', 'text/plain'), ('X-Host', environ['HTTP_HOST'])])
        return [f'{environ["SERVER_PROTOCOL"]} {environ["PATH_INFO"]} {body!r}'.encode()]

    client = connect_h2(wsgi(app))
    response = client.response(client.post(b'abc', '/p'))
    assert (response.status, response.headers['x-host']) == (201, 'localhost')
    assert response.body == b"HTTP/2.0 /p b'abc'"


def test_socket_of_a_request_refuses_bytes(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        with pytest.raises(InvalidInput, match='other requests of an HTTP/2 connection'):
            request.socket.write(b'x')
        assert request.socket.remote_address == '127.0.0.1'
        response.end(b'safe')

    assert fetch(connect_h2(listener)).body == b'safe'


def test_upgrade_of_a_response_is_refused(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        with pytest.raises(InvalidInput, match='cannot be upgraded'):
            response.upgrade()
        response.end(b'safe')

    assert fetch(connect_h2(listener)).body == b'safe'


def test_two_extras_are_not_imported_by_http() -> None:
    import subprocess
    import sys

    code = "import sys, geventnode.http, geventnode.https; print('h2' in sys.modules, 'hpack' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == 'False False\n'


def test_file_follows_corked_pieces(connect_h2: Connect, tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'0123456789')

    def listener(request: Any, response: Any) -> None:
        if request.url == '/corked':
            response.cork()
            response.write('ab')
        with (tmp_path / 'file').open('rb') as file:
            response.send_file(file, 8)
            assert file.tell() == 8

    client = connect_h2(listener)
    plain = fetch(client)
    assert (plain.headers['content-length'], plain.body) == ('8', b'01234567')
    assert fetch(client, '/corked').body == b'ab01234567'
