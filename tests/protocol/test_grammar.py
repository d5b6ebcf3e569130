"""The grammar: tokens, hosts, targets, and the values that an application can send."""

from __future__ import annotations

import pytest

from geventnode.errors import InvalidHeader, InvalidInput
from geventnode.protocol import grammar
from geventnode.protocol.grammar import (
    absolute_authority,
    check_method,
    check_name,
    check_reason,
    check_status,
    check_target,
    check_value,
    has_request_target_form,
    is_host,
    is_token,
    lower_name,
)

TOKEN_MARKS = "!#$%&'*+-.^_`|~"
SEPARATORS = '"(),/:;<=>?@[\\]{} \t'


@pytest.mark.parametrize('text', ['a', 'GET', 'x-y', TOKEN_MARKS, '0'])
def test_valid_token(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize('text', ['', 'a\n', '\u212aey', 'a\x7f', 'caf\xe9', *SEPARATORS])
def test_invalid_token(text: str) -> None:
    assert not is_token(text)


# -- hosts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'text',
    [
        '',
        'a',
        'a:',
        'a:80',
        'a:0',
        'a:65535',
        'a.example.',
        '127.0.0.1:8000',
        '[::1]',
        '[::1]:80',
        '[::ffff:1.2.3.4]',
        '[v1.fe80::a+en1]',
        'home_0.example',
        '0.0.0.0=5000',
        '%41',
        "!$&'()*+,;=~",
        'a' * 300,
        'a' * 300 + ':80',
    ],
)
def test_valid_host(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize(
    'text',
    [
        'a, b',
        'u@a',
        'a/b',
        'a b',
        'a\x01',
        'a:b',
        'a:65536',
        'a:999999',
        'a:-1',
        'a:80:80',
        ':80',
        '[::1',
        '::1',
        '[]',
        '[:::]',
        '[1.2.3.4]',
        '[::1%25eth0]',
        '[v1.]',
        '%4',
        '%zz',
        'a\n',
        'caf\xe9',
        'a?b',
        'a#b',
        'a\\b',
        '<a>',
        'a' * 300 + '/',
    ],
)
def test_invalid_host(text: str) -> None:
    assert not is_host(text)


def test_a_repeated_look_up_has_the_same_result() -> None:
    assert [is_host('again.example:8'), is_host('again.example:8')] == [True, True]
    assert [is_host('again example'), is_host('again example')] == [False, False]


# -- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('method', 'target'),
    [
        ('GET', '/'),
        ('GET', '//x'),
        ('get', '/a?b'),
        ('GET', 'http://a/x'),
        ('GET', 'http://a'),
        ('GET', 'HTTP://a:80?q'),
        ('GET', 'http://[::1]:80/'),
        ('OPTIONS', '*'),
        ('M-SEARCH', '*'),
        ('OPTIONS', 'http://a'),
        ('CONNECT', 'a:443'),
        ('CONNECT', '[::1]:1'),
        ('CONNECT', 'a:65535'),
        ('OPTIONS', '/'),
        ('GET', '/"quoted"|{}'),
    ],
)
def test_valid_target(method: str, target: str) -> None:
    assert has_request_target_form(method, target)


@pytest.mark.parametrize(
    ('method', 'target'),
    [
        ('GET', '*'),
        ('GET', 'foo'),
        ('GET', 'a:443'),
        ('GET', 'urn:x'),
        ('GET', 'http:///x'),
        ('GET', 'http://:80/'),
        ('GET', 'http://u@a/'),
        ('GET', '?q'),
        ('GET', '#f'),
        ('CONNECT', '/'),
        ('CONNECT', 'a'),
        ('CONNECT', 'a:'),
        ('CONNECT', ':443'),
        ('CONNECT', 'a:0'),
        ('CONNECT', 'a:65536'),
        ('CONNECT', 'http://a:443/'),
        ('CONNECT', '*'),
        ('options', '*'),
        ('GET', '1http://a/'),
        ('GET', '/#'),
        ('GET', '/a?b#c'),
        ('GET', '/public/#/../admin'),
        ('GET', 'http://a/#x'),
        ('GET', 'http://a#x'),
    ],
)
def test_invalid_target(method: str, target: str) -> None:
    assert not has_request_target_form(method, target)


def test_authority_of_an_absolute_target() -> None:
    assert absolute_authority('http://a:80/x?http://b') == 'a:80'
    assert absolute_authority('/x') is None
    assert absolute_authority('http://a b/') is None


# -- values from applications -----------------------------------------------------------------------------------------


def test_valid_names() -> None:
    assert check_name('Content-Type') == 'content-type'
    assert check_name('X-Never-Seen') == 'x-never-seen'
    assert check_name('X-Never-Seen') == 'x-never-seen'
    assert lower_name('X-Other') == 'x-other'
    assert lower_name('ETag') == 'etag'


@pytest.mark.parametrize('name', ['', 'a b', 'a:', 'a\r\nb', 'caf\xe9', '\u212a', 7, None, b'a', ['a']])
def test_invalid_name(name) -> None:
    with pytest.raises(InvalidHeader) as caught:
        check_name(name)
    assert caught.value.code == 'ERR_INVALID_HTTP_TOKEN'


def test_the_table_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, '_MAX_KNOWN_NAMES', len(grammar.KNOWN_NAMES))
    assert check_name('X-One-Too-Many') == 'x-one-too-many'
    assert 'X-One-Too-Many' not in grammar.KNOWN_NAMES


def test_common_names_are_tokens() -> None:
    assert all(is_token(name) for name in grammar.COMMON_NAMES)
    assert all(lower == name.lower() for name, lower in grammar.KNOWN_NAMES.items())


@pytest.mark.parametrize('value', ['', ' ', ' a\tb ', '\x80\xff', '"', ''.join(map(chr, range(0x20, 0x7F)))])
def test_valid_value(value: str) -> None:
    assert check_value('x', value) is None


@pytest.mark.parametrize(
    'value', ['a\nb', 'a\r', '\x00', '\x7f', '\x1f', '\u0100', '\u010a', '\u2028', 'a\n', 5, None, b'a']
)
def test_invalid_value(value) -> None:
    with pytest.raises(InvalidHeader) as caught:
        check_value('X-Name', value)
    assert caught.value.code == 'ERR_INVALID_CHAR'
    assert 'X-Name' in str(caught.value)


@pytest.mark.parametrize(
    ('check', 'good', 'bad', 'code'),
    [
        (check_method, ['GET', 'x', 'M-SEARCH'], ['', 'G T', 'GET\n', 'G\xc9T', None], 'ERR_INVALID_HTTP_TOKEN'),
        (
            check_target,
            ['/', '*', '/%20?a=b'],
            ['', '/#', '/a?b#c', '/ ', '/\n', '/\x00', '/\x7f', '/\xe9', '/\u0120', None],
            'ERR_UNESCAPED_CHARACTERS',
        ),
        (check_reason, ['', 'OK', 'Not\tFound', '\xe9'], ['a\r', 'a\nb', '\u0120', '\x7f', None], 'ERR_INVALID_CHAR'),
        (check_status, [100, 200, 999], [99, 1000, 0, -200, True, '200', 200.0, None], 'ERR_HTTP_INVALID_STATUS_CODE'),
    ],
)
def test_checks_return_valid_values_and_reject_others(check, good, bad, code: str) -> None:
    for each in good:
        assert check(each) == each
    for each in bad:
        with pytest.raises(InvalidInput) as caught:
            check(each)
        assert caught.value.code == code
