"""Test connections that fail at first: full queues, errors of the kernel, several addresses."""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import resource
import socket as stdlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent.socket
import pytest

from geventnode import http, net
from geventnode.errors import ConnectError, ConnectionRefused, NameNotResolved, RequestTimeout
from tests.servers import GUARD
from tests.sockets import settle, until

# -- full queues ----------------------------------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Any]:
    """A listening Unix socket that has no room for another connection."""
    if sys.platform != 'linux':
        pytest.skip('elsewhere, a full queue refuses')
    path = str(tmp_path / 'socket')
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(gevent.socket.socket(stdlib.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        result = 0
        while not result:
            waiting = stack.enter_context(stdlib.socket(stdlib.AF_UNIX))
            waiting.setblocking(False)
            result = waiting.connect_ex(path)
        assert result == errno.EAGAIN
        yield listener


def test_connecting_waits_for_a_full_queue_of_a_unix_socket(full: Any) -> None:
    with net.connect(full.getsockname()) as socket:
        settle()
        assert socket.connecting
        full.accept()[0].close()
        socket.wait_connected().write(b'x')
        accepted, _ = full.accept()
        with accepted:
            assert accepted.recv(9) == b'x'


def test_connecting_to_a_full_queue_ends_after_a_time(full: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('geventnode.net.connecting.UNIX_CONNECT_TIME', 0)
    with pytest.raises(ConnectError) as caught:
        net.connect(full.getsockname()).wait_connected()
    assert (caught.value.code, caught.value.host) == ('EAGAIN', full.getsockname())
    assert isinstance(caught.value.__cause__, BlockingIOError)


def test_a_request_waits_for_a_full_queue_until_its_connect_timeout(full: Any) -> None:
    with pytest.raises(RequestTimeout, match='connect_timeout') as caught:
        http.get(socket_path=full.getsockname(), agent=False, connect_timeout=0.02).get_response()
    assert caught.value.phase == 'connect'


# -- errors of the kernel -------------------------------------------------------------------------------------------


def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[Any, ...]) -> None:
    """Let every name have these addresses."""
    found = [
        (stdlib.AF_INET6 if len(each) > 2 else stdlib.AF_INET, stdlib.SOCK_STREAM, 6, '', each) for each in addresses
    ]
    monkeypatch.setattr('geventnode.net.connecting.resolve', lambda *args: found)


def test_an_address_family_without_kernel_support_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a start with ipv6.disable=1."""

    class Kernel:
        def socket(self, family: int, *rest: Any) -> Any:
            if family == stdlib.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            return _socket.socket(family, *rest)

    monkeypatch.setattr('geventnode.net.descriptors._socket', Kernel())
    with net.create_server().listen(0, '127.0.0.1') as server:
        port = server.address()['port']
        resolved(monkeypatch, ('::1', port, 0, 0), ('127.0.0.1', port))
        with net.connect(port, 'localhost') as socket:
            assert socket.wait_connected().remote_address == '127.0.0.1'


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """Leave no descriptor to the process."""
    # the loop opens descriptors when the first greenlet waits
    settle()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures('no_descriptors')
def test_connecting_without_a_free_descriptor_fails() -> None:
    with pytest.raises(ConnectError) as caught:
        net.connect(9, '127.0.0.1').wait_connected()
    assert (caught.value.code, caught.value.host, caught.value.port) == ('EMFILE', '127.0.0.1', 9)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.usefixtures('no_descriptors')
def test_a_request_without_a_free_descriptor_fails() -> None:
    with pytest.raises(ConnectError) as caught:
        http.get('http://127.0.0.1:9/').get_response()
    assert (caught.value.code, caught.value.phase) == ('EMFILE', 'connect')
    assert isinstance(caught.value.__cause__, OSError)


# -- several addresses ----------------------------------------------------------------------------------------------


class Slow(_socket.socket):
    """Make a connection when the test releases it."""

    def connect_ex(self, address: Any) -> int:
        return errno.EINPROGRESS


class Slowly:
    """Imitate a kernel that makes the first connection slowly."""

    def __init__(self) -> None:
        near, self.far = gevent.socket.socketpair()
        near.setblocking(False)
        # a full queue keeps the socket from being writable, as a connect does
        with contextlib.suppress(BlockingIOError):
            while True:
                near._sock.send(bytes(65536))
        self._near: Any = Slow(near.family, near.type, near.proto, near.detach())
        self.fileno = self._near.fileno()
        #: The function that makes the other connections.
        self.others: Callable[..., Any] = _socket.socket

    def socket(self, *kind: Any) -> Any:
        made, self._near = self._near, None
        return made or self.others(*kind)

    def go_on(self) -> None:
        """Let the slow connection be made."""
        self.far.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.far.recv(65536):
                pass


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slowly]:
    """Let the first address respond late, and the second be tried at once."""
    kernel = Slowly()
    monkeypatch.setattr('geventnode.net.descriptors._socket', kernel)
    monkeypatch.setattr('geventnode.net.connecting.NEXT_AFTER', 0.001)
    with kernel.far:
        yield kernel


def test_a_silent_address_does_not_delay_the_next(slowly: Slowly, monkeypatch: pytest.MonkeyPatch) -> None:
    with net.create_server().listen(0, '127.0.0.1') as server:
        port = server.address()['port']
        resolved(monkeypatch, ('127.0.0.2', port), ('127.0.0.1', port))
        with net.connect(port, 'localhost') as socket:
            assert socket.wait_connected(GUARD).remote_address == '127.0.0.1'
            with pytest.raises(OSError, match='Bad file descriptor'):
                os.fstat(slowly.fileno)


def test_a_late_address_can_still_be_used(slowly: Slowly, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one was tried meanwhile, and has failed."""
    tried: list[Any] = []

    class Refused(_socket.socket):
        def connect_ex(self, address: Any) -> int:
            tried.append(address)
            return errno.ECONNREFUSED

    slowly.others = Refused
    resolved(monkeypatch, ('127.0.0.2', 1), ('127.0.0.1', 1))
    with net.connect(1, 'localhost') as socket:
        until(lambda: tried)
        settle()
        assert socket.connecting
        slowly.go_on()
        assert socket.wait_connected(GUARD).remote_address == '127.0.0.2'


def test_destroying_a_socket_ends_every_attempt(slowly: Slowly, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved(monkeypatch, ('127.0.0.2', 1))
    socket = net.connect(1, 'localhost')
    settle()
    assert socket.connecting
    socket.destroy()
    until(lambda: slowly.far.recv(65536) == b'')


def test_the_next_address_is_tried_at_once_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last failure is raised."""
    monkeypatch.setattr('geventnode.net.connecting.NEXT_AFTER', 10 * GUARD)
    resolved(monkeypatch, ('::1', 1, 0, 0), ('127.0.0.1', 1))
    with pytest.raises(ConnectionRefused) as caught:
        net.connect(1, 'localhost').wait_connected(GUARD)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere, a full queue refuses')
def test_an_unresponsive_address_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(stdlib.socket())
        silent.bind(('127.0.0.2', 0))
        silent.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(stdlib.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        server = stack.enter_context(http.create_server(lambda request, response: response.end('hello')))
        server.listen(0, '127.0.0.1')
        resolved(monkeypatch, silent.getsockname(), ('127.0.0.1', server.address()['port']))
        response = http.get('http://localhost/', agent=False, connect_timeout=GUARD).get_response()
        assert response.read() == b'hello'


def test_a_resolver_without_results_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program can have replaced the system's resolver. The same applies to the name to listen on."""
    monkeypatch.setattr('geventnode.net.address.getaddrinfo', lambda *args: [])
    with pytest.raises(NameNotResolved, match='the resolver has returned no address') as caught:
        http.get('http://example.invalid/', agent=False).get_response()
    assert (caught.value.code, caught.value.host, caught.value.phase) == ('ENOTFOUND', 'example.invalid', 'resolve')
    with pytest.raises(NameNotResolved, match='the resolver has returned no address'):
        net.create_server().listen(0, 'example.invalid')


def test_a_refused_port_leaves_the_socket_as_it_was() -> None:
    sock = net.Socket()
    with pytest.raises(ValueError, match='70000'):
        sock.connect(70000, '127.0.0.1', callback=lambda: pytest.fail('called'))
    assert not sock.connecting
    assert sock.listener_count('connect') == 0
    with net.create_server(lambda accepted: accepted.end()).listen(0, '127.0.0.1') as server:
        sock.connect(server.address()['port'], '127.0.0.1').wait_connected()
        assert sock.read() == b''
    sock.destroy()
