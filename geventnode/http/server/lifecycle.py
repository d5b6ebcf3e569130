"""The states of a connection, and which one follows which."""

from __future__ import annotations

import enum

__all__ = ['TRANSITIONS', 'State']


class State(enum.Enum):
    """What a connection does."""

    #: Waits for a request, or for the rest of its head. No greenlet.
    PARKED = 'parked'
    #: A request is in work.
    BUSY = 'busy'
    #: The response has ended; the rest of the request's body is thrown away as it comes. No greenlet.
    DISCARDING = 'discarding'
    #: The response has ended, and much of it is still queued. No greenlet.
    FLUSHING = 'flushing'
    #: Everything was said; the peer gets some time to read it (RFC 9112, section 9.6). No greenlet.
    LINGERING = 'lingering'
    #: Another protocol took over, or the socket is gone.
    OVER = 'over'


#: What may come after each state; the documentation draws it, and a test compares it with what connections do.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.PARKED: frozenset({State.BUSY, State.LINGERING, State.OVER}),
    State.BUSY: frozenset({State.PARKED, State.DISCARDING, State.FLUSHING, State.LINGERING, State.OVER}),
    State.DISCARDING: frozenset({State.PARKED, State.FLUSHING, State.LINGERING, State.OVER}),
    State.FLUSHING: frozenset({State.PARKED, State.LINGERING, State.OVER}),
    State.LINGERING: frozenset({State.OVER}),
    State.OVER: frozenset(),
}
