"""Connections in memory: the behaviour of a kernel, and deterministic limits.

The conformance suites of streams run over these connections as well.
"""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import ConnectionClosed
from geventnode.testing import memory_pair, memory_socket, raw_request, serving_in_memory
from tests.servers import ok
from tests.sockets import settle


def echo(request: Any, response: Any) -> None:
    response.end(request.read())


def test_peer_is_the_address_of_the_client() -> None:
    def listener(request: Any, response: Any) -> None:
        response.end(f'{request.remote_address} {request.remote_port} {request.socket.local_address}')

    with serving_in_memory(listener, trusted_proxies='10.0.0.0/8', forwarded_headers=['x-forwarded-for']) as site:
        assert site.get().body == b'192.0.2.1 49152 192.0.2.2'
        assert site.get('/', 'X-Forwarded-For: 1.2.3.4').body.startswith(b'192.0.2.1 ')
        trusted = site.connect(peer=('10.1.1.1', 7))
        assert trusted.get('/', 'X-Forwarded-For: 1.2.3.4').body.startswith(b'1.2.3.4 ')


def test_capacity_blocks_the_listener() -> None:
    """A client that does not read blocks the listener, once the queue and the connection are full."""
    written: list[int] = []

    def listener(request: Any, response: Any) -> None:
        for number in range(1000):
            response.write(bytes(1000))
            written.append(number)
        response.end()

    with serving_in_memory(listener) as site:
        client = site.connect(capacity=1000).send(raw_request())
        settle()
        stopped = len(written)
        assert 0 < stopped < 100
        settle()
        assert len(written) == stopped
        assert len(client.response().body) == 1000 * 1000


def test_deadlock_raises_loop_exit() -> None:
    """A deadlock without a timeout is detected at once."""
    with serving_in_memory(lambda request, response: None) as site:
        client = site.connect(timeout=None).send(raw_request())
        with pytest.raises(gevent.hub.LoopExit):
            client.receive()


def test_wait_ends_with_a_timeout() -> None:
    with serving_in_memory(ok) as site:
        client = site.connect(timeout=0.01)
        with pytest.raises(TimeoutError, match='no data has arrived'):
            client.receive()
    full = memory_socket(capacity=2)[1]
    full.settimeout(0.01)
    full.sendall(b'12')
    with pytest.raises(TimeoutError, match='the peer has received nothing'):
        full.sendall(b'x' * 300000)


def test_server_has_its_timeouts() -> None:
    with serving_in_memory(ok, headers_timeout=0.05) as site:
        client = site.send(b'GET / HT')
        assert client.response().status == 408
        client.half_close().assert_closed()


def test_full_server_closes_the_connection() -> None:
    with serving_in_memory(ok, max_connections=1) as site:
        first = site.connect()
        site.connect().assert_closed()
        assert first.get().status == 200


def test_client_of_the_package_can_connect() -> None:
    with serving_in_memory(echo) as site:
        request = http.request('http://example/', method='POST', create_connection=site.create_connection)
        request.write('streamed')
        assert request.end(' there').get_response().read() == b'streamed there'
        with http.Agent(keep_alive=True) as agent:
            for _ in range(2):
                http.get('http://example/', agent=agent, create_connection=site.create_connection).get_response().read()


def test_pair_is_connected() -> None:
    one, other = memory_pair(allow_half_open=True)
    with one, other:
        assert one.remote_address == other.local_address
        one.write('there')
        one.end()
        assert other.read() == b'there'
        other.end('back')
        assert one.read() == b'back'


def test_pair_has_back_pressure() -> None:
    one, other = memory_pair(capacity=10, high_water_mark=10)
    with one, other:
        writing = gevent.spawn(lambda: [one.write(bytes(10)) for _ in range(100)] and one.end())
        settle()
        assert not writing.ready()
        assert len(other.read()) == 1000
        writing.get()


def test_closed_end_raises() -> None:
    near, far = memory_socket()
    assert far.getpeername()[0] == near.local_address
    far.close()
    with pytest.raises(OSError, match='closed'):
        far.send(b'x')
    with pytest.raises(OSError, match='closed'):
        far.recv(1)
    near.destroy()
    with pytest.raises(ValueError, match='at least one byte'):
        memory_pair(capacity=0)


def test_unread_data_resets_the_connection() -> None:
    """Closing with unread data resets the connection, as on Linux."""
    near, far = memory_socket()
    far.sendall(b'unread')
    near.destroy()
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    near, far = memory_socket()
    near.on('error', lambda error: None)
    near._send(b'unread')
    far.close()
    with pytest.raises(ConnectionClosed):
        near.read()
