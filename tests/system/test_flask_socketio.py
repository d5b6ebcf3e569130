"""Unchanged Flask-SocketIO with python-engineio and simple-websocket; the test implements the client."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.frameworks import WAYS
from tests.system.running import PATIENCE, ROOT, Served

for _library, _name in (('flask_socketio', 'flask-socketio'), ('websocket', 'websocket-client')):
    pytest.importorskip(_library, reason=f'{_name} is not installed; it is in the extra "test"')

from socketio import SimpleClient  # noqa: E402 - it may be missing
from websocket import ABNF, WebSocket  # noqa: E402 - as above

TARGET = 'flask_socketio_site:app'


@contextlib.contextmanager
def opened(port: int) -> Iterator[Any]:
    """Yield a connection with a session of Socket.IO."""
    # recv() decodes text; a check in pure Python before it would take seconds
    client = WebSocket(enable_multithread=False, skip_utf8_validation=True)
    client.connect(f'ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket', timeout=PATIENCE)
    try:
        assert client.recv().startswith('0{')
        client.send('40')
        assert client.recv().startswith('40{')
        yield client
    finally:
        client.shutdown()


def echoed(client: WebSocket, message: str) -> None:
    """Send an event and check its echo."""
    client.send('42' + json.dumps(['echo', message]))
    assert json.loads(client.recv()[2:]) == ['echoed', message]


@pytest.mark.parametrize('mode', ['threading', 'gevent'])
@pytest.mark.parametrize('way', list(WAYS))
def test_events(way: str, mode: str, tmp_path: Path) -> None:
    """Small and large ones return complete, for every kind of disconnection; no error is logged."""
    with WAYS[way](TARGET, tmp_path, {'ASYNC_MODE': mode}) as served:
        for leaves in 'close frame', 'FIN', 'reset':
            with opened(served.port) as client:
                for message in ('small', 'x' * 4_000_000, 'last'):
                    echoed(client, message)
                if leaves == 'close frame':
                    client.send_close()
                    assert client.recv_data_frame(control_frame=True)[0] == ABNF.OPCODE_CLOSE
                elif leaves == 'reset':
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    if way == 'gunicorn':
        assert 'Traceback' not in served.finish()


@pytest.mark.parametrize('mode', ['threading', 'gevent'])
def test_its_own_client(mode: str) -> None:
    """It polls, upgrades to WebSocket, and disconnects; the log is empty, as the end of the context checks."""
    with Served(TARGET, env={'ASYNC_MODE': mode}) as served:
        for _ in range(2):
            client = SimpleClient()
            client.connect(served.url, wait_timeout=PATIENCE)
            for message in ('polled or not', 'x' * 200_000):
                client.emit('echo', message)
                assert client.receive(timeout=PATIENCE) == ['echoed', message]
            client.disconnect()


def test_with_gevent_websocket_installed(tmp_path: Path) -> None:
    """The documented mode works; python-engineio only checks whether the package can be imported."""
    (tmp_path / 'geventwebsocket.py').write_text('')
    path = f'{ROOT}:{tmp_path}'
    with Served(TARGET, env={'PYTHONPATH': path}) as served, opened(served.port) as client:
        echoed(client, 'hello')
