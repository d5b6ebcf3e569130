"""A body that fails while a framework reads it: the server responds, and the framework logs nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.needed import need
from tests.servers import Client, get, post
from tests.system.frameworks import Gate
from tests.system.running import Served

CHUNKED = get('/raw', 'Transfer-Encoding: chunked', method='POST')

#: The sent bytes and the response.
BODIES = {
    'late': (post(b'x', '/raw', length=2), 408),
    'late form': (post(b'a=', '/form', 'Content-Type: application/x-www-form-urlencoded', length=5), 408),
    'cut short': (post(b'x', '/raw', length=2), 400),
    'too large': (CHUNKED + b'3e9\r\n' + b'x' * 1001, 413),
    'malformed': (CHUNKED + b'1\r\nx\r\nno size\r\n', 400),
}


@pytest.mark.parametrize(('package', 'target'), [('flask', 'flask_site:app'), ('django', 'django_site:application')])
def test_the_server_answers(tmp_path: Path, package: str, target: str) -> None:
    """No log has a traceback; there is a line for each, except for the disconnected client."""
    need(package)
    lines = ''.join(r'.*POST /(raw|form): .*\n' for each in BODIES if each != 'cut short')
    with contextlib.closing(Gate()) as gate:
        env = {'GATE': str(gate.port), 'DIRECTORY': str(tmp_path), 'SITE': target}
        with Served('limited.py:server', env=env, errors=lines) as served:
            for name, (request, status) in BODIES.items():
                with contextlib.closing(Client(('127.0.0.1', served.port))) as client:
                    client.send(request)
                    if name == 'cut short':
                        client.half_close()
                    reply = client.response()
                    assert (reply.status, reply.closes) == (status, True), name
                    client.assert_closed()
    assert (tmp_path / 'errors.txt').read_text() == ''
