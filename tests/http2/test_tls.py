"""Test the choice of the version by ALPN."""

from __future__ import annotations

from typing import Any

import pytest

from geventnode import https
from tests.certificates import Certificates, TLSEnd
from tests.http2.client import Client
from tests.https_sites import Secure
from tests.servers import Serve, Site, get
from tests.sockets import dial


def report(request: Any, response: Any) -> None:
    response.end(f'{request.http_version} {request.scheme} {request.socket.alpn_protocol}')


def handshake(raw: Any, certificates: Certificates, *protocols: str) -> TLSEnd:
    context = certificates.client_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return TLSEnd(raw, context, servername='localhost').handshake()


def fetch(site: Site, certificates: Certificates) -> bytes:
    client = Client(site.where, wrap=lambda raw: handshake(raw, certificates, 'h2', 'http/1.1'))
    body = client.response(client.get()).body
    client.close()
    return body


def test_client_chooses_http_2(secure: Secure, certificates: Certificates) -> None:
    assert fetch(secure(report, http2=True), certificates) == b'2.0 https h2'


def test_contexts_of_names_offer_http_2(secure: Secure, certificates: Certificates) -> None:
    site = secure(report, http2=True, sni_contexts={'localhost': {'certfile': certificates.server}})
    assert fetch(site, certificates) == b'2.0 https h2'


def test_context_has_its_own_protocols(serve: Serve, certificates: Certificates) -> None:
    for protocols in (['h2', 'http/1.1'], ['http/1.1']):
        context = certificates.server_context()
        context.set_alpn_protocols(protocols)
        site = serve(https.create_server(report, context=context, http2=True))
        if 'h2' in protocols:
            assert fetch(site, certificates) == b'2.0 https h2'
        else:
            end = handshake(dial(site.server), certificates, 'h2', 'http/1.1')
            end.sendall(get('/'))
            assert end.recv(65536).endswith(b'1.1 https http/1.1')
            end.close()


@pytest.mark.parametrize(('http2', 'offered', 'chosen'), [(True, 'http/1.1', b'http/1.1'), (False, 'h2', b'None')])
def test_other_clients_get_http_1(
    secure: Secure, certificates: Certificates, http2: bool, offered: str, chosen: bytes
) -> None:
    end = handshake(dial(secure(report, http2=http2).server), certificates, offered)
    end.sendall(get('/'))
    assert end.recv(65536).endswith(b'1.1 https ' + chosen)
    end.close()
