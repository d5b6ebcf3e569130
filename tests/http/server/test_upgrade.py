"""Connections that go over to another protocol: 'upgrade' and 'connect'."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode.errors import HeadersSent, InvalidInput
from tests.servers import Log, Serve, get, ok, post

UPGRADE = ['Connection: Upgrade', 'Upgrade: echo']
SWITCHING = b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'


def tunnel() -> bytes:
    """Return a request for a tunnel."""
    return b'CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n'


def test_upgrade(serve: Serve) -> None:
    """The listener has the request, the socket, and what came behind the head; from then on the socket is its own."""
    site = serve(ok)

    @site.server.on('upgrade')
    def listener(request: Any, socket: Any, head: bytes) -> None:
        assert request.upgrade
        assert socket is request.socket
        assert socket.listeners('data') == []
        socket.write(SWITCHING + head)
        socket.pipe(socket)

    client = site.send(get('/chat', *UPGRADE) + b'first')
    assert client.until(b'first') == SWITCHING + b'first'
    client.send(b'GET / is no request here')
    assert client.exactly(24) == b'GET / is no request here'
    client.half_close()
    assert client.rest() == b''


def test_the_head_may_be_empty(serve: Serve) -> None:
    """Then ``b''``."""
    log = Log()
    site = serve(ok)
    site.server.on('upgrade', lambda request, socket, head: (log.append(head), socket.end(SWITCHING)))
    client = site.send(get('/', *UPGRADE))
    assert client.rest() == SWITCHING
    assert log == [b'']


def test_without_a_listener_upgrade_is_ignored(serve: Serve) -> None:
    """An ordinary request, and the connection goes on."""
    client = serve(ok).send(get('/', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c'), get('/next'))
    assert client.response().body == b'GET /'
    assert client.response().body == b'GET /next'


def test_an_upgrade_field_alone_is_no_upgrade(serve: Serve) -> None:
    """Connection has to name it (RFC 9110, section 7.8)."""
    site = serve(ok)
    site.server.on('upgrade', lambda request, socket, head: socket.destroy())
    assert site.send(get('/', 'Upgrade: echo')).response().body == b'GET /'


def test_an_upgrade_with_a_body_is_an_ordinary_request(serve: Serve) -> None:
    """What follows must not be taken for the other protocol."""
    site = serve(lambda request, response: response.end(request.read()))
    site.server.on('upgrade', lambda request, socket, head: socket.destroy())
    client = site.send(post(b'body', '/', *UPGRADE), get())
    assert client.response().body == b'body'
    assert client.response().status == 200


def test_an_upgrade_waits_for_the_responses_before_it(serve: Serve) -> None:
    """Pipelined behind a request that is answered later."""
    site = serve(lambda request, response: gevent.spawn_later(0, response.end, 'first') and None)
    site.server.on('upgrade', lambda request, socket, head: socket.end(SWITCHING))
    client = site.send(get(), get('/', *UPGRADE))
    assert client.response().body == b'first'
    assert client.rest() == SWITCHING


def test_connect(serve: Serve) -> None:
    """A tunnel, with the first bytes of it in ``head``."""
    site = serve(ok)

    @site.server.on('connect')
    def listener(request: Any, socket: Any, head: bytes) -> None:
        assert (request.method, request.url) == ('CONNECT', 'example.org:443')
        socket.write(b'HTTP/1.1 200 Connection Established\r\n\r\n' + head)
        while data := socket.read1():
            socket.write(data.upper())
        socket.end()

    client = site.send(tunnel() + b'hello')
    assert client.until(b'hello').startswith(b'HTTP/1.1 200')
    assert client.send(b'shout').exactly(5) == b'SHOUT'
    client.half_close()
    assert client.rest() == b''


def test_connect_without_a_listener_closes(serve: Serve) -> None:
    """Without a word."""
    seen = []
    assert serve(lambda request, response: seen.append(request)).send(tunnel() + get()).rest() == b''
    assert seen == []


@pytest.mark.parametrize('event', ['upgrade', 'connect'])
def test_a_failing_listener_destroys_the_socket(serve: Serve, event: str, caplog: pytest.LogCaptureFixture) -> None:
    """And is logged; the server goes on."""

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    site = serve(ok)
    site.server.on(event, fail)
    assert site.send(tunnel() if event == 'connect' else get('/', *UPGRADE)).rest() == b''
    assert f'the {event!r} listener failed' in caplog.text
    assert site.get().status == 200


def test_the_server_no_longer_times_out(serve: Serve) -> None:
    """Neither inactivity nor any other deadline of the server hits an upgraded socket: a later connection is hit
    first."""
    site = serve(ok, timeout=0.2, headers_timeout=0.2, keep_alive_timeout=0.2)
    site.server.on('upgrade', lambda request, socket, head: (socket.write(SWITCHING), socket.pipe(socket)))
    client = site.send(get('/', *UPGRADE))
    client.until(b'\r\n\r\n')
    for _ in range(2):
        site.connect().assert_closed()
    assert client.send(b'still here').exactly(10) == b'still here'
    client.close()


def test_upgraded_sockets_count_when_the_server_stops(serve: Serve) -> None:
    """``stop(timeout)`` destroys those that do not end by themselves."""
    site = serve(ok)
    site.server.on('upgrade', lambda request, socket, head: (socket.write(SWITCHING), socket.pipe(socket)))
    client = site.send(get('/', *UPGRADE))
    client.until(b'\r\n\r\n')
    assert site.server.get_connections() == 1
    site.server.stop(0.1)
    assert site.server.get_connections() == 0
    assert client.rest() == b''


# -- from a 'request' listener --------------------------------------------------------------------------------------


def test_a_response_that_upgrades(serve: Serve) -> None:
    """What an 'upgrade' listener has, for who knows only then that it wants it."""

    def listener(request: Any, response: Any) -> None:
        socket, head = response.upgrade({'X-Kind': ['a', 'b']})
        assert socket is request.socket
        assert response.finished
        socket.write(head)
        socket.pipe(socket)

    client = serve(listener).send(get('/', *UPGRADE) + b'first')
    reply = client.head()
    assert (reply.status, reply.reason) == (101, 'Switching Protocols')
    assert reply.headers == [('Connection', 'Upgrade'), ('Upgrade', 'echo'), ('X-Kind', 'a'), ('X-Kind', 'b')]
    client.send(b' second')
    assert client.exactly(12) == b'first second'
    client.half_close()
    assert client.rest() == b''


def test_an_upgrade_says_what_to(serve: Serve) -> None:
    """The protocol, if the request named several."""

    def listener(request: Any, response: Any) -> None:
        response.upgrade({'upgrade': 'echo/2'})[0].end()

    client = serve(listener).send(get('/', 'Connection: Upgrade', 'Upgrade: echo/1, echo/2'))
    assert client.head().values('Upgrade') == ['echo/2']


@pytest.mark.parametrize(
    ('sent', 'error'),
    [
        (get(), InvalidInput),
        (post(b'body', '/', *UPGRADE), InvalidInput),
        (get('/late', *UPGRADE), HeadersSent),
    ],
)
def test_no_upgrade(serve: Serve, sent: bytes, error: type[Exception]) -> None:
    """Nobody asked for it, or it is too late: an ordinary response follows."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/late':
            response.write_head(200)
        with pytest.raises(error):
            response.upgrade()
        response.end('ordinary')

    assert serve(listener).send(sent).response().body == b'ordinary'


def test_a_listener_that_fails_after_its_upgrade(serve: Serve) -> None:
    """Nobody else would end the connection."""

    def listener(request: Any, response: Any) -> None:
        response.upgrade()
        raise RuntimeError('a part of the test')

    client = serve(listener).send(get('/', *UPGRADE))
    assert client.head().status == 101
    assert client.rest() == b''
