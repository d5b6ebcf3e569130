"""The data that a request writes before it has a connection."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from geventnode.errors import ConnectionClosed
from geventnode.stream.writable import Callback, WritableBase

if TYPE_CHECKING:
    from geventnode.net.socket import Socket

__all__ = ['WriteBuffer']


class WriteBuffer(WritableBase):
    """Buffer the data of a request, bounded as by a socket."""

    def _send(self, data: bytes | memoryview) -> bool:
        """Queue ``data``, also above the high-water mark. Returns False: it is not sent."""
        self._check_writable()
        self._enqueue(data, None)
        return False

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        """Queue two pieces; see :meth:`_send`."""
        self._send(head)
        return self._send(body)

    def _when_flushed(self, callback: Callback) -> None:
        """Call ``callback`` after the data that is queued now was sent."""
        self._enqueue(b'', callback)

    def transfer(self, socket: Socket) -> None:
        """Move the queued data to ``socket``, and wake waiting writers."""
        queue = self._queue or ()
        self._queue = None
        self.writable_length = 0
        # the connection reports to the writer that it was closed
        with contextlib.suppress(ConnectionClosed):
            for data, callback in queue:
                if data:
                    socket._send(data)
                if callback is not None:
                    socket._when_flushed(callback)
        self._wake_writers()
