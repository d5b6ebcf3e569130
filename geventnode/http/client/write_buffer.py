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
    """Take the place of the socket that a request is waiting for; bounded like the queue of a socket."""

    def _send(self, data: bytes | memoryview) -> bool:
        """Queue ``data``, whatever the high-water mark is. Returns False: nothing was sent yet."""
        self._check_writable()
        self._enqueue(data, None)
        return False

    def _send_vectored(self, head: bytes, body: bytes | memoryview) -> bool:
        """Queue two pieces; see :meth:`_send`."""
        self._send(head)
        return self._send(body)

    def _when_flushed(self, callback: Callback) -> None:
        """Call ``callback`` when the data that is queued now was passed to the kernel."""
        self._enqueue(b'', callback)

    def transfer(self, socket: Socket) -> None:
        """Move the queued data to ``socket``, and wake the writers that wait for room."""
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
