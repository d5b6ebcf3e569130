"""The adapter for ``requests``: trusted certificates and proxies."""

from __future__ import annotations

import contextlib
import hashlib
import random
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
from tests.sessions import Mounted, agent_of, session_with

# -- certificates -----------------------------------------------------------------------------------------------------


def test_verify(secure: Secure, session: Mounted, certificates: Certificates) -> None:
    client, address = session(), secure_url(secure())
    assert client.get(address, verify=certificates.ca).text == 'GET /'
    with pytest.raises(exceptions.SSLError) as raised:
        client.get(address)
    assert isinstance(raised.value.args[0].reason.__cause__, errors.CertificateError)
    # requests with different settings do not share connections
    with pytest.warns(InsecureRequestWarning):
        assert client.get(address, verify=False).text == 'GET /'
    with pytest.raises(exceptions.SSLError):
        client.get(address, verify=True)


def test_directory_of_authorities(secure: Secure, session: Mounted, certificates: Certificates, tmp_path: Path) -> None:
    if shutil.which('openssl') is None:
        pytest.skip('no openssl here, which names the files of such a directory')
    hashed = subprocess.run(
        ['openssl', 'x509', '-hash', '-noout', '-in', certificates.ca], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    shutil.copy(certificates.ca, tmp_path / f'{hashed}.0')
    assert session().get(secure_url(secure()), verify=str(tmp_path)).text == 'GET /'


@pytest.mark.parametrize('which', ['other', 'expired', 'self_signed'])
def test_refused_certificates(secure: Secure, session: Mounted, certificates: Certificates, which: str) -> None:
    client = session()
    with pytest.raises(exceptions.SSLError):
        client.get(secure_url(secure(certfile=getattr(certificates, which))), verify=certificates.ca)
    assert agent_of(client, True).total_socket_count == 0


def test_client_certificate(secure: Secure, session: Mounted, certificates: Certificates, tmp_path: Path) -> None:
    def listener(request: Any, response: Any) -> None:
        response.end(request.connection.get_peer_certificate().get('subject', {}).get('CN', 'no certificate'))

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


def test_missing_and_invalid_files(secure: Secure, session: Mounted, tmp_path: Path) -> None:
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


def test_given_agent_with_authorities(secure: Secure, session: Mounted, pool: MakePool) -> None:
    """Its authorities apply to requests without ``verify``."""
    assert session(https_agent=pool()).get(secure_url(secure())).text == 'GET /'


def test_context_of_a_subclass(secure: Secure, certificates: Certificates) -> None:
    """An adapter can be subclassed as documented by ``requests``."""
    context = ssl.create_default_context(cafile=certificates.ca)

    class Own(AgentAdapter):
        """An adapter with a context."""

        def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
            host, terms = super().build_connection_pool_key_attributes(request, verify, cert)
            return host, {**terms, 'ssl_context': context}

    with requests.Session() as client:
        client.mount('https://', Own())
        assert client.get(secure_url(secure())).text == 'GET /'


@pytest.mark.parametrize('at_once', [False, True])
def test_a_closed_connection_is_not_used(
    origin: MakeOrigin, session: Mounted, certificates: Certificates, at_once: bool
) -> None:
    """Also if close_notify arrives with the response, and the kernel has no more bytes."""

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
    """A proxy for both kinds of URLs that records its requests."""

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


def test_plain_through_a_tls_proxy(serve: Serve, session: Mounted, certificates: Certificates) -> None:
    proxy = Proxy(serve, server=https.create_server(certfile=certificates.server))
    answer = session().get('http://some.example/', proxies={'http': proxy.url('https')}, verify=certificates.ca)
    assert answer.text == 'by proxy for some.example'


class TLSProxy(Proxy):
    """A TLS proxy that requests client certificates, and records them."""

    def __init__(self, serve: Serve, certificates: Certificates, which: str = 'server') -> None:
        self.shown = Log()
        super().__init__(
            serve,
            server=https.create_server(
                certfile=getattr(certificates, which), ca=certificates.ca, request_cert=True, reject_unauthorized=False
            ),
        )

    def answer(self, request: Any, response: Any) -> None:
        self.shown.append(request.connection.get_peer_certificate().get('subject', {}).get('CN'))
        super().answer(request, response)

    def tunnel(self, request: Any, socket: Any, head: bytes) -> None:
        self.shown.append(socket.get_peer_certificate().get('subject', {}).get('CN'))
        super().tunnel(request, socket, head)

    def ask(self, client: requests.Session, **options: Any) -> str:
        """Return the response to a request for a plain URL."""
        return client.get('http://some.example/', proxies={'http': self.url('https')}, **options).text


BY_PROXY = 'by proxy for some.example'


@pytest.mark.parametrize('said_by', ['request', 'session', 'terms', 'proxy_terms', 'agent'])
def test_a_proxy_never_gets_the_client_certificate(
    serve: Serve, session: Mounted, pool: MakePool, certificates: Certificates, said_by: str
) -> None:
    """It identifies the user to the server; the proxy is another party."""
    proxy = TLSProxy(serve, certificates)
    if said_by == 'agent':
        client = session(https_agent=pool(certfile=certificates.client))
    elif said_by == 'terms':
        client = session_with(cert_file=certificates.client, ca_certs=certificates.ca)
        client.mount('http://', client.get_adapter('https://x'))
    else:
        client = session()
        client.verify = certificates.ca
    if said_by == 'session':
        client.cert = certificates.client
    if said_by == 'proxy_terms':
        client.get_adapter('http://x').proxy_manager_for(proxy.url('https'), cert_file=certificates.client)
    with client:
        assert proxy.ask(client, **({'cert': certificates.client} if said_by == 'request' else {})) == BY_PROXY
    assert proxy.shown == [None]


def test_a_certificate_for_the_proxy_is_named_as_such(
    serve: Serve, session: Mounted, certificates: Certificates
) -> None:
    """``proxy_ssl_context`` has all settings of the connection to the proxy."""
    proxy, client, context = TLSProxy(serve, certificates), session(), certificates.client_context()
    context.load_cert_chain(certificates.client)
    client.get_adapter('http://x').proxy_manager_for(proxy.url('https'), proxy_ssl_context=context)
    assert proxy.ask(client) == BY_PROXY
    assert proxy.ask(client, verify=False) == BY_PROXY
    assert proxy.shown == ['client', 'client']


@pytest.mark.parametrize('of_the_agent', [False, True])
def test_a_context_of_the_server_is_not_for_the_proxy(
    serve: Serve, session: Mounted, pool: MakePool, certificates: Certificates, of_the_agent: bool
) -> None:
    """It can hold a certificate, so the request fails, and the message names the remedy."""
    proxy, context = TLSProxy(serve, certificates), certificates.client_context()
    context.load_cert_chain(certificates.client)
    if of_the_agent:
        client = session(https_agent=https.Agent(context=context))
    else:
        client = session()
        client.get_adapter('http://x').proxy_manager_for(proxy.url('https'), ssl_context=context)
    with pytest.raises(exceptions.SSLError, match='proxy_ssl_context'):
        proxy.ask(client)
    assert proxy.shown == []


def fingerprint(path: str) -> str:
    """Return the fingerprint of the first certificate in a file."""
    lines = Path(path).read_text()
    text = lines[lines.index('-----BEGIN CERTIFICATE-----') : lines.index('-----END CERTIFICATE-----') + 25]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()


@pytest.mark.parametrize(
    ('said', 'fits'),
    [
        ({'proxy_assert_hostname': 'a.example'}, True),
        ({'proxy_assert_hostname': False}, True),
        ({'proxy_assert_fingerprint': 'other'}, True),
        ({}, False),
        ({'proxy_assert_hostname': 'c.example'}, False),
        ({'proxy_assert_fingerprint': 'server'}, False),
    ],
)
def test_names_and_fingerprints_of_proxies(
    serve: Serve, session: Mounted, certificates: Certificates, said: dict[str, Any], fits: bool
) -> None:
    """The certificate of the proxy has another name than its URL."""
    proxy, client = TLSProxy(serve, certificates, 'other'), session()
    which = said.get('proxy_assert_fingerprint')
    if which:
        said = {'proxy_assert_fingerprint': fingerprint(getattr(certificates, which))}
    client.get_adapter('http://x').proxy_manager_for(proxy.url('https'), **said)
    if fits:
        assert proxy.ask(client, verify=certificates.ca) == BY_PROXY
    else:
        with pytest.raises(exceptions.ProxyError) as raised:
            proxy.ask(client, verify=certificates.ca)
        assert isinstance(raised.value.args[0].reason.__cause__, errors.CertificateError)
        assert proxy.asked == []


@pytest.mark.parametrize(
    ('said', 'words'),
    [
        ({'proxy_ssl_context': 'x'}, 'proxy_ssl_context must be an ssl.SSLContext'),
        ({'proxy_assert_hostname': 5}, 'proxy_assert_hostname must be'),
        (
            {'proxy_assert_hostname': False, 'proxy_ssl_context': ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            'proxy_assert_hostname',
        ),
        ({'proxy_assert_fingerprint': 'aa:bb'}, 'proxy_assert_fingerprint must be'),
        ({'proxy_ssl_contxt': None}, None),
        ({'proxy_ssl_contxt': 1}, "did you mean 'proxy_ssl_context'"),
    ],
)
def test_arguments_for_proxies_are_checked(session: Mounted, said: dict[str, Any], words: str | None) -> None:
    adapter = session().get_adapter('http://x')
    with pytest.raises((errors.InvalidInput, TypeError), match=words) if words else contextlib.nullcontext():
        adapter.proxy_manager_for('https://proxy.example', **said)


def test_an_unverified_proxy_causes_a_warning(serve: Serve, session: Mounted, certificates: Certificates) -> None:
    proxy = TLSProxy(serve, certificates, 'self_signed')
    with pytest.warns(InsecureRequestWarning, match=r"to host '127\.0\.0\.1'"):
        assert proxy.ask(session(), verify=False) == BY_PROXY


def test_tunnel(serve: Serve, secure: Secure, session: Mounted, certificates: Certificates) -> None:
    """The proxy gets only the name, and the server no field for the proxy."""

    def listener(request: Any, response: Any) -> None:
        response.end(request.headers.get('proxy-authorization', 'nothing'))

    site, proxy, client = secure(listener), Proxy(serve), session()
    client.verify = certificates.ca
    client.proxies = {'https': proxy.url(user='me:secret@')}
    for _ in range(2):
        assert client.get(secure_url(site)).text == 'nothing'
    assert proxy.asked == [f'CONNECT localhost:{site.where[1]}']
    assert proxy.secrets == ['Basic bWU6c2VjcmV0']
    # neither without the proxy nor as another user
    client.get(secure_url(site), proxies={'https': ''})
    client.get(secure_url(site), proxies={'https': proxy.url(user='you:secret@')})
    assert len(proxy.asked) == 2
    assert agent_of(client, True).statistics()['opened'] == 3


def test_a_tunnel_from_a_given_agent(serve: Serve, secure: Secure, session: Mounted, pool: MakePool) -> None:
    """It makes the connections to the proxy, with its addresses and socket options."""
    made = []

    class Own(http.Agent):
        """An agent with another local address and a socket option."""

        def create_connection(self, options: Any) -> Any:
            made.append(super().create_connection({**options, 'local_address': '127.0.0.2'}))
            made[-1].set_no_delay(False)
            return made[-1]

    with Own() as agent:
        addresses = Log()
        proxy = Proxy(serve)
        proxy.site.server.on('connect', lambda request, socket, head: addresses.append(request.remote_address))
        client = session(agent, https_agent=pool(keep_alive_initial_delay=7))
        client.proxies = {'https': proxy.url()}
        site = secure()
        assert client.get(secure_url(site)).text == 'GET /'
        assert len(made) == 1
        assert addresses == ['127.0.0.2']
        ((tunnel,),) = client.get_adapter('https://x').poolmanager.agents.get(True).free_sockets.values()
        assert tunnel._raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_KEEPIDLE) == 7
        assert not tunnel._raw.getsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY)


def test_tunnel_to_another_server(serve: Serve, secure: Secure, session: Mounted, certificates: Certificates) -> None:
    """The certificate reveals a proxy that connects to another server."""
    site, proxy = secure(certfile=certificates.other), Proxy(serve)
    with pytest.raises(exceptions.SSLError):
        session().get(secure_url(site), proxies={'https': proxy.url()}, verify=certificates.ca)


def test_arguments_apply_through_a_proxy(serve: Serve, secure: Secure, certificates: Certificates) -> None:
    address, proxies = secure_url(secure()), {'https': Proxy(serve).url()}
    with session_with(ca_certs=certificates.ca) as client:
        assert client.get(address, proxies=proxies).text == 'GET /'
        proxies['https'] = Proxy(serve).url()
        client.get_adapter(address).proxy_manager_for(proxies['https'], ca_certs=certificates.self_signed)
        with pytest.raises(exceptions.SSLError):
            client.get(address, proxies=proxies)


# -- tunnels through a proxy with TLS ---------------------------------------------------------------------------------


def test_tunnel_within_tls(serve: Serve, secure: Secure, session: Mounted, certificates: Certificates) -> None:
    def listener(request: Any, response: Any) -> None:
        response.end(request.read())

    site, proxy, client = secure(listener), TLSProxy(serve, certificates), session()
    client.verify, client.cert = certificates.ca, certificates.client
    client.proxies = {'https': proxy.url('https', 'me:secret@')}
    body = random.Random(1).randbytes(300_000)
    for _ in range(2):
        assert client.post(secure_url(site), data=body).content == body
    assert proxy.asked == [f'CONNECT localhost:{site.where[1]}']
    assert proxy.secrets == ['Basic bWU6c2VjcmV0']
    # the certificate of the client is for the server only
    assert proxy.shown == [None]
    # neither without TLS to the proxy nor as another user
    client.get(secure_url(site), proxies={'https': proxy.url('https', 'you:secret@')})
    assert len(proxy.asked) == 2
    assert agent_of(client, True).statistics()['opened'] == 2


def test_tunnels_are_shared_with_equal_settings_for_the_proxy_only(
    serve: Serve, secure: Secure, session: Mounted, pool: MakePool, certificates: Certificates
) -> None:
    site, proxy, agent = secure(), TLSProxy(serve, certificates), pool()
    clients = [session(https_agent=agent) for _ in range(3)]
    clients[2].get_adapter('https://x').proxy_manager_for(
        proxy.url('https'), proxy_ssl_context=certificates.client_context()
    )
    for client, opened in zip(clients, (1, 1, 2), strict=True):
        assert client.get(secure_url(site), proxies={'https': proxy.url('https')}).text == 'GET /'
        assert agent.statistics()['opened'] == opened


@pytest.mark.parametrize('which', ['other', 'self_signed'])
def test_the_certificate_of_a_proxy_is_verified_for_tunnels(
    serve: Serve, secure: Secure, session: Mounted, certificates: Certificates, which: str
) -> None:
    proxy, client = TLSProxy(serve, certificates, which), session()
    with pytest.raises(exceptions.ProxyError, match='certificate'):
        client.get(secure_url(secure()), proxies={'https': proxy.url('https')}, verify=certificates.ca)
    assert proxy.asked == []
    assert agent_of(client, True).total_socket_count == 0


def test_the_certificate_of_the_server_is_verified_within_tls(
    serve: Serve, secure: Secure, session: Mounted, certificates: Certificates
) -> None:
    site, proxy = secure(certfile=certificates.other), TLSProxy(serve, certificates)
    with pytest.raises(exceptions.SSLError):
        session().get(secure_url(site), proxies={'https': proxy.url('https')}, verify=certificates.ca)


def test_an_unverified_proxy_of_a_tunnel_causes_a_warning(
    serve: Serve, secure: Secure, session: Mounted, certificates: Certificates
) -> None:
    site, proxy, client = secure(), TLSProxy(serve, certificates, 'self_signed'), session()
    context = certificates.client_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client.get_adapter('https://x').proxy_manager_for(proxy.url('https'), proxy_ssl_context=context)
    with pytest.warns(InsecureRequestWarning, match=r"to host '127\.0\.0\.1'"):
        client.get(secure_url(site), proxies={'https': proxy.url('https')}, verify=certificates.ca)
    with pytest.warns(InsecureRequestWarning, match=r"to host 'localhost'"):
        client.get(secure_url(site), proxies={'https': proxy.url('https')}, verify=False)


def test_a_context_of_the_server_is_not_for_the_proxy_of_a_tunnel(
    serve: Serve, secure: Secure, session: Mounted, certificates: Certificates
) -> None:
    proxy, client = (
        TLSProxy(serve, certificates),
        session(https_agent=https.Agent(context=certificates.client_context())),
    )
    with pytest.raises(exceptions.SSLError, match='proxy_ssl_context'):
        client.get(secure_url(secure()), proxies={'https': proxy.url('https')})
    assert proxy.shown == []


def test_a_proxy_that_has_no_tls(serve: Serve, session: Mounted) -> None:
    proxy, client = Proxy(serve), session()
    with pytest.raises(exceptions.ProxyError, match='Cannot connect to proxy'):
        client.get('https://some.example/', proxies={'https': proxy.url('https')})
    assert agent_of(client, True).total_socket_count == 0


def test_a_silent_proxy_with_tls(origin: MakeOrigin, session: Mounted) -> None:
    with pytest.raises(exceptions.ProxyError, match='connect_timeout'):
        session().get(
            'https://some.example/', proxies={'https': origin(silent).url.replace('http', 'https')}, timeout=(0.1, 30)
        )


def test_refused_tunnel(serve: Serve, session: Mounted) -> None:
    proxy, client = serve(lambda request, response: None), session()
    proxy.server.on(
        'connect',
        lambda request, socket, head: socket.end(
            b'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n'
        ),
    )
    with pytest.raises(exceptions.ProxyError, match='407 Proxy Authentication Required'):
        client.get('https://some.example/', proxies={'https': plain_url(proxy)})
    assert agent_of(client, True).total_socket_count == 0


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_unreachable_proxy(origin: MakeOrigin, session: Mounted, scheme: str) -> None:
    server = origin()
    server._listener.close()
    server._acceptor.kill()
    client = session()
    with pytest.raises(exceptions.ProxyError, match=r'Cannot connect to proxy.*Connection refused'):
        client.get(f'{scheme}://some.example/', proxies={scheme: server.url})
    assert agent_of(client, scheme == 'https').total_socket_count == 0


def test_silent_proxy(origin: MakeOrigin, session: Mounted) -> None:
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


@pytest.mark.parametrize(
    ('proxy', 'address', 'kind', 'words'),
    [
        (
            'socks5h://127.0.0.1:1080',
            'http://some.example/',
            exceptions.InvalidSchema,
            r'for SOCKS, mount requests\.adap',
        ),
        ('http:///path', 'http://some.example/', exceptions.InvalidProxyURL, 'malformed'),
    ],
)
def test_unsupported_proxies(session: Mounted, proxy: str, address: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        session().get(address, proxies=dict.fromkeys(('http', 'https'), proxy))


def test_redirect_from_plain_to_secure(
    serve: Serve, secure: Secure, session: Mounted, pool: MakePool, agent: Callable[..., http.Agent]
) -> None:
    """One session uses both agents."""
    target = secure_url(secure())

    def listener(request: Any, response: Any) -> None:
        response.write_head(301, {'Location': target})
        response.end()

    assert session(agent(), https_agent=pool()).get(plain_url(serve(listener))).text == 'GET /'
