"""The phases of a client's connection, and which one follows which."""

from __future__ import annotations

import enum

__all__ = ['TRANSITIONS', 'ConnectionState']


class ConnectionState(enum.Enum):
    """What a connection does."""

    #: Waits in the pool.
    IDLE = 'idle'
    #: A request is being sent, or was, and the head of its response has not come.
    WAITING = 'waiting'
    #: The body of the response is coming.
    RECEIVING = 'receiving'
    #: The response is complete, and the request is not.
    SENDING = 'sending'
    #: The exchange is complete, and listeners are about to hear of it: the connection is theirs until they have.
    DELIVERING = 'delivering'
    #: What is left of a body that nobody wants is thrown away.
    DISCARDING = 'discarding'
    #: Another protocol took over, or the socket is gone.
    CLOSED = 'closed'


#: What may come after each phase; the documentation draws it, and a test compares it with what connections do.
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.IDLE: frozenset({ConnectionState.WAITING, ConnectionState.CLOSED}),
    ConnectionState.WAITING: frozenset(
        {
            ConnectionState.RECEIVING,
            ConnectionState.SENDING,
            ConnectionState.DELIVERING,
            ConnectionState.IDLE,
            ConnectionState.CLOSED,
        }
    ),
    ConnectionState.RECEIVING: frozenset(
        {
            ConnectionState.SENDING,
            ConnectionState.DELIVERING,
            ConnectionState.DISCARDING,
            ConnectionState.IDLE,
            ConnectionState.CLOSED,
        }
    ),
    ConnectionState.SENDING: frozenset({ConnectionState.DELIVERING, ConnectionState.IDLE, ConnectionState.CLOSED}),
    ConnectionState.DELIVERING: frozenset({ConnectionState.IDLE, ConnectionState.CLOSED}),
    ConnectionState.DISCARDING: frozenset({ConnectionState.SENDING, ConnectionState.IDLE, ConnectionState.CLOSED}),
    ConnectionState.CLOSED: frozenset(),
}
