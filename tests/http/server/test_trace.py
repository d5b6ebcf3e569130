"""``debug_connections``: the events of each connection, in order, from switching it on to switching it off.

``tests/system/test_trace.py`` switches it with a signal.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from geventnode import http
from geventnode.http.server.connection import Connection
from geventnode.http.server.trace import TracedConnection
from geventnode.testing import raw_request, serving_in_memory
from tests.servers import ok
from tests.sockets import settle

NAME = '192.0.2.1:49152: '


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the lines since the last call, without the address."""
    caplog.set_level(logging.DEBUG, 'geventnode.connection')

    def new_lines() -> list[str]:
        settle()
        found = [record.getMessage() for record in caplog.records if record.name == 'geventnode.connection']
        assert all(line.startswith(NAME) for line in found)
        caplog.clear()
        return [line.removeprefix(NAME) for line in found]

    return new_lines


def test_events_of_a_connection_are_logged(lines: Callable[[], list[str]]) -> None:
    with serving_in_memory(ok, debug_connections=True) as site:
        client = site.connect()
        assert lines() == ['accepted']
        client.send(b'GET /on', b'e HTTP/1.1\r\nHost: x\r\n\r\n').response()
        assert lines() == [
            'received 7 bytes while idle',
            'received 23 bytes while reading',
            "request 1: GET b'/one'",
            'response 1: 200, 8 bytes',
        ]
        client.send(raw_request('/two') + raw_request('/three', 'Connection: close'))
        client.rest()
        assert [line for line in lines() if 're' in line.split()[0][:2]] == [
            'received 81 bytes while idle',
            "request 2: GET b'/two'",
            'response 2: 200, 8 bytes',
            "request 3: GET b'/three'",
            'response 3: 200, 10 bytes, the last one',
        ]
        client.close()
        over = lines()[-1]
        assert re.fullmatch(r'closed after 3 requests, 111 bytes received, \d+ written', over)


def test_failures_of_a_connection_are_logged(lines: Callable[[], list[str]]) -> None:
    def listener(request: Any, response: Any) -> None:
        request.read()
        raise RuntimeError('on purpose')

    with serving_in_memory(listener, debug_connections=True, headers_timeout=0.05) as site:
        site.send(b'nonsense\r\n\r\n').half_close().rest()
        assert any(line.startswith('rejected with 400: ') for line in lines())
        site.send(raw_request()).half_close().rest()
        assert 'sent 500 instead of the response of the listener' in lines()
        site.send(b'GET /').response()
        logged = lines()
        assert any('headers_timeout' in line for line in logged)
        assert any(line.startswith('rejected with 408') for line in logged)
        site.send(raw_request(method='POST', body=b'body')[:-1]).abort()
        assert any(line.startswith('closed after 1 requests, ') and 'ConnectionResetError' in line for line in lines())


def test_upgrade_is_logged(lines: Callable[[], list[str]]) -> None:
    server = http.create_server(debug_connections=True)
    server.on('connect', lambda request, socket, head: socket.end(b'HTTP/1.1 200 OK\r\n\r\n'))
    with serving_in_memory(server) as site:
        site.send(b'CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n').half_close().rest()
        assert 'upgraded after 1 requests' in lines()


def test_trace_can_be_switched_at_run_time(lines: Callable[[], list[str]]) -> None:
    """Open connections are included; without it there is no code that would check it."""
    with serving_in_memory(ok) as site:
        server = site.server
        client = site.connect()
        client.get()
        (connection,) = server._connections()
        assert type(connection) is Connection
        server.debug_connections = True
        assert type(connection) is TracedConnection
        client.get('/traced')
        assert "request 2: GET b'/traced'" in lines()
        site.connect()
        assert lines() == ['accepted']
        server.debug_connections = False
        assert {type(each) for each in server._connections()} == {Connection}
        client.get()
        assert lines() == []


def test_trace_without_a_log_handler_stores_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, 'geventnode.connection')
    with serving_in_memory(ok, debug_connections=True) as site:
        assert site.get().status == 200
        assert not site.server._connection_log._pending
    assert caplog.records == []


def test_repr_of_a_connection_has_its_state() -> None:
    with serving_in_memory(ok) as site:
        site.connect().get()
        (connection,) = site.server._connections()
        assert repr(connection) == f'<Connection idle served=1 on {connection.socket!r}>'
        site.server.close_all_connections()
        assert repr(connection).startswith('<Connection closed served=1 on <Socket destroyed')
