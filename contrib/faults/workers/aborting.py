"""Clients that disconnect within an exchange.

    python aborting.py PORT COUNT WAYS AT_ONCE

Opens ``COUNT`` connections, ``AT_ONCE`` at a time, and closes them at each of ``PLACES`` in turn: with a reset or, if
``WAYS`` is ``mixed``, every other time with a FIN. If the server has to make progress first, the client waits for its
output. Prints the number at each place.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter

from connecting import connect, report, reset, until

__all__ = ['PLACES', 'abort']

DOWNLOAD = b'GET /download?bytes=100000000 HTTP/1.1\r\nHost: x\r\n\r\n'
UPLOAD = b'POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%b\r\n\r\n'

#: The data to send, the output to wait for, and the data to send then.
PLACES: dict[str, tuple[bytes, bytes, bytes]] = {
    'before the head': (b'', b'', b''),
    'in the head': (b'GET / HTTP/1.1\r\nHost: x\r\nX-Ha', b'', b''),
    'after the head': (DOWNLOAD, b'', b''),
    'in a body with length': (UPLOAD % b'Content-Length: 100000', b'100 Continue\r\n\r\n', b'x' * 1000),
    'in a chunked body': (UPLOAD % b'Transfer-Encoding: chunked', b'100 Continue\r\n\r\n', b'5\r\nhe'),
    'in the response': (DOWNLOAD, b'\r\n\r\nxxx', b''),
}


def abort(port: int, places: list[str], ways: str, number: int) -> None:
    """Open one connection for each of ``places``, and close it there."""
    connections: list[socket.socket] = []
    for place in places:
        connection = connect(port)
        connections.append(connection)
        if PLACES[place][0]:
            connection.sendall(PLACES[place][0])
    for place, connection in zip(places, connections, strict=True):
        _, awaited, then = PLACES[place]
        if awaited:
            until(connection, awaited)
            connection.sendall(then)
    for index, connection in enumerate(connections, number):
        # at each place, half of the connections are reset
        if ways == 'mixed' and index // len(PLACES) % 2:
            connection.close()
        else:
            reset(connection)


def main() -> None:
    """Abort connections, and print the numbers."""
    port, count, ways, at_once = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    names = list(PLACES)
    aborted: Counter[str] = Counter()
    for number in range(0, count, at_once):
        places = [names[index % len(names)] for index in range(number, min(number + at_once, count))]
        abort(port, places, ways, number)
        aborted.update(places)
    report(**aborted)


if __name__ == '__main__':
    main()
