"""Servers and agents over TLS for tests, and peers that do not use the package."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from geventnode import https
from tests.certificates import Certificates, TLSEnd, tls_certificates
from tests.origins import Peer
from tests.servers import Serve, Site, ok
from tests.sockets import dial

__all__ = ['MakePool', 'Secure', 'certificates', 'connect', 'pool', 'read', 'secure', 'tls_script', 'url']

Secure = Callable[..., Site]
MakePool = Callable[..., https.Agent]


@pytest.fixture(scope='session')
def certificates() -> Certificates:
    """Return the certificates of this run."""
    return tls_certificates()


@pytest.fixture
def secure(serve: Serve, certificates: Certificates) -> Secure:
    """Start HTTPS servers: ``secure(listener, **options)``."""

    def start(listener: Any = ok, **options: Any) -> Site:
        return serve(https.create_server(listener, **{'certfile': certificates.server, **options}))

    return start


@pytest.fixture
def pool(certificates: Certificates) -> Iterator[MakePool]:
    """Make agents that trust the authority of the tests: ``pool(**options)``."""
    agents = []

    def make(**options: Any) -> https.Agent:
        agents.append(https.Agent(**{'ca': certificates.ca, 'keep_alive': True, **options}))
        return agents[-1]

    yield make
    for each in agents:
        each.destroy()


def url(site: Site, path: str = '/', host: str = 'localhost') -> str:
    return f'https://{host}:{site.where[1]}{path}'


def read(*args: Any, **options: Any) -> bytes:
    body: bytes = https.get(*args, **options).get_response().read()
    return body


def connect(site: Site, certificates: Certificates) -> TLSEnd:
    """Return the connection of a client that does not use the package."""
    return TLSEnd(dial(site.server), certificates.client_context(), servername='localhost').handshake()


def tls_script(
    certificates: Certificates,
    script: Callable[[Peer, TLSEnd], object],
    which: str = 'server',
    context: ssl.SSLContext | None = None,
) -> Callable[[Peer], None]:
    """Return a script of an origin that speaks TLS."""
    context = context or certificates.server_context(which)

    def run(peer: Peer) -> None:
        end = TLSEnd(peer.socket, context, server_side=True)
        peer.socket = end
        with contextlib.suppress(ssl.SSLError):
            end.handshake()
            script(peer, end)

    return run
