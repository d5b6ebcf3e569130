"""Send events to many clients: server-sent events (WHATWG HTML, section 9.2), without a greenlet for each client.

An event is encoded once, and passed to the socket of each client without waiting. A client that does not read has a
bounded queue, and is dropped when that is full: its response is destroyed, so that it does not look complete. Browsers
then connect again, and send the last id that they have seen (``Last-Event-ID``).

One greenlet, which exists while there are clients, sends the heartbeats and ends the streams of servers that drain.
"""

from __future__ import annotations

import contextlib
import re
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub
from gevent.event import Event
from zope.interface import implementer

from geventnode.errors import ConnectionClosed, EventQueueFull, InvalidInput, WriteAfterEnd
from geventnode.interfaces import IEventBroadcast
from geventnode.net.threads import check_thread
from geventnode.options import count, seconds

__all__ = ['EventBroadcast', 'encode_event']

#: The longest time in seconds between two checks whether a server drains.
CHECK = 1.0

HEARTBEAT = b':\n\n'

_line_end = re.compile('\r\n|\r|\n')


@implementer(IEventBroadcast)
class EventBroadcast:
    """Send events to all clients of one event stream.

    A request listener calls :meth:`add` and returns; any greenlet of the thread calls :meth:`send`. Clients leave by
    themselves when they disconnect, and the streams end when their server drains. ``len()`` is the number of clients.

    :param max_send_queue: bytes that can be queued for a client that does not read, at least 1; beyond them it is
        dropped.
    :param heartbeat: seconds between two comments, which let proxies keep the connections; None: none.

    Raises ``InvalidInput`` and ``TypeError`` for other values.
    """

    def __init__(self, *, max_send_queue: int = 65536, heartbeat: float | None = 15.0) -> None:
        self._hub = get_hub()
        self._limit = count('max_send_queue', max_send_queue)
        if not self._limit:
            raise InvalidInput('max_send_queue must be at least 1, not 0: each client would be dropped at once')
        self._heartbeat = None if heartbeat is None else seconds('heartbeat', heartbeat) or None
        # in the order of arrival
        self._clients: dict[Any, None] = {}
        self._tender: Any = None
        # set when the last client has left
        self._empty = Event()
        #: The number of clients that were dropped because they did not read.
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._clients)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} clients={len(self)} dropped={self.dropped}>'

    def add(self, response: Any) -> None:
        """Send the following events to the client of ``response``.

        The head is sent now, unless the listener has written it: it can write earlier events before this call, after
        ``write_head(200, {'Content-Type': 'text/event-stream'})``. The listener must not end the response. A HEAD
        request gets the head only.

        :param response: the :class:`ServerResponse`, without a stated length.
        :raises ConnectionClosed: the client has disconnected.
        :raises InvalidInput: the response has a stated length, or a status without a body.
        :raises WriteAfterEnd: the response has ended.
        """
        check_thread(self._hub, self)
        if response.writable_ended:
            raise WriteAfterEnd('add() after end() on this ServerResponse')
        if response.destroyed or response.request.aborted:
            # its 'close' was emitted before
            raise ConnectionClosed('the client of the event stream has disconnected')
        if not response.headers_sent:
            response.set_header('Content-Type', 'text/event-stream; charset=utf-8')
            response.set_header('Cache-Control', 'no-store')
            # nginx would buffer the stream
            response.set_header('X-Accel-Buffering', 'no')
        if response.request.method == 'HEAD':
            response.end()
            return
        response.flush_headers()
        if response._length is not None or not response._has_body:
            # each event would fail, and other clients would not get it
            raise InvalidInput(
                'an event stream has a body without a stated length; remove Content-Length, or set another status'
            )
        # a quiet stream is no stalled listener
        response.handler_may_block = True
        self._clients[response] = None
        # the server would keep the connection for a client that has closed its direction only
        response.once('close', lambda: self._end(response))
        self._empty.clear()
        if self._tender is None:
            self._tender = gevent.spawn(self._tend)

    def send(
        self, data: str, *, event: str | None = None, event_id: str | None = None, retry: float | None = None
    ) -> int:
        """Send an event to all clients, and return their number.

        A client with a full queue is dropped, and not counted: its response is destroyed with
        :class:`~geventnode.errors.EventQueueFull`, which is emitted as ``'error'`` if there is a listener.

        :param data: the text; a client gets each line end as a line feed.
        :param event: the type, for which the client has a listener; None: ``message``.
        :param event_id: the text that a client sends as ``Last-Event-ID`` when it connects again.
        :param retry: seconds that a client waits before it connects again.
        :raises InvalidInput: ``event`` or ``event_id`` contains a line end, ``event_id`` contains NUL, or a text has
            characters that UTF-8 has no bytes for.
        """
        check_thread(self._hub, self)
        return self._send(encode_event(data, event, event_id, retry))

    def end(self) -> None:
        """End the streams of all present clients."""
        check_thread(self._hub, self)
        for response in tuple(self._clients):
            self._end(response)

    def _send(self, data: bytes) -> int:
        sent = 0
        for response in tuple(self._clients):
            if not response.writable:
                self._remove(response)
            elif response.writable_length >= self._limit:
                self._drop(response)
            else:
                try:
                    response._send(data, None)
                except ConnectionClosed:
                    self._remove(response)
                else:
                    sent += 1
        return sent

    def _remove(self, response: Any) -> None:
        self._clients.pop(response, None)
        if not self._clients:
            self._empty.set()

    def _drop(self, response: Any) -> None:
        self._remove(response)
        self.dropped += 1
        response.destroy(
            EventQueueFull(f'the client has not read max_send_queue ({self._limit} bytes) of events: it is dropped')
        )

    def _end(self, response: Any) -> None:
        self._remove(response)
        # it waits for a client that does not read
        gevent.spawn(_end_response, response)

    def _tend(self) -> None:
        pause = min(CHECK, self._heartbeat or CHECK)
        last = monotonic()
        try:
            while self._clients:
                self._empty.wait(pause)
                for response in [each for each in self._clients if each.server.draining]:
                    self._end(response)
                if self._heartbeat is not None and monotonic() >= last + self._heartbeat:
                    last = monotonic()
                    self._send(HEARTBEAT)
        finally:
            self._tender = None


def _end_response(response: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        response.end()


def encode_event(data: str, event: str | None, event_id: str | None, retry: float | None) -> bytes:
    """Return an event in the format of ``text/event-stream``. Raises as :meth:`EventBroadcast.send`."""
    if not isinstance(data, str):
        raise TypeError(f'the data of an event must be str, not {type(data).__name__}')
    lines = []
    for name, value in (('event', event), ('id', event_id)):
        if value is None:
            continue
        if _line_end.search(value) or (name == 'id' and '\0' in value):
            raise InvalidInput(f'the {name} of an event must be one line without NUL, not {value!r}')
        lines.append(f'{name}: {value}\n')
    if retry is not None:
        lines.append(f'retry: {round(seconds("retry", retry) * 1000)}\n')
    lines += [f'data: {line}\n' for line in _line_end.split(data)]
    lines.append('\n')
    try:
        return ''.join(lines).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput('the event has characters that UTF-8 has no bytes for', 'ERR_INVALID_CHAR') from error
