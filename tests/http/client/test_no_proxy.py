"""The rules of ``NO_PROXY``."""

from __future__ import annotations

import pytest

from geventnode.errors import InvalidInput
from geventnode.http.client.no_proxy import NoProxy

APPLIES = [
    ('*', 'example.org', 80),
    ('example.org', 'example.org', 80),
    ('example.org', 'EXAMPLE.ORG.', 80),
    ('Example.Org.', 'example.org', 80),
    ('example.org', 'a.b.example.org', 80),
    ('.example.org', 'a.example.org', 80),
    ('.example.org', 'example.org', 80),
    ('*.example.org', 'a.example.org', 80),
    ('localhost, example.org', 'example.org', 80),
    ('localhost example.org', 'example.org', 80),
    ('bücher.example', 'xn--bcher-kva.example', 80),
    ('example.org:8080', 'a.example.org', 8080),
    ('*:8080', 'example.org', 8080),
    ('10.0.0.1', '10.0.0.1', 80),
    ('10.0.0.1:81', '10.0.0.1', 81),
    ('10.0.0.0/8', '10.255.0.1', 80),
    ('10.1.2.3/8', '10.255.0.1', 80),
    ('10.0.0.0/8:81', '10.0.0.1', 81),
    ('10.0.0.2-10.0.0.4', '10.0.0.4', 80),
    ('fd00::/8', 'fd12::1', 80),
    ('::1', '::1', 80),
    ('[::1]', '0:0:0:0:0:0:0:1', 80),
    ('[::1]:81', '::1', 81),
    ('fe80::/10', 'fe80::1%eth0', 80),
    ('10.0.0.0/8', '::ffff:10.0.0.1', 80),
    ('::ffff:10.0.0.1', '10.0.0.1', 80),
]
APPLIES_NOT = [
    ('', 'example.org', 80),
    (' , ', 'example.org', 80),
    ('example.org', 'notexample.org', 80),
    ('.example.org', 'notexample.org', 80),
    ('*.example.org', 'example.org', 80),
    ('a.example.org', 'example.org', 80),
    ('example.org:8080', 'example.org', 80),
    ('*:8080', 'example.org', 80),
    ('10.0.0.1', '10.0.0.10', 80),
    ('10.0.0.0/8', '11.0.0.1', 80),
    ('10.0.0.0/8', 'example.org', 80),
    ('0.0.0.0/0', '::1', 80),
    ('10.0.0.2-10.0.0.4', '10.0.0.5', 80),
    ('10.0.0.2-10.0.0.4', 'example.org', 80),
    ('::/0', '10.0.0.1', 80),
    ('::1', 'localhost', 80),
]


@pytest.mark.parametrize(('rules', 'host', 'port'), APPLIES)
def test_rule_applies(rules: str, host: str, port: int) -> None:
    assert NoProxy(rules).has(host, port)


@pytest.mark.parametrize(('rules', 'host', 'port'), APPLIES_NOT)
def test_rule_does_not_apply(rules: str, host: str, port: int) -> None:
    assert not NoProxy(rules).has(host, port)


def test_entries_can_be_a_list() -> None:
    rules = NoProxy(['a.example', ' .b.example '])
    assert rules.has('a.example', 80)
    assert rules.has('x.b.example', 80)
    assert str(rules) == 'a.example,.b.example'


@pytest.mark.parametrize(
    'entry',
    [
        'http://example.org',
        '10.0.0.0/33',
        '10.0.0',
        '192.168.*',
        '*example.org',
        'example.org:x',
        'example.org:0',
        'example.org:65536',
        '[::1',
        '10.0.0.9-::1',
        '.',
        '*.',
    ],
)
def test_entry_without_meaning_is_refused(entry: str) -> None:
    with pytest.raises(InvalidInput, match='no_proxy has') as caught:
        NoProxy(f'localhost,{entry}')
    assert caught.value.code == 'ERR_PROXY_INVALID_CONFIG'
    assert repr(entry) in str(caught.value)


def test_entries_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match='no_proxy must be str or an iterable of str, not of int'):
        NoProxy([1])  # type: ignore[list-item]  # that is the test


@pytest.mark.parametrize('entry', ['http://user:secret@host/', 'user:secret@host', 'user:secret@host:99999'])
def test_credentials_are_not_shown(entry: str) -> None:
    with pytest.raises(InvalidInput, match='no_proxy has') as caught:
        NoProxy(entry)
    assert 'secret' not in str(caught.value)
