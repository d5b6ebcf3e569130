"""What applications under test tell of themselves to the test, and where they wait for it.

Plain blocking sockets: in a server they wait cooperatively, and they reach the test from whichever process it is.
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
    """Tell the test ``word``."""
    _say('tell', word)


def wait(word: str) -> None:
    """Tell the test ``word``, and wait until it opens the gate of that name."""
    _say('wait', word)
