"""Metrics for Prometheus: counters, gauges and the response to a scrape."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from geventnode import http
from geventnode.integrations.prometheus import Metrics
from tests.origins import MakeOrigin, Peer
from tests.servers import Log, Serve, get, ok
from tests.sockets import until

Value = Callable[..., Any]


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """Metrics in a separate registry."""
    found = Metrics(CollectorRegistry())
    yield found
    found.close()


@pytest.fixture
def value(metrics: Metrics) -> Value:
    """The value of a sample: ``value('http_requests_total', method='GET')``."""

    def find(name: str, **labels: str) -> Any:
        metrics.update()
        return metrics._registry.get_sample_value(f'geventnode_{name}', labels)

    return find


def test_websockets(serve: Serve, metrics: Metrics, value: Value) -> None:
    pytest.importorskip('wsproto', reason='wsproto is not installed; it is in the extra "test"')
    from geventnode import websocket

    site = serve(http.create_server())
    site.server.on('upgrade', websocket.listener(lambda ws: [ws.send(message * 2) for message in ws]))
    metrics.watch_server(site.server)
    with websocket.connect(f'ws://127.0.0.1:{site.where[1]}/') as ws:
        ws.send('ä')
        assert ws.receive() == 'ää'
        assert value('connections', state='websocket') == 1
    with pytest.raises(websocket.WebSocketHandshakeError):
        websocket.connect(f'ws://127.0.0.1:{site.where[1]}/', headers={'Origin': 'http://other'})
    assert value('websockets_total') == 1
    assert value('websocket_messages_total', direction='received') == 1
    assert value('websocket_messages_total', direction='sent') == 1
    assert value('websocket_message_bytes_total', direction='received') == 2
    assert value('websocket_message_bytes_total', direction='sent') == 4
    assert value('requests_refused_total', reason='websocket') == 1


def test_requests(serve: Serve, metrics: Metrics, value: Value) -> None:
    """By method and status, with their durations."""

    def listener(request: Any, response: Any) -> None:
        assert value('http_requests_in_progress') == 1
        response.status_code = int(request.url[1:])
        response.end()

    site = serve(listener)
    metrics.watch_server(site.server)
    client = site.connect()
    for status in (200, 404, 200):
        client.get(f'/{status}')
    client.send(get('/200', method='INVENTED')).response()
    assert value('http_requests_total', method='GET', status='200') == 2
    assert value('http_requests_total', method='GET', status='404') == 1
    assert value('http_requests_total', method='other', status='200') == 1
    assert value('http_request_duration_seconds_count', method='GET') == 3
    assert value('http_request_duration_seconds_bucket', method='GET', le='60.0') == 3
    assert value('http_requests_in_progress') == 0


def test_disconnected_client_counts_as_499(serve: Serve, metrics: Metrics, value: Value) -> None:
    """As in the access log; the request is no longer in progress."""
    log = Log()
    left = Event()

    def listener(request: Any, response: Any) -> None:
        log.append('begun')
        left.wait()

    site = serve(listener)
    metrics.watch_server(site.server)
    client = site.send(get())
    log.wait_for('begun')
    client.abort()
    until(lambda: value('http_requests_total', method='GET', status='499') == 1)
    assert value('http_requests_in_progress') == 0
    left.set()


def test_connections(serve: Serve, metrics: Metrics, value: Value) -> None:
    """By state, for all servers together."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/wait':
            go_on.wait()
        ok(request, response)

    sites = [serve(listener), serve(listener)]
    for site in sites:
        metrics.watch_server(site.server)
        site.connect().get()
    sites[0].send(get('/wait'))
    until(lambda: value('connections', state='handling') == 1)
    assert value('connections', state='idle') == 2
    assert value('buffered_bytes') == 0
    go_on.set()
    until(lambda: value('connections', state='idle') == 3)


def test_agents(origin: MakeOrigin, metrics: Metrics, value: Value) -> None:
    """Active, idle and queued, with waits; agents of one name are added."""
    go_on = Event()

    def script(peer: Peer) -> None:
        for _ in range(2):
            peer.request()
            go_on.wait()
            peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
        peer.closed()

    server = origin(script)
    with http.Agent(max_sockets=1, keep_alive=True) as first, http.Agent(max_sockets=1, keep_alive=True) as second:
        for agent in (first, second):
            metrics.watch_agent(agent, 'upstream')
        requests = [http.get(server.url, agent=agent) for agent in (first, first, second)]
        assert value('agent_connections', agent='upstream', state='active') == 2
        assert value('agent_requests_queued', agent='upstream') == 1
        assert value('agent_longest_wait_seconds', agent='upstream') > 0
        assert value('agent_waits_total', agent='upstream') == 0
        go_on.set()
        for request in requests:
            assert request.get_response().read() == b'ok'
        assert value('agent_connections', agent='upstream', state='idle') == 2
        assert value('agent_requests_total', agent='upstream') == 3
        assert value('agent_connections_opened_total', agent='upstream') == 2
        assert value('agent_connections_reused_total', agent='upstream') == 1
        assert value('agent_waits_total', agent='upstream') == 1
        assert value('agent_wait_seconds_total', agent='upstream') > 0
        assert value('agent_requests_queued', agent='upstream') == 0


def test_another_call_counts_nothing_again(serve: Serve, metrics: Metrics, value: Value) -> None:
    site = serve(ok)
    with http.Agent() as agent:
        for _ in range(2):
            metrics.watch_server(site.server)
            metrics.watch_agent(agent, 'upstream')
            http.get(f'http://127.0.0.1:{site.port}/', agent=agent).get_response().read()
            assert value('agent_requests_total', agent='upstream') == value(
                'http_requests_total', method='GET', status='200'
            )
        assert value('agent_requests_total', agent='upstream') == 2
        metrics.watch_agent(agent, 'renamed')
        assert value('agent_requests_total', agent='renamed') == 0


def test_collected_agents(origin: MakeOrigin, metrics: Metrics, value: Value) -> None:
    """Their gauges are 0, and their counters remain."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
        peer.closed()

    server = origin(script)
    agent = http.Agent(keep_alive=True)
    metrics.watch_agent(agent, 'brief')
    assert http.get(server.url, agent=agent).get_response().read() == b'ok'
    assert value('agent_connections', agent='brief', state='idle') == 1
    agent.destroy()
    del agent
    gevent.idle()
    gc.collect()
    assert not metrics._agents
    assert value('agent_connections', agent='brief', state='idle') == 0
    assert value('agent_connections', agent='brief', state='active') == 0
    assert value('agent_requests_queued', agent='brief') == 0
    assert value('agent_longest_wait_seconds', agent='brief') == 0
    assert value('agent_requests_total', agent='brief') == 1


def test_collected_servers(metrics: Metrics, value: Value) -> None:
    """Their gauges are 0."""
    server = http.create_server()
    metrics.watch_server(server)
    server.statistics = lambda: {'connections': 2, 'idle': 2, 'buffered': 0}
    assert value('connections', state='idle') == 2
    del server
    gc.collect()
    assert value('connections', state='idle') == 0


def test_formats(serve: Serve, metrics: Metrics) -> None:
    """Prometheus' text format, or OpenMetrics on request."""
    site = serve(metrics)
    metrics.watch_server(site.server)
    reply = site.get('/metrics')
    assert reply.values('Content-Type')[0].startswith('text/plain; version=')
    families = {family.name for family in text_string_to_metric_families(reply.body.decode())}
    assert {'geventnode_http_requests', 'geventnode_connections', 'geventnode_agent_requests'} <= families
    reply = site.get('/metrics', 'Accept: application/openmetrics-text; version=1.0.0')
    assert reply.values('Content-Type')[0].startswith('application/openmetrics-text')
    assert reply.body.endswith(b'# EOF\n')
    assert site.send(get('/metrics', method='HEAD')).response('HEAD').status == 200


def test_other_methods_get_405(serve: Serve, metrics: Metrics) -> None:
    """The field Allow names GET and HEAD."""
    reply = serve(metrics).send(get('/metrics', method='DELETE')).response()
    assert (reply.status, reply.values('Allow')) == (405, ['GET, HEAD'])


def test_references_are_weak(metrics: Metrics) -> None:
    """Neither servers and agents nor the metrics are kept alive."""
    server, agent = http.create_server(), http.Agent()
    metrics.watch_server(server)
    metrics.watch_agent(agent)
    del server, agent
    metrics.update()
    assert not metrics._agents
    stop = Metrics(CollectorRegistry())._stop
    gevent.idle()
    assert not stop.alive


SHARING = """
import os, sys
from gevent import monkey; monkey.patch_all()
import gevent
from geventnode import http
from geventnode.integrations.prometheus import Metrics

def work():
    metrics = Metrics()
    server = http.create_server(lambda request, response: response.end('x')).listen(0, '127.0.0.1')
    metrics.watch_server(server)
    url = 'http://127.0.0.1:%d/' % server.address()['port']
    with http.Agent() as agent:
        for _ in range(3):
            http.get(url, agent=agent).get_response().read()
    metrics.update()
    return metrics, server

child = os.fork()
if not child:
    metrics, server = work()
    server.stop()
    os._exit(0)
os.waitpid(child, 0)
metrics, server = work()
port = http.create_server(metrics).listen(0, '127.0.0.1').address()['port']
sys.stdout.write(http.get('http://127.0.0.1:%d/' % port).get_response().read().decode())
"""


def test_shared_metrics_of_processes(tmp_path: Any) -> None:
    """One process responds with the metrics of all."""
    ran = subprocess.run(
        [sys.executable, '-c', SHARING],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, 'PROMETHEUS_MULTIPROC_DIR': str(tmp_path)},
    )
    samples = {
        (sample.name, sample.labels.get('status')): sample.value
        for family in text_string_to_metric_families(ran.stdout)
        for sample in family.samples
    }
    assert samples['geventnode_http_requests_total', '200'] == 6
