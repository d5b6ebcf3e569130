"""Input that arrives before its request, and that the loop has not received."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from geventnode import http
from geventnode.net import socket as net_socket
from tests.certificates import Certificates
from tests.https_sites import MakePool, tls_script
from tests.https_sites import read as read_secure
from tests.origins import HELLO, MakeOrigin, Peer, read
from tests.servers import Log
from tests.sessions import Mounted

EARLY = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly'


class Pretender:
    """An origin that can send unsolicited data on its first connection."""

    def __init__(self, first: bytes = HELLO) -> None:
        self.peers = Log()
        self._first = first

    def script(self, peer: Peer) -> None:
        """Respond to every request; the first response can be another one."""
        while True:
            peer.request()
            peer.send(HELLO if self.peers else self._first)
            self.peers.append(peer)

    def send(self, data: bytes) -> None:
        """Send ``data`` on the first connection. There is room for it, so that the loop does not run."""
        self.peers[0].send(data)


@pytest.mark.parametrize('method', ['GET', 'POST'])
def test_response_that_arrived_before_its_request_is_not_used(
    origin: MakeOrigin, agent: Callable[..., http.Agent], method: str
) -> None:
    pretender = Pretender()
    server, pool = origin(pretender.script), agent(keep_alive=True)
    assert read(server.url, agent=pool) == b'hello'
    pretender.send(EARLY)
    assert read(server.url, agent=pool, method=method) == b'hello'
    assert (server.accepted, pool.statistics()['retried']) == (2, 0)


def test_queued_request_does_not_get_an_early_response(
    origin: MakeOrigin, agent: Callable[..., http.Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection serves the next request before the loop has received more than the first response."""
    monkeypatch.setattr(net_socket, 'RECEIVE_SIZE', len(HELLO))

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO + EARLY if server.accepted == 1 else HELLO)
        peer.closed()

    server, pool = origin(script), agent(keep_alive=True, max_sockets=1)
    requests = [http.get(server.url, agent=pool) for _ in range(2)]
    assert pool.statistics()['queued'] == 1
    assert [request.get_response().read() for request in requests] == [b'hello', b'hello']
    assert server.accepted == 2


@pytest.mark.parametrize(
    ('method', 'first'),
    [
        ('GET', b'HTTP/1.1 204 No Content\r\n\r\n'),
        ('HEAD', b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'),
        ('GET', b'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n'),
    ],
)
def test_body_of_a_bodiless_response_ends_the_connection(
    origin: MakeOrigin, agent: Callable[..., http.Agent], method: str, first: bytes
) -> None:
    """RFC 9110, sections 9.3.2, 15.3.5 and 15.4.5: no body follows, but some servers send one."""
    pretender = Pretender(first)
    server, pool = origin(pretender.script), agent(keep_alive=True)
    assert read(server.url, agent=pool, method=method) == b''
    pretender.send(b'hello')
    assert read(server.url, agent=pool) == b'hello'
    assert (server.accepted, pool.statistics()['retried']) == (2, 0)


def test_unsolicited_response_over_tls_is_not_used(
    origin: MakeOrigin, certificates: Certificates, pool: MakePool
) -> None:
    pretender = Pretender()
    server, agent = origin(tls_script(certificates, lambda peer, end: pretender.script(peer))), pool()
    url = f'https://localhost:{server.port}/'
    assert read_secure(url, agent=agent) == b'hello'
    pretender.send(EARLY)
    assert read_secure(url, agent=agent) == b'hello'
    assert (server.accepted, agent.statistics()['retried']) == (2, 0)


@pytest.mark.parametrize('secure', [False, True])
def test_unsolicited_response_is_not_used_by_requests(
    origin: MakeOrigin, certificates: Certificates, session: Mounted, secure: bool
) -> None:
    pretender = Pretender()
    script: Any = tls_script(certificates, lambda peer, end: pretender.script(peer)) if secure else pretender.script
    server, client = origin(script), session()
    url = f'{"https" if secure else "http"}://localhost:{server.port}/'
    assert client.get(url, verify=certificates.ca).content == b'hello'
    pretender.send(EARLY)
    assert client.post(url, verify=certificates.ca).content == b'hello'
    assert server.accepted == 2
