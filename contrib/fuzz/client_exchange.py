"""One exchange of the fuzzed client: the request, the server's input, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gevent

from contrib.fuzz.peer import Peer
from contrib.fuzz.turns import Steps, sending, settled, until
from geventnode import http
from geventnode.errors import GeventnodeError
from geventnode.net import Socket
from geventnode.protocol import Headers

__all__ = ['METHODS', 'READERS', 'ClientExchange', 'MemoryAgent']

ADDRESS = ('192.0.2.1', 80)
GOOD = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

#: Turns after which the users of a destroyed connection have ended.
TURNS_TO_END = 5

#: The options of requests, by name.
METHODS: dict[str, dict[str, Any]] = {
    'GET': {},
    'HEAD': {'method': 'HEAD'},
    'POST': {'method': 'POST', 'body': b'some content'},
    'CONNECT': {'method': 'CONNECT', 'path': 'a:1'},
    'upgrade': {'headers': {'Connection': 'Upgrade', 'Upgrade': 'x'}},
    'expect': {'method': 'PUT', 'headers': {'Expect': '100-continue'}, 'body': b'some content'},
}


class MemoryAgent(http.Agent):
    """An agent that connects to exchanges; each has a port of its own."""

    def __init__(self) -> None:
        super().__init__(keep_alive=True)
        self.exchanges: dict[int, ClientExchange] = {}

    def create_connection(self, options: Mapping[str, Any]) -> Any:
        return self.exchanges[options['port']].connect()

    _nonblocking_factories = (create_connection,)

    def clear(self) -> None:
        """Destroy all connections.

        Blocks until their users have ended.
        """
        self.exchanges.clear()
        if self.total_socket_count:
            self.destroy()
            for _ in range(TURNS_TO_END):
                gevent.idle()


class ClientExchange:
    """A request, and a server that sends ``pieces`` and disconnects.

    :ivar outcomes: the outcomes that the request has reported; there must be exactly one.
    :ivar pooled: whether the connection was idle in the pool before the server disconnected; None if not checked.
    """

    def __init__(self, agent: MemoryAgent, pieces: list[bytes], scenario: dict[str, Any]) -> None:
        self.peers: list[Peer] = []
        self._sockets: list[Socket] = []
        self.outcomes: list[tuple[Any, ...]] = []
        self.pooled: bool | None = None
        self._agent = agent
        self._port = len(agent.exchanges) + 1
        agent.exchanges[self._port] = self
        self._pieces = pieces
        self._scenario = scenario
        self._peer = Peer()
        self._ended = False
        self._limits: tuple[int | None, int | None] = scenario['room'], scenario['breaks_after']

    # -- the server -----------------------------------------------------------------------------------------------

    def connect(self) -> Socket:
        """Return a new connection."""
        peer = self._peer = Peer()
        socket = Socket()
        socket._attach(peer.handle, ADDRESS)
        self.peers.append(peer)
        self._sockets.append(socket)
        if not self._scenario['warm']:
            peer.limit(*self._limits)
        if self._ended:
            peer.end(reset=False)
        return socket

    def steps(self) -> Steps:
        """Run the exchange; see :class:`contrib.fuzz.turns.Exchange`."""
        scenario = self._scenario
        if scenario['warm']:
            warm = gevent.spawn(self._warm_up)
            yield from until(lambda: self._peer.handle.used, 'the first request')
            self._peer.send(GOOD)
            yield from until(warm.ready, warm)
            self._peer.limit(*self._limits)
        requesting = gevent.spawn(READERS[scenario['reader']], self)
        yield from until(lambda: self._peer.handle.used, 'the request')
        yield from self._feed()
        self._ended = True
        self._peer.end(reset=scenario['ending'] == 'reset')
        yield from until(
            lambda: self.outcomes and requesting.ready() and all(each.destroyed for each in self._sockets),
            (self._sockets, self.outcomes),
        )

    def _warm_up(self) -> None:
        http.get(host='h', port=self._port, agent=self._agent).get_response().read()

    def _feed(self) -> Steps:
        scenario, peer = self._scenario, self._peer
        yield from sending(peer, self._pieces, scenario['hurry'])
        if scenario['ending'] != 'with the data':
            yield from settled(lambda: (len(peer.received), peer.unread, len(self.outcomes), peer.handle.closed))
            self.pooled = bool(self._agent.free_sockets.get(f'h:{self._port}'))

    # -- the client -----------------------------------------------------------------------------------------------

    def request(self) -> Any:
        """Send the request, and return it."""
        options = METHODS[self._scenario['method']]
        made = http.request(host='h', port=self._port, agent=self._agent, **options)
        if 'body' not in options:
            made.end()
        return made

    def failed(self, error: BaseException) -> None:
        """Record an error as the outcome."""
        self.outcomes.append(('error', type(error).__name__, getattr(error, 'code', None)))

    def succeeded(self, response: Any, body: bytes) -> None:
        """Record a response as the outcome."""
        assert response.headers == Headers.from_raw(response.raw_headers)
        assert response.trailers == Headers.from_raw(response.raw_trailers)
        self.outcomes.append(
            (
                'complete' if response.complete else 'not complete',
                response.status_code,
                response.raw_headers,
                body,
                response.raw_trailers,
            )
        )

    def upgraded(self, response: Any) -> None:
        """Record an upgrade as the outcome, and read from the socket."""
        self.outcomes.append(('tunnel', response.status_code))
        with response.socket as socket:
            try:
                socket.read()
            except OSError:
                # the server has reset the connection
                return


def _read(exchange: ClientExchange, collect: Callable[[Any], bytes]) -> None:
    try:
        response = exchange.request().get_response()
        if response.upgrade:
            exchange.upgraded(response)
        else:
            exchange.succeeded(response, collect(response))
    except GeventnodeError as error:
        exchange.failed(error)


def read(exchange: ClientExchange) -> None:
    """Read the whole body at once."""
    _read(exchange, lambda response: response.read())


def read_in_pieces(exchange: ClientExchange) -> None:
    """Read a few bytes at a time."""
    _read(exchange, lambda response: b''.join(iter(lambda: response.read1(7), b'')))


def events(exchange: ClientExchange) -> None:
    """Read the body by events."""

    def on_response(response: Any) -> None:
        pieces: list[bytes] = []
        response.on('data', pieces.append)
        response.on('end', lambda: exchange.succeeded(response, b''.join(pieces)))
        response.on('error', exchange.failed)

    request = exchange.request()
    request.on('response', on_response)
    request.on('error', exchange.failed)
    for event in ('connect', 'upgrade'):
        request.on(event, lambda response, socket, head: exchange.upgraded(response))


def forget(exchange: ClientExchange) -> None:
    """Read only the head."""
    try:
        response = exchange.request().get_response()
    except GeventnodeError as error:
        exchange.failed(error)
    else:
        if response.upgrade:
            exchange.upgraded(response)
        else:
            exchange.outcomes.append(('head', response.status_code, response.raw_headers))


READERS: dict[str, Callable[[ClientExchange], None]] = {
    'read': read,
    'read in pieces': read_in_pieces,
    'events': events,
    'forget': forget,
}
