"""Feed a parser in pieces of any size, and record its events in a form that does not depend on the pieces."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from geventnode.errors import ParseError
from geventnode.protocol import EndOfMessage, Framing, Limits, Parser, RequestHead, ResponseHead, Role

__all__ = ['Message', 'Outcome', 'bytewise', 'cut', 'drive', 'random_cuts']


@dataclass
class Message:
    """A message as a parser returned it."""

    #: Method and target, or status and reason.
    start: tuple[Any, ...]
    version: str
    headers: list[tuple[str, str]]
    framing: str
    content_length: int | None
    keep_alive: bool
    upgrade: bool
    expect: str | None
    host: str | None
    body: bytes = b''
    trailers: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = False


@dataclass
class Outcome:
    """The result of parsing a stream."""

    messages: list[Message] = field(default_factory=list)
    #: Class, code, status, offset and text of the error.
    error: tuple[Any, ...] | None = None
    rest: bytes = b''
    at_boundary: bool = False
    bytes_parsed: int = 0
    #: The maximum number of buffered bytes when the parser needed more; it depends on the pieces.
    held: int = field(default=0, compare=False)

    @property
    def served(self) -> int:
        """The number of complete messages."""
        return sum(message.complete for message in self.messages)


def drive(
    pieces: Iterable[bytes],
    role: Role,
    limits: Limits | None = None,
    *,
    eof: bool = False,
    method: str = '',
    upgrade: bool = False,
    stop_at_upgrade: bool = False,
    most: int | None = None,
) -> Outcome:
    """Feed ``pieces`` to a new parser and return the result.

    :param eof: whether the stream ends after the pieces.
    :param method: the method of the request of every response.
    :param upgrade: whether the request asked for another protocol.
    :param stop_at_upgrade: whether to stop at a message that changes to another protocol.
    :param most: the number of final messages after which to stop; None for no limit.
    """
    parser = Parser(role, limits or Limits())
    outcome = Outcome()
    driver = _Driver(parser, outcome, method, upgrade, stop_at_upgrade, most)
    try:
        for piece in pieces:
            parser.feed(piece)
            driver.pull()
        if eof:
            parser.feed_eof()
            driver.pull()
    except ParseError as error:
        outcome.error = (type(error).__name__, error.code, error.status, error.offset, str(error))
    outcome.at_boundary = parser.at_boundary
    outcome.bytes_parsed = parser.bytes_parsed
    if outcome.error is None:
        outcome.rest = parser.take_rest()
    return outcome


class _Driver:
    """Records the events of a parser."""

    def __init__(
        self, parser: Parser, outcome: Outcome, method: str, upgrade: bool, stop_at_upgrade: bool, most: int | None
    ) -> None:
        self.parser = parser
        self.outcome = outcome
        self.method = method
        self.upgrade = upgrade
        self.stop_at_upgrade = stop_at_upgrade
        self.most = most
        self.final = 0
        self.pieces: list[bytes] = []
        self.stopped = False
        parser.expect_response_to(method, upgrade)

    def pull(self) -> None:
        """Record all available events; the content so far belongs to the last message."""
        try:
            while not self.stopped and (event := self.parser.next_event()) is not None:
                self.take(event)
            if self.parser.buffered > self.outcome.held:
                self.outcome.held = self.parser.buffered
        finally:
            self.flush()

    def flush(self) -> None:
        """Add the recorded content to the last message."""
        if self.pieces:
            self.outcome.messages[-1].body += b''.join(self.pieces)
            self.pieces.clear()

    def take(self, event: Any) -> None:
        """Record one event."""
        if isinstance(event, bytes):
            assert event
            self.pieces.append(event)
        elif isinstance(event, EndOfMessage):
            self.outcome.messages[-1].trailers = event.raw_trailers
            self.end()
        else:
            self.outcome.messages.append(_message(event))
            if event.framing is Framing.NONE:
                self.end()

    def end(self) -> None:
        """Complete the last message."""
        self.flush()
        message = self.outcome.messages[-1]
        message.complete = True
        if not (isinstance(message.start[0], int) and message.start[0] < 200):
            self.final += 1
            self.parser.expect_response_to(self.method, self.upgrade)
        if self.final == self.most or (message.upgrade and self.stop_at_upgrade):
            self.stopped = True


def _message(head: RequestHead | ResponseHead) -> Message:
    common: dict[str, Any] = {
        'version': head.http_version,
        'headers': head.raw_headers,
        'framing': head.framing.name,
        'content_length': head.content_length,
        'keep_alive': head.keep_alive,
        'upgrade': head.upgrade,
    }
    if isinstance(head, RequestHead):
        return Message((head.method, head.url), expect=head.expect, host=head.host, **common)
    return Message((head.status_code, head.status_message), expect=None, host=None, **common)


# -- ways of division -------------------------------------------------------------------------------------------------


def bytewise(data: bytes) -> Iterator[bytes]:
    """Yield ``data`` byte by byte."""
    return (data[index : index + 1] for index in range(len(data)))


def cut(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """Return ``data`` divided at ``positions``."""
    edges = [0, *sorted(positions), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges) if start < stop]


def random_cuts(data: bytes, chance: random.Random) -> list[bytes]:
    """Return ``data`` divided at up to twelve positions."""
    return cut(data, (chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 13))))
