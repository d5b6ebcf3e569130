"""Test that pipelined responses are sent together, and that none is delayed for long, or lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import ConnectionClosed
from geventnode.http.server import connection
from geventnode.http.server.connection import ROUNDS
from tests.servers import Log, Serve, bodies, get, ok, post
from tests.sockets import pair, until

SWITCHING = b'HTTP/1.1 101 Switching Protocols\r\n\r\n'


def test_pipelined_responses_are_sent_together(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is sent alone, so that it does not wait for another."""
    monkeypatch.setattr(connection, 'ROUND_TIME', float('inf'))

    def listener(request: Any, response: Any) -> None:
        if request.url == '/0':
            send = request.socket._sender.send
            request.socket._sender = SimpleNamespace(send=lambda data: sends.append(len(data)) or send(data))
        sends_before.append(len(sends))
        response.end(request.url)

    sends: list[int] = []
    sends_before: list[int] = []
    client = serve(listener).send(b''.join(get(f'/{number}') for number in range(ROUNDS)))
    assert bodies(client, ROUNDS) == [b'/%d' % number for number in range(ROUNDS)]
    assert sends_before == [0, *[1] * (ROUNDS - 1)]


def test_finish_is_emitted_when_the_kernel_has_the_response(serve: Serve) -> None:
    queued: list[int] = []

    def listener(request: Any, response: Any) -> None:
        response.on('finish', lambda: queued.append(request.socket.writable_length))
        response.end(request.url)

    client = serve(listener).send(get() * ROUNDS)
    assert len(bodies(client, ROUNDS)) == ROUNDS
    assert queued == [0] * ROUNDS


def test_no_response_waits_for_a_listener(serve: Serve) -> None:
    """That includes the listener of the next request."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/wait':
            go_on.wait()
        response.end(request.url)

    client = serve(listener).send(get('/0'), get('/1'), get('/2'), get('/wait'), get('/3'))
    assert bodies(client, 3) == [b'/0', b'/1', b'/2']
    go_on.set()
    assert bodies(client, 2) == [b'/wait', b'/3']


def test_a_response_in_pieces_is_sent_in_order(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/pieces':
            response.write('a')
            response.write('b')
        response.end(request.url)

    client = serve(listener).send(b''.join(map(get, ['/0', '/1', '/pieces', '/2', '/pieces'])))
    assert bodies(client, 5) == [b'/0', b'/1', b'ab/pieces', b'/2', b'ab/pieces']


def test_responses_are_sent_when_a_later_one_is_destroyed(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/destroy':
            request.socket.destroy()
        else:
            response.end(request.url)

    client = serve(listener).send(get('/0'), get('/1'), get('/2'), get('/destroy'))
    assert bodies(client, 3) == [b'/0', b'/1', b'/2']
    assert client.rest() == b''


def test_responses_are_sent_when_a_later_listener_raises(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/raise':
            raise ZeroDivisionError
        response.end(request.url)

    client = serve(listener).send(get('/0'), get('/1'), get('/raise'), get('/2'))
    assert bodies(client, 2) == [b'/0', b'/1']
    assert client.response().status == 500
    assert client.rest() == b''
    assert 'the request listener failed' in caplog.text


def test_the_connection_closes_after_the_last_response(serve: Serve) -> None:
    """It does not linger, because the client has ended its direction."""
    client = serve(ok).send(get('/0'), get('/1'), get('/2', 'Connection: close'))
    client.half_close()
    assert len(bodies(client, 3)) == 3
    assert client.rest() == b''


def test_an_upgrade_follows_the_responses(serve: Serve) -> None:
    """Nothing is queued any more, so that the new owner can wrap the socket."""
    queued: list[int] = []
    site = serve(ok)

    @site.server.on('connect')
    def listener(request: Any, socket: Any, head: bytes) -> None:
        queued.append(socket.writable_length)
        socket.end(SWITCHING + head)

    client = site.send(get('/0') + get('/1') + b'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nhello')
    assert len(bodies(client, 2)) == 2
    assert client.rest() == SWITCHING + b'hello'
    assert queued == [0]


def test_request_bodies_are_read_between_two_responses(serve: Serve) -> None:
    client = serve(lambda request, response: response.end(request.read())).send(
        b''.join(post(b'%d' % number) for number in range(5))
    )
    assert bodies(client, 5) == [b'0', b'1', b'2', b'3', b'4']


def test_responses_beyond_the_high_water_mark_are_sent(serve: Serve) -> None:
    """They are flushed in between."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(response.socket.writable_length)
        response.end(bytes(15_000))

    client = serve(listener).send(get() * 3 * ROUNDS)
    assert [len(body) for body in bodies(client, 3 * ROUNDS)] == [15_000] * 3 * ROUNDS
    assert max(log) <= 65_536 + 16_384


def test_the_idle_time_begins_after_the_last_response(serve: Serve) -> None:
    """It does not depend on the time that the listeners took."""

    def listener(request: Any, response: Any) -> None:
        request.socket._last_activity = 0.0
        response.end(request.url)

    site = serve(listener)
    client = site.send(get('/0'), get('/1'))
    assert bodies(client, 2) == [b'/0', b'/1']
    assert [sink.began > 0 for sink in site.server._protocols()] == [True]


def test_no_upgrade_follows_responses_that_were_not_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed, and its requests are counted once."""
    monkeypatch.setattr(connection, 'ROUND_TIME', float('inf'))

    def listener(request: Any, response: Any) -> None:
        response.end(request.url)
        if request.url == '/1':
            request.socket._sender = SimpleNamespace(send=broken)

    site = serve(listener)
    upgraded: list[Any] = []
    site.server.on('connect', lambda *args: upgraded.append(args))
    client = site.send(get('/0') + get('/1') + b'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')
    assert bodies(client, 1) == [b'/0']
    assert client.rest() == b''
    assert site.server._past_requests == 3
    assert upgraded == []


# -- the socket's part ------------------------------------------------------------------------------------------------


def test_send_later_is_sent_with_the_next_send() -> None:
    with pair() as (near, far):
        near._send_later(b'a')
        near._send_later(b'b')
        assert near.writable_length == 2
        assert near._send(b'c') is True
        assert near.writable_length == 0
        assert far.recv(10) == b'abc'


def test_send_later_is_sent_in_the_next_turn() -> None:
    with pair() as (near, far):
        near._send_later(b'a')
        until(lambda: not near.writable_length)
        assert far.recv(10) == b'a'
        assert near.bytes_written == 1


@pytest.mark.parametrize('end', ['end', 'destroy'])
def test_send_later_is_sent_before_the_end(end: str) -> None:
    with pair() as (near, far):
        near._send_later(b'a')
        getattr(near, end)()
        assert far.recv(10) == b'a'
        assert far.recv(10) == b''


def test_send_later_is_sent_after_the_queue() -> None:
    with pair(small=True) as (near, far):
        while near._send(bytes(65536)):
            pass
        left = near.writable_length
        near._send_later(b'a')
        assert near._send(b'b') is False
        assert near.writable_length == left + 2
        sent = near.bytes_written
        received = 0
        while received < sent:
            data = far.recv(65536)
            received += len(data)
        assert data.endswith(b'ab')


def test_send_later_raises_on_a_closed_socket() -> None:
    with pair() as (near, _):
        near.destroy()
        with pytest.raises(ConnectionClosed):
            near._send_later(b'a')


def broken(*args: Any) -> int:
    """Replace a socket's ``send`` after the peer has disconnected."""
    raise BrokenPipeError


def test_the_error_of_destroy_wins_over_one_of_the_flush() -> None:
    """The delayed bytes cannot be sent any more."""
    with pair() as (near, _):
        near._send_later(b'a')
        near._sender = SimpleNamespace(send=broken)
        errors: list[BaseException] = []
        near.on('error', errors.append)
        reason = ValueError('enough')
        near.destroy(reason)
        until(lambda: errors)
        assert errors == [reason]


def test_delayed_bytes_are_dropped_when_the_connection_breaks() -> None:
    """The next send raises."""
    with pair() as (near, _):
        near._send_later(b'a')
        near._sender = SimpleNamespace(send=broken)
        near._send_some = broken
        with pytest.raises(ConnectionClosed):
            near._send(b'b')
        assert near.destroyed
        gevent.idle()
