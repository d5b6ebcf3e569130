"""Upgrades to other protocols: 'upgrade' and 'connect'."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import HeadersSent, InvalidInput
from tests.servers import Log, Serve, get, ok, post

UPGRADE = ['Connection: Upgrade', 'Upgrade: echo']
SWITCHING = b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'


def tunnel() -> bytes:
    """Return a request for a tunnel."""
    return b'CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n'


def test_upgrade_listener_gets_the_socket(serve: Serve) -> None:
    """With the request and the bytes after the head; the socket belongs to it from then on."""
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


def test_upgrade_head_can_be_empty(serve: Serve) -> None:
    """It is ``b""`` then."""
    log = Log()
    site = serve(ok)
    site.server.on('upgrade', lambda request, socket, head: (log.append(head), socket.end(SWITCHING)))
    client = site.send(get('/', *UPGRADE))
    assert client.rest() == SWITCHING
    assert log == [b'']


def test_upgrade_without_a_listener_is_ignored(serve: Serve) -> None:
    """The request is an ordinary one, and the connection is kept."""
    client = serve(ok).send(get('/', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c'), get('/next'))
    assert client.response().body == b'GET /'
    assert client.response().body == b'GET /next'


def test_callback_decides_on_upgrades(serve: Serve) -> None:
    """One that it does not want is an ordinary request, as Java's offer of HTTP/2."""
    site = serve(ok, should_upgrade_callback=lambda request: request.headers['upgrade'] == 'echo')
    site.server.on('upgrade', lambda request, socket, head: socket.end(SWITCHING))
    client = site.send(get('/', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c'))
    assert client.response().body == b'GET /'
    assert client.send(get('/', *UPGRADE)).rest() == SWITCHING


def test_callback_for_upgrades_can_fail(serve: Serve) -> None:
    site = serve(ok, should_upgrade_callback=lambda request: 1 / 0)
    assert site.send(get('/', *UPGRADE)).response().body == b'GET /'
    site.server.on('upgrade', lambda request, socket, head: socket.end(SWITCHING))
    assert site.send(get('/', *UPGRADE)).response().status == 500


def test_callback_for_upgrades_must_be_callable() -> None:
    with pytest.raises(TypeError, match='should_upgrade_callback must be callable or None, not str'):
        http.create_server(should_upgrade_callback='echo')


def test_upgrade_field_without_connection_is_no_upgrade(serve: Serve) -> None:
    """Connection has to name it (RFC 9110, section 7.8)."""
    site = serve(ok)
    site.server.on('upgrade', lambda request, socket, head: socket.destroy())
    assert site.send(get('/', 'Upgrade: echo')).response().body == b'GET /'


def test_upgrade_with_a_body_is_an_ordinary_request(serve: Serve) -> None:
    """The body must not be taken for the other protocol."""
    site = serve(lambda request, response: response.end(request.read()))
    site.server.on('upgrade', lambda request, socket, head: socket.destroy())
    client = site.send(post(b'body', '/', *UPGRADE), get())
    assert client.response().body == b'body'
    assert client.response().status == 200


def test_upgrade_waits_for_earlier_responses(serve: Serve) -> None:
    """It is pipelined after a request with a delayed response."""
    site = serve(lambda request, response: gevent.spawn_later(0, response.end, 'first') and None)
    site.server.on('upgrade', lambda request, socket, head: socket.end(SWITCHING))
    client = site.send(get(), get('/', *UPGRADE))
    assert client.response().body == b'first'
    assert client.rest() == SWITCHING


def test_connect_listener_gets_the_tunnel(serve: Serve) -> None:
    """The first bytes of it are in ``head``."""
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
    """Without a response."""
    seen = []
    assert serve(lambda request, response: seen.append(request)).send(tunnel() + get()).rest() == b''
    assert seen == []


@pytest.mark.parametrize('event', ['upgrade', 'connect'])
def test_failing_upgrade_listener_destroys_the_socket(
    serve: Serve, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged; the server continues."""

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    site = serve(ok)
    site.server.on(event, fail)
    assert site.send(tunnel() if event == 'connect' else get('/', *UPGRADE)).rest() == b''
    assert f'the {event!r} listener failed' in caplog.text
    assert site.get().status == 200


def test_upgraded_socket_has_no_deadline_of_the_server(serve: Serve) -> None:
    """A later connection is timed out first."""
    site = serve(ok, timeout=0.2, headers_timeout=0.2, keep_alive_timeout=0.2)
    site.server.on('upgrade', lambda request, socket, head: (socket.write(SWITCHING), socket.pipe(socket)))
    client = site.send(get('/', *UPGRADE))
    client.until(b'\r\n\r\n')
    for _ in range(2):
        site.connect().assert_closed()
    assert client.send(b'still here').exactly(10) == b'still here'
    client.close()


def test_stop_destroys_upgraded_sockets(serve: Serve) -> None:
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


def test_response_can_upgrade(serve: Serve) -> None:
    """The caller gets the same as an 'upgrade' listener, after it has seen the request."""

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


def test_response_upgrades_to_one_of_several_protocols(serve: Serve) -> None:
    """The caller names it if the request named several."""

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
def test_upgrade_of_an_ordinary_request_raises(serve: Serve, sent: bytes, error: type[Exception]) -> None:
    """Or after the head was fixed; an ordinary response follows."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/late':
            response.write_head(200)
        with pytest.raises(error):
            response.upgrade()
        response.end('ordinary')

    assert serve(listener).send(sent).response().body == b'ordinary'


def test_listener_that_fails_after_its_upgrade_closes_the_connection(serve: Serve) -> None:

    def listener(request: Any, response: Any) -> None:
        response.upgrade()
        raise RuntimeError('a part of the test')

    client = serve(listener).send(get('/', *UPGRADE))
    assert client.head().status == 101
    assert client.rest() == b''
