"""Who has more requests in its buffer stands in line, and the line is served a little at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import get_hub

from geventnode.http.server import run_queue
from geventnode.http.server.connection import ROUNDS
from geventnode.http.server.run_queue import RunQueue
from tests.http.server.test_pipelining import numbers
from tests.servers import Serve, get

#: Connections that flood the server.
COUNT = 12


class One:
    """Notes when its turn comes, and does something then."""

    def __init__(self, name: str, log: list[str], act: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self._log = log
        self._act = act

    def resume(self) -> None:
        """Take the turn."""
        self._log.append(self.name)
        self._act()


def turns(log: list[str]) -> list[list[str]]:
    """Let the loop turn until nothing more happens; return what happened in each turn."""
    found: list[list[str]] = []

    def cut() -> None:
        if log:
            found.append(log[:])
            log.clear()

    between = get_hub().loop.prepare()
    between.start(cut)
    try:
        gevent.idle()
    finally:
        between.stop()
        between.close()
    cut()
    return found


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done takes a slice of time, by the clock of the line."""
    now = [0.0]

    def clock() -> float:
        now[0] += run_queue.SLICE
        return now[0]

    monkeypatch.setattr(run_queue, 'monotonic', clock)


def test_all_in_one_turn() -> None:
    log: list[str] = []
    line = RunQueue(get_hub().loop)
    for name in 'abc':
        line.add(One(name, log))
    assert turns(log) == [['a', 'b', 'c']]


def test_who_comes_meanwhile_waits_for_the_next_turn() -> None:
    log: list[str] = []
    line = RunQueue(get_hub().loop)
    again = One('again', log)
    line.add(One('a', log, lambda: line.add(again)))
    line.add(One('b', log))
    assert turns(log) == [['a', 'b'], ['again']]


@pytest.mark.usefixtures('slow')
def test_when_the_time_is_over_the_rest_waits_for_the_next_turn() -> None:
    log: list[str] = []
    line = RunQueue(get_hub().loop)
    line.add(One('a', log, lambda: line.add(One('d', log))))
    line.add(One('b', log))
    line.add(One('c', log))
    assert turns(log) == [['a'], ['b'], ['c'], ['d']]


def test_who_leaves_is_not_served() -> None:
    log: list[str] = []
    line = RunQueue(get_hub().loop)
    ones = [One(name, log) for name in 'abc']
    ones.insert(0, One('first', log, lambda: line.discard(ones[2])))
    for one in ones:
        line.add(one)
    line.discard(ones[1])
    assert turns(log) == [['first', 'c']]


def test_one_that_fails_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    line = RunQueue(get_hub().loop)
    monkeypatch.setattr(get_hub(), 'handle_error', lambda *args: None)
    line.add(One('a', log, lambda: 1 / 0))
    line.add(One('b', log))
    assert turns(log) == [['a'], ['b']]


@pytest.mark.usefixtures('slow')
def test_a_flood_does_not_hold_up_a_single_request(serve: Serve) -> None:
    """Others have as much to do as their buffers hold; who asks once is served before they are."""
    order: list[str] = []

    def listener(request: Any, response: Any) -> None:
        order.append(request.url)
        response.end(request.url)
        if len(order) == COUNT * ROUNDS:
            # everybody has had a turn, and is in line
            single.send(get('/single'))

    server = serve(listener)
    single = server.connect()
    floods = [server.connect() for _ in range(COUNT)]
    for flood in floods:
        flood.send(get('/flood') * 4 * ROUNDS)
    for flood in floods:
        assert len(numbers(flood, 4 * ROUNDS)) == 4 * ROUNDS
    assert numbers(single, 1) == ['/single']
    # one from the line may have had a turn, where all would have had one
    assert order.index('/single') <= (COUNT + 3) * ROUNDS
