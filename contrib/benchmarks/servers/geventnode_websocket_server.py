"""WebSockets of geventnode: ``/`` echoes in a handler that blocks, ``/events`` by events."""

from __future__ import annotations

from geventnode import http, websocket

__all__: list[str] = []


@websocket.listener
def echo(ws: websocket.WebSocket) -> None:
    """Send each message back."""
    if ws.request.url == '/events':
        ws.on('message', ws.send)
    else:
        for message in ws:
            ws.send(message)


if __name__ == '__main__':
    server = http.create_server()
    server.on('upgrade', echo)
    server.listen(0, '127.0.0.1')
    print(server.address()['port'], flush=True)
    server.serve_forever()
