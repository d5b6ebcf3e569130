"""Shared code of the workers: connections, resets, and lines of JSON."""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections.abc import Callable

__all__ = ['ANSWER_TIMEOUT', 'connect', 'report', 'reset', 'until', 'work_until_line']

ANSWER_TIMEOUT = 60.0


def connect(port: int, receive_buffer: int | None = None) -> socket.socket:
    """Return a blocking connection."""
    connection = socket.socket()
    if receive_buffer is not None:
        # before connecting, because the window is announced then
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(ANSWER_TIMEOUT)
    connection.connect(('127.0.0.1', port))
    return connection


def reset(connection: socket.socket) -> None:
    """Close with a reset (socket(7), ``SO_LINGER``)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    connection.close()


def until(connection: socket.socket, mark: bytes) -> bytes:
    """Return the data received, up to ``mark`` or beyond. Raises ``EOFError``."""
    received = b''
    while mark not in received:
        data = connection.recv(65536)
        if not data:
            raise EOFError(f'closed after {received!r}')
        received += data
    return received


def report(**found: object) -> None:
    """Print the arguments as a JSON object."""
    print(json.dumps(found), flush=True)


def work_until_line(work: Callable[[], object], interval: float) -> str:
    """Do ``work`` every ``interval`` seconds until a line arrives on standard input; return the line."""
    while not select.select([sys.stdin], [], [], interval)[0]:
        work()
    return sys.stdin.readline().strip()
