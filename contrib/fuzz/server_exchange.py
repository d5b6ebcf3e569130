"""One exchange of the fuzzed server: a connection, the peer's input, and the output."""

from __future__ import annotations

from typing import Any

from contrib.fuzz.peer import Peer
from contrib.fuzz.server_listeners import LISTENERS, tunnel
from contrib.fuzz.turns import Steps, sending, settled, until
from geventnode import http
from geventnode.net import Socket
from geventnode.protocol import Headers

__all__ = ['MemoryServer', 'ServerExchange']

ADDRESS = ('192.0.2.1', 1)


class MemoryServer(http.Server):
    """A server with connections in memory, where each exchange chooses the listener."""

    def __init__(self, tunnels: bool, **options: Any) -> None:
        super().__init__(self._listen, **options)
        self.tunnels = tunnels
        self.exchanges: dict[Any, ServerExchange] = {}
        if tunnels:
            self.on('connect', self._tunnel)
            self.on('upgrade', self._tunnel)

    def _new_socket(self) -> Socket:
        self._newest = super()._new_socket()
        return self._newest

    def accept(self, peer: Peer, exchange: ServerExchange) -> Socket:
        """Serve a connection to ``peer``."""
        self._on_accept(peer.handle, ADDRESS)
        self.exchanges[self._newest] = exchange
        return self._newest

    def _listen(self, request: Any, response: Any) -> None:
        # a failed assertion is logged, and so recorded
        assert request.headers == Headers.from_raw(request.raw_headers)
        with self.exchanges[request.socket]:
            self.exchanges[request.socket].listener(request, response)

    def _tunnel(self, request: Any, socket: Any, head: bytes) -> None:
        with self.exchanges[request.socket]:
            tunnel(request, socket, head)

    def clear(self) -> None:
        """Close all connections."""
        self.close_all_connections()
        self.exchanges.clear()


class ServerExchange:
    """A peer that sends ``pieces`` and disconnects.

    :ivar output: the bytes that the server has sent.
    :ivar served: the number of requests that the server has accepted.
    :ivar working: the number of listeners that are running.
    """

    def __init__(self, server: MemoryServer, pieces: list[bytes], scenario: dict[str, Any]) -> None:
        self.peers: list[Peer] = []
        self.output = b''
        self.served = 0
        self.working = 0
        self.listener = LISTENERS[scenario['listener']]
        self._server = server
        self._pieces = pieces
        self._scenario = scenario

    def __enter__(self) -> None:
        self.working += 1

    def __exit__(self, *args: object) -> None:
        self.working -= 1

    def steps(self) -> Steps:
        """Run the exchange; see :class:`contrib.fuzz.turns.Exchange`."""
        scenario = self._scenario
        peer = Peer(scenario['room'], scenario['breaks_after'])
        socket = self._server.accept(peer, self)
        self.peers.append(peer)
        connection: Any = socket._protocol
        yield from sending(peer, self._pieces, scenario['hurry'])
        if scenario['ending'] != 'with the data':
            yield from settled(
                lambda: (
                    len(peer.received),
                    peer.unread,
                    connection.served,
                    connection.state,
                    connection.parser.bytes_parsed,
                )
            )
        peer.end(reset=scenario['ending'] == 'reset')
        yield from until(lambda: socket.destroyed and not self.working, socket)
        peer.drain()
        self.output = bytes(peer.received)
        self.served = connection.served
