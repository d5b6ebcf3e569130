"""The response cases of the corpus, and random bytes, against the client over a real socket."""

from __future__ import annotations

import base64
import random
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import GeventnodeError
from tests.corpus.cases import Case, load
from tests.origins import HELLO, MakeOrigin, Peer
from tests.sockets import settle, until

CASES = [case for name in ('responses', 'attacks') for case in load(name) if case.kind == 'response']
#: Valid beginnings of responses that the server closes before their end.
UNFINISHED = frozenset({'attack/c-cl-huge'})
UPGRADE = {'Connection': 'Upgrade', 'Upgrade': 'x'}


def exchange(url: str, agent: http.Agent, **options: Any) -> tuple[Any, bytes]:
    """Return the response to a request and its whole body."""
    response = http.get(url, agent=agent, **options).get_response()
    if response.upgrade:
        with response.socket as socket:
            return response, response.head + socket.read()
    return response, response.read()


@pytest.mark.parametrize('case', CASES, ids=[case.id for case in CASES])
@pytest.mark.parametrize('cut', ['whole', 'random'])
def test_response_case_of_the_corpus(origin: MakeOrigin, agent: Any, case: Case, cut: str, seed: int) -> None:
    chance = random.Random(seed)

    def script(peer: Peer) -> None:
        peer.request()
        rest = case.data
        while rest:
            size = len(rest) if cut == 'whole' else chance.randint(1, max(len(rest) // 10, 20))
            peer.send(rest[:size])
            rest = rest[size:]
            gevent.idle()
        settle()

    pool = agent(keep_alive=True)
    options: dict[str, Any] = {'method': 'HEAD'} if case.skip_body else {}
    if case.asks_upgrade:
        options['headers'] = UPGRADE
    url = origin(script).url
    final = next(
        (
            message
            for message in case.expect.get('messages') or ()
            if message.get('status', 200) >= 200 or message.get('upgrade')
        ),
        {},
    )
    unfinished = case.id in UNFINISHED or (final.get('complete') is False and not final.get('body_until_eof'))
    if case.verdict == 'accept' and not unfinished:
        response, body = exchange(url, pool, **options)
        assert response.complete
        assert final.get('status') in (None, response.status_code)
        if final.get('body_b64') is not None and not response.upgrade:
            assert body == base64.b64decode(final['body_b64'])
    elif case.verdict == 'reject' and final.get('complete'):
        # the fault follows a valid response
        assert exchange(url, pool, **options)[0].complete
    else:
        with pytest.raises(GeventnodeError):
            exchange(url, pool, **options)
    # in any case the server has ended the connection, and no pool has it
    until(lambda: pool.total_socket_count == 0)


def test_random_bytes_end_in_one_error_or_response(origin: MakeOrigin, agent: Any, seed: int) -> None:
    """Nothing is left afterwards."""
    chance = random.Random(seed)
    pool = agent(keep_alive=True, max_sockets=3)

    def script(peer: Peer) -> None:
        peer.request()
        said = bytearray(
            chance.choice(
                [
                    HELLO,
                    HELLO * 2,
                    b'HTTP/1.1 100 Continue\r\n\r\n' + HELLO,
                    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
                    b'HTTP/1.1 204 No Content\r\n\r\n',
                ]
            )
        )
        for _ in range(chance.randint(0, 4)):
            where = chance.randrange(len(said))
            if chance.random() < 0.5:
                said[where] = chance.randrange(256)
            else:
                del said[where : where + chance.randint(1, 5)]
        peer.send(bytes(said))
        if chance.random() < 0.3:
            peer.abort()

    server = origin(script)

    def ask() -> str:
        try:
            response, _ = exchange(server.url, pool)
        except GeventnodeError as error:
            return type(error).__name__
        return str(response.status_code)

    asked = [gevent.spawn(ask) for _ in range(300)]
    gevent.joinall(asked)
    assert all(each.successful() for each in asked), [each.exception for each in asked]
    settle()
    assert (pool.sockets, pool.requests) == ({}, {})
