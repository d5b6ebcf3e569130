"""Attacks and failures that are no single case: desynchronisation, slowness, output splitting, logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from geventnode.errors import InvalidHeader, InvalidInput
from tests.servers import Log, Serve, get, ok, post

#: Characters that end a line, or would after a careless conversion (U+010A has LF as its low byte), and other controls.
SPLITTERS = [
    'a\r\nSet-Cookie: evil=1',
    'a\nb',
    'a\rb',
    'a\0b',
    '\u010a',
    '\u560a\u560d',
    'a\x7fb',
    'a\x0bb',
    '\n',
    'é\r',
]

#: Names that are not tokens.
BAD_NAMES = ['', ' ', 'a b', 'a:', 'a\r\nb', 'a\0', 'ä', 'a(b)', 'a\tb', '\u010a', ':a', 'a\n']

Attempt = Callable[[Any, str], object]

VALUE_PATHS: dict[str, Attempt] = {
    'set_header': lambda response, text: response.set_header('X-A', text),
    'set_header with a list': lambda response, text: response.set_header('X-A', ['fine', text]),
    'append_header': lambda response, text: response.append_header('X-A', text),
    'write_head with a mapping': lambda response, text: response.write_head(200, {'X-A': text}),
    'write_head with pairs': lambda response, text: response.write_head(200, [('X-A', 'fine'), ('X-A', text)]),
    'write_head with a reason': lambda response, text: response.write_head(200, 'OK', {'X-A': text}),
    'add_trailers with a mapping': lambda response, text: response.add_trailers({'X-A': text}),
    'add_trailers with pairs': lambda response, text: response.add_trailers([('X-A', text)]),
    'add_trailers with a list': lambda response, text: response.add_trailers({'X-A': ['fine', text]}),
    'write_early_hints': lambda response, text: response.write_early_hints({'link': text}),
    'write_early_hints with a list': lambda response, text: response.write_early_hints({'link': ['</a>', text]}),
}

NAME_PATHS: dict[str, Attempt] = {
    'set_header': lambda response, text: response.set_header(text, 'x'),
    'append_header': lambda response, text: response.append_header(text, 'x'),
    'write_head with a mapping': lambda response, text: response.write_head(200, {text: 'x'}),
    'write_head with pairs': lambda response, text: response.write_head(200, [(text, 'x')]),
    'add_trailers': lambda response, text: response.add_trailers({text: 'x'}),
    'write_early_hints': lambda response, text: response.write_early_hints({text: 'x'}),
}


def check_refused(serve: Serve, attempt: Attempt, texts: list[str], kind: type[Exception]) -> None:
    """Check that every one of ``texts`` raises before a byte of it is sent."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        for text in texts:
            try:
                attempt(response, text)
            except kind:
                log.append('refused')
            else:
                log.append(text)
        response.write('fine')
        response.end()

    data = serve(listener).send(get('/', 'Connection: close')).rest()
    assert log == ['refused'] * len(texts)
    assert data.startswith(b'HTTP/1.1 200 OK\r\nDate')
    assert data.endswith(b'\r\n\r\n4\r\nfine\r\n0\r\n\r\n')
    assert b'evil' not in data


# -- output ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('path', VALUE_PATHS)
def test_value_cannot_split_a_response(serve: Serve, path: str) -> None:
    """In every method that takes a value."""
    check_refused(serve, VALUE_PATHS[path], SPLITTERS, InvalidHeader)


@pytest.mark.parametrize('path', NAME_PATHS)
def test_name_must_be_a_token(serve: Serve, path: str) -> None:
    """In every method that takes a name."""
    check_refused(serve, NAME_PATHS[path], BAD_NAMES, InvalidHeader)


def test_reason_phrase_cannot_split_a_response(serve: Serve) -> None:
    """Through ``write_head``."""
    check_refused(serve, lambda response, text: response.write_head(200, text), SPLITTERS, InvalidInput)


@pytest.mark.parametrize('text', SPLITTERS)
def test_status_message_cannot_split_a_response(serve: Serve, text: str) -> None:
    """As an attribute it is checked when the head is rendered: the response is 500 without it."""

    def listener(request: Any, response: Any) -> None:
        response.status_message = text
        response.end('x')

    data = serve(listener).send(get()).rest()
    assert data.startswith(b'HTTP/1.1 500 Internal Server Error\r\n')
    assert b'evil' not in data


def test_header_value_can_be_latin_1(serve: Serve) -> None:
    """obs-text (RFC 9110, section 5.5) is sent as one byte per character."""
    data = serve(lambda _, response: response.write_head(200, 'Ça va', {'X-A': 'é\tÿ'}).end()).send(get()).receive()
    assert b'HTTP/1.1 200 \xc7a va\r\n' in data
    assert b'X-A: \xe9\t\xff\r\n' in data


# -- separation of messages ---------------------------------------------------------------------------------------


def test_error_response_reveals_nothing(serve: Serve) -> None:
    """No traceback, no path, no header that was set."""

    def listener(request: Any, response: Any) -> None:
        response.set_header('X-Internal', 'secret')
        raise ValueError('secret')

    data = serve(listener).send(get()).rest()
    assert data.startswith(b'HTTP/1.1 500 ')
    assert b'secret' not in data
    assert b'Traceback' not in data


def test_error_response_repeats_no_byte_of_the_request(serve: Serve) -> None:
    data = serve(ok).send(b'GET /<script> HTTP/1.1\r\n<script>: x\r\n\r\n').rest()
    assert data.startswith(b'HTTP/1.1 400 ')
    assert b'script' not in data


def test_no_byte_is_parsed_after_an_error(serve: Serve) -> None:
    """Whether it arrived with the error or later."""
    seen = []
    site = serve(lambda request, response: (seen.append(request.url), response.end()))
    client = site.send(b'GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n' + get('/evil'))
    assert client.response().status == 400
    client.send(get('/evil'))
    assert client.rest() == b''
    assert seen == []


def test_error_in_a_body_has_one_response(serve: Serve) -> None:
    """With the status of the error; the rest is no request."""
    seen = []

    def listener(request: Any, response: Any) -> None:
        seen.append(request.url)
        response.end(request.read())

    head = get('/', 'Transfer-Encoding: chunked', method='POST')
    client = serve(listener).send(head + b'3\r\nabcX\r\n0\r\n\r\n' + get('/evil'))
    reply = client.response()
    assert reply.status == 400
    assert reply.closes
    assert client.rest() == b''
    assert seen == ['/']


def test_error_in_an_unread_body_closes_the_connection(serve: Serve) -> None:
    """After the response that the listener sent without reading it."""
    seen = []
    site = serve(lambda request, response: (seen.append(request.url), response.end('early')))
    head = get('/', 'Transfer-Encoding: chunked', method='POST')
    client = site.send(head + b'zz\r\n' + get('/evil'))
    assert client.response().body == b'early'
    assert client.rest() == b''
    assert seen == ['/']


def test_declared_length_allocates_nothing(serve: Serve) -> None:
    """Buffers grow with the bytes received."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.read1(1))
        log.append(request.readable_length + request.socket._protocol.parser.buffered)
        response.end()

    client = serve(listener).send(post(b'abc', length=2**62))
    assert client.response().status == 200
    assert log == [b'a', 2]
    assert client.rest() == b''


@pytest.mark.parametrize('length', ['9' * 19, '9' * 20, '9' * 5000])
def test_length_of_many_digits_is_handled(serve: Serve, length: str) -> None:
    """400, 413, or a body that never arrives, but no exception of another kind."""
    client = (
        serve(lambda request, response: request.read())
        .send(get('/', f'Content-Length: {length}', method='POST'))
        .half_close()
    )
    assert client.response().status in (400, 413)
    assert client.rest() == b''


def test_special_field_name_is_only_a_key(serve: Serve) -> None:
    """``__proto__``, ``__class__`` and similar names."""
    seen = []
    names = ['__proto__', '__class__', 'constructor', 'get', 'items', '_lock']
    site = serve(lambda request, response: (seen.append(dict(request.headers)), response.end()))
    assert site.send(get('/', *[f'{name}: x' for name in names])).response().status == 200
    assert set(names) < set(seen[0])


def test_slow_clients_do_not_delay_others(serve: Serve) -> None:
    """Incomplete heads need no worker and no greenlet."""
    site = serve(ok)
    slow = [site.send(get()[:-5]) for _ in range(100)]
    gevent.idle()
    assert site.get().status == 200
    assert slow[0].send(get()[-5:]).response().status == 200
    assert site.server.get_connections() >= 100


# -- logs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'data',
    [
        b'GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n',
        b'G\x00T / HTTP/1.1\r\n\r\n',
        b'\xff\xfe\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: x\r\nA\x07: b\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: x\nERROR forged\r\n\r\n',
    ],
)
def test_log_line_cannot_be_forged(serve: Serve, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One line per connection, in printable ASCII."""
    caplog.set_level(logging.DEBUG)
    assert serve(ok).send(data).rest().startswith(b'HTTP/1.1 400 ')
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].isascii()
    assert lines[0].isprintable()


def test_long_request_is_shortened_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    serve(ok).send(b'GET /' + b'\x00' * 15000 + b' HTTP/1.1\r\n\r\n').rest()
    assert sum(len(record.getMessage()) for record in caplog.records) < 1000


def test_log_lines_per_second_are_limited(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """One of them counts the omitted connections."""
    caplog.set_level(logging.DEBUG)
    site = serve(ok)
    for _ in range(100):
        assert site.send(b'\x00\r\n\r\n').rest().startswith(b'HTTP/1.1 400 ')
    logged, suppressed = len(caplog.records), site.server._peer_log.suppressed
    omitted = [
        int(match[1])
        for record in caplog.records
        if (match := re.search(r'\(and (\d+) more lines were left out\)', record.getMessage()))
    ]
    assert logged + sum(omitted) + suppressed == 100


# -- proxies --------------------------------------------------------------------------------------------------------

FORGED = (
    'X-Forwarded-For: 127.0.0.1',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: evil',
    'X-Forwarded-Port: 1',
    'X-Real-IP: 127.0.0.1',
    'Forwarded: for=127.0.0.1;proto=https;host=evil',
    'Client-IP: 127.0.0.1',
)


def report_client(request: Any, response: Any) -> None:
    """Respond with the facts that applications base decisions on."""
    response.end(f'{request.remote_address} {request.scheme} {request.host}')


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'trusted_proxies': '127.0.0.1'},
        {'trusted_proxies': '10.0.0.0/8', 'forwarded_headers': 'forwarded'},
        {'trusted_proxies': 'unix', 'forwarded_headers': ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host']},
    ],
)
def test_client_cannot_forge_its_address(serve: Serve, options: dict[str, Any]) -> None:
    """By default, and if another proxy is trusted."""
    assert serve(report_client, **options).get('/', *FORGED).body == b'127.0.0.1 http x'


@pytest.mark.parametrize(
    ('fields', 'added'),
    [
        ('forwarded', 'Forwarded: for=1.2.3.4;proto=http;host=x'),
        ('x-forwarded-for', 'X-Forwarded-For: 1.2.3.4'),
    ],
)
@pytest.mark.parametrize(
    'sent',
    [
        'Forwarded: for=127.0.0.1;proto=https;host="',
        'Forwarded: for="',
        'X-Forwarded-For: 127.0.0.1',
        'X-Forwarded-For: 127.0.0.1,',
        'X-Forwarded-For: \x00',
        'Forwarded: for=127.0.0.1,for="\\',
    ],
)
def test_client_behind_a_proxy_cannot_forge_its_address(serve: Serve, fields: str, added: str, sent: str) -> None:
    """Only the entry that the proxy has added counts; fields that the proxy does not know have no effect."""
    site = serve(report_client, trusted_proxies='127.0.0.1', forwarded_headers=fields)
    reply = site.get('/', sent, 'X-Forwarded-Proto: https', added)
    assert reply.status == 400 or reply.body == b'1.2.3.4 http x'


def test_proxy_header_of_a_client_is_refused(serve: Serve) -> None:
    """By a server that expects none, from an untrusted address, and a second one."""
    header = b'PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n'
    assert serve(report_client).send(header + get()).rest().startswith(b'HTTP/1.1 400 ')
    assert serve(report_client, proxy_protocol=True, trusted_proxies='10.0.0.1').send(header + get()).rest() == b''
    site = serve(report_client, proxy_protocol=True, trusted_proxies='127.0.0.1')
    assert (
        site.send(header.replace(b'TCP4 127.0.0.1', b'TCP4 1.2.3.4') + header + get())
        .rest()
        .startswith(b'HTTP/1.1 400 ')
    )


def test_missing_proxy_header_is_refused(serve: Serve) -> None:
    """A server that expects it accepts no connection without it."""
    site = serve(report_client, proxy_protocol=True, trusted_proxies='127.0.0.1')
    assert site.send(get()).rest() == b''
    assert site.send(b'\r\n' + get()).rest() == b''
