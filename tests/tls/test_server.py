"""Test TLS servers: handshakes, certificates by name, client certificates and settings."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket

from geventnode import tls
from geventnode.errors import InvalidInput, TLSError, UnknownOption
from tests.certificates import Certificates, TLSEnd
from tests.leaks import live_greenlets
from tests.servers import Log
from tests.sockets import dial, settle, until

MakeServer = Callable[..., tls.Server]


@pytest.fixture
def listen(certificates: Certificates) -> Iterator[MakeServer]:
    """Start TLS servers: ``listen(listener, **options)``."""
    servers: list[tls.Server] = []

    def start(listener: Any = None, **options: Any) -> tls.Server:
        server = tls.create_server(
            listener or (lambda connection: connection.end(b'hello')), **{'certfile': certificates.server, **options}
        )
        servers.append(server.listen(0, '127.0.0.1'))
        return server

    yield start
    for each in servers:
        each.stop(0)


def said(server: tls.Server, certificates: Certificates, servername: str = 'localhost') -> bytes:
    """Return the data that ``server`` sends to a client that requests ``servername``."""
    with contextlib.closing(TLSEnd(dial(server), certificates.client_context(), servername=servername)) as far:
        return far.recv(100)


def test_connections_are_emitted_after_the_handshake(listen: MakeServer, certificates: Certificates) -> None:
    log = Log()
    server = listen(lambda connection: (log.append('connection'), connection.end(b'hello')))
    server.on('secureConnection', log.note('secureConnection'))
    assert said(server, certificates) == b'hello'
    assert sorted(log) == ['connection', 'secureConnection']


@pytest.mark.parametrize(
    ('said_by_client', 'code'),
    [
        (b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', 'ERR_SSL_HTTP_REQUEST'),
        (b'\x16\x03\x01\x00\x05hello', 'ERR_SSL_'),
        (bytes(100), 'ERR_SSL_'),
        (b'', 'ECONNRESET'),
    ],
)
def test_a_failing_handshake_is_emitted_and_logged(
    listen: MakeServer, certificates: Certificates, caplog: pytest.LogCaptureFixture, said_by_client: bytes, code: str
) -> None:
    server = listen()
    failures = Log()
    server.on('tlsClientError', lambda error, connection: failures.append((error, connection)))
    with caplog.at_level(logging.INFO, 'geventnode.error'), contextlib.closing(dial(server)) as far:
        far.sendall(said_by_client)
        far.shutdown(socket.SHUT_WR)
        while far.recv(1000):
            pass
        failures.wait_for_length(1)
    ((error, connection),) = failures
    assert isinstance(error, TLSError)
    assert error.code.startswith(code)
    assert connection.destroyed
    # a connection without a byte is a health check
    assert [record.levelname for record in caplog.records] == ['INFO'] * bool(said_by_client)
    assert said(server, certificates) == b'hello'


def test_a_stalled_handshake_times_out(listen: MakeServer, certificates: Certificates) -> None:
    server = listen(handshake_timeout=0.02)
    failures = Log()
    server.on('tlsClientError', lambda error, connection: failures.append(error))
    with contextlib.closing(dial(server)) as far:
        far.sendall(b'\x16\x03\x01')
        assert far.recv(100) == b''
        failures.wait_for_length(1)
    assert failures[0].code == 'ERR_TLS_HANDSHAKE_TIMEOUT'
    assert 'handshake_timeout (0.02 seconds)' in str(failures[0])


def test_stalled_handshakes_cost_no_greenlet(listen: MakeServer, certificates: Certificates) -> None:
    server = listen()
    settle()
    # those of earlier tests can wait for the garbage collector
    gc.collect()
    before = len(live_greenlets())
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(contextlib.closing(dial(server))).sendall(b'\x16\x03\x01')
        until(lambda: server.get_connections() == 20)
        settle()
        assert len(live_greenlets()) == before
        assert said(server, certificates) == b'hello'
    until(lambda: not server.get_connections())


def test_closing_does_not_wait_for_a_stalled_handshake(listen: MakeServer) -> None:
    server = listen()
    with contextlib.closing(dial(server)) as far:
        until(lambda: server.get_connections() == 1)
        closed = Log()
        server.close(closed.note('close'))
        closed.wait_for('close')
        assert far.recv(100) == b''


def test_a_handshake_is_completed_while_the_server_drains(listen: MakeServer, certificates: Certificates) -> None:
    server = listen()
    far = TLSEnd(dial(server), certificates.client_context(), servername='localhost')
    until(lambda: server.get_connections() == 1)
    server.close()
    assert far.recv(100) == b'hello'
    far.close()


# -- names ------------------------------------------------------------------------------------------------------------


def certificate_for(server: tls.Server, certificates: Certificates, servername: str | None) -> str:
    """Return the first name in the certificate of ``server`` for ``servername``."""
    context = certificates.client_context()
    context.check_hostname = False
    with contextlib.closing(TLSEnd(dial(server), context, servername=servername)) as far:
        far.handshake()
        names = far.object.getpeercert()['subjectAltName']
        return str(names[0][1])


@pytest.mark.parametrize(
    ('servername', 'shown'),
    [
        ('a.example', 'a.example'),
        ('A.EXAMPLE', 'a.example'),
        ('x.b.example', 'a.example'),
        ('b.example', 'localhost'),
        ('x.y.b.example', 'localhost'),
        ('localhost', 'localhost'),
        ('unknown.example', 'localhost'),
        (None, 'localhost'),
    ],
)
def test_the_name_decides_the_certificate(
    listen: MakeServer, certificates: Certificates, servername: str | None, shown: str
) -> None:
    server = listen(sni_contexts={'a.example': {'certfile': certificates.other}})
    server.add_context('*.b.example', certificates.server_context('other'))
    assert certificate_for(server, certificates, servername) == shown


def test_a_callback_chooses(listen: MakeServer, certificates: Certificates) -> None:
    asked: list[str] = []
    other = certificates.server_context('other')
    server = listen(sni_callback=lambda name: (asked.append(name), other if name == 'a.example' else None)[1])
    assert certificate_for(server, certificates, 'a.example') == 'a.example'
    assert certificate_for(server, certificates, 'localhost') == 'localhost'
    assert asked == ['a.example', 'localhost']


@pytest.mark.parametrize('failure', [RuntimeError('no'), KeyboardInterrupt(), gevent.GreenletExit(), gevent.Timeout(1)])
def test_a_failing_callback_ends_one_connection(
    listen: MakeServer, certificates: Certificates, caplog: pytest.LogCaptureFixture, failure: BaseException
) -> None:
    def choose(name: str) -> None:
        if name == 'a.example':
            raise failure

    server = listen(sni_callback=choose)
    with pytest.raises(ssl.SSLError, match=r'(?i)alert.internal.error'):
        certificate_for(server, certificates, 'a.example')
    assert [record.getMessage() for record in caplog.records] == ["sni_callback failed for 'a.example'"]
    assert said(server, certificates) == b'hello'


def test_a_callback_must_return_a_context_or_none(
    listen: MakeServer, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    server = listen(sni_callback=lambda name: 'certificate.pem')
    with pytest.raises(ssl.SSLError):
        said(server, certificates)
    assert 'must return an ssl.SSLContext or None, not str' in str(caplog.records[0].exc_info)


@pytest.mark.parametrize('hostname', ['', '*', '*.', 'a.*.example', 7])
def test_malformed_names_are_refused(listen: MakeServer, hostname: Any) -> None:
    with pytest.raises(InvalidInput, match='hostname'):
        listen().add_context(hostname, certfile=__file__)


# -- certificates of clients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('shows', 'rejects', 'outcome'),
    [
        ('client', True, 'client'),
        ('client', False, 'client'),
        (None, True, 'refused'),
        (None, False, 'anonymous'),
        ('self_signed', True, 'refused'),
        ('self_signed', False, 'refused'),
    ],
)
def test_request_cert_requests_client_certificates(
    listen: MakeServer, certificates: Certificates, shows: str | None, rejects: bool, outcome: str
) -> None:
    def report(connection: tls.TLSSocket) -> None:
        subject = connection.get_peer_certificate().get('subject', {'CN': 'anonymous'})
        assert connection.verify_peer() is (subject['CN'] == 'client')
        assert (connection.authorization_error is None) is connection.authorized
        connection.end(subject['CN'])

    server = listen(report, request_cert=True, reject_unauthorized=rejects, ca=certificates.ca)
    failures = Log()
    server.on('tlsClientError', lambda error, connection: failures.append(error.code))
    context = certificates.client_context()
    if shows is not None:
        context.load_cert_chain(getattr(certificates, shows))
    with contextlib.closing(TLSEnd(dial(server), context, servername='localhost')) as far:
        if outcome == 'refused':
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                far.recv(100)
            failures.wait_for_length(1)
        else:
            assert far.recv(100).decode() == outcome


# -- settings ---------------------------------------------------------------------------------------------------------


def test_old_versions_are_refused(listen: MakeServer, certificates: Certificates) -> None:
    server = listen(minimum_version='TLSv1.3')
    context = certificates.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        contextlib.closing(TLSEnd(dial(server), context, servername='localhost')) as far,
        pytest.raises(ssl.SSLError, match=r'(?i)protocol.version'),
    ):
        far.recv(1)


def test_a_context_of_the_user_is_used(listen: MakeServer, certificates: Certificates) -> None:
    server = listen(certfile=None, context=certificates.server_context('other'))
    assert certificate_for(server, certificates, 'localhost') == 'a.example'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'certfile': None}, 'needs certfile'),
        ({'certfile': '/nowhere.pem'}, "certfile: no such file: '/nowhere.pem'"),
        ({'keyfile': __file__}, 'keyfile'),
        ({'handshake_timeout': -1}, 'handshake_timeout'),
        ({'minimum_version': 'SSLv3'}, 'minimum_version'),
        ({'request_cert': True, 'ca': __file__}, 'ca: no certificates'),
    ],
)
def test_bad_settings_are_refused(listen: MakeServer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        listen(**options)


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'keyfile': 'other'}, 'the key is not that of the first certificate in the file'),
        ({'certfile': 'certificate'}, '{certificate} has no private key in PEM format; set keyfile, too'),
        ({'certfile': 'key', 'keyfile': 'key'}, '{key} has no certificate in PEM format'),
        ({'keyfile': 'certificate'}, '{certificate} has no private key in PEM format'),
        ({'keyfile': 'encrypted'}, 'the key is encrypted; set password, or use a key without encryption'),
        ({'keyfile': 'encrypted', 'password': 'x'}, 'the key is encrypted; password is wrong'),
        ({'keyfile': 'truncated'}, r'\[SSL\] PEM lib'),
        ({'certfile': 'broken', 'keyfile': 'encrypted', 'password': 'x'}, r'\[SSL\] PEM lib'),
    ],
)
def test_reason_against_a_certificate_is_given(
    options: dict[str, str], reason: str, listen: MakeServer, certificates: Certificates, tmp_path: Path
) -> None:
    text = Path(certificates.server).read_text('ascii')
    start = text.index('-----BEGIN CERTIFICATE')
    contents = {
        'certificate': text[start:],
        'key': text[:start],
        'encrypted': text[:start].replace(
            'KEY-----\n', 'KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-CBC,00\n\n', 1
        ),
        'truncated': text[: start // 2],
        'broken': text[start:].replace('-----\n', '-----\n!', 1),
    }
    paths = {'server': certificates.server, 'other': certificates.other}
    for name, content in contents.items():
        paths[name] = str(tmp_path / name)
        Path(paths[name]).write_text(content)
    given = {name: paths.get(value, value) for name, value in options.items()}
    with pytest.raises(InvalidInput, match=f'cannot be used: {reason.format(**paths)}'):
        listen(**given)


def test_key_that_cannot_be_opened_is_reported(
    listen: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although OpenSSL has refused the certificate before; root can open each file."""
    certfile, keyfile = tmp_path / 'certificate', tmp_path / 'key'
    for file in (certfile, keyfile):
        file.write_text('nothing')

    def open_readable(path: str, *args: Any) -> Any:
        if path == str(keyfile):
            raise PermissionError(errno.EACCES, 'Permission denied', path)
        return open(path, *args)

    monkeypatch.setattr('geventnode.tls.contexts.open', open_readable, raising=False)
    with pytest.raises(InvalidInput, match=f'cannot be used: {keyfile}: Permission denied'):
        listen(certfile=str(certfile), keyfile=str(keyfile))


def test_settings_beside_a_context_are_refused(listen: MakeServer, certificates: Certificates) -> None:
    with pytest.raises(InvalidInput, match='context replaces all other settings: set certfile on it'):
        listen(context=certificates.server_context())


def test_unknown_settings_are_refused(certificates: Certificates) -> None:
    with pytest.raises(UnknownOption, match="'certfile'"):
        tls.create_server(cert_file=certificates.server)


def test_an_encrypted_key_needs_its_password(listen: MakeServer, certificates: Certificates, tmp_path: Any) -> None:
    serialization = pytest.importorskip('cryptography.hazmat.primitives.serialization')
    with open(certificates.server, 'rb') as file:
        pem = file.read()
    key = serialization.load_pem_private_key(pem, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b'secret')
    )
    (tmp_path / 'key.pem').write_bytes(encrypted)
    server = listen(keyfile=tmp_path / 'key.pem', password='secret')
    assert said(server, certificates) == b'hello'
    for password in (None, 'wrong'):
        with pytest.raises(InvalidInput, match='certfile, keyfile or password'):
            listen(keyfile=tmp_path / 'key.pem', password=password)
