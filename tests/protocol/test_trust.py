"""Trusted proxies: what can be named, and who is one of them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from geventnode.errors import InvalidInput
from geventnode.protocol.trust import TrustedProxies, ip_address


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
def test_an_address(text: str, expected: str) -> None:
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
def test_no_address(text: str) -> None:
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
def test_who_is_trusted(items: Any, trusted: list[str | None], others: list[str | None]) -> None:
    proxies = TrustedProxies(items)
    assert bool(proxies) is bool(items)
    assert [each for each in trusted if not proxies.trusts(each)] == []
    assert [each for each in others if proxies.trusts(each)] == []


@pytest.mark.parametrize('item', ['', 'localhost', '*', '10.0.0.1/8', '10.0.0.0/33', '1.2.3', 'UNIX', '::1/129', 'a/b'])
def test_what_cannot_be_named(item: str) -> None:
    """The error names the setting and the item; host bits behind a prefix are a mistake, too."""
    with pytest.raises(InvalidInput, match=r'own_option: .* is neither an IP address') as caught:
        TrustedProxies(['127.0.0.1', item], 'own_option')
    assert repr(item) in str(caught.value)


@pytest.mark.parametrize('items', [[1], [None], [b'127.0.0.1'], [['127.0.0.1']], [True], 5, None])
def test_what_is_no_text(items: Any) -> None:
    with pytest.raises(TypeError):
        TrustedProxies(items)


def test_what_was_named_is_told() -> None:
    assert TrustedProxies([ipaddress.ip_network('10.0.0.0/8'), 'unix', '::1']).items == ('10.0.0.0/8', 'unix', '::1')


def test_many_networks_cost_a_step_for_each_length() -> None:
    """A list of thousands, as content networks publish them, is looked through by prefix lengths."""
    networks = [f'10.{a}.{b}.0/24' for a in range(16) for b in range(256)]
    proxies = TrustedProxies(networks)
    assert len(proxies._networks) == 1
    assert proxies.trusts('10.15.255.1')
    assert not proxies.trusts('10.16.0.1')
