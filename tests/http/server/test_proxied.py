"""Requests that come through proxies: what they say of their client, on HTTP and HTTPS servers, and what is refused."""

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


def tell(request: Any, response: Any) -> None:
    """A listener that says where the request comes from."""
    port = 'own' if request.remote_port == request.socket.remote_port else request.remote_port
    response.end(f'{request.remote_address} {port} {request.scheme} {request.host}')


# -- without proxies --------------------------------------------------------------------------------------------------


def test_by_default_nobody_is_believed(serve: Serve) -> None:
    site = serve(tell)
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


def test_trusting_alone_believes_nothing(serve: Serve) -> None:
    """Which field a proxy sets must be said."""
    assert serve(tell, **LOCAL).get('/', 'X-Forwarded-For: 1.2.3.4').body == b'127.0.0.1 own http x'


@pytest.mark.parametrize(
    ('head', 'host'),
    [
        (b'GET http://there:81/ HTTP/1.1\r\nHost: x\r\n\r\n', b'there:81'),
        (b'GET / HTTP/1.0\r\n\r\n', b'None'),
        (b'GET / HTTP/1.1\r\nHost: [::1]:5\r\n\r\n', b'[::1]:5'),
        (b'GET / HTTP/1.1\r\nHost:\r\n\r\n', b''),
    ],
)
def test_the_host_is_the_one_that_was_asked(serve: Serve, head: bytes, host: bytes) -> None:
    """In absolute-form the target wins (RFC 9112, section 3.2.2)."""
    assert serve(tell).send(head).response().body == b'127.0.0.1 own http ' + host


def test_the_host_of_a_tunnel(serve: Serve) -> None:
    """Is its target (RFC 9112, section 3.2.3)."""
    seen = Log()
    site = serve(ok)
    site.server.on('connect', lambda request, socket, head: (seen.append(request.host), socket.destroy()))
    assert site.send(b'CONNECT there:443 HTTP/1.1\r\nHost: x\r\n\r\n').rest() == b''
    assert seen == ['there:443']


def test_responses_tell_of_their_server(serve: Serve) -> None:
    site = serve(ok)
    with http.get(port=site.where[1], host='127.0.0.1', agent=False) as response:
        assert (response.remote_address, response.remote_port) == ('127.0.0.1', site.where[1])
        assert (response.scheme, response.host) == ('http', None)


def test_a_unix_socket_has_no_address(serve: Serve, tmp_path: Path) -> None:
    server = http.create_server(tell).listen(str(tmp_path / 'socket'))
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
def test_a_trusted_proxy_is_believed(serve: Serve, fields: Any, lines: list[str], expected: str) -> None:
    site = serve(tell, forwarded_headers=fields, **LOCAL)
    assert site.get('/', *lines).body == expected.encode()


def test_a_stranger_is_not(serve: Serve) -> None:
    """Whatever it sends, it is who it is."""
    site = serve(tell, forwarded_headers=X, trusted_proxies=['10.0.0.0/8', 'unix', '::/0'])
    assert site.get('/', 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https').body == b'127.0.0.1 own http x'


def test_a_proxy_on_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    server = http.create_server(tell, trusted_proxies='unix', forwarded_headers=X).listen(str(tmp_path / 'socket'))
    assert serve(server).get('/', 'X-Forwarded-For: 1.2.3.4:5').body == b'1.2.3.4 5 http x'


def test_each_request_of_a_connection_is_asked(serve: Serve) -> None:
    """A proxy sends those of several clients on one."""
    client = serve(tell, forwarded_headers=X, **LOCAL).connect()
    for address in ('1.2.3.4', '5.6.7.8', '1.2.3.4'):
        assert client.get('/', f'X-Forwarded-For: {address}').body == f'{address} None http x'.encode()
    assert client.get().body == b'127.0.0.1 own http x'


def test_the_answer_stays_when_the_connection_goes(serve: Serve) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.socket.destroy()
        log.append((request.remote_address, request.scheme, request.host))

    serve(listener, forwarded_headers=X, **LOCAL).send(get('/', 'X-Forwarded-For: 1.2.3.4')).rest()
    assert log == [('1.2.3.4', 'http', 'x')]


def test_settings_can_be_changed(serve: Serve) -> None:
    """They hold for requests to come, also on connections that are there."""
    site = serve(tell, **LOCAL)
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
def test_bad_settings(options: dict[str, Any], kind: type[Exception], named: str) -> None:
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
def test_settings_that_could_do_nothing(options: dict[str, Any]) -> None:
    """Without proxies that are trusted: an error, and no server that seems to work."""
    server = http.create_server(ok, **options)
    with pytest.raises(InvalidInput, match='without trusted_proxies'):
        server.listen(0, '127.0.0.1')
    assert not server.listening


def test_the_access_log_has_the_client(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Never what somebody has made up, and nothing but an address."""
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
def test_a_proxied_connection(serve: Serve, header: bytes, expected: bytes, listening: bool) -> None:
    """All its requests are the client's; also where somebody listens for connections, who hears of the client."""
    for pieces in ([header + get()], [header, get()], [header[:9], header[9:] + get()[:5], get()[5:]]):
        site = serve(tell, proxy_protocol=True, **LOCAL)
        seen = Log()
        if listening:
            site.server.on('connection', lambda socket, seen=seen: seen.append(socket.remote_address))
        client = site.send(*pieces)
        assert client.response().body == expected
        assert client.get().body == expected
        assert seen == ([expected.split()[0].decode()] if listening else [])


def test_the_client_behind_the_proxy_is_not_trusted(serve: Serve) -> None:
    """It is the client's word that X-Forwarded-For is then, whoever carried it."""
    site = serve(tell, proxy_protocol=True, forwarded_headers=X, trusted_proxies=['127.0.0.1', '10.0.0.0/8'])
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
def test_an_unknown_client_is_not_trusted_either(serve: Serve, header: bytes, believed: bool) -> None:
    """Though the connection looks like the proxy's own. A LOCAL one is."""
    site = serve(tell, proxy_protocol=True, forwarded_headers=X, **LOCAL)
    body = site.send(header + get('/', 'X-Forwarded-For: 5.6.7.8')).response().body
    assert body == (b'5.6.7.8 None http x' if believed else b'127.0.0.1 own http x')


@pytest.mark.parametrize('header', [V1, v2(block=ipv4()), b'PROXY UNKNOWN\r\n', v2(0x20, 0)])
@pytest.mark.parametrize(
    ('proxies', 'scheme'), [(['127.0.0.1'], b'https'), (['1.2.3.4'], b'http'), (['unix'], b'http')]
)
def test_the_proxy_itself_tells_of_the_scheme(serve: Serve, header: bytes, proxies: list[str], scheme: bytes) -> None:
    """Whoever its client is, where a setting says so; and of nothing else."""
    site = serve(
        tell,
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


def test_who_tells_of_the_scheme_without_a_header(serve: Serve, tmp_path: Path) -> None:
    """The same list: nobody else is needed, and the other list says nothing."""
    options = {'scheme_headers': {'front': 'tls'}, 'scheme_proxies': '127.0.0.1'}
    assert serve(tell, **options).get('/', 'Front: tls').body == b'127.0.0.1 own https x'
    server = http.create_server(tell, **options, trusted_proxies=['unix']).listen(str(tmp_path / 'socket'))
    assert serve(server).get('/', 'Front: tls').body == b'None own http x'


def test_a_connection_without_a_header(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Gets no answer, not even to a perfect request; who listens for 'clientError' is told."""
    caplog.set_level(logging.INFO)
    errors = Log()
    site = serve(ok, proxy_protocol=True, **LOCAL)
    assert site.send(get()).rest() == b''
    site.server.on('clientError', lambda error, socket: errors.append((type(error), error.code, socket.destroyed)))
    assert site.send(get()).rest() == b''
    errors.wait_for_length(1)
    assert errors == [(ParseError, 'PROXY_HEADER_MISSING', True)]
    assert [record.levelname for record in caplog.records] == ['INFO', 'INFO']


def test_a_header_that_is_late(serve: Serve) -> None:
    """By headers_timeout, as a head would be, and without an answer."""
    errors = Log()
    site = serve(ok, proxy_protocol=True, headers_timeout=0.1, **LOCAL)
    site.server.on('clientError', lambda error, socket: errors.append((type(error), str(error))))
    assert site.send(V1[:5]).rest() == b''
    errors.wait_for_length(1)
    assert errors == [(RequestTimeout, 'no complete PROXY header within headers_timeout (0.1 seconds)')]


def test_a_server_that_closes(serve: Serve) -> None:
    """A connection whose header has come is idle: it gets its half second, and one that says nothing ends."""
    site = serve(tell, proxy_protocol=True, **LOCAL)
    silent, served = site.connect(), site.connect()
    served.send(V1 + get())
    assert served.response().status == 200
    site.server.close()
    assert served.rest() == b''
    assert silent.rest() == b''


def test_max_connections_counts_before_the_header(serve: Serve) -> None:
    """So that waiting for headers cannot be used to hold more connections than there may be."""
    site = serve(tell, proxy_protocol=True, max_connections=1, **LOCAL)
    first = site.send(V1[:3])
    assert site.connect().rest() == b''
    assert first.send(V1[3:] + get()).response().status == 200


# -- with TLS ---------------------------------------------------------------------------------------------------------


def ask(far: Any, certificates: Certificates, *fields: str) -> bytes:
    """Shake hands on a plain connection, make a request, and return all that comes back."""
    end = TLSEnd(far, certificates.client_context(), servername='localhost').handshake()
    end.sendall(get('/', 'Connection: close', *fields))
    received = b''
    while data := end.recv(65536):
        received += data
    end.close()
    return received


def test_https_is_the_scheme(secure: Secure, certificates: Certificates) -> None:
    assert ask(dial(secure(tell).server), certificates).endswith(b'127.0.0.1 own https x')


def test_a_proxy_that_speaks_tls_itself(secure: Secure, certificates: Certificates) -> None:
    """What the client spoke counts, as far as the proxy tells it."""
    site = secure(tell, forwarded_headers=X, **LOCAL)
    assert ask(dial(site.server), certificates).endswith(b'127.0.0.1 own https x')
    assert ask(dial(site.server), certificates, 'X-Forwarded-Proto: http').endswith(b'127.0.0.1 own http x')


@pytest.mark.parametrize('header', [V1, v2(block=ipv4())])
@pytest.mark.parametrize('together', [True, False])
def test_a_header_in_front_of_the_handshake(
    secure: Secure, certificates: Certificates, header: bytes, together: bool
) -> None:
    """In clear, whether the client's first flight comes with it or later."""
    site = secure(tell, proxy_protocol=True, **LOCAL)
    far = dial(site.server)
    if together:
        far = Together(far, header)
    else:
        far.sendall(header)
    assert ask(far, certificates).endswith(b'1.2.3.4 own https x')


class Together:
    """A socket whose first bytes leave with a header in front of them."""

    def __init__(self, far: Any, header: bytes) -> None:
        self._far = far
        self._header = header

    def sendall(self, data: bytes) -> None:
        """Send ``data``, the first of it together with the header."""
        self._far.sendall(self._header + data)
        self._header = b''

    def __getattr__(self, name: str) -> Any:
        return getattr(self._far, name)


def test_a_handshake_without_a_header(secure: Secure, certificates: Certificates) -> None:
    """Is none: the connection ends before TLS begins."""
    site = secure(tell, proxy_protocol=True, **LOCAL)
    far = dial(site.server)
    far.sendall(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')
    assert far.recv(1) == b''
    far.close()


@pytest.mark.parametrize('sent', [b'', V1[:9]])
@pytest.mark.parametrize('end', ['end', 'reset'])
def test_a_connection_that_ends_before_tls(secure: Secure, sent: bytes, end: str) -> None:
    """In the middle of a header, or before: nothing is left of it, and others are served."""
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


def test_a_header_inside_tls_is_no_header(secure: Secure, certificates: Certificates) -> None:
    """There it is a request that is none."""
    site = secure(tell, **LOCAL)
    end = TLSEnd(dial(site.server), certificates.client_context(), servername='localhost').handshake()
    end.sendall(V1 + get())
    assert end.recv(12) == b'HTTP/1.1 400'
    end.close()
