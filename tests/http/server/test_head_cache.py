"""Test the cache of response heads: a cached head is sent and checked like any other."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode.errors import InvalidHeader, InvalidInput
from geventnode.http.server import head_cache
from geventnode.http.server.head_cache import MAX_HEADS, prepare, prepare_fields
from tests.servers import Answer, Serve, get


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    head_cache._heads.clear()


def test_the_same_head_is_rendered_once() -> None:
    first = prepare(200, {'Content-Type': 'text/plain'})
    assert first is not None
    assert first is prepare(200, {'Content-Type': 'text/plain'})
    assert first is prepare_fields(200, {'content-type': ('Content-Type', 'text/plain')})
    assert first is not prepare(201, {'Content-Type': 'text/plain'})
    assert first is not prepare(200, {'content-type': 'text/plain'})


@pytest.mark.parametrize('headers', [{'A': 1}, {'A': ['1', '2']}, {'A': True}, {'A': 1.0}, {'A': None}])
def test_a_head_with_other_types_than_text_is_not_cached(headers: dict[str, Any]) -> None:
    prepare(200, {'A': '1'})
    assert prepare(200, headers) is None


@pytest.mark.parametrize(
    ('status', 'headers'),
    [
        (204, {}),
        (304, {'ETag': '"x"'}),
        (200, {'Content-Length': '5'}),
        (200, {'Connection': 'close'}),
        (200, {'Transfer-Encoding': 'chunked'}),
        (200, {'Date': 'today'}),
        (200, {'Trailer': 'X'}),
        (200, {'TRAILER': 'X'}),
    ],
)
def test_a_head_with_framing_fields_is_not_cached(status: int, headers: dict[str, str]) -> None:
    assert prepare(status, headers) is None
    assert head_cache._heads == {}


def test_a_long_head_is_not_cached() -> None:
    long = prepare(200, {'A': 'x' * 2000})
    assert long is not None
    assert head_cache._heads == {}
    assert prepare(200, {f'X-{number}': '' for number in range(100)}) is None


def test_names_that_differ_in_case_are_one_field() -> None:
    head = prepare(200, {'A': '1', 'a': '2'})
    assert head is not None
    assert head.start == 'HTTP/1.1 200 OK\r\nA: 1\r\nA: 2\r\n'


def test_the_size_of_the_cache_is_limited() -> None:
    for number in range(3 * MAX_HEADS):
        prepare(200, {'ETag': f'"{number}"'})
    assert 0 < len(head_cache._heads) <= MAX_HEADS


@pytest.mark.parametrize(
    ('status', 'headers', 'error'),
    [
        (200, {'A b': 'x'}, InvalidHeader),
        (200, {'A': 'x\r\ny'}, InvalidHeader),
        (99, {'A': 'x'}, InvalidInput),
        (200.0, {'A': 'x'}, TypeError),
        (True, {'A': 'x'}, TypeError),
        (200, {'A': b'x'}, TypeError),
        (200, {1: 'x'}, InvalidHeader),
    ],
)
def test_a_bad_head_raises_each_time(serve: Serve, status: Any, headers: Any, error: type) -> None:
    raised: list[BaseException] = []

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'A': 'x'})
        response._state, response._status_line = type(response._state).OPEN, None
        for _ in range(2):
            try:
                response.write_head(status, headers)
            except Exception as found:
                raised.append(found)
        response.end()

    assert serve(listener).get().status == 200
    assert [isinstance(each, error) for each in raised] == [True, True]


@pytest.mark.parametrize('method', ['GET', 'HEAD'])
@pytest.mark.parametrize('version', ['1.0', '1.1'])
@pytest.mark.parametrize('fields', [(), ('Connection: close',), ('Connection: keep-alive',)])
def test_a_cached_head_is_sent_like_any_other(serve: Serve, method: str, version: str, fields: tuple[str, ...]) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/slowly':
            # a head with a reason phrase is not cached
            response.status_message = 'OK'
        response.write_head(200, {'Content-Type': 'text/plain', 'X-A': 'b'})
        response.end('hello')

    site = serve(listener)
    seen = []
    for url in ('/slowly', '/', '/'):
        answer = site.send(get(url, *fields, version=version, method=method)).response(method)
        seen.append([(name, value) for name, value in answer.headers if name != 'Date'] + [answer.body])
        assert answer.values('Date')
    assert seen[0] == seen[1] == seen[2]


def test_a_cached_head_does_not_change(answer: Answer) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'X-A': 'b'})
        assert response.get_headers() == {'x-a': 'b'}
        response.get_headers().clear()
        response.write('chunk')
        response.end()

    for _ in range(2):
        assert answer(listener).values('X-A') == ['b']


def test_a_removed_field_is_not_sent_with_a_cached_head(answer: Answer) -> None:
    def listener(request: Any, response: Any) -> None:
        response.remove_header('Date')
        response.write_head(200, {'X-A': 'b'})
        response.end('hello')

    assert answer(listener).values('Date') == []
