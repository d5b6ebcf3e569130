"""Find the next deadline of an exchange, and act after it."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventnode.errors import RequestTimeout
from geventnode.net.deadlines import NEVER

if TYPE_CHECKING:
    from geventnode.http.client.connection import Connection
    from geventnode.http.client.request import ClientRequest
    from geventnode.http.incoming import IncomingMessage

__all__ = ['Deadline', 'close', 'exchange_deadline', 'parse_keep_alive_hint']

_hint = re.compile(r'(?:^|[,;\s])timeout\s*=\s*"?(\d{1,9})', re.IGNORECASE)

#: A monotonic time, and the function to call with the connection after it.
Deadline = tuple[float, Callable[['Connection'], None]]


def exchange_deadline(connection: Connection) -> Deadline:
    """Return the next deadline of the current exchange: ``deadline``, ``connect_timeout`` or ``timeout``."""
    next_one: Deadline = connection.deadline, _fail_deadline
    request = connection.current_request
    if request is not None and (connection.socket.connecting or connection.socket.handshaking):
        connect_by = connection.opened_at + (request._connect_timeout or NEVER)
        next_one = min(next_one, (connect_by, _fail_connect_timeout), key=_time)
    if connection.timeout:
        # while this side is slow, no inactivity counts: check again later
        waiting = _waits_for_server(connection)
        since = max(_last_progress(connection), connection.since) if waiting else monotonic()
        next_one = min(next_one, (since + connection.timeout, _report_inactivity), key=_time)
    return next_one


def _waits_for_server(connection: Connection) -> bool:
    """Return whether the server is late if it sends nothing.

    It is not while this side is slow, nor after ``'timeout'`` was emitted, until there is more traffic.
    """
    socket = connection.socket
    if connection.reported_timeout_at == _last_progress(connection):
        return False
    if connection.is_unread:
        # the caller reads slowly
        return False
    if connection.sent or socket.writable_length:
        return True
    request = connection.current_request
    return request is None or not request._awaits_source


def _last_progress(connection: Connection) -> float:
    """Return when (monotonic) the server last made progress.

    Informational responses are no progress while it does not take the queued request. A response is: it can arrive
    before the end of the request.
    """
    socket = connection.socket
    return socket._unsent_since if socket._has_queued and connection.body is None else socket._last_activity


def parse_keep_alive_hint(value: str) -> float | None:
    """Return the seconds of a Keep-Alive field; None for no limit."""
    found = _hint.search(value)
    return None if found is None else float(found[1])


def _time(deadline: Deadline) -> float:
    return deadline[0]


def close(connection: Connection) -> None:
    """Close the connection: it was idle, or discarded a body, for too long."""
    connection.close()


def _fail_deadline(connection: Connection) -> None:
    connection.fail(connection.origin.deadline_error())


def _fail_connect_timeout(connection: Connection) -> None:
    request = connection.current_request
    if request is None:
        connection.close()
    else:
        connection.fail(connection.origin.connect_timeout_error(request._connect_timeout))


def _report_inactivity(connection: Connection) -> None:
    """Emit ``'timeout'``, and fail the exchange if it has no listener."""
    connection.reported_timeout_at = _last_progress(connection)
    gevent.spawn(_emit_timeout, connection, connection.current_request, connection.current_response)


def _emit_timeout(connection: Connection, request: ClientRequest | None, response: IncomingMessage | None) -> None:
    if not connection.serves(request):
        return
    handled = request is not None and request.emit('timeout')
    handled = (response is not None and response.emit('timeout', connection.socket)) or handled
    if not handled:
        connection.fail(
            RequestTimeout(f'{connection.origin}: no traffic within timeout ({connection.timeout} seconds)')
        )
