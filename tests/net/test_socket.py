"""Test sockets beyond the contract of streams: connecting, addresses, settings, and the end."""

from __future__ import annotations

import errno
import socket as stdlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.threadpool
import pytest
from gevent.event import Event

from geventnode import net
from geventnode.errors import ConnectError, ConnectionClosed, ConnectionRefused, NameNotResolved
from tests.sockets import Feeder, Taker, pair, reset, settle, until

#: Much more than the kernel's buffers hold.
MUCH = bytes(range(256)) * 16384


def _free_port() -> int:
    """Return a port without a listener."""
    with stdlib.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


# -- connecting -----------------------------------------------------------------------------------------------------


def test_connect_emits_connect_and_calls_back(must_call: Callable[..., Any]) -> None:
    with net.create_server().listen(0, '127.0.0.1') as server:
        port = server.address()['port']
        with net.connect(port, '127.0.0.1', must_call()) as socket:
            assert (socket.connecting, socket.pending, socket.remote_address) == (True, True, None)
            assert socket.wait_connected() is socket
            assert (socket.connecting, socket.pending) == (False, False)
            assert (socket.remote_address, socket.remote_port, socket.remote_family) == ('127.0.0.1', port, 'IPv4')
            assert socket.local_address == '127.0.0.1'
            assert socket.address() == {'address': '127.0.0.1', 'family': 'IPv4', 'port': socket.local_port}


def test_connect_does_not_switch(no_switch: Callable[[], Any]) -> None:
    with no_switch():
        socket = net.connect(_free_port(), '127.0.0.1')
        socket.destroy()


def test_reads_and_writes_wait_for_the_connection() -> None:
    with net.create_server(lambda socket: socket.pipe(socket)).listen(0, '127.0.0.1') as server:
        with net.connect(server.address()['port'], '127.0.0.1') as socket:
            assert socket.write(b'hello') is False
            socket.end(b' world')
            assert socket.read() == b'hello world'


def test_a_connection_can_be_refused() -> None:
    port = _free_port()
    socket = net.connect(port, '127.0.0.1')
    with pytest.raises(ConnectionRefused) as caught:
        socket.wait_connected()
    assert (caught.value.code, caught.value.host, caught.value.port) == ('ECONNREFUSED', '127.0.0.1', port)
    assert socket.destroyed


def test_a_refused_connection_is_an_error_event_and_then_a_close() -> None:
    happened: list[Any] = []
    socket = net.connect(_free_port(), '127.0.0.1')
    socket.on('error', lambda error: happened.append(error.code)).on('close', happened.append)
    until(lambda: len(happened) == 2)
    assert happened == ['ECONNREFUSED', True]


def test_reading_from_a_refused_connection_raises() -> None:
    socket = net.connect(_free_port(), '127.0.0.1')
    with pytest.raises(ConnectionError):
        socket.read()


def test_a_name_without_address() -> None:
    """The text has the resolver's reason."""
    socket = net.connect(80, 'unknown.invalid')
    with pytest.raises(NameNotResolved) as caught:
        socket.wait_connected()
    assert (caught.value.code, caught.value.phase) == ('ENOTFOUND', 'resolve')
    assert str(caught.value.__cause__) in str(caught.value)
    assert isinstance(caught.value.__cause__, stdlib.gaierror)


@pytest.mark.parametrize('host', ['a\0b', 'x' * 300, '..'])
def test_a_malformed_name_is_refused(host: str) -> None:
    socket = net.connect(80, host)
    with pytest.raises((OSError, ValueError)):
        socket.wait_connected()
    assert socket.destroyed


def test_a_malformed_local_address_is_an_error() -> None:
    socket = net.connect(80, '127.0.0.1', local_address=7)
    with pytest.raises(TypeError):
        socket.wait_connected()
    assert socket.destroyed


def test_local_address_is_where_the_connection_comes_from() -> None:
    with net.create_server().listen(0, '127.0.0.1') as server:
        with net.connect(server.address()['port'], '127.0.0.1', local_address='127.0.0.2') as socket:
            assert socket.wait_connected().local_address == '127.0.0.2'


def test_every_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Localhost is ::1 first, and only 127.0.0.1 listens."""

    def resolve(host: str, port: int, *args: Any) -> list[Any]:
        return [
            (stdlib.AF_INET6, stdlib.SOCK_STREAM, 6, '', ('::1', port, 0, 0)),
            (stdlib.AF_INET, stdlib.SOCK_STREAM, 6, '', ('127.0.0.1', port)),
        ]

    monkeypatch.setattr('geventnode.net.connecting.resolve', resolve)
    with net.create_server().listen(0, '127.0.0.1') as server, net.connect(server.address()['port']) as socket:
        assert socket.wait_connected().remote_address == '127.0.0.1'


@pytest.mark.parametrize('host', ['127.0.0.1', '::1'])
def test_an_address_needs_no_resolver(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor another thread, which can be late."""
    monkeypatch.setattr('geventnode.net.address.getaddrinfo', None)
    with net.create_server().listen(0, host) as server, net.connect(server.address()['port'], host) as socket:
        assert socket.wait_connected().remote_address == host


def test_destroyed_while_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[Any] = []
    asked = Event()

    def resolve(*args: Any) -> list[Any]:
        asked.set()
        Event().wait()
        return []

    monkeypatch.setattr('geventnode.net.connecting.resolve', resolve)
    socket = net.connect(80, 'somewhere').on('connect', happened.append).on('close', happened.append)
    asked.wait()
    socket.destroy()
    assert not socket.connecting
    with pytest.raises(ConnectionClosed):
        socket.wait_connected()
    until(lambda: happened)
    assert happened == [False]


def test_a_killed_waiter_leaves_the_connection() -> None:
    with net.create_server().listen(0, '127.0.0.1') as server:
        with net.connect(server.address()['port'], '127.0.0.1') as socket:
            gevent.spawn(socket.wait_connected).kill()
            assert socket.wait_connected() is socket


def test_wait_connected_ends_after_its_timeout() -> None:
    with net.connect(80, 'unknown.invalid') as socket, pytest.raises(TimeoutError):
        socket.wait_connected(0)
    # the resolver's thread can still be looking for the name
    gevent.get_hub().threadpool.join()


def test_connecting_twice_is_refused() -> None:
    with net.connect(_free_port(), '127.0.0.1') as socket, pytest.raises(RuntimeError):
        socket.connect(80)


def test_connecting_a_destroyed_socket_is_refused() -> None:
    socket = net.Socket().destroy()
    with pytest.raises(ConnectionClosed):
        socket.connect(_free_port(), '127.0.0.1')


def test_a_connect_listener_that_raises_destroys_the_socket() -> None:
    def fail() -> None:
        raise KeyError('x')

    with net.create_server().listen(0, '127.0.0.1') as server:
        socket = net.connect(server.address()['port'], '127.0.0.1', fail)
        until(lambda: socket.destroyed)


@pytest.mark.parametrize('port', [-1, 65536, '65536'])
def test_a_port_out_of_range(port: Any) -> None:
    with pytest.raises(ValueError, match='0 to 65535'):
        net.connect(port)


def test_a_unix_connection(tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    with net.create_server(lambda socket: socket.pipe(socket)).listen(path), net.connect(path) as socket:
        socket.wait_connected()
        assert (socket.remote_address, socket.remote_port, socket.remote_family) == (None, None, 'Unix')
        assert (socket.local_address, socket.local_port) == (None, None)
        socket.end(b'x')
        assert socket.read() == b'x'


def test_a_unix_socket_without_a_listener_refuses(tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    with pytest.raises(OSError, match='connect') as caught:
        net.connect(path).wait_connected()
    assert caught.value.errno == errno.ENOENT


# -- addresses and settings -----------------------------------------------------------------------------------------


def test_ipv6() -> None:
    with pair('tcp6') as (socket, _):
        assert (socket.remote_address, socket.remote_family) == ('::1', 'IPv6')
        assert socket.address()['family'] == 'IPv6'


def test_no_delay() -> None:
    with pair() as (socket, _):

        def option() -> bool:
            return bool(socket._raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY))

        assert option()
        assert socket.set_no_delay(False) is socket
        assert not option()
        socket.set_no_delay()
        assert option()


def test_keep_alive() -> None:
    with pair() as (socket, _):
        assert socket.set_keep_alive(True, 42.4) is socket
        assert socket._raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE)
        assert socket._raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE) == 42
        socket.set_keep_alive()
        assert not socket._raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE)


def test_settings_of_a_unix_socket_do_nothing() -> None:
    with pair('unix') as (socket, _):
        assert socket.set_no_delay().set_keep_alive(True, 5) is socket


@pytest.mark.parametrize('when', ['before', 'while connecting'])
def test_settings_before_the_connection(when: str) -> None:
    with net.create_server().listen(0, '127.0.0.1') as server, net.Socket() as socket:

        def apply() -> None:
            assert socket.set_no_delay(False).set_keep_alive(True, 42) is socket

        if when == 'before':
            apply()
        socket.connect(server.address()['port'], '127.0.0.1')
        if when == 'while connecting':
            apply()
        socket.wait_connected()
        raw = socket._raw
        assert not raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY)
        assert raw.getsockopt(stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE)
        assert raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE) == 42


def test_settings_after_the_connection_do_nothing() -> None:
    socket = net.Socket()
    assert socket.ref().unref().set_timeout(1) is socket
    socket.destroy()
    assert socket.set_no_delay().set_keep_alive(True) is socket
    assert socket.ref().unref().set_timeout(1).set_timeout(None) is socket
    assert socket.address() is None


def test_bytes_are_counted() -> None:
    with pair() as (socket, far):
        far.sendall(b'12345')
        socket.write(b'123')
        socket.write(b'4', callback=lambda: None)
        assert socket.read(5) == b'12345'
        assert (socket.bytes_read, socket.bytes_written, socket.buffer_size) == (5, 4, 0)


def test_unref_lets_the_loop_end() -> None:
    with pair() as (socket, _):
        loop = gevent.get_hub().loop
        before = loop.activecnt
        assert socket.unref() is socket
        assert loop.activecnt == before - 1
        assert socket.ref() is socket
        assert loop.activecnt == before


def test_a_handle_without_a_peer_is_refused() -> None:
    with gevent.socket.socket() as handle, pytest.raises(OSError, match='not connected'):
        net.Socket(handle)


@pytest.mark.parametrize(
    ('state', 'make'),
    [
        ('unconnected', lambda socket: net.Socket()),
        ('open', lambda socket: socket),
        ('ended', lambda socket: socket.end()),
        ('destroyed', lambda socket: socket.destroy()),
    ],
)
def test_repr(state: str, make: Callable[[Any], Any]) -> None:
    with pair() as (socket, _):
        assert repr(make(socket)).startswith(f'<Socket {state} ')


# -- the end --------------------------------------------------------------------------------------------------------


def test_the_peers_end_ends_our_side() -> None:
    with pair() as (socket, far):
        happened: list[Any] = []
        for event in ('end', 'finish'):
            socket.on(event, lambda event=event: happened.append(event))
        socket.on('close', happened.append)
        far.shutdown(stdlib.SHUT_WR)
        assert far.recv(1) == b''
        until(lambda: False in happened)
        assert happened == ['end', 'finish', False]


def test_half_open_keeps_our_side() -> None:
    with pair(allow_half_open=True) as (socket, far):
        far.sendall(b'question')
        far.shutdown(stdlib.SHUT_WR)
        assert socket.read() == b'question'
        settle()
        socket.end(b'answer')
        assert Taker(far).all() == b'answer'
        until(lambda: socket.destroyed)


def test_writing_after_the_peers_end_raises_epipe() -> None:
    with pair() as (socket, far):
        far.shutdown(stdlib.SHUT_WR)
        errors: list[BaseException] = []

        def on_end() -> None:
            try:
                socket.write(b'x')
            except ConnectionClosed as error:
                errors.append(error)

        socket.on('end', on_end)
        assert socket.read() == b''
        assert [error.code for error in errors] == ['EPIPE']
        with pytest.raises(ConnectionClosed):
            socket.write(b'x')


def test_our_end_leaves_the_other_direction() -> None:
    with pair() as (socket, far):
        socket.end(b'question')
        assert Taker(far).all() == b'question'
        far.sendall(b'answer')
        far.close()
        assert socket.read() == b'answer'
        until(lambda: socket.destroyed)


@pytest.mark.parametrize('family', ['tcp', 'unix'])
@pytest.mark.parametrize('half_open', [True, False])
def test_echo(family: str, half_open: bool) -> None:
    with pair(family, allow_half_open=half_open) as (socket, far):
        socket.pipe(socket)
        feeder = Feeder(far)
        feeder.send(MUCH)
        feeder.end()
        assert Taker(far).all() == MUCH
        until(lambda: socket.destroyed)


def test_both_directions_at_once() -> None:
    with pair(allow_half_open=True) as (socket, far):
        feeder, taker = Feeder(far), Taker(far)
        feeder.send(MUCH)
        feeder.end()
        writing = gevent.spawn(
            lambda: (
                [socket.write(MUCH[start : start + 100000]) for start in range(0, len(MUCH), 100000)] and socket.end()
            )
        )
        assert socket.read() == MUCH
        assert taker.all() == MUCH
        writing.get()


def test_a_reader_that_never_reads_stops_the_peer() -> None:
    with pair() as (socket, far):
        feeder = Feeder(far)
        for _ in range(4):
            feeder.send(MUCH)
        settle()
        assert socket.readable_length <= socket.readable_high_water_mark + 65536
        assert not feeder._greenlet.ready()
        assert socket.read(4 * len(MUCH)) == 4 * MUCH
        feeder.stop()


@pytest.mark.parametrize('family', ['tcp', 'unix'])
def test_leaving_the_context_destroys(family: str) -> None:
    with pair(family) as (socket, far):
        with socket:
            pass
        assert socket.destroyed
        assert far.recv(1) == b''


def test_destroy_with_three_writers_and_a_reader_waiting() -> None:
    with pair(small=True) as (socket, _):
        waiting = [gevent.spawn(socket.write, MUCH) for _ in range(4)] + [gevent.spawn(socket.read)]
        settle()
        waiting = [each for each in waiting if not each.ready()]
        assert len(waiting) == 4
        socket.destroy()
        for each in waiting:
            with pytest.raises(ConnectionClosed):
                each.get()


def test_close_is_emitted_with_had_error(must_call: Callable[..., Any]) -> None:
    with pair() as (socket, far):
        happened: list[bool] = []
        socket.on('close', happened.append)
        reset(far)
        until(lambda: happened)
        assert happened == [True]
        assert socket.had_error


# -- lookups, local ports, and the events of attempts -----------------------------------------------------------------


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Return the port of a server."""
    with net.create_server().listen(0, '127.0.0.1') as server:
        yield server.address()['port']


def test_lookup_replaces_the_resolver(echo_port: int) -> None:
    asked = []

    def lookup(host: str, family: int) -> list[str]:
        gevent.idle()
        asked.append((host, family))
        return ['127.0.0.1']

    for family, number in ((0, 0), (stdlib.AF_INET, 4)):
        with net.connect(echo_port, 'made.up', lookup=lookup, family=family) as socket:
            socket.wait_connected()
            assert socket.remote_address == '127.0.0.1'
        assert asked.pop() == ('made.up', number)
    with net.connect(echo_port, 'made.up', lookup=lambda host, family: '127.0.0.1') as socket:
        socket.wait_connected()
    with net.connect(echo_port, '127.0.0.1', lookup=lookup) as socket:
        socket.wait_connected()
    assert asked == []


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises ``error``."""

    def fail(*args: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ('lookup', 'kind', 'message'),
    [
        (lambda host, family: [], NameNotResolved, 'no address'),
        (lambda host, family: 'a.example', TypeError, "lookup must return IP addresses, not 'a.example'"),
        (lambda host, family: [1], TypeError, 'lookup must return IP addresses, not 1'),
        (lambda host, family: 1 / 0, ZeroDivisionError, 'division'),
        (raising(OSError('the registry does not respond')), NameNotResolved, 'the registry does not respond'),
        (raising(TimeoutError()), NameNotResolved, 'TimeoutError'),
        (raising(stdlib.herror(1, 'Unknown host')), NameNotResolved, 'Unknown host'),
        (raising(OSError(errno.EMFILE, 'no descriptor')), ConnectError, 'Too many open files'),
        (raising(gevent.Timeout(2)), NameNotResolved, r'lookup has raised a timeout \(2 seconds\)'),
        (raising(gevent.GreenletExit()), ConnectError, 'the connect was interrupted by GreenletExit'),
    ],
)
def test_failing_lookup(lookup: Any, kind: type[Exception], message: str) -> None:
    socket = net.connect(9, 'made.up', lookup=lookup)
    with pytest.raises(kind, match=message):
        socket.wait_connected()


def test_lookup_must_be_callable() -> None:
    with pytest.raises(TypeError, match='lookup must be callable, not str'):
        net.connect(9, 'made.up', lookup='x')  # type: ignore[arg-type]  # that is the test


def test_local_port(echo_port: int) -> None:
    port = _free_port()
    with net.connect(echo_port, '127.0.0.1', local_port=port) as socket:
        assert socket.wait_connected().local_port == port
        socket._reset_unless_ended()
    with pytest.raises(ValueError, match='port'):
        net.connect(echo_port, '127.0.0.1', local_port=70000)


def test_attempts_are_emitted(echo_port: int) -> None:
    log: list[Any] = []
    socket = net.connect(echo_port, 'made.up', lookup=lambda host, family: ['127.0.0.2', '127.0.0.1'])
    for event in ('connectionAttempt', 'connectionAttemptFailed', 'connect'):
        socket.on(event, lambda *args, event=event: log.append((event, *args[:3])))
    with socket:
        socket.wait_connected()
    assert log == [
        ('connectionAttempt', '127.0.0.2', echo_port, 'IPv4'),
        ('connectionAttemptFailed', '127.0.0.2', echo_port, 'IPv4'),
        ('connectionAttempt', '127.0.0.1', echo_port, 'IPv4'),
        ('connect',),
    ]


def test_socket_can_be_destroyed_by_an_attempt(echo_port: int) -> None:
    socket = net.connect(echo_port, '127.0.0.1')
    socket.on('connectionAttempt', lambda *args: socket.destroy())
    with pytest.raises(ConnectionClosed):
        socket.wait_connected()
