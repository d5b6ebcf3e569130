"""Libraries on top of ``requests``, with plain sessions and with ``AgentAdapter``, have the same results.

Each runs in its own processes, three times: plain, on agents, and on agents with the standard library patched.
The scripts are those in ``libraries/``; they reach through ``response.raw`` to http.client's objects, subclass
adapters, or replace methods.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from gevent.event import Event

from tests.origins import MakeOrigin, Peer
from tests.servers import Serve
from tests.system.installed import installed
from tests.system.scripts import PACKAGES, WAYS, run_ways

#: Another library with the import name of sseclient-py.
OTHER_SSE = ['sseclient==0.0.27', 'six==1.17.0']


@pytest.fixture
def results(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a script of ``libraries/`` in all ways, and returns their results."""

    def run(script: str, url: str, name: str = 'libraries', needed: list[str] = PACKAGES) -> dict[str, Any]:
        return run_ways(installed(request.config, name, *needed), script, url)

    return run


# -- docker-py --------------------------------------------------------------------------------------------------------

SWITCHED = (
    b'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n'
    b'Upgrade: tcp\r\n\r\n'
)

EVENTS = [b'{"number": 1}\n', b'{"number": 2}\n', b'{"text": "' + b'x' * 70000 + b'"}\n']


def frame(stream: int, data: bytes) -> bytes:
    """Return a frame of the output of a container."""
    return struct.pack('>BxxxL', stream, len(data)) + data


def framed(kind: str, *chunks: bytes) -> bytes:
    """Return a response with ``chunks``."""
    body = b''.join(b'%x\r\n%s\r\n' % (len(chunk), chunk) for chunk in chunks)
    return b'HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s' % (kind.encode(), body)


def sized(what: Any, status: str = '200 OK') -> bytes:
    """Return a response with a value as JSON."""
    body = json.dumps(what).encode()
    return b'HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' % (
        status.encode(),
        len(body),
        body,
    )


LAST_CHUNK = b'0\r\n\r\n'

ANSWERS = {
    'GET /containers/json': sized([{'Id': 'abc'}]),
    'GET /containers/abc/json': sized({'Id': 'abc', 'Config': {'Tty': False}, 'State': {'Status': 'running'}}),
    'GET /containers/none/json': sized({'message': 'no such container'}, '404 Not Found'),
    'GET /events': framed('application/json', *EVENTS) + LAST_CHUNK,
    # all in one segment, with a frame in two chunks
    'GET /containers/abc/logs': framed(
        'application/vnd.docker.multiplexed-stream', frame(1, b'out\n')[:5], frame(1, b'out\n')[5:], frame(2, b'err\n')
    )
    + LAST_CHUNK,
    'POST /images/create': framed('application/json', b'{"status": "begun"}\r\n', b'{"status": "done"}\r\n')
    + LAST_CHUNK,
    'POST /build': framed('application/json', b'{"stream": "built"}\r\n') + LAST_CHUNK,
    'GET /containers/abc/archive': framed('application/x-tar', *[b'x' * 3000] * 3).replace(
        b'\r\n\r\n', b'\r\nX-Docker-Container-Path-Stat: e30=\r\n\r\n', 1
    )
    + LAST_CHUNK,
    'POST /containers/abc/exec': sized({'Id': 'one'}, '201 Created'),
    'GET /exec/one/json': sized({'ExitCode': 0, 'Running': False, 'ProcessConfig': {'tty': False}}),
}


def daemon(peer: Peer) -> None:
    """Respond like a Docker daemon."""
    while True:
        asked = peer.request()
        method, target, _ = asked.line.split()
        path = f'{method} /{target.partition("?")[0].split("/", 2)[2]}'
        if path == 'POST /exec/one/start':
            peer.send(SWITCHED + frame(1, b'out') + frame(2, b'err')[:6])
            peer.send(frame(2, b'err')[6:])
            return
        if path == 'POST /containers/abc/attach':
            peer.send(SWITCHED)
            while data := peer.socket.recv(100):
                peer.send(data.upper())
            peer.send(b'BYE')
            return
        if 'endless' in target:
            peer.send(framed('application/json', EVENTS[0]))
            peer.closed()
            return
        peer.send(ANSWERS[path])


def test_docker_py(origin: MakeOrigin, results: Callable[..., dict[str, Any]]) -> None:
    found = results('docker_client.py', origin(daemon).url)
    for way in WAYS:
        assert found[way]['events'] == [event.decode() for event in EVENTS]
        assert found[way]['stream'] == ['out\n', 'err\n']
        assert found[way]['attached'] == ['ONE', 'TWO', 'BYE']
        assert found[way]['cancelled'] == [{'number': 1}]
    # http.client buffers bytes that arrive with the head, and docker-py bypasses that buffer: not comparable
    output = {'run': 'outerr', 'apart': ['out', 'err'], 'bit by bit': ['out', 'err']}
    assert found['AGENTS'] == found['PATCHED'] == {**found['PLAIN'], **output}


# -- SSE clients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'needed'), [('libraries', PACKAGES), ('requests-other-sse', OTHER_SSE)])
def test_sse_clients(serve: Serve, results: Callable[..., dict[str, Any]], name: str, needed: list[str]) -> None:
    """Each event arrives before the next one is sent."""
    sent = [b'data: one\n\n', b'event: kind\ndata: two\n\n', b'data: last\n\n']
    received = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/next':
            received.set()
            response.end()
            return
        response.set_header('Content-Type', 'text/event-stream')
        if request.url == '/events/length':
            response.set_header('Content-Length', str(sum(map(len, sent))))
        for event in sent:
            received.clear()
            response.write(event)
            received.wait()
        response.end()

    found = results('sse_clients.py', f'http://127.0.0.1:{serve(listener).where[1]}', name, needed)
    for way in WAYS:
        for events in found[way].values():
            assert events == [['message', 'one'], ['kind', 'two'], ['message', 'last']]
    assert found['AGENTS'] == found['PATCHED'] == found['PLAIN']


# -- caches and helpers -----------------------------------------------------------------------------------------------


def shop(request: Any, response: Any) -> None:
    """Respond with cacheable responses."""
    body = request.read()
    if request.url == '/echo':
        response.set_header('Framing', request.headers.get('content-length', 'chunked'))
        response.end(body)
        return
    if request.url == '/address':
        response.end(request.remote_address)
        return
    kind = request.url.rpartition('/')[2]
    text = b''.join(b'%d ' % number for number in range(20000))
    response.set_header('Cache-Control', 'max-age=0' if kind == 'tag' else 'max-age=1000')
    if kind == 'tag':
        response.set_header('ETag', '"tag"')
        if request.headers.get('if-none-match'):
            response.status_code = 304
            response.end()
            return
    if kind == 'gzip':
        response.set_header('Content-Encoding', 'gzip')
        text = gzip.compress(text)
    for start in range(0, 0 if kind == 'length' else len(text), 5000):
        response.write(text[start : start + 5000])
    response.end(text if kind == 'length' else None)


@pytest.mark.parametrize('script', ['caches.py', 'helpers.py'])
def test_other_libraries(serve: Serve, results: Callable[..., dict[str, Any]], script: str) -> None:
    found = results(script, f'http://127.0.0.1:{serve(shop).where[1]}')
    assert found['AGENTS'] == found['PATCHED'] == found['PLAIN']
    for name, got in found['PLAIN'].items():
        if name == 'source':
            assert got == '127.0.0.2'
        if script == 'caches.py':
            assert got[0] is False, name
            assert got[3] is True, name
            assert got[1:3] == got[4:6], name
