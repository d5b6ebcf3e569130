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
from geventnode.extras import missing_package
from geventnode.http.same_origin import same_origin

try:
    from geventnode.websocket.client import connect
    from geventnode.websocket.connection import WebSocket
    from geventnode.websocket.server import accept, listener, upgrade
except ModuleNotFoundError as error:
    raise missing_package(error, __name__, 'websocket') from error

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
