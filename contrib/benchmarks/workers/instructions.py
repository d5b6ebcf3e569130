"""Do fixed work in one process, with marks between which valgrind counts instructions.

    valgrind --tool=callgrind --dump-before=getppid python instructions.py [NAME...]

Does all works, or those with the names. Prints one line of JSON: the names of the works, and the units in one window of
each. Each window is between two calls of ``os.getppid``, which no other code calls; valgrind reads and resets the
counter at each. Server and load run in this process, so that the counts do not depend on scheduling. The load is a few
plain calls for each request, the same for every version of the package.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(1, str(Path(__file__).parent.parent / 'servers'))

import gevent
from bench.driving import item
from bench.requests import FIRST_ITEM, ITEMS, browser_request, item_request
from gevent.socket import socket as gevent_socket
from geventnode_server import handle
from wsgi_application import application

from geventnode import http
from geventnode.http.server import connection, run_queue
from geventnode.integrations.wsgi import wsgi
from geventnode.protocol import Limits, Parser, Role

__all__ = ['WINDOWS', 'Work', 'works']

CONNECTIONS = 16
ROUNDS = 2
ASKED = 32
#: Windows of each work; the smallest count excludes occasional work, such as a new Date.
WINDOWS = 3
#: Runs before the windows: caches fill, pools grow, and the interpreter specialises frequent code.
WARM_UP = 2
PIPELINED = 16
LONG = 3600.0
PARSED = 300
SMALL = b'{"text": "' + b'x' * 1012 + b'"}'
SHORT_REQUEST = b'GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n'
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world'
#: A response of nginx, with an id of its own.
OWN_ANSWER = (
    b'HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 29 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n'
    b'Content-Length: 11\r\nConnection: keep-alive\r\nX-Request-Id: %032x\r\n\r\nhello world'
)


class Work(NamedTuple):
    """A piece of work to count."""

    name: str
    units: int
    run: Callable[[], None]


# -- works ------------------------------------------------------------------------------------------------------------


def works(stack: ExitStack) -> Iterator[Work]:
    """Yield every work, ready to run; ``stack`` closes its servers and connections."""
    yield Work('reference', 1, reference)
    yield Work('parser, same bytes', PARSED, partial(parse, repeat(browser_request())))
    # made now, so that only the parser is counted
    fresh = [browser_request(number) for number in range(1, PARSED * (WARM_UP + WINDOWS) + 1)]
    yield Work('parser, other cookie', PARSED, partial(parse, iter(fresh)))
    site = http.create_server(handle)
    yield served(stack, 'hello, 1 header', site, SHORT_REQUEST)
    yield served(stack, 'hello, 12 headers', site, browser_request())
    yield served(stack, 'hello, pipelined', site, SHORT_REQUEST * PIPELINED, PIPELINED)
    yield served(stack, 'JSON of 1 KiB read', site, post('/read', SMALL))
    yield served(stack, 'JSON of 16 KiB sent', site, SHORT_REQUEST.replace(b' / ', b' /json '))
    yield served(stack, 'chunked, 10 writes', site, SHORT_REQUEST.replace(b' / ', b' /chunks '))
    yield served(stack, 'WSGI, 12 headers', http.create_server(wsgi(application)), browser_request())
    yield asked(stack)
    # nothing alike: each request is made in advance, and sent once
    numbers = islice(count(FIRST_ITEM), PARSED * (WARM_UP + WINDOWS))
    yield Work('parser, nothing alike', PARSED, partial(parse, iter([item_request(number) for number in numbers])))
    yield unlike(stack, 'listener, nothing alike', http.create_server(handle))
    yield unlike(stack, 'WSGI, nothing alike', http.create_server(wsgi(application)))
    yield asked_unlike(stack)


def reference() -> None:
    """Use calls, dicts, lists and text, as usual Python code does.

    Counts are compared as multiples of this one, because builds of an interpreter differ.
    """
    found: dict[str, list[str]] = {}
    for number in range(4000):
        name, _, value = f'name-{number & 63}: {number}'.partition(': ')
        found.setdefault(name.lower(), []).append(value.strip())
    for values in found.values():
        ','.join(values).encode('latin-1').find(b'19999')


def parse(requests: Iterator[bytes]) -> None:
    """Parse heads, and look one field up in each."""
    parser = Parser(Role.REQUEST, Limits())
    for data in islice(requests, PARSED):
        parser.feed(data)
        head: Any = parser.next_event()
        head.headers['user-agent']


def post(path: str, body: bytes) -> bytes:
    """Return a request with a body."""
    return (
        f'POST {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n'
        f'Content-Length: {len(body)}\r\n\r\n'
    ).encode() + body


# -- a server under load ----------------------------------------------------------------------------------------------


def connected(stack: ExitStack, server: http.Server) -> list[socket.socket]:
    """Return non-blocking connections to ``server``, which listens afterwards."""
    if not server.listening:
        stack.enter_context(server)
        server.listen(0, '127.0.0.1')
    where = ('127.0.0.1', server.address()['port'])
    clients = [stack.enter_context(socket.create_connection(where)) for _ in range(CONNECTIONS)]
    for client in clients:
        client.setblocking(False)
    return clients


def served(stack: ExitStack, name: str, server: http.Server, request: bytes, requests: int = 1) -> Work:
    """Return the work of responding to ``request``, which contains ``requests``, on kept connections."""
    clients = connected(stack, server)
    clients[0].send(request)
    expected = len(received(clients[0]))
    return Work(name, CONNECTIONS * ROUNDS * requests, partial(load, clients, request, expected))


def received(client: socket.socket) -> bytes:
    """Return the data that arrives on a connection until it is idle."""
    answer, silent = b'', 0
    while silent < 100:
        gevent.idle()
        try:
            answer += client.recv(65536)
            silent = 0
        except BlockingIOError:
            silent += 1
    if not answer.startswith(b'HTTP/1.1 200 OK\r\n'):
        raise ValueError(f'answered {answer[:1000]!r}')
    return answer


def unlike(stack: ExitStack, name: str, server: http.Server) -> Work:
    """Return the work of responding to requests of which no two are alike."""
    clients = connected(stack, server)
    requests = iter([item_request(number) for number in range(FIRST_ITEM, FIRST_ITEM + ITEMS)])
    clients[0].send(item_request(FIRST_ITEM - 1))
    received(clients[0])
    return Work(name, CONNECTIONS * ROUNDS, partial(load_items, clients, requests))


def load_items(clients: list[socket.socket], requests: Iterator[bytes]) -> None:
    """Send another request on every connection, then take every response, some times over."""
    for _ in range(ROUNDS):
        for client in clients:
            client.send(next(requests))
        gevent.idle()
        for client in clients:
            data = b''
            while not data.endswith(b'"}'):
                try:
                    data += client.recv(65536)
                except BlockingIOError:
                    gevent.idle()


def load(clients: list[socket.socket], request: bytes, expected: int) -> None:
    """Send on every connection, then receive every response, several times. Blocks until it is done."""
    for _ in range(ROUNDS):
        for client in clients:
            client.send(request)
        gevent.idle()
        for client in clients:
            missing = expected
            while missing:
                try:
                    data = client.recv(missing)
                except BlockingIOError:
                    gevent.idle()
                else:
                    if not data:
                        raise ConnectionError('the server has closed a connection')
                    missing -= len(data)


# -- a client ---------------------------------------------------------------------------------------------------------


def asked(stack: ExitStack) -> Work:
    """Return the work of requests to a server that only sends bytes."""
    url, agent = answering(stack, lambda: ANSWER)

    def ask() -> None:
        # one after the other: for several at once, the number of turns of the loop depends on the kernel
        for _ in range(ASKED):
            http.get(url, agent=agent).get_response().read()

    return Work('client, GET', ASKED, ask)


def asked_unlike(stack: ExitStack) -> Work:
    """Return the work of requests of which no two are alike, with responses of which no two are."""
    identifiers = count(1)
    url, agent = answering(stack, lambda: OWN_ANSWER % next(identifiers))
    numbers = count(1)

    def ask() -> None:
        for _ in range(ASKED):
            where, fields = item(url, next(numbers))
            http.get(where, agent=agent, headers=fields).get_response().read()

    return Work('client, nothing alike', ASKED, ask)


def answering(stack: ExitStack, make: Callable[[], bytes]) -> tuple[str, http.Agent]:
    """Return the URL of a server that sends the result of ``make``, and an agent."""
    listener = stack.enter_context(gevent_socket())
    listener.bind(('127.0.0.1', 0))
    listener.listen()
    stack.callback(gevent.spawn(accept, listener, make).kill)
    agent = http.Agent(keep_alive=True)
    stack.callback(agent.destroy)
    return f'http://127.0.0.1:{listener.getsockname()[1]}/', agent


def accept(listener: gevent_socket, make: Callable[[], bytes]) -> None:
    """Accept connections."""
    while True:
        gevent.spawn(respond, listener.accept()[0], make)


def respond(peer: gevent_socket, make: Callable[[], bytes]) -> None:
    """Respond to each request, which arrives in one piece."""
    with peer:
        while peer.recv(4096):
            peer.sendall(make())


def main() -> None:
    """Run each work, first to warm up and then in its windows."""
    # connections yield after a millisecond, which under valgrind would be after each request
    connection.ROUND_TIME = run_queue.SLICE = LONG
    done = []
    with ExitStack() as stack:
        for work in works(stack):
            if sys.argv[1:] and work.name not in sys.argv[1:]:
                continue
            for _ in range(WARM_UP):
                work.run()
            gc.collect()
            gc.freeze()
            for _ in range(WINDOWS):
                os.getppid()
                work.run()
                os.getppid()
            done.append((work.name, work.units))
    print(json.dumps(done))


if __name__ == '__main__':
    main()
