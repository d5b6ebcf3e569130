"""The client address behind proxies, from Forwarded and X-Forwarded-*, and attempts of clients to forge it."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from typing import Any

import pytest

from geventnode.errors import InvalidInput
from geventnode.protocol import (
    FORWARDED,
    FORWARDED_FIELDS,
    ClientAddress,
    ForwardedPolicy,
    Headers,
    TrustedProxies,
    scheme_fields,
)
from geventnode.protocol.forwarded import ip_address

PROXY = '10.0.0.1'
#: The connection itself: from one of the proxies, without TLS, with the name in Host.
DIRECT = ClientAddress(PROXY, 40000, 'http', 'inner:8000')
X_FIELDS = tuple(field for field in FORWARDED_FIELDS if field != FORWARDED)


def resolve(
    fields: Sequence[str],
    *pairs: tuple[str, str],
    direct: ClientAddress = DIRECT,
    trusted: Any = ('10.0.0.0/8', '2001:db8:1::/48'),
) -> ClientAddress:
    return ForwardedPolicy(TrustedProxies(trusted), fields).resolve(Headers.from_raw(pairs), direct)


def by_x(*values: str, **options: Any) -> ClientAddress:
    """Return the client address from lines of X-Forwarded-For."""
    return resolve(X_FIELDS, *[('X-Forwarded-For', value) for value in values], **options)


def by_forwarded(*values: str, **options: Any) -> ClientAddress:
    """Return the client address from lines of Forwarded."""
    return resolve([FORWARDED], *[('Forwarded', value) for value in values], **options)


# -- other fields with the scheme -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('pairs', 'scheme'),
    [
        ([], 'http'),
        ([('A', 'tls')], 'https'),
        ([('a', 'TLS')], 'http'),
        ([('B', 'on')], 'https'),
        ([('A', 'tls'), ('B', 'on')], 'https'),
        ([('A', 'tls'), ('B', 'off')], 'http'),
        # both fields are trusted; if a proxy sets only one of them, only that one should be configured
        ([('A', 'no'), ('X-Forwarded-Proto', 'https')], 'https'),
    ],
)
def test_scheme_headers(pairs: list[tuple[str, str]], scheme: str) -> None:
    policy = ForwardedPolicy(TrustedProxies(PROXY), X_FIELDS, scheme_fields('x', {'A': 'tls', 'b': 'on'}))
    assert policy.resolve(Headers.from_raw(pairs), DIRECT) == DIRECT._replace(scheme=scheme)
    stranger = DIRECT._replace(address='10.0.0.2')
    assert policy.resolve(Headers.from_raw(pairs), stranger) == stranger


@pytest.mark.parametrize('value', [{'a b': 'c'}, {'a': 1}, {1: 'a'}])
def test_invalid_scheme_headers(value: Any) -> None:
    with pytest.raises(InvalidInput, match='scheme_headers must map names of fields to text'):
        scheme_fields('scheme_headers', value)
    with pytest.raises(TypeError, match='scheme_headers must be a mapping, not list'):
        scheme_fields('scheme_headers', ['a'])


# -- X-Forwarded-For --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('value', 'address', 'port'),
    [
        ('1.2.3.4', '1.2.3.4', None),
        ('  1.2.3.4\t', '1.2.3.4', None),
        ('1.2.3.4:5678', '1.2.3.4', 5678),
        ('2001:DB8::1', '2001:db8::1', None),
        ('[2001:db8::1]', '2001:db8::1', None),
        ('[2001:db8::1]:5678', '2001:db8::1', 5678),
        ('::ffff:1.2.3.4', '1.2.3.4', None),
        # the elements of the client are first
        ('6.6.6.6, 1.2.3.4', '1.2.3.4', None),
        ('6.6.6.6,1.2.3.4', '1.2.3.4', None),
        ('127.0.0.1, 10.0.0.9, 1.2.3.4', '1.2.3.4', None),
        ('<script>, "\\, 1.2.3.4', '1.2.3.4', None),
        # a chain of trusted proxies
        ('6.6.6.6, 1.2.3.4, 10.0.0.7', '1.2.3.4', None),
        ('6.6.6.6, 1.2.3.4, 10.0.0.7, 2001:db8:1::7, 10.255.0.1', '1.2.3.4', None),
        # a client of the same network
        ('10.0.0.7', '10.0.0.7', None),
        ('10.0.0.8, 10.0.0.7:99', '10.0.0.8', None),
        # an unknown or malformed element of a trusted proxy: the last known hop
        ('', PROXY, 40000),
        (',', PROXY, 40000),
        ('1.2.3.4,', PROXY, 40000),
        ('unknown', PROXY, 40000),
        ('1.2.3.4, unknown', PROXY, 40000),
        ('1.2.3.4, unknown, 10.0.0.7', '10.0.0.7', None),
        ('1.2.3.4, unix:, 10.0.0.7:99', '10.0.0.7', 99),
        ('1.2.3.4:', PROXY, 40000),
        ('1.2.3.4:65536', PROXY, 40000),
        ('1.2.3.4:999999', PROXY, 40000),
        ('1.2.3.4:-1', PROXY, 40000),
        ('1.2.3.4:_a', PROXY, 40000),
        ('1.2.3.4:1:2', PROXY, 40000),
        ('[1.2.3.4]', PROXY, 40000),
        ('[::1', PROXY, 40000),
        ('[::1]5', PROXY, 40000),
        ('[::1]:', PROXY, 40000),
        ('::1]', PROXY, 40000),
        ('[]', PROXY, 40000),
        ('fe80::1%eth0', PROXY, 40000),
        ('01.2.3.4', PROXY, 40000),
        ('1.2.3.4 5.6.7.8', PROXY, 40000),
        ('"1.2.3.4"', PROXY, 40000),
        ('for=1.2.3.4', PROXY, 40000),
        ('1.2.3.4\x00', PROXY, 40000),
        ('1.2.3.\xb2', PROXY, 40000),
    ],
)
def test_x_forwarded_for(value: str, address: str, port: int | None) -> None:
    assert by_x(value) == ClientAddress(address, port, 'http', 'inner:8000')


def test_several_lines_form_one_list() -> None:
    """The lines are joined in order; to read the first line alone is a well-known mistake."""
    assert by_x('1.1.1.1', '6.6.6.6, 1.2.3.4', '10.0.0.7').address == '1.2.3.4'


def test_no_proxy_is_trusted_by_default() -> None:
    for trusted in ((), '10.0.0.2', '::/0', 'unix'):
        assert by_x('1.2.3.4', trusted=trusted) == DIRECT
        assert by_forwarded('for=1.2.3.4;proto=https;host=a', trusted=trusted) == DIRECT


def test_a_proxy_on_a_unix_socket() -> None:
    direct = ClientAddress(None, None, 'http', 'a')
    assert by_x('1.2.3.4', direct=direct, trusted='unix') == ClientAddress('1.2.3.4', None, 'http', 'a')
    assert by_x('', direct=direct, trusted='unix') == direct
    assert by_x('1.2.3.4', direct=direct, trusted='10.0.0.0/8') == direct


def test_fields_without_trust_are_ignored() -> None:
    """A proxy that does not know a field passes it on unchanged."""
    everything = [
        ('X-Forwarded-For', '1.2.3.4'),
        ('X-Forwarded-Proto', 'https'),
        ('X-Forwarded-Host', 'a'),
        ('X-Forwarded-Port', '99'),
        ('Forwarded', 'for=5.6.7.8;proto=https;host=b'),
    ]
    assert resolve([], *everything) == DIRECT
    assert resolve(['x-forwarded-for'], *everything) == DIRECT._replace(address='1.2.3.4', port=None)
    assert resolve(['x-forwarded-proto'], *everything) == DIRECT._replace(scheme='https')
    assert resolve(['x-forwarded-host'], *everything) == DIRECT._replace(host='a')
    assert resolve(['x-forwarded-port'], *everything) == DIRECT._replace(host='inner:99')
    assert resolve(X_FIELDS, *everything) == ClientAddress('1.2.3.4', None, 'https', 'a:99')
    assert resolve([FORWARDED], *everything) == ClientAddress('5.6.7.8', None, 'https', 'b')


# -- X-Forwarded-Proto, -Host and -Port -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('value', 'scheme'),
    [
        ('https', 'https'),
        ('HTTPS', 'https'),
        ('http', 'http'),
        ('wss', 'https'),
        ('ws', 'http'),
        # the nearest proxy has set the last one
        ('http, https', 'https'),
        ('http,https', 'https'),
        ('evil, https', 'https'),
        ('', None),
        ('https,', None),
        ('https, ftp', None),
        ('httpss', None),
        ('https;', None),
        ('"https"', None),
        ('on', None),
        ('\xe9', None),
    ],
)
@pytest.mark.parametrize('direct', ['http', 'https'])
def test_x_forwarded_proto(value: str, scheme: str | None, direct: str) -> None:
    """With an invalid value, the scheme of the connection is used."""
    found = resolve(X_FIELDS, ('X-Forwarded-Proto', value), direct=DIRECT._replace(scheme=direct))
    assert found.scheme == (scheme or direct)


@pytest.mark.parametrize(
    ('value', 'host'),
    [
        ('example.com', 'example.com'),
        ('example.com:8443', 'example.com:8443'),
        ('[::1]:80', '[::1]:80'),
        ('evil, example.com', 'example.com'),
        ('example.com, a b', None),
        ('', None),
        (':80', None),
        ('a/b', None),
        ('u@a', None),
        ('a:b', None),
        ('a\x00', None),
        ('<script>', None),
    ],
)
def test_x_forwarded_host(value: str, host: str | None) -> None:
    """With an invalid value, the host of the request is used."""
    assert resolve(X_FIELDS, ('X-Forwarded-Host', value)).host == (host or 'inner:8000')


@pytest.mark.parametrize(
    ('host', 'scheme', 'port', 'expected'),
    [
        ('a', 'http', '80', 'a'),
        ('a', 'https', '443', 'a'),
        ('a', 'http', '443', 'a:443'),
        ('a', 'https', '80', 'a:80'),
        ('a:1', 'http', '80', 'a'),
        ('a:1', 'http', '0080', 'a'),
        ('a:1', 'https', '8443', 'a:8443'),
        ('[::1]', 'http', '81', '[::1]:81'),
        ('[::1]:5', 'http', '81', '[::1]:81'),
        ('a', 'http', '1, 81', 'a:81'),
        ('a:1', 'http', '0', 'a:1'),
        ('a:1', 'http', '65536', 'a:1'),
        ('a:1', 'http', '-1', 'a:1'),
        ('a:1', 'http', '99999999999', 'a:1'),
        ('a:1', 'http', '\xb2', 'a:1'),
        ('a:1', 'http', '', 'a:1'),
    ],
)
def test_x_forwarded_port(host: str, scheme: str, port: str, expected: str) -> None:
    """It is the port to which the client connected; Host usually has it already."""
    found = resolve(X_FIELDS, ('X-Forwarded-Port', port), direct=DIRECT._replace(host=host, scheme=scheme))
    assert found.host == expected


def test_a_request_without_host() -> None:
    """As in HTTP/1.0: a port alone is not a host."""
    direct = DIRECT._replace(host=None)
    assert resolve(X_FIELDS, ('X-Forwarded-Port', '81'), direct=direct) == direct
    assert resolve(X_FIELDS, ('X-Forwarded-Host', 'a'), direct=direct).host == 'a'


# -- Forwarded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ('for=1.2.3.4', ('1.2.3.4', None, 'http', 'inner:8000')),
        ('For=1.2.3.4;PROTO=HTTPS;Host=a.example;by=10.0.0.1', ('1.2.3.4', None, 'https', 'a.example')),
        ('proto=https; for="1.2.3.4" ;host="a:81"', ('1.2.3.4', None, 'https', 'a:81')),
        (' for=1.2.3.4 ', ('1.2.3.4', None, 'http', 'inner:8000')),
        (';for=1.2.3.4;', ('1.2.3.4', None, 'http', 'inner:8000')),
        ('for="1.2.3.4:5678"', ('1.2.3.4', 5678, 'http', 'inner:8000')),
        ('for="1.2.3.4:_hidden"', ('1.2.3.4', None, 'http', 'inner:8000')),
        ('for="[2001:db8::1]"', ('2001:db8::1', None, 'http', 'inner:8000')),
        ('for="[2001:db8::1]:5678"', ('2001:db8::1', 5678, 'http', 'inner:8000')),
        (r'for="1.2\.3.4";host="\a"', ('1.2.3.4', None, 'http', 'a')),
        ('for=1.2.3.4;other="of;it"', ('1.2.3.4', None, 'http', 'inner:8000')),
        # each element is from one proxy
        (
            'for=6.6.6.6;proto=ftp, for=1.2.3.4;proto=https;host=a, for=10.0.0.7;proto=http;host=b',
            ('1.2.3.4', None, 'https', 'a'),
        ),
        ('for=1.2.3.4, for=10.0.0.7;proto=https;host=b', ('1.2.3.4', None, 'https', 'b')),
        ('for=6.6.6.6;proto=https;host=evil, for=1.2.3.4', ('1.2.3.4', None, 'http', 'inner:8000')),
        # an obfuscated address: the other parameters are still valid
        ('for=unknown;proto=https', (PROXY, 40000, 'https', 'inner:8000')),
        ('for=6.6.6.6, for=_hidden;proto=https', (PROXY, 40000, 'https', 'inner:8000')),
        ('for="_hidden:_port";host=a', (PROXY, 40000, 'http', 'a')),
        ('for=6.6.6.6;host=evil, proto=https', (PROXY, 40000, 'https', 'inner:8000')),
        ('for="_gazonk", for="[2001:db8:1::7]:99"', ('2001:db8:1::7', 99, 'http', 'inner:8000')),
        ('for=1.2.3.4;proto=ftp;host="a b"', ('1.2.3.4', None, 'http', 'inner:8000')),
        ('for="fe80::1"', (PROXY, 40000, 'http', 'inner:8000')),
        ('for="1.2.3.4:65536"', (PROXY, 40000, 'http', 'inner:8000')),
        ('for="1.2.3.4:x"', (PROXY, 40000, 'http', 'inner:8000')),
        ('for="[::1"', (PROXY, 40000, 'http', 'inner:8000')),
        ('for="[1.2.3.4]"', (PROXY, 40000, 'http', 'inner:8000')),
    ],
)
def test_forwarded(value: str, expected: tuple[Any, ...]) -> None:
    assert by_forwarded(value) == ClientAddress(*expected)


@pytest.mark.parametrize(
    'element',
    [
        '',
        ' ',
        ';',
        'for',
        'for=',
        '=1.2.3.4',
        'for=1.2.3.4:80',
        'for=[::1]',
        'for="1.2.3.4',
        'for=1.2.3.4"',
        'for="1.2.3.4"x',
        'for=1.2.3.4 proto=https',
        'for =1.2.3.4',
        'for= 1.2.3.4',
        'for=1.2.3.4;for=5.6.7.8',
        'for=1.2.3.4;FOR=5.6.7.8',
        'f(r=1.2.3.4',
        'for=1.2.3.4;proto',
        'for=1.2.3.4;proto=ht/tps',
        'for=1.2.3.4\x00',
        'for="1.2.3.4\\"',
        '\xe9=1',
        'for=\xe9',
        '1.2.3.4',
    ],
)
def test_a_malformed_element_ends_the_walk(element: str) -> None:
    """The element and all elements before it are ignored."""
    assert by_forwarded(f'for=6.6.6.6;proto=https, {element}') == DIRECT
    assert by_forwarded(f'for=6.6.6.6, {element}, for=10.0.0.7;proto=https') == ClientAddress(
        '10.0.0.7', None, 'https', 'inner:8000'
    )


@pytest.mark.parametrize(
    'sent',
    [
        'for="',
        'for="6.6.6.6',
        'a="\\',
        '"',
        ';;;',
        'for=6.6.6.6;host="',
        'for=6.6.6.6, for="_x',
        '\\',
        '\x00',
        ',,,',
        '=',
    ],
)
def test_a_client_cannot_hide_the_elements_of_proxies(sent: str) -> None:
    """An open quote, in the same line or in an earlier one, has no effect."""
    added = 'for=1.2.3.4;proto=https;host="a:1"'
    for found in (
        by_forwarded(f'{sent}, {added}'),
        by_forwarded(f'{sent},{added}'),
        by_forwarded(sent, added),
        by_forwarded(f'{sent}, {added}, for="[2001:db8:1::7]:5"'),
    ):
        assert found == ClientAddress('1.2.3.4', None, 'https', 'a:1')


@pytest.mark.parametrize(
    'host',
    [
        'x, for=6.6.6.6',
        'x, for=\\"6.6.6.6\\"',
        'x, for=6.6.6.6;a=',
        'x,for=6.6.6.6;a=\\"',
        '", for=6.6.6.6',
        ', proto=https',
    ],
)
def test_a_client_cannot_smuggle_an_element_through_a_quoted_host(host: str) -> None:
    """A comma in quotes makes one malformed element, never two."""
    assert by_forwarded(f'for=1.2.3.4;host="{host}"').address in (PROXY, '1.2.3.4')
    assert by_forwarded(f'host="{host}";for=1.2.3.4').address in (PROXY, '1.2.3.4')


def test_random_client_elements_do_not_change_the_result(seed: int) -> None:
    """Nothing is raised, and the result depends on the trusted part alone."""
    chance = random.Random(seed)
    pieces = [
        'for=',
        'proto=https',
        'host=',
        '"',
        ',',
        ';',
        '\\',
        ' ',
        '=',
        '6.6.6.6',
        '10.0.0.9',
        '[::1]',
        ':',
        '_a',
        'unknown',
        '\t',
        '\xff',
        'by',
        'a',
    ]
    for _ in range(500):
        sent = ''.join(chance.choices(pieces, k=chance.randrange(12)))
        assert by_x(f'{sent}, 1.2.3.4, 10.0.0.7').address == '1.2.3.4'
        assert by_forwarded(f'{sent}, for=1.2.3.4;proto=http, for="10.0.0.7"') == ClientAddress(
            '1.2.3.4', None, 'http', 'inner:8000'
        )
        assert isinstance(by_forwarded(sent), ClientAddress)
        assert isinstance(by_x(sent), ClientAddress)


@pytest.mark.parametrize('piece', [' ', ';', '\t', '"', '\\', 'a', '=', 'a=', 'a="', 'for=10.0.0.9,', ',', '[', ':'])
def test_parsing_takes_linear_time(piece: str) -> None:
    """A header section full of one piece, and one sixteen times as long, do not trigger the guard against hangs."""
    for size in (16384, 262144):
        value = piece * (size // len(piece))
        for end in ('', 'x y', ' ,for=10.0.0.7', ' , 10.0.0.7'):
            assert by_forwarded(value + end).scheme == 'http'
            assert by_x(value + end).scheme == 'http'


# -- trusted proxies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('127.0.0.1', '127.0.0.1'),
        ('::1', '::1'),
        ('2001:DB8:0:0::1', '2001:db8::1'),
        ('::ffff:1.2.3.4', '1.2.3.4'),
        ('::ffff:102:304', '1.2.3.4'),
        ('0.0.0.0', '0.0.0.0'),
    ],
)
def test_valid_address(text: str, expected: str) -> None:
    assert ip_address(text).text == expected


@pytest.mark.parametrize(
    'text',
    [
        '',
        ' ',
        '1',
        '1.2.3',
        '1.2.3.4.5',
        '256.1.1.1',
        '01.2.3.4',
        '1.2.3.4 ',
        '1.2.3.4\n',
        '\u0661.2.3.4',
        'localhost',
        '1.2.3.4/32',
        '[::1]',
        'fe80::1%eth0',
        '::1%\n',
        '1::2::3',
        ':::',
        'g::',
        '0x7f.0.0.1',
        '1' * 5000,
        ':' * 5000,
    ],
)
def test_invalid_address(text: str) -> None:
    assert ip_address(text) is None


@pytest.mark.parametrize(
    ('items', 'trusted', 'others'),
    [
        ((), [], ['127.0.0.1', '::1', None]),
        (['127.0.0.1'], ['127.0.0.1', '::ffff:127.0.0.1'], ['127.0.0.2', '::1', '::7f00:1', None]),
        ('127.0.0.1', ['127.0.0.1'], ['127.0.0.2']),
        (['10.0.0.0/8', '192.168.4.0/22'], ['10.255.1.2', '192.168.7.255'], ['11.0.0.0', '192.168.8.0', '::10.0.0.0']),
        (['::1', '2001:db8::/32'], ['::1', '2001:db8:ffff::'], ['::2', '2001:db9::', '127.0.0.1', None]),
        (['fe80::/10'], ['fe80::1', 'fe80::1%eth0'], ['fec0::1']),
        (['::ffff:10.0.0.0/104'], ['10.1.2.3'], ['11.1.2.3']),
        (['::/0'], ['::1', '2001:db8::1'], ['1.2.3.4']),
        (['0.0.0.0/0'], ['1.2.3.4'], ['2001:db8::1']),
        (['unix'], [None], ['127.0.0.1']),
        (
            [ipaddress.ip_address('127.0.0.1'), ipaddress.ip_network('2001:db8::/32')],
            ['127.0.0.1', '2001:db8::1'],
            ['::1'],
        ),
        (['10.0.0.1'], ['10.0.0.1'], ['', 'localhost', '10.0.0.1, 10.0.0.1', '%']),
    ],
)
def test_trusted_peers(items: Any, trusted: list[str | None], others: list[str | None]) -> None:
    proxies = TrustedProxies(items)
    assert bool(proxies) is bool(items)
    assert [each for each in trusted if not proxies.trusts(each)] == []
    assert [each for each in others if proxies.trusts(each)] == []


@pytest.mark.parametrize('item', ['', 'localhost', '*', '10.0.0.1/8', '10.0.0.0/33', '1.2.3', 'UNIX', '::1/129', 'a/b'])
def test_invalid_items_are_rejected(item: str) -> None:
    """The error names the setting and the item; host bits after a prefix are an error, too."""
    with pytest.raises(InvalidInput, match=r'own_option: .* is neither an IP address') as caught:
        TrustedProxies(['127.0.0.1', item], 'own_option')
    assert repr(item) in str(caught.value)


@pytest.mark.parametrize('items', [[1], [None], [b'127.0.0.1'], [['127.0.0.1']], [True], 5, None])
def test_items_of_other_types_are_rejected(items: Any) -> None:
    with pytest.raises(TypeError):
        TrustedProxies(items)


def test_items_are_kept_as_text() -> None:
    assert TrustedProxies([ipaddress.ip_network('10.0.0.0/8'), 'unix', '::1']).items == ('10.0.0.0/8', 'unix', '::1')


def test_a_lookup_takes_one_step_for_each_prefix_length() -> None:
    """Lists of thousands of networks, as content delivery networks publish them, are practical."""
    networks = [f'10.{a}.{b}.0/24' for a in range(16) for b in range(256)]
    proxies = TrustedProxies(networks)
    assert len(proxies._networks) == 1
    assert proxies.trusts('10.15.255.1')
    assert not proxies.trusts('10.16.0.1')
