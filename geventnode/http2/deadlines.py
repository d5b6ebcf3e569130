"""Find the deadlines of an HTTP/2 connection, and their effects.

The times are those of HTTP/1.1, with the same options: an idle connection, a head, a body, and inactivity. The last two
are counted for each stream. A client that never opens its windows is inactive: the response waits for it. A client that
does not receive is inactive, too, even if it sends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventnode.errors import RequestTimeout
from geventnode.http.body_reader import DISCARD_TIME
from geventnode.http.server.deadlines import LINGER_TIME, RECHECK_TIME, late_request, slow_body
from geventnode.http2.codes import ErrorCode
from geventnode.net.deadlines import NEVER
from geventnode.net.rate_limited_log import log_from_hub
from geventnode.net.server import DRAIN_TIME

if TYPE_CHECKING:
    from geventnode.http2.connection import Connection
    from geventnode.http2.stream import Stream

__all__ = ['STALL_TIME', 'pending']

log = logging.getLogger('geventnode.error')

#: Seconds that streams wait for windows that are not read, because unread bodies of the connection exceed a limit.
STALL_TIME = 5.0

Deadline = tuple[float, Callable[[], object]]


def pending(connection: Connection, now: float) -> list[Deadline]:
    """Return the times of all deadlines of ``connection``, and their effects.

    It has at least one.
    """
    state = connection.state.value
    server, socket = connection.server, connection.socket
    if state == 'closed':
        return [(NEVER, connection.close)]
    if state == 'lingering':
        if socket.writable_length:
            return [(socket._unsent_since + (server.timeout or NEVER), socket.destroy)]
        return [(connection.began + LINGER_TIME, socket.destroy)]
    found: list[Deadline] = []
    if connection.block_began is not None:
        found.append((connection.block_began + (server.headers_timeout or NEVER), partial(_late_head, connection)))
    if connection.goaway_due is not None:
        found.append((connection.goaway_due, connection.send_goaway))
    elif state == 'draining':
        found.append((connection.goaway_sent + DRAIN_TIME, connection.end_draining))
    if connection.stalled:
        found.append((connection.paused_since + STALL_TIME, connection.refuse_bodies))
    if connection.streams:
        found += [_stream_due(stream, now) for stream in connection.streams.values()]
    elif socket.writable_length:
        found.append((socket._unsent_since + (server.timeout or NEVER), socket.destroy))
    elif connection.block_began is None:
        found.append((connection.began + _idle_time(connection), partial(_close_idle, connection)))
    return found


def _time(deadline: Deadline) -> float:
    return deadline[0]


def _idle_time(connection: Connection) -> float:
    """Return the seconds that a connection can be idle."""
    server = connection.server
    if not connection.served:
        return server.headers_timeout or NEVER
    if server._at_capacity:
        # a new connection waits for a free place
        return server.keep_alive_timeout_buffer
    limit = server.keep_alive_timeout
    return limit + server.keep_alive_timeout_buffer if limit else NEVER


def _stream_due(stream: Stream, now: float) -> Deadline:
    server = stream.server
    timeout = server.timeout if stream.timeout is None else stream.timeout
    limit: Deadline = stream.last_activity + (timeout or NEVER), partial(_timed_out, stream)
    request, response = stream.request, stream.response
    if stream.discarding:
        if stream.state.local_ended:
            return stream.last_activity + DISCARD_TIME, partial(stream.connection.reset, stream, ErrorCode.NO_ERROR)
        return limit
    if stream.tunnel is not None and request is None:
        # a tunnel has no time limits, as in HTTP/1.1
        return NEVER, _do_nothing
    if response is None or request is None:
        # it waits for its turn
        return limit
    if response.finished and not request.complete and not request._has_reader:
        # single bytes of the body do not keep it
        when = stream.last_activity + DISCARD_TIME
        when = when if stream.state.ended else min(when, _body(stream, now)[0])
        return when, partial(stream.response_ended, response)
    if response.handler_may_block and not stream.waits_for_client:
        # the listener takes this long, and not the client
        return now + RECHECK_TIME, _do_nothing
    if not stream.state.ended:
        limit = min(limit, _body(stream, now), key=_time)
    return limit


def _body(stream: Stream, now: float) -> Deadline:
    """Return the deadline of the body, or the end of its window."""
    server = stream.server
    timeout = server.request_timeout or NEVER
    if not server.min_body_rate:
        return stream.began + timeout, partial(_late_request, stream)
    if stream.window is None:
        stream.window = now, stream.state.received
    return stream.window[0] + timeout, partial(_window_over, stream)


def _do_nothing() -> None:
    """No deadline has passed."""


def _late_head(connection: Connection) -> None:
    limit = connection.server.headers_timeout
    connection.fail(
        ErrorCode.ENHANCE_YOUR_CALM, f'no complete head within headers_timeout ({limit} seconds)', 'timeout'
    )


def _close_idle(connection: Connection) -> None:
    """Close a connection without a request.

    A request that the loop has not reported comes after the last one that GOAWAY names: its client sends it again.
    """
    if connection.socket._poll_now():
        connection._expires = connection.began
    elif connection.server._at_capacity:
        # a new connection waits for its place
        connection.close_at_once()
    else:
        connection.close()


def _late_request(stream: Stream) -> None:
    stream.time_out(late_request(stream.server))


def _window_over(stream: Stream) -> None:
    """Begin another window, or time out a slow client."""
    server = stream.server
    assert stream.window is not None
    # the client can send no more than its window, of which the application has not read these bytes
    arrived = stream.state.received - stream.window[1]
    if stream.buffered or arrived >= server.min_body_rate * server.request_timeout:
        stream.window = monotonic(), stream.state.received
    else:
        stream.time_out(slow_body(server))


def _timed_out(stream: Stream) -> None:
    """Have the ``'timeout'`` listeners handle a stream without traffic, or end it."""
    stream.last_activity = monotonic()
    gevent.spawn(_emit_timeout, stream)


def _emit_timeout(stream: Stream) -> None:
    if stream.destroyed:
        return
    server, since = stream.server, stream.last_activity
    request, response, socket = stream.request, stream.response, stream.socket
    handled = False
    if request is not None and not request.complete:
        handled = request.emit('timeout', socket)
    if response is not None:
        handled = response.emit('timeout', socket) or handled
    handled = server.emit('timeout', socket) or handled
    if not handled:
        server._hub.loop.run_callback(_end_exchange, stream, since)


def _end_exchange(stream: Stream, since: float) -> None:
    """Send an error response to a late exchange, or reset its stream. Run by the hub."""
    if stream.destroyed or stream.last_activity != since:
        return
    server, response = stream.server, stream.response
    limit = server.timeout if stream.timeout is None else stream.timeout
    error = RequestTimeout(f'no traffic within timeout ({limit} seconds)')
    connection = stream.connection
    if stream._has_queued:
        message = (
            f'{stream.describe()}: the client has received nothing of the response within timeout ({limit} seconds)'
        )
        if connection.engine.send_window <= 0:
            connection.fail(ErrorCode.ENHANCE_YOUR_CALM, message, 'timeout')
        else:
            server._peer_log.log_refusal('timeout', '%s', message)
            stream.abort(ErrorCode.CANCEL, error)
    elif response is None or response._head_sent:
        stream.abort(ErrorCode.CANCEL, error)
    elif stream.waits_for_client:
        stream.time_out(error)
    else:
        log_from_hub(
            log.warning, '%s: the listener has not responded, and the client gets 503: %s', stream.describe(), error
        )
        stream.time_out_listener()
