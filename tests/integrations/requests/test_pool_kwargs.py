"""The adapter for ``requests``: urllib3's arguments for TLS are applied or refused."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
from requests import exceptions
from urllib3.exceptions import InsecureRequestWarning
from urllib3.util.ssl_ import create_urllib3_context

from contrib.examples import connect_proxy
from geventnode import errors
from geventnode.integrations.requests import AgentAdapter
from tests.certificates import Certificates
from tests.https_sites import Secure
from tests.https_sites import url as secure_url
from tests.servers import Log, Serve
from tests.sessions import session_with

#: A context of the user that only arguments name: it has no authorities, because those of the system take long to load.
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def loose(context: ssl.SSLContext, names: bool = False, certificates: bool = True) -> ssl.SSLContext:
    """Return ``context`` with fewer checks."""
    context.check_hostname = names
    context.verify_mode = ssl.CERT_REQUIRED if certificates else ssl.CERT_NONE
    return context


def test_authorities(secure: Secure, certificates: Certificates) -> None:
    address, text = secure_url(secure()), Path(certificates.ca).read_text()
    for kwargs in (
        {'ca_certs': certificates.ca},
        {'ca_cert_data': text},
        {'ssl_context': certificates.client_context()},
    ):
        with session_with(**kwargs) as client:
            assert client.get(address).text == 'GET /'
    # an empty context trusts the authorities of requests, or of the request
    with session_with(ssl_context=create_urllib3_context()) as client:
        with pytest.raises(exceptions.SSLError, match='unable to get local issuer'):
            client.get(address)
        assert client.get(address, verify=certificates.ca).text == 'GET /'


def test_an_empty_context_trusts_the_default_authorities(
    secure: Secure, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('geventnode.integrations.requests.adapter.DEFAULT_CA_BUNDLE_PATH', certificates.ca)
    address = secure_url(secure())
    with session_with(ssl_context=create_urllib3_context()) as client:
        assert client.get(address).text == 'GET /'
    # and another context only its own
    with session_with(ssl_context=ssl.create_default_context(cafile=certificates.self_signed)) as client:
        with pytest.raises(exceptions.SSLError):
            client.get(address)


@pytest.mark.parametrize('by_context', [False, True])
def test_versions(secure: Secure, certificates: Certificates, by_context: bool) -> None:
    old = certificates.server_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    kwargs: dict[str, Any] = {'ssl_minimum_version': ssl.TLSVersion.TLSv1_3, 'ca_certs': certificates.ca}
    if by_context:
        context = certificates.client_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        kwargs = {'ssl_context': context}
    with session_with(**kwargs) as client:
        assert client.get(secure_url(secure())).text == 'GET /'
        with pytest.raises(exceptions.SSLError, match='protocol version'):
            client.get(secure_url(secure(context=old, certfile=None)))


def test_server_hostname(secure: Secure, certificates: Certificates) -> None:
    address = secure_url(secure(certfile=certificates.other))
    with session_with(ca_certs=certificates.ca) as client:
        with pytest.raises(exceptions.SSLError):
            client.get(address)
        # other libraries change them on an existing adapter
        client.get_adapter(address).poolmanager.connection_pool_kw['server_hostname'] = 'a.example'
        assert client.get(address).text == 'GET /'
    with session_with(ssl_context=loose(certificates.client_context()), assert_hostname=False) as client:
        assert client.get(address).text == 'GET /'


@pytest.mark.parametrize('loosely', [False, True])
@pytest.mark.parametrize(
    ('name', 'fits'),
    [('a.example', True), ('x.b.example', True), (False, True), ('c.example', False), ('localhost', False)],
)
def test_asserted_names(secure: Secure, certificates: Certificates, name: Any, fits: bool, loosely: bool) -> None:
    """SNI has the name in the URL, and the certificate can have another one."""
    kwargs = {'ssl_context': loose(certificates.client_context())} if loosely else {'ca_certs': certificates.ca}
    with session_with(assert_hostname=name, **kwargs) as client:
        if fits:
            assert client.get(secure_url(secure(certfile=certificates.other))).text == 'GET /'
        else:
            with pytest.raises(exceptions.SSLError, match=f"not valid for '{name}'"):
                client.get(secure_url(secure(certfile=certificates.other)))
        # the chain is verified nevertheless
        with pytest.raises(exceptions.SSLError):
            client.get(secure_url(secure(certfile=certificates.self_signed)))


@pytest.mark.parametrize('digits', ['sha1', 'sha256'])
def test_fingerprints(secure: Secure, certificates: Certificates, digits: str) -> None:
    """Instead of a name, and as verification with verify=False."""
    text = Path(certificates.other).read_text()
    begin, end = (text.index(f'-----{word} CERTIFICATE-----') for word in ('BEGIN', 'END'))
    der = ssl.PEM_cert_to_DER_cert(text[begin : end + 25])
    fingerprint = ':'.join(f'{byte:02X}' for byte in hashlib.new(digits, der).digest())
    right, wrong = secure_url(secure(certfile=certificates.other)), secure_url(secure())
    with session_with(assert_fingerprint=fingerprint, ca_certs=certificates.ca) as client:
        for verify in (True, False):
            assert client.get(right, verify=verify).text == 'GET /'
            with pytest.raises(exceptions.SSLError, match='another fingerprint'):
                client.get(wrong, verify=verify)
    with session_with(assert_fingerprint=fingerprint) as client:
        with pytest.raises(exceptions.SSLError, match='unable to get local issuer'):
            client.get(right)


@pytest.mark.parametrize('tunnelled', [False, True])
def test_source_address(secure: Secure, serve: Serve, certificates: Certificates, tunnelled: bool) -> None:
    """All connections, also those to proxies, have it, and are not shared with others."""
    seen = Log()

    def listener(request: Any, response: Any) -> None:
        seen.append(request.remote_address)
        response.end()

    site, proxy = secure(listener), serve()

    @proxy.server.on('connect')
    def tunnel(request: Any, socket: Any, head: bytes) -> None:
        seen.append(socket.remote_address)
        connect_proxy.open_tunnel(request, socket, head)

    proxies = {'https': f'http://127.0.0.1:{proxy.where[1]}'} if tunnelled else {}
    with session_with(ca_certs=certificates.ca, source_address=('127.0.0.2', 0)) as client:
        for _ in range(2):
            assert client.get(secure_url(site), proxies=proxies).status_code == 200
        assert seen == (['127.0.0.2', '127.0.0.1', '127.0.0.1'] if tunnelled else ['127.0.0.2'] * 2)
        manager = client.get_adapter('https://x').poolmanager
        manager.connection_pool_kw.pop('source_address')
        assert client.get(secure_url(site)).status_code == 200
        assert seen[-1] == '127.0.0.1'


def test_certificate(secure: Secure, certificates: Certificates) -> None:
    site = secure(ca=certificates.ca, request_cert=True)
    address = secure_url(site)
    with session_with(cert_file=certificates.client, ca_certs=certificates.ca) as client:
        assert client.get(address).text == 'GET /'
    # another certificate, or other authorities, replace all of them
    with session_with(cert_file=certificates.server, key_file=certificates.server, ca_certs=certificates.ca) as client:
        assert client.get(address, cert=certificates.client).text == 'GET /'
        with pytest.raises(exceptions.SSLError):
            client.get(address, cert=certificates.client, verify=certificates.self_signed)


@pytest.mark.parametrize(
    ('kwargs', 'words'),
    [
        ({'assert_fingerprint': 'aa:bb'}, 'assert_fingerprint must be'),
        ({'assert_hostname': ''}, 'assert_hostname must be'),
        ({'assert_hostname': True}, 'assert_hostname must be'),
        ({'assert_hostname': 'x', 'ssl_context': CONTEXT}, 'set check_hostname of ssl_context'),
        ({'assert_hostname': False, 'ssl_context': CONTEXT}, 'set check_hostname of ssl_context'),
        ({'ssl_version': ssl.PROTOCOL_TLSv1_2}, 'ssl_version'),
        ({'ca_cert_data': b'DER'}, 'must be PEM text'),
        ({'ssl_maximum_version': ssl.TLSVersion.TLSv1_2}, 'ssl_maximum_version'),
        ({'ssl_minimum_version': ssl.TLSVersion.TLSv1_1}, 'TLS 1.2 is the oldest'),
        ({'ssl_context': CONTEXT, 'cert_file': 'x'}, 'cert_file cannot be combined'),
        ({'source_address': ('127.0.0.1', 80)}, 'port of source_address must be 0'),
        ({'source_address': '127.0.0.1'}, 'source_address must be'),
        ({'socket_options': []}, 'socket_options'),
        ({'ssl_context': 'x'}, 'must be an ssl.SSLContext'),
        ({'asert_hostname': 'x'}, "did you mean 'assert_hostname'"),
    ],
)
def test_unsupported_arguments_are_refused(kwargs: dict[str, Any], words: str) -> None:
    """They are never ignored silently."""
    with pytest.raises((errors.InvalidInput, TypeError), match=words):
        session_with(**kwargs)


def test_arguments_without_effect() -> None:
    session_with(
        ssl_version=ssl.PROTOCOL_TLS_CLIENT,
        ssl_maximum_version=ssl.TLSVersion.TLSv1_3,
        retries=3,
        assert_hostname=None,
        timeout=5,
    ).close()


@pytest.mark.parametrize(
    ('names', 'verified', 'verify', 'words'),
    [
        (False, True, True, 'does not check host names'),
        (False, False, True, 'does not verify certificates'),
        (True, True, False, 'verify=False contradicts ssl_context'),
    ],
)
def test_contexts_that_contradict_verify(
    secure: Secure, certificates: Certificates, names: bool, verified: bool, verify: bool, words: str
) -> None:
    with session_with(ssl_context=loose(certificates.client_context(), names, verified)) as client:
        with contextlib.nullcontext() if verify else pytest.warns(InsecureRequestWarning):
            with pytest.raises(exceptions.SSLError, match=words):
                client.get(secure_url(secure()), verify=verify)


def test_a_context_without_verification(secure: Secure, certificates: Certificates) -> None:
    with session_with(ssl_context=loose(certificates.client_context(), certificates=False)) as client:
        with pytest.warns(InsecureRequestWarning):
            assert client.get(secure_url(secure(certfile=certificates.self_signed)), verify=False).text == 'GET /'


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('assert_fingerprint', 'aa:bb', 'assert_fingerprint'),
        ('ca_certs', None, None),
        ('cert_reqs', 'CERT_REQUIRED', 'unable to get local issuer'),
    ],
)
def test_attributes_of_a_pool(
    secure: Secure, certificates: Certificates, name: str, value: str | None, words: str | None
) -> None:
    class Own(AgentAdapter):
        """Set them in ``cert_verify``, as old adapters do."""

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            super().cert_verify(conn, url, verify, cert)
            setattr(conn, name, value or certificates.ca)

    client = requests.Session()
    client.mount('https://', Own())
    with client, pytest.warns(InsecureRequestWarning) if name == 'cert_reqs' else contextlib.nullcontext():
        if words is None:
            assert client.get(secure_url(secure())).text == 'GET /'
        else:
            with pytest.raises(exceptions.SSLError, match=words):
                client.get(secure_url(secure()), verify=name != 'cert_reqs')
