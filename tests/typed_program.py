"""A user's program with annotations, which the strict checkers accept.

``tox -e types`` checks it, without the plugin for zope.interface, which users do not have. It is never run.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from geventnode import http, net, stream, websocket

if TYPE_CHECKING:
    from typing_extensions import assert_type

server = http.create_server()


@server.on('request')
def respond(request: http.IncomingMessage, response: http.ServerResponse) -> None:
    """Decorate without losing the type of the function."""
    assert_type(response.once('close', print), http.ServerResponse)
    assert_type(request.pipe(response), http.ServerResponse)


@server.once('upgrade')
def upgrade(request: http.IncomingMessage, socket: net.Socket, head: bytes) -> None:
    assert_type(socket.write(head), bool)


@server.on('upgrade')
@websocket.listener
def echo(messages: websocket.WebSocket) -> None:
    for message in messages:
        messages.send(message)


@server.on('upgrade')
@websocket.listener(max_message_size=1000)
def count(messages: websocket.WebSocket) -> None:
    messages.send(str(sum(len(message) for message in messages)))


def check_types(request: http.ClientRequest, file: stream.Writable, response: http.ServerResponse) -> None:
    """Compare the types of results with those that programs rely on."""
    respond(request.get_response(), response)
    server.trusted_proxies = ['10.0.0.0/8', ip_address('192.0.2.1')]
    server.forwarded_headers = ['x-forwarded-for']
    assert_type(server.on('close', print), http.Server)
    assert_type(server.on('close', print).listen(0).ref().unref().also_listen(server), http.Server)
    assert_type(server.close(), http.Server)
    with server as entered:
        assert_type(entered, http.Server)
    assert_type(net.create_server().listen(0), net.Server)
    port: int = server.listen(0).address()['port']
    http.get(f'http://127.0.0.1:{port}/')
    assert_type(request.on('response', print).end(b'x').destroy(), http.ClientRequest)
    assert_type(request.get_response().pipe(file), stream.Writable)
