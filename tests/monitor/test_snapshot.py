"""Surveys: what they find, how much they keep, and that others run in between."""

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
    """What listeners wait for until the test is over."""
    event = Event()
    yield event
    event.set()


def snapshot(*servers: http.Server, agents: dict[http.Agent, str] | None = None, rows: int = 10) -> Snapshot:
    """Return a survey at one go."""
    found = Snapshot(rows)
    for _ in found.read_servers(servers):
        pass
    for _ in found.read_agents(agents or {}):
        pass
    return found


# -- tables -----------------------------------------------------------------------------------------------------------


def test_the_greatest_are_kept() -> None:
    top: TopN[str] = TopN(3)
    for key in (5, 1, 4, 1, 5, 9, 2, 6):
        if top.admits(key):
            top.add(key, str(key))
    assert (top.items, top.seen, top.left_out) == (['9', '6', '5'], 8, 5)


def test_a_table_that_is_not_full() -> None:
    top: TopN[str] = TopN(3)
    assert (top.items, top.left_out) == ([], 0)
    assert top.admits(1)
    top.add(1, 'one')
    assert (top.items, top.left_out) == (['one'], 0)


@pytest.mark.parametrize(('share', 'expected'), [(0.5, 50), (0.99, 99), (1, 100), (0.001, 1)])
def test_quantiles(share: float, expected: int) -> None:
    assert quantile([float(number) for number in range(1, 101)], share) == expected


def test_quantiles_of_few() -> None:
    assert quantile([], 0.5) is None
    assert quantile([7.0], 0.99) == 7


# -- servers ----------------------------------------------------------------------------------------------------------


def test_what_connections_do(serve: Serve, go_on: Event) -> None:
    """As the server's own statistics say."""
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


def test_how_many_requests_there_were(serve: Serve) -> None:
    """Those of connections that have gone, or are somebody else's now, too; no survey counts fewer than the last."""

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
    # one that goes while a survey is under way
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


def test_the_age_of_an_upload(serve: Serve, go_on: Event) -> None:
    """From its head on, wherever its body has got to."""
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


def test_some_are_left_out(serve: Serve, go_on: Event) -> None:
    """Those whose responses are the asker's own, from the table and from the counts."""
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


def test_one_at_a_time(serve: Serve, no_switch: Any) -> None:
    """Whoever asks gets a turn for each connection, and nobody else takes one."""
    site = serve(ok)
    for _ in range(20):
        site.connect().get()
    with no_switch():
        assert len(list(Snapshot(10).read_servers([site.server]))) == 20


def test_the_loop_runs_in_between(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the midst of a survey: others are served before it is over."""
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
    """There is time between them for what they take."""
    assert pause_after(connections, passed) == pytest.approx(expected)


# -- agents -----------------------------------------------------------------------------------------------------------


def test_what_holds_the_sockets(origin: MakeOrigin) -> None:
    """One of each kind: no connection yet, no response yet, a response that is read, and one that is not."""
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


def test_connecting(origin: MakeOrigin) -> None:
    """As long as the socket is on its way."""
    with http.Agent() as agent:
        request = http.get(origin(silent).url, agent=agent)
        assert [row.state for row in snapshot(agents={agent: ''}).sent.items] == ['connecting']
        until(lambda: request.socket is not None and not request.socket.pending)
        assert [row.state for row in snapshot(agents={agent: ''}).sent.items] == ['waiting']
        request.abort()


def test_queues(origin: MakeOrigin) -> None:
    """How many wait, for how long the first has, and how long those took that wait no more; the longest queue first."""
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
        assert (first.destination, first.queued, first.waited) == (f'127.0.0.1:{long.port}', 2, 0)
        assert (second.destination, second.queued) == (f'127.0.0.1:{short.port}', 1)
        assert first.longest_wait > 0
        assert snapshot(agents={agent: 'one'}, rows=1).pools.left_out == 1
        go_on.set()
        for request in requests:
            request.get_response().read()
        found = {pool.destination: pool for pool in snapshot(agents={agent: 'one'}).pools.items}
        pool = found[f'127.0.0.1:{long.port}']
        assert (pool.active, pool.idle, pool.queued, pool.longest_wait, pool.waited) == (0, 1, 0, 0, 2)
        assert pool.wait_time > 0
