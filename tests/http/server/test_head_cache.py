"""Test the usual heads of responses: they are checked, rendered and sent like any other."""

from __future__ import annotations

import cProfile
from typing import Any

import pytest

from geventnode.errors import InvalidHeader, InvalidInput
from geventnode.http.header_fields import field_lines, merge_headers
from geventnode.http.server import head_cache
from geventnode.http.server.head_cache import MAX_NAMES, MAX_VALUES, render_plain_fields
from tests.servers import Answer, Serve, get


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_cache, '_names', {})


def rendered(headers: dict[Any, Any], takes_int: bool = True) -> Any:
    """Return the result for some headers, which is the same the second time."""
    found = render_plain_fields('HTTP/1.1 200 OK', headers.items(), takes_int)
    assert render_plain_fields('HTTP/1.1 200 OK', headers.items(), takes_int) == found
    return found


def lines_of(name: str) -> dict[str, str] | None:
    """Return the remembered lines of a name."""
    return head_cache._names[name][2]


@pytest.mark.parametrize(
    'headers',
    [
        {},
        {'Content-Type': 'text/plain'},
        {'content-type': 'text/plain', 'X-A': 'b', 'ETag': '"x"'},
        {'Location': '/1', 'Set-Cookie': 'a=b', 'X-Empty': ''},
        {'SET-COOKIE': 'a=b', 'Set-cookie2': 'a=b'},
    ],
)
def test_usual_fields_are_rendered_as_all_fields_are(headers: dict[str, str]) -> None:
    fields = merge_headers({}, headers)
    start = f'HTTP/1.1 200 OK\r\n{field_lines(fields)}'.removesuffix('\r\n')
    assert rendered(headers) == (fields, start, None)


@pytest.mark.parametrize(
    ('headers', 'lines', 'length'),
    [
        ({'Content-Length': '5'}, '', '5'),
        ({'Content-Length': 5, 'ETag': 'x'}, '\r\nETag: x', '5'),
        ({'content-length': '0'}, '', '0'),
        ({'content-length': '005'}, '', '005'),
    ],
)
def test_content_length_has_no_line(headers: dict[str, Any], lines: str, length: str) -> None:
    fields, start, found = rendered(headers)
    assert (start, found) == (f'HTTP/1.1 200 OK{lines}', length)
    assert fields['content-length'][1] == length


@pytest.mark.parametrize(
    'headers',
    [
        {'A': 1},
        {'A': True},
        {'A': 1.0},
        {'A': None},
        {'A': ['1', '2']},
        {'A': b'1'},
        {'A b': '1'},
        {'': '1'},
        {1: '1'},
        {'A': '1', 'a': '2'},
        {'ETag': '"\xe4"'},
        {'ETag': '\u0416'},
        {'ETag': 'a\tb'},
        {'ETag': 'a\r\nb'},
        {'A': 'a\nb'},
        {'A': 'a\0b'},
        {'A': '\xe4'},
        {'Connection': 'close'},
        {'KEEP-ALIVE': 'timeout=1'},
        {'Transfer-Encoding': 'chunked'},
        {'Date': 'today'},
        {'TRAILER': 'X'},
        {'Host': 'a'},
        {'Content-Length': '-1'},
        {'Content-Length': -1},
        {'Content-Length': ''},
        {'Content-Length': '0x5'},
        {'Content-Length': True},
        {'Content-Length': ['5']},
        {'Content-Length': '\u0665'},
        {'Content-Length': '5', 'content-length': '5'},
        {'A' * 65: '1'},
        {f'X-{number}': '' for number in range(1000)},
    ],
)
def test_unusual_fields_are_left_to_the_checks(headers: dict[Any, Any]) -> None:
    render_plain_fields('', {'A': '1'}.items(), True)
    assert rendered(headers) is None


def test_a_number_is_left_to_the_checks_under_a_profiler() -> None:
    """A number as a value is left to all checks under cProfile, too."""
    assert cProfile.Profile().runcall(render_plain_fields, 'HTTP/1.1 200 OK', [('X-Length', 5)], True) is None


def test_an_int_is_not_taken_for_wsgi() -> None:
    assert rendered({'Content-Length': 5}, takes_int=False) is None


def test_lines_that_repeat_are_remembered() -> None:
    for number in range(3):
        rendered({'Content-Type': 'text/plain', 'X-Request-Id': f'{number}', 'Set-Cookie': f'a={number}'})
    assert lines_of('Content-Type') == {'text/plain': 'Content-Type: text/plain'}
    assert (lines_of('X-Request-Id'), lines_of('Set-Cookie')) == (None, None)


def test_values_of_a_name_that_has_many_are_not_remembered() -> None:
    for number in range(MAX_VALUES + 1):
        assert rendered({'X-Own': f'{number}'})[1].endswith(f'\r\nX-Own: {number}')
    assert lines_of('X-Own') is None
    assert rendered({'X-Own': '0'})[1].endswith('\r\nX-Own: 0')


def test_a_long_value_is_not_remembered() -> None:
    assert rendered({'X-Own': 'x' * 2000})[1].endswith('x' * 2000)
    assert lines_of('X-Own') == {}


def test_the_number_of_names_is_limited() -> None:
    for number in range(3 * MAX_NAMES):
        rendered({f'X-{number}': f'{number}'})
        assert len(head_cache._names) <= MAX_NAMES + 1


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
        response._state, response._status_line, response._start = type(response._state).OPEN, None, None
        response._fields = {}
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
def test_a_usual_head_is_sent_like_any_other(serve: Serve, method: str, version: str, fields: tuple[str, ...]) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/slowly':
            # a head with a reason phrase is rendered by field
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


def test_fields_of_a_fixed_head_do_not_change(answer: Answer) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'X-A': 'b'})
        assert response.get_headers() == {'x-a': 'b'}
        response.get_headers().clear()
        response.write('chunk')
        response.end()

    for _ in range(2):
        assert answer(listener).values('X-A') == ['b']


def test_a_removed_field_is_not_sent_with_a_usual_head(answer: Answer) -> None:
    def listener(request: Any, response: Any) -> None:
        response.remove_header('Date')
        response.write_head(200, {'X-A': 'b'})
        response.end('hello')

    assert answer(listener).values('Date') == []
