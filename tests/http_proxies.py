"""An HTTP proxy for tests, which shares no code with the package."""

from __future__ import annotations

import contextlib
from typing import Any

import gevent
from gevent import socket

from tests.origins import HELLO, Peer, Received

__all__ = ['ESTABLISHED', 'Proxy']

ESTABLISHED = b'HTTP/1.1 200 Connection established\r\n\r\n'


class Proxy:
    """The script of a proxy that opens tunnels, and responds itself to requests that it is to forward.

    :param required: the value of Proxy-Authorization that every request must have; None: none is required.
    """

    def __init__(self, required: str | None = None) -> None:
        self._required = required
        #: The received requests, and the bytes that tunnels have carried to their origins.
        self.requests: list[Received] = []
        self.tunnelled = b''

    @property
    def lines(self) -> list[str]:
        """The request lines."""
        return [each.line for each in self.requests]

    def __call__(self, peer: Peer, end: Any = None) -> None:
        """Serve one connection; ``end`` is passed for a script with TLS."""
        while True:
            request = peer.request()
            self.requests.append(request)
            if self._required is not None and request.value('Proxy-Authorization') != self._required:
                peer.send(
                    b'HTTP/1.1 407 Proxy Authentication Required\r\n'
                    b'Proxy-Authenticate: Basic realm="tests"\r\nContent-Length: 0\r\n\r\n'
                )
            elif request.line.startswith('CONNECT '):
                self._tunnel(peer, request.line.split(' ')[1])
                return
            else:
                peer.send(HELLO)

    def _tunnel(self, peer: Peer, target: str) -> None:
        host, _, port = target.rpartition(':')
        upstream = socket.create_connection((host.strip('[]'), int(port)))
        peer.send(ESTABLISHED)

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := upstream.recv(65536):
                    peer.send(data)
            peer.close()

        greenlet = gevent.spawn(back)
        try:
            while data := peer.receive():
                self.tunnelled += data
                upstream.sendall(data)
        finally:
            upstream.close()
            greenlet.kill()
