"""Test deadlines after a stall of the loop: a peer that was in time is not late.

The tests do not wait: they make all owners of deadlines older, and sweep while the data of the peers is still in the
kernel. A loop is in that state after a stall, because the kernel reports only some of the descriptors at a time.
"""

from __future__ import annotations

import contextlib
import ssl
from time import monotonic
from typing import Any
from unittest import mock

import gevent
import pytest

from geventnode import http, https, websocket
from geventnode.errors import RequestTimeout, WebSocketClosed
from geventnode.net.deadlines import NEVER, Deadlines, deadlines
from tests.certificates import Certificates, TLSEnd
from tests.origins import HELLO, MakeOrigin, Peer
from tests.servers import Log, Serve, get, ok, post
from tests.sockets import dial, pair, settle, until

#: A limit in seconds that no test reaches, and the length of the imitated stall.
LIMIT, STALL = 60, 100

#: Sixteen bytes in Base64 (RFC 6455, section 4.1).
KEY = 'MDEyMzQ1Njc4OWFiY2RlZg=='


def stall() -> None:
    """Imitate a stall of the loop, and sweep the deadlines."""
    looking = deadlines(gevent.get_hub())
    looking._next_sweep -= STALL
    for owner in looking._owners:
        for thing in (owner, getattr(owner, 'socket', owner)):
            for name in ('_expires', 'began', 'since', '_last_activity', '_last_sent', 'opened_at'):
                if hasattr(thing, name):
                    setattr(thing, name, getattr(thing, name) - STALL)
    _sweep()


def _sweep() -> None:
    # in the hub, before it polls the kernel
    gevent.get_hub().loop.run_callback(deadlines(gevent.get_hub())._sweep)
    gevent.sleep(0)


@pytest.mark.parametrize('in_time', [True, False])
@pytest.mark.parametrize(
    ('setting', 'before', 'meanwhile', 'late'),
    [
        ('headers_timeout', b'GET / HTTP/1.1\r\nHo', b'st: x\r\n\r\n', 408),
        ('request_timeout', post(b'ha', length=4), b'lf', 408),
        ('timeout', post(b'ha', length=4), b'lf', 408),
        ('keep_alive_timeout', get('/first'), get('/second'), None),
    ],
)
def test_a_server(serve: Serve, setting: str, before: bytes, meanwhile: bytes, late: int | None, in_time: bool) -> None:
    def listener(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        request.read()
        response.end('in time')

    others = dict.fromkeys(('headers_timeout', 'request_timeout', 'timeout', 'keep_alive_timeout'), 0)
    client = serve(listener, **{**others, setting: LIMIT}).connect().send(before)
    settle()
    if setting == 'keep_alive_timeout':
        assert client.response().body == b'in time'
    if in_time:
        client.send(meanwhile)
    stall()
    if in_time:
        assert client.response().body == b'in time'
    elif late:
        assert client.response().status == late
    else:
        assert client.rest() == b''


def test_a_stalled_peer_that_has_read_is_in_time(serve: Serve) -> None:
    body = bytes(30_000_000)
    site = serve(lambda request, response: response.end(body), timeout=LIMIT)
    client = site.connect().send(get())
    until(lambda: site.server._sockets)
    (socket,) = site.server._sockets
    until(lambda: socket.writable_length)
    settle()
    # all bytes in the kernel, without a turn of the loop
    with contextlib.suppress(BlockingIOError):
        while True:
            client._buffer += client.socket._sock.recv(1_000_000)
    stall()
    assert client.response().body == body


@pytest.mark.parametrize('reads', [True, False])
def test_a_websocket_that_reads_slowly_is_in_time(serve: Serve, reads: bool) -> None:
    """The kernel does not report the little room that it makes."""
    site = serve(ok)
    ended = Log()

    @site.server.on('upgrade')
    def upgraded(request: Any, socket: Any, head: bytes) -> None:
        accepted = websocket.accept(request, socket, head, ping_interval=LIMIT, ping_timeout=LIMIT)
        ended.append(accepted)
        with contextlib.suppress(WebSocketClosed):
            accepted.send(bytes(30_000_000))
        ended.append('ended')

    fields = 'Connection: upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13', f'Sec-WebSocket-Key: {KEY}'
    client = site.connect().send(get('/', *fields))
    ended.wait_for_length(1)
    socket = ended[0].socket
    until(lambda: socket.writable_length)
    settle()
    if reads:
        # without a turn of the loop
        client.socket._sock.recv(1_000_000)
    socket._last_sent = socket._last_activity = 0.0
    ended[0]._on_deadline(monotonic())
    assert socket.destroyed is not reads
    client.close()
    ended.wait_for('ended')


def test_a_stalled_peer_that_has_not_read_is_late(serve: Serve) -> None:
    site = serve(lambda request, response: response.end(bytes(30_000_000)), timeout=LIMIT)
    client = site.connect().send(get())
    until(lambda: site.server._sockets)
    (socket,) = site.server._sockets
    until(lambda: socket.writable_length)
    settle()
    stall()
    until(lambda: socket.destroyed)
    client.rest()


@pytest.mark.parametrize('in_time', [True, False])
def test_a_client(origin: MakeOrigin, in_time: bool) -> None:
    asked: list[Peer] = []

    def script(peer: Peer) -> None:
        peer.request()
        asked.append(peer)
        peer.closed()

    request = http.get(origin(script).url, timeout=LIMIT)
    until(lambda: asked)
    if in_time:
        asked[0].send(HELLO)
    stall()
    if in_time:
        assert request.get_response().read() == b'hello'
    else:
        with pytest.raises(RequestTimeout):
            request.get_response()


@pytest.mark.parametrize('in_time', [True, False])
def test_a_handshake(serve: Serve, certificates: Certificates, in_time: bool) -> None:
    site = serve(https.create_server(ok, certfile=certificates.server, handshake_timeout=LIMIT))
    end = TLSEnd(dial(site.server), certificates.client_context(), servername='localhost')
    until(lambda: site.server.get_connections())
    if in_time:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.object.do_handshake()
        end._flush()
    stall()
    with contextlib.closing(end):
        if in_time:
            end.handshake()
        else:
            with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
                end.handshake()


@pytest.mark.parametrize('in_time', [True, False])
def test_a_socket(in_time: bool) -> None:
    told: list[object] = []
    with pair() as (near, far):
        near.set_timeout(LIMIT, lambda: told.append(near))
        settle()
        if in_time:
            far.sendall(b'x')
        stall()
        settle()
        assert told == ([] if in_time else [near])


def test_grace_after_a_stall_is_limited(serve: Serve) -> None:
    """A peer that keeps sending is late in the end."""
    site = serve(ok, headers_timeout=LIMIT)
    client = site.connect().send(b'GET / HT')
    settle()
    client.send(b'x')
    looking = deadlines(gevent.get_hub())
    stall()
    assert site.server.get_connections() == 1
    looking._stalled_until = 0
    _sweep()
    assert client.response().status == 408


@pytest.mark.parametrize('near', [-1.0, 0.0, 0.0001, 0.0009, 0.002])
def test_no_timer_is_shorter_than_a_millisecond(near: float) -> None:
    """gevent warns of that on libuv; where warnings are errors, it frees a timer that libuv still refers to."""

    class Owner:
        _expires = 1000.0 + near

        def _on_deadline(self, now: float) -> None:
            """Do nothing."""

    timers = mock.Mock()
    with mock.patch('geventnode.net.deadlines.monotonic', return_value=1000.0):
        Deadlines(timers).watch(Owner())
    times = [call.args[0] for call in timers.timer.call_args_list]
    assert len(times) == 2
    assert min(times) >= 0.001


class _Owner:
    _expires = NEVER

    def _on_deadline(self, now: float) -> None:
        raise AssertionError('it has no deadline')


def test_the_loop_runs_on_for_awaited_deadlines_only() -> None:
    """The timer of the sweep would otherwise keep each program running."""
    found = Deadlines(gevent.get_hub().loop)
    owners: Any = [_Owner() for _ in range(3)]
    found.watch(owners[0])
    assert not found._timer.ref
    found.watch(owners[1], awaited=True)
    found.watch(owners[2], awaited=True)
    found.forget(owners[1])
    assert found._timer.ref
    found.forget(owners[2])
    assert not found._timer.ref
    found.forget(owners[0])
    assert found._timer is None
