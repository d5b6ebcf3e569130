"""Test servers: listening, accepting, and unref."""

from __future__ import annotations

import contextlib
import errno
import os
import socket as stdlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event

from geventnode import net
from geventnode.errors import NameNotResolved
from geventnode.net import server as net_server
from geventnode.net.listen import listen_fds
from geventnode.net.server import Acceptor
from tests.sockets import answers, dial, settle, until

# -- listening ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'args', [(), (0,), ('0',), (None,), (0, '127.0.0.1'), (0, None), (0, 5), (0, '127.0.0.1', 5), (0, None, 5)]
)
def test_listening_on_a_port(args: tuple[Any, ...]) -> None:
    server = net.create_server()
    with server:
        assert server.listen(*args) is server
        assert server.listening
        address = server.address()
        assert address['port'] > 0
        assert address['family'] == 'IPv4'
        assert answers(server)
    assert (server.listening, server.address()) == (False, None)


@pytest.mark.parametrize('args', [(), (0,), (0, '127.0.0.1'), (0, '127.0.0.1', 5), (0, None, None)])
def test_a_callable_among_the_arguments_is_the_callback(args: tuple[Any, ...], must_call: Callable[..., Any]) -> None:
    with net.create_server().listen(*args, must_call()):
        settle()


def test_options_by_name(must_call: Callable[..., Any]) -> None:
    with net.create_server().listen(port=0, hostname='127.0.0.1', backlog=5, callback=must_call()) as server:
        assert server.address()['address'] == '127.0.0.1'
        settle()


def test_listening_is_emitted_on_the_next_turn(no_switch: Callable[[], Any]) -> None:
    happened: list[str] = []
    server = net.create_server().on('listening', lambda: happened.append('listening'))
    with no_switch():
        server.listen(0, '127.0.0.1')
    assert happened == []
    with server:
        settle()
        assert happened == ['listening']


def test_ipv6() -> None:
    with net.create_server().listen(0, '::1') as server:
        assert (server.address()['address'], server.address()['family']) == ('::1', 'IPv6')
        assert answers(server)


def test_a_path_is_removed_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / 'socket'
    with net.create_server().listen(str(path)) as server:
        assert server.address() == str(path)
        assert answers(server)
    assert not path.exists()


def test_a_stale_path_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    with stdlib.socket(stdlib.AF_UNIX) as dead:
        dead.bind(path)
    with net.create_server().listen(path) as server:
        assert answers(server)


@pytest.mark.parametrize('make', [lambda path: path.write_text('precious'), lambda path: path.mkdir()])
def test_a_file_that_is_not_a_socket_is_kept(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    path = tmp_path / 'socket'
    make(path)
    with pytest.raises(OSError, match='in use'):
        net.create_server().listen(str(path))
    assert path.exists()


def test_a_path_in_use_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / 'socket')
    with net.create_server().listen(path) as server:
        with pytest.raises(OSError, match='in use'):
            net.create_server().listen(path)
        assert answers(server)


def test_an_abstract_name() -> None:
    with net.create_server().listen(f'\0geventnode-{os.getpid()}') as server:
        assert answers(server)


@pytest.mark.parametrize(
    'make',
    [
        lambda listener: listener,
        lambda listener: {'fd': listener.fileno()},
        lambda listener: gevent.socket.socket(fileno=os.dup(listener.fileno())),
    ],
    ids=['socket', 'descriptor', 'gevent'],
)
def test_a_handle_is_duplicated(make: Callable[[Any], Any], must_call: Callable[..., Any]) -> None:
    with stdlib.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        handle = make(listener)
        with net.create_server().listen(handle, must_call()) as server:
            assert server.address()['port'] == listener.getsockname()[1]
            assert answers(server)
        assert listener.fileno() > 0
        if isinstance(handle, gevent.socket.socket):
            handle.close()


def test_a_server_can_be_shared() -> None:
    with net.create_server().listen(0, '127.0.0.1') as first, net.create_server().listen(first) as second:
        assert first.address() == second.address()
        first.stop(0)
        assert answers(second)


@pytest.mark.parametrize(
    ('handle', 'error'),
    [
        ({'fd': 'x'}, TypeError),
        ({}, TypeError),
        ({'fd': 10**6}, OSError),
        (net.Server(), ValueError),
        (1.5, TypeError),
        (-1, ValueError),
        (65536, ValueError),
        (True, TypeError),
    ],
)
def test_a_handle_that_cannot_listen_is_refused(handle: Any, error: type[Exception]) -> None:
    server = net.create_server()
    with pytest.raises(error):
        server.listen(handle)
    assert not server.listening


def test_a_descriptor_that_is_not_a_socket_is_refused() -> None:
    with open(os.devnull) as file, pytest.raises(OSError, match='socket'):
        net.create_server().listen(file)


@pytest.mark.parametrize(
    ('args', 'options'),
    [((0, 'a', 'b'), {}), ((0, 1, 2), {}), ((0, print, repr), {}), ((0,), {'host': 'x'}), ((0, 1.5), {})],
)
def test_wrong_arguments_of_listen_are_refused(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match='listen'):
        net.create_server().listen(*args, **options)


def test_a_port_in_use_raises() -> None:
    with net.create_server().listen(0, '127.0.0.1') as server, pytest.raises(OSError, match='in use') as caught:
        net.create_server().listen(server.address()['port'], '127.0.0.1')
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_in_use_is_emitted_to_a_listener() -> None:
    errors: list[OSError] = []
    with net.create_server().listen(0, '127.0.0.1') as server:
        other = net.create_server().on('error', errors.append)
        assert other.listen(server.address()['port'], '127.0.0.1') is other
        assert errors == []
        until(lambda: errors)
    assert errors[0].errno == errno.EADDRINUSE
    assert not other.listening


def test_a_host_name_without_address() -> None:
    with pytest.raises(NameNotResolved):
        net.create_server().listen(0, 'unknown.invalid')


def test_listening_twice_is_refused() -> None:
    with net.create_server().listen(0) as server, pytest.raises(RuntimeError, match='listening already'):
        server.listen(0)


def test_listening_again_after_the_end() -> None:
    server = net.create_server()
    for _ in range(2):
        with server.listen(0, '127.0.0.1'):
            assert answers(server)


def test_listen_fds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LISTEN_PID', raising=False)
    assert listen_fds() == []
    monkeypatch.setenv('LISTEN_PID', str(os.getpid()))
    assert listen_fds() == []
    monkeypatch.setenv('LISTEN_FDS', '2')
    assert listen_fds() == [3, 4]
    monkeypatch.setenv('LISTEN_FDS', 'x')
    assert listen_fds() == []
    monkeypatch.setenv('LISTEN_FDS', '2')
    monkeypatch.setenv('LISTEN_PID', '1')
    assert listen_fds() == []


def test_repr() -> None:
    server = net.create_server()
    assert repr(server) == '<Server not listening, 0 connections>'
    with server.listen(0, '127.0.0.1'), dial(server) as far:
        until(lambda: server.get_connections())
        assert repr(server).startswith("<Server listening on {'address': '127.0.0.1'")
        server.close()
        assert repr(server) == '<Server closing, 1 connections>'
        far.close()


def test_unref_lets_the_loop_end() -> None:
    loop = gevent.get_hub().loop
    before = loop.activecnt
    server = net.create_server()
    assert server.unref() is server
    with server.listen(0):
        settle()
        assert loop.activecnt == before
        assert server.ref() is server
        assert loop.activecnt == before + 1


# -- connections ----------------------------------------------------------------------------------------------------


def test_connections_are_counted(must_call: Callable[..., Any]) -> None:
    with net.create_server().listen(0, '127.0.0.1') as server, dial(server), dial(server):
        until(lambda: server.get_connections() == 2)
        counted: list[Any] = []
        assert server.get_connections(lambda *args: counted.append(args)) == 2
        assert counted == [(None, 2)]


def test_more_than_max_connections_are_dropped() -> None:
    dropped: list[Any] = []
    server = net.create_server().on('drop', dropped.append)
    server.max_connections = 1
    with server.listen(0, '127.0.0.1'), dial(server):
        until(lambda: server.get_connections())
        with dial(server) as far:
            port = far.getsockname()[1]
            assert far.recv(1) == b''
        until(lambda: dropped)
        assert dropped == [{'remote_address': '127.0.0.1', 'remote_port': port}]
        assert server.get_connections() == 1


def test_a_listener_that_raises_destroys_its_connection_and_nothing_else() -> None:
    sockets: list[Any] = []

    def on_connection(socket: Any) -> None:
        sockets.append(socket)
        if len(sockets) == 1:
            raise KeyError('x')

    with net.create_server(on_connection).listen(0, '127.0.0.1') as server:
        with dial(server) as first:
            assert first.recv(1) == b''
        with dial(server):
            until(lambda: len(sockets) == 2)
            assert not sockets[1].destroyed
            assert server.get_connections() == 1


def test_a_blocking_listener_does_not_delay_other_connections() -> None:
    gate = Event()
    arrived: list[Any] = []

    def on_connection(socket: Any) -> None:
        arrived.append(socket)
        gate.wait()

    with net.create_server(on_connection).listen(0, '127.0.0.1') as server, dial(server), dial(server):
        until(lambda: len(arrived) == 2)
        gate.set()


def test_allow_half_open_applies_to_accepted_sockets() -> None:
    sockets: list[Any] = []
    with net.create_server(sockets.append, allow_half_open=True).listen(0, '127.0.0.1') as server, dial(server):
        until(lambda: sockets)
        assert sockets[0].allow_half_open


class _Listener:
    """Imitate a listening socket that fails a few times."""

    family, type, proto = stdlib.AF_INET, stdlib.SOCK_STREAM, 0

    def __init__(self, listener: Any, errors: list[int]) -> None:
        self._listener = listener
        self._errors = errors
        self.fileno = listener.fileno
        self.close = listener.close

    def _accept(self) -> Any:
        if self._errors and (number := self._errors.pop(0)):
            raise OSError(number, 'as told')
        return self._listener._accept()


def _accept_after(errors: list[int], clients: int = 1) -> None:
    """Accept the given number of clients, with failures in between."""
    accepted: list[Any] = []
    listener = stdlib.socket()
    listener.bind(('127.0.0.1', 0))
    listener.listen(clients)
    listener.setblocking(False)
    there = Event()

    def on_accepted(raw: Any, peer: Any) -> None:
        accepted.append(raw)
        if len(accepted) == clients:
            there.set()

    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(gevent.socket.socket()).connect(listener.getsockname())
        acceptor = Acceptor(gevent.get_hub().loop, _Listener(listener, errors), on_accepted)
        there.wait()
        acceptor.close()
    for raw in accepted:
        raw.close()


@pytest.mark.parametrize('errors', [[errno.EMFILE], [errno.ENFILE, errno.ENOMEM], [errno.ECONNABORTED], [errno.EPROTO]])
def test_accepting_pauses_and_recovers(errors: list[int]) -> None:
    _accept_after(errors)
    assert errors == []


def test_repeated_pauses_are_not_logged_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each client that disconnects frees a descriptor for another one, and accepting fails again."""
    monkeypatch.setattr(net_server, 'monotonic', lambda: 7.0)
    # 0: a client is accepted
    _accept_after([errno.EMFILE, 0, errno.EMFILE, 0, errno.EMFILE], clients=3)
    assert len(caplog.records) == 1


def test_a_lasting_pause_is_logged_once_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([10.0, 10.3, 10.9, 11.0, 11.5, 12.0])
    monkeypatch.setattr(net_server, 'monotonic', lambda: next(clock))
    monkeypatch.setattr(net_server, 'MAX_PAUSE', 0.01)
    _accept_after([errno.EMFILE] * 6)
    assert len(caplog.records) == 3
