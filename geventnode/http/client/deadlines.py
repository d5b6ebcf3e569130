"""Which deadline of a client's connection comes next, and what happens then."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from geventnode.errors import RequestTimeout
from geventnode.http.client.phase import ConnectionState
from geventnode.http.client.receiving import DISCARD_TIME
from geventnode.net.deadlines import NEVER

if TYPE_CHECKING:
    from geventnode.http.client.connection import Connection
    from geventnode.http.client.request import ClientRequest
    from geventnode.http.incoming import IncomingMessage

__all__ = ['due', 'hinted']

#: Seconds that a server's hint is shortened by, so that a request does not meet the server's FIN.
HINT_MARGIN = 1.0

_hint = re.compile(r'(?:^|[,;\s])timeout\s*=\s*"?(\d{1,9})', re.IGNORECASE)

Deadline = tuple[float, Callable[['Connection'], None]]


def due(connection: Connection) -> Deadline:
    """Return when the next deadline of ``connection`` is, and what to do then."""
    state = connection.state
    if state is ConnectionState.IDLE:
        return connection.since + (connection.idle_limit or NEVER), _close
    if state is ConnectionState.DELIVERING:
        return NEVER, _close
    if state is ConnectionState.DISCARDING:
        return connection.since + DISCARD_TIME, _close
    limit: Deadline = connection.deadline, _too_late
    request = connection.request
    if request is not None and (connection.socket.connecting or connection.socket.handshaking):
        limit = min(
            limit, (connection.opened_at + (request._connect_timeout or NEVER), _connects_too_slowly), key=_time
        )
    if connection.timeout:
        waits = _waits_for_server(connection)
        # if it does not, look again later
        began = max(connection.socket._last_activity, connection.since) if waits else monotonic()
        limit = min(limit, (began + connection.timeout, _inactive), key=_time)
    return limit


def _waits_for_server(connection: Connection) -> bool:
    """Return whether the server's next move is awaited, and was not reported to be late."""
    socket = connection.socket
    if connection.reported_timeout_at == socket._last_activity:
        return False
    if connection.state is ConnectionState.RECEIVING and not connection.being_read:
        # the caller reads slowly
        return False
    if connection.sent or socket.writable_length:
        return True
    request = connection.current_request
    return request is None or not request._awaits_source


def hinted(hint: str) -> float | None:
    """Return how long an idle connection may be kept by what Keep-Alive says, None for any time."""
    found = _hint.search(hint)
    return None if found is None else int(found[1]) - HINT_MARGIN


def _time(deadline: Deadline) -> float:
    return deadline[0]


def _close(connection: Connection) -> None:
    connection.close()


def _too_late(connection: Connection) -> None:
    connection.fail(connection.origin.past_deadline())


def _connects_too_slowly(connection: Connection) -> None:
    request = connection.request
    assert request is not None
    connection.fail(connection.origin.past_connect_timeout(request._connect_timeout))


def _inactive(connection: Connection) -> None:
    """No traffic for too long: whoever listens handles it, else the exchange has failed."""
    connection.reported_timeout_at = connection.socket._last_activity
    gevent.spawn(_tell_timeout, connection, connection.current_request, connection.current_response)


def _tell_timeout(connection: Connection, request: ClientRequest | None, response: IncomingMessage | None) -> None:
    if connection.state is ConnectionState.CLOSED or connection.current_request is not request:
        return
    handled = request is not None and request.emit('timeout')
    handled = (response is not None and response.emit('timeout', connection.socket)) or handled
    if not handled:
        connection.fail(
            RequestTimeout(f'{connection.origin}: no traffic within timeout ({connection.timeout} seconds)')
        )
