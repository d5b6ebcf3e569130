"""Connections for tests: a socket of geventnode at the near end, a plain cooperative one at the far end.

The far end is gevent's own socket, or the plain one of the testing kit. Neither shares code with the tested sockets, so
that a fault cannot hide itself at both ends. :func:`until` and :func:`settle` count turns of the loop: the guard
against hangs finds a condition that never becomes true.
"""

from __future__ import annotations

import contextlib
import functools
import socket as stdlib
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
from gevent.queue import Queue

from geventnode.net import Socket
from geventnode.testing import memory_socket
from geventnode.tls import TLSSocket
from tests.certificates import TLSEnd, tls_certificates

__all__ = ['Feeder', 'Taker', 'answers', 'connected', 'dial', 'pair', 'reset', 'secured', 'settle', 'shrink', 'until']

#: Turns of the loop after which a missing event counts as absent.
SETTLING_TURNS = 20

#: Turns of the loop without a pause, while a condition is awaited; and seconds of each pause afterwards.
BUSY_TURNS, PAUSE = 1000, 0.002

#: A small size for send buffers. Receive buffers keep their size: with small ones, the kernel drops bytes
#: in flight, and the transfer waits for its timers.
SMALL = 131072


def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until ``condition`` is true."""
    for _ in range(BUSY_TURNS):
        if condition():
            return
        gevent.idle()
    # It depends on a timer or on another process, which can need the processor.
    while not condition():
        gevent.sleep(PAUSE)


def settle() -> None:
    """Let the loop run until no further event is expected."""
    for _ in range(SETTLING_TURNS):
        gevent.idle()


def connected(family: str = 'tcp') -> tuple[Any, Any]:
    """Return two plain connected sockets; ``family`` is ``'tcp'``, ``'tcp6'`` or ``'unix'``."""
    if family == 'unix':
        left, right = gevent.socket.socketpair()
        return left, right
    kind, host = (stdlib.AF_INET6, '::1') if family == 'tcp6' else (stdlib.AF_INET, '127.0.0.1')
    listener = gevent.socket.socket(kind, stdlib.SOCK_STREAM)
    try:
        listener.bind((host, 0))
        listener.listen(1)
        right = gevent.socket.socket(kind, stdlib.SOCK_STREAM)
        right.connect(listener.getsockname())
        left, _ = listener.accept()
    finally:
        listener.close()
    return left, right


def shrink(*sockets: Any) -> None:
    """Let the kernel queue few bytes for sending."""
    for each in sockets:
        each.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, SMALL)


def reset(far: Any) -> None:
    """End a TCP connection by RST."""
    far.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, struct.pack('ii', 1, 0))
    far.close()


@contextlib.contextmanager
def pair(family: str = 'tcp', *, small: bool = False, **options: Any) -> Iterator[tuple[Socket, Any]]:
    """Yield a socket of the package, made with ``options``, and the connected plain one.

    ``family`` can also be ``'tls'`` or ``'memory'``."""
    near, right = _pair(family, small, options)
    try:
        yield near, right
    finally:
        near.destroy()
        right.close()


def _pair(family: str, small: bool, options: dict[str, Any]) -> tuple[Socket, Any]:
    if family == 'memory':
        return memory_socket(capacity=SMALL // 16 if small else SMALL, **options)
    left, right = connected('tcp' if family == 'tls' else family)
    if small:
        shrink(left, right)
    return secured(left, right, **options) if family == 'tls' else (Socket(left, **options), right)


@functools.cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of both ends, which nothing changes; loading their files takes as long as a handshake."""
    certificates = tls_certificates()
    return certificates.server_context(), certificates.client_context()


def secured(left: Any, right: Any, **options: Any) -> tuple[TLSSocket, TLSEnd]:
    """Return the connection after a TLS handshake: a socket of the package and a peer of the tests."""
    of_server, of_client = _contexts()
    near = TLSSocket(of_server, server_side=True, handle=left, **options)
    far = TLSEnd(right, of_client, servername='localhost')
    shaking = gevent.spawn(far.handshake)
    near.wait_connected()
    shaking.get()
    return near, far


class Feeder:
    """Sends to a plain socket without blocking; bytes that the peer does not read are queued here."""

    def __init__(self, far: Any) -> None:
        self._far = far
        self._queue: Queue = Queue()
        self._greenlet = gevent.spawn(self._run)

    def send(self, data: bytes) -> None:
        """Send ``data`` after all other data."""
        self._queue.put(data)

    def end(self) -> None:
        """Send a FIN after all data."""
        self._queue.put(None)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            for data in iter(self._queue.get, None):
                self._far.sendall(data)
            self._far.shutdown(stdlib.SHUT_WR)

    def stop(self) -> None:
        """Discard the queue."""
        self._greenlet.kill()


class Taker:
    """Receives all data from a plain socket, in a greenlet, after :meth:`start`."""

    def __init__(self, far: Any) -> None:
        self._far = far
        self._greenlet: gevent.Greenlet | None = None
        #: The received data.
        self.data = bytearray()

    def start(self) -> None:
        """Begin to receive."""
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._far.recv(65536):
                self.data += data

    def all(self) -> bytes:
        """Receive up to the end and return everything."""
        self.start()
        assert self._greenlet is not None
        self._greenlet.get()
        return bytes(self.data)

    def stop(self) -> None:
        """Receive no more."""
        if self._greenlet is not None:
            self._greenlet.kill()


def dial(server: Any) -> Any:
    """Return a plain socket that is connected with ``server``."""
    address = server.address()
    if isinstance(address, str):
        far = gevent.socket.socket(stdlib.AF_UNIX)
        far.connect(address)
    else:
        far = gevent.socket.socket(stdlib.AF_INET6 if address['family'] == 'IPv6' else stdlib.AF_INET)
        far.connect((address['address'], address['port']))
    return far


def answers(server: Any) -> bool:
    """Return whether ``server`` accepts a connection."""
    with dial(server):
        until(lambda: server.get_connections())
    until(lambda: not server.get_connections())
    return True
