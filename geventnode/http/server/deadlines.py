"""Find the next deadline of a connection, and its effect.

A connection keeps one float, a time before which no deadline can have passed. Only after that time are the settings
read.

A deadline is absolute, or progress renews it. Any traffic is progress while a request arrives or a listener works. A
client that is to receive queued bytes makes progress only by receiving: input would let it hold them for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventnode.errors import RequestTimeout
from geventnode.http.body_reader import DISCARD_TIME
from geventnode.http.incoming import describe_request
from geventnode.net.deadlines import NEVER
from geventnode.net.rate_limited_log import log_from_hub
from geventnode.net.server import DRAIN_TIME

if TYPE_CHECKING:
    from geventnode.http.server.connection import Connection
    from geventnode.http.server.response import ServerResponse
    from geventnode.http.server.server import Server

__all__ = ['LINGER_TIME', 'RECHECK_TIME', 'UPLOAD_RATE', 'due', 'late_request', 'slow_body']

log = logging.getLogger('geventnode.error')

#: Seconds that a client has after FIN to read the last response.
LINGER_TIME = 5.0

#: A ``min_body_rate`` for long uploads, in bytes per second: any network is faster.
UPLOAD_RATE = 500

#: Seconds between two checks of a connection while its listener is allowed to block.
RECHECK_TIME = 0.25

Deadline = tuple[float, Callable[['Connection'], object]]


def due(connection: Connection) -> Deadline:
    """Return the time of the next deadline of ``connection``, and its effect."""
    return _DEADLINES[connection.state.value](connection)


def _idle(connection: Connection) -> Deadline:
    server = connection.server
    if connection.head_started or not connection.served:
        limit: Deadline = connection.began + (server.headers_timeout or NEVER), _late_head
    else:
        limit = connection.began + _idle_time(server), _close_idle
    if server.draining and not connection.head_started:
        limit = min(limit, (server._draining_since + DRAIN_TIME, _close_at_once), key=_time)
    if server._at_capacity and connection.served and not connection.head_started:
        # a new connection waits for a free place
        limit = min(limit, (connection.began + server.keep_alive_timeout_buffer, _close_at_once), key=_time)
    if connection.head_started:
        limit = min(limit, (connection.began + (server.request_timeout or NEVER), _late_request), key=_time)
    if connection.head_started or not connection.served:
        limit = min(limit, _inactive(connection), key=_time)
    return limit


def _active(connection: Connection) -> Deadline:
    limit = _inactive(connection)
    request, response = connection.request, connection.response
    if request is not None and response is not None and response.finished and not request._has_reader:
        # it was being read when the response ended, and no longer is; single bytes of it do not keep it
        when = connection.socket._last_activity + DISCARD_TIME
        return (when if request.complete else min(when, _body(connection)[0])), _discard_rest
    if response is not None and response.handler_may_block and not connection.waits_for_client:
        # the listener takes this long, and not the client
        return monotonic() + RECHECK_TIME, _check_again
    if request is not None and not request.complete:
        limit = min(limit, _body(connection), key=_time)
    return limit


def _body(connection: Connection) -> Deadline:
    """Return the deadline of the body, or the end of its window."""
    server = connection.server
    timeout = server.request_timeout or NEVER
    if not server.min_body_rate:
        return connection.began + timeout, _late_request
    body = connection.body
    if body.window is None:
        body.window = _window(connection)
    return connection.began + body.window[0] + timeout, _window_over


def _window(connection: Connection) -> tuple[float, int]:
    """Return a window that begins now.

    It is the offset from the beginning of the request, and the number of bytes received before. The beginning of a
    request is later by the time during which no reader waits for the client.
    """
    return max(monotonic() - connection.began, 0.0), connection.socket.bytes_read


def _inactive(connection: Connection) -> Deadline:
    timeout = connection.server.timeout if connection.timeout is None else connection.timeout
    return _last_progress(connection) + (timeout or NEVER), _timed_out


def _last_progress(connection: Connection) -> float:
    """Return when (monotonic) the client last made progress.

    Further requests are no progress while it does not receive the queued bytes. The body of the present request is: its
    own deadline bounds it.
    """
    socket, request = connection.socket, connection.request
    if socket._has_queued and (request is None or request.complete):
        return socket._unsent_since
    return socket._last_activity


def _discarding(connection: Connection) -> Deadline:
    # its head has declared that the connection stays open, so that the idle time applies
    server = connection.server
    limit = min((connection.socket._last_activity + _idle_time(server), _close), _body(connection), key=_time)
    if server.draining:
        limit = min(limit, (max(connection.began, server._draining_since) + DISCARD_TIME, _close), key=_time)
    return limit


def _idle_time(server: Server) -> float:
    """Return the seconds that a connection can be idle: those announced, and a buffer."""
    limit: float = server.keep_alive_timeout
    return limit + server.keep_alive_timeout_buffer if limit else NEVER


def _lingering(connection: Connection) -> Deadline:
    if connection.socket.writable_length:
        return _inactive(connection)
    if connection.server.draining and connection.has_all_input:
        # The socket can be destroyed, as there is no input. Otherwise the kernel would reset the connection, and the
        # client could lose the response.
        return connection.began, _destroy_without_input
    return connection.began + LINGER_TIME, _destroy


def _closed(connection: Connection) -> Deadline:
    return NEVER, _close


_DEADLINES: dict[str, Callable[[Connection], Deadline]] = {
    'idle': _idle,
    'active': _active,
    'discarding': _discarding,
    'flushing': _inactive,
    'lingering': _lingering,
    'closed': _closed,
}


def _time(deadline: Deadline) -> float:
    return deadline[0]


def _check_again(connection: Connection) -> None:
    """Do nothing: no deadline has passed."""


def _late_head(connection: Connection) -> None:
    if not connection.parser.head_started:
        # the client would take an error response for the response to its next request
        _close_idle(connection)
        return
    limit = connection.server.headers_timeout
    connection.time_out(RequestTimeout(f'no complete head within headers_timeout ({limit} seconds)'))


def _late_request(connection: Connection) -> None:
    connection.time_out(late_request(connection.server))


def late_request(server: Server) -> RequestTimeout:
    """Return the error of a request that was not complete in time."""
    return RequestTimeout(f'no complete request within request_timeout ({server.request_timeout} seconds)')


def slow_body(server: Server) -> RequestTimeout:
    """Return the error of a body that arrived too slowly."""
    return RequestTimeout(
        f'the body arrived at a rate below min_body_rate ({server.min_body_rate} bytes per second, over '
        f'request_timeout, {server.request_timeout:g} seconds)'
    )


def _window_over(connection: Connection) -> None:
    """Begin another window, or time out a slow client."""
    server = connection.server
    body = connection.body
    assert body.window is not None
    arrived = connection.socket.bytes_read - body.window[1]
    if connection.reading_paused or arrived >= server.min_body_rate * server.request_timeout:
        body.window = _window(connection)
    else:
        connection.time_out(slow_body(server))


def _close(connection: Connection) -> None:
    connection.close()


def _discard_rest(connection: Connection) -> None:
    """Assume that the rest of the body stays unread."""
    assert connection.response is not None
    connection.response_ended(connection.response)


def _close_idle(connection: Connection) -> bool:
    """Close a connection without a request, and return whether it was closed.

    A connection with a request that the loop has not reported stays open: its client could not know that the request is
    lost.
    """
    if connection.socket._poll_now():
        connection._expires = connection.began
        return False
    connection.close()
    return True


def _close_at_once(connection: Connection) -> None:
    """Close a connection without a request, and do not linger."""
    if _close_idle(connection) and not connection.socket.writable_length:
        connection.socket.destroy()


def _destroy_without_input(connection: Connection) -> None:
    """Destroy the socket, unless unread input is in the kernel."""
    if not connection.socket._poll_now():
        connection.socket.destroy()


def _destroy(connection: Connection) -> None:
    connection.socket.destroy()


def _timed_out(connection: Connection) -> None:
    """Have the ``'timeout'`` listeners handle a connection without traffic, or end it."""
    connection.socket._record_activity()
    gevent.spawn(_emit_timeout, connection)


def _emit_timeout(connection: Connection) -> None:
    server, socket, since = connection.server, connection.socket, _last_progress(connection)
    if socket.destroyed:
        # a listener was called already, because the loop stalled for another whole timeout
        return
    request, response = connection.request, connection.response
    handled = False
    if request is not None and not request.complete:
        handled = request.emit('timeout', socket)
    if response is not None:
        handled = response.emit('timeout', socket) or handled
    handled = server.emit('timeout', socket) or handled
    if not handled:
        limit = server.timeout if connection.timeout is None else connection.timeout
        server._hub.loop.run_callback(
            _time_out_exchange,
            connection,
            response,
            since,
            RequestTimeout(f'no traffic within timeout ({limit} seconds)'),
        )


def _time_out_exchange(
    connection: Connection, response: ServerResponse | None, since: float, error: RequestTimeout
) -> None:
    """Send an error response to a late exchange, or destroy the connection. Run by the hub."""
    socket = connection.socket
    if connection.response is not response or _last_progress(connection) != since:
        # there was progress, or another exchange, since the timeout
        return
    if response is None:
        can_respond = connection.parser.head_started
    else:
        can_respond = not (response.finished or response._head_sent or socket._has_queued)
    if not can_respond:
        socket.destroy(error)
    elif response is None or connection.waits_for_client:
        connection.time_out(error)
    else:
        # browsers send a request again if its connection is closed without a response
        log_from_hub(
            log.warning,
            '%s: the listener has not responded, and the client gets 503: %s',
            describe_request(response.request),
            error,
        )
        connection.time_out_listener()
