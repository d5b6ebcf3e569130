"""Connections that are not made at the first try: full queues, what the kernel refuses, several addresses."""
from __future__ import annotations

import _socket
import contextlib
import errno
import os
import resource
import socket as stdlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent.socket
import pytest

from geventnode import http, net
from geventnode.errors import ConnectError, RequestTimeout
from tests.sockets import settle

__all__: list[str] = []


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


def test_a_full_queue_of_a_unix_socket_is_waited_for(full: Any) -> None:
    with net.connect(full.getsockname()) as socket:
        settle()
        assert socket.connecting
        full.accept()[0].close()
        socket.wait_connected().write(b'x')
        accepted, _ = full.accept()
        with accepted:
            assert accepted.recv(9) == b'x'


def test_a_full_queue_is_not_waited_for_for_ever(full: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('geventnode.net.connecting.PATIENCE', 0)
    with pytest.raises(ConnectError) as caught:
        net.connect(full.getsockname()).wait_connected()
    assert (caught.value.code, caught.value.host) == ('EAGAIN', full.getsockname())
    assert isinstance(caught.value.__cause__, BlockingIOError)


def test_a_request_waits_for_a_full_queue_until_its_connect_timeout(full: Any) -> None:
    with pytest.raises(RequestTimeout, match='connect_timeout') as caught:
        http.get(socket_path=full.getsockname(), agent=False, connect_timeout=0.02).get_response()
    assert caught.value.phase == 'connect'


# -- what the kernel refuses ----------------------------------------------------------------------------------------

def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[Any, ...]) -> None:
    """Let every name have these addresses."""
    found = [(stdlib.AF_INET6 if len(each) > 2 else stdlib.AF_INET, stdlib.SOCK_STREAM, 6, '', each)
             for each in addresses]
    monkeypatch.setattr('geventnode.net.connecting.resolve', lambda *args: found)


def test_a_family_that_the_kernel_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a start with ipv6.disable=1."""
    class Kernel:
        def socket(self, family: int, *rest: Any) -> Any:
            if family == stdlib.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            return _socket.socket(family, *rest)

    monkeypatch.setattr('geventnode.net.connecting._socket', Kernel())
    with net.create_server().listen(0, '127.0.0.1') as server:
        port = server.address()['port']
        resolved(monkeypatch, ('::1', port, 0, 0), ('127.0.0.1', port))
        with net.connect(port, 'localhost') as socket:
            assert socket.wait_connected().remote_address == '127.0.0.1'


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """The process may open no further file."""
    # what the loop needs for the first greenlet that waits
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
def test_no_descriptor_for_a_connection() -> None:
    with pytest.raises(ConnectError) as caught:
        net.connect(9, '127.0.0.1').wait_connected()
    assert (caught.value.code, caught.value.host, caught.value.port) == ('EMFILE', '127.0.0.1', 9)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.usefixtures('no_descriptors')
def test_no_descriptor_for_a_request() -> None:
    with pytest.raises(ConnectError) as caught:
        http.get('http://127.0.0.1:9/').get_response()
    assert (caught.value.code, caught.value.phase) == ('EMFILE', 'connect')
    assert isinstance(caught.value.__cause__, OSError)
