"""Test that the next connection uses renewed certificates, keys and authorities."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from geventnode import https, tls
from geventnode.errors import CertificateError, InvalidInput, TLSError
from geventnode.integrations.requests import AgentAdapter
from geventnode.tls.contexts import client_context, client_settings, server_settings, server_source
from tests.certificates import Certificates
from tests.https_sites import MakePool, Secure, read, url

Replace = Callable[[Path, bytes], object]


def in_place(path: Path, data: bytes) -> None:
    """Write over the file."""
    path.write_bytes(data)


def by_rename(path: Path, data: bytes) -> None:
    """Replace the file by another one."""
    new = path.with_suffix('.new')
    new.write_bytes(data)
    new.rename(path)


def by_link(path: Path, data: bytes) -> None:
    """Change the target of the symbolic link, as Kubernetes does."""
    new = path.with_name(f'{path.name}-{len(list(path.parent.iterdir()))}')
    new.write_bytes(data)
    link = path.with_suffix('.link')
    link.symlink_to(new)
    link.rename(path)


WAYS = pytest.mark.parametrize('replace', [in_place, by_rename, by_link])


class Issuer:
    """Issue certificates, and write them to files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = trustme.CA()
        self.ca = directory / 'ca.pem'
        self.ca.write_bytes(self.authority.cert_pem.bytes())

    def pair(self, name: str) -> tuple[bytes, bytes]:
        """Return a certificate for localhost with ``name`` as its subject, and its key."""
        made = self.authority.issue_cert('localhost', 'one.example', '*.two.example', common_name=name)
        return b''.join(blob.bytes() for blob in made.cert_chain_pems), made.private_key_pem.bytes()

    def whole(self, name: str) -> bytes:
        """Return both in one."""
        return b''.join(self.pair(name))

    def write(self, name: str, data: bytes) -> Path:
        """Return the path of a new file."""
        path = self.directory / name
        path.write_bytes(data)
        return path


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


def shown(site: Any, issuer: Issuer, **options: Any) -> str:
    """Return the subject of the certificate that a new connection receives."""
    socket = tls.connect(site.where[1], 'localhost', ca=issuer.ca, **options)
    with socket:
        return socket.wait_connected().get_peer_certificate()['subject']['CN']


# -- servers ----------------------------------------------------------------------------------------------------------


@WAYS
def test_a_server_uses_renewed_certificates(secure: Secure, issuer: Issuer, replace: Replace) -> None:
    path = issuer.write('site.pem', issuer.whole('first'))
    site = secure(certfile=path)
    with https.Agent(ca=issuer.ca, keep_alive=True) as agent:
        assert read(url(site), agent=agent) == b'GET /'
        for name in ('second', 'third'):
            replace(path, issuer.whole(name))
            assert shown(site, issuer) == name
        assert read(url(site), agent=agent) == b'GET /'
        assert agent.statistics()['opened'] == 1, 'the connection that was there goes on'


@WAYS
@pytest.mark.parametrize('order', ['key first', 'certificate first'])
def test_the_previous_pair_is_used_until_both_files_match(
    secure: Secure, issuer: Issuer, caplog: pytest.LogCaptureFixture, replace: Replace, order: str
) -> None:
    certificate, key = issuer.pair('first')
    files = [issuer.write('site.pem', certificate), issuer.write('site.key', key)]
    site = secure(certfile=files[0], keyfile=files[1])
    renewed = list(zip(files, issuer.pair('second'), strict=True))
    if order == 'key first':
        renewed.reverse()
    replace(*renewed[0])
    with caplog.at_level(logging.WARNING, 'geventnode.error'):
        assert [shown(site, issuer) for _ in range(3)] == ['first'] * 3
    (record,) = caplog.records
    assert record.getMessage().startswith(
        'certificates have changed and cannot be used, the previous ones stay in use: '
        f'certfile, keyfile or password: {files[0]} and {files[1]} cannot be used'
    )
    replace(*renewed[1])
    assert shown(site, issuer) == 'second'


@pytest.mark.parametrize(
    'damage',
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b''),
        lambda path: path.write_bytes(path.read_bytes()[:500]),
    ],
)
def test_a_missing_or_truncated_file_keeps_the_previous_context(
    secure: Secure, issuer: Issuer, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
) -> None:
    path = issuer.write('site.pem', issuer.whole('first'))
    site = secure(certfile=path)
    damage(path)
    assert [shown(site, issuer) for _ in range(3)] == ['first'] * 3
    assert len(caplog.records) == 1
    in_place(path, issuer.whole('second'))
    assert shown(site, issuer) == 'second'
    damage(path)
    assert shown(site, issuer) == 'second'
    assert len(caplog.records) == 2


@WAYS
def test_a_context_by_name_is_renewed(
    secure: Secure, issuer: Issuer, certificates: Certificates, replace: Replace
) -> None:
    one, two = (issuer.write(f'{name}.pem', issuer.whole(f'first {name}')) for name in ('one', 'two'))
    site = secure(sni_contexts={'one.example': {'certfile': one}})
    site.server.add_context('*.two.example', certfile=two)
    for path in (one, two):
        replace(path, issuer.whole(f'second {path.stem}'))
    assert shown(site, issuer, servername='one.example') == 'second one'
    assert shown(site, issuer, servername='a.two.example') == 'second two'


@WAYS
def test_the_authorities_of_clients_are_renewed(
    secure: Secure, issuer: Issuer, certificates: Certificates, replace: Replace, pool: MakePool
) -> None:
    site = secure(request_cert=True, ca=issuer.ca)
    client = issuer.write('client.pem', issuer.whole('user'))
    with pool(certfile=client) as agent:
        agent.keep_alive = False
        assert [read(url(site), agent=agent) for _ in range(2)] == [b'GET /'] * 2
        replace(issuer.ca, Path(certificates.ca).read_bytes())
        # the server accepts neither the certificate nor a session that began with it
        with pytest.raises((TLSError, OSError)):
            read(url(site), agent=agent)
    with pool(certfile=certificates.client) as agent:
        assert read(url(site), agent=agent) == b'GET /'


def test_a_context_of_the_user_is_not_renewed(secure: Secure, issuer: Issuer) -> None:
    path = issuer.write('site.pem', issuer.whole('first'))
    context = Certificates(*map(str, [path] * 6)).server_context()
    site = secure(certfile=None, context=context)
    in_place(path, issuer.whole('second'))
    assert shown(site, issuer) == 'first'


# -- clients ----------------------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize('how', ['agent', 'request', 'socket'])
def test_the_authorities_of_a_client_are_renewed(
    secure: Secure, issuer: Issuer, certificates: Certificates, replace: Replace, how: str
) -> None:
    site = secure()
    with https.Agent(ca=issuer.ca) as agent:

        def ask() -> object:
            if how == 'socket':
                with tls.connect(site.where[1], 'localhost', ca=issuer.ca) as socket:
                    return socket.wait_connected()
            return read(url(site), agent=agent) if how == 'agent' else read(url(site), ca=issuer.ca, agent=False)

        with pytest.raises(CertificateError):
            ask()
        replace(issuer.ca, Path(certificates.ca).read_bytes())
        assert ask()
        replace(issuer.ca, issuer.authority.cert_pem.bytes())
        with pytest.raises(CertificateError):
            ask()


def test_the_authorities_of_the_system_are_renewed(
    secure: Secure, issuer: Issuer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = issuer.directory / 'bundle.pem'
    bundle.write_bytes(issuer.ca.read_bytes())
    monkeypatch.setenv('SSL_CERT_FILE', str(bundle))
    site = secure()
    settings = {'ciphers': 'ECDHE+AESGCM'}
    with pytest.raises(CertificateError):
        read(url(site), agent=False, **settings)
    in_place(bundle, Path(certificates.ca).read_bytes())
    assert read(url(site), agent=False, **settings) == b'GET /'


@WAYS
def test_the_certificate_of_a_client_is_renewed(
    secure: Secure, issuer: Issuer, pool: MakePool, caplog: pytest.LogCaptureFixture, replace: Replace
) -> None:
    def report(request: Any, response: Any) -> None:
        response.end(request.socket.get_peer_certificate()['subject']['CN'])

    site = secure(report, request_cert=True, ca=issuer.ca)
    certificate, key = issuer.pair('first')
    files = issuer.write('client.pem', certificate), issuer.write('client.key', key)
    agent = pool(certfile=files[0], keyfile=files[1])
    assert [read(url(site), agent=agent) for _ in range(2)] == [b'first'] * 2
    certificate, key = issuer.pair('second')
    replace(files[1], key)
    agent.keep_alive = False
    assert [read(url(site), agent=agent) for _ in range(3)] == [b'first'] * 3
    assert len(caplog.records) == 1
    replace(files[0], certificate)
    # the session of the first certificate must not be resumed
    assert [read(url(site), agent=agent) for _ in range(3)] == [b'second'] * 3
    assert read(url(site), agent=False, ca=agent._tls['ca'], certfile=files[0], keyfile=files[1]) == b'second'


@pytest.mark.parametrize('replace', [in_place, by_rename])
def test_files_of_requests_are_renewed(
    secure: Secure, issuer: Issuer, certificates: Certificates, replace: Replace
) -> None:
    def report(request: Any, response: Any) -> None:
        response.end(request.socket.get_peer_certificate()['subject']['CN'])

    site = secure(report, request_cert=True, ca=issuer.ca)
    client = issuer.write('client.pem', issuer.whole('first'))
    bundle = issuer.write('bundle.pem', Path(certificates.ca).read_bytes())
    with requests.Session() as session:
        session.trust_env = False
        session.mount('https://', AgentAdapter(keep_alive=False))

        def ask() -> str:
            return session.get(url(site), verify=str(bundle), cert=str(client)).text

        assert ask() == 'first'
        replace(client, issuer.whole('second'))
        assert ask() == 'second'
        replace(bundle, issuer.ca.read_bytes())
        with pytest.raises(requests.exceptions.SSLError):
            ask()
        replace(bundle, Path(certificates.ca).read_bytes())
        assert ask() == 'second'


# -- the cost of a check ----------------------------------------------------------------------------------------------


def test_a_connection_checks_each_file_once(
    secure: Secure, issuer: Issuer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    stat = os.stat

    def counting(path: Any, **options: Any) -> os.stat_result:
        looked.append(str(path))
        return stat(path, **options)

    certificate, key = issuer.pair('first')
    files = issuer.write('site.pem', certificate), issuer.write('site.key', key)
    site = secure(certfile=files[0], keyfile=files[1])
    for path in (*files, issuer.ca):
        # not written just now
        os.utime(path, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr(os, 'stat', counting)
    with https.Agent(ca=issuer.ca, keep_alive=True) as agent:
        assert read(url(site), agent=agent) == b'GET /'
        expected = sorted(map(str, (*files, issuer.ca)))
        assert set(looked) >= set(expected)
        looked.clear()
        assert read(url(site), agent=agent) == b'GET /'
        assert looked == []
        assert read(url(site), agent=agent, headers={'Connection': 'close'}) == b'GET /'
        assert read(url(site), agent=agent) == b'GET /'
        assert sorted(looked) == expected


def test_two_changes_with_the_same_time_are_noticed(secure: Secure, issuer: Issuer) -> None:
    """Two writes within a tick of the kernel's clock have the same time, and certificates often the same size."""
    path = issuer.write('site.pem', b'')
    contents = [issuer.whole(f'name {number}') for number in range(20)]
    size = max(map(len, contents))
    in_place(path, contents[0].ljust(size, b'\n'))
    site = secure(certfile=path)
    for number, content in enumerate(contents):
        in_place(path, content.ljust(size, b'\n'))
        assert shown(site, issuer) == f'name {number}'


def test_a_file_with_an_older_time_is_noticed(secure: Secure, issuer: Issuer) -> None:
    """``cp -p`` and ``tar`` keep the time of the copied file."""
    contents = [issuer.whole(name) for name in ('first', 'other')]
    size = max(map(len, contents))
    path = issuer.write('site.pem', contents[0].ljust(size, b'\n'))
    os.utime(path, (1, 1))
    site = secure(certfile=path)
    assert shown(site, issuer) == 'first'
    in_place(path, contents[1].ljust(size, b'\n'))
    os.utime(path, (1, 1))
    assert shown(site, issuer) == 'other'


def test_a_replaced_authority_in_a_directory_is_noticed(issuer: Issuer) -> None:
    """The name of the file is a hash of the subject, which a renewed one keeps."""
    directory = issuer.directory / 'authorities'
    directory.mkdir()
    path = directory / '0123abcd.0'
    path.write_bytes(issuer.authority.cert_pem.bytes())
    settings = client_settings({'ca': directory})
    before = client_context(settings)
    by_rename(path, trustme.CA().cert_pem.bytes())
    assert client_context(settings) is not before
    assert os.listdir(directory) == ['0123abcd.0']


def test_an_unchanged_file_keeps_the_context(issuer: Issuer) -> None:
    path = issuer.write('site.pem', issuer.whole('first'))
    source = server_source(server_settings({'certfile': path}))
    before = source.current()
    by_rename(path, path.read_bytes())
    assert source.current() is before, 'sessions can still be resumed'


def test_invalid_files_are_refused_at_the_start(issuer: Issuer) -> None:
    path = issuer.write('site.pem', b'nothing')
    with pytest.raises(InvalidInput):
        tls.create_server(certfile=path)
    with pytest.raises(InvalidInput):
        read('https://127.0.0.1:1/', ca=path)
    in_place(path, issuer.whole('first'))
    tls.create_server(certfile=path)
