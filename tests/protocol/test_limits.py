"""The separate limits for a request line and for single fields."""

from __future__ import annotations

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import Limits, Parser, RequestHead, Role


def parse(data: bytes, step: int, **limits: int) -> object:
    """Return the result of parsing ``data``, which is fed ``step`` bytes at a time."""
    parser = Parser(Role.REQUEST, Limits(**limits))
    for start in range(0, len(data), step):
        parser.feed(data[start : start + step])
        try:
            event = parser.next_event()
        except ParseError as error:
            return str(error), error.status
        if event is not None:
            assert isinstance(event, RequestHead)
            return event.url
    return None


@pytest.mark.parametrize('step', [1, 7, 1000])
@pytest.mark.parametrize('before', [b'', b'\r\n', b'GET /first HTTP/1.1\r\nHost: a\r\n\r\n'])
@pytest.mark.parametrize(
    ('limits', 'verdict'),
    [
        ({'max_request_line': 19}, '/first'),
        ({'max_request_line': 18}, ('request line longer than max_request_line (18 bytes)', 414)),
        ({'max_field_size': 24}, '/first'),
        ({'max_field_size': 23}, ('header field longer than max_field_size (23 bytes)', 431)),
        ({'max_request_line': 18, 'max_field_size': 23}, ('request line longer than max_request_line (18 bytes)', 414)),
        ({'max_request_line': 100, 'max_field_size': 100}, '/first'),
        (
            {'max_request_line': 100, 'max_field_size': 100, 'max_header_size': 40},
            ('header section longer than max_header_size (40 bytes)', 431),
        ),
    ],
)
def test_parts_have_separate_limits(step: int, before: bytes, limits: dict[str, int], verdict: object) -> None:
    data = b'GET /first HTTP/1.1\r\nHost: a\r\nField: ' + 17 * b'x' + b'\r\n\r\n'
    if before[:1] == b'G' and 'max_request_line' in limits and limits['max_request_line'] < 19:
        before = b''
    if before[:1] != b'G':
        assert parse(before + data, step, **limits) == verdict
        return
    parser = Parser(Role.REQUEST, Limits(**limits))
    parser.feed(before + data)
    assert isinstance(parser.next_event(), RequestHead)
    if verdict == '/first':
        assert isinstance(parser.next_event(), RequestHead)
    else:
        with pytest.raises(ParseError) as raised:
            parser.next_event()
        assert (str(raised.value), raised.value.status) == verdict


def test_the_parts_of_a_small_head_are_not_checked() -> None:
    assert Limits().small_head == Limits().max_header_size
    assert Limits(max_request_line=10, max_field_size=20).small_head == 10
    assert Limits(max_header_size=5, max_field_size=20).small_head == 5
