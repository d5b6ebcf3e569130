"""The server over a connection in memory: the whole of it, from the accepted socket to the request listener and back.

Rules: what it says is HTTP, one final response for each request in order; they are the ones that the parser alone would
lead to; an error is answered once, with its status, and nothing is served afterwards; all ways of cutting the input
end in the same; the connection ends when the peer does; nothing is raised where nobody looks, nothing stays behind.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from contrib.fuzz.finding import Finding
from contrib.fuzz.mutation import Mutator
from contrib.fuzz.sample import BOTH, Sample, some_cuts, ways
from contrib.fuzz.server_exchange import MemoryServer, ServerExchange
from contrib.fuzz.server_listeners import LISTENERS, UNREAD
from contrib.fuzz.server_rules import check_answers, check_expected, may_be_cancelled
from contrib.fuzz.troubles import noted
from contrib.fuzz.turns import play
from geventnode.protocol import Role
from tests.corpus.drive import drive

__all__ = ['ServerTarget']

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {'max_header_size': 120, 'max_headers_count': 4, 'max_body_size': 20},
    {'max_unread_body': 8},
    {'greenlet_per_request': True, 'cancel_on_disconnect': True},
)
_DATE = re.compile(rb'Date: [^\r]*\r\n')


class ServerTarget:
    """Feeds servers, each with other options."""

    name = 'server'

    def __init__(self) -> None:
        self._mutator = Mutator('request')
        self._servers = [MemoryServer(tunnels, **options) for options in OPTIONS for tunnels in (False, True)]

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
                'server': chance.choice((0, 0, 0, 1, 2, 3, 4, 5, 6, 7)),
                'listener': chance.choice(('read', *LISTENERS)),
                'ending': chance.choice(('with the data', 'later', 'reset')),
                'both': chance.random() < BOTH,
                'hurry': cuts is None or chance.random() < 0.7,
                'room': 20 + int(chance.random() * 200) if rare < 0.1 else None,
                'breaks_after': int(chance.random() * 300) if rare > 0.95 else None,
            },
        )

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` when a rule is broken."""
        runs = [
            [
                ServerExchange(self._servers[sample.scenario['server']], pieces, sample.scenario)
                for pieces in ways(sample)
            ]
            for sample in samples
        ]
        try:
            with noted() as troubles:
                play(exchange for each in runs for exchange in each)
            left = [server for server in self._servers if server._sockets or server._buffer_limit.used]
            if left:
                raise Finding('left behind', f'{[(server._sockets, server.budget.used) for server in left]}')
        finally:
            for server in self._servers:
                server.clear()
        if troubles:
            raise Finding('trouble', '; '.join(troubles))
        for sample, each in zip(samples, runs, strict=True):
            # how far it gets when sending fails depends on when that is
            if sample.scenario['breaks_after'] is None:
                self._judge(sample, each)

    def _judge(self, sample: Sample, runs: list[ServerExchange]) -> None:
        scenario = sample.scenario
        server = self._servers[scenario['server']]
        understood = drive([sample.data], Role.REQUEST, server._limits, eof=True)
        for each in runs:
            answers = check_answers(each.output, understood)
            check_expected(answers, understood, scenario, server)
        one, other = runs[0], runs[-1]
        if scenario['listener'] in UNREAD and any(each.framing == 'CHUNKED' for each in understood.messages):
            # whether the end of an unread body has come decides whether the connection goes on
            return
        if one.served != other.served:
            raise Finding('cut', f'whole: {one.served} served, in pieces: {other.served}')
        if scenario['listener'] == 'stream' or may_be_cancelled(understood, server):
            return
        if _DATE.sub(b'', one.output) != _DATE.sub(b'', other.output):
            raise Finding('cut', f'whole: {one.output!r}, in pieces: {other.output!r}')
