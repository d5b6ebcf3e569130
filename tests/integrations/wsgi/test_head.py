"""Test the heads of WSGI responses: the usual ones in one pass, the others with every check, to the same effect."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode.errors import InvalidHeader
from geventnode.integrations.wsgi import head
from geventnode.integrations.wsgi.head import MAX_HEADS, Head, find_head


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, '_heads', {})
    monkeypatch.setattr(head, '_seen', set())


def described(found: Head) -> dict[str, Any]:
    """Return the attributes of a head."""
    return {name: getattr(found, name) for name in Head.__slots__}


@pytest.mark.parametrize('status', ['200 OK', '404 Not Found', '200 Fine', '204 No Content', '304 Not Modified'])
@pytest.mark.parametrize(
    'headers',
    [
        [],
        [('Content-Type', 'text/plain')],
        [('Content-Type', 'text/plain'), ('Content-Length', '5')],
        [('Content-Type', 'text/plain'), ('Upgrade', 'x')],
        [('TE', 'trailers'), ('Proxy-Connection', 'close')],
        [('Connection', 'close')],
        [('Connection', 'keep-alive')],
        [('Date', 'today')],
        [('Trailer', 'X')],
        [('Transfer-Encoding', 'chunked')],
        [('Set-Cookie', 'a=b'), ('Set-Cookie', 'c=d')],
        [('X-Name', 'é'), ('X-Other', 'a\tb')],
        [['Content-Type', 'text/plain']],
    ],
)
def test_usual_heads_are_those_of_all_checks(status: str, headers: list[Any]) -> None:
    wanted = described(head._check_head(status, headers))
    for _ in range(3):
        assert described(find_head(status, headers)) == wanted


@pytest.mark.parametrize(
    ('headers', 'error'),
    [
        ([('Content-Length', 5)], InvalidHeader),
        ([('Content-Length', '5', '6')], TypeError),
        ([('ETag', 'a\r\nb')], InvalidHeader),
        ([('Content-Type', ['a'])], InvalidHeader),
        (['ab'], TypeError),
        ([5], TypeError),
    ],
)
def test_wrong_headers_raise_each_time(headers: list[Any], error: type[Exception]) -> None:
    for _ in range(3):
        with pytest.raises(error):
            find_head('200 OK', headers)


def test_a_head_is_cached_when_it_is_used_again() -> None:
    first, second, third = (find_head('200 OK', [('ETag', '"a"')]) for _ in range(3))
    assert first is not second
    assert second is third


def test_heads_that_do_not_repeat_are_not_cached() -> None:
    for number in range(3 * MAX_HEADS):
        find_head('200 OK', [('ETag', f'"{number}"')])
        assert len(head._seen) <= MAX_HEADS
    assert head._heads == {}


@pytest.mark.parametrize('name', ['Set-Cookie', 'set-cookie'])
def test_a_head_with_a_cookie_is_not_cached(name: str) -> None:
    for _ in range(3):
        assert find_head('200 OK', [(name, 'session=secret')]).start is not None
    assert head._heads == {}


def test_the_size_of_the_cache_is_limited() -> None:
    for number in range(3 * MAX_HEADS):
        for _ in range(2):
            find_head('200 OK', [('ETag', f'"{number}"')])
    assert 0 < len(head._heads) <= MAX_HEADS
