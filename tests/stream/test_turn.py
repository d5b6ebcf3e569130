"""Test that code which never waits lets other greenlets run."""

from __future__ import annotations

import gevent
import pytest

from geventnode.stream import turn
from geventnode.stream.turn import TURN_TIME, Turn


def test_others_run_after_the_time_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """And then again after as long."""
    now = 100.0
    monkeypatch.setattr(turn, 'monotonic', lambda: now)
    mine = Turn()
    other = gevent.spawn(lambda: None)
    mine.give_way()
    assert not other.dead
    now += TURN_TIME
    mine.give_way()
    assert other.dead
    other = gevent.spawn(lambda: None)
    mine.give_way()
    assert not other.dead
    other.join()
