"""Test that contexts are like those of urllib3, and that contexts of other packages work."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
import truststore

from geventnode import https, tls
from geventnode.errors import CertificateError, InvalidInput
from geventnode.tls import contexts
from geventnode.tls.contexts import client_context, client_settings
from tests.certificates import Certificates, TLSEnd
from tests.https_sites import Secure, read, tls_script, url
from tests.origins import MakeOrigin, Peer
from tests.sessions import Mounted, session_with

# -- like the contexts of urllib3 -------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def usual() -> ssl.SSLContext:
    """Return Python's default context; it takes long to load the authorities of the system."""
    return ssl.create_default_context()


@pytest.mark.parametrize('how', ['system', 'file', 'directory', 'text'])
@pytest.mark.parametrize('rejects', [True, False])
def test_default_contexts_are_like_those_of_urllib3(
    usual: ssl.SSLContext, certificates: Certificates, tmp_path: Path, how: str, rejects: bool
) -> None:
    authorities = {
        'system': None,
        'file': certificates.ca,
        'directory': tmp_path,
        'text': [Path(certificates.ca).read_text(), certificates.ca],
    }[how]
    context = client_context(client_settings({'ca': authorities, 'reject_unauthorized': rejects}))
    assert context.post_handshake_auth
    assert (context.verify_flags, context.options) == (usual.verify_flags, usual.options)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is (ssl.CERT_REQUIRED if rejects else ssl.CERT_NONE)
    if how == 'text':
        assert context.cert_store_stats()['x509_ca'] == 1, 'and not those of the system'


def test_files_without_authorities_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'empty').touch()
    for authorities in (tmp_path / 'empty', [tmp_path, tmp_path / 'empty'], '-----BEGIN nonsense'):
        with pytest.raises(InvalidInput, match='ca: no certificates can be loaded from'):
            client_context(client_settings({'ca': authorities}))


@pytest.mark.leaks('a context keeps the file open')
@pytest.mark.parametrize('how', ['agent', 'requests'])
def test_keys_are_logged_for_wireshark(
    secure: Secure,
    certificates: Certificates,
    session: Mounted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Wireshark decrypts connections with this file, which each context keeps open."""
    key_log = tmp_path / 'keys'
    monkeypatch.setenv('SSLKEYLOGFILE', str(key_log))
    site = secure()
    before = key_log.read_text()
    authority = tmp_path / 'ca.pem'
    authority.write_bytes(Path(certificates.ca).read_bytes())
    if how == 'agent':
        assert read(url(site), agent=False, ca=authority) == b'GET /'
    else:
        assert session().get(url(site), verify=str(authority)).text == 'GET /'
    secrets = [
        line.split()[1]
        for line in key_log.read_text().removeprefix(before).splitlines()
        if line.startswith('CLIENT_TRAFFIC_SECRET_0 ')
    ]
    assert len(secrets) == 2, 'the server has written it, too'
    assert len(set(secrets)) == 1
    contexts._client_source.cache_clear()


@pytest.mark.parametrize('shows', ['client', None])
def test_a_certificate_can_be_sent_after_the_request(
    origin: MakeOrigin, certificates: Certificates, session: Mounted, shows: str | None
) -> None:
    """As Apache does, for one path of many (RFC 8446, section 4.6.2)."""

    def ask(peer: Peer, end: TLSEnd) -> None:
        peer.request()
        end.object.verify_client_post_handshake()
        end.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n')
        with contextlib.suppress(ssl.SSLError):
            # until the client has responded, which is not data
            while not end.object.getpeercert():
                end._incoming.write(end.raw.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.object.read(1)
            end.sendall(str(end.object.getpeercert()['subject']).encode())
            end.shutdown(1)
        end._flush()

    context = certificates.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.post_handshake_auth = True
    context.load_verify_locations(certificates.ca)
    server = origin(tls_script(certificates, ask, context=context))
    address = server.url.replace('http:', 'https:').replace('127.0.0.1', 'localhost')
    options: dict[str, Any] = {} if shows is None else {'cert': certificates.client}
    if shows is None:
        with pytest.raises(requests.RequestException):
            session().get(address, verify=certificates.ca)
    else:
        assert "('commonName', 'client')" in session().get(address, verify=certificates.ca, **options).text


def test_a_context_that_checks_names_needs_one(certificates: Certificates) -> None:
    with pytest.raises(InvalidInput, match="servername='' requests no name, but the context checks one"):
        tls.connect(1, 'localhost', servername='', context=certificates.client_context())


# -- contexts of other packages ---------------------------------------------------------------------------------------


def test_contexts_of_truststore_are_accepted(
    secure: Secure, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = secure()
    trusting = [truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2)]
    with session_with(ssl_context=trusting[0]) as client:
        with pytest.raises(requests.exceptions.SSLError, match='unable to get local issuer certificate'):
            client.get(url(site))
    with pytest.raises(CertificateError):
        read(url(site), context=trusting[0])
    # now the system trusts the authority of the tests
    monkeypatch.setenv('SSL_CERT_FILE', certificates.ca)
    with session_with(ssl_context=trusting[1]) as client:
        assert client.get(url(site)).text == 'GET /'
        with pytest.raises(requests.exceptions.SSLError, match=r'(?i)mismatch'):
            client.get(url(secure(certfile=certificates.other)))
    assert read(url(site), context=trusting[1]) == b'GET /'


class Foreign:
    """Imitate the context of another TLS library."""


@pytest.mark.parametrize(
    'make',
    [
        lambda context: https.Agent(context=context),
        lambda context: tls.create_server(context=context),
        lambda context: session_with(ssl_context=context).__enter__(),
    ],
)
def test_contexts_of_other_libraries_are_refused(make: Any) -> None:
    with pytest.raises(TypeError, match=r'context must be an ssl\.SSLContext, not Foreign'):
        make(Foreign())
