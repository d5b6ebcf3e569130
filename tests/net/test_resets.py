"""Test on every loop that a reset directly after data is noticed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import struct, sys
import gevent
from gevent import socket
from geventnode import http
from geventnode.errors import IncompleteBody

listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen()

def serve():
    while True:
        peer, _ = listener.accept()
        peer.recv(65536)
        peer.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhello')
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        peer.close()

gevent.spawn(serve)
for _ in range(3):
    response = http.get(f'http://127.0.0.1:{listener.getsockname()[1]}/', timeout=None).get_response()
    try:
        response.read()
    except IncompleteBody as error:
        print(error.phase)
"""


@pytest.mark.parametrize('loop', ['libev-cext', 'libuv'])
def test_a_reset_after_data_is_noticed(loop: str) -> None:
    ran = subprocess.run(
        [sys.executable, '-c', PROGRAM],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, 'GEVENT_LOOP': loop},
    )
    assert (ran.stdout.split(), ran.returncode) == (['body'] * 3, 0), ran.stderr
