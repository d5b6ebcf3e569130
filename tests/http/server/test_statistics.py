"""Test the statistics of a server about its connections."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.leaks import live_greenlets
from tests.servers import Log, Serve, get, ok, post
from tests.sockets import until


def test_statistics_count_connections_by_activity(serve: Serve) -> None:
    """Each connection has one activity."""
    log = Log()
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        log.append(request.url)
        if request.url == '/handled':
            go_on.wait()
        elif request.url == '/read':
            request.read()
        elif request.url == '/written':
            while True:
                response.write(bytes(1_000_000))
        elif request.url == '/upgraded':
            response.upgrade()
            return
        ok(request, response)

    site = serve(listener)

    def counted(**expected: int) -> bool:
        found = site.server.statistics()
        del found['buffered'], found['refused']
        assert found.pop('connections') == sum(found.values())
        return {name: count for name, count in found.items() if count} == expected

    assert counted()
    site.connect().get()
    until(lambda: counted(idle=1))
    site.send(b'GET / HT')
    until(lambda: counted(idle=1, reading=1))
    site.send(post(b'', '/read', length=5))
    until(lambda: counted(idle=1, reading=2))
    site.send(get('/handled'))
    until(lambda: counted(idle=1, reading=2, handling=1))
    site.connect(receive_buffer=4096).send(get('/written'))
    until(lambda: counted(idle=1, reading=2, handling=1, writing=1))
    site.send(get('/upgraded', 'Connection: upgrade', 'Upgrade: echo'))
    until(lambda: counted(idle=1, reading=2, handling=1, writing=1, upgraded=1))
    site.send(get('/', 'Connection: close'))
    until(lambda: counted(idle=1, reading=2, handling=1, writing=1, upgraded=1, closing=1))
    go_on.set()
    until(lambda: site.server.statistics()['handling'] == 0)


def test_statistics_have_the_bytes_of_unread_input(serve: Serve) -> None:
    log = Log()
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        log.append('begun')
        go_on.wait()
        response.end(request.read())

    site = serve(listener)
    client = site.send(post(b'x' * 1000))
    log.wait_for('begun')
    until(lambda: site.server.statistics()['buffered'] == 1000)
    go_on.set()
    assert client.response().body == b'x' * 1000
    gevent.idle()
    assert site.server.statistics()['buffered'] == 0


@pytest.mark.parametrize('going', ['close', 'abort'])
def test_statistics_do_not_count_closed_connections(serve: Serve, going: str) -> None:
    """They were idle or active."""
    log = Log()
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/served':
            log.append('served')
            go_on.wait()
        ok(request, response)

    site = serve(listener)
    clients = [site.connect() for _ in range(20)]
    for number, client in enumerate(clients):
        client.get()
        if number % 2:
            client.send(get('/served'))
    log.wait_for_length(10)
    for client in clients:
        getattr(client, going)()
    until(lambda: site.server.statistics()['connections'] == site.server.statistics()['handling'])
    go_on.set()
    until(lambda: site.server.statistics()['connections'] == 0)


def test_idle_connections_have_no_greenlets(serve: Serve) -> None:
    """Other connections are served."""
    site = serve(ok)
    site.get()
    before = len(live_greenlets())
    for _ in range(300):
        site.connect().get()
    assert site.server.statistics()['idle'] == 300
    assert len(live_greenlets()) == before
    assert site.get().status == 200
