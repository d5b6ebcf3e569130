"""What connections go through is what the tables say that the documentation draws: seen while they are used."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from geventnode.http.client import connection as client_connection
from geventnode.http.server import connection
from geventnode.http.server.connection import Connection
from tests.servers import Serve, bodies, get, post

State = connection.ConnectionState
Steps = set[tuple[enum.Enum, enum.Enum]]
BIG = bytes(20_000_000)


def watched(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> Steps:
    """Return the set to which each change of a slot is added."""
    slot = vars(owner)[name]
    steps: Steps = set()

    def change(connection: Any, new: enum.Enum) -> None:
        try:
            old = slot.__get__(connection)
        except AttributeError:
            # it has just been made
            old = new
        if old is not new:
            steps.add((old, new))
        slot.__set__(connection, new)

    monkeypatch.setattr(owner, name, property(slot.__get__, change))
    return steps


@pytest.fixture
def server_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """What a server's connections went through; at the end, nothing may be among it that the table does not have."""
    steps = watched(monkeypatch, Connection, 'state')
    yield steps
    assert {(old, new) for old, new in steps if new not in connection.TRANSITIONS[old]} == set()


def until(steps: Steps, *wanted: tuple[enum.Enum, enum.Enum]) -> None:
    """Wait until all of ``wanted`` were seen."""
    while not steps.issuperset(wanted):
        gevent.idle()


def hello(request: Any, response: Any) -> None:
    """Answer at once, whatever is asked; with much, if that is asked for."""
    response.end(BIG if request.url == '/big' else b'hello')


@pytest.mark.parametrize('table', [connection.TRANSITIONS, client_connection.TRANSITIONS])
def test_tables_are_whole(table: dict[Any, frozenset[Any]]) -> None:
    """Every state is in it, can be reached from the first one, and leads to the last one."""
    first, *_, last = kind = list(type(next(iter(table))))
    assert list(table) == kind
    reached = {first}
    for _ in kind:
        reached |= {follower for state in reached for follower in table[state]}
    assert reached == set(kind)
    assert all(last in followers for state, followers in table.items() if state is not last)
    assert table[last] == frozenset()


def test_server_answers(serve: Serve, server_steps: Steps) -> None:
    client = serve(hello).connect()
    for _ in range(2):
        assert client.get().body == b'hello'
    client.send(get('/', 'Connection: close')).rest()
    client.close()
    until(
        server_steps,
        (State.IDLE, State.ACTIVE),
        (State.ACTIVE, State.IDLE),
        (State.ACTIVE, State.LINGERING),
        (State.LINGERING, State.CLOSED),
    )


def test_server_throws_bodies_away(serve: Serve, server_steps: Steps) -> None:
    """Those that are short enough to go on, and come in time."""
    client = serve(hello, keep_alive_timeout=0.1, keep_alive_timeout_buffer=0).send(
        get('/', 'Content-Length: 1000', method='POST')
    )
    assert client.response().body == b'hello'
    until(server_steps, (State.ACTIVE, State.DISCARDING))
    client.send(bytes(1000))
    assert client.get().body == b'hello'
    until(server_steps, (State.DISCARDING, State.IDLE))
    client.send(get('/', 'Content-Length: 1000', method='POST')).response()
    until(server_steps, (State.DISCARDING, State.LINGERING))
    client.close()


def test_server_refuses_long_bodies(serve: Serve, server_steps: Steps) -> None:
    """It closes at once, and the client gets the time to see why."""
    client = serve(hello).send(get('/', 'Content-Length: 1000000', method='POST'))
    assert client.response().closes
    until(server_steps, (State.ACTIVE, State.LINGERING))
    client.close()


def test_server_flushes(serve: Serve, server_steps: Steps) -> None:
    """What a client is slow to take; and gives up when it goes."""
    client = serve(hello).connect(receive_buffer=4096).send(get('/big'))
    until(server_steps, (State.ACTIVE, State.FLUSHING))
    assert client.response().body == BIG
    until(server_steps, (State.FLUSHING, State.IDLE))
    client.send(get('/big'))
    client.head()
    client.abort()
    until(server_steps, (State.FLUSHING, State.CLOSED))


def test_server_loses_clients(serve: Serve, server_steps: Steps) -> None:
    """While they idle, and while they are served."""
    site = serve(lambda request, response: None if request.url == '/never' else response.end())
    client = site.connect()
    client.get()
    client.abort()
    until(server_steps, (State.IDLE, State.CLOSED))
    client = site.send(get('/never'))
    until(server_steps, (State.IDLE, State.ACTIVE))
    client.abort()
    until(server_steps, (State.ACTIVE, State.CLOSED))


def test_server_ends_with_its_client(serve: Serve, server_steps: Steps) -> None:
    """The last answers leave together when it has said that nothing more will come: there is nothing to wait for."""

    def listener(request: Any, response: Any) -> None:
        while not request.socket._protocol._eof:
            gevent.idle()
        hello(request, response)

    client = serve(listener).send(get() * 3)
    client.half_close()
    assert bodies(client, 3) == [b'hello'] * 3
    assert client.rest() == b''
    until(server_steps, (State.IDLE, State.CLOSED))
    assert not any(State.LINGERING in step for step in server_steps)


def test_server_closes_idle_connections(serve: Serve, server_steps: Steps) -> None:
    site = serve(hello)
    client = site.connect()
    client.get()
    site.server.close_idle_connections()
    assert client.rest() == b''
    client.close()
    until(server_steps, (State.IDLE, State.LINGERING), (State.LINGERING, State.CLOSED))


def test_posts_are_whole(serve: Serve, server_steps: Steps) -> None:
    """A body that is there already is no reason for a further state."""
    client = serve(lambda request, response: response.end(request.read())).send(post(b'12345'))
    assert client.response().body == b'12345'
    assert server_steps == {(State.IDLE, State.ACTIVE), (State.ACTIVE, State.IDLE)}
