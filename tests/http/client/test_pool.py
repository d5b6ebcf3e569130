"""The decisions of the pool, without any I/O."""

from __future__ import annotations

import random
from typing import Any

import pytest

from geventnode.http.client.pool import Action, Bucket, Pool


class Played:
    """A pool with its decisions applied at once; a connection is a number."""

    def __init__(self, **settings: Any) -> None:
        self.pool: Pool[str, int] = Pool()
        for name, value in settings.items():
            assert hasattr(self.pool, name)
            setattr(self.pool, name, value)
        self.made = 0
        self.serving: dict[str, int] = {}
        self.where: dict[int, Bucket[str, int]] = {}
        self.log: list[tuple[str, Any]] = []

    def ask(self, request: str, name: str = 'a', fresh: bool = False) -> None:
        """Add ``request``."""
        bucket = self.pool.bucket(name)
        bucket.queue[request] = fresh
        self.settle(bucket)

    def done(self, request: str) -> None:
        """Make the connection of ``request`` idle."""
        connection = self.serving.pop(request)
        bucket = self.where[connection]
        self.pool.put_idle(bucket, connection)
        self.settle(bucket)

    def gone(self, request: str) -> None:
        """Close the connection of ``request``."""
        connection = self.serving.pop(request)
        bucket = self.where.pop(connection)
        self.pool.remove(bucket, connection)
        self.settle(bucket)

    def leave(self, request: str, name: str = 'a') -> None:
        """Take ``request`` out of the queue."""
        bucket = self.pool.buckets[name]
        self.pool.dequeue(bucket, request)
        self.settle(bucket)

    def settle(self, bucket: Bucket[str, int]) -> None:
        """Apply every decision, as the agent does."""
        for each in self.pool.affected(bucket):
            while (decision := self.pool.decide(each)) is not None:
                if decision.action is Action.CLOSE:
                    assert decision.connection is not None
                    del self.where[decision.connection]
                    self.log.append(('close', decision.connection))
                    continue
                connection, request = decision.connection, decision.request
                assert request is not None
                if connection is None:
                    self.made += 1
                    connection = self.made
                    self.pool.connected(decision.bucket, connection, request)
                    self.where[connection] = decision.bucket
                self.serving[request] = connection
                self.log.append((decision.action.value, request))


def test_requests_are_served_in_order() -> None:
    played = Played(max_sockets=2)
    for request in 'abcde':
        played.ask(request)
    assert played.serving == {'a': 1, 'b': 2}
    played.done('b')
    played.done('a')
    assert played.serving == {'c': 2, 'd': 1}
    played.gone('c')
    assert played.serving == {'d': 1, 'e': 3}


def test_connection_without_waiting_requests_is_closed() -> None:
    played = Played()
    played.ask('a')
    played.done('a')
    assert played.log[-1] == ('close', 1)
    assert (played.pool.total, played.pool.buckets) == (0, {})


@pytest.mark.parametrize(('lifo', 'taken'), [(True, 2), (False, 1)])
def test_scheduling_selects_the_idle_connection(lifo: bool, taken: int) -> None:
    played = Played(keep_alive=True, lifo=lifo)
    played.ask('a')
    played.ask('b')
    played.done('a')
    played.done('b')
    played.ask('c')
    assert played.serving == {'c': taken}


def test_idle_connections_are_limited() -> None:
    played = Played(keep_alive=True, max_free_sockets=2)
    for request in 'abc':
        played.ask(request)
    for request in 'abc':
        played.done(request)
    assert played.log[-1] == ('close', 1), 'the one that was idle longest goes'
    assert played.pool.total == 2


@pytest.mark.parametrize('limit', ['max_sockets', 'max_total_sockets'])
def test_lowered_limit_closes_idle_connections(limit: str) -> None:
    """The remaining connection serves the requests that wait."""
    played = Played(keep_alive=True)
    for request in 'abc':
        played.ask(request)
    played.done('a')
    played.done('b')
    setattr(played.pool, limit, 1)
    played.ask('d')
    assert played.log[-2:] == [('close', 1), ('close', 2)]
    assert played.serving == {'c': 3}
    played.done('c')
    assert played.serving == {'d': 3}


def test_idle_connection_is_closed_for_a_request_that_needs_a_new_one() -> None:
    played = Played(keep_alive=True, max_sockets=1)
    played.ask('a')
    played.done('a')
    played.ask('b', fresh=True)
    assert played.log[-2:] == [('close', 1), ('open', 'b')]


def test_dequeued_request_gets_no_connection() -> None:
    played = Played(max_sockets=1)
    for request in 'abc':
        played.ask(request)
    played.leave('b')
    played.done('a')
    assert played.serving == {'c': 1}


def test_total_limit_closes_idle_connections_of_others() -> None:
    played = Played(keep_alive=True, max_total_sockets=1)
    played.ask('a', 'x')
    played.done('a')
    played.ask('b', 'y')
    assert played.log == [('open', 'a'), ('close', 1), ('open', 'b')]
    assert 'x' not in played.pool.buckets


def test_no_origin_starves_under_the_total_limit() -> None:
    played = Played(max_total_sockets=1)
    for number in range(5):
        played.ask(f'x{number}', 'x')
    played.ask('y', 'y')
    played.ask('z', 'z')
    played.done('x0')
    assert list(played.serving) == ['y']
    played.done('y')
    assert list(played.serving) == ['z']
    played.done('z')
    assert list(played.serving) == ['x1']


def test_origin_with_a_connection_goes_on_with_it() -> None:
    played = Played(max_sockets=1, max_total_sockets=2)
    for name in 'xy':
        for number in range(3):
            played.ask(f'{name}{number}', name)
    played.done('x0')
    assert played.log[-1] == ('reuse', 'x1')


def test_origin_gets_the_place_that_another_gives_up() -> None:
    played = Played(max_total_sockets=2)
    played.ask('x0', 'x')
    for number in range(3):
        played.ask(f'y{number}', 'y')
    played.gone('x0')
    assert sorted(played.serving) == ['y0', 'y1']


def test_change_affects_no_origin_that_can_get_no_connection() -> None:
    """A crawler has thousands of them, and a look at all of them for each request would be quadratic."""
    played = Played(max_total_sockets=2)
    for number in range(20):
        played.ask(f'{number}', f'{number // 2}')
    changed = played.pool.buckets['9']
    assert list(played.pool.affected(changed)) == [changed]
    played.gone('1')
    assert list(played.serving) == ['0', '2']
    assert list(played.pool.affected(changed)) == [changed]


def test_origin_at_a_lowered_limit_does_not_delay_another() -> None:
    played = Played(max_total_sockets=4)
    for request in ('x0', 'x1', 'y0', 'z0', 'x2', 'y1'):
        played.ask(request, request[0])
    played.pool.max_sockets = 2
    played.gone('z0')
    assert list(played.serving) == ['x0', 'x1', 'y0', 'y1']
    played.gone('x0')
    assert list(played.serving) == ['x1', 'y0', 'y1', 'x2']


def test_dequeued_origin_leaves_the_line() -> None:
    played = Played(max_total_sockets=1)
    played.ask('a', 'x')
    played.ask('b', 'y')
    played.leave('b', 'y')
    assert not played.pool.starving
    assert list(played.pool.buckets) == ['x']


def test_idle_connections_of_all_origins_are_limited() -> None:
    """The origin that was unused for longest gives one up, not the first one."""
    played = Played(keep_alive=True, max_total_free_sockets=2)
    for request, name in (('a', 'x'), ('b', 'y'), ('c', 'x'), ('d', 'z')):
        played.ask(request, name)
        played.done(request)
    assert played.log == [('open', 'a'), ('open', 'b'), ('reuse', 'c'), ('open', 'd'), ('close', 2)]
    assert list(played.pool.buckets) == ['x', 'z']


def test_random_steps_keep_limits_and_order(seed: int) -> None:
    """No request is forgotten."""
    chance = random.Random(seed)
    for _ in range(50):
        limits = {
            'max_sockets': chance.randint(1, 4),
            'max_total_sockets': chance.randint(1, 6),
            'max_free_sockets': chance.randint(0, 3),
            'max_total_free_sockets': chance.randint(0, 5),
            'keep_alive': chance.random() < 0.5,
            'lifo': chance.random() < 0.5,
        }
        played = Played(**limits)
        waiting: dict[str, list[str]] = {name: [] for name in 'abc'}
        number = 0
        for _ in range(300):
            before = set(played.serving)
            what = chance.random()
            if what < 0.45:
                number += 1
                name = chance.choice('abc')
                request = f'{name}{number}'
                waiting[name].append(request)
                played.ask(request, name, fresh=chance.random() < 0.1)
            elif what < 0.9 and played.serving:
                request = chance.choice(list(played.serving))
                before.discard(request)
                (played.done if chance.random() < 0.7 else played.gone)(request)
            elif any(waiting.values()):
                name = chance.choice([name for name in waiting if waiting[name]])
                request = chance.choice(waiting[name])
                waiting[name].remove(request)
                played.leave(request, name)
            for request in set(played.serving) - before:
                assert waiting[request[0]][0] == request, 'out of order'
                waiting[request[0]].pop(0)
            pool = played.pool
            assert pool.total == sum(bucket.size for bucket in pool.buckets.values()) <= limits['max_total_sockets']
            assert all(bucket.size <= limits['max_sockets'] for bucket in pool.buckets.values())
            assert all(len(bucket.idle) <= limits['max_free_sockets'] for bucket in pool.buckets.values())
            assert pool.idle == sum(len(bucket.idle) for bucket in pool.buckets.values())
            assert pool.idle <= limits['max_total_free_sockets']
            assert {bucket for bucket in pool.buckets.values() if bucket.idle} <= set(pool.with_idle)
            assert set(pool.with_idle) == {bucket for bucket in pool.buckets.values() if bucket.listed}
            assert all(bucket.size or bucket.queue for bucket in pool.buckets.values())
            idle = any(bucket.idle for bucket in pool.buckets.values())
            for name, requests in waiting.items():
                assert list(pool.buckets[name].queue if name in pool.buckets else ()) == requests
                if requests and pool.buckets[name].size < limits['max_sockets']:
                    assert pool.total == limits['max_total_sockets'], 'a request waits without a reason'
                    assert not idle, 'a request waits although a connection is idle'
        while played.serving:
            played.done(next(iter(played.serving)))
        assert not any(bucket.queue for bucket in played.pool.buckets.values()), 'a request was forgotten'
        assert not played.pool.starving
