"""Test the PROXY protocol: accepted headers, the addresses of sockets, and refused connections."""

from __future__ import annotations

import logging
import socket as stdlib
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import gevent.socket
import pytest

from geventnode import net
from geventnode.errors import ConnectionClosed, InvalidInput, UnknownOption
from geventnode.net.deadlines import deadlines
from geventnode.net.proxy_protocol import HEADER_TIME, ProxyHeaderReader, ProxyPolicy
from geventnode.protocol import TrustedProxies
from tests.proxies import UNIX_ADDRESSES, V1, ipv4, ipv6, v2
from tests.sockets import Taker, dial, pair, reset, settle, until


def serve(listener: Any, **options: Any) -> Any:
    """Return a server that expects headers, by default from this machine."""
    options.setdefault('trusted_proxies', '127.0.0.1')
    return net.create_server(listener, proxy_protocol=True, **options).listen(0, '127.0.0.1')


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the lines that were logged so far."""
    caplog.set_level(logging.DEBUG, 'geventnode.error')

    def found() -> list[str]:
        settle()
        return [f'{record.levelname} {record.getMessage()}' for record in caplog.records]

    return found


@pytest.mark.parametrize(
    ('header', 'expected'),
    [
        (V1, ('1.2.3.4', 1000, 'IPv4', '127.0.0.1')),
        (b'PROXY TCP6 2001:db8::1 ::2 1000 443\r\n', ('2001:db8::1', 1000, 'IPv6', '127.0.0.1')),
        (v2(block=ipv4()), ('1.2.3.4', 1000, 'IPv4', '127.0.0.1')),
        (v2(family=0x21, block=ipv6()), ('2001:db8::1', 1000, 'IPv6', '127.0.0.1')),
        (b'PROXY UNKNOWN\r\n', ('127.0.0.1', 'own', 'IPv4', None)),
        (v2(0x20, 0), ('127.0.0.1', 'own', 'IPv4', None)),
        (v2(family=0x31, block=UNIX_ADDRESSES), ('127.0.0.1', 'own', 'IPv4', None)),
    ],
)
def test_the_header_names_the_client(header: bytes, expected: tuple[Any, ...]) -> None:
    """Header and data in one piece, in two, and byte by byte: the socket is the same."""
    for pieces in ([header + b'data'], [header, b'data'], [bytes([each]) for each in header + b'data']):
        seen: list[Any] = []
        with (
            serve(
                lambda socket, seen=seen: seen.append(
                    (
                        socket.remote_address,
                        socket.remote_port,
                        socket.remote_family,
                        socket.proxy_address,
                        socket.local_address,
                        socket.proxy_header.local,
                        socket.read(),
                    )
                )
            ) as server,
            dial(server) as far,
        ):
            for piece in pieces:
                far.sendall(piece)
                settle()
            port = far.getsockname()[1]
            far.shutdown(stdlib.SHUT_WR)
            until(lambda seen=seen: seen)
        assert seen == [
            (*(port if each == 'own' else each for each in expected), '127.0.0.1', header[12:13] == b'\x20', b'data')
        ]


def test_no_connection_is_emitted_before_the_header_is_complete() -> None:
    """A server that sends first waits as well."""
    sockets: list[Any] = []
    with serve(lambda socket: (sockets.append(socket), socket.write(b'welcome'))) as server, dial(server) as far:
        far.sendall(V1[:-1])
        settle()
        assert sockets == []
        assert server.get_connections() == 1
        far.sendall(V1[-1:])
        assert far.recv(7) == b'welcome'
        assert sockets[0].remote_address == '1.2.3.4'


def test_data_after_the_header_is_received() -> None:
    """The bytes after the header are read first, and the socket buffers no more than its limit."""
    much = bytes(range(256)) * 2048
    received: list[bytes] = []
    with serve(lambda socket: received.append(socket.read(len(much)))) as server, dial(server) as far:
        far.sendall(V1 + much)
        until(lambda: received)
    assert received == [much]


@pytest.mark.parametrize('trusted', ['10.0.0.0/8', '::1', 'unix', ['127.0.0.2', '128.0.0.0/1']])
def test_an_untrusted_peer_is_refused(trusted: Any, lines: Callable[[], list[str]]) -> None:
    """With or without a header; no event is emitted, and one line is logged."""
    sockets: list[Any] = []
    with serve(sockets.append, trusted_proxies=trusted) as server:
        with dial(server) as far:
            far.sendall(V1 + b'data')
            assert Taker(far).all() == b''
        assert sockets == []
        assert server.get_connections() == 0
    assert lines() == ['INFO 127.0.0.1: refused, because it is not one of the trusted proxies']


@pytest.mark.parametrize(('trusted', 'accepted'), [('unix', True), ('127.0.0.1', False)])
def test_a_proxy_can_connect_through_a_unix_socket(
    trusted: str, accepted: bool, tmp_path: Path, lines: Callable[[], list[str]]
) -> None:
    """The client in the header has an address, although the proxy has none."""
    seen: list[Any] = []
    server = net.create_server(
        lambda socket: seen.append(
            (socket.remote_address, socket.remote_port, socket.remote_family, socket.proxy_address)
        ),
        proxy_protocol=True,
        trusted_proxies=trusted,
    )
    with server.listen(str(tmp_path / 'socket')), dial(server) as far:
        if accepted:
            far.sendall(V1)
            until(lambda: seen)
        else:
            assert Taker(far).all() == b''
    assert seen == ([('1.2.3.4', 1000, 'IPv4', None)] if accepted else [])
    assert lines() == (
        [] if accepted else ['INFO a Unix socket: refused, because it is not one of the trusted proxies']
    )


@pytest.mark.parametrize(
    'data',
    [
        b'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
        b'PROXY TCP4 1.2.3.4\r\n',
        b'\x16\x03\x01\x02\x00\x01',
        b'\n',
        v2(0x2F),
        V1.replace(b'\r\n', b'\nERROR forged\r\n'),
        b'PROXY ' + b'\x1b' * 1000,
        b'\xff' * 5000,
    ],
)
def test_data_without_a_header_ends_the_connection(data: bytes, lines: Callable[[], list[str]]) -> None:
    """There is no response and no event, and one line of printable ASCII is logged."""
    sockets: list[Any] = []
    with serve(sockets.append) as server, dial(server) as far:
        far.sendall(data)
        assert Taker(far).all() == b''
        until(lambda: not server.get_connections())
    assert sockets == []
    (line,) = lines()
    assert line.startswith('INFO 127.0.0.1: ')
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 400


def test_an_incomplete_header_ends_the_connection(lines: Callable[[], list[str]]) -> None:
    with serve(lambda socket: None) as server, dial(server) as far:
        far.sendall(V1[:20])
        far.shutdown(stdlib.SHUT_WR)
        assert Taker(far).all() == b''
    assert lines() == [f'INFO 127.0.0.1: the connection ended within a PROXY header: {V1[:20]!r}']


@pytest.mark.parametrize('end', [lambda far: far.close(), reset], ids=['close', 'reset'])
def test_a_health_check_without_data_is_not_logged(end: Any, lines: Callable[[], list[str]]) -> None:
    """Load balancers connect so every second."""
    with serve(lambda socket: None) as server:
        far = dial(server)
        until(server.get_connections)
        end(far)
        until(lambda: not server.get_connections())
    assert lines() == []


def test_a_late_header_ends_the_connection() -> None:
    """With 0 there is no limit."""
    hub = gevent.get_hub()
    failed: list[Any] = []
    with pair() as (socket, far):
        ProxyHeaderReader(
            ProxyPolicy(TrustedProxies('127.0.0.1'), 0.05, 'own_setting'),
            hub,
            socket,
            failed.append,
            lambda socket, error: (failed.append(error), socket.destroy(error)),
        )
        far.sendall(V1[:1])
        until(lambda: failed)
        assert str(failed[0]) == 'no complete PROXY header within own_setting (0.05 seconds)'
        assert socket.destroyed
    with pair() as (socket, _):
        assert ProxyHeaderReader(ProxyPolicy(TrustedProxies(()), 0), hub, socket, print, print)._expires == float('inf')
    assert ProxyPolicy(TrustedProxies(())).seconds == HEADER_TIME


def test_a_header_that_arrives_while_the_loop_stalls_is_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the kernel when the deadline is checked."""
    accepted: list[Any] = []
    hub = gevent.get_hub()
    with pair() as (socket, far):
        awaited = ProxyHeaderReader(
            ProxyPolicy(TrustedProxies('127.0.0.1'), 0.05),
            hub,
            socket,
            accepted.append,
            lambda socket, error: accepted.append(error),
        )
        far.setblocking(False)
        far.send(V1)
        monkeypatch.setattr(deadlines(hub), '_stalled_until', float('inf'))
        awaited._on_deadline(monotonic())
        until(lambda: accepted)
        assert accepted == [socket]
        assert socket.remote_address == '1.2.3.4'


def test_a_server_that_closes_does_not_wait_for_headers() -> None:
    """Half a second, as for every connection on which nothing has begun."""
    with serve(lambda socket: socket.end()) as server, dial(server) as far:
        until(server.get_connections)
        server.close()
        assert Taker(far).all() == b''
        server.stop()


def test_a_header_that_arrives_while_the_server_closes_is_accepted() -> None:
    """The connection is served as any other."""
    with serve(lambda socket: socket.end(b'served')) as server, dial(server) as far:
        until(server.get_connections)
        server.close()
        far.sendall(V1)
        assert Taker(far).all() == b'served'
        far.close()
        server.stop()


def test_destroying_a_socket_before_its_header_leaves_no_deadline() -> None:
    """The leak check would find a deadline."""
    with serve(lambda socket: None) as server, dial(server) as far:
        until(server.get_connections)
        server.stop(0)
        assert Taker(far).all() == b''


def test_proxy_protocol_needs_trusted_proxies() -> None:
    with pytest.raises(InvalidInput, match='trusted_proxies'):
        net.create_server(proxy_protocol=True).listen(0, '127.0.0.1')
    with pytest.raises(InvalidInput, match='trusted_proxies'):
        net.create_server(proxy_protocol=True, trusted_proxies=['nowhere'])
    with pytest.raises(UnknownOption, match='proxy_protocol'):
        net.create_server(proxy_protocols=True)


def test_proxy_protocol_is_off_by_default() -> None:
    """A header is data then, and the sockets have no proxy."""
    received: list[Any] = []

    def listener(socket: Any) -> None:
        received.append((socket.read(len(V1)), socket.remote_address, socket.proxy_address, socket.proxy_header))

    with net.create_server(listener, trusted_proxies='127.0.0.1').listen(0, '127.0.0.1') as server, dial(server) as far:
        far.sendall(V1)
        until(lambda: received)
    assert received == [(V1, '127.0.0.1', None, None)]


def test_a_second_header_is_data() -> None:
    """The client has sent it."""
    received: list[Any] = []
    forged = V1.replace(b'1.2.3.4', b'6.6.6.6')
    with serve(lambda socket: received.append((socket.read(len(forged)), socket.remote_address))) as server:
        with dial(server) as far:
            far.sendall(V1 + forged)
            until(lambda: received)
    assert received == [(forged, '1.2.3.4')]


def test_writing_to_a_disconnected_client_after_the_header() -> None:
    """After the header, the socket is an ordinary one."""
    failures: list[Any] = []

    def listener(socket: Any) -> None:
        try:
            while True:
                socket.write(b'x' * 65536)
        except ConnectionClosed as error:
            failures.append(error)

    with serve(listener) as server:
        far = dial(server)
        far.sendall(V1)
        far.recv(1)
        reset(far)
        until(lambda: failures)
