"""Trace lines about HTTP/2 connections, written while ``debug_connections`` is set.

A server that traces makes its connections of :class:`TracedConnection`, and changes the class of those that are open.
"""

from __future__ import annotations

from typing import Any

from geventnode.http.server.trace import trace, trace_lost
from geventnode.http2.codes import ErrorCode, code_name
from geventnode.http2.connection import Connection
from geventnode.http2.engine import ConnectionFailed, HeadReceived, StreamFailed, StreamReset
from geventnode.http2.stream import Stream

__all__ = ['TracedConnection']


class TracedConnection(Connection):
    """A connection that logs its events. It has no slots of its own."""

    __slots__ = ()

    def __init__(self, server: Any, socket: Any) -> None:
        super().__init__(server, socket)
        self._trace('accepted, HTTP/2')

    def _trace(self, message: str, *args: object) -> None:
        trace(self, message, *args)

    def data_received(self, data: bytes) -> None:
        self._trace('received %d bytes with %d open streams', len(data), len(self.streams))
        super().data_received(data)

    def eof_received(self) -> None:
        self._trace('the client has ended its side')
        super().eof_received()

    def connection_lost(self, error: BaseException | None) -> None:
        trace_lost(self, error)
        super().connection_lost(error)

    def _open(self, event: HeadReceived) -> Stream:
        self._trace('stream %d: %s %s', event.stream.id, event.head.method, event.head.url)
        return super()._open(event)

    def _on_reset(self, event: StreamReset) -> None:
        self._trace('stream %d: reset by the client, %s', event.stream.id, code_name(event.code))
        super()._on_reset(event)

    def _on_stream_failed(self, event: StreamFailed) -> None:
        self._trace('a stream failed with %s: %s', event.code.name, event.message)
        super()._on_stream_failed(event)

    def _on_failed(self, event: ConnectionFailed) -> None:
        self._trace('failed with %s: %s', event.code.name, event.message)
        super()._on_failed(event)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        self._trace('stream %d: reset, %s', stream.state.id, code.name)
        super().reset(stream, code)

    def forget(self, stream: Stream) -> None:
        self._trace('stream %d: complete', stream.state.id)
        super().forget(stream)

    def begin_draining(self) -> None:
        self._trace('draining, %d open streams', len(self.streams))
        super().begin_draining()

    def close(self) -> None:
        self._trace('closing, %d bytes queued', self.socket.writable_length)
        super().close()
