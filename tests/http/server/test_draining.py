"""Idle connections that are closed: never one on which a request waits in the kernel."""

from __future__ import annotations

import contextlib
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.servers import Serve, get, ok, post


def connections(server: Any) -> list[Any]:
    return server._connections()


@pytest.mark.parametrize('why', ['keep_alive_timeout', 'draining', 'at capacity'])
def test_a_request_that_the_loop_has_not_told_of(serve: Serve, why: str) -> None:
    """Its deadline has passed, and the request is there all the same: it is served."""
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
    # the loop does not turn between these two
    client.send(get('/second'))
    connection._on_deadline(monotonic() + 1)
    response = client.response()
    assert (response.body, response.closes) == (b'GET /second', why != 'keep_alive_timeout')
    site.server._at_capacity = False


@pytest.mark.parametrize('why', ['keep_alive_timeout', 'draining', 'at capacity'])
def test_nothing_has_come(serve: Serve, why: str) -> None:
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
    connection._on_deadline(monotonic() + 1)
    assert client.rest() == b''
    # nobody waits for a client that does not look
    assert connection.socket.destroyed or why == 'keep_alive_timeout'


def test_a_client_that_does_not_look_delays_nobody(serve: Serve) -> None:
    """It keeps its end open, and the server is closed all the same, without lingering."""
    site = serve(ok)
    closed = Event()
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        (connection,) = connections(site.server)
        site.server.close(closed.set)
        connection._on_deadline(monotonic() + 1)
        closed.wait()
        assert client.rest() == b''


# -- clients whose response said that the connection closes -----------------------------------------------------------

CLOSING = get('/', 'Connection: close')


@pytest.mark.parametrize('draining_first', [False, True])
def test_a_client_whose_response_said_close_delays_nothing(serve: Serve, draining_first: bool) -> None:
    """The exchange is complete, and the client keeps its end open: it loses nothing when the socket is closed."""
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


def test_a_client_that_goes_on_sending_is_waited_for(serve: Serve) -> None:
    """It could not know that the server closes, and a reset could take the response away that it has not read yet."""

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


def test_a_client_that_has_sent_more_meanwhile_is_waited_for(serve: Serve) -> None:
    """Both while the input is in the kernel, and after the loop has read it."""
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


def test_an_upload_that_was_refused_is_waited_for(serve: Serve) -> None:
    """The rest of the body is on its way."""
    site = serve(ok, max_unread_body=0)
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        (connection,) = connections(site.server)
        assert client.send(post(b'x', length=1000)).response().closes
        site.server.draining = True
        connection._on_deadline(monotonic())
        assert not connection.socket.destroyed


def test_a_closing_server_does_not_linger(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes although the client never closes its end."""
    monkeypatch.setattr('geventnode.http.server.deadlines.LINGER_TIME', 1000.0)
    site = serve(ok)
    closed = Event()
    with contextlib.closing(site.connect()) as client:
        assert client.send(CLOSING).response().closes
        site.server.close(closed.set)
        closed.wait()
        assert client.rest() == b''


def test_a_body_that_is_discarded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a limit of its own when the server closes, whatever the time of an idle connection is."""
    monkeypatch.setattr('geventnode.http.server.deadlines.DISCARD_TIME', 0.0)
    monkeypatch.setattr('geventnode.http.server.deadlines.LINGER_TIME', 0.0)
    site = serve(ok, keep_alive_timeout=0, request_timeout=0)
    client = site.send(post(b'x', length=3))
    assert not client.response().closes
    closed = Event()
    site.server.close(closed.set)
    closed.wait()
    client.assert_closed()
