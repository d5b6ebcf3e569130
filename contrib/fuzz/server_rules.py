"""Predict the server's responses from the parser's result for the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from contrib.fuzz.finding import Finding
from contrib.fuzz.server_exchange import MemoryServer
from contrib.fuzz.server_listeners import summary
from geventnode.errors import ParseError
from geventnode.protocol import EndOfMessage, Framing, Limits, Parser, Role
from tests.corpus.drive import Message, Outcome

__all__ = ['Response', 'can_be_cancelled', 'check_expected', 'parse_responses']

LIMITS = Limits()


@dataclass
class Response:
    """A final response."""

    status: int
    complete: bool
    #: Whether it announces the end of the connection.
    closes: bool
    body: bytes = b''


def parse_responses(output: bytes, parsed: Outcome) -> list[Response]:
    """Return the final responses in ``output``; raise :exc:`Finding` for invalid HTTP.

    :param parsed: the requests.
    """
    parser = Parser(Role.RESPONSE, LIMITS)
    methods = [message.start[0] for message in parsed.messages]
    responses: list[Response] = []
    parser.feed(output)
    parser.feed_eof()
    try:
        while True:
            method = methods[len(responses)] if len(responses) < len(methods) else ''
            if not responses or responses[-1].complete:
                parser.expect_response_to(method, True)
            event = parser.next_event()
            if event is None:
                break
            if isinstance(event, EndOfMessage):
                responses[-1].complete = True
            elif isinstance(event, bytes):
                responses[-1].body += event
            elif event.status_code >= 200 or event.status_code == 101:
                responses.append(Response(event.status_code, event.framing is Framing.NONE, not event.keep_alive))
    except ParseError as error:
        if error.code != 'HPE_INVALID_EOF_STATE':
            raise Finding('output', f'{error}: {output!r}') from None
        return responses
    if parser.bytes_parsed != len(output) and not (responses and _upgrades(responses[-1], methods, len(responses))):
        raise Finding('output', f'something follows the last response at {parser.bytes_parsed}: {output!r}')
    return responses


def _upgrades(response: Response, methods: list[str], count: int) -> bool:
    return response.status == 101 or (count <= len(methods) and methods[count - 1] == 'CONNECT')


def check_expected(responses: list[Response], parsed: Outcome, scenario: dict[str, Any], server: MemoryServer) -> None:
    """Raise :exc:`Finding` unless the responses are the predicted ones."""
    wanted = list(_expected(parsed, scenario, server, responses))
    expected = [status for status, _ in wanted]
    found = [response.status for response in responses]
    lost = scenario['ending'] == 'reset' or scenario['room'] is not None or can_be_cancelled(parsed, server)
    # responses that were not sent when the peer disconnected are lost
    if found != (expected[: len(found)] if lost else expected):
        raise Finding('responses', f'{found} instead of {expected} for {parsed}')
    if not lost and _left_unanswered(responses, parsed) and not responses[-1].closes:
        raise Finding('promise', f'{responses[-1]} does not announce the close, and no response follows: {parsed}')
    for response, (_, body) in zip(responses, wanted, strict=False):
        if body is not None and response.complete and response.body != body:
            raise Finding('body', f'{response.body!r} instead of {body!r}')
    truncated = [response for response in responses if not response.complete]
    broken = bool(parsed.messages) and not parsed.messages[-1].complete
    if truncated and (
        truncated != responses[-1:]
        or not (
            scenario['ending'] == 'reset'
            or scenario['room'] is not None
            or (scenario['listener'] == 'stream' and broken)
        )
    ):
        raise Finding('truncated', f'{responses} for {parsed}')


def _left_unanswered(responses: list[Response], parsed: Outcome) -> bool:
    """Return whether requests are left after the last of the responses."""
    methods = [message.start[0] for message in parsed.messages]
    return (
        bool(responses)
        and len(responses) < len(methods)
        and methods[len(responses)] != 'CONNECT'
        and not _upgrades(responses[-1], methods, len(responses))
    )


def _expected(
    parsed: Outcome, scenario: dict[str, Any], server: MemoryServer, responses: list[Response]
) -> Iterator[tuple[int, bytes | None]]:
    """Yield the status and, if predictable, the body of each final response."""
    listener = scenario['listener']
    for number, message in enumerate(parsed.messages):
        # the server learns how long a chunked body is only when it has arrived
        ends = message.framing == 'CHUNKED' and number < len(responses) and responses[number].closes
        special = _special(message, server.tunnels)
        if special is not None:
            yield from ((status, None) for status in special)
            return
        if listener == 'fail':
            yield 500, None
            return
        if listener in ('ignore', 'later'):
            yield 200, _summary(message, b'')
            if ends or not _goes_on_unread(message, server.max_unread_body):
                return
            continue
        if listener == 'stream':
            yield 200, _streamed(message)
            if ends or not message.complete or not _goes_on_unread(message, server.max_unread_body):
                return
        elif not message.complete:
            error = parsed.error
            assert error is not None
            yield error[2], None
            return
        elif listener == 'without body':
            yield 304, b''
        else:
            yield 200, _summary(message, message.body)
        if not message.keep_alive or (listener == 'stream' and _awaits_continue(message)):
            return
        if listener in ('stream', 'read in pieces') and message.version == '1.0':
            # without a length, the response ends with the connection
            return
    if parsed.error is not None:
        yield parsed.error[2], None


def _streamed(message: Message) -> bytes | None:
    if message.version == '1.0' and not message.complete:
        # truncated; a body that ends with the connection does not show it
        return None
    return b'' if message.start[0] == 'HEAD' else b'begun %d' % len(message.body)


def _summary(message: Message, body: bytes) -> bytes:
    method, url = message.start
    return b'' if method == 'HEAD' else summary(method, url, body)


def can_be_cancelled(parsed: Outcome, server: MemoryServer) -> bool:
    """Return whether a listener can be waiting for the rest of an incomplete body.

    It is cancelled without a response if it has begun before the end of the input.
    """
    return server.cancel_on_disconnect and bool(parsed.messages) and not parsed.messages[-1].complete


def _special(message: Message, tunnels: bool) -> list[int] | None:
    """Return the statuses for a request that no request listener receives, or None."""
    if message.start[0] == 'CONNECT':
        return [200] if tunnels else []
    if message.upgrade and message.framing == 'NONE' and tunnels:
        return [101]
    if message.expect not in (None, '100-continue'):
        return [417]
    return None


def _awaits_continue(message: Message) -> bool:
    return message.expect is not None and message.framing != 'NONE'


def _goes_on_unread(message: Message, max_unread_body: int) -> bool:
    """Return whether another request can follow one with an unread body."""
    if not message.keep_alive or not message.complete:
        return False
    return not _awaits_continue(message) and len(message.body) <= max_unread_body
