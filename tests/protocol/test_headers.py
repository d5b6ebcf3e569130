"""The header map: case-insensitive look-ups, and merging of repeated fields."""

from __future__ import annotations

import pytest

from geventnode.protocol import Headers, distinct
from geventnode.protocol.headers import FIRST_WINS

RAW = [
    ('Host', 'a'),
    ('X-One', '1'),
    ('x-one', '2'),
    ('Cookie', 'a=1'),
    ('Cookie', 'b=2'),
    ('Set-Cookie', 'c=3'),
    ('Content-Type', 'text/plain'),
    ('content-type', 'text/html'),
    ('Empty', ''),
]


def test_repeated_fields_are_merged() -> None:
    assert Headers.from_raw(RAW) == {
        'host': 'a',
        'x-one': '1, 2',
        'cookie': 'a=1; b=2',
        'set-cookie': ['c=3'],
        'content-type': 'text/plain',
        'empty': '',
    }
    assert Headers.from_raw([('Set-Cookie', 'a'), ('SET-COOKIE', 'b')]) == {'set-cookie': ['a', 'b']}
    assert Headers.from_raw([]) == {}


@pytest.mark.parametrize('name', sorted(FIRST_WINS))
def test_the_first_line_wins(name: str) -> None:
    assert Headers.from_raw([(name, '1'), (name.title(), '2')])[name] == '1'


def test_distinct_keeps_all_values() -> None:
    assert distinct(RAW) == {
        'host': ['a'],
        'x-one': ['1', '2'],
        'cookie': ['a=1', 'b=2'],
        'set-cookie': ['c=3'],
        'content-type': ['text/plain', 'text/html'],
        'empty': [''],
    }


@pytest.mark.parametrize('name', ['x-one', 'X-One', 'X-ONE'])
def test_every_spelling_finds_a_field(name: str) -> None:
    headers = Headers.from_raw(RAW)
    assert headers[name] == '1, 2'
    assert headers.get(name) == '1, 2'
    assert headers.get(name, 'no') == '1, 2'
    assert name in headers
    assert headers.setdefault(name, 'no') == '1, 2'
    assert headers.pop(name) == '1, 2'
    assert name not in headers
    headers[name] = 'new'
    assert list(headers)[-1] == 'x-one'
    del headers[name]
    assert headers.setdefault(name, 'default') == 'default'
    assert headers['x-one'] == 'default'


@pytest.mark.parametrize('name', ['missing', 'Missing'])
def test_missing_fields(name: str) -> None:
    headers = Headers.from_raw(RAW)
    assert headers.get(name) is None
    assert headers.get(name, 'no') == 'no'
    assert name not in headers
    assert headers.pop(name, 'no') == 'no'
    for wrong in (lambda: headers[name], lambda: headers.pop(name), lambda: headers.__delitem__(name)):
        with pytest.raises(KeyError):
            wrong()


def test_other_types_are_not_found() -> None:
    headers = Headers.from_raw(RAW)
    assert 7 not in headers
    assert headers.get(7, 'no') == 'no'
    with pytest.raises(KeyError):
        headers[None]


def test_arguments_are_those_of_dict() -> None:
    assert Headers({'A': 1}) == Headers([('a', 1)]) == Headers(A=1) == {'a': 1}
    assert Headers() == {}
    headers = Headers({'A': 1, 'b': 2})
    headers.update({'B': 3}, C=4)
    assert headers == {'a': 1, 'b': 3, 'c': 4}
    headers |= {'C': 5}
    assert headers['c'] == 5
    assert type(headers | {'D': 6}) is Headers
    assert (headers | {'D': 6})['d'] == 6
    assert 'd' not in headers
    with pytest.raises(TypeError):
        headers | 7


def test_a_copy_is_independent() -> None:
    headers = Headers.from_raw(RAW)
    copy = headers.copy()
    assert type(copy) is Headers
    copy['Host'] = 'b'
    assert headers['host'] == 'a'


def test_a_subclass_makes_objects_of_its_own_class() -> None:
    class Own(Headers):
        pass

    assert type(Own.from_raw(RAW)) is Own
