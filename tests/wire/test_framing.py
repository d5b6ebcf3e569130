"""Attacks on framing that need more than one message, or a server that responds.

A single message is in the case files. See RFC 9112, sections 6 to 9.
"""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode.errors import IncompleteBody
from tests.servers import Log, Serve, get, ok, post
from tests.sockets import settle, until


def test_content_length_with_transfer_encoding_gets_one_response(serve: Serve) -> None:
    seen: list[str] = []
    site = serve(lambda request, response: (seen.append(request.url), response.end()))
    client = site.send(
        get('/', 'Content-Length: 6', 'Transfer-Encoding: chunked', method='POST'), b'0\r\n\r\n', get('/x')
    )
    assert client.response().status == 400
    assert client.rest() == b''
    assert seen == []


def test_field_with_an_underscore_is_another_field(serve: Serve) -> None:
    site = serve(lambda request, response: response.end(str(len(request.read()))))
    client = site.send(get('/', 'Transfer_Encoding: chunked', 'Content_Length: 5'))
    assert client.response().body == b'0'


@pytest.mark.parametrize(
    'field', ['Content-Length: 5', 'Transfer-Encoding: chunked', 'Host: evil', 'Authorization: Basic eA==']
)
def test_trailers_are_never_headers(serve: Serve, field: str) -> None:
    found: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        before = dict(request.headers)
        request.read()
        found.append((before, dict(request.headers)))
        response.end()

    name = field.partition(':')[0].lower()
    client = serve(listener).send(
        get('/', 'Transfer-Encoding: chunked', method='POST') + f'0\r\n{field}\r\n\r\n'.encode() + get('/next')
    )
    if client.response().status == 200:
        before, after = found[0]
        assert before == after
        assert after.get(name) != field.partition(': ')[2] or name == 'transfer-encoding'


@pytest.mark.parametrize(
    'body',
    [
        post(b'half', length=10),
        get('/', 'Transfer-Encoding: chunked', method='POST') + b'a\r\nhalf',
        get('/', 'Transfer-Encoding: chunked', method='POST') + b'4\r\nhalf\r\n0\r\n',
    ],
)
def test_end_of_stream_inside_a_body_is_not_the_end_of_the_body(serve: Serve, body: bytes) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            request.read()
        except IncompleteBody:
            log.append('incomplete')
        else:
            log.append('complete')
        response.end()

    serve(listener).send(body).half_close().rest()
    log.wait_for_length(1)
    assert log == ['incomplete']


@pytest.mark.parametrize('size', [10, 60_000, 200_000])
def test_unread_body_is_never_a_request(serve: Serve, size: int) -> None:
    seen: list[str] = []
    site = serve(lambda request, response: (seen.append(request.url), response.end('early')))
    smuggled = (get('/smuggled') * (size // len(get('/smuggled')) + 1))[:size]
    client = site.connect()
    sending = gevent.spawn(client.send, post(smuggled, '/first'), get('/second', 'Connection: close'))
    assert client.response().body == b'early'
    client.rest()
    sending.kill()
    assert '/smuggled' not in seen


@pytest.mark.parametrize('reads', [True, False])
def test_final_response_to_expect_closes_the_connection(serve: Serve, reads: bool) -> None:
    """Without 100 Continue the client may send the body or not."""

    def listener(request: Any, response: Any) -> None:
        if reads:
            request.read()
        response.end('final')

    client = serve(listener).send(get('/', 'Expect: 100-continue', 'Content-Length: 14', method='POST'))
    if reads:
        assert client.head().status == 100
        client.send(b'GET /x HTTP/1.')
        assert client.response().body == b'final'
        assert client.get('/again').status == 200
    else:
        assert client.head().status == 200
        assert client.exactly(5) == b'final'
        client.send(b'GET /x HTTP/1.')
        assert client.rest() == b''


def test_expect_in_http_1_0_is_ignored(serve: Serve) -> None:
    client = serve(lambda request, response: response.end(request.read())).send(
        get('/', 'Expect: 100-continue', 'Content-Length: 2', method='POST', version='1.0') + b'hi'
    )
    assert client.head().status == 200


def test_unknown_expectation_is_a_417(serve: Serve) -> None:
    assert serve(ok).send(get('/', 'Expect: the unexpected')).response().status == 417


def test_pipelined_responses_keep_their_order(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/0':
            gevent.idle()
        response.end(request.url)

    client = serve(listener).send(b''.join(get(f'/{number}') for number in range(20)))
    assert [client.response().body for _ in range(20)] == [f'/{number}'.encode() for number in range(20)]


def test_error_response_follows_earlier_responses(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write('half ')
        settle()
        response.end('and half')

    client = serve(listener).send(get('/good') + b'BAD\r\n\r\n')
    assert client.response().body == b'half and half'
    assert client.response().status == 400
    assert client.rest() == b''


def test_reading_stops_while_responses_are_queued(serve: Serve) -> None:
    """A flood of pipelined requests does not fill the memory with responses."""
    served: list[str] = []
    body = bytes(1_000_000)

    def listener(request: Any, response: Any) -> None:
        served.append(request.url)
        response.end(body)

    site = serve(listener)
    client = site.connect()
    sending = gevent.spawn(client.send, get('/x') * 1000)
    until(lambda: served)
    settle()
    assert len(served) < 50
    (socket,) = site.server._sockets
    assert socket.writable_length <= 2 * len(body)
    sending.kill()


def test_no_request_is_served_after_connection_close(serve: Serve) -> None:
    seen: list[str] = []
    site = serve(lambda request, response: (seen.append(request.url), response.end()))
    client = site.send(get('/last', 'Connection: close') + get('/more') + b'garbage')
    assert client.response().status == 200
    assert client.rest() == b''
    assert seen == ['/last']


def test_no_byte_is_parsed_after_an_upgrade(serve: Serve) -> None:
    site = serve(ok)
    taken: list[bytes] = []

    def take(request: Any, socket: Any, head: bytes) -> None:
        taken.append(head + socket.read())
        socket.end(b'done')

    site.server.on('upgrade', take)
    client = site.send(get('/', 'Connection: Upgrade', 'Upgrade: x') + get('/not-http')).half_close()
    assert client.rest() == b'done'
    assert taken == [get('/not-http')]


@pytest.mark.parametrize(('method', 'status'), [('HEAD', 200), ('GET', 204), ('GET', 304), ('HEAD', 404)])
def test_response_without_a_body_sends_none(serve: Serve, method: str, status: int) -> None:
    """The bytes that the listener writes are dropped."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(status)
        response.write('HTTP/1.1 200 OK\r\n\r\n')
        response.end('smuggled')

    client = serve(listener).send(get('/1', method=method), get('/2', method=method))
    for _ in range(2):
        answer = client.response(method)
        assert answer.status == status
        assert status != 204 or not (answer.values('Content-Length') or answer.values('Transfer-Encoding'))
