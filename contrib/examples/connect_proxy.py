"""A tunnelling proxy, and a client that makes a request through it: the CONNECT example of Node's documentation.

The proxy connects to any requested address, and pipes each socket to the other without looking at the data. It does not
authenticate clients: let it listen only where trusted clients can connect.

    python contrib/examples/connect_proxy.py [HOST:PORT of an HTTP server; otherwise one in this process]
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

from gevent.event import AsyncResult

from geventnode import http, net
from geventnode.stream import finished

__all__ = ['create_proxy', 'fetch', 'main']

CONNECT_TIMEOUT = 10.0


def create_proxy() -> http.Server:
    """Return an HTTP tunnelling proxy, not yet listening."""
    proxy = http.create_server(okay)
    proxy.on('connect', open_tunnel)
    return proxy


def okay(request: http.IncomingMessage, response: http.ServerResponse) -> None:
    """Respond to requests other than CONNECT."""
    response.write_head(200, {'Content-Type': 'text/plain'})
    response.end('okay')


def open_tunnel(request: http.IncomingMessage, client: net.Socket, head: bytes) -> None:
    """Connect to the origin server, and pipe the two sockets to each other."""
    try:
        target = urlsplit(f'//{request.url}')
        # each side can end its own direction and still receive
        origin = net.connect(target.port, target.hostname, allow_half_open=True)
        origin.wait_connected(CONNECT_TIMEOUT)
    except OSError as error:
        # a client that resets the connection gets no response
        client.on('error', lambda error: None)
        client.end(f'HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n{error}\n')
        # discard the data that arrives until the client closes
        client.resume()
        return
    client.allow_half_open = True
    # if one connection is lost, destroy the other one
    finished(client, lambda error: error and origin.destroy())
    finished(origin, lambda error: error and client.destroy())
    client.write('HTTP/1.1 200 Connection Established\r\nProxy-agent: geventnode\r\n\r\n')
    origin.write(head)
    origin.pipe(client)
    client.pipe(origin)


def fetch(proxy_port: int, origin: str) -> bytes:
    """Request ``/`` from ``origin`` (``host:port``) through the proxy, and return all bytes of the response."""
    answer = AsyncResult()
    request = http.request(port=proxy_port, hostname='127.0.0.1', method='CONNECT', path=origin)
    request.end()
    request.on('error', answer.set_exception)

    @request.on('connect')
    def connected(response: http.IncomingMessage, socket: net.Socket, head: bytes) -> None:
        if response.status_code != 200:
            socket.destroy()
            answer.set_exception(ConnectionError(f'no tunnel to {origin}: {response.status_code}'))
            return
        # make a request over the tunnel
        chunks = [head]
        socket.on('data', chunks.append)
        socket.on('end', lambda: answer.set(b''.join(chunks)))
        socket.on('error', answer.set_exception)
        socket.write(f'GET / HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n\r\n')

    return answer.get()


def main(origin: str | None = None) -> None:
    """Run the proxy and the client."""

    def hello(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        response.end('hello through the tunnel\n')

    with http.create_server(hello) as server, create_proxy() as proxy:
        server.listen(0, '127.0.0.1')
        proxy.listen(0, '127.0.0.1')
        answer = fetch(port(proxy), origin or f'127.0.0.1:{port(server)}')
        print(answer.decode('utf-8', 'replace'))


def port(server: Any) -> int:
    """Return the port of ``server``."""
    return server.address()['port']


if __name__ == '__main__':
    main(*sys.argv[1:2])
