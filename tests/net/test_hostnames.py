"""Test host names in other scripts, and with the dot of the root."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest

from geventnode import http, https, net, tls
from geventnode.errors import InvalidInput, NameNotResolved
from geventnode.net import connecting
from geventnode.net.address import resolve
from geventnode.net.hostnames import ascii_name
from tests.certificates import Certificates, note_names
from tests.https_sites import MakePool, Secure, read, url
from tests.servers import Serve
from tests.sockets import connected
from tests.tls_clients import client_of, shaken


@pytest.fixture
def without_idna(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the idna package be missing."""
    monkeypatch.setitem(sys.modules, 'idna', None)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('straße.example', 'xn--strae-oqa.example'),
        ('STRA\u1e9eE.example', 'xn--strae-oqa.example'),
        ('\u03b2\u03cc\u03bb\u03bf\u03c2.example', 'xn--nxasmm1c.example'),
        ('bücher.example.', 'xn--bcher-kva.example.'),
        ('BÜCHER.Example', 'xn--bcher-kva.example'),
        ('b\u00fccher\u3002example', 'xn--bcher-kva.example'),
        ('plain.Example.', 'plain.Example.'),
    ],
)
def test_host_names_are_encoded(name: str, expected: str) -> None:
    assert ascii_name(name) == expected


REFUSED = ['\xa0.example', 'a\u2028b.example', 'ü' * 64, 'a\u3000b.example', 'ü..example', '\xad']


@pytest.mark.parametrize('name', [*REFUSED, 'a\u200db.example', 'I\u2764.example', '\u2100.example', 'ü/.example'])
def test_malformed_host_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        http.request(hostname=name)


@pytest.mark.parametrize(
    ('name', 'expected'), [('bücher.example', 'xn--bcher-kva.example'), ('Bücher.example.', 'xn--bcher-kva.example.')]
)
def test_host_names_are_encoded_without_the_package(without_idna: None, name: str, expected: str) -> None:
    assert ascii_name(name) == expected


def test_too_long_host_names_are_refused(without_idna: None) -> None:
    with pytest.raises(InvalidInput, match='more than 254 characters') as raised:
        http.request(f'http://{"ü." * 100_000}/')
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    'name',
    [
        'straße.example',
        'STRA\u1e9eE.example',
        '\u03b2\u03cc\u03bb\u03bf\u03c2.example',
        'a\u200cb.example',
        'a\u200db.example',
        '\u1c90.example',
    ],
)
def test_ambiguous_host_names_need_the_package(without_idna: None, name: str) -> None:
    with pytest.raises(InvalidInput, match='without the idna package: pip install') as raised:
        http.request(hostname=name)
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize('name', REFUSED)
def test_malformed_host_names_are_refused_without_the_package(without_idna: None, name: str) -> None:
    with pytest.raises(InvalidInput):
        http.request(hostname=name)


def test_every_call_with_a_host_name_encodes_it(certificates: Certificates) -> None:
    name = 'a\u2028.example'
    agent = http.Agent()
    calls: list[Any] = [
        lambda: net.connect(1, name),
        lambda: tls.connect(1, name),
        lambda: http.get(f'http://{name}/'),
        lambda: https.get(f'https://{name}/'),
        lambda: agent.get_name({'host': name}),
        lambda: net.create_server().listen(0, name),
        lambda: tls.create_server(certfile=certificates.server).add_context(name, certfile=certificates.other),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match='internationalized'):
            call()


def test_the_encoded_name_is_sent(serve: Serve, certificates: Certificates) -> None:
    site = serve(lambda request, response: response.end(request.headers['host']))
    connect = lambda options: net.connect(site.where[1], '127.0.0.1')  # noqa: E731
    request = http.get('http://Straße.example/', create_connection=connect)
    assert request.get_response().read() == b'xn--strae-oqa.example'
    names: list[str | None] = []
    context = certificates.server_context()
    note_names(context, names)
    with client_of(context, host='straße.example', reject_unauthorized=False) as (near, far), shaken(near, far):
        near.wait_connected()
    assert names == ['xn--strae-oqa.example']


def test_a_context_for_an_international_name(secure: Secure, certificates: Certificates) -> None:
    names = 'straße.example', '*.bücher.example'
    site = secure(sni_contexts={name: {'certfile': certificates.other} for name in names})

    def shown(name: str) -> Any:
        socket = tls.connect(site.where[1], '127.0.0.1', servername=ascii_name(name), reject_unauthorized=False)
        with socket:
            return socket.wait_connected().get_peer_certificate()['raw']

    usual = shown('localhost')
    assert shown('straße.example') == shown('STRAßE.example.') == shown('x.bücher.example') != usual
    assert shown('strasse.example') == usual


# -- the authority of a URL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'rest',
    [
        'good\\@evil/',
        'good\\evil/',
        'user\\:x@good/',
        '\\good/',
        'good%5C@evil%5C/',
        'good%2Fevil/',
        'good%3A80/',
        'good%40evil/',
        'good%23evil/',
        'good%3Fevil/',
        '%5B%3A%3A1%5D/',
        '%3A%3A1/',
        'good%2523evil/',
        'good%00/',
        'good%0Aevil/',
        'good%20evil/',
        'good\tevil/',
        'good\nevil/',
        'good evil/',
        'good@evil:80:81/',
        '[::1]evil/',
        'evil[::1]/',
        'good:80@/',
        'good:@:80/',
        'good:8_0/',
        'good:+80/',
        'good:\u0668\u0660/',
        '\uff0f/',
        'a\u2100b/',
    ],
)
@pytest.mark.parametrize('module', [http, https])
def test_an_authority_that_two_readers_would_read_differently(module: Any, rest: str) -> None:
    scheme = module.__name__.rpartition('.')[2]
    with pytest.raises(InvalidInput):
        module.request(f'{scheme}://{rest}')


@pytest.mark.parametrize(
    ('rest', 'host', 'auth'),
    [
        ('us%40er:pass@good/', 'good', 'us@er:pass'),
        ('user@mail.example:pass@good/', 'good', 'user@mail.example:pass'),
        ('g%6F%6fd%2eexample/', 'good.example', None),
        ('good\\/', None, None),
        ('good/\\@evil', 'good', None),
        ('good/@evil', 'good', None),
        ('good?@evil', 'good', None),
        ('good#@evil', 'good', None),
        ('user:a%5Cb@good/', 'good', 'user:a\\b'),
    ],
)
def test_the_authority_of_a_url_decides_the_host(rest: str, host: str | None, auth: str | None) -> None:
    if host is None:
        with pytest.raises(InvalidInput, match='URL has a backslash in its authority'):
            http.request(f'http://{rest}')
    else:
        target = http.request(f'http://{rest}')
        assert (target.host, target.has_header('Authorization')) == (host, auth is not None)


# -- the dot of the root ----------------------------------------------------------------------------------------------


def test_a_name_with_the_dot_of_the_root(secure: Secure, pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    # not every system knows 'localhost.'
    monkeypatch.setattr(connecting, 'resolve', lambda host, *args: resolve(host.removesuffix('.'), *args))
    seen: list[str | None] = []

    def report(request: Any, response: Any) -> None:
        seen.append(request.socket.servername)
        response.end(request.headers['host'])

    site = secure(report)
    port = site.where[1]
    with pool() as agent:
        assert read(url(site, host='localhost.'), agent=agent) == f'localhost.:{port}'.encode()
        assert read(url(site, host='localhost'), agent=agent) == f'localhost:{port}'.encode()
        assert agent.statistics()['opened'] == 2, 'the resolver may know two hosts'
        assert read(url(site), servername='localhost.', agent=agent) == f'localhost:{port}'.encode()
        assert read(url(site, host='localhost.'), servername='', agent=agent) == f'localhost.:{port}'.encode()
    assert seen == ['localhost', 'localhost', 'localhost', None]


@pytest.mark.parametrize('name', ['a..b', 'a' * 64])
def test_names_that_tls_cannot_request_are_refused(name: str) -> None:
    left, right = connected()
    with (
        contextlib.closing(left),
        contextlib.closing(right),
        pytest.raises(InvalidInput, match='TLS cannot request this host name'),
    ):
        tls.connect(host=name, socket=net.Socket(left))
    with pytest.raises(InvalidInput, match='TLS cannot request this host name'):
        https.Agent(servername=name)


def test_names_that_the_resolver_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ('a..b', 'a' * 64):
        for module in (http, https):
            with pytest.raises(NameNotResolved):
                module.get(f'{module.__name__.rpartition(".")[2]}://{name}/').get_response()
    assert capfd.readouterr().err == '', 'the thread of the resolver need not be asked'
