"""Fuzz the server over connections in memory, from the accepted socket to the request listener and back.

Rules: The output is valid HTTP, with one final response for each request, in order. The responses are the ones that the
parser alone predicts. An error is answered once, with its status, and no request is served afterwards. The output does
not depend on how the input is cut. The connection ends when its peer disconnects. No exception is unhandled, and no
connection or byte count is leaked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from contrib.fuzz.finding import Finding
from contrib.fuzz.mutation import Mutator
from contrib.fuzz.sample import BOTH, Sample, ways
from contrib.fuzz.server_exchange import MemoryServer, ServerExchange
from contrib.fuzz.server_listeners import LISTENERS, UNREAD
from contrib.fuzz.server_rules import can_be_cancelled, check_expected, parse_responses
from contrib.fuzz.target import ConnectionTarget
from contrib.fuzz.turns import run_all
from contrib.fuzz.unhandled import errors_recorded
from geventnode.protocol import Role
from tests.corpus.drive import drive

__all__ = ['ServerTarget']

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {'max_header_size': 120, 'max_headers_count': 4, 'max_body_size': 20},
    {'max_unread_body': 8},
    {'greenlet_per_request': True, 'cancel_on_disconnect': True},
    {'max_buffered': 500},
)
_DATE = re.compile(rb'Date: [^\r]*\r\n')


class ServerTarget(ConnectionTarget):
    """Feeds servers with different options."""

    def __init__(self) -> None:
        super().__init__('server', Mutator('request'))
        self._servers = [MemoryServer(tunnels, **options) for options in OPTIONS for tunnels in (False, True)]

    def _choices(self, rng: random.Random) -> dict[str, Any]:
        return {
            'server': rng.choice((0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
            'listener': rng.choice(('read', *LISTENERS)),
            'ending': rng.choice(('with the data', 'later', 'reset')),
            'both': rng.random() < BOTH,
        }

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` if one of ``samples`` breaks a rule."""
        runs = [
            [
                ServerExchange(self._servers[sample.scenario['server']], pieces, sample.scenario)
                for pieces in ways(sample)
            ]
            for sample in samples
        ]
        try:
            with errors_recorded() as errors:
                run_all(exchange for each in runs for exchange in each)
            left = [server for server in self._servers if server._sockets or server._buffer_limit.used]
            if left:
                raise Finding('leak', f'{[(server._sockets, server.budget.used) for server in left]}')
        finally:
            for server in self._servers:
                server.clear()
        if errors:
            raise Finding('unhandled error', '; '.join(errors))
        for sample, each in zip(samples, runs, strict=True):
            # if sending fails, the output depends on the time
            if sample.scenario['breaks_after'] is None:
                self._judge(sample, each)

    def _judge(self, sample: Sample, runs: list[ServerExchange]) -> None:
        scenario = sample.scenario
        server = self._servers[scenario['server']]
        parsed = drive([sample.data], Role.REQUEST, server._limits, eof=True)
        for each in runs:
            responses = parse_responses(each.output, parsed)
            check_expected(responses, parsed, scenario, server)
        one, other = runs[0], runs[-1]
        if scenario['listener'] in UNREAD and any(each.framing == 'CHUNKED' for each in parsed.messages):
            # the connection continues only if the end of an unread body has arrived
            return
        if one.served != other.served:
            raise Finding('cut', f'whole: {one.served} served, in pieces: {other.served}')
        if scenario['listener'] == 'stream' or can_be_cancelled(parsed, server):
            return
        if _DATE.sub(b'', one.output) != _DATE.sub(b'', other.output):
            raise Finding('cut', f'whole: {one.output!r}, in pieces: {other.output!r}')
