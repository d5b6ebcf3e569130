"""The contracts of this package, by layer: events, streams, sockets, HTTP, WebSockets.

Each public class provides one of these interfaces. A contract states the names, the signatures and the events, which
tests compare with the classes; the methods are explained in the docstrings of the classes. A method can block if its
docstring says "Blocks until ..."; other greenlets then run. All other methods return at once, except that
listeners of the events that they emit can block.

This module imports nothing else of the package.
"""

from geventnode.interfaces.client import IAgent, IClientRequest, IRequestObserver
from geventnode.interfaces.events import IEventEmitter
from geventnode.interfaces.http import (
    IEventBroadcast,
    IExchangeObserver,
    IHTTPServer,
    IIncomingMessage,
    IOutgoingMessage,
    IServerResponse,
)
from geventnode.interfaces.net import IServer, ISocket
from geventnode.interfaces.streams import IDuplex, IPushReadable, IReadable, IWritable
from geventnode.interfaces.tls import ITLSServer, ITLSSocket
from geventnode.interfaces.websocket import IWebSocket

__all__ = [
    'IAgent',
    'IClientRequest',
    'IDuplex',
    'IEventBroadcast',
    'IEventEmitter',
    'IExchangeObserver',
    'IHTTPServer',
    'IIncomingMessage',
    'IOutgoingMessage',
    'IPushReadable',
    'IReadable',
    'IRequestObserver',
    'IServer',
    'IServerResponse',
    'ISocket',
    'ITLSServer',
    'ITLSSocket',
    'IWebSocket',
    'IWritable',
]
