"""What a request writes before it has a connection: bounded as the queue of a socket is, and handed over to one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from geventnode.errors import ConnectionClosed
from geventnode.stream.writable import Callback, WritableBase

if TYPE_CHECKING:
    from geventnode.net.socket import Socket

__all__ = ['WriteBuffer']


class WriteBuffer(WritableBase):
    """Stands in for the socket that a request waits for."""

    def _send(self, data: bytes | memoryview) -> bool:
        """Queue ``data``, however much is queued; return False: nothing left yet."""
        self._check_writable()
        self._enqueue(data, None)
        return False

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        """As :meth:`_send`, for two pieces."""
        self._send(head)
        return self._send(body)

    def _when_flushed(self, callback: Callback) -> None:
        """Call ``callback`` when everything that is queued now went to the kernel."""
        self._enqueue(b'', callback)

    def hand_over(self, socket: Socket) -> None:
        """Give everything to ``socket``, and let waiting writers go on with it."""
        queue = self._queue or ()
        self._queue = None
        self.writable_length = 0
        # who wrote it hears from the connection that it is gone
        with contextlib.suppress(ConnectionClosed):
            for data, callback in queue:
                if data:
                    socket._send(data)
                if callback is not None:
                    socket._when_flushed(callback)
        self._wake_writers()
