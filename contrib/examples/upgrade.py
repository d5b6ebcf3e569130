"""A server that switches to another protocol, and its client: the upgrade example of Node's documentation.

The other protocol, ``echo``, sends all data back, by a pipe from the socket to itself. Node's example only pretends to
be a WebSocket; websocket_echo.py is one.

    python contrib/examples/upgrade.py
"""

from __future__ import annotations

from gevent.event import AsyncResult

from geventnode import http, net

__all__ = ['create_server', 'main', 'shout']


def create_server() -> http.Server:
    """Return the server, not yet listening."""
    server = http.create_server(okay)
    server.on('upgrade', switch_protocols)
    return server


def okay(request: http.IncomingMessage, response: http.ServerResponse) -> None:
    """Respond to requests without an upgrade."""
    response.write_head(200, {'Content-Type': 'text/plain'})
    response.end('okay')


def switch_protocols(request: http.IncomingMessage, socket: net.Socket, head: bytes) -> None:
    """Switch this connection to ``echo``."""
    # the client can reset the connection
    socket.on('error', lambda error: None)
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n')
    # data that arrived directly after the request belongs to the new protocol
    socket.write(head)
    socket.pipe(socket)


def shout(port: int, words: bytes) -> bytes:
    """Return the echo of ``words`` from the server at ``port``."""
    echo = AsyncResult()
    request = http.request(port=port, hostname='127.0.0.1', headers={'Connection': 'Upgrade', 'Upgrade': 'echo'})
    request.end()
    request.on('error', echo.set_exception)
    # a server that does not support the protocol responds without upgrading
    request.on('response', lambda response: echo.set_exception(ConnectionError('the server has not upgraded')))

    @request.on('upgrade')
    def upgraded(response: http.IncomingMessage, socket: net.Socket, head: bytes) -> None:
        chunks = [head]
        socket.on('data', chunks.append)
        socket.on('end', lambda: echo.set(b''.join(chunks)))
        socket.on('error', echo.set_exception)
        # after sending everything, the socket must still receive the echo
        socket.allow_half_open = True
        socket.end(words)

    return echo.get()


def main() -> None:
    """Run both sides."""
    with create_server() as server:
        server.listen(0, '127.0.0.1')
        print(shout(server.address()['port'], b'hello through the echo protocol').decode())


if __name__ == '__main__':
    main()
