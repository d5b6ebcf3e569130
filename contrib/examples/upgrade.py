"""A server that goes over to another protocol, and a client that asks for it: the upgrade example of Node's document.

The other protocol is called ``echo`` and sends back what it gets, which is one pipe from the socket to itself. For the
protocol that the document's example only pretends to speak, see websocket_echo.py.

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
    """Answer what asks for no upgrade."""
    response.write_head(200, {'Content-Type': 'text/plain'})
    response.end('okay')


def switch_protocols(request: http.IncomingMessage, socket: net.Socket, head: bytes) -> None:
    """Speak ``echo`` on this connection."""
    # who resets the connection wants no more
    socket.on('error', lambda error: None)
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n')
    # what came right behind the request belongs to the new protocol
    socket.write(head)
    socket.pipe(socket)


def shout(port: int, words: bytes) -> bytes:
    """Return the echo of ``words`` from the server at ``port``."""
    echo = AsyncResult()
    request = http.request(port=port, hostname='127.0.0.1', headers={'Connection': 'Upgrade', 'Upgrade': 'echo'})
    request.end()
    request.on('error', echo.set_exception)
    # a server that does not know the protocol answers as if it had not been asked
    request.on('response', lambda response: echo.set_exception(ConnectionError('the server has not upgraded')))

    @request.on('upgrade')
    def upgraded(response: http.IncomingMessage, socket: net.Socket, head: bytes) -> None:
        chunks = [head]
        socket.on('data', chunks.append)
        socket.on('end', lambda: echo.set(b''.join(chunks)))
        socket.on('error', echo.set_exception)
        # the end of our words is the end of the echo; until then it must be heard
        socket.allow_half_open = True
        socket.end(words)

    return echo.get()


def main() -> None:
    """Run both sides."""
    with create_server() as server:
        server.listen(0, '127.0.0.1')
        print(shout(server.address()['port'], b'Is anybody there?').decode())


if __name__ == '__main__':
    main()
