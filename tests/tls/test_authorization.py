"""Test the fault of a certificate that is accepted unverified."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from geventnode import https, tls
from geventnode.errors import CertificateError
from geventnode.tls import client, identity
from geventnode.tls.contexts import checking_context, client_settings
from tests.certificates import Certificates
from tests.https_sites import MakePool, Secure, url

UNKNOWN = 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'


@pytest.mark.parametrize(
    ('which', 'trusting', 'code'),
    [
        ('server', True, None),
        ('other', True, 'ERR_TLS_CERT_ALTNAME_INVALID'),
        ('expired', True, 'CERT_HAS_EXPIRED'),
        ('self_signed', True, 'DEPTH_ZERO_SELF_SIGNED_CERT'),
        ('server', False, UNKNOWN),
        ('other', False, UNKNOWN),
        ('self_signed', False, 'DEPTH_ZERO_SELF_SIGNED_CERT'),
    ],
)
@pytest.mark.parametrize('version', ['TLSv1.2', 'TLSv1.3'])
@pytest.mark.parametrize('options', [{}, {'servername': 'localhost'}, {'servername': ''}, {'servername': 'localhost.'}])
def test_authorization_error_names_the_fault(
    secure: Secure,
    certificates: Certificates,
    which: str,
    trusting: bool,
    code: str | None,
    version: str,
    options: dict[str, Any],
) -> None:
    context = certificates.server_context(which)
    context.maximum_version = {'TLSv1.2': ssl.TLSVersion.TLSv1_2, 'TLSv1.3': ssl.TLSVersion.TLSv1_3}[version]
    site = secure(certfile=None, context=context)
    if trusting:
        options = {**options, 'ca': certificates.ca}
    socket = tls.connect(site.where[1], '127.0.0.1', reject_unauthorized=False, **options)
    with socket:
        assert (socket.authorized, socket.authorization_error) == (False, None), 'nothing is known yet'
        socket.wait_connected()
        assert socket.get_protocol() == version
        assert (socket.authorized, socket.authorization_error) == (code is None, code)
        assert socket.verify_peer() is socket.authorized
    assert socket.authorization_error == code
    # the same that a verifying client reports
    verifying = tls.connect(site.where[1], '127.0.0.1', **options)
    if code is None:
        with verifying:
            assert verifying.wait_connected().authorized
    else:
        with pytest.raises(CertificateError) as raised:
            verifying.wait_connected()
        assert raised.value.code == code


def test_authorization_error_of_a_response(secure: Secure, certificates: Certificates, pool: MakePool) -> None:
    agent = pool(reject_unauthorized=False, keep_alive=False)
    for which, code in (('server', None), ('expired', 'CERT_HAS_EXPIRED')):
        address = url(secure(certfile=getattr(certificates, which)))
        for reused in (False, True):
            with https.get(address, agent=agent) as response:
                assert response.socket.session_reused is reused
                assert response.socket.authorization_error == code
                response.read()
                assert response.socket.authorized is (code is None), 'also when the connection is over'


def test_the_fault_is_computed_at_the_first_access_only(
    secure: Secure, certificates: Certificates, pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    judge = client.verification_error
    monkeypatch.setattr(client, 'verification_error', lambda *args: (calls.append(args), judge(*args))[1])
    with https.get(url(secure()), agent=pool(reject_unauthorized=False)) as response:
        response.read()
        assert not calls
        assert [response.socket.authorized for _ in range(3)] == [True] * 3
    assert len(calls) == 1


def test_a_context_of_the_user_has_no_computed_fault(secure: Secure, certificates: Certificates) -> None:
    context = certificates.client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with tls.connect(secure().where[1], 'localhost', context=context) as socket:
        assert not socket.wait_connected().authorized
        assert socket.authorization_error == 'certificates are not verified (reject_unauthorized, request_cert)'


@pytest.fixture(scope='module', params=list(trustme.KeyType), ids=str)
def issued(request: pytest.FixtureRequest) -> tuple[str, list[bytes]]:
    """Return an authority, and certificates for localhost of it and of another one, for each type of keys."""
    authorities = [trustme.CA(key_type=request.param) for _ in range(2)]
    leaves = [each.issue_cert('localhost', key_type=request.param).cert_chain_pems[0] for each in authorities]
    return authorities[0].cert_pem.bytes().decode(), [
        ssl.PEM_cert_to_DER_cert(leaf.bytes().decode()) for leaf in leaves
    ]


@pytest.mark.parametrize('length', [1, 60])
def test_the_fault_for_other_keys_and_long_chains(issued: tuple[str, list[bytes]], length: int) -> None:
    """OpenSSL would not continue for other keys, and many certificates fill several records."""
    authority, leaves = issued
    context = checking_context(client_settings({'ca': authority}), True)
    for leaf, code in zip(leaves, (None, UNKNOWN), strict=True):
        chain = [leaf] * length
        assert identity.verification_error(chain, context, 'localhost') == code
    assert identity.verification_error([], context, 'localhost') == 'ERR_TLS_NO_CERTIFICATE'


@pytest.mark.parametrize('position', [0, 1, 5, 30, 100, 200, 300, -1])
def test_a_damaged_certificate_is_not_valid(certificates: Certificates, position: int) -> None:
    context = checking_context(client_settings({'ca': certificates.ca}), True)
    pem = Path(certificates.server).read_text()
    der = bytearray(
        ssl.PEM_cert_to_DER_cert(
            pem[pem.index('-----BEGIN CERTIFICATE') :].partition('-----END CERT')[0] + '-----END CERTIFICATE-----\n'
        )
    )
    assert identity.verification_error([bytes(der)], context, 'localhost') is None
    der[position] ^= 0x55
    assert identity.verification_error([bytes(der)], context, 'localhost') is not None
