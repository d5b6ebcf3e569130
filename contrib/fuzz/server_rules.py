"""What a server may answer, worked out from what the parser alone makes of the same bytes."""

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

__all__ = ['Answer', 'check_answers', 'check_expected', 'may_be_cancelled']

LIMITS = Limits()


@dataclass
class Answer:
    """A final response."""

    status: int
    complete: bool
    #: Whether it says that the connection ends with it.
    closes: bool
    body: bytes = b''


def check_answers(output: bytes, understood: Outcome) -> list[Answer]:
    """Return the final responses in ``output``; raise :exc:`Finding` if it is not HTTP from the first byte to the last.

    :param understood: the requests.
    """
    parser = Parser(Role.RESPONSE, LIMITS)
    methods = [message.start[0] for message in understood.messages]
    answers: list[Answer] = []
    parser.feed(output)
    parser.feed_eof()
    try:
        while True:
            method = methods[len(answers)] if len(answers) < len(methods) else ''
            if not answers or answers[-1].complete:
                parser.expect_response_to(method, True)
            event = parser.next_event()
            if event is None:
                break
            if isinstance(event, EndOfMessage):
                answers[-1].complete = True
            elif isinstance(event, bytes):
                answers[-1].body += event
            elif event.status_code >= 200 or event.status_code == 101:
                answers.append(Answer(event.status_code, event.framing is Framing.NONE, not event.keep_alive))
    except ParseError as error:
        if error.code != 'HPE_INVALID_EOF_STATE':
            raise Finding('output', f'{error}: {output!r}') from None
        return answers
    if parser.bytes_parsed != len(output) and not (answers and _hands_over(answers[-1], methods, len(answers))):
        raise Finding('output', f'something follows the last response at {parser.bytes_parsed}: {output!r}')
    return answers


def _hands_over(answer: Answer, methods: list[str], count: int) -> bool:
    return answer.status == 101 or (count <= len(methods) and methods[count - 1] == 'CONNECT')


def check_expected(answers: list[Answer], understood: Outcome, scenario: dict[str, Any], server: MemoryServer) -> None:
    """Raise :exc:`Finding` unless the answers are those that the requests lead to."""
    wanted = list(_expected(understood, scenario, server, answers))
    expected = [status for status, _ in wanted]
    found = [answer.status for answer in answers]
    lost = scenario['ending'] == 'reset' or scenario['room'] is not None or may_be_cancelled(understood, server)
    # what was not sent when the peer went is lost
    if found != (expected[: len(found)] if lost else expected):
        raise Finding('answers', f'{found} instead of {expected} for {understood}')
    if not lost and _left_unanswered(answers, understood) and not answers[-1].closes:
        raise Finding('promise', f'{answers[-1]} does not say close, and nothing follows: {understood}')
    for answer, (_, body) in zip(answers, wanted, strict=False):
        if body is not None and answer.complete and answer.body != body:
            raise Finding('body', f'{answer.body!r} instead of {body!r}')
    cut_short = [answer for answer in answers if not answer.complete]
    broken = bool(understood.messages) and not understood.messages[-1].complete
    if cut_short and (
        cut_short != answers[-1:]
        or not (
            scenario['ending'] == 'reset'
            or scenario['room'] is not None
            or (scenario['listener'] == 'stream' and broken)
        )
    ):
        raise Finding('cut short', f'{answers} for {understood}')


def _left_unanswered(answers: list[Answer], understood: Outcome) -> bool:
    """Return whether HTTP has ended with the last of the answers, though there are more requests."""
    methods = [message.start[0] for message in understood.messages]
    return (
        bool(answers)
        and len(answers) < len(methods)
        and methods[len(answers)] != 'CONNECT'
        and not _hands_over(answers[-1], methods, len(answers))
    )


def _expected(
    understood: Outcome, scenario: dict[str, Any], server: MemoryServer, answers: list[Answer]
) -> Iterator[tuple[int, bytes | None]]:
    """Yield status and body, where it matters, of each final response."""
    listener = scenario['listener']
    for number, message in enumerate(understood.messages):
        # how much of chunks is still to come, the server knows only when it has come
        ends = message.framing == 'CHUNKED' and number < len(answers) and answers[number].closes
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
            error = understood.error
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
            # without a length, only the end of the connection can end it
            return
    if understood.error is not None:
        yield understood.error[2], None


def _streamed(message: Message) -> bytes | None:
    if message.version == '1.0' and not message.complete:
        # cut short, which nobody can see where the end of the connection is the end of the body
        return None
    return b'' if message.start[0] == 'HEAD' else b'begun %d' % len(message.body)


def _summary(message: Message, body: bytes) -> bytes:
    method, url = message.start
    return b'' if method == 'HEAD' else summary(method, url, body)


def may_be_cancelled(understood: Outcome, server: MemoryServer) -> bool:
    """Return whether a listener waits for what never comes, which may end it without an answer: it depends on whether
    it has begun when the end of the input is seen."""
    return server.cancel_on_disconnect and bool(understood.messages) and not understood.messages[-1].complete


def _special(message: Message, tunnels: bool) -> list[int] | None:
    """Return what is answered to a request that no request listener hears of, None for any other."""
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
    """Return whether another request may follow one whose body nobody has read."""
    if not message.keep_alive or not message.complete:
        return False
    return not _awaits_continue(message) and len(message.body) <= max_unread_body
