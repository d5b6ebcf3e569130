"""Unchanged Flask-Sock and simple-websocket, with the WebSocket client of another library."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.servers import Client
from tests.system.frameworks import WAYS, Gate
from tests.system.running import PATIENCE, Served

for _library, _name in (
    ('flask_sock', 'flask-sock'),
    ('simple_websocket', 'simple-websocket'),
    ('websocket', 'websocket-client'),
):
    pytest.importorskip(_library, reason=f'{_name} is not installed; it is in the extra "test"')

from websocket import ABNF, WebSocket  # noqa: E402 - it may be missing

TARGET = 'flask_sockets:app'


@pytest.fixture(scope='module', params=list(WAYS))
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the application in each way, for several tests."""
    with WAYS[request.param](TARGET, tmp_path_factory.mktemp(request.param), {}) as served:
        yield served.port


def serving(*arguments: str, **options: Any) -> Served:
    """Return the application under ``geventnode serve``, in a process that had loaded its libraries."""
    return Served(TARGET, *arguments, program='geventnode serve with Flask', **options)


@contextlib.contextmanager
def opened(port: int, path: str = '/echo', authority: str | None = None) -> Iterator[Any]:
    """Yield a connection, with TLS if ``authority`` is the file of a certificate."""
    # recv() decodes text; a check in pure Python before it would take seconds
    client = WebSocket(sslopt={'ca_certs': authority}, enable_multithread=False, skip_utf8_validation=True)
    client.connect(f'{"ws" if authority is None else "wss"}://127.0.0.1:{port}{path}', timeout=PATIENCE)
    try:
        yield client
    finally:
        client.shutdown()


def test_an_echo(port: int) -> None:
    """Text, bytes and a larger message, on concurrent connections, with ordinary requests in between."""
    with opened(port) as client, opened(port) as other:
        for message in ('ä', b'\0\xff', 'x' * 100_000):
            client.send(message, ABNF.OPCODE_BINARY if isinstance(message, bytes) else ABNF.OPCODE_TEXT)
            assert client.recv() == message
        other.send('other')
        assert other.recv() == 'other'
        plain = Client(('127.0.0.1', port))
        with contextlib.closing(plain):
            assert plain.get('/').body == b'hello\n'


def test_large_messages(port: int) -> None:
    """They arrive complete, and so do small ones between them."""
    with opened(port) as client:
        for message in (bytes(range(250)) * 16_000, b'small', b'x' * 4_000_000, b'last'):
            client.send_binary(message)
            assert client.recv() == message


def test_large_messages_with_tls(certificates: Certificates) -> None:
    """They also arrive complete with TLS."""
    with (
        serving('--certfile', certificates.server) as served,
        opened(served.port, authority=certificates.ca) as client,
    ):
        for message in (bytes(range(250)) * 1_000, b'small', b'x' * 4_000_000, b'last'):
            client.send_binary(message)
            assert client.recv() == message


def test_a_slow_reader(port: int) -> None:
    """It gets each of 500 messages, although the server has to wait for it."""
    with opened(port, '/many') as client:
        plain = Client(('127.0.0.1', port))
        with contextlib.closing(plain):
            # the server has sent as much as it can
            for _ in range(20):
                assert plain.get('/').status == 200
        for number in range(500):
            assert client.recv() == bytes([number % 251]) * 10_000


def test_a_client_that_disconnects() -> None:
    """Without a close frame, by a FIN or a reset: the log is empty, as the end of the context checks."""
    with serving() as served:
        for resets in False, True:
            with opened(served.port) as client:
                client.send('x')
                assert client.recv() == 'x'
                if resets:
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def test_a_client_that_vanishes(tmp_path: Path) -> None:
    """Without a pong, the connection is closed, and the view ends."""
    with contextlib.closing(Gate()) as gate:
        env = {'PING_INTERVAL': '0.1', 'GATE': str(gate.port)}
        with serving(env=env) as served, opened(served.port, '/until-closed') as client:
            gate.wait_for('closed')
            received = client.sock.recv(100_000)
            while received:
                received = client.sock.recv(100_000)


def test_a_client_that_closes(port: int) -> None:
    """It gets a close frame, and no further byte."""
    with opened(port) as client:
        client.send_close(1001)
        opcode, frame = client.recv_data_frame(control_frame=True)
        assert (opcode, frame.data[:2]) == (ABNF.OPCODE_CLOSE, (1001).to_bytes(2, 'big'))
        assert client.sock.recv(1) == b''


def test_a_view_that_returns(port: int) -> None:
    """It closes the WebSocket: no response follows, and the connection is closed."""
    with opened(port, '/bye') as client:
        assert client.recv() == 'bye'
        opcode, frame = client.recv_data_frame(control_frame=True)
        assert (opcode, frame.data[:2]) == (ABNF.OPCODE_CLOSE, (1000).to_bytes(2, 'big'))
        assert client.sock.recv(1) == b''


def test_pings() -> None:
    """They arrive on an idle connection."""
    with serving(env={'PING_INTERVAL': '0.05'}) as served, opened(served.port) as client:
        for _ in range(3):
            # the client library responds, so that the server continues
            assert client.recv_data_frame(control_frame=True)[0] == ABNF.OPCODE_PING
        client.send('x')
        while (message := client.recv_data_frame(control_frame=True))[0] == ABNF.OPCODE_PING:
            pass
        assert message[1].data == b'x'


def test_a_server_that_stops() -> None:
    """It closes the connection at the end of its grace period, without an error."""
    with serving('--grace', '0.2') as served, opened(served.port) as client:
        client.send('x')
        assert client.recv() == 'x'
        served.signal(signal.SIGTERM)
        assert client.sock.recv(1) == b''
        assert served.finish()[1] == 'geventnode: 1 connection(s) aborted after 0.2 s\n'
