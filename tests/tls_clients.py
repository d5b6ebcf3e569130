"""Clients of geventnode within a connection, with a server of the tests at the far end."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import gevent

from geventnode import tls
from geventnode.net import Socket
from geventnode.tls import TLSSocket
from tests.certificates import TLSEnd
from tests.sockets import connected

__all__ = ['client_of', 'shaken']


@contextlib.contextmanager
def client_of(context: ssl.SSLContext, **options: Any) -> Iterator[tuple[TLSSocket, TLSEnd]]:
    """Yield a client before its TLS handshake, and its server."""
    left, right = connected()
    far = TLSEnd(right, context, server_side=True)
    host = options.pop('host', 'localhost')
    near = tls.connect(host=host, socket=Socket(left), **options)
    try:
        yield near, far
    finally:
        near.destroy()
        far.close()


@contextlib.contextmanager
def shaken(near: TLSSocket, far: TLSEnd) -> Iterator[None]:
    """Let the far end complete the handshake meanwhile."""
    shaking = gevent.spawn(far.handshake)
    yield
    shaking.get()
