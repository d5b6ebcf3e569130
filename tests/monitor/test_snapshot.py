"""Snapshots: their content, their bounds, and the pauses between their steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.monitor import sampler as sampling
from geventnode.monitor.sampler import Sampler, pause_after, quantile
from geventnode.monitor.snapshot import Snapshot, TopN
from tests.origins import HELLO, MakeOrigin, Peer, silent
from tests.servers import Log, Serve, get, ok, post
from tests.sockets import until


@pytest.fixture
def go_on() -> Iterator[Event]:
    """The event that listeners wait for until the end of the test."""
    event = Event()
    yield event
    event.set()


def snapshot(*servers: http.Server, agents: dict[http.Agent, str] | None = None, rows: int = 10) -> Snapshot:
    """Return a complete snapshot."""
    found = Snapshot(rows)
    for _ in found.read_servers(servers):
        pass
    for _ in found.read_agents(agents or {}):
        pass
    return found


# -- tables -----------------------------------------------------------------------------------------------------------


def test_top_n_keeps_the_greatest() -> None:
    top: TopN[str] = TopN(3)
    for key in (5, 1, 4, 1, 5, 9, 2, 6):
        if top.admits(key):
            top.add(key, str(key))
    assert (top.items, top.seen, top.left_out) == (['9', '6', '5'], 8, 5)


def test_top_n_below_its_limit() -> None:
    top: TopN[str] = TopN(3)
    assert (top.items, top.left_out) == ([], 0)
    assert top.admits(1)
    top.add(1, 'one')
    assert (top.items, top.left_out) == (['one'], 0)


@pytest.mark.parametrize(('share', 'expected'), [(0.5, 50), (0.99, 99), (1, 100), (0.001, 1)])
def test_quantiles(share: float, expected: int) -> None:
    assert quantile([float(number) for number in range(1, 101)], share) == expected


def test_quantiles_of_few_values() -> None:
    assert quantile([], 0.5) is None
    assert quantile([7.0], 0.99) == 7


# -- servers ----------------------------------------------------------------------------------------------------------


def test_states_of_connections(serve: Serve, go_on: Event) -> None:
    """They agree with the server's own statistics."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.url)
        if request.url == '/upgraded':
            response.upgrade()
        elif request.url == '/read':
            request.read()
        else:
            go_on.wait()
            ok(request, response)

    site = serve(listener)
    site.send(get('/handled'))
    site.send(post(b'', '/read', length=5))
    site.send(get('/upgraded', 'Connection: upgrade', 'Upgrade: echo'))
    site.send(b'GET / HT')
    log.wait_for_length(3)
    until(lambda: site.server.statistics()['reading'] == 2)
    found = snapshot(site.server)
    expected = site.server.statistics()
    assert found.states == {name: expected[name] for name in found.states}
    assert sum(found.states.values()) == 4
    assert {(row.method, row.target, row.state) for row in found.received.items} == {
        ('GET', '/handled', 'handling'),
        ('POST', '/read', 'reading'),
    }


def test_total_of_requests(serve: Serve) -> None:
    """It includes closed and upgraded connections, and never decreases."""

    def listener(request: Any, response: Any) -> None:
        if request.url == '/upgraded':
            response.upgrade()
        else:
            ok(request, response)

    site = serve(listener)
    client = site.connect()
    for _ in range(3):
        client.get()
    site.send(get('/upgraded', 'Connection: upgrade', 'Upgrade: echo')).head()
    assert snapshot(site.server).requests == 4
    client.close()
    until(lambda: site.server.get_connections() == 1)
    assert snapshot(site.server).requests == 4
    # one that closes during a snapshot
    client = site.connect()
    client.get()
    found = Snapshot(10)
    steps = found.read_servers([site.server])
    next(steps)
    client.close()
    until(lambda: site.server.get_connections() == 1)
    assert list(steps) == [None]
    assert found.requests == snapshot(site.server).requests == 5
    assert found.states['upgraded'] == 1


def test_age_of_an_upload(serve: Serve, go_on: Event) -> None:
    """It begins with the head, and does not depend on the body."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append('head')
        request.read()
        log.append('body')
        go_on.wait()

    site = serve(listener)
    client = site.send(post(b'', '/', length=5))
    log.wait_for('head')
    (before,) = snapshot(site.server).received.items
    client.send(b'12345')
    log.wait_for('body')
    (after,) = snapshot(site.server).received.items
    assert (before.state, after.state, after.began) == ('reading', 'handling', before.began)


def test_excluded_responses(serve: Serve, go_on: Event) -> None:
    """They are neither in the table nor in the counts."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(response)
        go_on.wait()

    site = serve(listener)
    site.send(get('/1'))
    log.wait_for_length(1)
    site.send(get('/2'))
    log.wait_for_length(2)
    found = Snapshot(10, excluded=log[:1])
    list(found.read_servers([site.server]))
    assert [row.target for row in found.received.items] == ['/2']
    assert (found.states['handling'], found.requests) == (1, 2)


def test_one_connection_per_step(serve: Serve, no_switch: Any) -> None:
    """The snapshot itself does not let other greenlets run."""
    site = serve(ok)
    for _ in range(20):
        site.connect().get()
    with no_switch():
        assert len(list(Snapshot(10).read_servers([site.server]))) == 20


def test_other_greenlets_run_during_a_snapshot(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server responds before the snapshot is complete."""
    monkeypatch.setattr(sampling, 'TIME_SLICE', -1.0)
    site = serve(ok)
    for _ in range(20):
        site.connect().get()
    sampler = Sampler(lambda: [site.server], dict, (), False)
    surveying = gevent.spawn(sampler._take_snapshot, Snapshot(10))
    client = site.connect()
    served = 0
    while not surveying.ready():
        client.get()
        served += not surveying.ready()
    assert served > 1


@pytest.mark.parametrize(
    ('connections', 'passed', 'expected'),
    [(0, 0.0, 1.0), (100, 0.25, 0.75), (50000, 0.5, 4.5), (100, 5.0, sampling.PAUSE)],
)
def test_pause_grows_with_the_number_of_connections(connections: int, passed: float, expected: float) -> None:
    """So snapshots take a bounded share of the time."""
    assert pause_after(connections, passed) == pytest.approx(expected)


# -- agents -----------------------------------------------------------------------------------------------------------


def test_states_of_agent_connections(origin: MakeOrigin) -> None:
    """One of each: connecting, waiting, receiving and unread."""
    forever = Event()

    def slow(peer: Peer) -> None:
        if 'body' in peer.request().line:
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1')
        peer.closed()

    url = origin(slow).url
    with http.Agent() as agent, http.Agent() as other:
        opening = http.get(origin(silent).url, agent=agent, create_connection=lambda options: forever.wait())
        waiting = http.get(f'{url}/wait', agent=agent)
        read = http.get(f'{url}/body/1', agent=agent).get_response()
        unread = http.get(f'{url}/body/2', agent=agent).get_response()
        reading = gevent.spawn(read.read)
        until(lambda: read._has_reader)
        found = snapshot(agents={agent: 'one', other: 'two'})
        assert {(row.method, row.target, row.state, row.agent) for row in found.sent.items} == {
            ('GET', '/wait', 'waiting', 'one'),
            ('GET', '/body/1', 'receiving', 'one'),
            ('GET', '/body/2', 'unread', 'one'),
        }
        assert [
            (pool.agent, pool.active, pool.idle, pool.queued, pool.limit, dict(pool.held)) for pool in found.pools.items
        ] == [('one', 3, 0, 0, 5, {'waiting': 1, 'receiving': 1, 'unread': 1}), ('one', 1, 0, 0, 5, {'connecting': 1})]
        reading.kill()
        for each in (opening, waiting):
            each.abort()
        del unread


def test_connecting_socket(origin: MakeOrigin) -> None:
    """Until the socket is connected."""
    with http.Agent() as agent:
        request = http.get(origin(silent).url, agent=agent)
        assert [row.state for row in snapshot(agents={agent: ''}).sent.items] == ['connecting']
        until(lambda: request.socket is not None and not request.socket.pending)
        assert [row.state for row in snapshot(agents={agent: ''}).sent.items] == ['waiting']
        request.abort()


def test_queues(origin: MakeOrigin) -> None:
    """Their lengths, the current and the past waits; the longest queue first."""
    go_on = Event()

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            go_on.wait()
            peer.send(HELLO)

    long, short = origin(script), origin(script)
    with http.Agent(max_sockets=1, keep_alive=True) as agent:
        requests = [http.get(upstream.url, agent=agent) for upstream in (short, long, long, long, short)]
        first, second = snapshot(agents={agent: 'one'}).pools.items
        assert (first.origin, first.queued, first.waited) == (f'127.0.0.1:{long.port}', 2, 0)
        assert (second.origin, second.queued) == (f'127.0.0.1:{short.port}', 1)
        assert first.longest_wait > 0
        assert snapshot(agents={agent: 'one'}, rows=1).pools.left_out == 1
        go_on.set()
        for request in requests:
            request.get_response().read()
        found = {pool.origin: pool for pool in snapshot(agents={agent: 'one'}).pools.items}
        pool = found[f'127.0.0.1:{long.port}']
        assert (pool.active, pool.idle, pool.queued, pool.longest_wait, pool.waited) == (0, 1, 0, 0, 2)
        assert pool.wait_time > 0
