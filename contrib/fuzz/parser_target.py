"""The parser in either role: whatever it is fed, in whatever pieces.

Rules: only ``ParseError`` leaves it; every way of cutting gives the same messages and the same error; what is held
between two pieces stays below the limits; the short way for small responses says what the long way says.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from contrib.fuzz.finding import Finding
from contrib.fuzz.mutation import Mutator
from contrib.fuzz.sample import Sample, some_cuts
from geventnode.errors import ParseError
from geventnode.protocol import Limits, ResponseParser, Role
from tests.corpus.drive import Outcome, drive

__all__ = ['LIMITS', 'ParserTarget']

#: What a parser may refuse: the defaults, none but the size, and so little that every limit is met.
LIMITS = (
    Limits(),
    Limits(require_host=False, max_headers_count=0),
    Limits(
        max_header_size=60,
        max_headers_count=3,
        max_chunk_extensions=8,
        max_body_size=20,
        max_empty_lines=1,
        max_informational=1,
        require_host=False,
    ),
)


class ParserTarget:
    """Feeds a parser; ``role`` is ``'request'`` or ``'response'``."""

    def __init__(self, role: str) -> None:
        self.name = f'parser-{role}'
        self.role = Role(role)
        self._mutator = Mutator(role)

    def make(self, chance: random.Random) -> Sample:
        """Return a sample."""
        data = self._mutator.make(chance)
        return self.around(data, chance)

    def around(self, data: bytes, chance: random.Random) -> Sample:
        """Return a sample of ``data``, with all else at random."""
        scenario: dict[str, Any] = {'limits': chance.choice((0, 0, 1, 1, 2)), 'eof': chance.random() < 0.5}
        if self.role is Role.RESPONSE:
            scenario['upgrade'] = chance.random() < 0.3
            scenario['method'] = chance.choice(('GET', 'GET', 'HEAD', 'CONNECT', 'POST'))
        return Sample(self.name, data, some_cuts(len(data), chance), scenario)

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` when a rule is broken."""
        for sample in samples:
            self._check(sample)

    def _check(self, sample: Sample) -> None:
        options = dict(sample.scenario)
        limits = LIMITS[options.pop('limits')]
        whole = drive([sample.data], self.role, limits, **options)
        others = drive(sample.pieces(), self.role, limits, **options)
        if others != whole:
            raise Finding('cut', f'whole: {whole}, in pieces: {others}')
        check_sanity(whole, sample.data)
        for outcome in (whole, others):
            check_held(outcome, limits, sample.scenario.get('method', ''))
        if self.role is Role.RESPONSE:
            check_short_way(sample, whole, limits)


def check_sanity(outcome: Outcome, data: bytes) -> None:
    """Check what holds for whatever came out."""
    if outcome.bytes_parsed > len(data):
        raise Finding('position', f'{outcome.bytes_parsed} of {len(data)} bytes were parsed')
    for message in outcome.messages:
        if any(
            '\r' in text or '\n' in text or '\0' in text
            for field in message.headers + message.trailers
            for text in field
        ):
            raise Finding('line end', f'a field holds one: {message}')
        if message.framing == 'NONE' and message.body:
            raise Finding('body', f'a message without content has some: {message}')
        if message.framing == 'LENGTH':
            length = message.content_length
            assert length is not None
            if len(message.body) > length or message.complete is not (len(message.body) == length):
                raise Finding('body', f'it has not the length that it says: {message}')
        if message.complete is False and message is not outcome.messages[-1]:
            raise Finding('order', f'another message began before this one was complete: {message}')


def check_held(outcome: Outcome, limits: Limits, method: str) -> None:
    """Check that what waits for more bytes is no longer than the longest construct."""
    last = outcome.messages[-1] if outcome.messages else None
    if last is not None and (last.start[0] in ('CONNECT', 101) or method == 'CONNECT'):
        # what belongs to another protocol is kept until it is taken
        return
    most = max(limits.max_header_size, limits.max_chunk_extensions + 18)
    if outcome.held > most:
        raise Finding('memory', f'{outcome.held} bytes are held, more than {most}')


def check_short_way(sample: Sample, whole: Outcome, limits: Limits) -> None:
    """Check that a response that is recognised as a whole is the one that the events tell of."""
    parser = ResponseParser(limits)
    parser.expect_response_to(sample.scenario['method'], sample.scenario['upgrade'])
    parser.feed(sample.data)
    try:
        found = parser.take_response()
    except ParseError as error:
        raise Finding('short way', f'it raised {error}') from None
    if found is not None:
        head, body = found
        told = [
            (message.start[0], message.headers, message.body, message.complete, message.keep_alive)
            for message in whole.messages
        ]
        if told != [(head.status_code, head.raw_headers, body, True, head.keep_alive)]:
            raise Finding('short way', f'{head} with {body!r} instead of {whole}')
        if parser.at_boundary is not whole.at_boundary or parser.bytes_parsed != whole.bytes_parsed:
            raise Finding('short way', f'at {parser.bytes_parsed} instead of {whole.bytes_parsed}')
