"""Test the cache of field lines: its results, its size, and the lines that it must not keep."""

from __future__ import annotations

import pytest

from geventnode.protocol.field_lines import MAX_LINE, MAX_LINES, MAX_NAME, MAX_NAMES, FieldLines, MalformedLine

SECRET_NAMES = [
    'Authorization',
    'Cookie',
    'Proxy-Authorization',
    'Set-Cookie',
    'X-API-Key',
    'X-Auth-Token',
    'X-CSRFToken',
    'X-Amz-Security-Token',
    'X-Session-Id',
    'X-Hub-Signature-256',
    'Sec-WebSocket-Key',
    'Client-Secret',
]


def kept(lines: FieldLines) -> list[bytes]:
    return [*lines, *lines._old]


@pytest.mark.parametrize('name', SECRET_NAMES)
@pytest.mark.parametrize('spelling', [str, str.lower, str.upper, str.swapcase])
def test_a_line_with_a_secret_is_not_kept(name: str, spelling: type[str]) -> None:
    lines = FieldLines()
    line = f'{spelling(name)}: sesame'.encode()
    for _ in range(3):
        assert lines[line] == (name.lower(), 'sesame')
    assert kept(lines) == []


def test_other_lines_are_kept() -> None:
    lines = FieldLines()
    for line in (b'Accept: */*', b'X-Own:\tvalue ', b'x-own: value'):
        assert lines[line] is lines[line]
    assert len(kept(lines)) == 3


@pytest.mark.parametrize(
    'line',
    [
        *(b'', b'a', b': b', b' a: b', b'a : b', b'\xe9: b', b'a: \r', b'a: \n', b'a: \0', b'a: \x7f', b'a: \x1c'),
        # names of fields that are not kept
        *(b'Age', b'Cookie', b'Content-Length', b'Date', b'ETag;'),
    ],
)
def test_a_malformed_line_raises_each_time(line: bytes) -> None:
    lines = FieldLines()
    for _ in range(3):
        with pytest.raises(MalformedLine):
            lines[line]
    assert kept(lines) == []


@pytest.mark.parametrize('name', ['X-%d', 'X-Token-%d', 'N' * MAX_NAME + '%d'])
def test_new_names_and_lines_do_not_fill_the_memory(name: str) -> None:
    lines = FieldLines()
    for number in range(3 * MAX_NAMES):
        assert lines[f'{name % number}: b'.encode()] == ((name % number).lower(), 'b')
    assert len(lines) <= MAX_LINES
    assert len(lines._old) <= MAX_LINES
    assert len(lines._names) <= MAX_NAMES
    assert len(lines.names_not_kept) <= MAX_NAMES
    assert max(map(len, [*lines._names, *lines.names_not_kept])) <= MAX_NAME


def test_a_long_line_is_not_kept() -> None:
    lines = FieldLines()
    assert lines[b'A: ' + b'x' * MAX_LINE] == ('a', 'x' * MAX_LINE)
    assert kept(lines) == []
