"""WebSockets in memory, for tests of handlers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from geventnode.http.server.upgraded import WebSocketCounts
from geventnode.testing.memory import memory_pair
from geventnode.websocket.connection import WebSocket, settings

__all__ = ['websocket_pair']


@contextlib.contextmanager
def websocket_pair(**options: Any) -> Iterator[tuple[WebSocket, WebSocket]]:
    """Yield the two ends of a WebSocket in memory: the client's and the server's.

    There was no handshake: both have neither a request nor a response, and no compression. They are destroyed at the
    end of the block.

    :param options: those of :func:`geventnode.websocket.accept`, for both ends, except ``headers``, ``origins`` and
        ``subprotocols``.
    """
    checked = settings(options, frozenset())
    first, second = memory_pair()
    client = WebSocket(first, b'', True, checked, WebSocketCounts())
    server = WebSocket(second, b'', False, checked, WebSocketCounts())
    try:
        yield client, server
    finally:
        client.destroy()
        server.destroy()
