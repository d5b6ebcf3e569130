"""Test that code which never waits lets other greenlets run."""

from __future__ import annotations

import socket

import gevent
import pytest
from gevent.socket import wait_read

from geventnode.stream import turn
from geventnode.stream.turn import TURN_TIME, Turn


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time in a list."""
    now = [100.0]
    monkeypatch.setattr(turn, 'monotonic', lambda: now[0])
    return now


def test_others_run_after_the_time_of_a_turn(clock: list[float]) -> None:
    """And then again after as long."""
    mine = Turn()
    other = gevent.spawn(lambda: None)
    mine.give_way()
    assert not other.dead
    clock[0] += TURN_TIME
    mine.give_way()
    assert other.dead
    other = gevent.spawn(lambda: None)
    mine.give_way()
    assert not other.dead
    other.join()


def test_input_of_others_is_received(clock: list[float]) -> None:
    """The callbacks of a ``sleep(0)`` run before the loop polls."""
    ours, other = socket.socketpair()
    with ours, other:
        reader = gevent.spawn(wait_read, ours.fileno())
        mine = Turn()
        clock[0] += TURN_TIME
        mine.give_way()
        other.send(b'x')
        # the loop can resume this greenlet before the reader
        for _ in range(2):
            clock[0] += TURN_TIME
            mine.give_way()
        received = reader.dead
        reader.kill()
    assert received
