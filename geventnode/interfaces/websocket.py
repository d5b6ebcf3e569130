"""The contract of WebSockets."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute

from geventnode.interfaces.events import IEventEmitter
from geventnode.interfaces.http import IIncomingMessage
from geventnode.interfaces.net import ISocket

__all__ = ['IWebSocket']


class IWebSocket(IEventEmitter):
    """A WebSocket; see :class:`geventnode.websocket.WebSocket`, which lists its events."""

    socket: ISocket = Attribute('The connection; reading from it or writing to it breaks the frames.')
    request: IIncomingMessage | None = Attribute('On a server: the request of the handshake.')
    response: IIncomingMessage | None = Attribute('On a client: the response of the handshake.')
    subprotocol: str | None = Attribute('The subprotocol that both sides have agreed on; None without one.')
    closed: bool = Attribute('Whether it is closed or closing, so that no message can be sent.')
    close_code: int | None = Attribute('The code of the close frame; None while the connection is open.')
    close_reason: str = Attribute('The text of the close frame.')
    buffered_amount: int = Attribute('Bytes that are queued because the peer does not read fast enough.')

    def send(message: str | bytes | bytearray | memoryview) -> None:
        """Send a message; see :meth:`geventnode.websocket.WebSocket.send`. Blocks until the queue has room."""

    def send_nowait(message: str | bytes | bytearray | memoryview) -> None:
        """Send a message without waiting; see :meth:`geventnode.websocket.WebSocket.send_nowait`."""

    def receive(timeout: float | None = None) -> str | bytes:
        """Return the next message; see :meth:`geventnode.websocket.WebSocket.receive`. Blocks until there is one."""

    def ping(timeout: float | None = None) -> float:
        """Send a ping; see :meth:`geventnode.websocket.WebSocket.ping`. Blocks until its pong arrives."""

    def close(code: int = 1000, reason: str = '') -> None:
        """Close in order; see :meth:`geventnode.websocket.WebSocket.close`. Blocks until the connection is closed."""

    def destroy(error: BaseException | None = None) -> Any:
        """Close at once; see :meth:`geventnode.websocket.WebSocket.destroy`."""
