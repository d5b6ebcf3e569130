"""The monitor over the wire: its content, the limit for watchers, and the end of streams."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import http
from geventnode.errors import InvalidInput
from geventnode.monitor import Monitor, sampler
from tests.monitors import answer, ask, event, monitored, state, watch
from tests.origins import MakeOrigin, Peer, silent
from tests.servers import Log, Serve, ok
from tests.sockets import until

ATTACK = '/<script>alert(1)</script>&quot;"\'--'


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the interval between snapshots."""
    monkeypatch.setattr(sampler, 'INTERVAL', 0.01)


@pytest.fixture
def go_on() -> Iterator[Event]:
    """The event that listeners wait for until the end of the test."""
    event = Event()
    yield event
    event.set()


# -- the page ---------------------------------------------------------------------------------------------------------


def test_page_is_self_contained(serve: Serve) -> None:
    """It is small, and its policy allows only its inline scripts and styles."""
    reply = answer(serve(monitored()), '/monitor')
    assert (reply.status, reply.values('Content-Type')) == (200, ['text/html; charset=utf-8'])
    assert len(reply.body) < 20 * 1024
    (policy,) = reply.values('Content-Security-Policy')
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert len(re.findall(r"'sha256-[\w+/]+='", policy)) == 2
    assert reply.body.count(b'<script') == reply.body.count(b'<style') == 1
    assert not re.search(rb'\bsrc=|\bon\w+=|style=|innerHTML|url\(|href="(?!data:)', reply.body)
    assert reply.values('Cache-Control') == ['no-store']


@pytest.mark.parametrize('url', ['/monitor', '/monitor?state', '/monitor?stream'])
def test_head_has_no_body(serve: Serve, url: str) -> None:
    client = ask(serve(monitored()).connect(), url, method='HEAD')
    assert client.response('HEAD').status == 200
    # no byte of a body was sent
    assert ask(client, '/other').response().body == b'GET /other'


def test_other_methods_get_405(serve: Serve) -> None:
    reply = answer(serve(monitored()), '/monitor?state', method='DELETE')
    assert (reply.status, reply.values('Allow')) == (405, ['GET, HEAD'])


# -- where it is ------------------------------------------------------------------------------------------------------


def test_other_paths_reach_the_listeners(serve: Serve) -> None:
    log = Log()
    server = http.create_server(log.note('first'))
    server.on('request', ok)
    Monitor().mount(server, '/look')
    site = serve(server)
    for url in ('/', '/look/', '/looking', '/monitor', '/x?/look'):
        assert answer(site, url).body == f'GET {url}'.encode()
    assert log == ['first'] * 5
    assert answer(site, '/look?and=more').body.startswith(b'<!doctype html>')
    assert log == ['first'] * 5


def test_mount_without_other_listeners(serve: Serve) -> None:
    assert answer(serve(monitored(None)), '/other').status == 501


@pytest.mark.parametrize('path', ['', 'monitor', 'site:app', '/a?b', '/a#b', '/a b', '/\xe4', '/a\n'])
def test_invalid_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match='must begin with a slash'):
        Monitor().mount(http.create_server(), path)


def test_monitor_on_its_own_server(serve: Serve, go_on: Event) -> None:
    """On another port, for the server that it was given."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append('here')
        go_on.wait()

    site = serve(listener)
    ask(site.connect(), '/there')
    log.wait_for('here')
    found = state(serve(Monitor(site.server)))
    assert [row['target'] for row in found['received']['rows']] == ['/there']
    assert found['requests']['total'] == 1


# -- its content ------------------------------------------------------------------------------------------------------


def test_requests_in_flight(serve: Serve, go_on: Event) -> None:
    """The oldest first, with their states; queries are not shown."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append(request.url)
        if request.method == 'POST':
            request.read()
        go_on.wait()

    site = serve(monitored(listener))
    client = ask(site.connect(), f'{ATTACK}?secret=1')
    log.wait_for_length(1)
    ask(site.connect(), '/upload', 'Content-Length: 3', method='POST')
    log.wait_for_length(2)
    reply = answer(site, '/monitor?state')
    assert b'secret' not in reply.body
    found = json.loads(reply.body)
    first, second = found['received']['rows']
    host, port = client.socket.getsockname()
    assert (first.pop('age') > 0, first) == (
        True,
        {'peer': f'{host}:{port}', 'method': 'GET', 'target': f'{ATTACK}?…', 'state': 'handling'},
    )
    assert (second['method'], second['target'], second['state']) == ('POST', '/upload', 'reading')
    assert {name: count for name, count in found['connections'].items() if count} == {'handling': 1, 'reading': 1}


def test_queries_are_optional(serve: Serve, go_on: Event) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append('here')
        go_on.wait()

    site = serve(monitored(listener, queries=True))
    ask(site.connect(), '/a?b=c')
    log.wait_for('here')
    assert state(site)['received']['rows'][0]['target'] == '/a?b=c'


def test_long_targets_are_shortened(serve: Serve, go_on: Event) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append('here')
        go_on.wait()

    site = serve(monitored(listener))
    ask(site.connect(), f'/{"x" * 5000}')
    log.wait_for('here')
    target = state(site)['received']['rows'][0]['target']
    assert (len(target), target[-1]) == (sampler.MAX_TEXT + 1, '…')


def test_table_is_bounded(serve: Serve, go_on: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, 'ROWS', 2)
    log = Log()

    def listener(request: Any, response: Any) -> None:
        log.append('here')
        go_on.wait()

    site = serve(monitored(listener))
    for number in range(5):
        ask(site.connect(), f'/{number}')
        log.wait_for_length(number + 1)
    found = state(site)['received']
    assert (found['count'], found['left_out']) == (5, 3)
    assert [row['target'] for row in found['rows']] == ['/0', '/1']


def test_rates_need_a_previous_snapshot(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor's own requests have no durations."""
    monkeypatch.setattr(sampler, 'WINDOW', 3600.0)
    site = serve(monitored())
    watching = watch(site)
    first = event(watching)
    assert (first['requests']['rate'], first['interval'], first['requests']['p50']) == (None, None, None)
    client = site.connect()
    for _ in range(10):
        ask(client).response()
    found = state(site)
    # ten, one for the stream and one for the state, which can be from an older snapshot
    while found['requests']['total'] < 12:
        found = event(watching)
    assert found['requests']['total'] == 12
    assert found['requests']['measured'] == 10
    assert 0 < found['requests']['p50'] <= found['requests']['p99']
    assert found['requests']['rate'] >= 0
    assert found['interval'] > 0


def test_some_exchanges_are_sampled(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed number after each tick; others are not observed."""
    monkeypatch.setattr(sampler, 'SAMPLES_PER_TICK', 3)
    monkeypatch.setattr(sampler, 'TICK', 3600.0)
    site = serve(monitored())
    watching = watch(site)
    event(watching)
    client = site.connect()
    for _ in range(10):
        ask(client).response()
    assert site.server.response_class is http.ServerResponse
    total = 0
    while total < 11:
        found = event(watching)
        total = found['requests']['total']
    assert found['requests']['measured'] == 3


def test_loop_lag(serve: Serve) -> None:
    """A call that blocks the loop is visible."""
    block = gevent.monkey.get_original('time', 'sleep')
    site = serve(monitored())
    watching = watch(site)
    event(watching)
    block(0.3)
    worst = 0.0
    while worst < 0.2:
        worst = event(watching)['loop_lag']


# -- agents -----------------------------------------------------------------------------------------------------------


def big(peer: Peer) -> None:
    """Send more than the kernel and the agent buffer."""
    peer.request()
    peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n' + bytes(1000000))
    peer.closed()


def test_stuck_pool(serve: Serve, origin: MakeOrigin) -> None:
    """Unread responses are shown with their requests, even if the program has no reference to them."""
    upstream = origin(big)
    with http.Agent(max_sockets=2) as agent:
        site = serve(monitored(agents={'upstream': agent}))
        kept = [http.get(f'{upstream.url}/big{number}?secret', agent=agent).get_response() for number in range(2)]
        waiting = http.get(upstream.url, agent=agent)
        found = state(site)
        (pool,) = (row for row in found['pools']['rows'] if row['agent'] == 'upstream')
        assert pool.pop('longest_wait') > 0
        assert pool == {
            'agent': 'upstream',
            'origin': f'127.0.0.1:{upstream.port}',
            'limit': 2,
            'active': 2,
            'idle': 0,
            'queued': 1,
            'mean_wait': None,
            'held': {'unread': 2},
        }
        rows = [row for row in found['sent']['rows'] if row['agent'] == 'upstream']
        assert [(row['method'], row['target'], row['state'], row['peer']) for row in rows] == [
            ('GET', f'/big{number}?…', 'unread', f'127.0.0.1:{upstream.port}') for number in range(2)
        ]
        del kept
        waiting.abort()


def test_mean_wait(serve: Serve, origin: MakeOrigin) -> None:
    """It covers the requests that got a connection since the previous snapshot."""
    upstream = origin()
    with http.Agent(max_sockets=1, keep_alive=True) as agent:
        site = serve(monitored(agents={'upstream': agent}))
        watching = watch(site)
        event(watching)
        requests = [http.get(upstream.url, agent=agent) for _ in range(3)]
        for request in requests:
            request.get_response().read()
        means: list[Any] = []
        # a snapshot can be taken between the two waits, and one before them
        while not any(means) or means[-1] is not None:
            means += [row['mean_wait'] for row in event(watching)['pools']['rows'] if row['agent'] == 'upstream']
        assert all(mean is None or mean > 0 for mean in means)


def test_agents_without_a_name_have_a_number(serve: Serve, origin: MakeOrigin) -> None:
    """They keep it."""
    upstream = origin(silent)
    with http.Agent() as agent:
        request = http.get(upstream.url, agent=agent)
        site = serve(monitored())
        names = set()
        for _ in range(2):
            (name,) = (
                row['agent'] for row in state(site)['sent']['rows'] if row['peer'] == f'127.0.0.1:{upstream.port}'
            )
            names.add(name)
        assert len(names) == 1
        assert re.fullmatch(r'agent \d+', names.pop())
        request.abort()


# -- watchers ---------------------------------------------------------------------------------------------------------


def test_number_of_watchers_is_limited(serve: Serve) -> None:
    """Further clients get Retry-After; a client that disconnects makes room."""
    site = serve(monitored(max_watchers=2))
    first, second = watch(site), watch(site)
    event(first)
    event(second)
    for url in ('/monitor?stream', '/monitor?state'):
        reply = answer(site, url)
        assert (reply.status, reply.values('Retry-After')) == (503, ['5'])
    assert answer(site, '/monitor').status == 200
    first.close()
    until(lambda: site.server.statistics()['handling'] == 1)
    assert state(site)['requests']['total'] > 0


def test_slow_watcher_buffers_one_snapshot(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server never queues more than one snapshot for a client."""
    monkeypatch.setattr(sampler.Sampler, '_render', lambda self, snapshot: {'much': 'x' * 1000000})
    server = http.create_server(ok)
    monitor = Monitor().mount(server)
    site = serve(server)
    ask(site.connect(receive_buffer=4096), '/monitor?stream')
    until(lambda: site.server.statistics()['writing'])
    (socket,) = (sink.socket for sink in site.server._protocols())
    number = monitor._sampler.number
    until(lambda: monitor._sampler.number > number + 20)
    assert 0 < socket.writable_length < 1100000


def test_streams_end_when_the_server_drains(serve: Serve) -> None:
    """At once, with a complete message."""
    site = serve(monitored())
    client = watch(site)
    event(client)
    site.server.close()
    assert client.rest().endswith(b'0\r\n\r\n')
    until(lambda: not site.server.get_connections())


def test_state_while_the_server_drains_gets_503(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, 'INTERVAL', 3600.0)
    site = serve(monitored())
    client = ask(site.connect(), '/monitor?state')
    until(lambda: site.server.statistics()['handling'])
    site.server.close()
    assert client.response().status == 503


def test_sampler_stops_without_watchers(serve: Serve) -> None:
    server = http.create_server(ok)
    monitor = Monitor().mount(server)
    site = serve(server)
    client = watch(site)
    event(client)
    assert server.response_class is not http.ServerResponse
    client.close()
    until(lambda: not monitor._watching)
    number = monitor._sampler.number
    assert server.response_class is http.ServerResponse
    for _ in range(3):
        gevent.sleep(0.02)
    assert monitor._sampler.number == number
    # and starts again
    assert state(site)['requests']['rate'] is not None
