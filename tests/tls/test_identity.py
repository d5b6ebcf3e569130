"""Test the peer's identity: refused certificates, requested names, and descriptions."""

from __future__ import annotations

import ssl

import gevent
import pytest

from geventnode.errors import CertificateError
from tests.certificates import Certificates, note_names
from tests.tls_clients import client_of, shaken


@pytest.mark.parametrize(
    ('which', 'host', 'code', 'message'),
    [
        ('expired', 'localhost', 'CERT_HAS_EXPIRED', 'expired'),
        ('self_signed', 'localhost', '', 'self.signed'),
        ('other', 'localhost', 'ERR_TLS_CERT_ALTNAME_INVALID', "not valid for 'localhost'"),
        ('server', '127.0.0.2', 'ERR_TLS_CERT_ALTNAME_INVALID', "not valid for '127.0.0.2'"),
        ('other', 'b.example', 'ERR_TLS_CERT_ALTNAME_INVALID', "not valid for 'b.example'"),
    ],
)
def test_refused_certificates(certificates: Certificates, which: str, host: str, code: str, message: str) -> None:
    with client_of(certificates.server_context(which), ca=certificates.ca, host=host) as (near, far):
        shaking = gevent.spawn(far.handshake)
        with pytest.raises(CertificateError, match=f'(?i)certificate of the peer refused: .*{message}') as raised:
            near.wait_connected()
        assert not code or raised.value.code == code
        assert not near.authorized
        with pytest.raises(ssl.SSLError, match=r'(?i)alert'):
            shaking.get()


def test_an_unknown_authority_is_refused(certificates: Certificates) -> None:
    with client_of(certificates.server_context()) as (near, far):
        shaking = gevent.spawn(far.handshake)
        with pytest.raises(CertificateError, match='issuer'):
            near.wait_connected()
        with pytest.raises(ssl.SSLError):
            shaking.get()


@pytest.mark.parametrize(('host', 'asked'), [('localhost', 'localhost'), ('127.0.0.1', None), ('::1', None)])
def test_names_are_sent_and_addresses_are_not(certificates: Certificates, host: str, asked: str | None) -> None:
    names: list[str | None] = []
    context = certificates.server_context()
    note_names(context, names)
    with client_of(context, ca=certificates.ca, host=host) as (near, far):
        with shaken(near, far):
            near.wait_connected()
        assert near.authorized
        assert near.verify_peer()
    assert names == [asked]


def test_servername_replaces_the_host(certificates: Certificates) -> None:
    names: list[str | None] = []
    context = certificates.server_context('other')
    note_names(context, names)
    with client_of(context, ca=certificates.ca, servername='x.b.example') as (near, far), shaken(near, far):
        near.wait_connected()
    assert names == ['x.b.example']


@pytest.mark.parametrize(
    ('which', 'host', 'accepted'),
    [
        ('server', 'localhost', True),
        ('server', '127.0.0.1', True),
        ('server', '127.0.0.2', False),
        ('other', 'localhost', False),
        ('other', 'x.b.example', True),
        ('other', 'x.y.b.example', False),
        ('other', 'b.example', False),
    ],
)
def test_no_servername_disables_sni_and_not_the_check(
    certificates: Certificates, which: str, host: str, accepted: bool
) -> None:
    names: list[str | None] = []
    context = certificates.server_context(which)
    note_names(context, names)
    with client_of(context, ca=certificates.ca, host=host, servername='') as (near, far), shaken(near, far):
        if accepted:
            assert near.wait_connected() is near
        else:
            with pytest.raises(CertificateError, match='not valid for') as raised:
                near.wait_connected()
            assert raised.value.code == 'ERR_TLS_CERT_ALTNAME_INVALID'
    assert names == [None]


def test_reject_unauthorized_off_accepts_every_certificate(certificates: Certificates) -> None:
    with client_of(certificates.server_context('expired'), reject_unauthorized=False) as (near, far):
        with shaken(near, far):
            near.wait_connected()
        assert not near.authorized
        assert near.authorization_error == 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'
        told = near.get_peer_certificate()
        assert set(told) == {'fingerprint', 'fingerprint256', 'raw'}
        assert len(told['fingerprint'].split(':')) == 20


def test_get_peer_certificate(certificates: Certificates) -> None:
    with client_of(certificates.server_context(), ca=certificates.ca) as (near, far):
        assert near.get_peer_certificate() == {}
        with shaken(near, far):
            near.wait_connected()
        told = near.get_peer_certificate()
        assert ('DNS', 'localhost') in told['subject_alt_name']
        assert 'O' in told['issuer']
        assert told['raw'] == near._certificate(der=True)
        assert ssl.cert_time_to_seconds(told['valid_from']) < ssl.cert_time_to_seconds(told['valid_to'])
        near.destroy()
        assert near.get_peer_certificate() == told


def test_a_client_sends_its_certificate(certificates: Certificates) -> None:
    context = certificates.server_context()
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with client_of(context, ca=certificates.ca, certfile=certificates.client) as (near, far):
        with shaken(near, far):
            near.wait_connected()
        subject = dict(pair for part in far.object.getpeercert()['subject'] for pair in part)
        assert subject['commonName'] == 'client'
