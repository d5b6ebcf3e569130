"""Unchanged Flask-SocketIO with python-engineio and simple-websocket; the test implements the client."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from gevent import get_hub

from tests.servers import Client, get, post
from tests.system.frameworks import WAYS, Gate
from tests.system.gunicorns import Gunicorn
from tests.system.running import PATIENCE, PYTHONPATH, Served

for _library, _name in (('flask_socketio', 'flask-socketio'), ('websocket', 'websocket-client')):
    pytest.importorskip(_library, reason=f'{_name} is not installed; it is in the extra "test"')

import socketio  # noqa: E402 - it may be missing
from socketio import SimpleClient  # noqa: E402 - as above
from websocket import ABNF, WebSocket, WebSocketBadStatusException  # noqa: E402 - as above

TARGET = 'flask_socketio_site:app'
HANDSHAKE = '/socket.io/?EIO=4&transport=polling'

#: The end of a session in two requests, or one that polls at that time: python-engineio logs the late one.
LATE = r"('Session is disconnected' .*\n)?"

every_mode = pytest.mark.parametrize('mode', ['threading', 'gevent'])
#: The transports that a client offers, and the one that it ends with.
every_transport = pytest.mark.parametrize(
    ('offered', 'used'),
    [(['polling'], 'polling'), (['websocket'], 'websocket'), (['polling', 'websocket'], 'websocket')],
    ids=['polling', 'websocket', 'upgraded'],
)


def serving(*arguments: str, **options: Any) -> Served:
    """Return the application under ``geventnode serve``, in a process that had loaded its libraries."""
    return Served(TARGET, *arguments, program='geventnode serve with Flask', **options)


@contextlib.contextmanager
def connected(url: str, transports: list[str], **options: Any) -> Iterator[Any]:
    """Yield a client of python-socketio."""
    client = SimpleClient(**options)
    client.connect(url, transports=transports, wait_timeout=PATIENCE)
    try:
        yield client
    finally:
        client.disconnect()


def in_thread(function: Any, *arguments: Any) -> Any:
    """Begin a call of a library that blocks, and return its future result."""
    return get_hub().threadpool.spawn(function, *arguments)


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


@every_mode
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


@every_mode
def test_its_own_client(mode: str) -> None:
    """It polls, upgrades to WebSocket, and disconnects; the log is empty, as the end of the context checks."""
    with serving(env={'ASYNC_MODE': mode}) as served:
        for _ in range(2):
            client = SimpleClient()
            client.connect(served.url, wait_timeout=PATIENCE)
            for message in ('polled or not', 'x' * 200_000):
                client.emit('echo', message)
                assert client.receive(timeout=PATIENCE) == ['echoed', message]
            client.disconnect()


def test_gevent_websocket_fails_in_the_mode_gevent(tmp_path: Path) -> None:
    """The message is that of the documentation."""
    (tmp_path / 'geventwebsocket.py').write_text('')
    env = {'PYTHONPATH': f'{PYTHONPATH}:{tmp_path}', 'ASYNC_MODE': 'gevent'}
    message = 'RuntimeError: The gevent-websocket server is not configured appropriately'
    with (
        Served(TARGET, env=env, errors=f'(?s).*{message}.*') as served,
        pytest.raises(WebSocketBadStatusException, match='500'),
        opened(served.port),
    ):
        pass


def test_the_default_mode() -> None:
    """python-engineio prefers eventlet, and then gevent."""
    modes = socketio.Server(async_mode='threading').eio.async_modes()
    assert [mode for mode in modes if mode in ('eventlet', 'gevent', 'threading')] == [
        'eventlet',
        'gevent',
        'threading',
    ]


def test_with_gevent_websocket_installed(tmp_path: Path) -> None:
    """The documented mode works; python-engineio only checks whether the package can be imported."""
    (tmp_path / 'geventwebsocket.py').write_text('')
    path = f'{PYTHONPATH}:{tmp_path}'
    with Served(TARGET, env={'PYTHONPATH': path}) as served, opened(served.port) as client:
        echoed(client, 'hello')


@every_mode
@every_transport
def test_rooms_and_binary(mode: str, offered: list[str], used: str) -> None:
    """An ordinary request sends to the clients of a room, and to no others; bytes return unchanged."""
    with (
        serving(env={'ASYNC_MODE': mode}, errors=LATE if used == 'polling' else '') as served,
        connected(served.url, offered) as first,
        connected(served.url, offered) as second,
        connected(served.url, offered) as other,
    ):
        assert {each.transport for each in (first, second, other)} == {used}
        for client in first, second:
            assert client.call('join') == 'joined'
        with contextlib.closing(Client(('127.0.0.1', served.port))) as plain:
            for news in 'one', 'two':
                assert plain.send(post(news.encode(), '/news')).response().status == 200
            for client in first, second:
                assert [client.receive(timeout=PATIENCE) for _ in range(2)] == [['news', 'one'], ['news', 'two']]
            assert second.call('leave') == 'left'
            assert plain.send(post(b'three', '/news')).response().status == 200
        assert first.receive(timeout=PATIENCE) == ['news', 'three']
        for client in second, other:
            client.emit('echo', b'\0\xff' * 50_000)
            assert client.receive(timeout=PATIENCE) == ['echoed', b'\0\xff' * 50_000]


@every_mode
@pytest.mark.parametrize('leaves', ['FIN', 'reset', 'silence', 'silence-of-polling'])
def test_a_client_that_vanishes(mode: str, leaves: str) -> None:
    """The application is notified; a client without a sign of life is disconnected after its pings."""
    silent = leaves.startswith('silence')
    with contextlib.closing(Gate()) as gate:
        env = {
            'GATE': str(gate.port),
            'ASYNC_MODE': mode,
            'REPORT': '1',
            **({'PING_INTERVAL': '0.2'} if silent else {}),
        }
        with serving(env=env) as served, contextlib.ExitStack() as stack:
            if leaves == 'silence-of-polling':
                with contextlib.closing(Client(('127.0.0.1', served.port))) as client:
                    handshake(client)
            else:
                client = stack.enter_context(opened(served.port))
                if leaves == 'reset':
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                if not silent:
                    client.shutdown()
            gate.wait_for('ping-timeout' if silent else 'transport-close')
            if leaves == 'silence':
                while client.recv():
                    pass


def handshake(client: Client) -> str:
    """Begin a session by long polling, and return its path."""
    opened = client.get(HANDSHAKE).body
    path = f'{HANDSHAKE}&sid={json.loads(opened[1:])["sid"]}'
    assert client.send(post(b'40', path)).response().body == b'OK'
    assert client.get(path).body.startswith(b'40{')
    return path


def test_a_long_poll(tmp_path: Path) -> None:
    """It ends when there is an event, and other requests are served meanwhile."""
    with serving() as served, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(Client(('127.0.0.1', served.port)))) for _ in range(30)]
        paths = [handshake(client) for client in clients]
        other = stack.enter_context(contextlib.closing(Client(('127.0.0.1', served.port))))
        for client, path in zip(clients, paths, strict=True):
            client.send(get(path))
        for path in paths:
            assert other.send(post(b'42["echo","x"]', path)).response().body == b'OK'
        assert [client.response().body for client in clients] == [b'42["echoed","x"]'] * 30


@every_mode
def test_a_server_that_stops(mode: str) -> None:
    """An event handler that has begun ends, and its client gets the acknowledgement; then the server stops."""
    with contextlib.closing(Gate()) as gate, serving(env={'GATE': str(gate.port), 'ASYNC_MODE': mode}) as served:
        client = SimpleClient(reconnection=False)
        in_thread(lambda: client.connect(served.url, transports=['websocket'], wait_timeout=PATIENCE)).get()
        called = in_thread(client.call, 'wait')
        gate.wait_for('handler')
        served.signal(signal.SIGTERM)
        gate.open('handler')
        assert called.get() == 'passed'
        in_thread(client.disconnect).get()
        assert in_thread(served.finish).get() == ('Stopping: 1 open connection(s)\n', '')


def test_connections_at_the_end_of_the_grace_period() -> None:
    """A WebSocket and a long poll that are still open are closed."""
    with serving('--grace', '0.2') as served, opened(served.port) as client:
        with contextlib.closing(Client(('127.0.0.1', served.port))) as polling:
            polling.send(get(handshake(polling)))
            echoed(client, 'last')
            served.signal(signal.SIGTERM)
            assert client.sock.recv(1) == b''
            assert served.finish()[1] == 'geventnode: 2 connection(s) aborted after 0.2 s\n'


def test_a_reload(tmp_path: Path) -> None:
    """Clients reconnect to the new worker after ``graceful_timeout``."""
    settings = 'graceful_timeout = 1\n'
    with Gunicorn(tmp_path, TARGET, settings) as gunicorn:
        client = socketio.Client(reconnection_delay=0.05, randomization_factor=0)
        connects: Queue[str] = Queue()
        client.on('connect', lambda: connects.put('connected'))
        client.connect(f'http://127.0.0.1:{gunicorn.port}', transports=['websocket'])
        try:
            connects.get()
            assert client.call('join') == 'joined'
            first = gunicorn.ask('/pid')
            gunicorn.signal(signal.SIGHUP)
            gunicorn.exited()
            connects.get()
            assert client.call('join') == 'joined'
            assert gunicorn.ask('/pid') != first
        finally:
            client.disconnect()


def test_two_workers_need_sticky_sessions(tmp_path: Path) -> None:
    """A long poll that reaches another worker than its session's is refused, by python-engineio."""
    with Gunicorn(tmp_path, TARGET, workers=2) as gunicorn, contextlib.ExitStack() as stack:
        workers: dict[bytes, Client] = {}
        while len(workers) < 2:
            client = stack.enter_context(contextlib.closing(Client(('127.0.0.1', gunicorn.port))))
            workers[client.get('/pid').body] = client
        one, other = workers.values()
        path = handshake(one)
        refused = other.send(post(b'42["join"]', path)).response()
        assert (refused.status, refused.body[:16]) == (400, b'"Invalid session')
        assert one.send(post(b'42["join"]', path)).response().status == 200
