"""Fuzz the client over connections in memory, from the request through the agent to the end of the response.

Rules: Each request has exactly one outcome, the one that the parser alone predicts: a response with these bytes or a
typed error. A truncated response never looks complete. A connection is pooled if, and only if, its response is complete
and no bytes are left over. The outcome does not depend on how the input is cut. No connection or request is leaked.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from contrib.fuzz.client_exchange import METHODS, READERS, ClientExchange, MemoryAgent
from contrib.fuzz.finding import Finding
from contrib.fuzz.mutation import Mutator
from contrib.fuzz.sample import BOTH, Sample, ways
from contrib.fuzz.target import ConnectionTarget
from contrib.fuzz.turns import run_all
from contrib.fuzz.unhandled import errors_recorded
from geventnode.protocol import Limits, Role
from tests.corpus.drive import Message, Outcome, drive

__all__ = ['ClientTarget']

LIMITS = Limits()


class ClientTarget(ConnectionTarget):
    """Sends requests with one agent, and feeds the responses."""

    LIMITED, MAX_ROOM = 0.05, 100
    BREAKING, MAX_SENT = 0.03, 100

    def __init__(self) -> None:
        super().__init__('client', Mutator('response'))
        self._agent = MemoryAgent()

    def _choices(self, rng: random.Random) -> dict[str, Any]:
        return {
            'method': rng.choice(('GET', 'GET', 'GET', *METHODS)),
            'reader': rng.choice(tuple(READERS)),
            'warm': rng.random() < 0.15,
            'ending': rng.choice(('with the data', 'later', 'reset')),
            'both': rng.random() < BOTH,
        }

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` if one of ``samples`` breaks a rule."""
        agent = self._agent
        try:
            runs = [[ClientExchange(agent, pieces, sample.scenario) for pieces in ways(sample)] for sample in samples]
            with errors_recorded() as errors:
                run_all(exchange for each in runs for exchange in each)
            if agent.total_socket_count or agent.requests:
                raise Finding('leak', f'{agent!r} {agent.sockets} {agent.free_sockets}')
        finally:
            with errors_recorded():
                agent.clear()
        if errors:
            raise Finding('unhandled error', '; '.join(errors))
        for sample, each in zip(samples, runs, strict=True):
            judge(sample, each)


def judge(sample: Sample, runs: list[ClientExchange]) -> None:
    """Raise :exc:`Finding` unless each of ``runs`` has the predicted outcome."""
    scenario = sample.scenario
    method = METHODS[scenario['method']].get('method', 'GET')
    parsed = drive(
        [sample.data],
        Role.RESPONSE,
        LIMITS,
        eof=scenario['ending'] != 'reset',
        method=method,
        upgrade=scenario['method'] == 'upgrade',
        most=1,
    )
    for each in runs:
        if len(each.outcomes) != 1:
            raise Finding('outcomes', f'{each.outcomes} for {parsed}')
        # if the request could not be sent, the outcome can be a response or an error
        if scenario['breaks_after'] is None or each.outcomes[0][0] != 'error':
            check_outcome(each.outcomes[0], parsed, scenario)
        check_pooled(each, parsed, scenario)
    if scenario['breaks_after'] is None and runs[0].outcomes != runs[-1].outcomes:
        raise Finding('cut', f'whole: {runs[0].outcomes}, in pieces: {runs[-1].outcomes}')


def final(parsed: Outcome) -> Message | None:
    """Return the final response, if its head has arrived."""
    last = parsed.messages[-1] if parsed.messages else None
    return last if last is not None and (last.start[0] >= 200 or last.start[0] == 101) else None


def check_outcome(outcome: tuple[Any, ...], parsed: Outcome, scenario: dict[str, Any]) -> None:
    """Raise :exc:`Finding` unless the outcome is the one that the parser predicts."""
    message = final(parsed)
    kind = outcome[0]
    if message is None:
        good = kind == 'error' and _error_fits(outcome, parsed, 'SocketHangUp')
    elif message.start[0] == 101 or (
        scenario['method'] == 'CONNECT' and (message.start[0] < 300 or scenario['reader'] == 'events')
    ):
        # a listener for 'connect' receives the connection for every status
        good = outcome == ('tunnel', message.start[0])
    elif kind == 'head':
        good = outcome == ('head', message.start[0], message.headers)
    elif message.complete:
        good = outcome == ('complete', message.start[0], message.headers, message.body, message.trailers)
    else:
        good = kind == 'error' and _error_fits(outcome, parsed, 'IncompleteBody')
    if not good:
        raise Finding('outcome', f'{outcome} for {parsed}')


def _error_fits(outcome: tuple[Any, ...], parsed: Outcome, otherwise: str) -> bool:
    """Return whether the error is the parser's, or that of an early end."""
    error = parsed.error
    if error is None or error[1] == 'HPE_INVALID_EOF_STATE':
        return outcome[1] == otherwise
    return (outcome[1], outcome[2]) == error[:2]


def check_pooled(exchange: ClientExchange, parsed: Outcome, scenario: dict[str, Any]) -> None:
    """Raise :exc:`Finding` unless the connection was pooled if, and only if, it is reusable."""
    if exchange.pooled is None:
        return
    message = final(parsed)
    usable = (
        message is not None
        and message.complete
        and message.keep_alive
        and parsed.at_boundary
        and exchange.outcomes[0][0] in ('complete', 'head')
    )
    certain = (
        scenario['breaks_after'] is None
        and scenario['room'] is None
        and scenario['method'] != 'expect'
        # a server can limit for how long the connection is reusable
        and not any(name.lower() == 'keep-alive' for name, _ in (message.headers if message else ()))
    )
    if exchange.pooled is not usable and (exchange.pooled or certain):
        raise Finding('pool', f'{"" if exchange.pooled else "not "}pooled: {exchange.outcomes} for {parsed}')
