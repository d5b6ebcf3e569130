"""Test that logs, statistics, the monitor and traces see requests by HTTP/2."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from gevent.event import Event

from geventnode import http
from geventnode.http import ExchangeObserver, observe_exchanges
from geventnode.http.server.access_log import log_access
from geventnode.monitor.snapshot import Snapshot
from tests.http2.client import Connect
from tests.http2.frames import PING, frame
from tests.leaks import live_greenlets
from tests.servers import Serve, ok
from tests.sockets import settle, until


def test_access_log(connect_h2: Connect, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = http.create_server(ok, http2=True)
    log_access(server)
    client = connect_h2(serve(server))
    with caplog.at_level(logging.INFO, 'geventnode.access'):
        client.response(client.get('/a'))
        client.response(client.get('/b', method='HEAD'))
    lines = [record.getMessage() for record in caplog.records if record.name == 'geventnode.access']
    assert '"GET /a HTTP/2.0" 200 6' in lines[0]
    assert '"HEAD /b HTTP/2.0" 200 -' in lines[1]


def test_access_log_has_refusals_of_the_server_and_disconnects(
    connect_h2: Connect, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is malformed or exceeds a limit of heads is none, as in HTTP/1.1: it is in the log of errors."""
    arrived = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/left':
            arrived.set()
        else:
            response.end(request.read())

    server = http.create_server(listener, http2=True, max_body_size=10, request_timeout=0.3)
    log_access(server)
    client = connect_h2(serve(server))
    with caplog.at_level(logging.INFO):
        assert client.response(client.get('/431', ('x-long', 'x' * 17000))).status == 431
        assert client.response(client.start('POST', '/413', ('content-length', '11'))).status == 413
        assert client.response(client.post(bytes(11), '/late-413')).status == 413
        assert client.response(client.start('POST', '/408')).status == 408
        assert client.response(client.get('/malformed', ('upgrade', 'h2c'))).reset == 1
        number = client.get('/left')
        arrived.wait()
        client.reset(number)
        until(lambda: '/left' in caplog.text)
    found = [record.getMessage().split('"')[1:3] for record in caplog.records if record.name == 'geventnode.access']
    assert [(line, rest.split()[0]) for line, rest in found] == [
        ('POST /late-413 HTTP/2.0', '413'),
        ('POST /408 HTTP/2.0', '408'),
        ('GET /left HTTP/2.0', '499'),
    ]
    until(lambda: server.refusals.get('malformed'))
    assert server.refusals == {'head_too_large': 1, 'body_too_large': 2, 'timeout': 1, 'malformed': 1}


def test_observer_sees_every_end(connect_h2: Connect, serve: Serve) -> None:
    ends: list[tuple[str, int]] = []
    arrived = Event()

    class Observer(ExchangeObserver):
        def exchange_ended(self, response: Any, status_code: int) -> None:
            ends.append((response.request.url, status_code))

    def listener(request: Any, response: Any) -> None:
        if request.url == '/failed':
            raise ValueError
        if request.url == '/left':
            arrived.set()
            return
        response.end(b'x')

    server = http.create_server(listener, http2=True)
    observe_exchanges(server, Observer())
    client = connect_h2(serve(server))
    client.response(client.get('/ok'))
    client.response(client.get('/failed'))
    number = client.get('/left')
    arrived.wait()
    client.reset(number)
    until(lambda: len(ends) == 3)
    assert ends == [('/ok', 200), ('/failed', 500), ('/left', 499)]


def test_statistics_and_snapshot(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if request.method == 'POST':
            request.read()
        go_on.wait()
        response.end(b'x')

    client = connect_h2(listener)
    server = client.site.server
    until(lambda: server.statistics()['idle'] == 1)
    upload = client.start('POST', '/upload')
    until(lambda: server.statistics()['reading'] == 1)
    download = client.get('/download')
    until(lambda: server.statistics()['handling'] == 1)
    snapshot = Snapshot(10)
    list(snapshot.read_servers([server]))
    assert snapshot.states['handling'] == 1
    assert snapshot.requests == 2
    rows = [(item.method, item.target, item.state) for item in snapshot.received.items]
    assert sorted(rows) == [('GET', '/download', 'handling'), ('POST', '/upload', 'reading')]
    go_on.set()
    client.send_data(upload, b'', end=True)
    assert client.response(upload).body == client.response(download).body == b'x'
    assert server.statistics()['idle'] == 1


def test_idle_connections_have_no_greenlets(connect_h2: Connect) -> None:
    """Other connections are served."""
    first = connect_h2(ok)
    assert first.response(first.get()).status == 200
    site = first.site
    before = len(live_greenlets())
    clients = [connect_h2(site) for _ in range(100)]
    for client in clients:
        assert client.response(client.get()).status == 200
    assert site.server.statistics()['idle'] == 101
    assert len(live_greenlets()) == before
    assert first.response(first.get()).status == 200


def test_metrics_count_exceeded_limits_by_their_options(connect_h2: Connect) -> None:
    pytest.importorskip('prometheus_client', reason='prometheus_client is not installed; it is in the extra "test"')
    from prometheus_client import CollectorRegistry

    from geventnode.integrations.prometheus import Metrics

    registry = CollectorRegistry()
    metrics = Metrics(registry)
    client = connect_h2(ok, http2_max_control_frames=10)
    metrics.watch_server(client.site.server)
    client.response(client.get())
    client.send_raw(frame(PING, 0, 0, bytes(8)) * 20)
    client.wait_closed()
    metrics.update()
    found = registry.get_sample_value('geventnode_requests_refused_total', {'reason': 'http2_max_control_frames'})
    metrics.close()
    assert found == 1


def test_connections_are_traced(connect_h2: Connect, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = http.create_server(ok, http2=True, debug_connections=True)
    client = connect_h2(serve(server))
    with caplog.at_level(logging.DEBUG, 'geventnode.connection'):
        client.response(client.get('/traced'))
        client.reset(client.start('POST', '/left'))
        until(lambda: 'reset by the client' in caplog.text)
        server.debug_connections = False
        client.response(client.get('/untraced'))
        settle()
    assert 'stream 1: GET /traced' in caplog.text
    assert 'stream 1: complete' in caplog.text
    assert 'stream 3: reset by the client, CANCEL' in caplog.text
    assert '/untraced' not in caplog.text


def test_events_for_many_streams(connect_h2: Connect, serve: Serve) -> None:
    """A client that does not enlarge the windows is dropped alone, and the others get all events."""
    events = http.EventBroadcast(max_send_queue=1000, heartbeat=None)
    site = serve(http.create_server(lambda request, response: events.add(response), http2=True))
    slow, fast = connect_h2(site, client={'credit': False}), connect_h2(site)
    slow_stream, fast_stream = slow.get('/'), fast.get('/')
    until(lambda: len(events) == 2)
    data = 'x' * 10_000
    sent = 0
    while not events.dropped:
        assert events.send(data) >= 1
        sent += 1
        while len(fast.responses[fast_stream].body) < len(f'data: {data}\n\n') * sent:
            assert fast.receive()
    assert len(events) == 1
    assert slow.response(slow_stream).reset is not None
    events.end()
    response = fast.response(fast_stream)
    assert (response.reset, response.body) == (None, f'data: {data}\n\n'.encode() * sent)
