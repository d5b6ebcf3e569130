"""The access log: the format of a line, the escaping of hostile input, and exactly one line for each exchange."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.socket import create_connection

from geventnode import http
from geventnode.errors import InvalidInput
from geventnode.http.server.access_log import CLIENT_CLOSED_REQUEST
from geventnode.http.server.observers import ObservedResponse
from geventnode.integrations.wsgi import wsgi

LINE = re.compile(
    r'(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "([^"]*)" (\d{3}) (\d+|-) '
    r'"([^"]*)" "([^"]*)"'
)


class Lines(logging.Handler):
    """Keep the logged lines, and wait for the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.changed = Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.changed.set()

    def wait(self) -> str:
        """Return the only line, once there is one."""
        self.changed.wait()
        (line,) = self.lines
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    log = logging.getLogger('geventnode.access')
    handler = Lines()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def connect(server: http.Server) -> socket.socket:
    return create_connection(('127.0.0.1', server.address()['port']))


def exchange(
    listener: Callable[[Any, Any], object], request: bytes, log_format: Any = 'combined', **options: Any
) -> bytes:
    """Send ``request`` to a logged server and return all bytes that it sends."""
    with http.create_server(listener, **options) as server:
        http.log_access(server, log_format)
        server.listen(0, '127.0.0.1')
        with connect(server) as client:
            client.sendall(request)
            with client.makefile('rb') as answer:
                return answer.read()


def request(line: str = 'GET / HTTP/1.1', *fields: str, body: bytes = b'') -> bytes:
    return '\r\n'.join([line, 'Host: a', 'Connection: close', *fields, '', '']).encode('latin-1') + body


def test_line_has_the_combined_format(lines: Lines) -> None:
    exchange(
        lambda request, response: response.end('hello'),
        request('GET /a?b=c HTTP/1.1', 'Referer: http://from/', 'User-Agent: agent/1.0 (x)'),
    )
    host, _, line, status, size, referer, agent = LINE.fullmatch(lines.wait()).groups()
    assert (host, line, status, size) == ('127.0.0.1', 'GET /a?b=c HTTP/1.1', '200', '5')
    assert (referer, agent) == ('http://from/', 'agent/1.0 (x)')


@pytest.mark.parametrize(
    ('line', 'status', 'expected'),
    [
        ('GET / HTTP/1.1', 200, '5'),
        ('HEAD / HTTP/1.1', 200, '-'),
        ('GET / HTTP/1.1', 204, '-'),
        ('GET / HTTP/1.0', 404, '5'),
    ],
)
def test_line_counts_the_bytes_of_the_body(lines: Lines, line: str, status: int, expected: str) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(status)
        response.write('he')
        response.end('llo')

    exchange(listener, request(line))
    assert LINE.fullmatch(lines.wait()).groups()[2:5] == (line, str(status), expected)


def test_characters_of_the_client_are_escaped(lines: Lines) -> None:
    """An exchange has one line, and quotes delimit its parts."""
    exchange(
        lambda request, response: response.end(),
        request('GET /"a\\b HTTP/1.1', 'Referer: "\\\xe9\t\xff', 'User-Agent: plain ~!#'),
    )
    groups = LINE.fullmatch(lines.wait()).groups()
    assert groups[2] == r'GET /\x22a\x5Cb HTTP/1.1'
    assert groups[5:] == (r'\x22\x5C\xE9\x09\xFF', 'plain ~!#')


def test_each_exchange_has_one_line(lines: Lines) -> None:
    first = b'GET /1 HTTP/1.1\r\nHost: a\r\n\r\n'
    second = request('POST /2 HTTP/1.1', 'Content-Length: 2', body=b'ab')
    exchange(lambda request, response: response.end(), first + second)
    assert [LINE.fullmatch(line)[3] for line in lines.lines] == ['GET /1 HTTP/1.1', 'POST /2 HTTP/1.1']


@pytest.mark.parametrize('began', [False, True])
def test_failed_listener_is_logged_with_its_status(lines: Lines, caplog: pytest.LogCaptureFixture, began: bool) -> None:
    """The status is the one that the client received."""

    def listener(request: Any, response: Any) -> None:
        if began:
            response.write('abc')
        raise ValueError('on purpose')

    answer = exchange(listener, request())
    assert answer.startswith(b'HTTP/1.1 200 OK' if began else b'HTTP/1.1 500 Internal')
    assert LINE.fullmatch(lines.wait()).groups()[3:5] == (('200', '3') if began else ('500', '26'))
    assert 'the request listener failed' in caplog.text


def test_body_that_is_too_large_is_logged_as_413(lines: Lines) -> None:
    exchange(
        lambda request, response: response.end(request.read()),
        request('POST / HTTP/1.1', 'Transfer-Encoding: chunked', body=b'5\r\nabcde\r\n'),
        max_body_size=4,
    )
    assert LINE.fullmatch(lines.wait()).groups()[3:5] == ('413', '22')


@pytest.mark.parametrize(('method', 'logged'), [('GET', '26'), ('HEAD', '-')])
@pytest.mark.parametrize('status', [200, 204])
@pytest.mark.usefixtures('caplog')
def test_error_response_is_logged_with_its_own_size(lines: Lines, method: str, logged: str, status: int) -> None:
    """The body of the server counts, not the one that the listener would have sent."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 10)
        response.status_code = status
        raise ValueError('on purpose')

    body = exchange(listener, request(f'{method} / HTTP/1.1')).partition(b'\r\n\r\n')[2]
    assert LINE.fullmatch(lines.wait()).groups()[3:5] == ('500', logged)
    assert str(len(body) or '-') == logged


def test_short_body_is_logged_with_its_bytes(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Length', 10)
        response.end('four')

    exchange(listener, request())
    assert LINE.fullmatch(lines.wait()).groups()[3:5] == ('200', '4')


@pytest.mark.parametrize('began', [False, True])
def test_disconnected_client_is_logged(lines: Lines, began: bool) -> None:
    """The line has the status and the bytes written, or 499 if there was no response."""
    arrived, left = Event(), Event()

    def listener(request: Any, response: Any) -> None:
        if began:
            response.write('abc')
        response.once('close', left.set)
        arrived.set()
        left.wait()
        response.destroy()

    with http.create_server(listener) as server:
        http.log_access(server)
        server.listen(0, '127.0.0.1')
        with connect(server) as client:
            client.sendall(request('GET /left HTTP/1.1'))
            arrived.wait()
        line = lines.wait()
    assert LINE.fullmatch(line).groups()[2:5] == (
        'GET /left HTTP/1.1',
        *(('200', '3') if began else (str(CLIENT_CLOSED_REQUEST), '-')),
    )


def test_half_closed_client_is_logged_with_its_response(lines: Lines) -> None:
    """It still gets its response."""
    left = Event()

    def listener(request: Any, response: Any) -> None:
        response.once('close', left.set)
        left.wait()
        response.end('late')

    with http.create_server(listener) as server:
        http.log_access(server)
        server.listen(0, '127.0.0.1')
        with connect(server) as client:
            client.sendall(request())
            client.shutdown(socket.SHUT_WR)
            with client.makefile('rb') as answer:
                assert answer.read().endswith(b'late')
        assert LINE.fullmatch(lines.wait()).groups()[3:5] == ('200', '4')


def test_response_class_of_the_server_is_kept(lines: Lines) -> None:
    class Own(http.ServerResponse):
        def _on_complete(self) -> None:
            super()._on_complete()
            made.append(self)

    made: list[Own] = []
    exchange(lambda request, response: response.end(), request(), response_class=Own)
    assert isinstance(made[0], ObservedResponse)
    lines.wait()


def test_access_log_is_off_by_default(lines: Lines) -> None:
    server = http.create_server(lambda request, response: response.end())
    assert server.response_class is http.ServerResponse
    with server:
        server.listen(0, '127.0.0.1')
        with connect(server) as client:
            client.sendall(request())
            with client.makefile('rb') as answer:
                answer.read()
    assert lines.lines == []


def test_second_call_has_no_effect(lines: Lines) -> None:
    server = http.create_server()
    http.log_access(server)
    first = server.response_class
    http.log_access(server)
    assert server.response_class is first


def test_disabled_logger_formats_nothing(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger('geventnode.access').setLevel(logging.WARNING)
    monkeypatch.setattr(
        'geventnode.http.server.access_log.FORMATS', {'combined': lambda *arguments: pytest.fail('formatted')}
    )
    exchange(lambda request, response: response.end(), request())
    assert lines.lines == []


def _read(request: Any, response: Any) -> None:
    response.end(request.read())


def _upload(environ: Any, start_response: Any) -> list[bytes]:
    body = environ['wsgi.input'].read()
    start_response('200 OK', [])
    return [body]


@pytest.mark.parametrize('listener', [_read, wsgi(_upload)], ids=['listener', 'wsgi'])
@pytest.mark.parametrize('framing', [b'Content-Length: 10\r\n\r\nabc', b'Transfer-Encoding: chunked\r\n\r\n5\r\nabc'])
def test_disconnect_during_an_upload_is_logged_as_499(lines: Lines, listener: Any, framing: bytes) -> None:
    """A client that has closed only its own direction reads a 400; the log has 499 all the same."""
    with http.create_server(listener) as server:
        http.log_access(server)
        server.listen(0, '127.0.0.1')
        with connect(server) as client:
            client.sendall(b'POST / HTTP/1.1\r\nHost: a\r\n' + framing)
            client.shutdown(socket.SHUT_WR)
            with client.makefile('rb') as answer:
                assert answer.read().startswith(b'HTTP/1.1 400 ')
    assert LINE.fullmatch(lines.wait())[4] == str(CLIENT_CLOSED_REQUEST)


def test_malformed_upload_is_logged_as_400(lines: Lines) -> None:
    """The request is malformed, even if its client disconnects afterwards."""
    exchange(_read, b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n')
    assert LINE.fullmatch(lines.wait())[4] == '400'


# -- as JSON ----------------------------------------------------------------------------------------------------------


def test_json_line_has_all_fields(lines: Lines) -> None:
    began = time.time()
    exchange(
        lambda request, response: (gevent.sleep(0.01), response.end('hello')),
        request('GET /a?b=c HTTP/1.1', 'Referer: http://from/', 'User-Agent: agent/1.0 (x)'),
        'json',
    )
    found = json.loads(lines.wait())
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', found['time'])
    moment = datetime.fromisoformat(found.pop('time').replace('Z', '+00:00')).timestamp()
    assert began - 0.001 <= moment <= time.time()
    # as the line is written at the end
    assert 0.009 < found.pop('duration') <= time.time() - began
    assert found == {
        'client_address': '127.0.0.1',
        'method': 'GET',
        'target': '/a?b=c',
        'http_version': '1.1',
        'scheme': 'http',
        'host': 'a',
        'status': 200,
        'body_size': 5,
        'complete': True,
        'referer': 'http://from/',
        'user_agent': 'agent/1.0 (x)',
    }


def test_json_line_has_null_for_absent_fields(lines: Lines, tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    with http.create_server(lambda request, response: response.end()) as server:
        http.log_access(server, 'json')
        server.listen(path=path)
        with gevent.socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b'HEAD / HTTP/1.0\r\n\r\n')
            client.recv(1000)
        found = json.loads(lines.wait())
    assert [found[name] for name in ('client_address', 'host', 'referer', 'user_agent')] == [None] * 4
    assert (found['http_version'], found['body_size'], found['complete']) == ('1.0', 0, True)


def test_json_line_escapes_every_byte_of_the_client(lines: Lines) -> None:
    """A line is printable ASCII, and the bytes can be restored."""
    allowed = bytes(byte for byte in range(256) if byte not in b'\0\r\n' and (byte >= 32 or byte == 9) and byte != 127)
    exchange(
        lambda request, response: response.end(),
        request(
            'GET /"a\\b{} HTTP/1.1',
            f'Referer: x{allowed.decode("latin-1")}x',
            'User-Agent: \u20ac'.encode().decode('latin-1'),
        ),
        'json',
    )
    line = lines.wait()
    assert re.fullmatch('[ -~]+', line)
    found = json.loads(line)
    assert found['target'] == '/"a\\b{}'
    assert found['referer'].encode('latin-1') == b'x' + allowed + b'x'
    assert found['user_agent'].encode('latin-1').decode() == '\u20ac'


@pytest.mark.parametrize('character', ['a', '"', '\xff'])
@pytest.mark.parametrize('size', [30, 3000, 15_000])
def test_json_line_fits_into_a_pipe(lines: Lines, size: int, character: str) -> None:
    """Longer writes of several processes would be mixed (POSIX, PIPE_BUF)."""
    method, host = 'M' * (size // 4), f'{"h" * (size // 8)}.example'
    target, referer = f'/{"t" * (size // 4)}', character * (size // 4)
    sent = request(f'{method} {target} HTTP/1.1', f'Referer: {referer}', 'User-Agent: short')
    exchange(lambda request, response: response.end(), sent.replace(b'Host: a', b'Host: ' + host.encode()), 'json')
    line = lines.wait()
    assert len(line) < 4096
    found = json.loads(line)
    texts = {'method': method, 'target': target, 'host': host, 'referer': referer, 'user_agent': 'short'}
    shortened = found.get('shortened', [])
    for name, text in texts.items():
        assert text.startswith(found[name])
        assert (found[name] != text) is (name in shortened)
        assert len(found[name]) > 100 or found[name] == text
    assert ('shortened' in found) is (size == 15_000 or (size == 3000 and character == '\xff'))
    assert list(found)[:13] == [name for name in found if name != 'shortened']


def test_json_line_escapes_texts_of_the_application(lines: Lines) -> None:
    """A program can replace attributes of the request: text that no encoding has is escaped as well."""

    def listener(request: Any, response: Any) -> None:
        request.url = '/\ud800\u2028\0\x7f'
        response.end()

    exchange(listener, request(), 'json')
    line = lines.wait()
    assert re.fullmatch('[ -~]+', line)
    assert json.loads(line)['target'] == '/\ud800\u2028\0\x7f'


def _fail(request: Any, response: Any) -> None:
    raise ValueError('on purpose')


def _fail_late(request: Any, response: Any) -> None:
    response.write('abc')
    raise ValueError('on purpose')


def _fall_short(request: Any, response: Any) -> None:
    response.set_header('Content-Length', 10)
    response.end('four')


@pytest.mark.parametrize(
    ('listener', 'expected'),
    [
        (_fail, (500, 26, True)),
        (_fail_late, (200, 3, False)),
        (_fall_short, (200, 4, False)),
        (lambda request, response: response.destroy(), (CLIENT_CLOSED_REQUEST, 0, False)),
        (lambda request, response: response.write_head(304, {'Content-Length': 10}).end(), (304, 0, True)),
    ],
)
@pytest.mark.usefixtures('caplog')
def test_json_line_shows_whether_a_response_is_complete(
    lines: Lines, listener: Any, expected: tuple[int, int, bool]
) -> None:
    exchange(listener, request(), 'json')
    found = json.loads(lines.wait())
    assert (found['status'], found['body_size'], found['complete']) == expected


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'combined' or 'json', not 'xml'"):
        http.log_access(http.create_server(), 'xml')
