"""Test HTTPS servers and clients together, and the certificates that they trust."""

from __future__ import annotations

import contextlib
import gc
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import pytest

from geventnode import http, https, net
from geventnode.errors import (
    CertificateError,
    SocketHangUp,
    TLSError,
)
from tests.certificates import Certificates
from tests.https_sites import MakePool, Secure, connect, read, url
from tests.servers import get
from tests.sockets import settle

BIG = bytes(range(256)) * 20000


# -- exchanges --------------------------------------------------------------------------------------------------------


def test_request_and_response(secure: Secure, certificates: Certificates) -> None:
    request = https.get(url(secure(), '/path'), ca=certificates.ca)
    response = request.get_response()
    assert (response.status_code, response.read()) == (200, b'GET /path')
    assert (request.protocol, request.agent.protocol) == ('https:', 'https:')
    assert response.socket.encrypted
    assert response.connection.verify_peer()
    assert ('DNS', 'localhost') in response.connection.get_peer_certificate()['subject_alt_name']


def test_default_port() -> None:
    assert https.Agent().get_name({'host': 'example.org'}) == 'example.org:443'
    request = https.request('https://example.org/')
    assert request.get_header('Host') == 'example.org'
    assert https.request(host='example.org', port=80).get_header('Host') == 'example.org:80'
    request.destroy()


def test_large_bodies_both_ways(secure: Secure, pool: MakePool) -> None:
    site = secure(lambda request, response: request.pipe(response))
    agent = pool()
    for _ in range(2):
        response = https.request(url(site), method='POST', body=BIG, agent=agent).get_response()
        assert response.read() == BIG
    assert agent.statistics()['opened'] == 1


def test_many_concurrent_requests(secure: Secure, pool: MakePool) -> None:
    site = secure()
    agent = pool(max_sockets=7)
    requests = [https.get(url(site, f'/{number}'), agent=agent) for number in range(200)]
    assert [request.get_response().read() for request in requests] == [
        f'GET /{number}'.encode() for number in range(200)
    ]
    assert agent.statistics()['opened'] == 7


def test_client_certificate(secure: Secure, certificates: Certificates) -> None:
    def respond(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        assert request.connection.verify_peer()
        response.end(request.connection.get_peer_certificate()['subject']['CN'])

    site = secure(respond, request_cert=True, ca=certificates.ca)
    assert read(url(site), ca=certificates.ca, certfile=certificates.client) == b'client'
    with pytest.raises((TLSError, SocketHangUp)):
        read(url(site), ca=certificates.ca)


def test_two_requests_in_one_record(secure: Secure, certificates: Certificates) -> None:
    with contextlib.closing(connect(secure(), certificates)) as far:
        far.sendall(get('/1') + get('/2', 'Connection: close'))
        received = b''
        while data := far.recv(65536):
            received += data
        assert received.count(b'HTTP/1.1 200 OK') == 2
        assert received.index(b'GET /1') < received.index(b'GET /2')


def test_one_byte_per_record(secure: Secure, certificates: Certificates) -> None:
    with contextlib.closing(connect(secure(), certificates)) as far:
        for byte in get('/slow', 'Connection: close'):
            far.sendall(bytes((byte,)))
        received = b''
        while data := far.recv(65536):
            received += data
        assert received.endswith(b'GET /slow')


def test_idle_connections_hold_no_greenlet(secure: Secure, certificates: Certificates) -> None:
    site = secure()
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(contextlib.closing(connect(site, certificates))) for _ in range(5)]
        for end in ends:
            end.sendall(get())
            assert b'200 OK' in end.recv(65536)
        settle()
        running = [each for each in gc.get_objects() if isinstance(each, gevent.Greenlet) and each.gr_frame]
        assert len([each for each in running if 'Worker' in type(each).__name__]) <= 1
        assert site.server.get_connections() == 5


def test_server_sends_close_notify(secure: Secure, certificates: Certificates) -> None:
    with contextlib.closing(connect(secure(), certificates)) as far:
        far.sendall(get(version='1.0'))
        while far.recv(65536):
            pass


def test_incomplete_response_has_no_close_notify(secure: Secure, certificates: Certificates) -> None:
    def fail(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        response.write(b'half of it')
        response.destroy()

    with contextlib.closing(connect(secure(fail), certificates)) as far:
        far.sendall(get(version='1.0'))
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            list(iter(partial(far.recv, 65536), b''))


def test_close_lets_responses_finish(secure: Secure, certificates: Certificates) -> None:
    site = secure(lambda request, response: response.end(BIG))
    with contextlib.closing(connect(site, certificates)) as far:
        far.sendall(get())
        head = far.recv(10)
        site.server.close()
        received = len(head)
        while data := far.recv(65536):
            received += len(data)
        assert received > len(BIG)


def test_connection_is_emitted_after_the_handshake(
    secure: Secure, certificates: Certificates, must_call: Callable[..., Any]
) -> None:
    site = secure()
    site.server.on('connection', must_call(lambda connection: connection.get_protocol()))
    site.server.on('secureConnection', must_call())
    assert read(url(site), ca=certificates.ca) == b'GET /'


def test_upgrade(secure: Secure, pool: MakePool) -> None:
    site = secure()

    def echo(request: http.IncomingMessage, connection: net.Socket, head: bytes) -> None:
        connection.write(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
        for chunk in connection:
            connection.write(chunk)
        connection.end()

    site.server.on('upgrade', echo)
    response = https.get(url(site), agent=pool(), headers={'Connection': 'Upgrade', 'Upgrade': 'echo'}).get_response()
    assert response.upgrade
    response.socket.end(b'over TLS')
    assert response.socket.read() == b'over TLS'


# -- trust -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('which', 'host', 'message', 'code'),
    [
        ('expired', 'localhost', 'certificate has expired', 'CERT_HAS_EXPIRED'),
        ('self_signed', 'localhost', 'self.signed certificate', None),
        ('other', 'localhost', "not valid for 'localhost'", 'ERR_TLS_CERT_ALTNAME_INVALID'),
    ],
)
def test_invalid_certificates_are_rejected(
    secure: Secure, certificates: Certificates, which: str, host: str, message: str, code: str | None
) -> None:
    site = secure(certfile=getattr(certificates, which))
    with pytest.raises(CertificateError, match=message) as raised:
        read(url(site, host=host), ca=certificates.ca)
    assert code is None or raised.value.code == code
    assert (raised.value.host, raised.value.port, raised.value.phase) == (host, site.where[1], 'handshake')


def test_private_authority_is_not_trusted_by_default(secure: Secure) -> None:
    with pytest.raises(CertificateError, match='issuer'):
        read(url(secure()))


def test_invalid_certificate_is_accepted_without_reject_unauthorized(
    secure: Secure, certificates: Certificates
) -> None:
    response = https.get(url(secure(certfile=certificates.expired)), reject_unauthorized=False).get_response()
    assert response.read() == b'GET /'
    assert not response.socket.authorized


def test_ip_address_is_checked_and_not_sent_as_server_name(secure: Secure, certificates: Certificates) -> None:
    names: list[str] = []
    site = secure(sni_callback=names.append)
    assert read(url(site, host='127.0.0.1'), ca=certificates.ca) == b'GET /'
    assert names == []


def test_servername_replaces_the_host_name(secure: Secure, certificates: Certificates) -> None:
    site = secure(sni_contexts={'a.example': {'certfile': certificates.other}})
    assert read(url(site), ca=certificates.ca, servername='a.example') == b'GET /'
    assert read(url(site), ca=certificates.ca, servername='') == b'GET /'
    with pytest.raises(CertificateError):
        read(url(site), ca=certificates.ca, servername='c.example')
