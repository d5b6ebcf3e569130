"""Test idle connections that are closed: never one with a request in the kernel."""

from __future__ import annotations

import contextlib
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.servers import Client, Serve, Site, get, ok, post


def connections(server: Any) -> list[Any]:
    return server._connections()


def idle_past_deadline(serve: Serve, why: str) -> tuple[Site, Client, Any]:
    """Return a site, a client, and the site's idle connection to it, which is to be closed for the reason ``why``."""
    site = serve(ok)
    client = site.connect()
    assert not client.get('/first').closes
    (connection,) = connections(site.server)
    if why == 'keep_alive_timeout':
        connection.began -= 1000
    elif why == 'draining':
        site.server.draining = True
        site.server._draining_since -= 1000
    else:
        site.server._at_capacity = True
    return site, client, connection


@pytest.mark.parametrize('why', ['keep_alive_timeout', 'draining', 'at capacity'])
def test_a_request_in_the_kernel_is_served_at_the_deadline(serve: Serve, why: str) -> None:
    """The loop has not reported it yet."""
    site, client, connection = idle_past_deadline(serve, why)
    # the loop does not turn between these two
    client.send(get('/second'))
    connection._on_deadline(monotonic() + 1)
    response = client.response()
    assert (response.body, response.closes) == (b'GET /second', why != 'keep_alive_timeout')
    site.server._at_capacity = False


@pytest.mark.parametrize('why', ['keep_alive_timeout', 'draining', 'at capacity'])
def test_an_idle_connection_is_closed_at_the_deadline(serve: Serve, why: str) -> None:
    _, client, connection = idle_past_deadline(serve, why)
    connection._on_deadline(monotonic() + 1)
    assert client.rest() == b''
    # no drain waits for a client that keeps its end open
    assert connection.socket.destroyed or why == 'keep_alive_timeout'


def test_a_client_that_keeps_its_end_open_delays_no_drain(serve: Serve) -> None:
    """The server closes without lingering."""
    site = serve(ok)
    closed = Event()
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        (connection,) = connections(site.server)
        site.server.close(closed.set)
        connection._on_deadline(monotonic() + 1)
        closed.wait()
        assert client.rest() == b''


# -- clients that have received Connection: close ---------------------------------------------------------------------

CLOSING = get('/', 'Connection: close')


@pytest.mark.parametrize('draining_first', [False, True])
def test_a_client_that_got_close_delays_no_drain(serve: Serve, draining_first: bool) -> None:
    """The exchange is complete. A client that keeps its end open loses nothing when the socket is closed."""
    site = serve(ok)
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        (connection,) = connections(site.server)
        site.server.draining = draining_first
        site.server._draining_since = monotonic()
        assert client.send(CLOSING).response().closes
        site.server.draining = True
        connection._on_deadline(monotonic())
        assert connection.socket.destroyed
        assert client.rest() == b''


def test_a_drain_waits_for_a_client_that_sends(serve: Serve) -> None:
    """The client does not know that the server closes, and a reset could make it lose the response."""

    def listener(request: Any, response: Any) -> None:
        response.should_keep_alive = request.url != '/last'
        response.end()

    site = serve(listener)
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        (connection,) = connections(site.server)
        assert client.send(get('/last') + get('/behind')).response().closes
        site.server.draining = True
        connection._on_deadline(monotonic())
        assert not connection.socket.destroyed


def test_a_drain_waits_for_a_client_that_has_sent(serve: Serve) -> None:
    """That is so while the input is in the kernel, and after the loop has read it."""
    site = serve(ok)
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        (connection,) = connections(site.server)
        assert client.send(CLOSING).response().closes
        client.send(b'more')
        site.server.draining = True
        connection._on_deadline(monotonic())
        assert not connection.socket.destroyed
        gevent.idle()
        connection._on_deadline(monotonic())
        assert not connection.socket.destroyed


def test_a_drain_waits_for_a_rejected_upload(serve: Serve) -> None:
    """The rest of the body is still arriving."""
    site = serve(ok, max_unread_body=0)
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        (connection,) = connections(site.server)
        assert client.send(post(b'x', length=1000)).response().closes
        site.server.draining = True
        connection._on_deadline(monotonic())
        assert not connection.socket.destroyed


def test_a_closing_server_does_not_linger(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes although the client keeps its end open."""
    monkeypatch.setattr('geventnode.http.server.deadlines.LINGER_TIME', 1000.0)
    site = serve(ok)
    closed = Event()
    with contextlib.closing(site.connect()) as client:
        assert client.send(CLOSING).response().closes
        site.server.close(closed.set)
        closed.wait()
        assert client.rest() == b''


def test_a_drain_limits_the_time_of_a_discarded_body(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of an idle connection does not matter."""
    monkeypatch.setattr('geventnode.http.server.deadlines.DISCARD_TIME', 0.0)
    monkeypatch.setattr('geventnode.http.server.deadlines.LINGER_TIME', 0.0)
    site = serve(ok, keep_alive_timeout=0, request_timeout=0)
    client = site.send(post(b'x', length=3))
    assert not client.response().closes
    closed = Event()
    site.server.close(closed.set)
    closed.wait()
    client.assert_closed()
