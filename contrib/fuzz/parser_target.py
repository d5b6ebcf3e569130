"""Fuzz the parser in either role, with any input in any pieces.

Rules: The parser raises only ``ParseError``. The messages and the error do not depend on how the input is cut. The
bytes that it buffers between two pieces are within the limits. The fast path for small responses has the same result as
the events.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from contrib.fuzz.finding import Finding
from contrib.fuzz.mutation import Mutator
from contrib.fuzz.sample import Sample
from contrib.fuzz.target import Target
from geventnode.errors import ParseError
from geventnode.protocol import Limits, ResponseParser, Role
from tests.corpus.drive import Outcome, drive

__all__ = ['LIMITS', 'ParserTarget']

#: Limits of a parser: the defaults, only the size, and limits so low that inputs exceed all of them.
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


class ParserTarget(Target):
    """Feeds a parser in the role ``'request'`` or ``'response'``."""

    def __init__(self, role: str) -> None:
        super().__init__(f'parser-{role}', Mutator(role))
        self.role = Role(role)

    def _choices(self, rng: random.Random) -> dict[str, Any]:
        scenario: dict[str, Any] = {'limits': rng.choice((0, 0, 1, 1, 2)), 'eof': rng.random() < 0.5}
        if self.role is Role.RESPONSE:
            scenario['upgrade'] = rng.random() < 0.3
            scenario['method'] = rng.choice(('GET', 'GET', 'HEAD', 'CONNECT', 'POST'))
        return scenario

    def check(self, samples: Sequence[Sample]) -> None:
        """Raise :exc:`Finding` if one of ``samples`` breaks a rule."""
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
            check_fast_path(sample, whole, limits)


def check_sanity(outcome: Outcome, data: bytes) -> None:
    """Check the rules for every outcome."""
    if outcome.bytes_parsed > len(data):
        raise Finding('position', f'{outcome.bytes_parsed} of {len(data)} bytes were parsed')
    for message in outcome.messages:
        if any(
            '\r' in text or '\n' in text or '\0' in text
            for field in message.headers + message.trailers
            for text in field
        ):
            raise Finding('line end', f'a field contains one: {message}')
        if message.framing == 'NONE' and message.body:
            raise Finding('body', f'a message without content has a body: {message}')
        if message.framing == 'LENGTH':
            length = message.content_length
            assert length is not None
            if len(message.body) > length or message.complete is not (len(message.body) == length):
                raise Finding('body', f'the body does not have the announced length: {message}')
        if message.complete is False and message is not outcome.messages[-1]:
            raise Finding('order', f'another message began before this one was complete: {message}')


def check_held(outcome: Outcome, limits: Limits, method: str) -> None:
    """Check that no more bytes are buffered than the longest construct has."""
    last = outcome.messages[-1] if outcome.messages else None
    if last is not None and (last.start[0] in ('CONNECT', 101) or method == 'CONNECT'):
        # the bytes of another protocol are buffered until they are read
        return
    most = max(limits.max_header_size, limits.max_chunk_extensions + 18)
    if outcome.held > most:
        raise Finding('memory', f'{outcome.held} bytes are buffered, more than {most}')


def check_fast_path(sample: Sample, whole: Outcome, limits: Limits) -> None:
    """Check that the fast path for whole responses agrees with the events."""
    parser = ResponseParser(limits)
    parser.expect_response_to(sample.scenario['method'], sample.scenario['upgrade'])
    parser.feed(sample.data)
    try:
        found = parser.take_response()
    except ParseError as error:
        raise Finding('fast path', f'it raised {error}') from None
    if found is not None:
        head, body = found
        events = [
            (message.start[0], message.headers, message.body, message.complete, message.keep_alive)
            for message in whole.messages
        ]
        if events != [(head.status_code, head.raw_headers, body, True, head.keep_alive)]:
            raise Finding('fast path', f'{head} with {body!r} instead of {whole}')
        if parser.at_boundary is not whole.at_boundary or parser.bytes_parsed != whole.bytes_parsed:
            raise Finding('fast path', f'at {parser.bytes_parsed} instead of {whole.bytes_parsed}')
