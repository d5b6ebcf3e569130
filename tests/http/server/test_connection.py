"""Test the states that a server's connections take, and the tables of the transitions of all connections."""

from __future__ import annotations

import enum
from typing import Any

import gevent
import pytest

from geventnode.http.client import connection as client_connection
from geventnode.http.server import connection as server_connection
from geventnode.http.server.connection import Connection
from geventnode.http.server.connection import ConnectionState as State
from tests.servers import Serve, bodies, get, ok, post

Steps = set[tuple[enum.Enum, enum.Enum]]
BIG = bytes(20_000_000)


@pytest.fixture
def server_steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Return the set to which each transition of a server's connection is added."""
    checked = vars(Connection)['state']
    steps: Steps = set()

    def change(connection: Any, new: enum.Enum) -> None:
        try:
            old = checked.__get__(connection)
        except AttributeError:
            # the first state
            old = new
        if old is not new:
            steps.add((old, new))
        checked.__set__(connection, new)

    monkeypatch.setattr(Connection, 'state', property(checked.__get__, change))
    return steps


def until(steps: Steps, *wanted: tuple[enum.Enum, enum.Enum]) -> None:
    """Wait until all of ``wanted`` were made."""
    while not steps.issuperset(wanted):
        gevent.idle()


def hello(request: Any, response: Any) -> None:
    """Respond with a large body to ``/big``, with a short one to any other request."""
    response.end(BIG if request.url == '/big' else b'hello')


@pytest.mark.parametrize('table', [server_connection.TRANSITIONS, client_connection.TRANSITIONS])
def test_every_state_is_between_the_first_and_the_last(table: dict[Any, frozenset[Any]]) -> None:
    """The table has every state; each can be reached from the first one, and the last one from each."""
    first, *_, last = kind = list(type(next(iter(table))))
    assert list(table) == kind
    reached = {first}
    for _ in kind:
        reached |= {follower for state in reached for follower in table[state]}
    assert reached == set(kind)
    assert all(last in followers for state, followers in table.items() if state is not last)
    assert table[last] == frozenset()


def test_an_illegal_transition_raises(serve: Serve) -> None:
    site = serve(ok)
    site.connect().get()
    (connection,) = site.server._connections()
    with pytest.raises(AssertionError, match=r'IDLE -> .*FLUSHING is no step'):
        connection.state = State.FLUSHING
    assert connection.state is State.IDLE


def test_a_server_connection_is_idle_after_a_response(serve: Serve, server_steps: Steps) -> None:
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


def test_a_server_connection_discards_an_unread_body(serve: Serve, server_steps: Steps) -> None:
    """It closes if the rest of the body does not arrive in time."""
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


def test_a_server_connection_lingers_after_a_long_unread_body(serve: Serve, server_steps: Steps) -> None:
    """It ends its direction at once, and the client has time to read the response."""
    client = serve(hello).send(get('/', 'Content-Length: 1000000', method='POST'))
    assert client.response().closes
    until(server_steps, (State.ACTIVE, State.LINGERING))
    client.close()


def test_a_server_connection_flushes_to_a_slow_client(serve: Serve, server_steps: Steps) -> None:
    """It closes if the client disconnects before."""
    client = serve(hello).connect(receive_buffer=4096).send(get('/big'))
    until(server_steps, (State.ACTIVE, State.FLUSHING))
    assert client.response().body == BIG
    until(server_steps, (State.FLUSHING, State.IDLE))
    client.send(get('/big'))
    client.head()
    client.abort()
    until(server_steps, (State.FLUSHING, State.CLOSED))


def test_a_server_connection_closes_when_its_client_disconnects(serve: Serve, server_steps: Steps) -> None:
    """That is so between requests, and while a listener runs."""
    site = serve(lambda request, response: None if request.url == '/never' else response.end())
    client = site.connect()
    client.get()
    client.abort()
    until(server_steps, (State.IDLE, State.CLOSED))
    client = site.send(get('/never'))
    until(server_steps, (State.IDLE, State.ACTIVE))
    client.abort()
    until(server_steps, (State.ACTIVE, State.CLOSED))


def test_a_server_connection_does_not_linger_after_the_client_has_ended(serve: Serve, server_steps: Steps) -> None:
    """The last responses are sent together, and there is no more input to wait for."""

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


def test_close_idle_connections_lets_the_connection_linger(serve: Serve, server_steps: Steps) -> None:
    site = serve(hello)
    client = site.connect()
    client.get()
    site.server.close_idle_connections()
    assert client.rest() == b''
    client.close()
    until(server_steps, (State.IDLE, State.LINGERING), (State.LINGERING, State.CLOSED))


def test_a_body_that_arrived_with_its_head_needs_no_other_state(serve: Serve, server_steps: Steps) -> None:
    client = serve(lambda request, response: response.end(request.read())).send(post(b'12345'))
    assert client.response().body == b'12345'
    assert server_steps == {(State.IDLE, State.ACTIVE), (State.ACTIVE, State.IDLE)}


@pytest.mark.parametrize('kind', [server_connection.ConnectionState, client_connection.ConnectionState])
def test_states_are_called_by_their_names(kind: type[enum.Enum]) -> None:
    """Their values are in logs, in the monitor and in the documentation."""
    assert [state.value for state in kind] == [state.name.lower() for state in kind]
