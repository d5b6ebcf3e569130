"""The parser and the case files: verdict, status and messages, independent of the division of the bytes."""

from __future__ import annotations

import base64
import random
from dataclasses import replace

import pytest

from geventnode.protocol import Limits, Role
from tests.corpus.cases import OUR_RULINGS, Case, load
from tests.corpus.drive import Message, Outcome, bytewise, cut, drive, random_cuts

REQUESTS = load('requests')
RESPONSES = load('responses')
ATTACKS = load('attacks')
EVERYTHING = REQUESTS + RESPONSES + ATTACKS

#: Inputs up to this length are divided at each position.
SHORT = 300
RANDOM_RUNS = 4
NEXT = {
    'request': b'GET /next HTTP/1.1\r\nHost: next\r\n\r\n',
    'response': b'HTTP/1.1 204 Next\r\n\r\n',
}


def by_id(case: Case) -> str:
    return case.id


def run(case: Case, pieces=None, data: bytes | None = None, require_host: bool | None = None) -> Outcome:
    """Return the result of parsing a case."""
    if require_host is None:
        require_host = 'no-host' not in case.tags
    if pieces is None:
        pieces = [case.data if data is None else data]
    # A pooling client has one outstanding request, and checks for bytes after the response.
    pooled = 'reuse' in case.expect
    return drive(
        pieces,
        Role(case.kind),
        Limits(require_host=require_host),
        eof=case.eof,
        method='HEAD' if case.skip_body else 'GET',
        upgrade=case.asks_upgrade,
        stop_at_upgrade=case.has_rest,
        most=1 if pooled else None,
    )


def refused(case: Case, pieces=None) -> Outcome:
    """Return the result of parsing a case with an error that can depend on the end of the stream."""
    return run(replace(case, eof=True), pieces)


@pytest.mark.parametrize('case', EVERYTHING, ids=by_id)
def test_a_case_has_its_verdict_and_messages(case: Case, seed: int) -> None:
    """All checks of a case are in one test, as a test takes longer than most of them."""
    if case.verdict == 'reject':
        check_refused(case)
        check_that_an_error_is_the_last_word(case)
    else:
        check_accepted(case)
        check_that_another_message_may_follow(case)
    check_every_way_of_cutting(case, random.Random(f'{seed} {case.id}'))
    if 'no-host' in case.tags and case.verdict == 'accept':
        error = run(case, require_host=True).error
        assert error is not None
        assert error[1:3] == ('HPE_INVALID_HOST', 400)


# -- verdicts ---------------------------------------------------------------------------------------------------------


def check_refused(case: Case) -> None:
    outcome = refused(case)
    assert outcome.error is not None, outcome
    # An input that ends before the line end with the error is rejected because of its end.
    if outcome.error[1] != 'HPE_INVALID_EOF_STATE':
        assert outcome.error[2] in (case.statuses or {outcome.error[2]}), outcome
    if case.expect.get('served') is not None:
        assert outcome.served == case.expect['served']


def check_accepted(case: Case) -> None:
    outcome = run(case)
    if outcome.error is not None:
        # Both are valid, as limits are configurable.
        assert case.tags & {'limits', 'perf'}, outcome
        assert outcome.error[2] in case.expect['status']
        return
    if case.expect['messages'] is not None and case.verdict == 'accept':
        compare(case, outcome)
    if case.expect.get('served') is not None and outcome.messages[0].start[0] != 'CONNECT':
        assert outcome.served == case.expect['served']
    if case.has_rest:
        assert outcome.rest == base64.b64decode(case.expect['rest_b64'])
    if 'reuse' in case.expect:
        assert (outcome.messages[-1].keep_alive and outcome.at_boundary) is case.expect['reuse']


def compare(case: Case, outcome: Outcome) -> None:
    """Check that the messages are the expected ones, an incomplete one only as far as it is known."""
    wanted = [each for each in case.expect['messages'] if each['head_complete']]
    if case.expect['error']:
        # The source rejects further messages that this parser accepts.
        del outcome.messages[len(wanted) :]
    assert len(outcome.messages) == len(wanted)
    for message, want in zip(outcome.messages, wanted, strict=True):
        assert message.complete is want['complete'] or message.framing == 'UNTIL_CLOSE'
        if case.kind == 'request':
            assert message.start == (want['method'], want['url'])
        else:
            assert message.start == (want['status'], want.get('reason') or '')
        assert comparable(message.headers, case) == comparable(want['headers'], case)
        assert message.body == base64.b64decode(want['body_b64'])
        assert comparable(message.trailers, case) == comparable(want['trailers'], case)
        assert message.version == want.get('version', message.version)
        compare_handling(case, message, want)


def comparable(fields, case: Case) -> list[tuple[str, str]]:
    """Return the comparable part of ``fields``; one source drops names with an underscore."""
    return [(name.lower(), value) for name, value in fields if not case.id.startswith('gunicorn/') or '_' not in name]


def compare_handling(case: Case, message: Message, want) -> None:
    """Check the decisions about the connection that the source of the case has, too."""
    if not case.id.startswith('llhttp/'):
        return
    if message.framing != 'NONE':
        assert want['chunked'] is (message.framing == 'CHUNKED')
    # That parser reports the Content-Length of a CONNECT, and keep-alive for a change to another protocol.
    if message.start[0] == 'CONNECT':
        assert message.content_length is None
        return
    assert message.content_length == want['content_length']
    if message.complete:
        assert message.keep_alive is want['keep_alive']
        assert message.upgrade is want['upgrade']


# -- independence of the division -------------------------------------------------------------------------------------


def check_every_way_of_cutting(case: Case, chance: random.Random) -> None:
    whole = refused(case)
    assert refused(case, bytewise(case.data)) == whole
    if len(case.data) <= SHORT:
        for position in range(1, len(case.data)):
            assert refused(case, cut(case.data, (position,))) == whole, position
    for _ in range(RANDOM_RUNS):
        pieces = random_cuts(case.data, chance)
        assert refused(case, pieces) == whole, [len(piece) for piece in pieces]


# -- bytes after the case ---------------------------------------------------------------------------------------------


def check_that_an_error_is_the_last_word(case: Case) -> None:
    alone = run(case)
    if alone.error is None or alone.error[1] == 'HPE_INVALID_EOF_STATE':
        # The end of the input is the error, or a line end is missing, so that nothing can follow.
        return
    assert run(case, data=case.data + NEXT[case.kind]) == alone


def check_that_another_message_may_follow(case: Case) -> None:
    alone = run(case)
    last = alone.messages[-1] if alone.messages else None
    if last is None or not last.complete or not last.keep_alive or alone.rest or 'reuse' in case.expect:
        return
    if last.start[0] == 'CONNECT' or last.upgrade:
        return
    both = run(case, data=case.data + NEXT[case.kind], require_host=False)
    assert both.error is None
    assert both.messages[:-1] == alone.messages
    assert both.messages[-1].start in (('GET', '/next'), (204, 'Next'))


# -- the case files themselves ----------------------------------------------------------------------------------------


def test_rulings_refer_to_cases() -> None:
    assert set(OUR_RULINGS) <= {case.id for case in EVERYTHING}


def test_all_strict_cases_are_loaded() -> None:
    assert (len(REQUESTS), len(RESPONSES), len(ATTACKS)) == (155, 48, 162)
