"""Which deadline of a connection comes next, and what happens then.

Connections keep one float, a time before which none can have passed; only when that has come are the settings looked
at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventnode.errors import RequestTimeout
from geventnode.http.incoming import describe_request
from geventnode.net.deadlines import NEVER
from geventnode.net.rate_limited_log import log_from_hub
from geventnode.net.server import DRAIN_TIME

if TYPE_CHECKING:
    from geventnode.http.server.connection import Connection
    from geventnode.http.server.response import ServerResponse
    from geventnode.http.server.server import Server

__all__ = ['DISCARD_TIME', 'LINGER_TIME', 'UPLOAD_RATE', 'due']

log = logging.getLogger('geventnode.error')

#: Seconds after which a reader that does nothing, when its response has ended, is taken to have left the rest; and
#: seconds for the rest of a body that is discarded when the server closes.
DISCARD_TIME = 5.0

#: Seconds that a peer gets to read the last response after our FIN.
LINGER_TIME = 5.0

#: Bytes per second, for ``min_body_rate`` where uploads may take as long as they need: less than any network brings.
UPLOAD_RATE = 500

#: Seconds between two looks at a connection whose listener may take its time.
PATIENCE = 0.25

Deadline = tuple[float, Callable[['Connection'], object]]


def due(connection: Connection) -> Deadline:
    """Return when the next deadline of ``connection`` is, and what to do then."""
    return _DEADLINES[connection.state.value](connection)


def _idle(connection: Connection) -> Deadline:
    server = connection.server
    if connection.head_started or not connection.served:
        limit: Deadline = connection.began + (server.headers_timeout or NEVER), _late_head
    else:
        limit = connection.began + _idle_time(server), _close_idle
    if server.draining and not connection.head_started:
        limit = min(limit, (server._draining_since + DRAIN_TIME, _leave), key=_time)
    if server._at_capacity and connection.served and not connection.head_started:
        # a client waits for its place
        limit = min(limit, (connection.began + server.keep_alive_timeout_buffer, _leave), key=_time)
    if connection.head_started:
        limit = min(limit, (connection.began + (server.request_timeout or NEVER), _late_request), key=_time)
    if connection.head_started or not connection.served:
        limit = min(limit, _inactive(connection), key=_time)
    return limit


def _active(connection: Connection) -> Deadline:
    limit = _inactive(connection)
    request, response = connection.request, connection.response
    if request is not None and response is not None and response.finished and not request._has_reader:
        # it was being read when the response ended, and no longer is
        return connection.socket._last_activity + DISCARD_TIME, _leave_rest
    if response is not None and response.handler_may_block and not connection.waits_for_client:
        # it is the listener who takes this long: look again soon
        return monotonic() + PATIENCE, _look_again
    if request is not None and not request.complete:
        limit = min(limit, _body(connection), key=_time)
    return limit


def _body(connection: Connection) -> Deadline:
    """Return the deadline of the body, or, with a minimum rate, the end of the present window."""
    server = connection.server
    timeout = server.request_timeout or NEVER
    if not server.min_body_rate:
        return connection.began + timeout, _late_request
    body = connection.body
    if body.window is None:
        body.window = _window(connection)
    return connection.began + body.window[0] + timeout, _window_over


def _window(connection: Connection) -> tuple[float, int]:
    """Return a window that begins now: its offset from the beginning of the request, and the bytes received before.

    The beginning of a request moves on while no reader waits for the client.
    """
    return max(monotonic() - connection.began, 0.0), connection.socket.bytes_read


def _inactive(connection: Connection) -> Deadline:
    timeout = connection.server.timeout if connection.timeout is None else connection.timeout
    return connection.socket._last_activity + (timeout or NEVER), _timed_out


def _discarding(connection: Connection) -> Deadline:
    # the response has said that the connection goes on: it waits for its client, as any other
    server = connection.server
    limit = min((connection.socket._last_activity + _idle_time(server), _close), _body(connection), key=_time)
    if server.draining:
        limit = min(limit, (max(connection.began, server._draining_since) + DISCARD_TIME, _close), key=_time)
    return limit


def _idle_time(server: Server) -> float:
    """Return how long a connection may be idle: the announced time, and time for a request on its way."""
    limit: float = server.keep_alive_timeout
    return limit + server.keep_alive_timeout_buffer if limit else NEVER


def _lingering(connection: Connection) -> Deadline:
    if connection.socket.writable_length:
        return _inactive(connection)
    if connection.server.draining and connection.has_all_input:
        # no input is expected: the kernel would answer it with a reset, which can discard the response
        return connection.began, _leave_at_once
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


def _look_again(connection: Connection) -> None:
    """Nothing is due."""


def _late_head(connection: Connection) -> None:
    if not connection.parser.head_started:
        # an answer to nothing would be taken for the one to a request that comes late
        _close_idle(connection)
        return
    limit = connection.server.headers_timeout
    connection.time_out(RequestTimeout(f'no complete head within headers_timeout ({limit} seconds)'))


def _late_request(connection: Connection) -> None:
    limit = connection.server.request_timeout
    connection.time_out(RequestTimeout(f'no complete request within request_timeout ({limit} seconds)'))


def _window_over(connection: Connection) -> None:
    """Begin another window, unless the client has sent too little and could have sent more."""
    server = connection.server
    limit, rate = server.request_timeout, server.min_body_rate
    body = connection.body
    assert body.window is not None
    arrived = connection.socket.bytes_read - body.window[1]
    if connection.reading_paused or arrived >= rate * limit:
        body.window = _window(connection)
    else:
        connection.time_out(
            RequestTimeout(
                f'the body arrived at a rate below min_body_rate ({rate} bytes per second, over '
                f'request_timeout, {limit:g} seconds)'
            )
        )


def _close(connection: Connection) -> None:
    connection.close()


def _leave_rest(connection: Connection) -> None:
    """Assume that the rest of the body stays unread."""
    assert connection.response is not None
    connection.response_ended(connection.response)


def _close_idle(connection: Connection) -> bool:
    """Close a connection that waits for a request, and return True, unless a request has come that the loop has not
    told of: its client could not know that it would be lost."""
    if connection.socket._poll_now():
        connection._expires = connection.began
        return False
    connection.close()
    return True


def _leave(connection: Connection) -> None:
    """As above, when the place is needed or the server closes: nobody has anything to read in peace."""
    if _close_idle(connection) and not connection.socket.writable_length:
        connection.socket.destroy()


def _leave_at_once(connection: Connection) -> None:
    """Close a connection whose client has nothing more to send, unless unread input is in the kernel."""
    if not connection.socket._poll_now():
        connection.socket.destroy()


def _destroy(connection: Connection) -> None:
    connection.socket.destroy()


def _timed_out(connection: Connection) -> None:
    """No traffic for too long: a ``'timeout'`` listener handles it, or else the connection ends."""
    connection.socket._record_activity()
    gevent.spawn(_tell_timeout, connection)


def _tell_timeout(connection: Connection) -> None:
    server, socket, since = connection.server, connection.socket, connection.socket._last_activity
    if socket.destroyed:
        # a listener was told already, when the loop stood still for another whole timeout
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
            _give_up, connection, response, since, RequestTimeout(f'no traffic within timeout ({limit} seconds)')
        )


def _give_up(connection: Connection, response: ServerResponse | None, since: float, error: RequestTimeout) -> None:
    """Answer instead of the late listener or client, where no answer has begun. Runs in the hub."""
    socket = connection.socket
    if connection.response is not response or socket._last_activity != since:
        # something has happened since it was looked at
        return
    if response is None:
        answerable = connection.parser.head_started
    else:
        answerable = not (response.finished or response._head_sent or socket._has_queued)
    if not answerable:
        socket.destroy(error)
    elif response is None or connection.waits_for_client:
        connection.time_out(error)
    else:
        # the client must not send it again on another connection, as browsers do when one is closed without a word
        log_from_hub(
            log.warning,
            '%s: the listener has not answered, and the client gets 503: %s',
            describe_request(response.request),
            error,
        )
        connection.time_out_listener()
