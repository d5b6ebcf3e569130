"""Informational responses, and responses before the end of the request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import ConnectionClosed, ParseError
from tests.origins import HELLO, MakeOrigin, Peer, read
from tests.sockets import settle, until

# -- informational responses ------------------------------------------------------------------------------------------


def test_informational_responses_are_emitted(origin: MakeOrigin) -> None:
    log: list[Any] = []
    said = (
        b'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n'
        b'HTTP/1.1 100 Continue\r\n\r\n' + HELLO
    )
    request = http.get(origin(said).url)
    request.on('information', lambda head: log.append((head.status_code, head.status_message, head.headers)))
    request.on('continue', lambda: log.append('continue'))
    request.on('response', lambda response: log.append(response.status_code))
    assert request.get_response().read() == b'hello'
    settle()
    assert log == [
        (102, 'Processing', {}),
        (103, 'Early Hints', {'link': '</a>, </b>'}),
        'continue',
        (100, 'Continue', {}),
        200,
    ]


@pytest.mark.parametrize('count', [32, 33])
def test_flood_of_informational_responses_fails_the_request(origin: MakeOrigin, count: int) -> None:
    request = http.get(origin(b'HTTP/1.1 102 Processing\r\n\r\n' * count + HELLO).url)
    if count == 32:
        assert request.get_response().read() == b'hello'
    else:
        with pytest.raises(ParseError, match='max_informational'):
            request.get_response()


def test_wait_continue_returns_true_after_100(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        head = peer.until(b'\r\n\r\n')
        assert b'Expect: 100-continue\r\n' in head
        peer.send(b'HTTP/1.1 100 Continue\r\n\r\n')
        assert peer.until(b'0\r\n\r\n') == b'4\r\nbody\r\n0\r\n\r\n'
        peer.send(HELLO)

    request = http.request(origin(script).url, method='PUT', headers={'Expect': '100-continue'})
    assert request.wait_continue(60)
    request.write('body')
    request.end()
    assert request.get_response().read() == b'hello'


def test_wait_continue_returns_false_after_a_final_response(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n')
        assert peer.closed()

    request = http.request(origin(script).url, method='PUT', headers={'Expect': '100-continue'}, agent=pool)
    assert not request.wait_continue()
    assert request.get_response().status_code == 417
    until(lambda: not pool.sockets)
    with pytest.raises(ConnectionClosed):
        request.write('body')
    assert not pool.free_sockets


def test_wait_continue_returns_true_after_its_timeout(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        assert peer.until(b'0\r\n\r\n').endswith(b'4\r\nbody\r\n0\r\n\r\n')
        peer.send(HELLO)

    request = http.request(origin(script).url, method='PUT', headers={'Expect': '100-continue'})
    assert request.wait_continue(0.01)
    request.write('body')
    request.end()
    assert request.get_response().read() == b'hello'


def test_body_option_waits_for_100_continue(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        assert peer.until(b'\r\n\r\n')
        settle()
        assert not peer._buffer
        peer.send(b'HTTP/1.1 100 Continue\r\n\r\n')
        assert peer.exactly(4) == b'body'
        peer.send(HELLO)

    request = http.request(origin(script).url, method='PUT', headers={'Expect': '100-continue'}, body='body')
    assert request.get_response().read() == b'hello'


def test_expectation_that_is_set_later_is_respected(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        assert b'Expect: 100-Continue\r\n' in peer.until(b'\r\n\r\n')
        settle()
        assert not peer._buffer
        peer.send(b'HTTP/1.1 100 Continue\r\n\r\n')
        assert peer.exactly(4) == b'body'
        peer.send(HELLO)

    request = http.request(origin(script).url, method='PUT')
    request.set_header('Expect', '100-Continue')
    request.end('body')
    assert request.get_response().read() == b'hello'


def test_body_option_is_not_sent_after_a_final_response(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        assert peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\nno')
        assert peer.closed()

    request = http.request(origin(script).url, method='PUT', headers={'Expect': '100-continue'}, body='body')
    assert request.get_response().read() == b'no'


# -- early responses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('then', ['close', 'reset', 'wait'])
def test_early_response_is_delivered_although_the_upload_fails(origin: MakeOrigin, then: str) -> None:
    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno')
        if then == 'wait':
            answered.wait()

    answered = Event()
    request = http.request(origin(script).url, method='POST', body=(bytes(65536) for _ in range(1000)))
    response = request.get_response()
    assert (response.status_code, response.read()) == (413, b'no')
    answered.set()
    until(lambda: request.socket is None or request.socket.destroyed)


def test_early_rejection_ends_the_upload(origin: MakeOrigin, agent: Any) -> None:
    """RFC 9112, section 9.5. The server never stops reading."""

    def script(peer: Peer) -> None:
        if peer.until(b'\r\n\r\n').startswith(b'POST'):
            peer.send(b'HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno')
            peer.rest()
        else:
            peer.send(HELLO)

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)

    pool, server = agent(max_sockets=1), origin(script)
    assert http.request(server.url, method='POST', body=endless(), agent=pool).get_response().read() == b'no'
    assert read(server.url, agent=pool) == b'hello'


def test_early_response_is_delivered_to_a_writer(origin: MakeOrigin) -> None:
    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno')

    request = http.request(origin(script).url, method='POST')

    def write_on() -> None:
        while True:
            request.write(bytes(65536))
            gevent.idle()

    with pytest.raises(ConnectionClosed):
        write_on()
    assert request.get_response().read() == b'no'


def test_connection_is_reused_after_the_request_was_sent(origin: MakeOrigin, agent: Any) -> None:
    pool = agent(keep_alive=True)

    def script(peer: Peer) -> None:
        peer.until(b'\r\n\r\n')
        peer.send(HELLO)
        assert peer.until(b'0\r\n\r\n') == b'4\r\nmore\r\n0\r\n\r\n'
        peer.request()
        peer.send(HELLO)

    server = origin(script)
    request = http.request(server.url, method='POST', agent=pool)
    request.flush_headers()
    assert request.get_response().read() == b'hello'
    assert not pool.free_sockets
    request.end('more')
    assert pool.free_sockets
    assert http.get(server.url, agent=pool).get_response().read() == b'hello'
