"""The question of a balancer, whether requests may be sent here."""

from __future__ import annotations

from typing import Any

import pytest
from gevent.event import Event

from geventnode import http
from tests.servers import Serve, get, ok, post


@pytest.mark.parametrize('url', ['/healthz', '/healthz?from=balancer'])
def test_available(serve: Serve, url: str) -> None:
    site = serve(http.readiness(ok))
    client = site.connect()
    response = client.get(url)
    assert (response.status, response.body, response.values('Cache-Control')) == (200, b'ready\n', ['no-store'])
    site.server.available = False
    assert client.get(url).status == 503
    assert client.get('/other').body == b'GET /other'
    site.server.available = True
    assert client.get(url).status == 200


def test_while_draining(serve: Serve) -> None:
    """A connection that was kept alive gets one more answer: this one."""
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
def test_a_check_of_ones_own(serve: Serve, check: Any, status: int) -> None:
    assert serve(http.readiness(ok, '/ready', check)).connect().get('/ready').status == status


def test_what_is_not_the_question(serve: Serve) -> None:
    client = serve(http.readiness(ok)).connect()
    assert client.send(post(b'x', '/healthz')).response().body == b'POST /healthz'
    assert client.get('/healthz/').body == b'GET /healthz/'
    assert client.send(get('/healthz', method='HEAD')).response('HEAD').status == 200


def test_a_server_in_the_place_of_a_listener(serve: Serve) -> None:
    """Requests go through it to its listeners; without one they are answered with 501."""
    client = serve(http.readiness(http.create_server(ok))).connect()
    assert client.get('/inner').body == b'GET /inner'
    assert serve(http.readiness(http.create_server())).connect().get('/').status == 501
