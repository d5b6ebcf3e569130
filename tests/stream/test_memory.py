"""Test the memory that reading takes, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.prepared import Run, prepared

SIZE = 128 << 20

PEAK = """
import resource

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
"""

STREAM = f"""
from geventnode.stream import Readable

stream = Readable.from_iterable(bytes(1 << 16) for _ in range({SIZE >> 16}))
before = peak()
body = %s
print(len(body), peak() - before)
"""

#: Sends a body with its length from a real thread, after the head of a request or a response.
SENDER = f"""
import socket
import threading

def send_body(peer, head):
    peer.sendall(head + b'Content-Length: {SIZE}\\r\\n\\r\\n')
    for _ in range({SIZE >> 16}):
        peer.sendall(bytes(1 << 16))
"""

RESPONSE = """
from geventnode import http

listening = socket.create_server(('127.0.0.1', 0))

def serve():
    peer = listening.accept()[0]
    peer.recv(65536)
    send_body(peer, b'HTTP/1.1 200 OK\\r\\n')

threading.Thread(target=serve, daemon=True).start()
response = http.get(f'http://127.0.0.1:{listening.getsockname()[1]}/').get_response()
before = peak()
body = response.read()
print(len(body), peak() - before)
"""

REQUEST = """
from geventnode import http

def listener(request, response):
    before = peak()
    body = request.read()
    print(len(body), peak() - before)
    response.end()
    server.close()

server = http.create_server(listener).listen(0, '127.0.0.1')
peer = socket.create_connection(('127.0.0.1', server.address()['port']))
head = b'POST / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n'
threading.Thread(target=send_body, args=(peer, head), daemon=True).start()
server.serve_forever()
"""


@pytest.fixture(scope='module')
def execute() -> Iterator[Run]:
    """Return a function that executes source in a process of its own."""
    with prepared('tests.sources', loop='libev-cext') as run:
        yield run


@pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='the unit of ru_maxrss is that of Linux (getrusage(2))'
)
@pytest.mark.parametrize(
    ('program', 'factor'),
    [
        (STREAM % 'stream.read()', 1.1),
        (STREAM % 'stream.makefile().read()', 1.1),
        # text is joined from its pieces
        (STREAM % "stream.set_encoding('utf-8').read()", 2.2),
        (SENDER + RESPONSE, 1.1),
        (SENDER + REQUEST, 1.1),
    ],
    ids=['stream', 'file', 'text', 'response', 'request'],
)
def test_read_needs_little_more_than_the_result(execute: Run, program: str, factor: float) -> None:
    ran = execute(PEAK + program)
    ran.check_returncode()
    size, grown = map(int, ran.stdout.split())
    assert size == SIZE
    assert grown < factor * SIZE
