"""The results of the checks."""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ['Finding', 'Level']


class Level(enum.Enum):
    """The severity of a finding."""

    #: The program fails, or blocks under load.
    PROBLEM = 'problem'
    #: The program works, but can be slow, or fail under other circumstances.
    ADVICE = 'advice'
    #: The check has found nothing wrong.
    OK = 'ok'

    @property
    def rank(self) -> int:
        """The position in a report, where the most severe level is first."""
        return list(Level).index(self)


class Finding(NamedTuple):
    """The result of a check.

    :ivar check: the name of the check.
    :ivar message: the fact, in one sentence.
    :ivar advice: the remedy; empty for :attr:`Level.OK`.
    """

    check: str
    level: Level
    message: str
    advice: str = ''
