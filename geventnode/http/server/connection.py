"""One client's connection: when it waits it holds no greenlet, and one request at a time is in work.

The socket hands over what arrives, in the hub. While the connection is parked the head is parsed right there, and only
a complete one takes a worker. Bytes behind it stay in the parser until the listener reads the body, or until the
response has ended and the next request may begin. What to do with the bytes and how requests are answered stands in
the parts that this is made of; here is when.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventnode.errors import GeventnodeError, IncompleteBody, RequestTimeout
from geventnode.http.server.deadlines import due
from geventnode.http.server.lifecycle import State
from geventnode.http.server.responding import Responder, Work
from geventnode.http.server.workers import Worker
from geventnode.net.deadlines import deadlines

if TYPE_CHECKING:
    from geventnode.http.server.server import Server
    from geventnode.net.socket import Socket

__all__ = ['Connection']

_PARKED, _BUSY, _DISCARDING, _FLUSHING = State.PARKED, State.BUSY, State.DISCARDING, State.FLUSHING

#: What connections do whose state says it all.
_ACTIVITIES = {_DISCARDING: 'reading', _FLUSHING: 'writing', State.LINGERING: 'closing'}


class Connection(Responder):
    """The HTTP side of one accepted socket."""

    __slots__ = ()

    def __init__(self, server: Server, socket: Socket) -> None:
        super().__init__(server, socket)
        if server.draining:
            self.expires = self.began
        socket.set_sink(self)
        deadlines(server.hub).watch(self)

    # -- run by the hub -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is _PARKED:
            self.parser.feed(data)
            if self._ready:
                # its turn is to come
                self._hold_back()
                return
            work = self._next_work()
            if work is not None:
                self._dispatch(work)
        elif state is _BUSY or state is _DISCARDING or state is _FLUSHING:
            self.parser.feed(data)
            if self._reader is not None:
                self._reader.switch()
            elif state is _DISCARDING:
                self.discard()
            else:
                self._hold_back()

    def eof_received(self) -> None:
        self._eof = True
        self.parser.feed_eof()
        state = self.state
        if state is _PARKED:
            if self._ready:
                return
            if self.parser.at_boundary:
                self.close()
            else:
                work = self._next_work()
                if work is not None:
                    self._dispatch(work)
                else:
                    self.close()
        elif state is _BUSY:
            self._disconnected()
            self._wake_reader()
        elif state is _DISCARDING:
            self.discard()
        elif state is State.LINGERING and not self.socket.writable_length:
            self.socket.destroy()

    def queue_drained(self) -> None:
        if self.state is _FLUSHING:
            self._exchange_over()
        elif self.state is State.LINGERING:
            self.began = monotonic()
            if self._eof:
                self.socket.destroy()

    def send_failed(self, error: BaseException) -> bool:
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        state, self.state = self.state, State.OVER
        self._ready = False
        self._eof = True
        self._count(0)
        server = self.server
        server.past_requests += self.served
        deadlines(server.hub).forget(self)
        if self._failure is None and isinstance(error, Exception):
            self._failure = error if isinstance(error, GeventnodeError) else _lost(error)
        if state is _BUSY:
            self._disconnected()
            self._wake_reader()
        if self.response is not None and not self.response.finished:
            self.response._on_aborted(None)
        for response in self.unflushed:
            response.destroyed = True
            gevent.spawn(response.emit, 'close')
        self.unflushed.clear()
        if error is not None and server.listener_count('clientError') and isinstance(error, OSError):
            gevent.spawn(server.emit, 'clientError', error, self.socket)

    def on_deadline(self, now: float) -> None:
        when, act = due(self)
        if when > now:
            self.expires = when
        elif self.state is not State.LINGERING and deadlines(self.server.hub).excuse(self.socket, now):
            # look again next time: it may have read until then
            self.expires = now
        else:
            self.expires = now + self.server.shortest_timeout
            act(self)

    def go_on(self) -> None:
        if self._ready and self.state is _PARKED:
            self._ready = False
            work = self._next_work()
            if work is not None:
                self._dispatch(work)
            elif self._nothing_more():
                self.close()

    def fail(self, error: RequestTimeout) -> None:
        """Answer a request that is late, or cut it off when its response has begun."""
        if self.state is _PARKED:
            self._dispatch(error)
            return
        if self.state is _DISCARDING:
            # the response is complete, and there is no reader
            self.close()
            return
        self._failure = error
        response = self.response
        if self._reader is not None:
            self._wake_reader()
        elif response is None or response._head_sent:
            self.socket.destroy(error)
        else:
            self.refuse(error.status)

    def _dispatch(self, work: Work) -> None:
        """Hand ``work`` to a worker."""
        self.state = _BUSY
        self.expires = self.began + self.server.shortest_timeout
        self._work = work
        idle = self._idle
        if idle:
            idle.pop().switch(self)
        else:
            worker = Worker(self.server.hub, idle)
            worker.job = self
            worker.switch()

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        socket = self.socket
        if self.state is State.OVER or socket.destroyed:
            return
        self._count(0)
        socket.put_gathered()
        if self._eof and not socket.writable_length:
            if socket.resetting:
                # the response that was to end with the connection is complete
                socket.end_nowait()
            socket.destroy()
            return
        self.state = State.LINGERING
        self._ready = False
        socket.end_nowait()
        if self._eof and not socket.writable_length:
            # the rest of the queue was sent just now, and no more input will arrive
            socket.destroy()
            return
        # after the last sending: a socket that is active later has received something
        self.began = self.expires = monotonic()
        if self.server.draining:
            deadlines(self.server.hub).watch(self)
        self._paused = True
        self._resume()

    def detach(self) -> bytes:
        self.state = State.OVER
        self.request = self.response = None
        self.server.past_requests += self.served
        deadlines(self.server.hub).forget(self)
        self._count(0)
        self.socket.set_sink(None)
        self._paused = True
        self._resume()
        return self.parser.take_rest()

    @property
    def activity(self) -> str:
        """What it does, in the words of the server's statistics."""
        state = self.state
        if state is _PARKED:
            return 'reading' if self.parser.head_started or self._ready else 'parked'
        if state is _BUSY:
            if self._reader is not None:
                return 'reading'
            return 'writing' if self.socket.has_queued else 'handling'
        return _ACTIVITIES.get(state, 'upgraded')

    @property
    def idle(self) -> bool:
        """Whether no request is in work, begun, or waiting."""
        return self.state is _PARKED and not self._ready and not self.parser.head_started

    def __repr__(self) -> str:
        activity = 'over' if self.state is State.OVER else self.activity
        return f'<{type(self).__name__} {activity} served={self.served} on {self.socket!r}>'


def _lost(error: Exception) -> IncompleteBody:
    """Return what a reader is told when the kernel reported ``error``."""
    failure = IncompleteBody('the connection was lost in the middle of a body')
    failure.__cause__ = error
    return failure
