"""Framing: the end of a message, and the rejection of ambiguous messages."""

from __future__ import annotations

import pytest

from geventnode.errors import ParseError
from geventnode.protocol import (
    Framing,
    connection_options,
    has_no_content,
    keep_alive,
    request_framing,
    response_framing,
)


@pytest.mark.parametrize(
    ('lengths', 'expected'),
    [
        ([], (Framing.NONE, None)),
        (['0'], (Framing.NONE, 0)),
        (['000'], (Framing.NONE, 0)),
        (['5'], (Framing.LENGTH, 5)),
        (['0005'], (Framing.LENGTH, 5)),
        (['9' * 19], (Framing.LENGTH, int('9' * 19))),
    ],
)
def test_valid_length(lengths: list[str], expected) -> None:
    assert request_framing('1.1', [], lengths) == expected
    if lengths:
        assert response_framing([], lengths) == expected


def test_a_response_without_length_ends_with_the_connection() -> None:
    assert response_framing([], []) == (Framing.UNTIL_CLOSE, None)


@pytest.mark.parametrize('codings', [['chunked'], ['Chunked'], ['CHUNKED'], [' chunked\t']])
def test_chunked_is_the_only_coding(codings: list[str]) -> None:
    assert request_framing('1.1', codings, []) == (Framing.CHUNKED, None)
    assert response_framing(codings, []) == (Framing.CHUNKED, None)


@pytest.mark.parametrize(
    'value',
    [
        '',
        '+5',
        '-5',
        '-0',
        '0x5',
        '0o5',
        '0_5',
        '5.0',
        '5e0',
        '"5"',
        '1 0',
        '5x',
        '5,',
        '5, 5',
        '5\n',
        '\xb2',
        '\u0665',
        '5\xa0',
        '1' * 20,
        '0' * 5000,
    ],
)
def test_invalid_length(value: str) -> None:
    with pytest.raises(ParseError) as caught:
        request_framing('1.1', [], [value])
    assert (caught.value.code, caught.value.status) == ('HPE_INVALID_CONTENT_LENGTH', 400)


@pytest.mark.parametrize('lengths', [['5', '5'], ['5', '6'], ['0', '35']])
def test_two_lengths_are_rejected(lengths: list[str]) -> None:
    for framing in (lambda: request_framing('1.1', [], lengths), lambda: response_framing([], lengths)):
        with pytest.raises(ParseError) as caught:
            framing()
        assert (caught.value.code, caught.value.status) == ('HPE_UNEXPECTED_CONTENT_LENGTH', 400)


@pytest.mark.parametrize(
    ('codings', 'status'),
    [
        ([''], 400),
        (['identity'], 400),
        (['xchunked'], 400),
        (['gzip'], 400),
        (['chunked, gzip'], 400),
        (['chunked', 'identity'], 400),
        (['chunked, chunked'], 400),
        (['chunked', 'chunked'], 400),
        ([',chunked'], 400),
        (['chunked,'], 400),
        (['chunked;q=1'], 400),
        (['"chunked"'], 400),
        (['\xa0chunked'], 400),
        (['chunked\x0b'], 400),
        (['chun\u212aed'.encode().decode('latin-1')], 400),
        (['gzip chunked'], 400),
        (['g(zip, chunked'], 400),
        (['gzip, chunked'], 501),
        (['gzip', 'chunked'], 501),
        (['identity, chunked'], 501),
        (['a;q=1, b , chunked'], 501),
    ],
)
def test_invalid_codings(codings: list[str], status: int) -> None:
    for framing in (lambda: request_framing('1.1', codings, []), lambda: response_framing(codings, [])):
        with pytest.raises(ParseError) as caught:
            framing()
        assert (caught.value.code, caught.value.status) == ('HPE_INVALID_TRANSFER_ENCODING', status)


@pytest.mark.parametrize(
    ('version', 'codings', 'lengths'),
    [
        ('1.1', ['chunked'], ['5']),
        ('1.1', ['identity'], ['5']),
        ('1.0', ['chunked'], ['5']),
        ('1.0', ['chunked'], []),
        ('1.0', ['gzip, chunked'], ['5']),
    ],
)
def test_contradictory_framing_is_rejected(version: str, codings: list[str], lengths: list[str]) -> None:
    with pytest.raises(ParseError) as caught:
        request_framing(version, codings, lengths)
    assert (caught.value.code, caught.value.status) == ('HPE_INVALID_TRANSFER_ENCODING', 400)


def test_a_later_minor_version_is_parsed_as_1_1() -> None:
    assert request_framing('1.7', ['chunked'], []) == (Framing.CHUNKED, None)
    assert keep_alive('1.7', frozenset())


@pytest.mark.parametrize(
    ('status', 'method', 'expected'),
    [
        (100, 'GET', True),
        (101, 'GET', True),
        (199, 'POST', True),
        (204, 'GET', True),
        (304, 'GET', True),
        (200, 'HEAD', True),
        (404, 'HEAD', True),
        (200, 'CONNECT', True),
        (299, 'CONNECT', True),
        (407, 'CONNECT', False),
        (200, 'GET', False),
        (205, 'GET', False),
        (200, '', False),
    ],
)
def test_responses_without_content(status: int, method: str, expected: bool) -> None:
    assert has_no_content(status, method) is expected


@pytest.mark.parametrize(
    ('version', 'values', 'expected'),
    [
        ('1.1', [], True),
        ('1.1', ['close'], False),
        ('1.1', ['Close'], False),
        ('1.1', ['keep-alive, CLOSE'], False),
        ('1.1', ['a', 'close'], False),
        ('1.1', ['closed'], True),
        ('1.1', ['x,\tclose '], False),
        ('1.0', [], False),
        ('1.0', ['Keep-Alive'], True),
        ('1.0', ['keep-alive, close'], False),
        ('1.1', [',,'], True),
    ],
)
def test_keep_alive(version: str, values: list[str], expected: bool) -> None:
    assert keep_alive(version, connection_options(values)) is expected
