"""The case files against a real server over real sockets, in all kinds of pieces.

Other tests check the result of the parser for each case. Here this result is the oracle for the server: a response for
each message, with the right length of body, then the error response or an open connection. The file itself has the
expected status, closing and number of served requests of each attack.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.protocol import Role
from tests.corpus.cases import Case, load
from tests.corpus.drive import Outcome, bytewise, drive, random_cuts
from tests.servers import Client, Response, Site, get

#: Longer inputs are not sent byte by byte.
SHORT = 2048

CASES = [case for name in ('requests', 'attacks') for case in load(name) if case.kind == 'request']

#: The code of the parser for a stream that ends too soon.
CUT_SHORT = 'HPE_INVALID_EOF_STATE'


def echo_length(request: Any, response: Any) -> None:
    """Respond with heads only, so that a client can parse them without knowing the request."""
    length = len(request.read())
    response.write_head(200, {'X-Length': length, 'Content-Length': 0})
    response.end()


@pytest.fixture(scope='module')
def site() -> Iterator[Site]:
    """Run one server for all cases."""
    found = Site(http.create_server(echo_length).listen(0, '127.0.0.1'))
    yield found
    found.close()


def by_id(case: Case) -> str:
    """Name a test."""
    return case.id


@pytest.mark.parametrize('case', CASES, ids=by_id)
def test_case_has_the_same_responses_in_any_pieces(site: Site, case: Case, seed: int) -> None:
    """Whole, byte by byte, and divided at random positions."""
    outcome = drive([case.data], Role.REQUEST, eof=True)
    chance = random.Random(f'{seed} {case.id}')
    ways = [[case.data], random_cuts(case.data, chance), random_cuts(case.data, chance)]
    if len(case.data) < SHORT:
        ways.append(bytewise(case.data))
    talks = [gevent.spawn(talk, site, case, outcome, pieces) for pieces in ways]
    gevent.joinall(talks, raise_error=True)


def talk(site: Site, case: Case, outcome: Outcome, pieces: list[bytes]) -> None:
    """Send ``pieces`` on a new connection, and check every response."""
    client = site.connect()
    half_closes = outcome.error is not None and outcome.error[1] == CUT_SHORT
    feeder = gevent.spawn(feed, client, pieces, half_closes)
    try:
        replies = check_served(client, outcome)
        if outcome.messages and outcome.messages[-1].start[0] == 'CONNECT':
            assert client.rest() == b''
            return
        if outcome.error is not None:
            replies.append(client.head())
            client.exactly(int(replies[-1].values('Content-Length')[0]))
            assert replies[-1].status == outcome.error[2]
        check_attack(case, replies, outcome)
        if outcome.error is not None or not outcome.messages or not outcome.messages[-1].keep_alive:
            assert not replies or replies[-1].closes
            if not replies:
                client.half_close()
            assert client.rest() == b''
        else:
            assert not replies[-1].closes
            # the complete messages are served, and the connection is in step
            client.send(get('/after'))
            assert client.head().values('X-Length') == ['0']
    finally:
        feeder.join()
        client.close()


def feed(client: Client, pieces: list[bytes], half_close: bool) -> None:
    """Send each piece so that it is received on its own, if the server still listens."""
    try:
        for piece in pieces:
            client.send(piece)
            gevent.sleep(0)
        if half_close:
            client.half_close()
    except OSError:
        # the response was sent, and the connection closed
        pass


def check_served(client: Client, outcome: Outcome) -> list[Response]:
    """Return the responses to all complete messages."""
    replies = []
    for message in outcome.messages:
        if not message.complete or message.start[0] == 'CONNECT':
            break
        reply = client.head()
        if reply.status == 100:
            reply = client.head()
        if message.expect not in (None, '100-continue'):
            assert reply.status == 417
        else:
            assert reply.status == 200
            assert reply.values('X-Length') == [str(len(message.body))]
        replies.append(reply)
    return replies


def check_attack(case: Case, replies: list[Response], outcome: Outcome) -> None:
    """Check the expectations that the file has for an attack."""
    expect = case.expect
    if case.verdict == 'reject' and case.statuses:
        assert replies[-1].status in case.statuses
    if expect.get('served') is not None:
        assert sum(reply.status == 200 for reply in replies) == expect['served']
    if expect.get('close') is not None and not case.tags & {'perf'}:
        assert replies[-1].closes is expect['close']
