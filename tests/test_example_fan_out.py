"""The fan-out aggregator of the examples: streaming, the limit of connections, and clients that disconnect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gevent.event import Event

from contrib.examples import fan_out
from geventnode import http
from tests.origins import read
from tests.servers import Log, Serve
from tests.sessions import agent_of


def test_example_prints_its_times(capsys: pytest.CaptureFixture[str]) -> None:
    fan_out.main()
    printed = capsys.readouterr().out.splitlines()
    assert len({json.loads(line)['body'] for line in printed[:-1]}) == 50
    assert printed[-1].startswith('50 requests: ')


def test_responses_are_passed_on_as_they_arrive(serve: Serve) -> None:
    """A failed upstream request does not delay the others."""
    last = Event()

    def upstream(request: Any, response: Any) -> None:
        if request.url == '/last':
            last.wait()
        response.end(request.url)

    address = f'http://127.0.0.1:{serve(upstream).where[1]}'
    with fan_out.create_session() as session:
        site = serve(fan_out.create_aggregator(session, [f'{address}/last', 'http://127.0.0.1:1/', f'{address}/first']))
        with http.get(f'http://127.0.0.1:{site.where[1]}') as response:
            answers = response.makefile()
            early = [json.loads(answers.readline()) for _ in range(2)]
            last.set()
            assert json.loads(answers.readline())['body'] == '/last'
    assert sorted(answer.get('body') or answer['error'] for answer in early) == ['/first', 'ConnectionError']


def test_limit_is_for_all_requests_together(serve: Serve) -> None:
    now: list[int] = []
    most: list[int] = []

    def upstream(request: Any, response: Any) -> None:
        now.append(1)
        most.append(len(now))
        fan_out.gevent.idle()
        now.pop()
        response.end()

    address = f'http://127.0.0.1:{serve(upstream).where[1]}/'
    with fan_out.create_session() as session:
        site = serve(fan_out.create_aggregator(session, [address] * 60))
        assert read(f'http://127.0.0.1:{site.where[1]}').count(b'\n') == 60
    assert max(most) <= fan_out.MAX_SOCKETS


def test_disconnect_cancels_upstream_requests(serve: Serve) -> None:
    """Its upstream requests are cancelled at the next write to it."""
    received, closed, answer, over = Log(), Log(), Event(), Event()

    def upstream(request: Any, response: Any) -> None:
        received.append(request.url)
        response.on('close', closed.note(request.url))
        if request.url == '/slow':
            over.wait()
        answer.wait()
        response.end('x' * 10_000_000)

    address = f'http://127.0.0.1:{serve(upstream).where[1]}'
    with fan_out.create_session() as session:
        site = serve(fan_out.create_aggregator(session, [f'{address}/slow', f'{address}/large']))
        client = site.send(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
        received.wait_for_length(2)
        client.abort()
        answer.set()
        closed.wait_for('/slow')
        over.set()
        assert agent_of(session).statistics()['active'] == 0
