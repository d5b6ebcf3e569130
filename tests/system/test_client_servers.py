"""The client with independent servers: nginx, Node, and Python's own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gevent
import gevent.subprocess
import pytest

from geventnode import http
from geventnode.errors import IncompleteBody, SocketHangUp
from tests.sockets import until
from tests.system.running import APPS, Served, nginx_with, peak_memory, tool
from tests.system.zeros import zeros

SERVER = """
    # old versions close after a hundred
    keepalive_requests 1000;
    server {{
        listen unix:{directory}/socket;
        root {directory};
        location /hello {{ return 200 "hello world"; }}
        location /brief {{ keepalive_timeout 1s; return 200 "hello world"; }}
        location /slow/ {{ alias {directory}/; limit_rate 200k; }}
        location /chunked/ {{ alias {directory}/; ssi on; ssi_types *; }}
        location /large-head {{ add_header X-Large "{large}"; return 200 "large"; }}
    }}
"""
SIZE = 3_000_000


class Nginx(NamedTuple):
    """A running nginx with files: its process, and the options of requests to it."""

    process: subprocess.Popen[str]
    options: dict[str, str]


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    (tmp_path / 'file').write_bytes(bytes(range(250)) * (SIZE // 250))
    with nginx_with(tmp_path, SERVER.format(directory=tmp_path, large='x' * 3000)) as process:
        yield Nginx(process, {'socket_path': str(tmp_path / 'socket')})


@pytest.fixture
def node() -> Iterator[str]:
    """The URL of a Node server."""
    with subprocess.Popen(
        [tool('node'), APPS / 'origin.js'], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield f'http://127.0.0.1:{process.stdout.readline().strip()}'
        process.stdin.close()


@pytest.fixture
def agent() -> Iterator[http.Agent]:
    with http.Agent(keep_alive=True) as made:
        yield made


# -- nginx ------------------------------------------------------------------------------------------------------------


def test_nginx_keeps_alive(nginx: Nginx, agent: http.Agent) -> None:
    requests = [http.get(path='/hello', agent=agent, **nginx.options) for _ in range(500)]
    assert {request.get_response().read() for request in requests} == {b'hello world'}
    assert agent.statistics()['opened'] == 5


def test_nginx_closes_idle_connections(nginx: Nginx, agent: http.Agent) -> None:
    for _ in range(2):
        assert http.get(path='/brief', agent=agent, **nginx.options).get_response().read() == b'hello world'
        until(lambda: not agent.total_socket_count)
    counted = agent.statistics()
    assert (counted['opened'], counted['closed'], counted['failed'], counted['retried']) == (2, 2, 0, 0)


@pytest.mark.parametrize('path', ['/file', '/chunked/file'])
def test_nginx_bodies_are_read(nginx: Nginx, agent: http.Agent, path: str) -> None:
    with http.get(path=path, agent=agent, **nginx.options) as response:
        assert ('content-length' in response.headers) is (path == '/file')
        assert response.read() == bytes(range(250)) * (SIZE // 250)
    assert agent.statistics()['idle'] == 1


def test_nginx_answers_conditional_requests(nginx: Nginx, agent: http.Agent) -> None:
    first = http.get(path='/file', method='HEAD', agent=agent, **nginx.options).get_response()
    assert (first.status_code, first.headers['content-length'], first.read()) == (200, str(SIZE), b'')
    for name, field in (('If-None-Match', 'etag'), ('If-Modified-Since', 'last-modified')):
        request = http.get(path='/file', headers={name: first.headers[field]}, agent=agent, **nginx.options)
        response = request.get_response()
        assert (response.status_code, response.read(), response.complete) == (304, b'', True)
    assert agent.statistics()['opened'] == 1


def test_nginx_answers_ranges(nginx: Nginx, agent: http.Agent) -> None:
    response = http.get(path='/file', headers={'Range': 'bytes=10-19'}, agent=agent, **nginx.options).get_response()
    assert (response.status_code, response.read()) == (206, bytes(range(10, 20)))
    response = http.get(path='/file', headers={'Range': f'bytes={SIZE}-'}, agent=agent, **nginx.options).get_response()
    assert response.status_code == 416


def test_nginx_large_head_is_read(nginx: Nginx, agent: http.Agent) -> None:
    response = http.get(path='/large-head', agent=agent, **nginx.options).get_response()
    assert (response.headers['x-large'], response.read()) == ('x' * 3000, b'large')


def test_nginx_killed_in_a_body_raises(nginx: Nginx, agent: http.Agent) -> None:
    response = http.get(path='/slow/file', agent=agent, **nginx.options).get_response()
    assert response.read(1000) == (bytes(range(250)) * 4)
    nginx.process.send_signal(signal.SIGKILL)
    with pytest.raises(IncompleteBody):
        response.read()
    assert agent.total_socket_count == 0
    with pytest.raises(OSError, match='socket'):
        http.get(path='/hello', agent=agent, **nginx.options).get_response()


# -- Node -------------------------------------------------------------------------------------------------------------


def test_node_keeps_alive(node: str, agent: http.Agent) -> None:
    requests = [http.get(f'{node}/?{number}', agent=agent) for number in range(200)]
    for number, request in enumerate(requests):
        seen = json.loads(request.get_response().read())
        assert (seen['method'], seen['url']) == ('GET', f'/?{number}')
    assert agent.statistics()['opened'] == 5


def test_node_echoes_bodies_and_trailers(node: str, agent: http.Agent) -> None:
    body = bytes(range(256)) * 4000
    request = http.request(f'{node}/trailers', method='POST', agent=agent, body=[body, body])
    response = request.get_response()
    assert response.read() == body * 2
    assert response.trailers == {'x-count': str(2 * len(body))}
    assert http.get(f'{node}/count', method='PUT', body='hello', agent=agent).get_response().read() == b'5'


def test_node_sends_hints_and_continue(node: str, agent: http.Agent) -> None:
    hints = []
    request = http.get(f'{node}/hints', agent=agent)
    request.on('information', lambda head: hints.append((head.status_code, head.headers)))
    assert request.get_response().read() == b'hinted'
    # listeners run in another greenlet
    until(lambda: hints)
    assert hints == [(103, {'link': '</style.css>; rel=preload'})]
    request = http.request(f'{node}/count', method='PUT', headers={'Expect': '100-continue'}, agent=agent)
    assert request.wait_continue()
    request.end('hello')
    assert request.get_response().read() == b'5'


def test_node_truncates_a_body(node: str, agent: http.Agent) -> None:
    response = http.get(f'{node}/broken', agent=agent).get_response()
    assert response.read(100000) == b'x' * 100000
    with pytest.raises(IncompleteBody):
        response.read()


def test_node_responds_early(node: str, agent: http.Agent) -> None:
    request = http.request(f'{node}/early', method='POST', agent=agent, body=(bytes(65536) for _ in range(200)))
    response = request.get_response()
    assert (response.status_code, response.read()) == (413, b'too large')


def test_node_upgrades(node: str) -> None:
    request = http.get(f'{node}/', headers={'Connection': 'Upgrade', 'Upgrade': 'echo'})
    with request.get_response().socket as socket:
        socket.write('ping')
        assert socket.read(4) == b'ping'
        socket.end()
        assert socket.read() == b''


# -- Python's own -----------------------------------------------------------------------------------------------------


def test_http_server_of_python_is_read(tmp_path: Path, agent: http.Agent) -> None:
    """The server uses HTTP/1.0, and closes after every response."""
    (tmp_path / 'file').write_bytes(b'x' * 100000)
    command = [sys.executable, '-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', tmp_path]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        port = int(process.stdout.readline().split(' port ')[1].split(' ')[0])
        for _ in range(3):
            response = http.get(f'http://127.0.0.1:{port}/file', agent=agent).get_response()
            assert (response.http_version, len(response.read())) == ('1.0', 100000)
        assert http.get(f'http://127.0.0.1:{port}/none', agent=agent).get_response().status_code == 404
        assert agent.statistics()['opened'] == 4
        process.terminate()
    with pytest.raises((SocketHangUp, OSError)):
        http.get(f'http://127.0.0.1:{port}/file', agent=agent).get_response()


# -- memory -----------------------------------------------------------------------------------------------------------

UPLOAD = """
import sys
from geventnode import http
with open(sys.argv[2], 'rb') as file:
    print(http.request(sys.argv[1], method='PUT', body=file).get_response().read().decode(), flush=True)
sys.stdin.read()
"""


def test_large_upload_takes_constant_memory() -> None:
    """The body has four times the size that the process may reach, with the interpreter."""
    size = 2**28
    with (
        zeros(size) as path,
        Served('handlers:listener') as served,
        gevent.subprocess.Popen(
            [sys.executable, '-c', UPLOAD, f'{served.url}/count', str(path)],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent.parent,
        ) as uploading,
    ):
        assert uploading.stdout.readline() == f'{size}\n'
        assert peak_memory(uploading.pid) < 64 * 2**20
        uploading.stdin.close()
