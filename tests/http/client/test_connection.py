"""The states of a client's connection, step by step; ``tests.transitions`` checks that no other step is taken."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.http.client.connection import TRANSITIONS, Connection, ConnectionState
from tests.servers import Serve
from tests.transitions import check_transitions

IDLE, WAITING, RECEIVING, SENDING, DELIVERING, DISCARDING, CLOSED = ConnectionState
Steps = list[tuple[ConnectionState, ConnectionState]]
BIG = bytes(20_000_000)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """The steps that connections have taken."""
    slot = vars(Connection)['state']
    taken: Steps = []

    def change(connection: Any, new: ConnectionState) -> None:
        # a connection that has just been made has no state
        with contextlib.suppress(AttributeError):
            taken.append((slot.__get__(connection), new))
        slot.__set__(connection, new)

    monkeypatch.setattr(Connection, 'state', property(slot.__get__, change))
    return taken


def respond(request: Any, response: Any) -> None:
    """Respond at once, with a large body for ``/big`` and not at all for ``/never``."""
    if request.url != '/never':
        response.end(BIG if request.url == '/big' else b'hello')


def until(steps: Steps, *wanted: tuple[ConnectionState, ConnectionState]) -> None:
    """Wait until all of ``wanted`` were taken."""
    while not set(wanted).issubset(steps):
        gevent.idle()


def test_exchange_returns_the_connection_to_the_pool(
    serve: Serve, steps: Steps, agent: Callable[..., http.Agent]
) -> None:
    url, pool = f'http://127.0.0.1:{serve(respond).where[1]}', agent(keep_alive=True)
    # A head that has arrived twice, with its date, is cached; such a response is taken with its body in one step.
    while (WAITING, SENDING) not in steps:
        http.get(f'{url}/', agent=pool).get_response().read()
    assert steps[-3:] == [(IDLE, WAITING), (WAITING, SENDING), (SENDING, IDLE)]
    http.get(f'{url}/big', agent=pool).get_response().read()
    assert steps[-4:] == [(IDLE, WAITING), (WAITING, RECEIVING), (RECEIVING, SENDING), (SENDING, IDLE)]
    pool.destroy()
    until(steps, (IDLE, CLOSED))


def test_aborted_exchange_closes_the_connection(serve: Serve, steps: Steps, agent: Callable[..., http.Agent]) -> None:
    """Before the head of the response, and within its body."""
    url, pool = f'http://127.0.0.1:{serve(respond).where[1]}', agent()
    never = http.get(f'{url}/never', agent=pool)
    until(steps, (IDLE, WAITING))
    never.abort()
    until(steps, (WAITING, CLOSED))
    with http.get(f'{url}/big', agent=pool) as response:
        response.read(1)
    until(steps, (RECEIVING, CLOSED))


def test_forgotten_response_is_discarded(serve: Serve, steps: Steps, agent: Callable[..., http.Agent]) -> None:
    url, pool = f'http://127.0.0.1:{serve(respond).where[1]}', agent(keep_alive=True)
    http.get(f'{url}/big', agent=pool).get_response()
    until(steps, (RECEIVING, DISCARDING), (DISCARDING, CLOSED))


def test_step_that_the_table_lacks_raises() -> None:
    class Example:
        __slots__ = ('state',)

    Example.state = check_transitions(Example.state, TRANSITIONS)  # type: ignore[assignment,misc]
    example: Any = Example()
    example.state = IDLE
    example.state = WAITING
    with pytest.raises(AssertionError, match=r'WAITING -> .*DELIVERING is no step of Example'):
        example.state = DELIVERING
