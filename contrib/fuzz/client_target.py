"""The client over connections in memory: the whole of it, from the request through the agent to the last byte read.

Rules: every request ends in exactly one outcome, which is the one that the parser alone would lead to, a response with
these bytes or a typed error; what is cut short never looks complete; a connection is pooled when, and only when, its
response has ended as it should and nothing is left over; all ways of cutting end in the same; nothing stays behind.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from contrib.fuzz.client_exchange import METHODS, READERS, ClientExchange, MemoryAgent
from contrib.fuzz.finding import Finding
from contrib.fuzz.mutation import Mutator
from contrib.fuzz.sample import BOTH, Sample, some_cuts, ways
from contrib.fuzz.troubles import noted
from contrib.fuzz.turns import play
from geventnode.protocol import Limits, Role
from tests.corpus.drive import Message, Outcome, drive

__all__ = ['ClientTarget']

LIMITS = Limits()


class ClientTarget:
    """Sends requests with one agent, and feeds it the answers."""

    name = 'client'

    def __init__(self) -> None:
        self._mutator = Mutator('response')
        self._agent = MemoryAgent()

    def make(self, chance: random.Random) -> Sample:
        """Return a sample."""
        return self.around(self._mutator.make(chance), chance)

    def around(self, data: bytes, chance: random.Random) -> Sample:
        """Return a sample of ``data``, with all else at random."""
        rare = chance.random()
        cuts = some_cuts(len(data), chance)
        return Sample(
            self.name,
            data,
            cuts,
            {
                'method': chance.choice(('GET', 'GET', 'GET', *METHODS)),
                'reader': chance.choice(tuple(READERS)),
                'warm': chance.random() < 0.15,
                'ending': chance.choice(('with the data', 'later', 'reset')),
                'both': chance.random() < BOTH,
                'hurry': cuts is None or chance.random() < 0.7,
                'room': 20 + int(chance.random() * 100) if rare < 0.05 else None,
                'breaks_after': int(chance.random() * 100) if rare > 0.97 else None,
            },
        )

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` when a rule is broken."""
        agent = self._agent
        try:
            runs = [[ClientExchange(agent, pieces, sample.scenario) for pieces in ways(sample)] for sample in samples]
            with noted() as troubles:
                play(exchange for each in runs for exchange in each)
            if agent.total_socket_count or agent.requests:
                raise Finding('left behind', f'{agent!r} {agent.sockets} {agent.free_sockets}')
        finally:
            with noted():
                agent.clear()
        if troubles:
            raise Finding('trouble', '; '.join(troubles))
        for sample, each in zip(samples, runs, strict=True):
            judge(sample, each)


def judge(sample: Sample, runs: list[ClientExchange]) -> None:
    """Raise :exc:`Finding` unless each of ``runs`` ended as it should."""
    scenario = sample.scenario
    method = METHODS[scenario['method']].get('method', 'GET')
    understood = drive(
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
            raise Finding('outcomes', f'{each.outcomes} for {understood}')
        # a response may come, or not, when the request could not be sent
        if scenario['breaks_after'] is None or each.outcomes[0][0] != 'error':
            check_outcome(each.outcomes[0], understood, scenario)
        check_pooled(each, understood, scenario)
    if scenario['breaks_after'] is None and runs[0].outcomes != runs[-1].outcomes:
        raise Finding('cut', f'whole: {runs[0].outcomes}, in pieces: {runs[-1].outcomes}')


def final(understood: Outcome) -> Message | None:
    """Return the response that ends the request, if its head has come."""
    last = understood.messages[-1] if understood.messages else None
    return last if last is not None and (last.start[0] >= 200 or last.start[0] == 101) else None


def check_outcome(outcome: tuple[Any, ...], understood: Outcome, scenario: dict[str, Any]) -> None:
    """Raise :exc:`Finding` unless the request ended as the bytes say."""
    message = final(understood)
    kind = outcome[0]
    if message is None:
        good = kind == 'error' and _error_fits(outcome, understood, 'SocketHangUp')
    elif message.start[0] == 101 or (
        scenario['method'] == 'CONNECT' and (message.start[0] < 300 or scenario['reader'] == 'events')
    ):
        # who listens for 'connect' is given the connection whatever the status
        good = outcome == ('tunnel', message.start[0])
    elif kind == 'head':
        good = outcome == ('head', message.start[0], message.headers)
    elif message.complete:
        good = outcome == ('complete', message.start[0], message.headers, message.body, message.trailers)
    else:
        good = kind == 'error' and _error_fits(outcome, understood, 'IncompleteBody')
    if not good:
        raise Finding('outcome', f'{outcome} for {understood}')


def _error_fits(outcome: tuple[Any, ...], understood: Outcome, otherwise: str) -> bool:
    """Return whether the error is the parser's, or the one for an end of the stream."""
    error = understood.error
    if error is None or error[1] == 'HPE_INVALID_EOF_STATE':
        return outcome[1] == otherwise
    return (outcome[1], outcome[2]) == error[:2]


def check_pooled(exchange: ClientExchange, understood: Outcome, scenario: dict[str, Any]) -> None:
    """Raise :exc:`Finding` unless the connection was pooled when it could be used again."""
    if exchange.pooled is None:
        return
    message = final(understood)
    usable = (
        message is not None
        and message.complete
        and message.keep_alive
        and understood.at_boundary
        and exchange.outcomes[0][0] in ('complete', 'head')
    )
    certain = (
        scenario['breaks_after'] is None
        and scenario['room'] is None
        and scenario['method'] != 'expect'
        # a server may say for how long it waits
        and not any(name.lower() == 'keep-alive' for name, _ in (message.headers if message else ()))
    )
    if exchange.pooled is not usable and (exchange.pooled or certain):
        raise Finding('pool', f'{"" if exchange.pooled else "not "}pooled: {exchange.outcomes} for {understood}')
