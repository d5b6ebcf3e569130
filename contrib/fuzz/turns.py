"""Run many exchanges in memory at once, turn by turn of the event loop; too many turns are a hang.

A turn of the loop costs more than most inputs, so all exchanges share it. Each exchange is a generator that does its
next step, such as sending a piece or checking an outcome, between two turns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable
from typing import Protocol

import gevent

from contrib.fuzz.finding import Finding
from contrib.fuzz.peer import Peer

__all__ = ['Exchange', 'Steps', 'run_all', 'sending', 'settled', 'until']

#: Turns after which an exchange is considered to hang.
MAX_TURNS = 2000
#: Turns without a change after which it is considered idle.
QUIET_TURNS = 4

Steps = Generator[None, None, None]


class Exchange(Protocol):
    """A fuzzed exchange, over one connection or several."""

    peers: list[Peer]

    def steps(self) -> Steps:
        """Yield between two steps, for one turn of the loop."""


def run_all(exchanges: Iterable[Exchange]) -> None:
    """Run all exchanges at once. Blocks until they have ended."""
    running = [(exchange, exchange.steps()) for exchange in exchanges]
    while running:
        running = [each for each in running if _advance(each[1])]
        for exchange, _ in running:
            for peer in exchange.peers:
                peer.drain()
        # not sleep(0), of which several fit into one turn of the loop, without checking its timers
        gevent.idle()


def _advance(steps: Steps) -> bool:
    for _ in steps:
        return True
    return False


def sending(peer: Peer, pieces: Iterable[bytes], at_once: bool) -> Steps:
    """Send ``pieces``, either all ``at_once`` or one in each turn."""
    if at_once:
        for piece in pieces:
            peer.send(piece)
    else:
        for piece in pieces:
            peer.send(piece)
            yield


def settled(progress: Callable[[], Hashable]) -> Steps:
    """Take turns until ``progress`` no longer changes."""
    quiet = 0
    last = progress()
    for _ in range(MAX_TURNS):
        yield
        now = progress()
        quiet = quiet + 1 if now == last else 0
        if quiet == QUIET_TURNS:
            return
        last = now
    raise Finding('hang', f'after {MAX_TURNS} turns there is still progress: {last!r}')


def until(condition: Callable[[], object], subject: object) -> Steps:
    """Take turns until ``condition`` is true; a finding shows ``subject``."""
    for _ in range(MAX_TURNS):
        if condition():
            return
        yield
    raise Finding('hang', f'not finished after {MAX_TURNS} turns: {subject!r}')
