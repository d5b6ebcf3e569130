"""Test contexts by name: they apply to their name only, also with resumed sessions and other Host fields."""

from __future__ import annotations

import contextlib
import random
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from geventnode import https, tls
from geventnode.errors import InvalidInput, TLSError
from geventnode.tls.client_hello import MAX_LENGTH, MAX_SIZE, ClientHello
from tests.certificates import Certificates, TLSEnd, note_names
from tests.https_sites import Secure
from tests.servers import Log
from tests.sockets import dial

MakeServer = Callable[..., tls.Server]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def greet(connection: tls.TLSSocket) -> None:
    """Send the name of the client."""
    connection.end(connection.get_peer_certificate().get('subject', {'CN': 'anonymous'})['CN'])


@pytest.fixture
def listen(certificates: Certificates) -> Iterator[MakeServer]:
    """Start TLS servers that greet: ``listen(**options)``."""
    servers: list[tls.Server] = []

    def start(listener: Any = greet, **options: Any) -> tls.Server:
        server = tls.create_server(listener, **{'certfile': certificates.server, **options})
        servers.append(server.listen(0, '127.0.0.1'))
        return server

    yield start
    for each in servers:
        each.stop(0)


def client(
    certificates: Certificates, version: ssl.TLSVersion | None = None, certificate: str | None = None
) -> ssl.SSLContext:
    """Return a client's context, with the given version and certificate."""
    context = certificates.client_context()
    context.check_hostname = False
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(getattr(certificates, certificate))
    return context


def said(server: tls.Server, context: ssl.SSLContext, servername: str | None, session: Any = None) -> str:
    """Return the data that ``server`` sends to a client."""
    with contextlib.closing(TLSEnd(dial(server), context, servername=servername, session=session)) as far:
        return far.handshake().recv(100).decode()


def refused(server: tls.Server, context: ssl.SSLContext, servername: str | None, session: Any = None) -> None:
    """Check that a client gets an alert."""
    with pytest.raises(ssl.SSLError, match=r'(?i)alert'):
        said(server, context, servername, session)


#: The ways to set a context for a name.
WAYS = pytest.mark.parametrize('how', ['options', 'context', 'callback', "the context's own callback"])


def verifying_context(certificates: Certificates) -> ssl.SSLContext:
    """Return a new context of a server that requests client certificates."""
    context = certificates.server_context('other')
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca)
    return context


def verifying(certificates: Certificates, how: str) -> dict[str, Any]:
    """Return options for client certificates on a.example, in each of the ways to set them."""
    options = {'certfile': certificates.other, 'request_cert': True, 'ca': certificates.ca}
    context = verifying_context(certificates)
    usual = certificates.server_context()

    def choose(connection: Any, name: str | None, current: ssl.SSLContext) -> None:
        assert connection.context is current is usual
        if name is not None and name.lower().startswith('a.example'):
            connection.context = context

    usual.sni_callback = choose
    return {
        'options': {'sni_contexts': {'a.example': options}},
        'context': {'sni_contexts': {'a.example': context}},
        'callback': {'sni_callback': lambda name: context if name == 'a.example' else None},
        "the context's own callback": {'certfile': None, 'context': usual},
    }[how]


@pytest.mark.parametrize('version', VERSIONS)
@WAYS
def test_a_name_can_require_client_certificates(
    listen: MakeServer, certificates: Certificates, how: str, version: ssl.TLSVersion
) -> None:
    server = listen(**verifying(certificates, how))
    failures = Log()
    server.on('tlsClientError', lambda error, connection: failures.append(error.code))
    anonymous, known = client(certificates, version), client(certificates, version, 'client')
    stranger = client(certificates, version, 'self_signed')
    for name in ('a.example', 'A.Example.'):
        refused(server, anonymous, name)
        refused(server, stranger, name)
        assert said(server, known, name) == 'client'
    failures.wait_for_length(4)
    for name in ('localhost', None):
        assert said(server, anonymous, name) == 'anonymous'
        assert said(server, known, name) == 'anonymous'


def test_a_name_can_require_no_client_certificate(listen: MakeServer, certificates: Certificates) -> None:
    server = listen(request_cert=True, ca=certificates.ca, sni_contexts={'a.example': {'certfile': certificates.other}})
    assert said(server, client(certificates), 'a.example') == 'anonymous'
    refused(server, client(certificates), 'localhost')


def test_a_name_can_request_client_certificates(listen: MakeServer, certificates: Certificates) -> None:
    server = listen(
        sni_contexts={
            'a.example': {
                'certfile': certificates.other,
                'request_cert': True,
                'reject_unauthorized': False,
                'ca': certificates.ca,
            }
        }
    )
    assert said(server, client(certificates), 'a.example') == 'anonymous'
    assert said(server, client(certificates, certificate='client'), 'a.example') == 'client'


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize('where', ['a.example', 'localhost'])
def test_a_name_can_have_its_own_versions(
    listen: MakeServer, certificates: Certificates, where: str, version: ssl.TLSVersion
) -> None:
    other: dict[str, Any] = {'certfile': certificates.other}
    ours: dict[str, Any] = {}
    (other if where == 'a.example' else ours)['minimum_version'] = 'TLSv1.3'
    server = listen(sni_contexts={'a.example': other}, **ours)
    for name in ('a.example', 'localhost'):
        if name == where and version is ssl.TLSVersion.TLSv1_2:
            refused(server, client(certificates, version), name)
        else:
            assert said(server, client(certificates, version), name) == 'anonymous'


@pytest.mark.parametrize('version', VERSIONS)
@WAYS
def test_sessions_belong_to_a_name(
    listen: MakeServer, certificates: Certificates, how: str, version: ssl.TLSVersion
) -> None:
    def report(connection: tls.TLSSocket) -> None:
        connection.end('resumed' if connection.session_reused else 'new')

    server = listen(report, **verifying(certificates, how))
    context = client(certificates, version)
    with contextlib.closing(TLSEnd(dial(server), context, servername='localhost')) as far:
        assert far.handshake().recv(100) == b'new'
        session = far.object.session
    assert said(server, context, 'localhost', session) == 'resumed'
    refused(server, context, 'a.example', session)


def test_the_socket_reports_name_and_authorization(listen: MakeServer, certificates: Certificates) -> None:
    def report(connection: tls.TLSSocket) -> None:
        connection.end(f'{connection.servername} {connection.authorized} {connection.authorization_error}')

    server = listen(report, **verifying(certificates, 'options'))
    assert said(server, client(certificates, certificate='client'), 'A.example') == 'A.example True None'
    assert said(server, client(certificates), None).startswith('None False certificates are not verified')


def test_contexts_for_clients_are_refused(
    listen: MakeServer, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    context = certificates.client_context()
    with pytest.raises(InvalidInput, match='for clients; a server needs'):
        listen(certfile=None, context=context)
    with pytest.raises(InvalidInput, match='for clients; a server needs'):
        listen(sni_contexts={'a.example': context})
    refused(listen(sni_callback=lambda name: context), client(certificates), 'localhost')
    assert 'for clients; a server needs' in caplog.text


def test_a_failing_callback_is_emitted_and_logged(listen: MakeServer, certificates: Certificates) -> None:
    server = listen(sni_callback=lambda name: 1 / 0)
    failures = Log()
    server.on('tlsClientError', lambda error, connection: failures.append(error))
    refused(server, client(certificates), 'localhost')
    failures.wait_for_length(1)
    assert isinstance(failures[0], TLSError)
    assert failures[0].code == 'ERR_TLS_SNI_CALLBACK'
    assert str(failures[0]) == "sni_callback refused the connection or failed, for 'localhost'"


def test_a_callback_can_refuse_with_an_alert(listen: MakeServer, certificates: Certificates) -> None:
    context = certificates.server_context()
    context.sni_callback = lambda connection, name, current: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    server = listen(certfile=None, context=context)
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match=r'(?i)unrecognized.name'):
            said(server, client(certificates), 'localhost')


def test_a_callback_can_be_set_later(listen: MakeServer, certificates: Certificates) -> None:
    context = certificates.server_context()
    server = listen(certfile=None, context=context)
    assert said(server, client(certificates), 'localhost') == 'anonymous'
    names: list[str | None] = []
    context.sni_callback = lambda connection, name, current: names.append(name)
    for name in ('localhost', None):
        assert said(server, client(certificates), name) == 'anonymous'
    assert names == ['localhost', None]


@pytest.mark.parametrize('chosen', ['client', None, 1])
def test_a_callback_that_sets_a_bad_context_refuses(
    listen: MakeServer, certificates: Certificates, caplog: pytest.LogCaptureFixture, chosen: Any
) -> None:
    context = certificates.server_context()
    context.sni_callback = lambda connection, name, current: setattr(
        connection, 'context', certificates.client_context() if chosen == 'client' else chosen
    )
    refused(listen(certfile=None, context=context), client(certificates), 'localhost')
    assert 'the context that sni_callback has set' in caplog.text


# -- requests ---------------------------------------------------------------------------------------------------------


def status(site: Any, context: ssl.SSLContext, servername: str | None, *request: str) -> str:
    """Return the status of a request for another name than that of the handshake."""
    with contextlib.closing(TLSEnd(dial(site.server), context, servername=servername)) as far:
        far.handshake().sendall('\r\n'.join((*request, 'Connection: close', '', '')).encode())
        return far.recv(1000).decode().split()[1]


@WAYS
@pytest.mark.parametrize(
    'request_lines',
    [
        ('GET / HTTP/1.1', 'Host: a.example'),
        ('GET / HTTP/1.1', 'Host: A.EXAMPLE.:443'),
        ('GET https://a.example/ HTTP/1.1', 'Host: localhost'),
        ('GET https://localhost/ HTTP/1.1', 'Host: a.example'),
        ('POST / HTTP/1.1', 'Host: a.example', 'Expect: 100-continue', 'Content-Length: 1'),
        ('GET / HTTP/1.1', 'Host: a.example', 'Upgrade: x', 'Connection: upgrade'),
        ('CONNECT a.example:443 HTTP/1.1', 'Host: a.example:443'),
    ],
)
def test_a_request_for_another_name_can_be_misdirected(
    secure: Secure, certificates: Certificates, how: str, request_lines: tuple[str, ...]
) -> None:
    def fail(request: Any, response: Any) -> None:
        pytest.fail(f'a request came through: {request.url}')

    site = secure(fail, **verifying(certificates, how))
    site.server.on('upgrade', fail)
    site.server.on('connect', fail)
    for name in ('localhost', None):
        assert status(site, client(certificates), name, *request_lines) == '421'


def test_requests_for_the_name_of_the_connection_are_served(secure: Secure, certificates: Certificates) -> None:
    site = secure(**verifying(certificates, 'options'))
    known = client(certificates, certificate='client')
    assert status(site, known, 'a.example', 'GET / HTTP/1.1', 'Host: a.example:8443') == '200'
    for name in ('localhost', 'localhost:1', '127.0.0.1', '[::1]:8', 'unknown.example'):
        assert status(site, client(certificates), 'localhost', 'GET / HTTP/1.1', f'Host: {name}') == '200'
    # no context verifies clients for localhost
    assert status(site, known, 'a.example', 'GET / HTTP/1.1', 'Host: localhost') == '200'


@pytest.mark.parametrize('host', ['a.example', 'A.Example', 'a.example.', 'A.EXAMPLE.:443'])
def test_a_callback_can_make_a_context_each_time(secure: Secure, certificates: Certificates, host: str) -> None:
    """Spellings of a name are equal: a client sends the dot of the root in Host only."""
    site = secure(sni_callback=lambda name: verifying_context(certificates))
    known = client(certificates, certificate='client')
    assert status(site, known, 'a.example', 'GET / HTTP/1.1', f'Host: {host}') == '200'
    assert status(site, known, 'a.example', 'GET / HTTP/1.1', 'Host: b.example') == '421'


def test_a_client_without_a_name_can_request_an_address(secure: Secure, certificates: Certificates) -> None:
    context = certificates.server_context()
    context.sni_callback = lambda connection, name, current: setattr(
        connection, 'context', verifying_context(certificates)
    )
    site = secure(certfile=None, context=context)
    known = client(certificates, certificate='client')
    for host in ('127.0.0.1', '[::1]:8443'):
        assert status(site, known, None, 'GET / HTTP/1.1', f'Host: {host}') == '200'


def test_a_request_for_the_default_context_is_served(secure: Secure, certificates: Certificates) -> None:
    site = secure(request_cert=True, ca=certificates.ca, sni_contexts={'a.example': {'certfile': certificates.other}})
    assert status(site, client(certificates), 'a.example', 'GET / HTTP/1.1', 'Host: a.example') == '200'
    for name in ('localhost', '127.0.0.1'):
        assert status(site, client(certificates), 'a.example', 'GET / HTTP/1.1', f'Host: {name}') == '421'


def test_a_context_can_be_added_later(secure: Secure, certificates: Certificates) -> None:
    site = secure()
    assert status(site, client(certificates), 'localhost', 'GET / HTTP/1.1', 'Host: a.example') == '200'
    site.server.add_context('a.example', certfile=certificates.other, request_cert=True, ca=certificates.ca)
    site.server.max_requests_per_socket = 0
    assert status(site, client(certificates), 'localhost', 'GET / HTTP/1.1', 'Host: a.example') == '421'


def test_servers_with_one_context_ignore_names(certificates: Certificates) -> None:
    server = https.create_server(certfile=certificates.server, request_cert=True, ca=certificates.ca)
    assert not server._all_special


# -- the first message ------------------------------------------------------------------------------------------------


def client_hello(context: ssl.SSLContext, servername: str | None) -> bytes:
    """Return the first message of a client."""
    outgoing = ssl.MemoryBIO()
    # Python 3.14 requires a name if it is to be checked
    context.check_hostname = servername is not None
    made = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=servername)
    with pytest.raises(ssl.SSLWantReadError):
        made.do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """Return the message in ``data``, one record, in records of ``size`` bytes."""
    message = data[5:]
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b''.join(data[:3] + len(piece).to_bytes(2, 'big') + piece for piece in pieces)


@pytest.mark.parametrize('servername', ['a.example', 'a.example.', None])
@pytest.mark.parametrize('record_size', [16384, 100, 7, 1])
@pytest.mark.parametrize('chunk_size', [100000, 50, 1])
@pytest.mark.parametrize('version', VERSIONS)
def test_a_client_hello_in_pieces(
    certificates: Certificates, servername: str | None, record_size: int, chunk_size: int, version: ssl.TLSVersion
) -> None:
    context = certificates.client_context()
    context.maximum_version = version
    data = in_records(client_hello(context, servername), record_size)
    hello = ClientHello()
    for start in range(0, len(data), chunk_size):
        assert not hello.complete
        hello.feed(data[start : start + chunk_size])
    assert (hello.complete, hello.servername, hello.received) == (True, servername, data)
    hello.feed(b'more')
    assert (hello.servername, hello.received) == (servername, data + b'more')


@pytest.mark.parametrize(
    'data',
    [
        b'GET / HTTP/1.1\r\n',
        b'\x80\x2e\x01\x03\x01',
        b'\x15\x03\x01\x00\x02\x02\x28',
        b'\x16\x03\x01\x00\x04\x02\x00\x00\x00',
        b'\x16\x03\x01\x00\x04\x01' + (MAX_LENGTH + 1).to_bytes(3, 'big'),
        b'\x16\x03\x01\x00\x04\x01\x00\x00\x00',
    ],
)
def test_input_without_a_client_hello_is_refused(data: bytes) -> None:
    hello = ClientHello()
    hello.feed(data)
    assert (hello.complete, hello.servername) == (True, None)


def test_truncated_and_damaged_client_hellos_are_refused(certificates: Certificates) -> None:
    data = client_hello(certificates.client_context(), 'a.example')
    for position in range(5, len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        hello = ClientHello()
        hello.feed(bytes(damaged))
        assert hello.received == damaged
        cut = ClientHello()
        cut.feed(data[:position])
        assert (cut.complete, cut.servername) == (False, None)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a damaged ClientHello, mostly around its name, mostly with the right lengths."""
    made = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        position = chance.randrange(len(made))
        if b'example' in made and chance.random() < 0.5:
            position = max(0, made.index(b'example') + chance.randrange(-25, 9))
        match chance.randrange(4):
            case 0:
                # Python refuses characters outside ASCII
                made[position] = chance.randrange(128)
            case 1:
                del made[position]
            case 2:
                made.insert(position, chance.randrange(128))
            case _:
                start = chance.randrange(len(made))
                made[position:position] = bytes(byte & 127 for byte in made[start : start + chance.randrange(20)])
    if chance.random() < 0.7:
        made[3:5] = (len(made) - 5).to_bytes(2, 'big')
        made[6:9] = (len(made) - 9).to_bytes(3, 'big')
    return bytes(made)


# the callback of the test refuses a name outside ASCII, and no caller can catch that
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_openssl_reads_the_same_name(certificates: Certificates, seed: int) -> None:
    """If OpenSSL continues the handshake, it has read the name that the context was chosen by."""
    chance = random.Random(seed)
    names: list[str | None] = []
    server = certificates.server_context()
    note_names(server, names)
    hellos = [client_hello(client(certificates, version), name) for version in VERSIONS for name in ('a.example', None)]
    accepted = 0
    for _ in range(4000):
        data = damaged(chance.choice(hellos), chance)
        hello = ClientHello()
        hello.feed(data)
        names.clear()
        incoming = ssl.MemoryBIO()
        incoming.write(data)
        with contextlib.suppress(ssl.SSLError):
            try:
                server.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
            except ssl.SSLWantReadError:
                if names:
                    accepted += 1
                    assert names == [hello.servername], data.hex()
    assert accepted > 400


def test_an_endless_client_hello_is_refused() -> None:
    hello = ClientHello()
    empty = b'\x16\x03\x01\x00\x00' * 1000
    fed = 0
    while not hello.complete:
        hello.feed(empty)
        fed += len(empty)
    assert MAX_SIZE < fed <= MAX_SIZE + len(empty)
    assert (hello.servername, len(hello.received)) == (None, fed)


def test_a_client_hello_byte_by_byte(listen: MakeServer, certificates: Certificates) -> None:
    server = listen(**verifying(certificates, 'options'))
    for context, expected in ((client(certificates, certificate='client'), 'client'), (client(certificates), None)):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = context.wrap_bio(incoming, outgoing, server_hostname='a.example')
        with contextlib.closing(dial(server)) as raw, contextlib.suppress(ssl.SSLError):
            found = b''
            while not found:
                try:
                    made.do_handshake()
                    found = made.read(100)
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        raw.sendall(bytes((byte,)))
                    received = raw.recv(65536)
                    if not received:
                        incoming.write_eof()
                    incoming.write(received)
        assert (found.decode() or None) == expected
