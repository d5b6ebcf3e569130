"""Test HTTP/2 through proxies: PROXY headers before the preface, and fields that forward the client's address."""

from __future__ import annotations

from typing import Any

import pytest

from tests.certificates import Certificates, TLSEnd
from tests.http2.client import Client, Connect
from tests.https_sites import Secure
from tests.proxies import TLS_USED, V1, ipv4, v2
from tests.servers import Serve
from tests.sockets import until

LOCAL = {'trusted_proxies': '127.0.0.1'}
X = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host']
HEADERS = {'1': V1, '2': v2(block=ipv4()), '2 with TLS': v2(block=ipv4() + TLS_USED)}


def report_client(request: Any, response: Any) -> None:
    """Respond with the address, scheme and host of the client."""
    port = 'own' if request.remote_port == request.socket.remote_port else request.remote_port
    response.end(f'{request.remote_address} {port} {request.scheme} {request.host} {request.socket.proxy_address}')


def after(header: bytes, size: int | None = None) -> Any:
    """Return a wrapper of a client that sends ``header``, in pieces of ``size`` bytes."""

    def wrap(raw: Any) -> Any:
        step = size or len(header) or 1
        for start in range(0, len(header), step):
            raw.sendall(header[start : start + step])
        return raw

    return wrap


@pytest.mark.parametrize('size', [None, 5])
@pytest.mark.parametrize('header', HEADERS)
def test_proxy_header_before_the_preface(serve: Serve, connect_h2: Connect, header: str, size: int | None) -> None:
    site = serve(report_client, http2=True, proxy_protocol=True, **LOCAL)
    client = connect_h2(site, client={'wrap': after(HEADERS[header], size)})
    scheme = 'https' if 'TLS' in header else 'http'
    for _ in range(2):
        body = client.response(client.get()).body
        assert body == f'1.2.3.4 own {scheme} localhost 127.0.0.1'.encode()


@pytest.mark.parametrize('header', HEADERS)
def test_proxy_header_before_tls(secure: Secure, certificates: Certificates, header: str) -> None:
    site = secure(report_client, http2=True, proxy_protocol=True, **LOCAL)
    context = certificates.client_context()
    context.set_alpn_protocols(['h2'])

    def wrap(raw: Any) -> Any:
        raw.sendall(HEADERS[header])
        return TLSEnd(raw, context, servername='localhost').handshake()

    client = Client(site.where, wrap=wrap)
    assert client.response(client.get()).body == b'1.2.3.4 own https localhost 127.0.0.1'
    client.close()


@pytest.mark.parametrize('first', [b'', b'PROXY TCP4 1.2.3.4\r\n'])
def test_preface_without_a_proxy_header_is_refused(serve: Serve, connect_h2: Connect, first: bytes) -> None:
    site = serve(report_client, http2=True, proxy_protocol=True, **LOCAL)
    client = connect_h2(site, client={'wrap': after(first)})
    client.wait_closed()
    assert client.events == []
    assert site.server.refusals == {'proxy_header': 1}


def test_proxy_header_of_an_untrusted_peer_is_refused(serve: Serve) -> None:
    site = serve(report_client, http2=True, proxy_protocol=True, trusted_proxies='10.0.0.1')
    assert site.connect().rest() == b''
    until(lambda: site.server.refusals == {'untrusted_peer': 1})


def test_proxy_header_without_the_option_is_malformed(serve: Serve, connect_h2: Connect) -> None:
    """The connection begins with it, and so is one of HTTP/1.1."""
    site = serve(report_client, http2=True)
    assert site.send(V1 + b'PRI * HTTP/2.0\r\n\r\n').rest().startswith(b'HTTP/1.1 400 ')


def test_each_stream_has_its_own_client(serve: Serve, connect_h2: Connect) -> None:
    """A proxy sends the requests of several clients on one connection, at the same time."""
    client = connect_h2(serve(report_client, http2=True, forwarded_headers=X, **LOCAL))
    numbers = {
        address: client.get(
            '/',
            ('x-forwarded-for', f'6.6.6.6, {address}'),
            ('x-forwarded-proto', 'https'),
            ('x-forwarded-host', f'{address}.example'),
        )
        for address in ('1.2.3.4', '5.6.7.8')
    }
    plain = client.get()
    for address, number in numbers.items():
        assert client.response(number).body == f'{address} None https {address}.example None'.encode()
    assert client.response(plain).body == b'127.0.0.1 own http localhost None'


def test_fields_of_an_untrusted_client_are_ignored(serve: Serve, connect_h2: Connect) -> None:
    client = connect_h2(serve(report_client, http2=True, forwarded_headers=X, trusted_proxies='10.0.0.1'))
    number = client.get(
        '/', ('x-forwarded-for', '1.2.3.4'), ('x-forwarded-proto', 'https'), ('x-forwarded-host', 'evil')
    )
    assert client.response(number).body == b'127.0.0.1 own http localhost None'


def test_scheme_of_the_client_is_not_believed(serve: Serve, connect_h2: Connect) -> None:
    """``:scheme`` is a statement of the client."""
    client = connect_h2(serve(report_client, http2=True))
    fields = [(b':method', b'GET'), (b':scheme', b'https'), (b':authority', b'localhost'), (b':path', b'/')]
    assert client.response(client.start_fields(fields)).body == b'127.0.0.1 own http localhost None'


def test_address_remains_after_the_connection(serve: Serve, connect_h2: Connect) -> None:
    seen: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        request.socket.destroy()
        seen.append((request.remote_address, request.scheme, request.host))

    client = connect_h2(serve(listener, http2=True, forwarded_headers=X, **LOCAL))
    client.get('/', ('x-forwarded-for', '1.2.3.4'))
    client.wait_closed()
    assert seen == [('1.2.3.4', 'http', 'localhost')]
