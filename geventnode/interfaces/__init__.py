"""Every contract of this package, by layer: events, streams, sockets, HTTP.

This is the table of contents: each public class provides one of these interfaces, and what a method promises is said
here, once. "May switch." means that other greenlets may run before the call returns, "Never switches." that they
cannot. Nothing here imports anything else of the package.
"""

from geventnode.interfaces.client import IAgent, IClientRequest
from geventnode.interfaces.events import IEventEmitter
from geventnode.interfaces.http import (
    IExchangeObserver,
    IHTTPServer,
    IIncomingMessage,
    IOutgoingMessage,
    IServerResponse,
)
from geventnode.interfaces.net import IServer, ISocket
from geventnode.interfaces.streams import IDuplex, IReadable, IWritable
from geventnode.interfaces.tls import ITLSServer, ITLSSocket

__all__ = [
    'IAgent',
    'IClientRequest',
    'IDuplex',
    'IEventEmitter',
    'IExchangeObserver',
    'IHTTPServer',
    'IIncomingMessage',
    'IOutgoingMessage',
    'IReadable',
    'IServer',
    'IServerResponse',
    'ISocket',
    'ITLSServer',
    'ITLSSocket',
    'IWritable',
]
