"""Answers to pipelined requests leave together, which only the kernel notices: none is held back, none is lost."""

from __future__ import annotations

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


def test_they_leave_together(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the first, for which nobody shall wait."""
    monkeypatch.setattr(connection, 'ROUND_TIME', float('inf'))

    def listener(request: Any, response: Any) -> None:
        if request.url == '/0':
            send = request.socket._try_send
            request.socket._try_send = lambda data: sends.append(len(data)) or send(data)
        sends_before.append(len(sends))
        response.end(request.url)

    sends: list[int] = []
    sends_before: list[int] = []
    client = serve(listener).send(b''.join(get(f'/{number}') for number in range(ROUNDS)))
    assert bodies(client, ROUNDS) == [b'/%d' % number for number in range(ROUNDS)]
    assert sends_before == [0, *[1] * (ROUNDS - 1)]


def test_who_listens_hears_the_truth(serve: Serve) -> None:
    """'finish' says that the kernel has it."""
    queued: list[int] = []

    def listener(request: Any, response: Any) -> None:
        response.on('finish', lambda: queued.append(request.socket.writable_length))
        response.end(request.url)

    client = serve(listener).send(get() * ROUNDS)
    assert len(bodies(client, ROUNDS)) == ROUNDS
    assert queued == [0] * ROUNDS


def test_none_waits_for_a_listener(serve: Serve) -> None:
    """Not even for the one that comes next."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/wait':
            go_on.wait()
        response.end(request.url)

    client = serve(listener).send(get('/0'), get('/1'), get('/2'), get('/wait'), get('/3'))
    assert bodies(client, 3) == [b'/0', b'/1', b'/2']
    go_on.set()
    assert bodies(client, 2) == [b'/wait', b'/3']


def test_what_is_written_in_pieces_stays_in_order(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/pieces':
            response.write('a')
            response.write('b')
        response.end(request.url)

    client = serve(listener).send(b''.join(map(get, ['/0', '/1', '/pieces', '/2', '/pieces'])))
    assert bodies(client, 5) == [b'/0', b'/1', b'ab/pieces', b'/2', b'ab/pieces']


def test_none_is_lost_when_a_later_one_is_destroyed(serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/destroy':
            request.socket.destroy()
        else:
            response.end(request.url)

    client = serve(listener).send(get('/0'), get('/1'), get('/2'), get('/destroy'))
    assert bodies(client, 3) == [b'/0', b'/1', b'/2']
    assert client.rest() == b''


def test_none_is_lost_when_a_later_listener_raises(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/raise':
            raise ZeroDivisionError
        response.end(request.url)

    client = serve(listener).send(get('/0'), get('/1'), get('/raise'), get('/2'))
    assert bodies(client, 2) == [b'/0', b'/1']
    assert client.response().status == 500
    assert client.rest() == b''
    assert 'the request listener failed' in caplog.text


def test_the_connection_ends_behind_them(serve: Serve) -> None:
    """At once: the client has ended its side, and nothing is left to wait for."""
    client = serve(ok).send(get('/0'), get('/1'), get('/2', 'Connection: close'))
    client.half_close()
    assert len(bodies(client, 3)) == 3
    assert client.rest() == b''


def test_another_protocol_comes_behind_them(serve: Serve) -> None:
    """With nothing queued: whoever takes the socket over may want to wrap it."""
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


def test_bodies_come_between(serve: Serve) -> None:
    client = serve(lambda request, response: response.end(request.read())).send(
        b''.join(post(b'%d' % number) for number in range(5))
    )
    assert bodies(client, 5) == [b'0', b'1', b'2', b'3', b'4']


def test_more_than_may_be_queued(serve: Serve) -> None:
    """Answers that are together longer than the queue may be are flushed in between."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(response.socket.writable_length)
        response.end(bytes(15_000))

    client = serve(listener).send(get() * 3 * ROUNDS)
    assert [len(body) for body in bodies(client, 3 * ROUNDS)] == [15_000] * 3 * ROUNDS
    assert max(log) <= 65_536 + 16_384


def test_the_connection_is_idle_from_the_last_of_them_on(serve: Serve) -> None:
    """However long their listeners took."""

    def listener(request: Any, response: Any) -> None:
        request.socket._last_activity = 0.0
        response.end(request.url)

    site = serve(listener)
    client = site.send(get('/0'), get('/1'))
    assert bodies(client, 2) == [b'/0', b'/1']
    assert [sink.began > 0 for sink in site.server._protocols()] == [True]


def test_no_other_protocol_behind_those_that_were_not_taken(serve: Serve) -> None:
    """The connection is over, and its requests are counted once."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.url)
        if request.url == '/1':
            request.socket._try_send = broken

    site = serve(listener)
    handed_over: list[Any] = []
    site.server.on('connect', lambda *args: handed_over.append(args))
    client = site.send(get('/0') + get('/1') + b'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')
    assert bodies(client, 1) == [b'/0']
    assert client.rest() == b''
    assert site.server._past_requests == 3
    assert handed_over == []


# -- the socket's part ------------------------------------------------------------------------------------------------


def test_put_soon_leaves_with_what_is_put_next() -> None:
    with pair() as (near, far):
        near._send_later(b'a')
        near._send_later(b'b')
        assert near.writable_length == 2
        assert near._send(b'c') is True
        assert near.writable_length == 0
        assert far.recv(10) == b'abc'


def test_put_soon_leaves_by_itself() -> None:
    with pair() as (near, far):
        near._send_later(b'a')
        until(lambda: not near.writable_length)
        assert far.recv(10) == b'a'
        assert near.bytes_written == 1


@pytest.mark.parametrize('end', ['end', 'destroy'])
def test_put_soon_leaves_before_the_end(end: str) -> None:
    with pair() as (near, far):
        near._send_later(b'a')
        getattr(near, end)()
        assert far.recv(10) == b'a'
        assert far.recv(10) == b''


def test_put_soon_behind_what_the_kernel_does_not_take() -> None:
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


def test_put_soon_when_it_is_too_late() -> None:
    with pair() as (near, _):
        near.destroy()
        with pytest.raises(ConnectionClosed):
            near._send_later(b'a')


def broken(*args: Any) -> int:
    """Stand in for a socket's ``send`` when the peer has gone."""
    raise BrokenPipeError


def test_why_the_connection_ends_is_said_by_who_ends_it() -> None:
    """Even if what waited can't be sent any more."""
    with pair() as (near, _):
        near._send_later(b'a')
        near._try_send = broken
        told: list[BaseException] = []
        near.on('error', told.append)
        reason = ValueError('enough')
        near.destroy(reason)
        until(lambda: told)
        assert told == [reason]


def test_what_waits_when_the_connection_breaks() -> None:
    """Is dropped with it, and whoever puts more is told."""
    with pair() as (near, _):
        near._send_later(b'a')
        near._try_send = near._send_some = broken
        with pytest.raises(ConnectionClosed):
            near._send(b'b')
        assert near.destroyed
        gevent.idle()
