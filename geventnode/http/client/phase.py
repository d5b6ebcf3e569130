"""The phases of a client's connection, and which one follows which."""

from __future__ import annotations

import enum

__all__ = ['TRANSITIONS', 'Phase']


class Phase(enum.Enum):
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
    OVER = 'over'


#: What may come after each phase; the documentation draws it, and a test compares it with what connections do.
TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.WAITING, Phase.OVER}),
    Phase.WAITING: frozenset({Phase.RECEIVING, Phase.SENDING, Phase.DELIVERING, Phase.IDLE, Phase.OVER}),
    Phase.RECEIVING: frozenset({Phase.SENDING, Phase.DELIVERING, Phase.DISCARDING, Phase.IDLE, Phase.OVER}),
    Phase.SENDING: frozenset({Phase.DELIVERING, Phase.IDLE, Phase.OVER}),
    Phase.DELIVERING: frozenset({Phase.IDLE, Phase.OVER}),
    Phase.DISCARDING: frozenset({Phase.SENDING, Phase.IDLE, Phase.OVER}),
    Phase.OVER: frozenset(),
}
