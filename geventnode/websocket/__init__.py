"""WebSockets (RFC 6455), with compression (RFC 7692), for servers and clients.

It needs ``wsproto``: ``pip install 'geventnode[websocket]'``.
"""

from geventnode.errors import (
    MessageTooBig,
    PingTimeout,
    SendQueueFull,
    SendTimeout,
    TooManyFragments,
    WebSocketClosed,
    WebSocketHandshakeError,
    WebSocketProtocolError,
)
from geventnode.http.same_origin import same_origin
from geventnode.websocket.client import connect
from geventnode.websocket.connection import WebSocket
from geventnode.websocket.server import accept, listener, upgrade

__all__ = [
    'MessageTooBig',
    'PingTimeout',
    'SendQueueFull',
    'SendTimeout',
    'TooManyFragments',
    'WebSocket',
    'WebSocketClosed',
    'WebSocketHandshakeError',
    'WebSocketProtocolError',
    'accept',
    'connect',
    'listener',
    'same_origin',
    'upgrade',
]
