"""Clients in the middle of bodies that will never end well.

    python bodies.py PORT COUNT

Each third of them asks for another kind of body, with another kind of client. Prints a line when all have got a part of
it, and, when all have come to an end, how many of each kind took the body for complete, saw an error, or neither.
"""

# ruff: noqa: E402 - patching comes before everything else
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import http.client
import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import gevent
from connecting import connect, tell, until
from gevent.event import Event

from geventnode import http as node

__all__ = ['BODIES', 'CLIENTS']

BODIES = ('length', 'chunked', 'close')
PART = 512

#: Seconds after which a client counts as one that hangs.
PATIENCE = 60.0

#: Yields at every part; raises when the body is cut short.
Body = Iterator[object]


def read_with_ours(port: int, path: str) -> Body:
    """Read with the client of this package, as it is meant to be."""
    agent = node.Agent()
    with node.get(f'http://127.0.0.1:{port}{path}', agent=agent) as response:
        yield from response
    agent.destroy()


def read_with_stdlib(port: int, path: str) -> Body:
    """Read with ``http.client``."""
    connection = http.client.HTTPConnection('127.0.0.1', port)
    connection.request('GET', path)
    response = connection.getresponse()
    while data := response.read(PART):
        yield data
    # with a length, reading in parts says nothing
    if response.length:
        raise http.client.IncompleteRead(b'', response.length)


def read_as_1_0(port: int, path: str) -> Body:
    """Read as a client of HTTP/1.0, which knows no chunks: all that comes until the connection ends."""
    connection = connect(port)
    connection.settimeout(None)
    connection.sendall(b'GET %b HTTP/1.0\r\nHost: x\r\n\r\n' % path.encode())
    head, _, rest = until(connection, b'\r\n\r\n').partition(b'\r\n\r\n')
    received = len(rest)
    while data := connection.recv(PART):
        received += len(data)
        yield data
    declared = re.search(rb'Content-Length: (\d+)', head)
    if declared is not None and received < int(declared[1]):
        raise EOFError('cut short')


CLIENTS: dict[str, Callable[[int, str], Body]] = {
    'geventnode': read_with_ours,
    'http.client': read_with_stdlib,
    'HTTP/1.0': read_as_1_0,
}


class Crowd:
    """All clients."""

    def __init__(self, port: int, count: int) -> None:
        self._missing = count
        self.all_begun = Event()
        self.found = {f'{body} {client}': Counter(complete=0, error=0) for body in BODIES for client in CLIENTS}
        kinds = itertools.cycle(itertools.product(BODIES, CLIENTS))
        self.greenlets = [gevent.spawn(self._read, port, *kind) for kind in itertools.islice(kinds, count)]

    def _read(self, port: int, body: str, client: str) -> None:
        outcomes = self.found[f'{body} {client}']
        parts = CLIENTS[client](port, f'/{body}')
        try:
            next(parts)
            self._begun()
            for _ in parts:
                pass
        except (OSError, EOFError, http.client.HTTPException) as error:
            outcomes['error'] += 1
            outcomes[type(error).__name__] += 1
        else:
            outcomes['complete'] += 1

    def _begun(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.all_begun.set()


def main() -> None:
    """Read, and tell."""
    crowd = Crowd(int(sys.argv[1]), int(sys.argv[2]))
    tell(begun=crowd.all_begun.wait(PATIENCE))
    ended = gevent.joinall(crowd.greenlets, timeout=PATIENCE)
    tell(outcomes=crowd.found, hanging=len(crowd.greenlets) - len(ended))


if __name__ == '__main__':
    main()
