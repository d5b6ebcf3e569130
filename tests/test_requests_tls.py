"""The adapter for ``requests``: whom it trusts, and the ways through proxies."""
from __future__ import annotations

import contextlib
import shutil
import socket as stdlib
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from requests import exceptions
from urllib3.exceptions import InsecureRequestWarning

from contrib.examples import connect_proxy
from geventnode import errors, http, https
from geventnode.integrations.requests import AgentAdapter
from tests.certificates import Certificates, TLSEnd
from tests.https_sites import MakePool, Secure, tls_script
from tests.https_sites import url as secure_url
from tests.origins import HELLO, MakeOrigin, Peer, silent
from tests.servers import Log, Serve, Site, ok
from tests.sessions import Mounted, agent_of, on_terms

__all__: list[str] = []


# -- certificates -----------------------------------------------------------------------------------------------------

def test_verify(secure: Secure, session: Mounted, certificates: Certificates) -> None:
    client, address = session(), secure_url(secure())
    assert client.get(address, verify=certificates.ca).text == 'GET /'
    with pytest.raises(exceptions.SSLError) as raised:
        client.get(address)
    assert isinstance(raised.value.args[0].reason.__cause__, errors.CertificateError)
    # what one request may do, another may not: connections are not shared between them
    with pytest.warns(InsecureRequestWarning):
        assert client.get(address, verify=False).text == 'GET /'
    with pytest.raises(exceptions.SSLError):
        client.get(address, verify=True)


def test_directory_of_authorities(secure: Secure, session: Mounted, certificates: Certificates, tmp_path: Path) -> None:
    if shutil.which('openssl') is None:
        pytest.skip('no openssl here, which names the files of such a directory')
    hashed = subprocess.run(['openssl', 'x509', '-hash', '-noout', '-in', certificates.ca], check=True, text=True,
                            stdout=subprocess.PIPE).stdout.strip()
    shutil.copy(certificates.ca, tmp_path / f'{hashed}.0')
    assert session().get(secure_url(secure()), verify=str(tmp_path)).text == 'GET /'


@pytest.mark.parametrize('which', ['other', 'expired', 'self_signed'])
def test_certificates_that_are_refused(secure: Secure, session: Mounted, certificates: Certificates,
                                       which: str) -> None:
    client = session()
    with pytest.raises(exceptions.SSLError):
        client.get(secure_url(secure(certfile=getattr(certificates, which))), verify=certificates.ca)
    assert agent_of(client, True).total_socket_count == 0


def test_certificate_of_our_own(secure: Secure, session: Mounted, certificates: Certificates, tmp_path: Path) -> None:
    def listener(request: Any, response: Any) -> None:
        response.end(request.connection.get_peer_certificate().get('subject', {}).get('CN', 'nobody'))
    site = secure(listener, ca=certificates.ca, request_cert=True)
    client = session()
    client.verify = certificates.ca
    assert client.get(secure_url(site), cert=certificates.client).text == 'client'
    key, chain = tmp_path / 'key', tmp_path / 'chain'
    lines = Path(certificates.client).read_text().split('-----BEGIN CERTIFICATE-----', 1)
    key.write_text(lines[0])
    chain.write_text(f'-----BEGIN CERTIFICATE-----{lines[1]}')
    assert client.get(secure_url(site), cert=(str(chain), str(key))).text == 'client'
    with pytest.raises(requests.ConnectionError):
        client.get(secure_url(site))


def test_files_that_are_none(secure: Secure, session: Mounted, tmp_path: Path) -> None:
    address, nonsense = secure_url(secure()), tmp_path / 'nonsense'
    nonsense.write_text('nonsense')
    client = session()
    with pytest.raises(OSError, match='Could not find a suitable TLS CA certificate bundle'):
        client.get(address, verify=str(tmp_path / 'none'))
    with pytest.raises(OSError, match='Could not find the TLS certificate file'):
        client.get(address, cert=str(tmp_path / 'none'))
    with pytest.raises(exceptions.SSLError, match='no certificates can be loaded'):
        client.get(address, verify=str(nonsense))
    with pytest.raises(exceptions.SSLError, match='cannot be used'):
        client.get(address, cert=str(nonsense))


def test_agent_with_settings(secure: Secure, session: Mounted, pool: MakePool) -> None:
    """What it trusts holds for requests that say nothing."""
    assert session(https_agent=pool()).get(secure_url(secure())).text == 'GET /'


def test_context_by_the_documented_way(secure: Secure, certificates: Certificates) -> None:
    """An adapter may be subclassed as ``requests`` says."""
    context = ssl.create_default_context(cafile=certificates.ca)

    class Own(AgentAdapter):
        """With a context."""

        def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
            host, terms = super().build_connection_pool_key_attributes(request, verify, cert)
            return host, {**terms, 'ssl_context': context}
    with requests.Session() as client:
        client.mount('https://', Own())
        assert client.get(secure_url(secure())).text == 'GET /'


@pytest.mark.parametrize('at_once', [False, True])
def test_what_the_server_has_closed_is_not_used(origin: MakeOrigin, session: Mounted, certificates: Certificates,
                                                at_once: bool) -> None:
    """Also when its close_notify comes with the response, and nothing is left in the kernel to tell."""
    def script(peer: Peer, end: TLSEnd) -> None:
        peer.request()
        if at_once:
            end.object.write(HELLO)
            with contextlib.suppress(ssl.SSLWantReadError):
                end.object.unwrap()
            end._flush()
        else:
            end.sendall(HELLO)
            end.shutdown(stdlib.SHUT_WR)
        peer.closed()
    server, client = origin(tls_script(certificates, script)), session()
    for _ in range(3):
        answer = client.post(f'https://localhost:{server.port}', data=b'once', verify=certificates.ca)
        assert answer.content == b'hello'
    assert server.accepted == 3


def test_handshake_that_never_ends(origin: MakeOrigin, session: Mounted) -> None:
    server = origin(silent)
    with pytest.raises(requests.ConnectTimeout):
        session().get(f'https://127.0.0.1:{server.port}', timeout=(0.1, 30))


def test_no_tls_at_all(serve: Serve, session: Mounted) -> None:
    with pytest.raises(exceptions.SSLError):
        session().get(secure_url(serve(ok)))


# -- proxies ----------------------------------------------------------------------------------------------------------

class Proxy:
    """A proxy for both kinds of URLs, and what was asked of it."""

    def __init__(self, serve: Serve, **options: Any) -> None:
        self.asked = Log()
        self.secrets = Log()
        server = options.pop('server', None) or http.create_server(**options)
        server.on('request', self.answer)
        server.on('connect', self.tunnel)
        self.site = serve(server)

    def answer(self, request: Any, response: Any) -> None:
        self.asked.append(f'{request.method} {request.url}')
        self.secrets.append(request.headers.get('proxy-authorization'))
        response.end(f'by proxy for {request.headers["host"]}')

    def tunnel(self, request: Any, socket: Any, head: bytes) -> None:
        self.asked.append(f'{request.method} {request.url}')
        self.secrets.append(request.headers.get('proxy-authorization'))
        connect_proxy.open_tunnel(request, socket, head)

    def url(self, scheme: str = 'http', user: str = '') -> str:
        return f'{scheme}://{user}127.0.0.1:{self.site.where[1]}'


def plain_url(site: Site) -> str:
    return f'http://127.0.0.1:{site.where[1]}/'


def test_plain_through_a_proxy(serve: Serve, session: Mounted) -> None:
    proxy, client = Proxy(serve), session()
    for user, secret in (('', None), ('me:secret@', 'Basic bWU6c2VjcmV0')):
        answer = client.get('http://some.example/path#part', proxies={'http': proxy.url(user=user)})
        assert answer.text == 'by proxy for some.example'
        assert proxy.secrets[-1] == secret
    assert proxy.asked == ['GET http://some.example/path'] * 2
    assert agent_of(client).statistics()['opened'] == 1


def test_plain_through_a_proxy_that_speaks_tls(serve: Serve, session: Mounted, certificates: Certificates) -> None:
    proxy = Proxy(serve, server=https.create_server(certfile=certificates.server))
    answer = session().get('http://some.example/', proxies={'http': proxy.url('https')}, verify=certificates.ca)
    assert answer.text == 'by proxy for some.example'


def test_tunnel(serve: Serve, secure: Secure, session: Mounted, certificates: Certificates) -> None:
    """The proxy learns of the name and nothing else, and the server nothing of what the proxy was told."""
    def listener(request: Any, response: Any) -> None:
        response.end(request.headers.get('proxy-authorization', 'nothing'))
    site, proxy, client = secure(listener), Proxy(serve), session()
    client.verify = certificates.ca
    client.proxies = {'https': proxy.url(user='me:secret@')}
    for _ in range(2):
        assert client.get(secure_url(site)).text == 'nothing'
    assert proxy.asked == [f'CONNECT localhost:{site.where[1]}']
    assert proxy.secrets == ['Basic bWU6c2VjcmV0']
    # neither without the proxy nor as somebody else
    client.get(secure_url(site), proxies={'https': ''})
    client.get(secure_url(site), proxies={'https': proxy.url(user='you:secret@')})
    assert len(proxy.asked) == 2
    assert agent_of(client, True).statistics()['opened'] == 3


def test_tunnel_to_somebody_else(serve: Serve, secure: Secure, session: Mounted, certificates: Certificates) -> None:
    """A proxy that leads elsewhere is found out by the certificate."""
    site, proxy = secure(certfile=certificates.other), Proxy(serve)
    with pytest.raises(exceptions.SSLError):
        session().get(secure_url(site), proxies={'https': proxy.url()}, verify=certificates.ca)


def test_terms_hold_behind_a_proxy(serve: Serve, secure: Secure, certificates: Certificates) -> None:
    address, proxies = secure_url(secure()), {'https': Proxy(serve).url()}
    with on_terms(ca_certs=certificates.ca) as client:
        assert client.get(address, proxies=proxies).text == 'GET /'
        proxies['https'] = Proxy(serve).url()
        client.get_adapter(address).proxy_manager_for(proxies['https'], ca_certs=certificates.self_signed)
        with pytest.raises(exceptions.SSLError):
            client.get(address, proxies=proxies)


def test_tunnel_that_is_refused(serve: Serve, session: Mounted) -> None:
    proxy, client = serve(lambda request, response: None), session()
    proxy.server.on('connect', lambda request, socket, head: socket.end(
        b'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n'))
    with pytest.raises(exceptions.ProxyError, match='407 Proxy Authentication Required'):
        client.get('https://some.example/', proxies={'https': plain_url(proxy)})
    assert agent_of(client, True).total_socket_count == 0


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_proxy_that_is_not_there(origin: MakeOrigin, session: Mounted, scheme: str) -> None:
    server = origin()
    server._listener.close()
    server._acceptor.kill()
    client = session()
    with pytest.raises(exceptions.ProxyError, match=r'Cannot connect to proxy.*Connection refused'):
        client.get(f'{scheme}://some.example/', proxies={scheme: server.url})
    assert agent_of(client, scheme == 'https').total_socket_count == 0


def test_proxy_that_says_nothing(origin: MakeOrigin, session: Mounted) -> None:
    server = origin(silent)
    with pytest.raises(exceptions.ProxyError, match='connect_timeout'):
        session().get('https://some.example/', proxies={'https': server.url}, timeout=(0.1, 30))


def test_killed_in_a_tunnel(origin: MakeOrigin, session: Mounted) -> None:
    asked = Log()

    def script(peer: Peer) -> None:
        asked.append(peer.request())
        peer.closed()
    client, proxies = session(max_sockets=1), {'https': origin(script).url}
    asking = gevent.spawn(client.get, 'https://some.example/', proxies=proxies)
    asked.wait_for_length(1)
    asking.kill()
    assert agent_of(client, True).total_socket_count == 0


@pytest.mark.parametrize(('proxy', 'address', 'kind', 'words'), [
    ('socks5h://127.0.0.1:1080', 'http://some.example/', exceptions.InvalidSchema, r'for SOCKS, mount requests\.adap'),
    ('https://127.0.0.1:1080', 'https://some.example/', exceptions.InvalidURL, 'a tunnel within TLS'),
    ('http:///path', 'http://some.example/', exceptions.InvalidProxyURL, 'malformed')])
def test_proxies_that_are_not_supported(session: Mounted, proxy: str, address: str, kind: type[Exception],
                                        words: str) -> None:
    with pytest.raises(kind, match=words):
        session().get(address, proxies=dict.fromkeys(('http', 'https'), proxy))


def test_redirect_from_plain_to_secure(serve: Serve, secure: Secure, session: Mounted, pool: MakePool,
                                       agent: Callable[..., http.Agent]) -> None:
    """One session, both agents."""
    target = secure_url(secure())

    def listener(request: Any, response: Any) -> None:
        response.write_head(301, {'Location': target})
        response.end()
    assert session(agent(), https_agent=pool()).get(plain_url(serve(listener))).text == 'GET /'
