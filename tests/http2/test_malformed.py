"""Test malformed requests: an error of the stream each, and the connection goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from h2.events import RemoteSettingsChanged
from h2.settings import SettingCodes

from geventnode.http2.codes import ErrorCode
from tests.http2.client import Connect
from tests.servers import ok
from tests.sockets import until

GOOD = [(':method', 'GET'), (':scheme', 'http'), (':authority', 'localhost'), (':path', '/')]


def encoded(pairs: list[tuple[str, str]]) -> Any:
    return [(name.encode('latin-1'), value.encode('latin-1')) for name, value in pairs]


def without(name: str) -> list[tuple[str, str]]:
    return [pair for pair in GOOD if pair[0] != name]


MALFORMED = {
    'connection': [*GOOD, ('connection', 'close')],
    'keep-alive': [*GOOD, ('keep-alive', 'timeout=5')],
    'proxy-connection': [*GOOD, ('proxy-connection', 'close')],
    'transfer-encoding': [*GOOD, ('transfer-encoding', 'chunked')],
    'transfer-encoding of the static table': [*GOOD, ('transfer-encoding', '')],
    'upgrade': [*GOOD, ('upgrade', 'websocket')],
    'te': [*GOOD, ('te', 'gzip')],
    'upper-case name': [*GOOD, ('X-One', '1')],
    'name with a blank': [*GOOD, ('x one', '1')],
    'name with a colon': [*GOOD, ('x:one', '1')],
    'empty name': [*GOOD, ('', '1')],
    'value with CR': [*GOOD, ('x-one', '1\r2')],
    'value with LF': [*GOOD, ('x-one', '1\n2')],
    'value with NUL': [*GOOD, ('x-one', '1\x002')],
    'value with DEL': [*GOOD, ('x-one', '1\x7f2')],
    'value with a blank at its end': [*GOOD, ('x-one', '1 ')],
    'value with a blank at its beginning': [*GOOD, ('x-one', ' 1')],
    'value with a tab at its beginning': [*GOOD, ('x-one', '\t1')],
    'value of a blank': [*GOOD, ('x-one', ' ')],
    'name of a colon': [*GOOD, (':', '1')],
    'name outside ASCII': [*GOOD, ('x-\xe9', '1')],
    'no method': without(':method'),
    'no scheme': without(':scheme'),
    'no path': without(':path'),
    'no authority': without(':authority'),
    'empty path': [*without(':path'), (':path', '')],
    'empty method': [*without(':method'), (':method', '')],
    'empty authority': [*without(':authority'), (':authority', '')],
    'path without a slash': [*without(':path'), (':path', 'x')],
    'absolute path': [*without(':path'), (':path', 'http://localhost/')],
    'path with a blank': [*without(':path'), (':path', '/a b')],
    'path with a fragment': [*without(':path'), (':path', '/a#b')],
    'path with CR and LF': [*without(':path'), (':path', '/ HTTP/1.1\r\nHost: x\r\n\r\n')],
    'path outside ASCII': [*without(':path'), (':path', '/\xe9')],
    'asterisk with GET': [*without(':path'), (':path', '*')],
    'method with a blank': [*without(':method'), (':method', 'GET /')],
    'scheme with a colon': [*without(':scheme'), (':scheme', 'http://')],
    'authority with a user': [*without(':authority'), (':authority', 'user@localhost')],
    'authority with a path': [*without(':authority'), (':authority', 'localhost/x')],
    'two methods': [*GOOD, (':method', 'GET')],
    'two paths': [*GOOD, (':path', '/')],
    'unknown pseudo-header field': [*GOOD, (':protocol', 'websocket')],
    'field of responses': [*GOOD, (':status', '200')],
    'pseudo-header field after others': [*without(':path'), ('x-one', '1'), (':path', '/')],
    'another Host': [*GOOD, ('host', 'example.org')],
    'two Hosts': [*GOOD, ('host', 'localhost'), ('host', 'localhost')],
    'bad Host': [*without(':authority'), ('host', 'a b')],
    'content-length without a body': [*GOOD, ('content-length', '5')],
    'negative content-length': [*GOOD, ('content-length', '-1')],
    'two content-lengths': [*GOOD, ('content-length', '0'), ('content-length', '0')],
    'list of content-lengths': [*GOOD, ('content-length', '0, 0')],
    'long content-length': [*GOOD, ('content-length', '0' * 5000)],
    'two content-types': [*GOOD, ('content-type', 'a/b'), ('content-type', 'a/c')],
    'CONNECT with a path': [('x', 'y'), *without(':method'), (':method', 'CONNECT')][1:],
    'CONNECT without a port': [(':method', 'CONNECT'), (':authority', 'localhost')],
    'CONNECT without an authority': [(':method', 'CONNECT')],
    'CONNECT with Host alone': [(':method', 'CONNECT'), ('host', 'localhost:1')],
    'CONNECT with another Host': [(':method', 'CONNECT'), (':authority', 'localhost:1'), ('host', 'localhost:2')],
}


@pytest.mark.parametrize('fields', MALFORMED.values(), ids=MALFORMED)
def test_malformed_request_is_reset(connect_h2: Connect, fields: list[tuple[str, str]]) -> None:
    client = connect_h2(ok)
    response = client.response(client.start_fields(encoded(fields)))
    assert (response.status, response.reset) == (None, 1)
    assert client.response(client.get('/next')).body == b'GET /next'
    assert client.site.server.refusals == {'malformed': 1}


def test_extended_connect_is_refused_with_its_reason(connect_h2: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 8441: a client sends ``:protocol`` only to a server that has offered it in SETTINGS."""
    caplog.set_level(logging.INFO)
    client = connect_h2(ok)
    fields = [*without(':method'), (':method', 'CONNECT'), (':protocol', 'websocket'), ('sec-websocket-version', '13')]
    pseudo = [pair for pair in fields if pair[0].startswith(':')]
    response = client.response(client.start_fields(encoded([*pseudo, fields[-1]]), end=False))
    assert (response.status, response.reset) == (None, 1)
    until(lambda: caplog.records)
    assert 'extended CONNECT (RFC 8441)' in caplog.text
    offered = [dict(event.changed_settings) for event in client.events if isinstance(event, RemoteSettingsChanged)]
    assert not any(SettingCodes.ENABLE_CONNECT_PROTOCOL in settings for settings in offered)


GOOD_ONES = {
    'te': [*GOOD, ('te', 'trailers')],
    'the same Host': [*GOOD, ('host', 'LOCALHOST')],
    'Host alone': [*without(':authority'), ('host', 'localhost')],
    'asterisk': [(':method', 'OPTIONS'), *without(':method')[:2], (':path', '*')],
    'unknown method': [*without(':method'), (':method', 'BREW')],
    'latin-1': [*GOOD, ('x-one', '\xe9')],
    'empty value': [*GOOD, ('x-one', '')],
    'another scheme': [*without(':scheme'), (':scheme', 'https')],
}


@pytest.mark.parametrize('fields', GOOD_ONES.values(), ids=GOOD_ONES)
def test_unusual_request_is_served(connect_h2: Connect, fields: list[tuple[str, str]]) -> None:
    client = connect_h2(ok)
    assert client.response(client.start_fields(encoded(fields))).status == 200


def reader(failures: list[Exception]) -> Callable[[Any, Any], None]:
    """Return a listener that reads the body, and adds the error of it to ``failures``."""

    def listener(request: Any, response: Any) -> None:
        try:
            request.read()
        except Exception as error:
            failures.append(error)
            raise
        response.end(b'complete')

    return listener


@pytest.mark.parametrize(('declared', 'sent'), [('5', b'123'), ('2', b'123'), ('1000000', b'')])
def test_body_of_another_size_is_reset(connect_h2: Connect, declared: str, sent: bytes) -> None:
    failures: list[Exception] = []
    client = connect_h2(reader(failures))
    response = client.response(client.post(sent, '/', ('content-length', declared)))
    assert (response.status, response.reset) == (None, 1)
    assert 'Content-Length' in str(failures[0])
    assert client.response(client.get()).body == b'complete'


@pytest.mark.parametrize(
    'fields',
    [
        [(b':path', b'/')],
        [(b'X-One', b'1')],
        [(b'connection', b'x')],
        [(b'content-length', b'3')],
        [(b'host', b'localhost')],
        [(b'transfer-encoding', b'chunked')],
    ],
)
def test_malformed_trailers_are_reset(connect_h2: Connect, fields: Any) -> None:
    client = connect_h2(lambda request, response: response.end(request.read()))
    number = client.start('POST', '/')
    client.send_data(number, b'abc')
    client.h2.send_headers(number, fields, end_stream=True)
    client.flush()
    assert client.response(number).reset == 1
    assert client.response(client.get()).status == 200


def test_trailers_above_the_limit_are_reset(connect_h2: Connect) -> None:
    failures: list[Exception] = []
    client = connect_h2(reader(failures))
    number = client.start('POST', '/')
    client.h2.send_headers(number, [(b'x-long', b'x' * 17000)], end_stream=True)
    client.flush()
    assert client.response(number).reset == ErrorCode.ENHANCE_YOUR_CALM
    assert 'http2_max_header_list_size' in str(failures[0])
    assert client.site.server.refusals == {'http2_max_header_list_size': 1}


@pytest.mark.parametrize(
    ('options', 'fields', 'status'),
    [
        ({}, [('x-long', 'x' * 17000)], 431),
        ({'max_headers_count': 3}, [('a', '1'), ('b', '2'), ('c', '3')], 431),
        ({'max_field_size': 50}, [('x-long', 'x' * 100)], 431),
        ({'max_body_size': 5}, [('content-length', '6')], 413),
    ],
)
def test_limits_of_a_head(connect_h2: Connect, options: Any, fields: Any, status: int) -> None:
    client = connect_h2(ok, **options)
    number = client.start('POST', '/', *fields)
    client.until(lambda: client.responses[number].over)
    assert client.responses[number].status == status
    assert client.response(client.get('/next')).body == b'GET /next'


@pytest.mark.parametrize('window', ['stream', 'connection', 'small'])
@pytest.mark.parametrize(
    ('options', 'fields', 'status'),
    [({}, [('x-long', 'x' * 17000)], 431), ({'max_body_size': 5}, [('content-length', '6')], 413)],
)
def test_error_response_without_a_window_is_complete(
    connect_h2: Connect, window: str, options: Any, fields: Any, status: int
) -> None:
    """It has no body then: its client would wait for the rest."""
    size = {'stream': 0, 'connection': 1_000_000, 'small': 10}[window]
    client = connect_h2(
        lambda request, response: response.end(bytes(65535)),
        client={'settings': {SettingCodes.INITIAL_WINDOW_SIZE: size}, 'credit': False},
        **options,
    )
    if window == 'connection':
        assert len(client.response(client.get()).body) == 65535
    number = client.start('POST', '/', *fields)
    client.until(lambda: client.responses[number].reset is not None)
    found = client.responses[number]
    assert (found.status, found.body, found.ended, found.reset) == (status, b'', True, 0)
    assert found.headers['content-length'] == '0'


@pytest.mark.parametrize('opens', [True, False])
def test_late_413_without_a_window(connect_h2: Connect, opens: bool) -> None:
    """Its body waits for the window, and is complete or reset."""
    client = connect_h2(
        lambda request, response: response.end(request.read()),
        client={'settings': {SettingCodes.INITIAL_WINDOW_SIZE: 0}},
        max_body_size=1000,
        timeout=60 if opens else 0.2,
    )
    number = client.post(bytes(1001))
    found = client.responses[number]
    client.until(lambda: found.status)
    assert (found.status, found.over) == (413, False)
    if opens:
        client.h2.increment_flow_control_window(1000, number)
        client.flush()
    client.response(number)
    body = b'413 Payload Too Large\n'
    assert (found.body, found.ended, found.reset) == ((body, True, None) if opens else (b'', False, 8))


def test_long_body_without_a_length_gets_413(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: response.end(request.read()), max_body_size=1000)
    number = client.post(bytes(1001))
    assert client.response(number).status == 413
    assert client.response(client.get()).status == 200
