"""Proxies: their URLs and the environment, forwarded requests, tunnels, and each way in which they fail."""

from __future__ import annotations

import base64
import copy
import logging
import os
import pickle
from time import monotonic
from typing import Any

import gevent
import pytest

from geventnode import http, https, tls
from geventnode.errors import (
    CertificateError,
    GeventnodeError,
    InvalidInput,
    ProxyError,
    RequestTimeout,
    SocketHangUp,
    TLSError,
    UnknownOption,
)
from geventnode.http.client.proxy import check_proxy_env
from tests.certificates import Certificates
from tests.http_proxies import ESTABLISHED, Proxy
from tests.https_sites import MakePool, Secure, tls_script
from tests.origins import HELLO, MakeOrigin, Origin, Peer, Recorder, once, read, silent
from tests.other_threads import in_another_thread
from tests.sockets import until

BASIC = 'Basic dXNlcjpzZWNyZXQ='  # user:secret
SECRETS = ('secret', 'dXNlcjpzZWNyZXQ')


@pytest.fixture
def proxy(origin: MakeOrigin) -> tuple[Proxy, Origin]:
    """Return a proxy, and where it listens."""
    script = Proxy()
    return script, origin(script)


# -- the URL of a proxy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('url', 'shown'),
    [
        ('http://proxy.example:3128', 'http://proxy.example:3128'),
        ('http://proxy.example:3128/', 'http://proxy.example:3128'),
        ('HTTP://Proxy.Example', 'http://proxy.example:80'),
        ('proxy.example:3128', 'http://proxy.example:3128'),
        ('user:secret@proxy.example', 'http://proxy.example:80'),
        ('https://user:secret@proxy.example', 'https://proxy.example:443'),
        ('http://[::1]:3128', 'http://[::1]:3128'),
        ('http://bücher.example', 'http://xn--bcher-kva.example:80'),
    ],
)
def test_url_is_shown_without_credentials(agent: Any, url: str, shown: str) -> None:
    made = agent(proxy=url)
    assert str(made.proxy) == shown
    assert not any(secret in f'{made!r} {made.proxy!r}' for secret in SECRETS)
    assert agent(proxy=made.proxy).proxy is made.proxy


@pytest.mark.parametrize(
    ('url', 'message'),
    [
        ('', "proxy is not the URL of a proxy: ''"),
        ('http://', "proxy is not the URL of a proxy: 'http://'"),
        ('http://user:secret@', "proxy is not the URL of a proxy: 'http://'"),
        ('http://user:secret@proxy:x', "proxy is not the URL of a proxy: 'http://proxy:x'"),
        ('http://user:secret@proxy:0', "proxy is not the URL of a proxy: 'http://proxy:0'"),
        ('http://user:secret@proxy:70000', "proxy is not the URL of a proxy: 'http://proxy:70000'"),
        ('http://user:se#cret@proxy:1', "proxy is not the URL of a proxy: 'http://proxy:1'"),
        ('http://us/er:secret@proxy:1', "proxy has more than scheme, host and port: 'http://proxy:1'"),
        ('http://user:secret@pro xy', "proxy is not the URL of a proxy: 'http://pro xy'"),
        ('http://us\udcffer:secret@proxy', "proxy is not the URL of a proxy: 'http://proxy'"),
        ('http://user:secret@proxy\\x', "proxy is not the URL of a proxy: 'http://proxy\\\\x'"),
        ('http://user:secret@[::1', "proxy is not the URL of a proxy: 'http://[::1'"),
        ('http://user:secret@proxy/path', "proxy has more than scheme, host and port: 'http://proxy/path'"),
        ('http://user:secret@proxy/?q', "proxy has more than scheme, host and port: 'http://proxy/?q'"),
        ('socks5://user:secret@proxy', 'proxy must be the http: or https: URL of a proxy; socks5: is not supported'),
    ],
)
def test_bad_url_is_refused_without_its_credentials(agent: Any, url: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        agent(proxy=url)
    assert str(caught.value) == message
    assert caught.value.code == 'ERR_PROXY_INVALID_CONFIG'


@pytest.mark.parametrize(
    ('text', 'sent'),
    [
        ('user:p%40%3A%2Fss', b'user:p@:/ss'),
        ('us%FFer:%E4', b'us\xffer:\xe4'),
        ('ü:%C3%BC', b'\xc3\xbc:\xc3\xbc'),
        ('user:%', b'user:%'),
        ('user', b'user:'),
        (':secret', b':secret'),
        ('a:b:c', b'a:b:c'),
        ('a@b:c', b'a@b:c'),
    ],
)
def test_credentials_are_unescaped_to_bytes(agent: Any, text: str, sent: bytes) -> None:
    """As by curl, and not by a replacement for those that are no UTF-8."""
    kind, _, encoded = agent(proxy=f'http://{text}@proxy').proxy.authorization.partition(' ')
    assert (kind, base64.b64decode(encoded)) == ('Basic', sent)


def test_credentials_are_not_pickled(agent: Any) -> None:
    """A pickle can be stored, or sent to another process."""
    for url in ('http://user:secret@proxy', 'http://user@proxy', 'http://:secret@proxy'):
        proxy = agent(proxy=url).proxy
        with pytest.raises(
            TypeError, match='http://proxy:80 has credentials and cannot be pickled; pickle the URL'
        ) as caught:
            pickle.dumps(proxy)
        assert 'secret' not in str(caught.value)
        assert copy.copy(proxy) is copy.deepcopy([proxy])[0] is proxy
    proxy = pickle.loads(pickle.dumps(agent(proxy='https://[::1]:3128').proxy))
    assert (str(proxy), proxy.authorization) == ('https://[::1]:3128', None)


@pytest.mark.parametrize(
    'options', [{'proxy': 1}, {'no_proxy': 1}, {'no_proxy': b'x'}, {'proxy_env': 'x'}, {'proxy_tls': 'x'}]
)
def test_option_of_another_type_is_refused(agent: Any, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        agent(**options)


def test_tls_options_without_tls_are_refused(agent: Any) -> None:
    options = {'proxy_tls': {'ca': None}, 'proxy': 'http://user:secret@proxy'}
    for names in (('proxy', 'proxy_tls'), ('proxy_tls', 'proxy')):
        with pytest.raises(InvalidInput, match=r'proxy_tls has no effect on http://proxy:80: .* https:'):
            agent(**{name: options[name] for name in names})


def test_misspelled_tls_option_of_a_proxy_is_refused(agent: Any) -> None:
    with pytest.raises(UnknownOption, match='reject_unauthorized'):
        agent(proxy='https://proxy', proxy_tls={'reject_unauthorised': False})


# -- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('environment', 'for_http', 'for_https'),
    [
        ({}, None, None),
        ({'http_proxy': 'a', 'HTTP_PROXY': 'b'}, 'http://a:80', None),
        ({'HTTP_PROXY': 'b'}, 'http://b:80', None),
        ({'http_proxy': '', 'HTTP_PROXY': 'b'}, 'http://b:80', None),
        ({'HTTP_PROXY': 'b', 'REQUEST_METHOD': 'GET'}, None, None),
        ({'http_proxy': 'a', 'REQUEST_METHOD': 'GET'}, 'http://a:80', None),
        ({'https_proxy': 'a', 'HTTPS_PROXY': 'b'}, None, 'http://a:80'),
        ({'HTTPS_PROXY': 'https://b', 'REQUEST_METHOD': 'GET'}, None, 'https://b:443'),
        ({'ALL_PROXY': 'c'}, 'http://c:80', 'http://c:80'),
        ({'all_proxy': 'c', 'http_proxy': 'a'}, 'http://a:80', 'http://c:80'),
        ({'ALL_PROXY': 'socks5://c', 'http_proxy': 'a', 'https_proxy': 'a'}, 'http://a:80', 'http://a:80'),
    ],
)
def test_variables(environment: dict[str, str], for_http: str | None, for_https: str | None) -> None:
    shown = []
    for protocol in ('http:', 'https:'):
        found = check_proxy_env(protocol, 'proxy_env', environment)
        assert found is not None
        shown.append(None if found.proxy is None else str(found.proxy))
    assert shown == [for_http, for_https]


def test_each_of_the_options_has_precedence(agent: Any, proxy: tuple[Proxy, Origin], recorder: Recorder) -> None:
    """A given proxy does not switch off the NO_PROXY of the environment."""
    script, where = proxy
    environment = {'http_proxy': 'http://127.0.0.1:1', 'no_proxy': '127.0.0.1'}
    pool = agent(proxy=where.url, proxy_env=environment)
    assert read(recorder.origin.url, agent=pool) == b'hello'
    assert (len(script.requests), len(recorder.requests)) == (0, 1)
    assert read('http://a.example/', agent=pool) == b'hello'
    assert read(recorder.origin.url, agent=agent(proxy=where.url, proxy_env=environment, no_proxy='')) == b'hello'
    assert (len(script.requests), len(recorder.requests)) == (2, 1)


@pytest.mark.parametrize('name', ['http_proxy', 'https_proxy', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'])
def test_error_names_the_variable(name: str) -> None:
    make = https.Agent if 'https' in name.lower() else http.Agent
    with pytest.raises(InvalidInput, match=rf'^{name} ') as caught:
        make(proxy_env={name: 'http://user:secret@proxy/x'})
    assert not any(secret in str(caught.value) for secret in SECRETS) or name == 'NO_PROXY'


def test_environment_of_the_process(
    monkeypatch: pytest.MonkeyPatch, agent: Any, proxy: tuple[Proxy, Origin], recorder: Recorder
) -> None:
    for name in tuple(os.environ):
        if name.lower().endswith('_proxy'):
            monkeypatch.delenv(name)
    script, where = proxy
    monkeypatch.setenv('http_proxy', where.url)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    used = agent(proxy_env=True)
    assert read('http://a.example/', agent=used) == b'hello'
    assert read(recorder.origin.url, agent=used) == b'hello'
    assert script.lines == ['GET http://a.example/ HTTP/1.1']
    assert [each.line for each in recorder.requests] == ['GET / HTTP/1.1']
    assert read(recorder.origin.url, agent=agent(proxy_env=True, no_proxy='')) == b'hello'
    assert len(script.requests) == 2
    assert agent(proxy_env=False).proxy_env is None


def test_global_agents(proxy: tuple[Proxy, Origin]) -> None:
    script, where = proxy
    restore = http.set_global_proxy_from_env({'http_proxy': where.url})
    try:
        assert read('http://a.example/') == b'hello'
        assert https.global_agent.proxy_env.proxy is None

        def in_another_hub() -> str | None:
            return str(http.global_agent.proxy_env.proxy)

        assert in_another_thread(in_another_hub) == where.url
        again = http.set_global_proxy_from_env({})
        assert http.global_agent.get_name({'host': 'a.example'}) == 'a.example:80'
        again()
        assert read('http://a.example/') == b'hello'
    finally:
        restore()
    assert http.global_agent.proxy_env is None
    assert len(script.requests) == 2


def test_variables_of_another_scheme_are_not_read(agent: Any) -> None:
    assert agent(proxy_env={'https_proxy': 'socks5://a', 'http_proxy': 'b'}).proxy_env.proxy.host == 'b'
    with pytest.raises(InvalidInput, match=r'^https_proxy must be'):
        http.set_global_proxy_from_env({'https_proxy': 'socks5://a', 'http_proxy': 'b'})


# -- forwarded requests -----------------------------------------------------------------------------------------------


def test_requests_to_several_origins_share_a_connection(agent: Any, proxy: tuple[Proxy, Origin]) -> None:
    script, where = proxy
    pool = agent(proxy=where.url, keep_alive=True)
    for url in ('http://a.example/x?y', 'http://b.example:81/', 'http://[::1]:82/'):
        assert read(url, agent=pool) == b'hello'
    assert script.lines == [
        'GET http://a.example/x?y HTTP/1.1',
        'GET http://b.example:81/ HTTP/1.1',
        'GET http://[::1]:82/ HTTP/1.1',
    ]
    assert [each.value('Host') for each in script.requests] == ['a.example', 'b.example:81', '[::1]:82']
    assert where.accepted == 1
    name = f'127.0.0.1:{where.port}:via {where.url}'
    assert list(pool.free_sockets) == [name]
    assert pool.get_name({'host': 'a.example'}) == pool.get_name({'host': 'b.example'}) == name
    assert pool.statistics()['reused'] == 2


def test_max_sockets_limits_the_connections_to_the_proxy(agent: Any, origin: MakeOrigin) -> None:
    held: list[Peer] = []

    def hold(peer: Peer) -> None:
        peer.request()
        held.append(peer)
        peer.closed()

    pool = agent(proxy=origin(hold).url, max_sockets=2)
    requests = [http.get(f'http://{name}.example/', agent=pool) for name in 'abc']
    until(lambda: len(held) == 2)
    assert sum(map(len, pool.requests.values())) == 1
    held.pop().send(HELLO.replace(b'\r\n\r\n', b'\r\nConnection: close\r\n\r\n'))
    until(lambda: len(held) == 2)
    for request in requests:
        request.destroy()


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        ({'method': 'OPTIONS', 'path': '*'}, 'OPTIONS http://a.example HTTP/1.1'),
        ({'method': 'POST', 'body': b'x' * 40000}, 'POST http://a.example/ HTTP/1.1'),
        ({'method': 'POST', 'body': iter([b'x', b'y'])}, 'POST http://a.example/ HTTP/1.1'),
        ({'headers': {'Host': 'other'}}, 'GET http://a.example/ HTTP/1.1'),
    ],
)
def test_target_is_absolute(agent: Any, proxy: tuple[Proxy, Origin], options: dict[str, Any], line: str) -> None:
    script, where = proxy
    request = http.request('http://a.example/', agent=agent(proxy=where.url), **options)
    if 'body' not in options:
        request.end()
    assert (request.host, request.protocol) == ('a.example', 'http:')
    assert 'http://a.example' in repr(request)
    assert request.get_response().read() == b'hello'
    assert script.lines == [line]


def test_path_with_another_origin_is_refused(agent: Any, proxy: tuple[Proxy, Origin]) -> None:
    with pytest.raises(InvalidInput, match='path must begin with / for a request through a proxy'):
        http.get('http://a.example/', path='http://b.example/', agent=agent(proxy=proxy[1].url))
    assert proxy[0].lines == []


@pytest.mark.parametrize('how', ['url', 'header', 'both'])
def test_credentials(agent: Any, origin: MakeOrigin, how: str) -> None:
    script = Proxy(BASIC)
    where = origin(script)
    user = {'url': 'user:secret@', 'header': '', 'both': 'other:one@'}[how]
    headers = {} if how == 'url' else {'Proxy-Authorization': BASIC}
    pool = agent(proxy=f'http://{user}127.0.0.1:{where.port}', keep_alive=True)
    response = http.get('http://a.example/', agent=pool, headers=headers).get_response()
    assert (response.status_code, response.read()) == (200, b'hello')
    assert not any(secret in name for name in pool.free_sockets for secret in SECRETS)


def test_407_is_an_ordinary_response(agent: Any, origin: MakeOrigin) -> None:
    response = http.get('http://a.example/', agent=agent(proxy=origin(Proxy(BASIC)).url)).get_response()
    assert (response.status_code, response.headers['proxy-authenticate']) == (407, 'Basic realm="tests"')


@pytest.mark.parametrize('no_proxy', ['127.0.0.1', ['127.0.0.0/8']])
def test_direct_request_has_no_credentials(agent: Any, recorder: Recorder, no_proxy: Any) -> None:
    pool = agent(proxy='http://user:secret@127.0.0.1:1', no_proxy=no_proxy)
    received = recorder.sent(agent=pool, headers={'Proxy-Authorization': BASIC})
    assert received.line == 'GET / HTTP/1.1'
    assert received.value('Proxy-Authorization') is None


def test_unix_socket_is_reached_without_the_proxy(agent: Any, origin: MakeOrigin, tmp_path: Any) -> None:
    origin(path=str(tmp_path / 'socket'))
    pool = agent(proxy='http://127.0.0.1:1')
    assert http.get(socket_path=str(tmp_path / 'socket'), agent=pool).get_response().read() == b'hello'


def test_options_can_change(agent: Any, proxy: tuple[Proxy, Origin], recorder: Recorder) -> None:
    script, where = proxy
    pool = agent(keep_alive=True)
    assert read(recorder.origin.url, agent=pool) == b'hello'
    pool.proxy = where.url
    assert read(recorder.origin.url, agent=pool) == b'hello'
    assert len(script.requests) == 1
    pool.proxy = None
    assert read(recorder.origin.url, agent=pool) == b'hello'
    assert len(recorder.requests) == 2


def test_refused_change_has_no_effect(agent: Any) -> None:
    """The option keeps its value, and the others can be changed."""
    pool = agent(proxy='https://proxy', proxy_tls={'reject_unauthorized': False})
    with pytest.raises(InvalidInput, match='proxy_tls has no effect'):
        pool.proxy = 'http://other'
    pool.max_sockets = 3
    assert str(pool.proxy) == 'https://proxy:443'
    assert ':via https://proxy:443' in pool.get_name({'host': 'a.example'})


def test_reserved_connection_uses_the_proxy(agent: Any, proxy: tuple[Proxy, Origin]) -> None:
    script, where = proxy
    pool = agent(proxy=where.url, max_sockets=1)
    with pool.reserve('http://a.example/') as reserved:
        assert read('http://a.example/', agent=reserved) == b'hello'
        waiting = http.get('http://b.example/', agent=pool)
        gevent.idle()
        assert pool.requests == {pool.get_name({'host': 'b.example'}): [waiting]}
    assert waiting.get_response().read() == b'hello'
    assert len(script.requests) == 2


def test_create_connection_connects_to_the_proxy(agent: Any, proxy: tuple[Proxy, Origin]) -> None:
    asked = []
    pool = agent(proxy=proxy[1].url)
    plain = pool.create_connection

    def create(options: Any) -> Any:
        asked.append((options['host'], options['port']))
        return plain(options)

    pool.create_connection = create
    assert read('http://a.example/', agent=pool) == b'hello'
    assert http.get('http://a.example/', agent=pool, create_connection=create).get_response().read() == b'hello'
    assert asked == [('127.0.0.1', proxy[1].port)] * 2


# -- tunnels ----------------------------------------------------------------------------------------------------------


def test_https_uses_a_tunnel(pool: MakePool, secure: Secure, origin: MakeOrigin) -> None:
    seen = []

    def listener(request: Any, response: Any) -> None:
        seen.append(request.headers)
        response.end('secure')

    script = Proxy(BASIC)
    where = origin(script)
    port = secure(listener).where[1]
    agent = pool(proxy=f'http://user:secret@127.0.0.1:{where.port}')
    for _ in range(2):
        response = https.get(
            f'https://localhost:{port}/', agent=agent, headers={'Proxy-Authorization': BASIC}
        ).get_response()
        assert response.read() == b'secure'
    assert script.lines == [f'CONNECT localhost:{port} HTTP/1.1']
    assert script.requests[0].value('Host') == f'localhost:{port}'
    assert where.accepted == 1
    assert not any('proxy-authorization' in headers for headers in seen)
    assert b'secure' not in script.tunnelled
    (name,) = agent.free_sockets
    assert name.startswith(f'localhost:{port}:')
    assert f':via {where.url}:' in name
    assert not any(secret in name for secret in SECRETS)


def test_tls_sessions_are_resumed_in_tunnels(pool: MakePool, secure: Secure, proxy: tuple[Proxy, Origin]) -> None:
    port = secure().where[1]
    agent = pool(proxy=proxy[1].url)
    reused = []
    for _ in range(2):
        response = https.get(f'https://localhost:{port}/', agent=agent).get_response()
        reused.append(response.socket.session_reused)
        response.read()
        agent.destroy()
    assert reused == [False, True]


@pytest.mark.parametrize('user', ['', 'user:secret@'])
def test_upgrade_uses_a_tunnel(agent: Any, origin: MakeOrigin, user: str) -> None:
    received = []

    def switching(peer: Peer) -> None:
        received.append(peer.request())
        peer.send(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
        while data := peer.receive():
            peer.send(data)

    script = Proxy(BASIC if user else None)
    echo, where = origin(switching), origin(script)
    pool = agent(proxy=f'http://{user}127.0.0.1:{where.port}')
    headers = {'Connection': 'Upgrade', 'Upgrade': 'echo'}
    response = http.get(f'http://127.0.0.1:{echo.port}/', agent=pool, headers=headers).get_response()
    assert response.upgrade
    response.socket.write(b'ping')
    assert response.socket.read(4) == b'ping'
    response.socket.destroy()
    assert script.lines == [f'CONNECT 127.0.0.1:{echo.port} HTTP/1.1']
    assert received[0].line == 'GET / HTTP/1.1'
    assert received[0].value('Proxy-Authorization') is None


def test_connect_through_a_proxy(agent: Any, origin: MakeOrigin, proxy: tuple[Proxy, Origin]) -> None:
    """A CONNECT of the caller reaches the origin, which is a second proxy."""
    second = Proxy()
    echo = origin(lambda peer: peer.send(peer.exactly(4)))
    where = origin(second)
    request = http.request(
        f'http://127.0.0.1:{where.port}/',
        method='CONNECT',
        path=f'127.0.0.1:{echo.port}',
        agent=agent(proxy=proxy[1].url),
    )
    response = request.end().get_response()
    response.socket.write(b'ping')
    assert response.socket.read(4) == b'ping'
    response.socket.destroy()
    assert proxy[0].lines == [f'CONNECT 127.0.0.1:{where.port} HTTP/1.1']
    assert second.lines == [f'CONNECT 127.0.0.1:{echo.port} HTTP/1.1']


# -- TLS to the proxy -------------------------------------------------------------------------------------------------


def test_forwarded_request_over_tls(agent: Any, origin: MakeOrigin, certificates: Certificates) -> None:
    script = Proxy()
    where = origin(tls_script(certificates, script))
    pool = agent(proxy=f'https://localhost:{where.port}', proxy_tls={'ca': certificates.ca}, keep_alive=True)
    assert read('http://a.example/', agent=pool) == b'hello'
    assert read('http://b.example/', agent=pool) == b'hello'
    assert len(script.lines) == 2
    assert where.accepted == 1


@pytest.mark.parametrize('size', [10, 5_000_000])
def test_tls_within_tls(
    pool: MakePool, secure: Secure, origin: MakeOrigin, certificates: Certificates, size: int
) -> None:
    def listener(request: Any, response: Any) -> None:
        response.end(request.read())

    script = Proxy()
    where = origin(tls_script(certificates, script))
    port = secure(listener, max_body_size=None).where[1]
    agent = pool(proxy=f'https://localhost:{where.port}', proxy_tls={'ca': certificates.ca})
    body = os.urandom(size)
    for _ in range(2):
        request = https.request(f'https://localhost:{port}/', agent=agent, method='POST', body=body)
        assert request.get_response().read() == body
    assert where.accepted == 1


def test_tls_options_of_proxy_and_origin_are_apart(
    pool: MakePool, agent: Any, secure: Secure, origin: MakeOrigin, certificates: Certificates
) -> None:
    where = origin(tls_script(certificates, Proxy()))
    port = secure().where[1]
    untrusting = pool(proxy=f'https://localhost:{where.port}')
    with pytest.raises(ProxyError, match=rf'^proxy https://localhost:{where.port}: no TLS to the proxy: .*') as caught:
        https.get(f'https://localhost:{port}/', agent=untrusting).get_response()
    assert caught.value.phase == 'handshake'
    assert isinstance(caught.value.__cause__, CertificateError)
    assert caught.value.code == caught.value.__cause__.code == 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY'
    lax = pool(proxy=f'https://localhost:{where.port}', proxy_tls={'reject_unauthorized': False})
    assert https.get(f'https://localhost:{port}/', agent=lax).get_response().read() == b'GET /'
    strict = https.Agent(proxy=f'https://localhost:{where.port}', proxy_tls={'reject_unauthorized': False})
    with strict, pytest.raises(CertificateError, match='through the proxy https://localhost'):
        https.get(f'https://localhost:{port}/', agent=strict).get_response()


# -- failures ---------------------------------------------------------------------------------------------------------

TARGET = 'localhost:443'
FAILURES: list[tuple[Any, dict[str, Any], str]] = [
    (
        once(b'HTTP/1.1 403 Forbidden\r\nX-Why: rule 7\r\nContent-Length: 99999999\r\n\r\n' + b'x' * 100000),
        {'code': 'ERR_PROXY_TUNNEL', 'phase': 'tunnel', 'status_code': 403},
        f'refused a tunnel to {TARGET}: 403 Forbidden',
    ),
    (
        once(b'HTTP/1.1 407 Denied\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n', 'wait'),
        {'code': 'ERR_PROXY_TUNNEL', 'phase': 'tunnel', 'status_code': 407},
        f'refused a tunnel to {TARGET}: 407 Denied; it does not accept the credentials (Basic realm="x")',
    ),
    (once(b'HTTP/1.1 502 \r\n\r\n', 'wait'), {'status_code': 502}, f'refused a tunnel to {TARGET}: 502'),
    (
        once(b'HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n', 'wait'),
        {'status_code': 302},
        f'refused a tunnel to {TARGET}: 302 Found',
    ),
    (
        once(b'HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n', 'wait'),
        {},
        f'invalid response to CONNECT {TARGET}: ',
    ),
    (once(b''), {'code': 'ECONNRESET'}, f'connection closed before the response to CONNECT {TARGET}'),
    (
        once(b'HTTP/1.1 200', 'close'),
        {'code': 'ECONNRESET'},
        f'connection closed before the response to CONNECT {TARGET}',
    ),
    (once(b'', 'reset'), {'code': 'ECONNRESET'}, f'connection lost before the response to CONNECT {TARGET}'),
    (once(b'SSH-2.0-x\r\n\r\n', 'wait'), {'phase': 'tunnel'}, f'invalid response to CONNECT {TARGET}: '),
    (
        once(b'HTTP/1.1 200 OK\r\n' + b'a: b\r\n' * 5000, 'wait'),
        {'code': 'HPE_HEADER_OVERFLOW'},
        f'invalid response to CONNECT {TARGET}: ',
    ),
    (
        once(b'HTTP/1.1 100 Continue\r\n\r\n' * 5000, 'wait'),
        {},
        f'invalid response to CONNECT {TARGET}: ',
    ),
    (
        once(ESTABLISHED + b'extra', 'wait'),
        {'code': 'ERR_PROXY_TUNNEL'},
        f'data after the response to CONNECT {TARGET}',
    ),
]


@pytest.mark.parametrize(('script', 'properties', 'problem'), FAILURES)
@pytest.mark.parametrize('kind', ['tls', 'upgrade'])
def test_each_failure_of_a_tunnel(
    agent: Any, pool: MakePool, origin: MakeOrigin, kind: str, script: Any, properties: dict[str, Any], problem: str
) -> None:
    where = origin(script)
    url = f'http://user:secret@127.0.0.1:{where.port}'
    if kind == 'tls':
        request = https.get('https://localhost/', agent=pool(proxy=url))
    else:
        headers = {'Connection': 'Upgrade', 'Upgrade': 'echo'}
        request = http.get('http://localhost:443/', agent=agent(proxy=url), headers=headers)
    with pytest.raises(ProxyError) as caught:
        request.get_response()
    error = caught.value
    assert str(error).startswith(f'proxy {where.url}: {problem}')
    assert (error.host, error.port, error.proxy) == ('127.0.0.1', where.port, where.url)
    assert {name: getattr(error, name) for name in properties} == properties
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    causes: list[BaseException | None] = [error, error.__cause__, error.__context__]
    assert not any(secret in f'{each} {vars(each)}' for each in causes if each is not None for secret in SECRETS)
    assert request.agent.total_socket_count == 0


def test_refusal_of_an_empty_field_is_quoted(pool: MakePool, origin: MakeOrigin) -> None:
    where = origin(once(b'HTTP/1.1 407 Denied\r\nProxy-Authenticate: Basic\r\n\r\n', 'wait'))
    request = https.get('https://localhost/', agent=pool(proxy=where.url), headers={'Proxy-Authorization': ''})
    with pytest.raises(ProxyError, match=r'localhost:443: 407 Denied; .* \(Basic\)$'):
        request.get_response()


def test_refusal_has_the_fields(pool: MakePool, origin: MakeOrigin) -> None:
    said = b'HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nProxy-Authenticate: Digest\r\nSet-Cookie: a\r\n\r\n'
    with pytest.raises(ProxyError, match=r'its URL needs a user and a password \(Basic, Digest\)') as caught:
        https.get('https://localhost/', agent=pool(proxy=origin(once(said, 'wait')).url)).get_response()
    assert caught.value.headers == {'proxy-authenticate': 'Basic, Digest', 'set-cookie': 'a'}


def test_proxy_that_refuses_connections(agent: Any, origin: MakeOrigin) -> None:
    where = origin(silent)
    where.stop()
    with pytest.raises(ProxyError, match=rf'^proxy {where.url}: no connection: connect 127.0.0.1') as caught:
        http.get('http://a.example/', agent=agent(proxy=where.url)).get_response()
    assert (caught.value.code, caught.value.phase) == ('ECONNREFUSED', 'connect')


def test_proxy_without_an_address(agent: Any) -> None:
    with pytest.raises(ProxyError, match=r'^proxy http://no.invalid:80: no connection: resolve no.invalid') as caught:
        http.get('http://a.example/', agent=agent(proxy='http://no.invalid')).get_response()
    assert (caught.value.code, caught.value.phase, caught.value.host) == ('ENOTFOUND', 'resolve', 'no.invalid')


@pytest.mark.parametrize('limit', ['connect_timeout', 'deadline'])
def test_connect_includes_the_tunnel(pool: MakePool, origin: MakeOrigin, limit: str) -> None:
    where = origin(silent)
    request = https.get('https://localhost/', agent=pool(proxy=where.url), **{limit: 0.05})
    with pytest.raises(RequestTimeout, match=rf'^localhost \(through the proxy {where.url}\): .*{limit}') as caught:
        request.get_response()
    assert caught.value.phase == 'connect'
    until(lambda: not request.agent.total_socket_count)


@pytest.mark.parametrize(
    ('script', 'scheme', 'step'),
    [
        (lambda peer: peer.closed(), 'https', 'the TLS handshake with the proxy'),
        (silent, 'http', 'the response to CONNECT localhost:443'),
        (once(ESTABLISHED, 'wait'), 'http', 'the TLS handshake with localhost:443'),
    ],
)
@pytest.mark.parametrize('limit', ['connect_timeout', 'deadline'])
def test_late_step_is_named(
    pool: MakePool, origin: MakeOrigin, script: Any, scheme: str, step: str, limit: str
) -> None:
    url = f'{scheme}://user:secret@127.0.0.1:{origin(script).port}'
    request: Any = https.get('https://localhost/', agent=pool(proxy=url), **{limit: 60})
    until(lambda: request._connect_step == step)
    # a limit that passes by itself can pass in an earlier step
    request._dial._on_deadline(monotonic() + 61)
    with pytest.raises(RequestTimeout) as caught:
        request.get_response()
    shown = url.replace('user:secret@', '')
    assert str(caught.value).startswith(f'localhost (through the proxy {shown}): ')
    assert limit in str(caught.value)
    assert str(caught.value).endswith(f'; it waited for {step}')


def test_late_connection_to_the_proxy_is_named(agent: Any) -> None:
    def create(options: Any) -> Any:
        gevent.sleep(60)

    request = http.get(
        'http://a.example/', agent=agent(proxy='http://proxy'), create_connection=create, connect_timeout=0.05
    )
    with pytest.raises(RequestTimeout, match=r'^proxy http://proxy:80: .*; it waited for a connection to the proxy$'):
        request.get_response()


def test_refusal_that_shows_the_request_has_no_credentials(pool: MakePool, origin: MakeOrigin) -> None:
    script = once(
        f'HTTP/1.1 407 {BASIC}\r\nProxy-Authenticate: x="{BASIC}"\r\nX-Request: {BASIC}\r\n\r\n'.encode(), 'wait'
    )
    with pytest.raises(ProxyError, match=r'407 Basic \*\*\*; .* \(x="Basic \*\*\*"\)') as caught:
        https.get(
            'https://localhost/', agent=pool(proxy=f'http://user:secret@127.0.0.1:{origin(script).port}')
        ).get_response()
    assert not any(secret in f'{caught.value} {vars(caught.value)}' for secret in SECRETS)


def test_request_can_be_given_up_during_connect(pool: MakePool, origin: MakeOrigin) -> None:
    closed = []

    def script(peer: Peer) -> None:
        peer.request()
        request.abort()
        closed.append(peer.closed())

    request = https.get('https://localhost/', agent=pool(proxy=origin(script).url))
    with pytest.raises(GeventnodeError):
        request.get_response()
    until(lambda: closed)
    assert closed == [True]


def test_tunnel_to_an_origin_without_tls(pool: MakePool, origin: MakeOrigin, proxy: tuple[Proxy, Origin]) -> None:
    plain = origin(lambda peer: peer.send(b'HTTP/1.1 400 Bad Request\r\n\r\n'))
    with pytest.raises(TLSError, match='through the proxy') as caught:
        https.get(f'https://localhost:{plain.port}/', agent=pool(proxy=proxy[1].url)).get_response()
    assert not isinstance(caught.value, ProxyError)
    assert (caught.value.host, caught.value.port, caught.value.phase) == ('localhost', plain.port, 'handshake')


def test_forwarding_proxy_that_closes(agent: Any, origin: MakeOrigin) -> None:
    where = origin(once(b''))
    with pytest.raises(SocketHangUp, match=rf'proxy {where.url} closed the connection without a response'):
        http.get('http://a.example/', agent=agent(proxy=where.url)).get_response()


def test_stale_connection_to_the_proxy_is_replaced(agent: Any, origin: MakeOrigin) -> None:
    where = origin(once(HELLO))
    pool = agent(proxy=where.url, keep_alive=True)
    assert read('http://a.example/', agent=pool) == b'hello'
    assert read('http://b.example/', agent=pool) == b'hello'
    assert where.accepted == 2


def test_log_and_names_have_no_credentials(agent: Any, origin: MakeOrigin, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    where = origin(Proxy(BASIC))
    pool = agent(proxy=f'http://user:secret@127.0.0.1:{where.port}', keep_alive=True, debug_connections=True)
    assert read('http://a.example/', agent=pool) == b'hello'
    pool.destroy()
    refused = agent(proxy='http://user:secret@127.0.0.1:1')
    requests = [http.get('http://a.example/', agent=refused)]
    until(lambda: refused.statistics()['failed'])
    shown = f'{pool!r} {requests!r} {refused!r}'
    requests.clear()
    assert 'exception was never retrieved' in caplog.text
    assert not any(secret in f'{shown} {caplog.text}' for secret in SECRETS)


def test_create_connection_of_another_type_is_refused(agent: Any) -> None:
    request = http.get('http://a.example/', agent=agent(proxy='http://proxy'), create_connection=lambda options: 1)
    with pytest.raises(TypeError, match=r'create_connection must return a net.Socket, not int'):
        request.get_response()


def test_create_connection_can_bring_tls_to_the_proxy(
    agent: Any, origin: MakeOrigin, certificates: Certificates
) -> None:
    """A second handshake would fail."""
    where = origin(tls_script(certificates, Proxy()))

    def create(options: Any) -> Any:
        return tls.connect(options['port'], options['host'], ca=certificates.ca)

    request = http.get(
        'http://a.example/', agent=agent(proxy=f'https://localhost:{where.port}'), create_connection=create
    )
    assert request.get_response().read() == b'hello'
