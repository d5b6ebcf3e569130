"""The origin and the target of a request, from its URL and options."""

from __future__ import annotations

import pickle
import random
import socket
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from geventnode import http, https, websocket
from geventnode.errors import InvalidHeader, InvalidInput, UnknownOption, without_credentials
from geventnode.http.client import origin
from geventnode.http.client.origin import URLs, make_origin, parse_url


@pytest.mark.parametrize(
    ('url', 'host', 'port', 'path', 'auth'),
    [
        ('http://example.com', 'example.com', None, '/', None),
        ('http://example.com/', 'example.com', None, '/', None),
        ('HTTP://Example.COM:8080/A?b=C', 'example.com', 8080, '/A?b=C', None),
        ('http://example.com?x=1', 'example.com', None, '/?x=1', None),
        ('http://example.com/a#fragment', 'example.com', None, '/a', None),
        ('http://example.com/a?b#fragment?c', 'example.com', None, '/a?b', None),
        ('http://example.com#f', 'example.com', None, '/', None),
        ('http://user:pass@example.com/', 'example.com', None, '/', b'user:pass'),
        ('http://us%40er:p%3Ass%20@example.com/', 'example.com', None, '/', b'us@er:p:ss '),
        ('http://user@example.com/', 'example.com', None, '/', b'user:'),
        ('http://@example.com/', 'example.com', None, '/', None),
        ('http://[::1]:81/x', '::1', 81, '/x', None),
        ('http://[fe80::1%25eth0]/', 'fe80::1%eth0', None, '/', None),
        ('http://127.0.0.1:1/', '127.0.0.1', 1, '/', None),
        ('http://b\xfccher.example/', 'xn--bcher-kva.example', None, '/', None),
        ('http://example.com/\xe4?\u20ac=1', 'example.com', None, '/%C3%A4?%E2%82%AC=1', None),
        ('http://example.com/%41%2f%', 'example.com', None, '/%41%2f%', None),
        (
            "http://example.com/a;b=c,d!$&'()*+:@|{}[]^`\\\"<>",
            'example.com',
            None,
            "/a;b=c,d!$&'()*+:@|{}[]^`\\\"<>",
            None,
        ),
        ('http://example.com//double//', 'example.com', None, '//double//', None),
        ('http://example.com:/', 'example.com', None, '/', None),
        ('http://a_b.example/', 'a_b.example', None, '/', None),
    ],
)
def test_url_is_parsed(url: str, host: str, port: int | None, path: str, auth: bytes | None) -> None:
    target = parse_url(url)
    assert (target.host, target.port, target.path, target.auth) == (host, port, path, auth)
    urls = URLs('http', 80)
    for _ in range(3):
        parts, split = urls.split(url)
        assert (parts.host, parts.port, split, parts.auth) == (host, port, path, auth)


def test_a_known_authority_does_not_change_the_result(seed: int) -> None:
    """A path that follows a known authority is not parsed, only checked."""
    chance = random.Random(seed)
    pieces = [
        'http://',
        'HTTP://',
        'https://',
        'a.example',
        'b',
        '[::1]',
        ':81',
        ':0',
        'u:p@',
        '/',
        '//',
        '?',
        '#',
        '@',
    ]
    pieces += ['x', '%41', '\\', ' ', '\t', '\x7f', '\x85', 'é', '\u2028', '\ud800', '&=', ':']
    urls = URLs('http', 80)

    def parts(parse: Callable[[str], Any], url: str) -> Any:
        try:
            found = parse(url)
        except InvalidInput as error:
            return type(error), str(error), error.code
        known, path = found if isinstance(found, tuple) else (found, found.path)
        return known.host, known.port, known.auth, known.origin.name, path

    for _ in range(20000):
        url = 'http://' * chance.choice((0, 1, 1, 1)) + ''.join(chance.choices(pieces, k=chance.randrange(7)))
        expected = parts(parse_url.__wrapped__, url)
        assert parts(urls.split, url) == expected, url
        assert parts(urls.split, url) == expected, url


def test_the_table_of_authorities_is_bounded_and_has_no_credentials() -> None:
    urls = URLs('http', 80)
    for number in range(origin.MAX_AUTHORITIES + 10):
        urls.split(f'http://h{number}.example/')
    for url in ('http://user:password@a.example/', f'http://{"a." * 200}example/', 'http://a.example?x/'):
        urls.split(url)
    assert len(urls._authorities) == 10
    assert not [known for known in urls._authorities if 'password' in known or 'a.a' in known or '?' in known]


@pytest.mark.parametrize(
    ('url', 'code'),
    [
        ('ftp://example.com/', 'ERR_INVALID_PROTOCOL'),
        ('https://example.com/', 'ERR_INVALID_PROTOCOL'),
        ('example.com', 'ERR_INVALID_PROTOCOL'),
        ('/path', 'ERR_INVALID_PROTOCOL'),
        ('', 'ERR_INVALID_PROTOCOL'),
        ('//example.com/', 'ERR_INVALID_PROTOCOL'),
        ('http:', 'ERR_INVALID_URL'),
        ('http:///x', 'ERR_INVALID_URL'),
        ('http://:80/', 'ERR_INVALID_URL'),
        ('http://example.com:65536/', 'ERR_INVALID_URL'),
        ('http://example.com:0/', 'ERR_INVALID_URL'),
        ('http://example.com:x/', 'ERR_INVALID_URL'),
        ('http://example.com/a b', 'ERR_INVALID_URL'),
        ('http://example.com/a\r\nHost: evil', 'ERR_INVALID_URL'),
        ('http://example.com/\t', 'ERR_INVALID_URL'),
        (' http://example.com/', 'ERR_INVALID_URL'),
        ('http://exa mple.com/', 'ERR_INVALID_URL'),
        ('http://example.com\n.evil/', 'ERR_INVALID_URL'),
        ('http://[::1/', 'ERR_INVALID_URL'),
        ('http://[zz]/', 'ERR_INVALID_URL'),
        ('http://a%0d%0ab/', 'ERR_INVALID_ARG_VALUE'),
        ('http://h/\udcff', 'ERR_INVALID_URL'),
        ('http://[::1]x/', 'ERR_INVALID_URL'),
        ('http://a<b>/', 'ERR_INVALID_ARG_VALUE'),
        ('http://\xad/', 'ERR_INVALID_ARG_VALUE'),
    ],
)
def test_invalid_url_raises(url: str, code: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        http.request(url)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ('url', 'meant'),
    [
        ('example.com', 'example.com'),
        ('example.com/a?b', 'example.com/a?b'),
        ('//example.com/', 'example.com/'),
        ('localhost:8000', 'localhost:8000'),
        ('localhost:8000/a', 'localhost:8000/a'),
        ('127.0.0.1:80?a', '127.0.0.1:80?a'),
        ('[::1]:80', '[::1]:80'),
        ('www', 'www'),
    ],
)
@pytest.mark.parametrize('module', [http, https])
def test_url_without_a_scheme_gets_a_hint(module: Any, url: str, meant: str) -> None:
    scheme = module.__name__.rpartition('.')[2]
    with pytest.raises(InvalidInput) as raised:
        module.get(url)
    assert str(raised.value) == f'URL has no scheme: {url!r}: did you mean {f"{scheme}://{meant}"!r}?'


@pytest.mark.parametrize('url', ['', '/path', '?a', '#a', '///a'])
def test_url_without_a_host_gets_no_hint(url: str) -> None:
    """No correction can be proposed."""
    with pytest.raises(InvalidInput) as raised:
        http.get(url)
    assert str(raised.value) == f'URL has no scheme: {url!r}'


@pytest.mark.parametrize(
    ('module', 'url', 'other'),
    [
        (http, 'https://example.com/', 'https'),
        (http, 'HTTPS://example.com/', 'https'),
        (https, 'http://example.com/', 'http'),
        (http, {'protocol': 'https:'}, 'https'),
        (https, {'protocol': 'http:'}, 'http'),
    ],
)
@pytest.mark.parametrize('call', ['get', 'request'])
def test_url_of_the_other_module_names_its_functions(module: Any, url: Any, other: str, call: str) -> None:
    with pytest.raises(InvalidInput, match=f'use geventnode.{other}.get or geventnode.{other}.request$'):
        getattr(module, call)(url)


@pytest.mark.parametrize('url', ['ftp://example.com/', 'mailto:a@example.com', 'file:///a', 'a:b'])
def test_unsupported_scheme_raises(url: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        http.get(url)
    # user:password@host has the form of a mailto: URL
    shown = url.replace(':a@', ':***@')
    assert str(raised.value) == f"protocol {url.split(':')[0] + ':'!r} is not supported, expected 'http:' in {shown!r}"


@pytest.mark.parametrize('module', [http, https])
@pytest.mark.parametrize('options', [{}, {'method': 'PUT'}, {'agent': None}, {'host': 'a.example'}])
def test_none_as_url_raises(module: Any, options: dict[str, Any]) -> None:
    """A call without a URL is a request to this machine."""
    for call in (module.get, module.request):
        with pytest.raises(TypeError, match='a request takes a URL or a mapping of options, not NoneType'):
            call(None, **options)
    assert module.request(**options).host == options.get('host', 'localhost')


@pytest.mark.parametrize(
    ('host', 'port', 'options', 'field'),
    [
        ('example.com', 80, {}, 'example.com'),
        ('example.com', 8080, {}, 'example.com:8080'),
        ('example.com', 443, {'default_port': 443}, 'example.com'),
        ('::1', 80, {}, '[::1]'),
        ('[::1]', 8080, {}, '[::1]:8080'),
        ('fe80::1%eth0', 80, {}, '[fe80::1]'),
    ],
)
def test_host_field_has_brackets_and_port(host: str, port: int, options: dict[str, int], field: str) -> None:
    assert make_origin(host, port, **options).host_field == field


@pytest.mark.parametrize(
    ('options', 'name'),
    [
        ({}, 'localhost:80'),
        ({'host': 'a', 'port': 1}, 'a:1'),
        ({'host': 'a', 'hostname': 'b'}, 'b:80'),
        ({'host': 'a', 'local_address': '127.0.0.1'}, 'a:80:127.0.0.1'),
        ({'family': 4}, 'localhost:80:4'),
        ({'family': socket.AF_INET6}, 'localhost:80:6'),
        ({'socket_path': '/s'}, 'localhost:80:/s'),
        ({'host': 'a', 'port': '81'}, 'a:81'),
    ],
)
def test_name_has_every_property(options: dict[str, Any], name: str) -> None:
    assert http.Agent().get_name(options) == name


@pytest.mark.parametrize(
    'options',
    [
        {'port': 0},
        {'port': 65536},
        {'port': -1},
        {'port': 'x'},
        {'host': 'a b'},
        {'host': 'a\r\nb'},
        {'host': 'a/b'},
        {'host': 'a@b'},
        {'host': 'a:b:c'},
        {'local_address': ''},
        {'socket_path': 'a\0b'},
        {'family': 99},
        {'path': '/a b'},
        {'path': '/\xe4'},
        {'path': '/\r\nX: y'},
        {'method': 'GE T'},
        {'method': 'G\r\n'},
        {'headers': {'A\r\n': 'x'}},
        {'headers': {'A': 'x\r\ny'}},
        {'headers': {'A': '\u010a'}},
        {'headers': [('A:', 'x')]},
        {'headers': [('Host', 'a'), ('Host', 'b')]},
        {'headers': {'Host': 'a b'}},
        {'headers': {'host': ['a']}},
        {'auth': 'a:\udcff'},
        {'protocol': 'https:'},
        {'timeout': -1},
        {'timeout': float('nan')},
        {'connect_timeout': -1},
        {'deadline': -1},
        {'queue_timeout': float('inf')},
        {'max_header_size': -1},
        {'headers': {'Content-Length': 'x'}},
    ],
)
def test_invalid_value_raises(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        http.request(**options)


@pytest.mark.parametrize(
    'options',
    [
        {'host': 1},
        {'host': ['a']},
        {'port': [1]},
        {'port': True},
        {'family': 'x'},
        {'path': 1},
        {'method': 1},
        {'headers': 'A: b'},
        {'headers': 1},
        {'headers': {'A': object()}},
        {'headers': {1: 'x'}},
        {'auth': 1},
        {'agent': object()},
        {'agent': True},
        {'create_connection': 1},
        {'timeout': 'x'},
        {'body': 1},
        {'max_header_size': 'x'},
    ],
)
def test_invalid_type_raises(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, InvalidInput)):
        http.request(**options)


@pytest.mark.parametrize('first', [1, b'http://example.com/', object()])
def test_wrong_type_of_url_raises(first: Any) -> None:
    with pytest.raises(TypeError):
        http.request(first)


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownOption, match="'socketpath': did you mean 'socket_path'"):
        http.request(socketpath='/x')
    with pytest.raises(UnknownOption, match='known are agent, auth'):
        http.get({'wholly': 'unknown'})


@pytest.mark.parametrize(
    'first',
    [
        'http://u:p@a.example:81/x?y',
        urlsplit('http://u:p@a.example:81/x?y'),
        {'host': 'a.example', 'port': 81, 'path': '/x?y', 'auth': 'u:p'},
    ],
)
def test_url_and_options_are_equivalent(first: Any) -> None:
    request = http.request(first, method='put', headers=[('X', '1')])
    assert (request.host, request.path, request.method) == ('a.example', '/x?y', 'PUT')
    assert request.get_headers() == {'host': 'a.example:81', 'x': '1', 'authorization': 'Basic dTpw'}


def test_option_overrides_the_url() -> None:
    request = http.request('http://a.example:81/x', host='b.example', port=82, path='/y')
    assert (request.host, request.path, request.get_header('Host')) == ('b.example', '/y', 'b.example:82')


@pytest.mark.parametrize('value', [0, False, b'', [], 0.0])
@pytest.mark.parametrize('name', ['method', 'path', 'host', 'hostname', 'auth'])
def test_false_value_of_a_wrong_type_raises(name: str, value: Any) -> None:
    """It does not mean the default."""
    for module in (http, https):
        with pytest.raises(TypeError, match='must be str'):
            module.request(**{name: value})


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('family', False),
        ('family', ''),
        ('family', 0.0),
        ('family', []),
        ('set_host', 0),
        ('set_host', None),
        ('default_port', ''),
        ('default_port', False),
        ('default_port', 0),
        ('headers', 0),
        ('headers', False),
    ],
)
def test_false_value_of_another_option_raises(name: str, value: Any) -> None:
    # a cached valid value must not be used for it
    http.request(host='localhost', family=0)
    with pytest.raises((TypeError, InvalidInput)):
        http.request(host='localhost', **{name: value})


@pytest.mark.parametrize(
    'options',
    [
        {'method': ''},
        {'method': None},
        {'path': ''},
        {'path': None},
        {'host': ''},
        {'host': None, 'hostname': ''},
        {'family': None},
        {'default_port': None},
        {'headers': None},
        {'auth': None},
    ],
)
def test_none_and_empty_text_are_the_default(options: dict[str, Any]) -> None:
    made = http.request(**options)
    assert (made.method, made.path, made.host, made.get_header('Host')) == ('GET', '/', 'localhost', 'localhost')


# -- errors without credentials ---------------------------------------------------------------------------------------

#: URLs with a user and a password, each with a fault.
CONFIDENTIAL = [
    'http://user:secret@host/a b',
    'http://user:secret@host\x00/',
    ' http://user:secret@host/',
    'http://user:secret@host:port/',
    'http://user:secret@host:99999/',
    'http://user:secret@host:0/',
    'http://user:secret@[::1/',
    'http://user:secret@ho\\st/',
    'http://user:sec\\ret@host/',
    'http://user:secret@/',
    'http://user:secret@ho%2Fst/',
    'http://user:secret@\u2488com/',
    'http://user:secret@host/\ud800',
    'http://user:secret@h\xf6\u2260st/',
    'http://user:se/cret@host/',
    'http://user:se?cret@host/',
    'http://user:se#cret@host/',
    'http://us@er:se/cret@host/',
    'http:///user:secret@host/',
    'http://user:secret\uff20host/',
    'http:/user:secret@host/',
    'http:user:secret@host/',
    'user:secret@host/',
    '//user:secret@host/',
    'ftp://user:secret@host/',
    'https://user:secret@host/',
    'ws://user:secret@host/',
]


def shown(error: BaseException) -> str:
    """Return all texts of an exception and its chain."""
    return ''.join(traceback.TracebackException.from_exception(error).format(chain=True)) + repr(error)


@pytest.mark.parametrize('url', CONFIDENTIAL)
def test_errors_do_not_have_the_credentials(url: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: http.get(url),
        lambda: http.request(url, agent=False, timeout=1),
        lambda: http.get(host=url),
        lambda: http.get(host=url.partition('//')[2] or url, path='/'),
        lambda: http.get(host=url.replace('user', 'us/er'), path='/'),
        lambda: http.get(path=f'{url} '),
        lambda: http.Agent().get_name({'host': url}),
        lambda: http.Agent().reserve(url),
        lambda: websocket.connect(f'{url}#'),
        lambda: websocket.connect(f'x{url}'),
    ]
    if not url.startswith('https:'):
        calls.append(lambda: https.get(url))
    for call in calls:
        with pytest.raises((InvalidInput, InvalidHeader)) as caught:
            call()
        text = shown(caught.value)
        for secret in ('secret', 'cret', 'sec\\'):
            assert secret not in text.replace('test_errors_do_not_have_the_credentials', ''), text
        assert b'cret' not in pickle.dumps(caught.value)


def test_representation_does_not_have_the_credentials() -> None:
    request = http.request(host='host', path='http://user:secret@host/x')
    assert repr(request) == '<ClientRequest GET http://hosthttp://***@host/x open>'
    request = http.request('http://user:secret@host/x')
    assert repr(request) == '<ClientRequest GET http://host/x open>'


@pytest.mark.parametrize(
    ('url', 'expected'),
    [
        ('http://host/@scope/name', 'http://host/@scope/name'),
        ('http://host:80/a:b@c', 'http://host:80/a:b@c'),
        ('http://[::1]:80/a:b@c', 'http://[::1]:80/a:b@c'),
        ('/a:b@c', '/a:b@c'),
        ('@', '***@'),
        ('http:///a@b', 'http:///***@b'),
        ('http://user@host/@x', 'http://***@host/@x'),
        ('http://user:p@ss@host/', 'http://***@host/'),
    ],
)
def test_only_credentials_are_replaced(url: str, expected: str) -> None:
    assert without_credentials(url) == expected


@pytest.mark.parametrize('name', ['Authorization', 'Proxy-Authorization', 'Cookie', 'X-Api-Key'])
def test_errors_do_not_have_the_values_of_secret_fields(name: str) -> None:
    with pytest.raises(InvalidHeader) as caught:
        http.get('http://host/', headers={name: 'Bearer secret\n'})
    assert str(caught.value) == f"invalid character in the value of header {name!r}: '\\n'"
    with pytest.raises(InvalidHeader, match=r"'public\\n'"):
        http.get('http://host/', headers={'X-Other': 'public\n'})
