"""Readiness probes of load balancers."""

from __future__ import annotations

from typing import Any

import pytest
from gevent.event import Event

from geventnode import http
from tests.servers import Serve, get, ok, post


@pytest.mark.parametrize('url', ['/healthz', '/healthz?from=balancer'])
def test_available_server_is_ready(serve: Serve, url: str) -> None:
    site = serve(http.readiness(ok))
    client = site.connect()
    response = client.get(url)
    assert (response.status, response.body, response.values('Cache-Control')) == (200, b'ready\n', ['no-store'])
    site.server.available = False
    assert client.get(url).status == 503
    assert client.get('/other').body == b'GET /other'
    site.server.available = True
    assert client.get(url).status == 200


def test_draining_server_is_not_ready(serve: Serve) -> None:
    """A kept connection gets one more response: this one."""
    release = Event()

    def listener(request: Any, response: Any) -> None:
        release.wait()
        response.end()

    site = serve(http.readiness(listener))
    busy, client = site.connect(), site.connect()
    busy.send(get('/'))
    assert client.get('/healthz').status == 200
    site.server.close()
    assert not site.server.available
    response = client.get('/healthz')
    assert (response.status, response.body, response.closes) == (503, b'not ready\n', True)
    release.set()
    assert busy.response().closes


@pytest.mark.parametrize(
    ('check', 'status'), [(lambda: True, 200), (lambda: False, 503), (lambda: 1 / 0, 503), (lambda: None, 503)]
)
def test_check_decides_about_readiness(serve: Serve, check: Any, status: int) -> None:
    assert serve(http.readiness(ok, '/ready', check)).connect().get('/ready').status == status


def test_other_requests_are_passed_to_the_listener(serve: Serve) -> None:
    client = serve(http.readiness(ok)).connect()
    assert client.send(post(b'x', '/healthz')).response().body == b'POST /healthz'
    assert client.get('/healthz/').body == b'GET /healthz/'
    assert client.send(get('/healthz', method='HEAD')).response('HEAD').status == 200


def test_server_can_be_a_listener(serve: Serve) -> None:
    """Requests are passed to its listeners; without one the response is 501."""
    client = serve(http.readiness(http.create_server(ok))).connect()
    assert client.get('/inner').body == b'GET /inner'
    assert serve(http.readiness(http.create_server())).connect().get('/').status == 501
