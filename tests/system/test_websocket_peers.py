"""WebSockets with other implementations: Node's ``ws``, the library ``websockets``, and a browser."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.frameworks import WAYS
from tests.system.installed import filled, installed
from tests.system.running import APPS, PATIENCE, Served, run, tool
from tests.system.webdriver import Browser

pytest.importorskip('wsproto', reason='wsproto is not installed; it is in the extra "test"')

from geventnode import websocket

#: Options of permessage-deflate for Node's ws.
DEFLATES = ['false', '{"threshold": 0}', '{"threshold": 0, "serverNoContextTakeover": true, "clientMaxWindowBits": 9}']

MESSAGES: list[Any] = [
    '',
    b'',
    'hello',
    'ä€😀' * 10_000,
    bytes(range(256)) * 1000,
    'x' * 1_000_000,
    b'y' * 65535,
    'abc' * 50,
]

#: A client of the library websockets, which shares no code with wsproto.
WEBSOCKETS_CLIENT = """
import sys
from websockets.sync.client import connect
url, compression = sys.argv[1], sys.argv[2] or None
messages = eval(sys.stdin.read())
with connect(url, compression=compression, max_size=None) as ws:
    for message in messages:
        ws.send(message)
        assert ws.recv() == message
        ws.send([message[:1], message[1:1], message[1:]])
        assert ws.recv() == message
    ws.ping().wait(60)
    print(ws.protocol.extensions)
    ws.close(4001, 'done')
print(ws.close_code)
"""

WEBSOCKETS_SERVER = """
import sys, threading
from websockets.sync.server import serve
def echo(ws):
    for message in ws:
        ws.send(message)
        ws.send([message[:1], message[1:]])
with serve(echo, '127.0.0.1', 0, compression=sys.argv[1] or None, max_size=None) as server:
    print(server.socket.getsockname()[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
"""


@pytest.fixture(scope='module')
def served() -> Iterator[Served]:
    with Served('websocket_site:site', program='geventnode serve with Flask') as served:
        yield served


@pytest.fixture
def ws(pytestconfig: pytest.Config) -> dict[str, str]:
    """The environment in which Node finds ``ws``."""
    tool('node')

    def fill(directory: Path) -> None:
        ran = subprocess.run(
            [tool('npm'), 'install', '--prefix', str(directory), 'ws@8'], check=False, capture_output=True, text=True
        )
        if ran.returncode:
            pytest.skip(f'npm cannot install ws: {ran.stderr[-500:]}')

    return {'NODE_PATH': str(filled(pytestconfig, 'ws', 'ws@8', fill) / 'node_modules')}


@pytest.fixture
def websockets(pytestconfig: pytest.Config) -> Path:
    """The directory of the library ``websockets``."""
    return installed(pytestconfig, 'websockets', 'websockets>=14')


@contextlib.contextmanager
def peer(*command: str, env: dict[str, str]) -> Iterator[int]:
    """Run a server, and yield the port that it prints."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=APPS
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.communicate()


@pytest.mark.parametrize('deflate', DEFLATES)
def test_node_client(served: Served, ws: dict[str, str], deflate: str) -> None:
    url = f'ws://127.0.0.1:{served.port}/'
    assert run('node', 'ws_client.js', url, deflate, cwd=APPS, env=ws) == '32 messages, 1 pong, closed with 4001\n'


@pytest.mark.parametrize('way', WAYS)
def test_node_client_of_a_flask_view(ws: dict[str, str], way: str, tmp_path: Path) -> None:
    """Alone, and under gunicorn's worker."""
    with WAYS[way]('websocket_site:app', tmp_path, {}) as served:
        url = f'ws://127.0.0.1:{served.port}/echo'
        assert run('node', 'ws_client.js', url, 'true', cwd=APPS, env=ws) == '32 messages, 1 pong, closed with 4001\n'


@pytest.mark.parametrize('deflate', DEFLATES)
def test_node_server(ws: dict[str, str], deflate: str) -> None:
    with peer(tool('node'), 'ws_server.js', deflate, env=ws) as port:
        compression: Any = {'minimum_size': 0, 'server_max_window_bits': 15}
        with websocket.connect(f'ws://127.0.0.1:{port}/', compression=compression) as client:
            for message in MESSAGES * 2:
                client.send(message)
                assert client.receive(PATIENCE) == message
            client.ping(PATIENCE)
        assert client.close_code == 1000
        assert (client._deflate is not None) == (deflate != 'false')


@pytest.mark.parametrize('compression', ['', 'deflate'])
def test_client_of_websockets(served: Served, websockets: Path, compression: str) -> None:
    ran = subprocess.run(
        [sys.executable, '-c', WEBSOCKETS_CLIENT, f'ws://127.0.0.1:{served.port}/', compression],
        input=repr(MESSAGES),
        env={'PYTHONPATH': str(websockets)},
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr
    assert ('PerMessageDeflate' in ran.stdout) == bool(compression)
    assert ran.stdout.endswith('4001\n')


@pytest.mark.parametrize('compression', ['', 'deflate'])
@pytest.mark.parametrize('options', [{}, {'server_no_context_takeover': True, 'client_max_window_bits': 9}])
def test_server_of_websockets(websockets: Path, compression: str, options: dict[str, Any]) -> None:
    with peer(sys.executable, '-c', WEBSOCKETS_SERVER, compression, env={'PYTHONPATH': str(websockets)}) as port:
        wanted: Any = {'minimum_size': 0, **options}
        with websocket.connect(f'ws://127.0.0.1:{port}/', compression=wanted) as client:
            for message in MESSAGES * 2:
                client.send(message)
                assert client.receive(PATIENCE) == message
                # the same in fragments
                assert client.receive(PATIENCE) == message
            client.ping(PATIENCE)
        assert client.close_code == 1000
        assert (client._deflate is not None) == bool(compression)


def test_browser(served: Served, chromium: Browser) -> None:
    """Chromium sends and receives with compression, and closes cleanly."""
    with chromium.lent() as opened:
        opened.open(f'{served.url}/')
        opened.wait_for("document.querySelector('#result').textContent !== 'waiting'")
        shown = opened.evaluate("document.querySelector('#result').textContent")
        assert shown == 'chat permessage-deflate 4000 true'
