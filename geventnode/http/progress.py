"""How far a message that is sent has come."""

from __future__ import annotations

import enum

__all__ = ['State']


class State(enum.Enum):
    """How far a message is."""

    #: Headers can be set.
    OPEN = 'open'
    #: The head is fixed, nothing was sent.
    FIXED = 'fixed'
    #: The head was sent.
    BODY = 'body'
    #: ``end()`` was called.
    ENDED = 'ended'
