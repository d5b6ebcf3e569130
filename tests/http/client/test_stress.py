"""A thousand greenlets, twenty servers and random faults: all requests end, and nothing is left."""

from __future__ import annotations

import collections
import os
import random
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import GeventnodeError
from tests.origins import HELLO, Origin, Peer
from tests.sockets import until

HOSTS = [f'127.0.0.{number}' for number in range(1, 21)]
GREENLETS = 1000
ROUNDS = 1


class Quit(Exception):
    """An error to destroy requests with."""


def _script(chance: random.Random) -> Any:
    large = b'HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n' + bytes(200000)
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'
    closing = b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello'

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            what = chance.random()
            if what < 0.05:
                peer.abort()
                return
            if what < 0.1:
                return
            if what < 0.13:
                peer.send(HELLO[: chance.randint(1, len(HELLO) - 1)])
                return
            if what < 0.16:
                peer.send(b'garbage\r\n\r\n')
                return
            if what < 0.2:
                gevent.sleep(chance.random() / 50)
            peer.send(chance.choice([HELLO, HELLO, chunked, closing, large]))
            if what > 0.97:
                return

    return script


@pytest.fixture
def port(seed: int) -> Iterator[int]:
    """The port of an unreliable server, on every address of this machine."""
    everywhere = Origin(_script(random.Random(seed)), host='0.0.0.0')
    yield everywhere.port
    everywhere.stop()


def _one(chance: random.Random, agent: http.Agent, port: int) -> str:
    """Make one request, in one of many ways; return how it ended."""
    options: dict[str, Any] = {'agent': agent, 'host': chance.choice(HOSTS), 'port': port}
    if chance.random() < 0.1:
        options['timeout'] = 0.01
    if chance.random() < 0.05:
        options['deadline'] = 0.02
    if chance.random() < 0.05:
        options['queue_timeout'] = 0.01
    if chance.random() < 0.2:
        options |= {'method': 'POST', 'body': chance.choice(['x', ['x', 'y' * 70000]])}
    request = http.get(**options)
    what = chance.random()
    if what < 0.1:
        gevent.spawn_later(chance.random() / 100, request.abort)
    elif what < 0.2:
        gevent.spawn_later(chance.random() / 100, request.destroy, Quit())
    try:
        if what < 0.3:
            with gevent.Timeout(chance.random() / 50):
                response = request.get_response()
                response.read()
        elif what < 0.4:
            response = request.get_response()
            response.read(chance.randint(0, 10))
            return 'forgotten'
        elif what < 0.5:
            with request as response:
                response.read1()
        else:
            response = request.get_response()
            body = response.read()
            assert len(body) in (5, 200000)
            assert response.complete
    except (GeventnodeError, Quit, gevent.Timeout) as error:
        return type(error).__name__
    return 'complete'


def test_random_requests_all_end(seed: int, port: int) -> None:
    chance = random.Random(seed)
    descriptors = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0
    agent = http.Agent(keep_alive=True, max_sockets=10, max_total_sockets=100)
    ended: collections.Counter[str] = collections.Counter()

    def work(own: random.Random) -> None:
        for _ in range(ROUNDS):
            ended[_one(own, agent, port)] += 1

    workers = [gevent.spawn(work, random.Random(chance.random())) for _ in range(GREENLETS)]
    while not all(worker.dead for worker in workers):
        gevent.sleep(0.02)
        if chance.random() < 0.2:
            chance.choice(workers).kill(block=False)
    gevent.joinall(workers)
    failed = [worker.exception for worker in workers if worker.exception is not None]
    assert not failed
    assert ended['complete'] > GREENLETS / 10, ended
    until(lambda: not agent.sockets and not agent.requests)
    agent.destroy()
    until(lambda: agent.total_socket_count == 0)
    counted = agent.statistics()
    assert counted['opened'] == counted['closed']
    assert (agent.free_sockets, agent.sockets, agent.requests) == ({}, {}, {})
    if descriptors:
        # the side of the server ends by itself
        until(lambda: len(os.listdir('/proc/self/fd')) <= descriptors)
