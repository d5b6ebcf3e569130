"""Test the heads of WSGI responses: the usual ones in one pass, the others with every check, to the same effect."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode.errors import InvalidHeader
from geventnode.integrations.wsgi import head
from geventnode.integrations.wsgi.head import Head, find_head


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
    wanted = head._check_head(status, headers)
    for _ in range(3):
        found = find_head(status, headers)
        assert type(found) is Head
        assert found == wanted


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


def test_later_changes_of_the_list_have_no_effect() -> None:
    headers = [('ETag', '"a"')]
    found = find_head('200 OK', headers)
    headers[0] = ('ETag', '"b"')
    assert found.fields == {'etag': ('ETag', '"a"')}
    assert found.start == 'HTTP/1.1 200 OK\r\nETag: "a"'
