"""Clients that read endless bodies until they are truncated.

    python bodies.py PORT COUNT

The kinds of body and the kinds of client are used in turn. Prints a line when all clients have a part of their body,
and one when all have ended: for each kind, how many took the body for complete and how many reported an error.
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
from connecting import connect, report, until
from gevent.event import Event

from geventnode import http as node

__all__ = ['BODIES', 'CLIENTS']

BODIES = ('length', 'chunked', 'close')
PART = 512

#: Seconds after which a client is considered to hang.
TIMEOUT = 60.0

#: Yields at every part; raises if the body is truncated.
Body = Iterator[object]


def read_with_geventnode(port: int, path: str) -> Body:
    """Read with the client of this package."""
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
    # reading a body with a length in parts does not raise at an early end
    if response.length:
        raise http.client.IncompleteRead(b'', response.length)


def read_as_1_0(port: int, path: str) -> Body:
    """Read as a client of HTTP/1.0, which has no chunks: all data until the connection ends."""
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
        raise EOFError('truncated')


CLIENTS: dict[str, Callable[[int, str], Body]] = {
    'geventnode': read_with_geventnode,
    'http.client': read_with_stdlib,
    'HTTP/1.0': read_as_1_0,
}


class Clients:
    """All clients, in greenlets."""

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
    """Read, and print the outcomes."""
    clients = Clients(int(sys.argv[1]), int(sys.argv[2]))
    report(begun=clients.all_begun.wait(TIMEOUT))
    ended = gevent.joinall(clients.greenlets, timeout=TIMEOUT)
    report(outcomes=clients.found, hanging=len(clients.greenlets) - len(ended))


if __name__ == '__main__':
    main()
