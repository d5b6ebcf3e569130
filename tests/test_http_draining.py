"""Idle connections that are closed: never one on which a request waits in the kernel."""
from __future__ import annotations

import contextlib
from time import monotonic
from typing import Any

import pytest
from gevent.event import Event

from tests.servers import Serve, get, ok

__all__: list[str] = []


def connections(server: Any) -> list[Any]:
    return server._connections()


@pytest.mark.parametrize('why', ['keep_alive_timeout', 'draining', 'crowded'])
def test_a_request_that_the_loop_has_not_told_of(serve: Serve, why: str) -> None:
    """Its deadline has passed, and the request is there all the same: it is served. # demand 24"""
    site = serve(ok)
    client = site.connect()
    assert not client.get('/first').closes
    connection, = connections(site.server)
    if why == 'keep_alive_timeout':
        connection.began -= 1000
    elif why == 'draining':
        site.server.draining = True
        site.server.draining_since -= 1000
    else:
        site.server.crowded = True
    # the loop does not turn between these two
    client.send(get('/second'))
    connection.on_deadline(monotonic() + 1)
    response = client.response()
    assert (response.body, response.closes) == (b'GET /second', why != 'keep_alive_timeout')
    site.server.crowded = False


@pytest.mark.parametrize('why', ['keep_alive_timeout', 'draining', 'crowded'])
def test_nothing_has_come(serve: Serve, why: str) -> None:
    site = serve(ok)
    client = site.connect()
    assert not client.get('/first').closes
    connection, = connections(site.server)
    if why == 'keep_alive_timeout':
        connection.began -= 1000
    elif why == 'draining':
        site.server.draining = True
        site.server.draining_since -= 1000
    else:
        site.server.crowded = True
    connection.on_deadline(monotonic() + 1)
    assert client.rest() == b''
    # nobody waits for a client that does not look
    assert connection.socket.destroyed or why == 'keep_alive_timeout'


def test_a_client_that_does_not_look_delays_nobody(serve: Serve) -> None:
    """It keeps its end open, and the server is closed all the same, without lingering. # demand 13"""
    site = serve(ok)
    closed = Event()
    with contextlib.closing(site.connect()) as client:
        client.get('/')
        connection, = connections(site.server)
        site.server.close(closed.set)
        connection.on_deadline(monotonic() + 1)
        closed.wait()
        assert client.rest() == b''
