"""A program that starts child processes while connections are open: ``python -m tests.forking WAY WHAT...``.

``GEVENT_LOOP`` selects the loop, which one process cannot change for itself, and :data:`WAYS` names how the child is
started. ``WHAT`` is ``plain``, ``tls``, ``thread`` (the server runs in its own thread) or ``waiting`` (exchanges that
wait while the process forks). The program exits with 0 if the child has not affected the parent.
"""

from __future__ import annotations

import sys

if __name__ == '__main__' and not sys.argv[1].startswith('unpatched'):
    from gevent import monkey

    monkey.patch_all()

import multiprocessing
import os
import socket as stdlib
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import gevent
import requests
from gevent import socket
from gevent import ssl as gevent_ssl
from gevent.event import Event

from geventnode import http, https, net
from geventnode.errors import InheritedConnection
from geventnode.integrations.requests import AgentAdapter
from tests.certificates import tls_certificates

__all__ = ['WAYS', 'main']

#: Seconds after which the program fails.
GUARD = 30


# -- children -------------------------------------------------------------------------------------------------------


def _run_true() -> int:
    return subprocess.run(['true'], check=False).returncode


def _run_true_prepared() -> int:
    return subprocess.run(['true'], check=False, preexec_fn=int).returncode


def _fork() -> int:
    child = os.fork()
    if not child:
        os._exit(_ends_well(_serve_itself))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _multiprocessing() -> int:
    process = multiprocessing.get_context('fork').Process(target=_serve_itself)
    process.start()
    process.join()
    return -1 if process.exitcode is None else process.exitcode


def _serve_itself() -> None:
    """Serve and request in the child."""
    with http.create_server(lambda request, response: response.end('child')).listen(0, '127.0.0.1') as server:
        assert http.get(f'http://127.0.0.1:{server.address()["port"]}/').get_response().read() == b'child'


def _ends_well(function: Callable[[], object]) -> int:
    try:
        function()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


#: How a child is started; each waits for it and returns its exit status.
WAYS: dict[str, Callable[[], int]] = {
    'subprocess': _run_true,
    'preexec_fn': _run_true_prepared,
    'fork': _fork,
    'multiprocessing': _multiprocessing,
    'unpatched-fork': _fork,
    'unpatched-preexec_fn': _run_true_prepared,
}


# -- the parent -----------------------------------------------------------------------------------------------------


class Client:
    """Send and receive bytes on one connection."""

    def __init__(self, port: int, context: Any) -> None:
        self._socket: Any = socket.create_connection(('127.0.0.1', port))
        self._socket.settimeout(GUARD)
        if context is not None:
            self._socket = context.wrap_socket(self._socket, server_hostname='localhost')

    def get(self) -> bytes:
        """Return the response to a GET."""
        self._socket.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
        received = b''
        while not received.endswith(b'hello'):
            more = self._socket.recv(65536)
            assert more, received
            received += more
        return received


def _check_parent(start_child: Callable[[], int], tls: bool) -> None:
    """Check that the connections from before the fork continue, and that new ones are accepted."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/wait':
            go_on.wait()
        response.end('hello' if request.url != '/child' else str(start_child()))

    files = tls_certificates()
    context = None
    if tls:
        context = gevent_ssl.SSLContext(gevent_ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(files.ca)
    server: Any = https.create_server(listener, certfile=files.server) if tls else http.create_server(listener)
    server.listen(0, '127.0.0.1')
    port = server.address()['port']
    agent = https.Agent(keep_alive=True, ca=files.ca) if tls else http.Agent(keep_alive=True)
    url = f'http{"s" if tls else ""}://localhost:{port}'
    get = https.get if tls else http.get

    def ask(path: str) -> Any:
        return get(url + path, agent=agent, family=stdlib.AF_INET)

    raw = Client(port, context)
    assert raw.get()
    waiting = ask('/wait')
    assert ask('/').get_response().read() == b'hello'
    try:
        status = ask('/child').get_response().read()
    except InheritedConnection:
        # this is the child, and its copy of the request
        Event().wait()
    assert status == b'0'
    for _ in range(2):
        assert raw.get()
        assert ask('/').get_response().read() == b'hello'
    assert Client(port, context).get()
    go_on.set()
    assert waiting.get_response().read() == b'hello'
    assert agent.statistics()['opened'] == 2, agent.statistics()
    agent.destroy()
    server.stop(0)


def _check_thread(start_child: Callable[[], int], tls: bool) -> None:
    """Check a server that runs in a thread, on its own loop."""
    found: list[Any] = []
    listening, stop = threading.Event(), threading.Event()

    def run() -> None:
        server = http.create_server(lambda request, response: response.end('hello')).listen(0, '127.0.0.1')
        found.append(server.address()['port'])
        listening.set()
        while not stop.is_set():
            gevent.sleep(0.01)
        server.stop(0)
        gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=run)
    thread.start()
    listening.wait()
    raw = Client(found[0], None)
    assert raw.get()
    assert start_child() == 0
    assert raw.get()
    assert Client(found[0], None).get()
    stop.set()
    thread.join()


# -- waiting exchanges ----------------------------------------------------------------------------------------------


class Waiting:
    """Run exchanges of every kind that wait, each in a greenlet."""

    def __init__(self) -> None:
        self.go_on = Event()
        self.received: list[str] = []
        self.told: list[BaseException] = []
        self.server = http.create_server(self._listener).listen(0, '127.0.0.1')
        self.url = f'http://127.0.0.1:{self.server.address()["port"]}'
        #: Accepts, and responds to no handshake.
        self.deaf = socket.socket()
        self.deaf.bind(('127.0.0.1', 0))
        self.deaf.listen()
        self.one, self.many = http.Agent(max_sockets=1), http.Agent(max_sockets=99)
        self.reserved = http.Agent(max_sockets=1)
        self.secure = https.Agent(ca=tls_certificates().ca)
        self.greenlets = {
            name: gevent.spawn(getattr(self, name))
            for name in (
                'response',
                'queue',
                'body',
                'event',
                'connect',
                'upload',
                'socket',
                'handshake',
                'session',
                'holder',
                'reservation',
            )
        }
        self.accepted, _ = self.deaf.accept()
        assert self.accepted.recv(1)
        awaited = {'/response', '/body', '/event', '/upload', '/socket', '/session', '/holder', 'begun'}
        self._until(lambda: awaited <= set(self.received))
        self._until(lambda: self.one.statistics()['queued'] == self.reserved.statistics()['queued'] == 1)
        self._until(lambda: self.upload_request.writable_length >= self.upload_request.writable_high_water_mark)
        gevent.idle()

    def _until(self, true: Callable[[], object]) -> None:
        while not true():
            gevent.sleep(0.001)

    def _listener(self, request: Any, response: Any) -> None:
        self.received.append(request.url)
        if request.method != 'POST':
            response.write_head(200, {'Content-Length': '5'})
            if request.url == '/body':
                response.write('he')
            self.go_on.wait()
            response.end('llo' if request.url == '/body' else 'hello')
        else:
            self.go_on.wait()
            for _ in request:
                pass
            response.end('hello')

    def _ask(self, path: str, agent: Any, **options: Any) -> Any:
        return http.get(self.url + path, agent=agent, **options).get_response().read()

    def response(self) -> Any:
        """Read a response."""
        return self._ask('/response', self.one)

    def queue(self) -> Any:
        """Wait for the connection of another request."""
        return self._ask('/queue', self.one)

    def body(self) -> Any:
        """Read a body from its middle on."""
        with http.get(f'{self.url}/body', agent=self.many) as response:
            begun = response.read(2)
            self.received.append('begun')
            return begun + response.read()

    def event(self) -> Any:
        """Listen."""
        request = http.get(f'{self.url}/event', agent=self.many)
        done = Event()
        request.on('error', self.told.append)
        request.on('close', done.set)
        request.on('response', lambda response: response.on('error', self.told.append).on('end', done.set).resume())
        done.wait()
        if self.told:
            raise self.told[0]
        return b'hello'

    def connect(self) -> Any:
        """Wait for a connection of the user's function."""

        def create(options: Any) -> Any:
            self.go_on.wait()
            return net.connect(options['port'], options['host'])

        return self._ask('/connect', self.many, create_connection=create)

    def upload(self) -> Any:
        """Send a body that blocks."""

        def pieces() -> Any:
            while not self.go_on.is_set():
                yield b'x' * 65536

        self.upload_request = http.request(f'{self.url}/upload', method='POST', agent=self.many)
        return self.upload_request.end(pieces()).get_response().read()

    def socket(self) -> Any:
        """Read from a socket without an agent."""
        with net.connect(self.server.address()['port'], '127.0.0.1') as made:
            made.end('GET /socket HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
            return made.read()[-5:]

    def handshake(self) -> Any:
        """Wait for a handshake that never ends."""
        return https.get(f'https://127.0.0.1:{self.deaf.getsockname()[1]}/', agent=self.secure).get_response()

    def session(self) -> Any:
        """Send a request with ``requests``."""
        with requests.Session() as session:
            session.mount('http://', AgentAdapter())
            return session.get(f'{self.url}/session').content

    def holder(self) -> Any:
        """Read a response on a reserved connection."""
        with self.reserved.reserve(self.url) as agent:
            return self._ask('/holder', agent)

    def reservation(self) -> Any:
        """Wait for a reserved connection."""
        with self.reserved.reserve(self.url) as agent:
            return self._ask('/reservation', agent)

    # -- afterwards ---------------------------------------------------------------------------------------------------

    def check_child(self) -> None:
        """Check that each has ended in the error of a fork."""
        gevent.joinall(list(self.greenlets.values()))
        for name, greenlet in self.greenlets.items():
            assert isinstance(greenlet.exception, OSError), (name, greenlet.value)
            assert 'process' in str(greenlet.exception), (name, greenlet.exception)
        assert len(self.told) == 1, self.told

    def check_parent(self) -> None:
        """Check that each gets its result."""
        assert not [name for name, greenlet in self.greenlets.items() if greenlet.ready()]
        self.greenlets.pop('handshake').kill()
        self.deaf.close()
        self.go_on.set()
        assert [greenlet.get()[-5:] for greenlet in self.greenlets.values()] == [b'hello'] * 10


def _check_waiting(start_child: Callable[[], int], tls: bool) -> None:
    waiting = Waiting()
    child = os.fork()
    if not child:
        os._exit(_ends_well(waiting.check_child))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    waiting.check_parent()


CHECKS = {'plain': _check_parent, 'tls': _check_parent, 'thread': _check_thread, 'waiting': _check_waiting}


def main(way: str, *checks: str) -> None:
    """Run the named checks, with children that are started in the way called ``way``."""
    with gevent.Timeout(GUARD):
        for name in checks:
            CHECKS[name](WAYS[way], name == 'tls')


if __name__ == '__main__':
    main(*sys.argv[1:])
