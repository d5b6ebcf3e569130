"""Many connections in memory at once, turn by turn of the loop, with bounds: what takes too many turns hangs.

A turn of the loop costs more than most inputs do, so it is shared. Each connection is followed by a generator, which
does its part (something arrives, an outcome is looked at) between two turns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable
from typing import Protocol

import gevent

from contrib.fuzz.finding import Finding
from contrib.fuzz.peer import Peer

__all__ = ['Exchange', 'Steps', 'arriving', 'play', 'settled', 'until']

#: Turns after which something hangs, and turns without a change after which nothing is going on.
MOST, QUIET = 2000, 4

Steps = Generator[None, None, None]


class Exchange(Protocol):
    """What goes on over one connection, or several."""

    peers: list[Peer]

    def steps(self) -> Steps:
        """Do one thing after the other; a turn of the loop comes with each ``yield``."""


def play(exchanges: Iterable[Exchange]) -> None:
    """Let all of them take place at once. May switch."""
    going = [(exchange, exchange.steps()) for exchange in exchanges]
    while going:
        going = [each for each in going if _goes_on(each[1])]
        for exchange, _ in going:
            for peer in exchange.peers:
                peer.drain()
        # not sleep(0): several of those fit into one turn of the loop, without a look at its timers
        gevent.idle()


def _goes_on(steps: Steps) -> bool:
    for _ in steps:
        return True
    return False


def arriving(peer: Peer, pieces: Iterable[bytes], hurry: bool) -> Steps:
    """Let ``pieces`` come in: all at once when there is ``hurry``, else one in each turn."""
    if hurry:
        for piece in pieces:
            peer.send(piece)
    else:
        for piece in pieces:
            peer.send(piece)
            yield


def settled(progress: Callable[[], Hashable]) -> Steps:
    """Take turns until ``progress`` returns the same again and again."""
    quiet = 0
    last = progress()
    for _ in range(MOST):
        yield
        now = progress()
        quiet = quiet + 1 if now == last else 0
        if quiet == QUIET:
            return
        last = now
    raise Finding('hang', f'after {MOST} turns there is still something going on: {last!r}')


def until(condition: Callable[[], object], what: object) -> Steps:
    """Take turns until ``condition`` is true; ``what`` is shown if it never is."""
    for _ in range(MOST):
        if condition():
            return
        yield
    raise Finding('hang', f'no end after {MOST} turns: {what!r}')
