"""Requests through proxies: the client's address and scheme on HTTP and HTTPS servers, and the connections that are
refused.
"""

from __future__ import annotations

import ipaddress
import logging
import socket as stdlib
from pathlib import Path
from typing import Any

import pytest

from geventnode import http
from geventnode.errors import InvalidInput, ParseError, RequestTimeout, UnknownOption
from tests.certificates import Certificates, TLSEnd
from tests.https_sites import Secure
from tests.proxies import TLS_NOT_USED, TLS_USED, UNIX_ADDRESSES, V1, ipv4, v2
from tests.servers import Log, Serve, get, ok
from tests.sockets import dial, reset, until

LOCAL = {'trusted_proxies': '127.0.0.1'}
X = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host']


def report_client(request: Any, response: Any) -> None:
    """Respond with the address, scheme and host of the client."""
    port = 'own' if request.remote_port == request.socket.remote_port else request.remote_port
    response.end(f'{request.remote_address} {port} {request.scheme} {request.host}')


# -- without proxies --------------------------------------------------------------------------------------------------


def test_forwarding_fields_are_ignored_by_default(serve: Serve) -> None:
    site = serve(report_client)
    assert (
        site.get(
            '/',
            'X-Forwarded-For: 1.2.3.4',
            'X-Forwarded-Proto: https',
            'X-Forwarded-Host: evil',
            'Forwarded: for=1.2.3.4;proto=https;host=evil',
        ).body
        == b'127.0.0.1 own http x'
    )
    assert site.send(V1 + get()).rest().startswith(b'HTTP/1.1 400 ')
    assert (site.server.trusted_proxies, site.server.proxy_protocol, site.server.forwarded_headers) == ((), False, ())


def test_trusted_proxy_without_fields_has_no_effect(serve: Serve) -> None:
    """The fields that a proxy sets have to be specified."""
    assert serve(report_client, **LOCAL).get('/', 'X-Forwarded-For: 1.2.3.4').body == b'127.0.0.1 own http x'


@pytest.mark.parametrize(
    ('head', 'host'),
    [
        (b'GET http://there:81/ HTTP/1.1\r\nHost: x\r\n\r\n', b'there:81'),
        (b'GET / HTTP/1.0\r\n\r\n', b'None'),
        (b'GET / HTTP/1.1\r\nHost: [::1]:5\r\n\r\n', b'[::1]:5'),
        (b'GET / HTTP/1.1\r\nHost:\r\n\r\n', b''),
    ],
)
def test_host_is_the_requested_one(serve: Serve, head: bytes, host: bytes) -> None:
    """In absolute-form the target wins (RFC 9112, section 3.2.2)."""
    assert serve(report_client).send(head).response().body == b'127.0.0.1 own http ' + host


def test_host_of_a_tunnel_is_its_target(serve: Serve) -> None:
    """RFC 9112, section 3.2.3."""
    seen = Log()
    site = serve(ok)
    site.server.on('connect', lambda request, socket, head: (seen.append(request.host), socket.destroy()))
    assert site.send(b'CONNECT there:443 HTTP/1.1\r\nHost: x\r\n\r\n').rest() == b''
    assert seen == ['there:443']


def test_response_has_the_address_of_its_server(serve: Serve) -> None:
    site = serve(ok)
    with http.get(port=site.where[1], host='127.0.0.1', agent=False) as response:
        assert (response.remote_address, response.remote_port) == ('127.0.0.1', site.where[1])
        assert (response.scheme, response.host) == ('http', None)


def test_unix_socket_has_no_address(serve: Serve, tmp_path: Path) -> None:
    server = http.create_server(report_client).listen(str(tmp_path / 'socket'))
    assert serve(server).get('/', 'X-Forwarded-For: 1.2.3.4').body == b'None own http x'


# -- Forwarded and X-Forwarded-* --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('fields', 'lines', 'expected'),
    [
        (X, ['X-Forwarded-For: 6.6.6.6, 1.2.3.4'], '1.2.3.4 None http x'),
        (
            X,
            ['X-Forwarded-For: 6.6.6.6', 'x-forwarded-for: 1.2.3.4:99', 'X-Forwarded-Proto: https'],
            '1.2.3.4 99 https x',
        ),
        (X, ['X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Host: www.example:81'], '1.2.3.4 None http www.example:81'),
        (X, ['Forwarded: for=1.2.3.4'], '127.0.0.1 own http x'),
        (X, ['X_Forwarded_For: 1.2.3.4'], '127.0.0.1 own http x'),
        (X, [], '127.0.0.1 own http x'),
        ('forwarded', ['Forwarded: for=6.6.6.6, for="[::5]:99";proto=https;host=a'], '::5 99 https a'),
        ('forwarded', ['X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https'], '127.0.0.1 own http x'),
        ('X-Forwarded-For', ['X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https'], '1.2.3.4 None http x'),
    ],
)
def test_fields_of_a_trusted_proxy_are_used(serve: Serve, fields: Any, lines: list[str], expected: str) -> None:
    site = serve(report_client, forwarded_headers=fields, **LOCAL)
    assert site.get('/', *lines).body == expected.encode()


def test_fields_of_an_untrusted_client_are_ignored(serve: Serve) -> None:
    """Its address is that of its connection."""
    site = serve(report_client, forwarded_headers=X, trusted_proxies=['10.0.0.0/8', 'unix', '::/0'])
    assert site.get('/', 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https').body == b'127.0.0.1 own http x'


def test_proxy_on_a_unix_socket_is_trusted(serve: Serve, tmp_path: Path) -> None:
    server = http.create_server(report_client, trusted_proxies='unix', forwarded_headers=X).listen(
        str(tmp_path / 'socket')
    )
    assert serve(server).get('/', 'X-Forwarded-For: 1.2.3.4:5').body == b'1.2.3.4 5 http x'


def test_each_request_of_a_connection_has_its_own_client(serve: Serve) -> None:
    """A proxy sends the requests of several clients on one connection."""
    client = serve(report_client, forwarded_headers=X, **LOCAL).connect()
    for address in ('1.2.3.4', '5.6.7.8', '1.2.3.4'):
        assert client.get('/', f'X-Forwarded-For: {address}').body == f'{address} None http x'.encode()
    assert client.get().body == b'127.0.0.1 own http x'


def test_address_remains_after_the_connection(serve: Serve) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.socket.destroy()
        log.append((request.remote_address, request.scheme, request.host))

    serve(listener, forwarded_headers=X, **LOCAL).send(get('/', 'X-Forwarded-For: 1.2.3.4')).rest()
    assert log == [('1.2.3.4', 'http', 'x')]


def test_settings_can_be_changed(serve: Serve) -> None:
    """They apply to later requests, also on open connections."""
    site = serve(report_client, **LOCAL)
    client = site.connect()
    line = 'X-Forwarded-For: 1.2.3.4'
    assert client.get('/', line).body.startswith(b'127.0.0.1')
    site.server.forwarded_headers = ['x-forwarded-for']
    assert client.get('/', line).body.startswith(b'1.2.3.4')
    site.server.trusted_proxies = [ipaddress.ip_network('10.0.0.0/8')]
    assert client.get('/', line).body.startswith(b'127.0.0.1')
    assert site.server.trusted_proxies == ('10.0.0.0/8',)


@pytest.mark.parametrize(
    ('options', 'kind', 'named'),
    [
        ({'trusted_proxies': ['*']}, InvalidInput, 'trusted_proxies'),
        ({'trusted_proxies': '10.0.0.1/8'}, InvalidInput, 'trusted_proxies'),
        ({'trusted_proxies': [7]}, TypeError, 'trusted_proxies'),
        ({'proxy_protocol': 1}, TypeError, 'proxy_protocol'),
        ({'forwarded_headers': ['x-real-ip']}, InvalidInput, 'forwarded_headers'),
        ({'forwarded_headers': ['forwarded', 'x-forwarded-for']}, InvalidInput, 'forwarded_headers'),
        ({'forwarded_headers': [None]}, InvalidInput, 'forwarded_headers'),
        ({'trusted_proxy': ['::1']}, UnknownOption, 'trusted_proxies'),
    ],
)
def test_bad_setting_is_refused(options: dict[str, Any], kind: type[Exception], named: str) -> None:
    with pytest.raises(kind, match=named):
        http.create_server(**options)


@pytest.mark.parametrize(
    'options',
    [
        {'proxy_protocol': True},
        {'forwarded_headers': X},
        {'scheme_headers': {'a': 'b'}},
        {'forwarded_headers': X, 'scheme_proxies': '127.0.0.1'},
    ],
)
def test_setting_without_trusted_proxies_is_refused(options: dict[str, Any]) -> None:
    """The server does not start instead of ignoring it."""
    server = http.create_server(ok, **options)
    with pytest.raises(InvalidInput, match='without trusted_proxies'):
        server.listen(0, '127.0.0.1')
    assert not server.listening


def test_access_log_has_the_address_of_the_client(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """An invented address never appears there."""
    caplog.set_level(logging.INFO, 'geventnode.access')
    site = serve(ok, forwarded_headers=X, **LOCAL)
    http.log_access(site.server)
    for sent in ('6.6.6.6, 1.2.3.4', '1.2.3.4\tforged', '"1.2.3.4 - - "', 'unknown'):
        assert site.get('/', f'X-Forwarded-For: {sent}').status == 200
    assert [record.getMessage().partition(' - - [')[0] for record in caplog.records] == [
        '1.2.3.4',
        '127.0.0.1',
        '127.0.0.1',
        '127.0.0.1',
    ]


# -- the PROXY protocol -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('header', 'expected'),
    [
        (V1, b'1.2.3.4 own http x'),
        (v2(block=ipv4()), b'1.2.3.4 own http x'),
        (v2(block=ipv4() + TLS_USED), b'1.2.3.4 own https x'),
        (v2(block=ipv4() + TLS_NOT_USED), b'1.2.3.4 own http x'),
        (v2(0x20, 0), b'127.0.0.1 own http x'),
        (b'PROXY UNKNOWN\r\n', b'127.0.0.1 own http x'),
    ],
)
@pytest.mark.parametrize('listening', [False, True])
def test_proxied_connection_has_the_address_of_the_client(
    serve: Serve, header: bytes, expected: bytes, listening: bool
) -> None:
    """This applies to all its requests, and to listeners for 'connection'."""
    for pieces in ([header + get()], [header, get()], [header[:9], header[9:] + get()[:5], get()[5:]]):
        site = serve(report_client, proxy_protocol=True, **LOCAL)
        seen = Log()
        if listening:
            site.server.on('connection', lambda socket, seen=seen: seen.append(socket.remote_address))
        client = site.send(*pieces)
        assert client.response().body == expected
        assert client.get().body == expected
        assert seen == ([expected.split()[0].decode()] if listening else [])


def test_client_behind_the_proxy_is_not_trusted(serve: Serve) -> None:
    """The client can have written X-Forwarded-For itself."""
    site = serve(report_client, proxy_protocol=True, forwarded_headers=X, trusted_proxies=['127.0.0.1', '10.0.0.0/8'])
    line = 'X-Forwarded-For: 5.6.7.8'
    assert site.send(V1 + get('/', line)).response().body == b'1.2.3.4 own http x'
    assert site.send(V1.replace(b'1.2.3.4', b'10.9.9.9') + get('/', line)).response().body == b'5.6.7.8 None http x'


@pytest.mark.parametrize(
    ('header', 'believed'),
    [
        (b'PROXY UNKNOWN\r\n', False),
        (v2(family=0), False),
        (v2(family=0x31, block=UNIX_ADDRESSES), False),
        (v2(0x20, 0), True),
    ],
)
def test_unknown_client_is_not_trusted(serve: Serve, header: bytes, believed: bool) -> None:
    """The connection has the address of the proxy, but only a LOCAL one is the proxy's own."""
    site = serve(report_client, proxy_protocol=True, forwarded_headers=X, **LOCAL)
    body = site.send(header + get('/', 'X-Forwarded-For: 5.6.7.8')).response().body
    assert body == (b'5.6.7.8 None http x' if believed else b'127.0.0.1 own http x')


@pytest.mark.parametrize('header', [V1, v2(block=ipv4()), b'PROXY UNKNOWN\r\n', v2(0x20, 0)])
@pytest.mark.parametrize(
    ('proxies', 'scheme'), [(['127.0.0.1'], b'https'), (['1.2.3.4'], b'http'), (['unix'], b'http')]
)
def test_proxy_forwards_the_scheme(serve: Serve, header: bytes, proxies: list[str], scheme: bytes) -> None:
    """A setting trusts the proxy itself for the scheme, and for nothing else."""
    site = serve(
        report_client,
        proxy_protocol=True,
        forwarded_headers=X,
        scheme_headers={'Front': 'tls'},
        trusted_proxies=['127.0.0.1', '10.0.0.1'],
        scheme_proxies=proxies,
    )
    assert site.send(header + get('/', 'Front: tls')).response().body.split()[2] == scheme
    assert site.send(header + get('/', 'Front: no')).response().body.split()[2] == b'http'
    if header != v2(0x20, 0):
        body = site.send(header + get('/', 'Front: tls', 'X-Forwarded-For: 5.6.7.8')).response().body
        assert not body.startswith(b'5.6.7.8')


def test_scheme_proxies_apply_without_a_proxy_header(serve: Serve, tmp_path: Path) -> None:
    """The same list applies; trusted_proxies has no effect on the scheme."""
    options = {'scheme_headers': {'front': 'tls'}, 'scheme_proxies': '127.0.0.1'}
    assert serve(report_client, **options).get('/', 'Front: tls').body == b'127.0.0.1 own https x'
    server = http.create_server(report_client, **options, trusted_proxies=['unix']).listen(str(tmp_path / 'socket'))
    assert serve(server).get('/', 'Front: tls').body == b'None own http x'


def test_connection_without_a_proxy_header_is_closed(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """There is no response, not even to a valid request; 'clientError' is emitted."""
    caplog.set_level(logging.INFO)
    errors = Log()
    site = serve(ok, proxy_protocol=True, **LOCAL)
    assert site.send(get()).rest() == b''
    site.server.on('clientError', lambda error, socket: errors.append((type(error), error.code, socket.destroyed)))
    assert site.send(get()).rest() == b''
    errors.wait_for_length(1)
    assert errors == [(ParseError, 'PROXY_HEADER_MISSING', True)]
    assert [record.levelname for record in caplog.records] == ['INFO', 'INFO']


def test_late_proxy_header_closes_the_connection(serve: Serve) -> None:
    """After headers_timeout, as for a head, and without a response."""
    errors = Log()
    site = serve(ok, proxy_protocol=True, headers_timeout=0.1, **LOCAL)
    site.server.on('clientError', lambda error, socket: errors.append((type(error), str(error))))
    assert site.send(V1[:5]).rest() == b''
    errors.wait_for_length(1)
    assert errors == [(RequestTimeout, 'no complete PROXY header within headers_timeout (0.1 seconds)')]


def test_closing_server_treats_a_connection_after_its_header_as_idle(serve: Serve) -> None:
    """It gets half a second for a request, and a silent one is closed."""
    site = serve(report_client, proxy_protocol=True, **LOCAL)
    silent, served = site.connect(), site.connect()
    served.send(V1 + get())
    assert served.response().status == 200
    site.server.close()
    assert served.rest() == b''
    assert silent.rest() == b''


def test_max_connections_counts_before_the_proxy_header(serve: Serve) -> None:
    """Otherwise connections without a header could exceed the limit."""
    site = serve(report_client, proxy_protocol=True, max_connections=1, **LOCAL)
    first = site.send(V1[:3])
    assert site.connect().rest() == b''
    assert first.send(V1[3:] + get()).response().status == 200


# -- with TLS ---------------------------------------------------------------------------------------------------------


def request_over_tls(far: Any, certificates: Certificates, *fields: str) -> bytes:
    """Shake hands on a plain connection, send a request, and return all bytes of the response."""
    end = TLSEnd(far, certificates.client_context(), servername='localhost').handshake()
    end.sendall(get('/', 'Connection: close', *fields))
    received = b''
    while data := end.recv(65536):
        received += data
    end.close()
    return received


def test_scheme_of_a_tls_server_is_https(secure: Secure, certificates: Certificates) -> None:
    assert request_over_tls(dial(secure(report_client).server), certificates).endswith(b'127.0.0.1 own https x')


def test_scheme_is_that_of_the_client(secure: Secure, certificates: Certificates) -> None:
    """As forwarded by the proxy that terminates TLS."""
    site = secure(report_client, forwarded_headers=X, **LOCAL)
    assert request_over_tls(dial(site.server), certificates).endswith(b'127.0.0.1 own https x')
    assert request_over_tls(dial(site.server), certificates, 'X-Forwarded-Proto: http').endswith(
        b'127.0.0.1 own http x'
    )


@pytest.mark.parametrize('header', [V1, v2(block=ipv4())])
@pytest.mark.parametrize('together', [True, False])
def test_proxy_header_precedes_the_handshake(
    secure: Secure, certificates: Certificates, header: bytes, together: bool
) -> None:
    """It is not encrypted. The first flight of the client arrives with it or later."""
    site = secure(report_client, proxy_protocol=True, **LOCAL)
    far = dial(site.server)
    if together:
        far = Together(far, header)
    else:
        far.sendall(header)
    assert request_over_tls(far, certificates).endswith(b'1.2.3.4 own https x')


class Together:
    """A socket that sends a header with its first bytes."""

    def __init__(self, far: Any, header: bytes) -> None:
        self._far = far
        self._header = header

    def sendall(self, data: bytes) -> None:
        """Send ``data``, the first bytes together with the header."""
        self._far.sendall(self._header + data)
        self._header = b''

    def __getattr__(self, name: str) -> Any:
        return getattr(self._far, name)


def test_handshake_without_a_proxy_header_fails(secure: Secure, certificates: Certificates) -> None:
    """The connection is closed before TLS begins."""
    site = secure(report_client, proxy_protocol=True, **LOCAL)
    far = dial(site.server)
    far.sendall(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')
    assert far.recv(1) == b''
    far.close()


@pytest.mark.parametrize('sent', [b'', V1[:9]])
@pytest.mark.parametrize('end', ['end', 'reset'])
def test_connection_that_ends_before_tls_leaves_nothing(secure: Secure, sent: bytes, end: str) -> None:
    """In the middle of a header, or before it; other connections are served."""
    site = secure(ok, proxy_protocol=True, **LOCAL)
    far = dial(site.server)
    far.sendall(sent)
    until(site.server.get_connections)
    if end == 'end':
        far.shutdown(stdlib.SHUT_WR)
        assert far.recv(1) == b''
        far.close()
    else:
        reset(far)
    until(lambda: not site.server.get_connections())


def test_proxy_header_inside_tls_is_a_bad_request(secure: Secure, certificates: Certificates) -> None:
    site = secure(report_client, **LOCAL)
    end = TLSEnd(dial(site.server), certificates.client_context(), servername='localhost').handshake()
    end.sendall(V1 + get())
    assert end.recv(12) == b'HTTP/1.1 400'
    end.close()
