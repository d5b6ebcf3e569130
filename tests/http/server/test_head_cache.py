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
        (200, {'Content-Length': '5', 'Connection': 'close'}),
        (200, {'Content-Length': '0x5'}),
        (200, {'Content-Length': '9' * 19}),
        (204, {'Content-Length': '5'}),
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
        prepare(200, {'X-Number': f'{number}'})
    assert 0 < len(head_cache._heads) <= MAX_HEADS


@pytest.mark.parametrize(
    'headers',
    [
        {'ETag': '"1"'},
        {'Location': '/1'},
        {'Set-Cookie': 'a=b'},
        {'SET-COOKIE': 'a=b'},
        {'Set-cookie': 'a=b'},
        {'Content-Length': '5'},
    ],
)
def test_a_head_of_one_response_is_prepared_and_not_cached(headers: dict[str, str]) -> None:
    fields = {name.lower(): (name, value) for name, value in headers.items()}
    by_name, by_field = prepare(200, headers), prepare_fields(200, fields)
    assert by_name is not None
    assert by_field is not None
    assert head_cache._heads == {}
    assert (by_name.start, by_name.fields, by_name.length) == (by_field.start, by_field.fields, by_field.length)


@pytest.mark.parametrize(
    ('headers', 'lines', 'length'),
    [
        ({'Content-Length': '5'}, '', 5),
        ({'Content-Length': 5, 'ETag': 'x'}, 'ETag: x\r\n', 5),
        ({'content-length': '0'}, '', 0),
        ({'Set-Cookie': 'a=b', 'A': ''}, None, None),
        ({'Set-Cookie': ['a=b', 'c=d']}, None, None),
        ({'ETag': '"\xe4"'}, None, None),
        ({'ETag': 'a\tb'}, None, None),
        ({'ETag': 'a\r\nb'}, None, None),
        ({'ETag': 'a', 'etag': 'b'}, None, None),
        ({'Content-Length': '-1'}, None, None),
        ({'Content-Length': True}, None, None),
        ({'Content-Length': '\u0665'}, None, None),
    ],
)
def test_unusual_fields_are_left_to_the_checks(headers: dict[str, Any], lines: str | None, length: int | None) -> None:
    head_cache.KNOWN_NAMES.pop('A', None)
    found = prepare(200, headers)
    assert (None if found is None else found.start) == (None if lines is None else f'HTTP/1.1 200 OK\r\n{lines}')
    assert (None if found is None else found.length) == length


@pytest.mark.parametrize('name', ['Content-Length', 'content-length', 'CONTENT-LENGTH'])
@pytest.mark.parametrize('value', ['5', '005'])
@pytest.mark.parametrize('fixed', [True, False])
def test_a_declared_length_is_sent_as_it_was_set(answer: Answer, name: str, value: str, fixed: bool) -> None:
    def listener(request: Any, response: Any) -> None:
        if fixed:
            response.write_head(200, {name: value})
        else:
            response.set_header(name, value)
        response.end('hello')

    found = answer(listener)
    assert [field for field in found.headers if field[0].lower() == 'content-length'] == [(name, value)]
    assert found.body == b'hello'


@pytest.mark.parametrize('length', ['5', 5])
@pytest.mark.parametrize('ending', ['whole', 'pieces', 'short', 'long'])
def test_a_declared_length_holds_however_the_body_is_sent(serve: Serve, length: Any, ending: str) -> None:
    errors: list[str] = []

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'Content-Type': 'text/plain', 'Content-Length': length})
        assert response.get_header('content-length') == '5'
        try:
            if ending == 'pieces':
                response.write('he')
                response.end('llo')
            else:
                response.end({'whole': 'hello', 'short': 'hell', 'long': 'hello!'}[ending])
        except Exception as error:
            errors.append(type(error).__name__)
            response.end('hello')

    site = serve(listener)
    if ending == 'short':
        assert site.send(get('/')).rest().endswith(b'\r\n\r\nhell')
    else:
        answer = site.get()
        assert (answer.values('Content-Length'), answer.body) == (['5'], b'hello')
    assert errors == (['ContentLengthMismatch'] if ending == 'long' else [])


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
