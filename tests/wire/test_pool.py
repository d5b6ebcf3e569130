"""Attacks on clients and their pools: a rest of one response never becomes part of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import (
    ConnectError,
    GeventnodeError,
    IncompleteBody,
    InvalidHeader,
    InvalidInput,
    ParseError,
    SocketHangUp,
)
from tests.origins import HELLO, MakeOrigin, Peer, once, read, silent
from tests.sockets import until

MakeAgent = Callable[..., http.Agent]


@pytest.mark.parametrize('stray', [b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil', b'x', b'\r\n'])
def test_connection_with_stray_bytes_is_not_reused(origin: MakeOrigin, agent: MakeAgent, stray: bytes) -> None:
    """The response itself is valid."""
    server = origin(HELLO + stray)
    pool = agent(keep_alive=True)
    for _ in range(3):
        assert read(server.url, agent=pool) == b'hello'
    assert server.accepted == 3


def test_idle_connection_with_stray_bytes_is_closed(origin: MakeOrigin, agent: MakeAgent) -> None:
    peers: list[Peer] = []

    def script(peer: Peer) -> None:
        peers.append(peer)
        peer.request()
        peer.send(HELLO)
        peer.closed()

    server = origin(script)
    pool = agent(keep_alive=True)
    assert read(server.url, agent=pool) == b'hello'
    peers[0].send(b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil')
    until(lambda: not pool.free_sockets)
    assert read(server.url, agent=pool) == b'hello'


@pytest.mark.parametrize(
    'said',
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n',
    ],
)
def test_incomplete_body_raises(origin: MakeOrigin, said: bytes) -> None:
    response = http.get(origin(once(said)).url).get_response()
    with pytest.raises(IncompleteBody):
        response.read()
    assert not response.complete
    assert response.aborted


@pytest.mark.parametrize(
    'fields',
    [
        b'Content-Length: 5\r\nTransfer-Encoding: chunked',
        b'Content-Length: 5\r\nContent-Length: 6',
        b'Content-Length: -5',
        b'Content-Length: 5\r\nContent-Length: 5x',
        b'Transfer-Encoding: chunked, gzip',
        b'Transfer-Encoding: \x0bchunked',
    ],
)
def test_doubtful_framing_raises(origin: MakeOrigin, agent: MakeAgent, fields: bytes) -> None:
    pool = agent(keep_alive=True)
    with pytest.raises(ParseError):
        read(origin(b'HTTP/1.1 200 OK\r\n' + fields + b'\r\n\r\nhello').url, agent=pool)
    assert not pool.free_sockets


def test_connection_that_ends_a_body_is_not_kept(origin: MakeOrigin, agent: MakeAgent) -> None:
    pool = agent(keep_alive=True)
    assert read(origin(once(b'HTTP/1.1 200 OK\r\n\r\nall of it')).url, agent=pool) == b'all of it'
    assert not pool.free_sockets


@pytest.mark.parametrize(('method', 'status'), [('HEAD', 200), ('GET', 204), ('GET', 304)])
def test_body_of_a_bodiless_response_is_not_the_next_response(
    origin: MakeOrigin, agent: MakeAgent, method: str, status: int
) -> None:
    server = origin(b'HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\nstray' % status)
    pool = agent(keep_alive=True)
    for _ in range(2):
        assert http.request(server.url, method=method, agent=pool).end().get_response().read() == b''
    assert server.accepted == 2


def test_unexpected_101_fails(origin: MakeOrigin) -> None:
    with pytest.raises(ParseError, match='101'):
        read(origin(b'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n').url)


@pytest.mark.parametrize(
    'interim',
    [b'HTTP/1.1 100 Continue\r\n\r\n' * 100, b'HTTP/1.1 103 Early Hints\r\n' + b'Link: x\r\n' * 3000 + b'\r\n'],
)
def test_flood_of_informational_responses_fails(origin: MakeOrigin, interim: bytes) -> None:
    with pytest.raises(ParseError):
        read(origin(interim + HELLO).url)


def test_endless_trailers_fail(origin: MakeOrigin) -> None:
    said = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n' + b'X: y\r\n' * 5000
    with pytest.raises(ParseError):
        read(origin(once(said)).url)


def test_request_on_a_closed_connection_is_sent_again(origin: MakeOrigin, agent: MakeAgent) -> None:
    """Only once, and only if that is safe."""
    server = origin(once(HELLO))
    pool = agent(keep_alive=True)
    for _ in range(3):
        assert read(server.url, agent=pool) == b'hello'


def test_request_that_is_not_idempotent_is_not_sent_twice(origin: MakeOrigin, agent: MakeAgent) -> None:
    asked: list[str] = []

    def script(peer: Peer) -> None:
        asked.append(peer.request().line)
        peer.send(HELLO)
        asked.append(peer.request().line)

    server = origin(script)
    pool = agent(keep_alive=True)
    assert read(server.url, agent=pool) == b'hello'
    with pytest.raises(SocketHangUp):
        http.request(server.url, method='POST', body=b'x', agent=pool).get_response()
    assert [line.split()[0] for line in asked] == ['GET', 'POST']


def test_credentials_stay_with_their_host(origin: MakeOrigin) -> None:
    """Redirects are not followed, so nothing is sent to another host."""
    said = b'HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n'
    response = http.get(origin(said).url, auth='user:password').get_response()
    assert response.status_code == 302


@pytest.mark.parametrize('outcome', ['ok', 'before', 'after', 'timeout', 'parse', 'refused', 'queued'])
def test_no_outcome_leaves_resources(origin: MakeOrigin, agent: MakeAgent, outcome: str) -> None:
    pool = agent(max_sockets=1)
    script: Any = {
        'ok': HELLO,
        'parse': b'garbage\r\n\r\n',
        'after': once(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf', 'wait'),
    }.get(outcome, silent)
    server = origin(script)
    url = server.url
    if outcome == 'refused':
        server.stop()
    options = {'timeout': 0.02} if outcome == 'timeout' else {}
    request = http.get(url, agent=pool, **options)
    if outcome == 'queued':
        http.get(url, agent=pool).destroy()
    try:
        if outcome in ('before', 'queued'):
            gevent.idle()
            request.abort()
        else:
            response = request.get_response()
            if outcome == 'after':
                response.destroy()
            else:
                response.read()
    except (GeventnodeError, ConnectError):
        assert outcome in ('timeout', 'parse', 'refused')
    until(lambda: not pool.total_socket_count)
    assert (pool.sockets, pool.free_sockets, pool.requests) == ({}, {}, {})


# -- sent bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'options',
    [
        {'method': 'GET /x HTTP/1.1\r\nX:'},
        {'method': 'GET\r\n'},
        {'path': '/a b'},
        {'path': '/\r\nX: y'},
        {'path': '/\x00'},
        {'path': '/ä'},
        {'host': 'a\r\nX: y'},
        {'host': 'a b'},
        {'host': 'user@host'},
        {'headers': {'Host': 'a/b'}},
        {'headers': {'Host': 'a\r\nb'}},
        {'headers': {'X': 'a\nb'}},
        {'headers': {'X': '\u010a'}},
        {'headers': {'X\r\n': 'a'}},
        {'headers': {'X': 'a\x00'}},
        {'headers': {'Content-Length': '5x'}},
        {'method': 'CONNECT', 'path': 'a:1\r\nX: y'},
    ],
)
def test_request_cannot_be_split(options: dict[str, Any]) -> None:
    with pytest.raises((InvalidInput, InvalidHeader)):
        http.request(**{'host': 'localhost', **options})


def test_url_cannot_split_a_request() -> None:
    for url in ('http://localhost/\r\nX: y', 'http://localhost/ HTTP/1.1', 'http://local\thost/', 'http://a\x00b/'):
        with pytest.raises(InvalidInput):
            http.get(url)


def test_request_never_has_both_framings() -> None:
    with pytest.raises(InvalidHeader):
        http.request(
            'http://localhost',
            method='POST',
            headers={'Content-Length': '5', 'Transfer-Encoding': 'chunked'},
            body=b'hello',
        )
