"""A program that sends one request to each of many hosts, under a limit of descriptors.

    python -m tests.many_hosts WAY LIMIT HOSTS

Every address in 127/8 is a host. ``WAY`` names the client. The program exits with 0 if all hosts have responded.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable

import gevent
import requests

from geventnode import http
from geventnode.errors import ConnectError
from geventnode.integrations.requests import AgentAdapter

__all__ = ['WAYS', 'main']


def _host(number: int) -> str:
    return f'127.0.{number // 250}.{number % 250 + 1}'


def _ask_all(port: int, hosts: int, agent: http.Agent) -> None:
    for number in range(hosts):
        assert http.get(f'http://{_host(number)}:{port}/', agent=agent).get_response().read() == b'hello'


def _by_default(port: int, hosts: int) -> None:
    """Use an agent with its default limit, which is sufficient."""
    agent = http.Agent(keep_alive=True)
    _ask_all(port, hosts, agent)
    assert agent.statistics()['idle'] == 256


def _adapter(port: int, hosts: int) -> None:
    with requests.Session() as session:
        session.mount('http://', AgentAdapter())
        for number in range(hosts):
            assert session.get(f'http://{_host(number)}:{port}/').content == b'hello'


def _unlimited(port: int, hosts: int) -> None:
    """Run out of descriptors: idle connections are closed, the most recently used last."""
    agent = http.Agent(keep_alive=True, max_total_free_sockets=None)
    _ask_all(port, hosts, agent)
    assert agent.statistics()['idle'] > 0
    assert http.get(f'http://{_host(hosts - 1)}:{port}/', agent=agent).get_response().read() == b'hello'
    assert agent.statistics()['reused'] == 1


def _named(port: int, hosts: int) -> None:
    """Let the resolver run out of descriptors."""
    agent = http.Agent(keep_alive=True, max_total_free_sockets=None)
    _ask_all(port, hosts, agent)
    kept = _fill()
    try:
        assert http.get(f'http://localhost:{port}/', agent=agent, family=2).get_response().read() == b'hello'
    finally:
        for descriptor in kept:
            os.close(descriptor)


def _another_agent(port: int, hosts: int) -> None:
    """Close idle connections of one agent for a request of another."""
    _ask_all(port, hosts, http.Agent(keep_alive=True, max_total_free_sockets=None))
    kept = _fill()
    _ask_all(port, 1, http.Agent())
    for descriptor in kept:
        os.close(descriptor)


def _nothing_idle(port: int, hosts: int) -> None:
    """Check the error when no connection can be closed, for a name and for an address."""
    agent = http.Agent()
    for host in '127.0.0.1', 'localhost':
        kept = _fill()
        request = http.get(f'http://{host}:{port}/', agent=agent)
        with contextlib.suppress(ConnectError):
            request.get_response()
        for descriptor in kept:
            os.close(descriptor)
        assert getattr(request._failure, 'code', None) == 'EMFILE', request
    _ask_all(port, hosts, agent)


WAYS: dict[str, Callable[[int, int], None]] = {
    'by-default': _by_default,
    'adapter': _adapter,
    'unlimited': _unlimited,
    'named': _named,
    'another-agent': _another_agent,
    'nothing-idle': _nothing_idle,
}


def _fill() -> list[int]:
    """Open files until no descriptor is left."""
    opened = []
    while True:
        try:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return opened


def main(way: str, limit: str, hosts: str) -> None:
    """Send requests to ``hosts`` hosts with ``limit`` descriptors; the server is another process."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        server = http.create_server(lambda request, response: response.end('hello')).listen(0, '0.0.0.0')
        os.write(sending, str(server.address()['port']).encode())
        server.serve_forever()
    try:
        port = int(os.read(receiving, 10))
        # the descriptors of a loop and a resolver
        gevent.get_hub().resolver.gethostbyname('localhost')
        resource.setrlimit(resource.RLIMIT_NOFILE, 2 * (int(limit),))
        WAYS[way](port, int(hosts))
    finally:
        os.kill(child, signal.SIGKILL)


if __name__ == '__main__':
    main(*sys.argv[1:])
