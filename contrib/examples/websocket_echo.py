"""A chat over WebSockets: a handler that blocks, listeners for events, and clients.

``/echo`` is served by a handler that blocks: one greenlet for each connection. ``/chat`` is served by listeners: an
idle connection has no greenlet, so that ten thousand of them need little memory. It sends each message to all others,
and disconnects those that do not read.

    pip install 'geventnode[websocket]'; python contrib/examples/websocket_echo.py
"""

from __future__ import annotations

from geventnode import http, websocket

__all__ = ['create_server', 'main']


def create_server() -> http.Server:
    """Return the server, not yet listening."""
    server = http.create_server(refuse)
    members: set[websocket.WebSocket] = set()

    @server.on('upgrade')
    @websocket.listener(max_message_size=65536, compression=True)
    def serve(ws: websocket.WebSocket) -> None:
        if ws.request.url == '/echo':
            echo(ws)
        else:
            join(ws, members)

    return server


def refuse(request: http.IncomingMessage, response: http.ServerResponse) -> None:
    """Respond to requests without an upgrade."""
    response.write_head(426, {'Upgrade': 'websocket', 'Connection': 'Upgrade'})
    response.end('This server accepts only WebSocket connections.\n')


def echo(ws: websocket.WebSocket) -> None:
    """Send every message back. Blocks until the client closes."""
    for message in ws:
        # a client that does not read makes this wait; then nothing more is read from it, either
        ws.send(message)


def join(ws: websocket.WebSocket, members: set[websocket.WebSocket]) -> None:
    """Send the messages of ``ws`` to all other members, and theirs to ``ws``."""
    members.add(ws)
    ws.on('close', lambda code, reason: members.discard(ws))

    @ws.on('message')
    def broadcast(message: str | bytes) -> None:
        for member in members - {ws}:
            try:
                member.send_nowait(message)
            except websocket.SendQueueFull:
                member.destroy()
            except websocket.WebSocketClosed:
                # it is closing, and its 'close' follows
                members.discard(member)


def main() -> None:
    """Run both sides."""
    with create_server() as server:
        server.listen(0, '127.0.0.1')
        url = f'ws://127.0.0.1:{server.address()["port"]}'
        with websocket.connect(f'{url}/echo') as ws:
            ws.send('hello over the WebSocket')
            print(ws.receive())
            print('a ping took', 'less' if ws.ping(timeout=10) < 1 else 'more', 'than a second')
        with websocket.connect(f'{url}/chat') as first, websocket.connect(f'{url}/chat') as second:
            # the pong shows that the server has the second member
            second.ping(timeout=10)
            first.send('to the others')
            print(second.receive())
        print('closed with', first.close_code)


if __name__ == '__main__':
    main()
