"""``debug_connections`` of an agent: the events of its connections are logged in order."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from geventnode import http, net
from geventnode.errors import IncompleteBody, ParseError
from geventnode.http.client.connection import Connection
from geventnode.http.client.trace import TracedConnection
from tests.origins import HELLO, MakeOrigin, Peer, hello
from tests.sockets import settle

Lines = Callable[[], list[str]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return the lines since the last call, without ports."""
    caplog.set_level(logging.DEBUG, 'geventnode.connection')

    def told() -> list[str]:
        settle()
        found = [record.getMessage() for record in caplog.records if record.name == 'geventnode.connection']
        caplog.clear()
        return [re.sub(r'(?<=127\.0\.0\.1:)\d+|(?<=port )\d+', 'N', line) for line in found]

    return told


def test_events_of_a_connection_are_logged(origin: MakeOrigin, agent: Any, lines: Lines) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(HELLO)
        peer.request()
        peer.send(HELLO[:-1])

    server = origin(script)
    pool = agent(keep_alive=True, debug_connections=True)
    assert http.get(f'{server.url}/one?a=b', agent=pool).get_response().read() == b'hello'
    assert lines() == [
        '127.0.0.1:N #1: connecting',
        "127.0.0.1:N #1: request: GET b'/one?a=b'",
        '127.0.0.1:N #1: connected to 127.0.0.1:N from port N',
        f'127.0.0.1:N #1: received {len(HELLO)} bytes while waiting',
        '127.0.0.1:N #1: response: 200',
        '127.0.0.1:N #1: the exchange is over',
    ]
    with pytest.raises(IncompleteBody):
        http.get(f'{server.url}/two', agent=pool).get_response().read()
    told = lines()
    assert told[:4] == [
        "127.0.0.1:N #1: request: GET b'/two', on a reused connection",
        f'127.0.0.1:N #1: received {len(HELLO) - 1} bytes while waiting',
        '127.0.0.1:N #1: response: 200',
        '127.0.0.1:N #1: the server has ended its side',
    ]
    assert re.fullmatch(
        r'127\.0\.0\.1:N #1: closed while unread, \d+ bytes written, 85 received: IncompleteBody: .*', told[-1]
    )


def test_errors_are_logged(origin: MakeOrigin, agent: Any, lines: Lines) -> None:
    server = origin(lambda peer: (peer.request(), peer.send(b'nonsense\r\n\r\n')))
    pool = agent(debug_connections=True)
    with pytest.raises(ParseError):
        http.get(server.url, agent=pool).get_response()
    told = lines()
    assert any(': failed while waiting: ParseError: ' in line for line in told)
    assert re.fullmatch(
        r'127\.0\.0\.1:N #1: closed while waiting, \d+ bytes written, 12 received: ParseError: .*', told[-1]
    )
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        http.get(server.url, agent=pool).get_response()
    assert re.fullmatch(
        r'127\.0\.0\.1:N #2: closed while connecting, \d+ bytes written, 0 received: ConnectionRefused.*', lines()[-1]
    )


def test_closing_is_logged(origin: MakeOrigin, agent: Any, lines: Lines) -> None:
    """For each side that can end the connection."""
    server = origin(hello)
    pool = agent(keep_alive=True, debug_connections=True)
    http.get(server.url, agent=pool, headers={'Connection': 'close'}).get_response().read()
    assert '127.0.0.1:N #1: closing' in lines()
    http.get(server.url, agent=pool).get_response().read()
    ((idle,),) = pool.free_sockets.values()
    idle.emit('agentRemove')
    assert '127.0.0.1:N #2: removed from the agent' in lines()
    idle.destroy()
    http.get(server.url, agent=pool).get_response().read()
    lines()
    pool.destroy()
    assert '127.0.0.1:N #3: failed while idle: SocketHangUp: socket hang up: the agent was destroyed' in lines()


def test_upgrade_is_logged(origin: MakeOrigin, agent: Any, lines: Lines) -> None:
    server = origin(lambda peer: (peer.request(), peer.send(b'HTTP/1.1 200 OK\r\n\r\n'), peer.closed()))
    request = http.request(server.url, method='CONNECT', path='x:1', agent=agent(debug_connections=True))
    response = request.end().get_response()
    assert lines()[-1] == '127.0.0.1:N #1: response: 200; upgraded'
    response.socket.destroy()


def test_connected_socket_is_logged(origin: MakeOrigin, agent: Any, lines: Lines) -> None:
    server = origin(hello)
    ready = net.connect(server.port, '127.0.0.1').wait_connected()
    pool = agent(debug_connections=True)
    http.get(server.url, agent=pool, create_connection=lambda options: ready).get_response().read()
    assert lines()[0] == '127.0.0.1:N #1: connected to 127.0.0.1:N from port N'


def test_tracing_can_be_switched_at_run_time(origin: MakeOrigin, agent: Any, lines: Lines) -> None:
    """Also for open connections; without it, no check is made."""
    server = origin(hello)
    pool = agent(keep_alive=True)
    request = http.get(server.url, agent=pool)
    request.get_response().read()
    (connection,) = pool._connections()
    assert type(connection) is Connection
    pool.debug_connections = True
    assert type(connection) is TracedConnection
    http.get(server.url, agent=pool).get_response().read()
    assert lines()[-1] == '127.0.0.1:N #1: the exchange is over'
    pool.debug_connections = False
    assert type(connection) is Connection
    http.get(server.url, agent=pool).get_response().read()
    assert lines() == []
