"""A WebSocket echo server and a client (RFC 6455): HTTP by geventnode, frames by wsproto, one greenlet a connection.

Sending blocks while the other side does not read, and the server reads the next fragment only after it has sent the one
before. So a message of any size passes through the server in the memory of one fragment, and the server does not read
from a client that does not read its echo. A client that sends more than the buffers hold has to read at the same time:
see :func:`main`.

    pip install wsproto; python contrib/examples/websocket_echo.py
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.utilities import generate_accept_token, generate_nonce

from geventnode import http, net

__all__ = ['WebSocket', 'connect', 'create_server', 'main']

#: The most bytes, or characters of text, in a frame.
FRAGMENT = 65536
#: The most in a message that is read as a whole.
MAX_MESSAGE = 64 * 2**20

#: Seconds in which the other side must close after the closing handshake.
CLOSING_TIME = 10.0

VERSION = '13'
TOO_BIG = 1009

_key = re.compile(r'[A-Za-z0-9+/]{22}==')


class WebSocket:
    """One end of a connection. One greenlet reads, one sends messages, any greenlet can ping and close."""

    def __init__(self, socket: net.Socket, kind: ConnectionType, head: bytes) -> None:
        self._socket = socket
        self._server = kind is ConnectionType.SERVER
        self._frames = Connection(kind, trailing_data=head)
        # no other frame overtakes one that is being sent
        self._sending = BoundedSemaphore()
        #: The code and the reason with which the other side closed.
        self.close_code: int | None = None
        self.close_reason: str | None = None

    # -- sending ------------------------------------------------------------------------------------------------------

    def send_event(self, event: Event) -> None:
        """Send one frame. Blocks until there is room for it."""
        with self._sending:
            self._socket.write(self._frames.send(event))

    def send(self, data: str | bytes) -> None:
        """Send a message, in fragments if it is long."""
        kind: Any = TextMessage if isinstance(data, str) else BytesMessage
        for start in range(0, len(data) or 1, FRAGMENT):
            self.send_event(kind(data[start : start + FRAGMENT], message_finished=start + FRAGMENT >= len(data)))

    def ping(self, payload: bytes = b'') -> None:
        """Send a ping; the response is a ``Pong`` among the events."""
        self.send_event(Ping(payload))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Begin the closing handshake, which the reading greenlet completes."""
        if self._frames.state is ConnectionState.OPEN:
            self.send_event(CloseConnection(code, reason))

    # -- receiving ----------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[TextMessage | BytesMessage | Pong]:
        """Yield pongs and pieces of messages as they arrive, until the closing handshake."""
        while True:
            for event in self._frames.events():
                if isinstance(event, Ping):
                    if self._frames.state is ConnectionState.OPEN:
                        self.send_event(event.response())
                elif isinstance(event, CloseConnection):
                    self._closed_by_peer(event)
                    return
                elif isinstance(event, TextMessage | BytesMessage | Pong):
                    yield event
            data = self._socket.read1()
            if not data:
                raise ConnectionResetError('the other side disconnected without closing the WebSocket')
            self._frames.receive_data(data)

    def messages(self) -> Iterator[str | bytes]:
        """Yield whole messages."""
        parts: list[Any] = []
        size = 0
        for event in self.events():
            if isinstance(event, Pong) or size > MAX_MESSAGE:
                continue
            parts.append(event.data)
            size += len(event.data)
            if size > MAX_MESSAGE:
                self.close(TOO_BIG, f'a message is longer than {MAX_MESSAGE}')
            elif event.message_finished:
                yield (b'' if isinstance(event, BytesMessage) else '').join(parts)
                parts, size = [], 0

    def _closed_by_peer(self, event: CloseConnection) -> None:
        self.close_code, self.close_reason = int(event.code), event.reason
        # in state OPEN the event is not a frame, but an error in one
        if self._frames.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            self.send_event(event.response())
        hang_up(self._socket, self._server)


def hang_up(socket: net.Socket, first: bool = True) -> None:
    """Close the connection: the server ends first, and the client waits for that (RFC 6455, section 7.1.1)."""
    with gevent.Timeout(CLOSING_TIME, False), contextlib.suppress(OSError):
        if first:
            socket.end()
        while socket.read1():
            pass
    socket.destroy()


# -- the server -------------------------------------------------------------------------------------------------------


def create_server() -> http.Server:
    """Return a server that sends every message back, not yet listening."""
    server = http.create_server(refuse)
    server.on('upgrade', serve)
    return server


def refuse(request: http.IncomingMessage, response: http.ServerResponse) -> None:
    """Respond to requests without an upgrade."""
    response.write_head(426, {'Upgrade': 'websocket', 'Connection': 'Upgrade'})
    response.end('This server accepts only WebSocket connections.\n')


def serve(request: http.IncomingMessage, socket: net.Socket, head: bytes) -> None:
    """Shake hands (RFC 6455, section 4.2), and echo."""
    headers = request.headers
    try:
        if (
            request.method != 'GET'
            or headers['upgrade'].lower() != 'websocket'
            or headers.get('sec-websocket-version') != VERSION
            or not _key.fullmatch(headers.get('sec-websocket-key', ''))
        ):
            socket.write(
                'HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n'
                f'Sec-WebSocket-Version: {VERSION}\r\nContent-Length: 0\r\n\r\n'
            )
            hang_up(socket)
            return
        socket.write(
            'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
            f'Sec-WebSocket-Accept: {accept_token(headers["sec-websocket-key"])}\r\n\r\n'
        )
        websocket = WebSocket(socket, ConnectionType.SERVER, head)
        for event in websocket.events():
            if isinstance(event, Message):
                websocket.send_event(event)
    except OSError:
        # the client disconnected without a closing handshake
        socket.destroy()


def accept_token(key: str) -> str:
    """Return the proof that the server has understood the handshake."""
    return generate_accept_token(key.encode()).decode()


# -- the client -------------------------------------------------------------------------------------------------------


def connect(url: str) -> WebSocket:
    """Return an open WebSocket to ``url`` (``http://host:port/path``)."""
    key = generate_nonce().decode()
    response = http.get(
        url,
        headers={
            'Connection': 'Upgrade',
            'Upgrade': 'websocket',
            'Sec-WebSocket-Key': key,
            'Sec-WebSocket-Version': VERSION,
        },
    ).get_response()
    if not response.upgrade or response.headers.get('sec-websocket-accept') != accept_token(key):
        response.socket.destroy()
        raise ConnectionError(f'{url} is no WebSocket: {response.status_code} {response.status_message}')
    return WebSocket(response.socket, ConnectionType.CLIENT, response.head)


def main() -> None:
    """Run both sides."""
    with create_server() as server:
        server.listen(0, '127.0.0.1')
        websocket = connect(f'http://127.0.0.1:{server.address()["port"]}/')

        def talk() -> None:
            websocket.send('hello over the WebSocket')
            websocket.send(bytes(10_000_000))
            websocket.close()

        gevent.spawn(talk)
        for message in websocket.messages():
            print(message if len(message) < 100 else f'{len(message)} bytes')
        print('closed with', websocket.close_code)


if __name__ == '__main__':
    main()
