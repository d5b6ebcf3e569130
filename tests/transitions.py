"""Execute the transition tables of connections: in every test, a step that the table lacks raises."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from geventnode.http.client import connection as client_connection
from geventnode.http.server import connection as server_connection
from geventnode.http2 import connection as http2_connection

__all__ = ['check_transitions', 'checked_connections']

Table = Mapping[Any, frozenset[Any]]


def check_transitions(slot: Any, table: Table) -> property:
    """Return a property for ``slot`` that raises ``AssertionError`` at a step that ``table`` lacks."""

    def change(connection: Any, new: enum.Enum) -> None:
        try:
            old = slot.__get__(connection)
        except AttributeError:
            # the connection has just been made
            old = new
        assert new is old or new in table[old], f'{old} -> {new} is no step of {type(connection).__name__}'
        slot.__set__(connection, new)

    return property(slot.__get__, change)


@pytest.fixture(autouse=True, scope='session')
def checked_connections() -> Iterator[None]:
    """Check every step of every connection of the suite."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (client_connection, server_connection, http2_connection):
            slot = vars(module.Connection)['state']
            patch.setattr(module.Connection, 'state', check_transitions(slot, module.TRANSITIONS))
        yield
