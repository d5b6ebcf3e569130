"""The framing of messages to be sent, by the two functions that decide it."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode.errors import BodyNotAllowed, InvalidHeader
from geventnode.http.body_framing import frame_request, frame_response
from geventnode.http.header_fields import merge_headers
from geventnode.protocol import Framing

NONE, LENGTH, CHUNKED, UNTIL_CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.UNTIL_CLOSE

CHUNKED_LINE = 'Transfer-Encoding: chunked\r\n'
EXTENDED = {'Transfer-Encoding': 'gzip, chunked'}


def response(**given: Any) -> tuple[Framing, int | None, str]:
    """Return the framing of a response that is ``200`` to ``GET`` over HTTP/1.1 unless specified otherwise."""
    return frame_response(
        given.get('status', 200),
        given.get('method', 'GET'),
        given.get('version', '1.1'),
        merge_headers({}, given.get('headers', {})),
        given.get('removed', ()),
        given.get('trailers'),
        given.get('length'),
    )


def request(**given: Any) -> tuple[Framing, int | None, str]:
    """Return the framing of a request that is ``POST`` unless specified otherwise."""
    return frame_request(
        given.get('method', 'POST'),
        merge_headers({}, given.get('headers', {})),
        given.get('removed', ()),
        given.get('trailers'),
        given.get('length'),
        given.get('flushing', False),
    )


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({'length': 5}, (LENGTH, 5, 'Content-Length: 5\r\n')),
        ({'length': 0}, (LENGTH, 0, 'Content-Length: 0\r\n')),
        ({}, (CHUNKED, None, CHUNKED_LINE)),
        ({'version': '1.0'}, (UNTIL_CLOSE, None, '')),
        ({'version': '1.0', 'length': 5}, (LENGTH, 5, 'Content-Length: 5\r\n')),
        ({'version': '1.0', 'headers': EXTENDED}, (UNTIL_CLOSE, None, '')),
        ({'headers': EXTENDED, 'length': 5}, (CHUNKED, None, '')),
        ({'headers': {'Content-Length': 7}}, (LENGTH, 7, '')),
        ({'trailers': [('Digest', 'x')], 'length': 5}, (CHUNKED, None, CHUNKED_LINE)),
        ({'headers': {'Trailer': 'Digest'}, 'length': 5}, (CHUNKED, None, CHUNKED_LINE)),
        ({'removed': ('content-length',), 'length': 5}, (CHUNKED, None, CHUNKED_LINE)),
        ({'removed': ('content-length', 'transfer-encoding'), 'length': 5}, (UNTIL_CLOSE, None, '')),
        ({'method': 'HEAD'}, (CHUNKED, None, CHUNKED_LINE)),
        ({'method': 'HEAD', 'length': 0}, (NONE, None, '')),
        ({'method': 'HEAD', 'length': 5}, (LENGTH, 5, 'Content-Length: 5\r\n')),
        ({'status': 204, 'length': 0}, (NONE, None, '')),
        ({'status': 205, 'length': 0}, (NONE, None, 'Content-Length: 0\r\n')),
        ({'status': 304, 'headers': {'Content-Length': 7}}, (NONE, None, '')),
    ],
)
def test_response_framing(given: dict[str, Any], expected: tuple[Framing, int | None, str]) -> None:
    """Each combination of status, method, version, fields and known length."""
    assert response(**given) == expected


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({'length': 5}, (LENGTH, 5, 'Content-Length: 5\r\n')),
        ({'length': 0}, (LENGTH, 0, 'Content-Length: 0\r\n')),
        ({'length': 0, 'removed': ('content-length',)}, (NONE, 0, '')),
        ({}, (CHUNKED, None, CHUNKED_LINE)),
        ({'method': 'GET', 'length': 0}, (NONE, 0, '')),
        ({'method': 'GET', 'length': 5}, (LENGTH, 5, 'Content-Length: 5\r\n')),
        ({'method': 'GET'}, (CHUNKED, None, CHUNKED_LINE)),
        ({'method': 'GET', 'flushing': True}, (NONE, 0, '')),
        ({'flushing': True}, (CHUNKED, None, CHUNKED_LINE)),
        ({'headers': EXTENDED, 'length': 5}, (CHUNKED, None, '')),
        ({'headers': {'Content-Length': 7}}, (LENGTH, 7, '')),
        ({'trailers': [('Digest', 'x')], 'length': 5}, (CHUNKED, None, CHUNKED_LINE)),
        ({'removed': ('content-length',), 'length': 5}, (CHUNKED, None, CHUNKED_LINE)),
    ],
)
def test_request_framing(given: dict[str, Any], expected: tuple[Framing, int | None, str]) -> None:
    """Each combination of method, fields and known length."""
    assert request(**given) == expected


@pytest.mark.parametrize(
    'given',
    [
        {'method': 'TRACE', 'length': 5},
        {'method': 'CONNECT', 'headers': {'Content-Length': 5}},
        {'method': 'TRACE', 'headers': EXTENDED},
        {'removed': ('content-length', 'transfer-encoding'), 'length': 5},
    ],
)
def test_request_framing_refuses_a_body(given: dict[str, Any]) -> None:
    """Where the method allows none, or no field may declare it."""
    with pytest.raises(BodyNotAllowed):
        request(**given)


@pytest.mark.parametrize('framing', [request, response])
def test_framing_refuses_a_contradictory_transfer_encoding(framing: Any) -> None:
    """Beside Content-Length, or without chunked at its end."""
    for headers in ({'Transfer-Encoding': 'chunked', 'Content-Length': '5'}, {'Transfer-Encoding': 'gzip'}):
        with pytest.raises(InvalidHeader):
            framing(headers=headers)
