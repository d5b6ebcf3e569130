"""Attacks on time and memory: everything has a limit, and exceeding it has one clear response."""

from __future__ import annotations

import logging
import sys
from typing import Any

import gevent
import pytest

from tests.servers import Log, Serve, get, ok, post
from tests.sockets import settle, until

SHORT = 0.05


@pytest.mark.parametrize(
    ('data', 'status'),
    [
        (get('/' + 'x' * 8000), 200),
        (get('/' + 'x' * 20_000), 414),
        (get('/', 'X-Long: ' + 'x' * 20_000), 431),
        (get('/', *['X: y'] * 5000), 431),
        (get('/', *[f'X{number}: y' for number in range(1001)]), 431),
        (get('/', *['X: y'] * 900), 200),
    ],
)
def test_long_or_many_fields_are_refused(serve: Serve, data: bytes, status: int) -> None:
    client = serve(ok, max_header_size=16384).send(data)
    assert client.response().status == status


def test_limit_is_checked_while_reading(serve: Serve) -> None:
    """And not at the end of an endless head."""
    client = serve(ok).connect()
    sending = gevent.spawn(
        lambda: [
            client.send(b'GET / HTTP/1.1\r\nHost: x\r\n'),
            *(client.send(b'X-Endless: ' + b'x' * 1000 + b'\r\n') for _ in range(100)),
        ]
    )
    assert client.response().status == 431
    sending.kill()


@pytest.mark.parametrize('limit', [100, None])
def test_long_body_is_refused(serve: Serve, limit: int | None) -> None:
    site = serve(lambda request, response: response.end(str(len(request.read()))), max_body_size=limit)
    assert site.send(post(b'x' * 100)).response().body == b'100'
    for data in (
        post(b'x' * 101),
        get('/', 'Transfer-Encoding: chunked', method='POST') + b'65\r\n' + b'x' * 101 + b'\r\n0\r\n\r\n',
    ):
        assert site.send(data).response().status == (200 if limit is None else 413)


def test_silent_client_is_closed_without_a_response(serve: Serve) -> None:
    """It could take a response for that of its next request."""
    serve(ok, headers_timeout=SHORT).connect().assert_closed()


@pytest.mark.parametrize('said', [b'G', b'GET / HTTP/1.1\r\nHo'])
def test_slow_head_is_a_408(serve: Serve, said: bytes) -> None:
    client = serve(ok, headers_timeout=SHORT).send(said)
    assert client.response().status == 408
    assert client.rest() == b''


def test_slow_body_is_a_408(serve: Serve) -> None:
    client = serve(lambda request, response: request.read(), request_timeout=SHORT).send(post(b'x', length=10))
    assert client.response().status == 408
    assert client.rest() == b''


def test_slow_reader_is_limited(serve: Serve) -> None:
    """It holds a limited part of the response in memory, for a limited time."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            while True:
                response.write(bytes(65536))
        finally:
            log.append('over')

    site = serve(listener, timeout=SHORT)
    client = site.send(get())
    until(lambda: site.server._sockets)
    (socket,) = site.server._sockets
    until(lambda: socket.writable_length)
    settle()
    assert socket.writable_length <= socket.writable_high_water_mark + 65536 + 100
    log.wait_for('over')
    assert not site.server.get_connections()
    client.rest()


def test_idle_connection_is_closed(serve: Serve) -> None:
    client = serve(ok, keep_alive_timeout=SHORT).connect()
    assert client.get().status == 200
    assert client.rest() == b''


def test_idle_time_is_advertised(serve: Serve) -> None:
    assert serve(ok, keep_alive_timeout=7).connect().get().values('Keep-Alive') == ['timeout=7']


def test_connection_beyond_the_limit_is_closed(serve: Serve) -> None:
    site = serve(ok, max_connections=2)
    kept = [site.connect() for _ in range(2)]
    assert [client.get().status for client in kept] == [200, 200]
    assert site.connect().rest() == b''
    kept[0].close()
    until(lambda: site.server.get_connections() == 1)
    assert site.get().status == 200


@pytest.mark.parametrize(
    'failure', [ValueError('x'), gevent.GreenletExit(), gevent.Timeout(1), KeyboardInterrupt(), BaseException('x')]
)
def test_listener_that_raises_ends_only_its_connection(
    serve: Serve, caplog: pytest.LogCaptureFixture, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    # otherwise system errors reach the main greenlet, as they do in gevent
    monkeypatch.setattr(gevent.get_hub(), 'handle_error', lambda *args: None)

    def listener(request: Any, response: Any) -> None:
        if request.url == '/fails':
            raise failure
        response.end('well')

    site = serve(listener)
    other = site.connect()
    assert other.get().body == b'well'
    said = site.send(get('/fails')).rest()
    assert said == b'' or said.startswith(b'HTTP/1.1 500 ')
    assert other.get().body == b'well'
    assert site.get().body == b'well'
    until(lambda: site.server.get_connections() == 1)


@pytest.mark.parametrize('request_line', ['GET', 'CONNECT'])
def test_listener_that_exits_ends_only_its_connection(
    serve: Serve, caplog: pytest.LogCaptureFixture, request_line: str
) -> None:
    """``sys.exit()`` in a view, or in a function that it calls, would end all other requests."""

    def listener(request: Any, *args: Any) -> None:
        if request.url != '/well':
            sys.exit(3)
        args[0].end('well')

    site = serve(listener)
    site.server.on('connect', listener)
    said = site.send(get('a:1', method=request_line)).rest() if request_line == 'CONNECT' else site.get('/').status
    assert said in (b'', 500)
    assert site.get('/well').body == b'well'
    assert 'listener failed' in caplog.text


def test_traceback_is_logged_and_never_sent(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        raise ValueError('the password is secret')

    with caplog.at_level(logging.ERROR):
        answer = serve(listener).get()
    assert (answer.status, answer.closes) == (500, True)
    assert b'secret' not in answer.body
    assert len(caplog.records) == 1
