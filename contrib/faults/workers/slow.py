"""Clients that send a head, or read a download, very slowly.

    python slow.py PORT HEADS READERS

Prints a line when all have begun, continues until a line arrives, and prints the bytes sent and read, and the number of
clients that the server has closed.
"""

from __future__ import annotations

import itertools
import socket
import sys
from collections.abc import Callable, Iterator

from connecting import connect, report, work_until_line

__all__ = ['Slow']

#: Seconds between two bytes of a head.
BYTE_INTERVAL = 5.0
#: Seconds between two reads.
READ_INTERVAL = 2.0

#: Seconds between two turns, in each of which some of the clients act.
TURN = 0.02

READ = 512
RECEIVE_BUFFER = 2048


class Slow:
    """All slow clients of one server."""

    def __init__(self, port: int, heads: int, readers: int) -> None:
        self._heads = [connect(port) for _ in range(heads)]
        for connection in self._heads:
            connection.sendall(b'GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ')
        self._readers = [connect(port, RECEIVE_BUFFER) for _ in range(readers)]
        for connection in self._readers:
            connection.sendall(b'GET /download?bytes=100000000 HTTP/1.1\r\nHost: x\r\n\r\n')
        for connection in (*self._heads, *self._readers):
            # no client blocks the others
            connection.setblocking(False)
        self._next_heads, self._next_readers = itertools.cycle(self._heads), itertools.cycle(self._readers)
        self.sent = self.received = self.lost = 0

    def act(self) -> None:
        """Send or read for the clients of this turn."""
        for connection in _some(self._next_heads, len(self._heads), BYTE_INTERVAL):
            self.sent += self._try(lambda connection: connection.send(b'x'), connection)
        for connection in _some(self._next_readers, len(self._readers), READ_INTERVAL):
            self.received += self._try(lambda connection: len(connection.recv(READ)), connection)

    def _try(self, act: Callable[[socket.socket], int], connection: socket.socket) -> int:
        """Return the number of bytes sent or received."""
        try:
            return act(connection)
        except BlockingIOError:
            return 0
        except OSError:
            self.lost += 1
            return 0


def _some(clients: Iterator[socket.socket], count: int, interval: float) -> Iterator[socket.socket]:
    """Return the clients of this turn, if each of ``count`` acts once in ``interval`` seconds."""
    return itertools.islice(clients, -int(-count * TURN // interval))


def main() -> None:
    """Be slow until a line arrives."""
    slow = Slow(*map(int, sys.argv[1:]))
    report(begun=True)
    work_until_line(slow.act, TURN)
    report(sent=slow.sent, received=slow.received, lost=slow.lost)


if __name__ == '__main__':
    main()
