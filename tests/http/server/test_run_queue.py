"""Test the run queue, which resumes connections with buffered requests in turn."""

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


class Entry:
    """An entry that records when it is resumed, and then does something."""

    def __init__(self, name: str, log: list[str], act: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self._log = log
        self._act = act

    def resume(self) -> None:
        """Record the turn."""
        self._log.append(self.name)
        self._act()


def turns(log: list[str]) -> list[list[str]]:
    """Let the loop turn until nothing more happens; return the names resumed in each turn."""
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
    """Let each resumption take a slice of time, by the clock of the queue."""
    now = [0.0]

    def clock() -> float:
        now[0] += run_queue.SLICE
        return now[0]

    monkeypatch.setattr(run_queue, 'monotonic', clock)


def test_all_entries_are_resumed_in_one_turn() -> None:
    log: list[str] = []
    queue = RunQueue(get_hub().loop)
    for name in 'abc':
        queue.add(Entry(name, log))
    assert turns(log) == [['a', 'b', 'c']]


def test_an_entry_that_is_added_meanwhile_waits_for_the_next_turn() -> None:
    log: list[str] = []
    queue = RunQueue(get_hub().loop)
    again = Entry('again', log)
    queue.add(Entry('a', log, lambda: queue.add(again)))
    queue.add(Entry('b', log))
    assert turns(log) == [['a', 'b'], ['again']]


@pytest.mark.usefixtures('slow')
def test_the_rest_waits_for_the_next_turn_after_a_slice() -> None:
    log: list[str] = []
    queue = RunQueue(get_hub().loop)
    queue.add(Entry('a', log, lambda: queue.add(Entry('d', log))))
    queue.add(Entry('b', log))
    queue.add(Entry('c', log))
    assert turns(log) == [['a'], ['b'], ['c'], ['d']]


def test_a_discarded_entry_is_not_resumed() -> None:
    log: list[str] = []
    queue = RunQueue(get_hub().loop)
    entries = [Entry(name, log) for name in 'abc']
    entries.insert(0, Entry('first', log, lambda: queue.discard(entries[2])))
    for entry in entries:
        queue.add(entry)
    queue.discard(entries[1])
    assert turns(log) == [['first', 'c']]


def test_an_entry_that_raises_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    queue = RunQueue(get_hub().loop)
    monkeypatch.setattr(get_hub(), 'handle_error', lambda *args: None)
    queue.add(Entry('a', log, lambda: 1 / 0))
    queue.add(Entry('b', log))
    assert turns(log) == [['a'], ['b']]


@pytest.mark.usefixtures('slow')
def test_a_flood_does_not_hold_up_a_single_request(serve: Serve) -> None:
    """The buffers of the flooding connections are full. A single request is served before they are."""
    order: list[str] = []

    def listener(request: Any, response: Any) -> None:
        order.append(request.url)
        response.end(request.url)
        if len(order) == COUNT * ROUNDS:
            # every connection was resumed, and is in the queue again
            single.send(get('/single'))

    server = serve(listener)
    single = server.connect()
    floods = [server.connect() for _ in range(COUNT)]
    for flood in floods:
        flood.send(get('/flood') * 4 * ROUNDS)
    for flood in floods:
        assert len(numbers(flood, 4 * ROUNDS)) == 4 * ROUNDS
    assert numbers(single, 1) == ['/single']
    # at most one of the queue was resumed before, instead of all
    assert order.index('/single') <= (COUNT + 3) * ROUNDS
