"""TLS within TLS, up to three layers, with a peer that does not use the package."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from geventnode import net, tls
from geventnode.errors import ConnectionClosed, TLSError
from tests.certificates import Certificates, TLSEnd
from tests.sockets import connected


class Layered:
    """A connection with several layers of TLS: the end of the package, and the plain one."""

    def __init__(self, certificates: Certificates, layers: int) -> None:
        near, far = connected()
        self.near: Any = net.Socket(near)
        self.far: Any = far
        for _ in range(layers):
            end = TLSEnd(self.far, certificates.server_context(), server_side=True)
            handshake = gevent.spawn(end.handshake)
            self.near = tls.connect(socket=self.near, host='localhost', ca=certificates.ca)
            self.near.wait_connected()
            handshake.get()
            self.far = end


@pytest.fixture(params=[2, 4])
def layered(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Layered]:
    made = Layered(certificates, request.param)
    yield made
    made.near.destroy()
    made.far.close()


def receive(end: Any, size: int) -> bytes:
    """Return ``size`` bytes that the plain end receives."""
    data = b''
    while len(data) < size:
        data += end.recv(65536)
    return data


@pytest.mark.parametrize('size', [1, 16384, 3_000_000])
def test_data_passes_both_ways(layered: Layered, size: int) -> None:
    """More than the buffers of the kernel, too."""
    data = os.urandom(size)
    received = gevent.spawn(receive, layered.far, size)
    layered.near.write(data)
    assert received.get() == data
    sent = gevent.spawn(layered.far.sendall, data)
    assert layered.near.read(size) == data
    sent.get()


def test_peer_can_end(layered: Layered) -> None:
    layered.far.sendall(b'last')
    layered.far.shutdown(0)
    assert layered.near.read() == b'last'


def test_this_side_can_end(layered: Layered) -> None:
    layered.near.allow_half_open = True
    layered.near.end(b'last')
    assert receive(layered.far, 4) == b'last'
    assert layered.far.recv(10) == b''
    layered.far.sendall(b'and more')
    assert layered.near.read(8) == b'and more'


def test_cut_connection_is_an_error(layered: Layered) -> None:
    layered.far.close()
    with pytest.raises(ConnectionClosed) as caught:
        layered.near.read()
    assert isinstance(caught.value.__cause__, TLSError)


def test_peer_is_that_of_the_connection(layered: Layered) -> None:
    assert layered.near.remote_address == '127.0.0.1'
    assert layered.near.local_port
    layered.near.set_no_delay(False)
    layered.near.set_keep_alive(True, 5)
    assert layered.near.get_protocol() in ('TLSv1.2', 'TLSv1.3')
    assert layered.near.authorized


def test_handshake_must_be_over(certificates: Certificates) -> None:
    near, far = connected()
    outer = tls.connect(socket=net.Socket(near), host='localhost', ca=certificates.ca)
    with pytest.raises(RuntimeError, match='handshake of this TLSSocket is not over'):
        tls.connect(socket=outer, host='localhost', ca=certificates.ca)
    outer.destroy()
    far.close()


def test_inner_certificate_is_checked(certificates: Certificates) -> None:
    near, far = connected()
    end = TLSEnd(far, certificates.server_context(), server_side=True)
    handshake = gevent.spawn(end.handshake)
    outer = tls.connect(socket=net.Socket(near), host='localhost', ca=certificates.ca)
    outer.wait_connected()
    handshake.get()
    inner = TLSEnd(end, certificates.server_context('other'), server_side=True)
    refused = gevent.spawn(inner.handshake)
    made = tls.connect(socket=outer, host='localhost', ca=certificates.ca)
    with pytest.raises(TLSError, match='localhost'):
        made.wait_connected()
    with pytest.raises(ssl.SSLError):
        refused.get()
    far.close()
