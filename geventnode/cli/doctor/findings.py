"""What a check has found."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ['Finding', 'Level']


class Level(enum.Enum):
    """How bad it is."""

    #: It will not work, or will stand still under load.
    PROBLEM = 'problem'
    #: It works, and could work better, or does not under other circumstances.
    ADVICE = 'advice'
    #: All is well.
    OK = 'ok'

    @property
    def weight(self) -> int:
        """The place in a report: what is worst comes first."""
        return list(Level).index(self)


class Finding(NamedTuple):
    """One sentence about what is the case, and one about what to do.

    :ivar check: the name of the check, for programs.
    """

    check: str
    level: Level
    message: str
    advice: str = ''
