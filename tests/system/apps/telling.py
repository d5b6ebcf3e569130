"""Let applications under test report to the test, and wait for it.

They use plain blocking sockets, which wait cooperatively in a server, and work from every process.
"""

from __future__ import annotations

import os
import socket

__all__ = ['tell', 'wait']


def _say(verb: str, word: str) -> None:
    with socket.create_connection(('127.0.0.1', int(os.environ['GATE']))) as connection:
        connection.sendall(f'{verb} {word}\n'.encode())
        connection.recv(1)


def tell(word: str) -> None:
    """Report ``word`` to the test."""
    _say('tell', word)


def wait(word: str) -> None:
    """Report ``word`` to the test, and wait until it opens the gate of that name."""
    _say('wait', word)
