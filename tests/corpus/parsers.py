"""Parsers with input, and messages as input."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import Limits, Parser, Role

__all__ = ['CHUNKED', 'GET', 'POST', 'error_of', 'exhaust', 'requests', 'responses', 'same']

GET = b'GET /x HTTP/1.1\r\nHost: a\r\n\r\n'
POST = b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n'
CHUNKED = b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'


def requests(data: bytes = b'', **limits: Any) -> Parser:
    """Return a parser for requests that was fed ``data``."""
    parser = Parser(Role.REQUEST, Limits(**limits))
    parser.feed(data)
    return parser


def responses(data: bytes = b'', method: str = 'GET', upgrade: bool = False, **limits) -> Parser:
    """Return a parser for the responses to ``method`` that was fed ``data``."""
    parser = Parser(Role.RESPONSE, Limits(**limits))
    parser.expect_response_to(method, upgrade)
    parser.feed(data)
    return parser


def exhaust(parser: Parser) -> None:
    """Read all available events."""
    while parser.next_event() is not None:
        pass


def same(one: ParseError, other: ParseError) -> bool:
    """Return whether two errors are equal."""
    return type(one) is type(other) and str(one) == str(other) and vars(one) == vars(other)


def error_of(parser: Parser) -> ParseError:
    """Return the error of the parser, and check that the parser keeps it."""
    with pytest.raises(ParseError) as caught:
        exhaust(parser)
    with pytest.raises(ParseError) as again:
        parser.next_event()
    assert same(again.value, caught.value)
    parser.feed(GET)
    assert parser.buffered == 0
    assert not parser.at_boundary
    assert not parser.head_started
    with pytest.raises(ParseError) as again:
        parser.next_event()
    assert same(again.value, caught.value)
    assert parser.bytes_parsed == caught.value.offset
    return caught.value
