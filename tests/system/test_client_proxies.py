"""The client through squid, tinyproxy, nginx and HAProxy, with the failures that each of them reports."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from gevent import subprocess as cooperative

from geventnode import http, https, websocket
from geventnode.errors import CertificateError, ProxyError
from geventnode.integrations.requests import AgentAdapter
from tests.certificates import Certificates
from tests.https_sites import MakePool, Secure
from tests.servers import Serve
from tests.system.running import PATIENCE, haproxy_with, nginx_with, run, tool

SQUID = """
http_port 127.0.0.1:{port}
https_port 127.0.0.1:{tls_port} tls-cert={certificate}
pid_filename none
access_log none
cache_log /dev/null
cache deny all
shutdown_lifetime 0 seconds
auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}
auth_param basic children 1
auth_param basic realm tests
acl users proxy_auth REQUIRED
acl forbidden port 9
http_access deny forbidden
http_access allow users
http_access deny all
"""

TINYPROXY = """
Port {port}
Listen 127.0.0.1
LogLevel Info
BasicAuth user secret
ConnectPort {allowed}
"""

NGINX = """
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_set_header Host $http_host; }}
    }}
    server {{
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_set_header Host $http_host; }}
    }}
"""

#: TLS to a proxy that has none itself, and a frontend for requests that opens no tunnel.
HAPROXY = """
defaults
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend tls
    mode tcp
    bind 127.0.0.1:{tls_port} ssl crt {certificate}
    default_backend proxy
backend proxy
    mode tcp
    server proxy 127.0.0.1:{proxy}
frontend plain
    mode http
    bind 127.0.0.1:{port}
    bind {{front}}
    default_backend nothing
backend nothing
    mode http
"""


def ports(number: int) -> list[int]:
    """Return ports that are free now: these programs cannot let the kernel choose."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(('127.0.0.1', 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(command: list[Any], ready: set[str], stream: str) -> Iterator[None]:
    """Run a program that writes a line with each of ``ready`` when it accepts connections."""
    with cooperative.Popen(
        [tool(command[0]), *map(str, command[1:])],
        text=True,
        stdout=subprocess.PIPE if stream == 'stdout' else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if stream == 'stdout' else subprocess.PIPE,
    ) as process:
        lines: list[str] = []
        for line in getattr(process, stream):
            lines.append(line)
            if all(text in ''.join(lines) for text in ready):
                break
        else:
            pytest.fail(''.join(lines))
        try:
            yield
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def listener(request: Any, response: Any) -> None:
    """Respond with the fields that a proxy must not pass on, and with the body."""
    given = [name for name in ('proxy-authorization', 'authorization') if name in request.headers]
    response.end(f'{request.method} {request.url} {request.headers["host"]} {given} {len(request.read())}')


@pytest.fixture
def origins(serve: Serve, secure: Secure) -> tuple[int, int]:
    """Return the ports of an HTTP and an HTTPS server."""
    return serve(listener).where[1], secure(listener).where[1]


@pytest.fixture(scope='module')
def squid(certificates: Certificates) -> Iterator[tuple[int, int]]:
    """Return the ports of a squid, without and with TLS."""
    port, tls_port = ports(2)
    # squid of root changes its user, which cannot read the directories of pytest
    with tempfile.TemporaryDirectory(prefix='geventnode-squid-') as directory:
        Path(directory).chmod(0o755)
        passwords, configuration = Path(directory, 'passwords'), Path(directory, 'squid.conf')
        passwords.write_text(f'user:{run("openssl", "passwd", "-apr1", "secret")}')
        configuration.write_text(
            SQUID.format(port=port, tls_port=tls_port, certificate=certificates.server, passwords=passwords)
        )
        ready = {'Accepting HTTP Socket connections', 'Accepting HTTPS Socket connections'}
        with running(['squid', '-N', '-n', f'tests{port}', '-d', '1', '-f', configuration], ready, 'stderr'):
            yield port, tls_port


@pytest.fixture
def tinyproxy(tmp_path: Path, origins: tuple[int, int]) -> Iterator[int]:
    """Return the port of a tinyproxy that opens tunnels to the HTTPS server only."""
    (port,) = ports(1)
    configuration = tmp_path / 'tinyproxy.conf'
    configuration.write_text(TINYPROXY.format(port=port, allowed=origins[1]))
    with running(['tinyproxy', '-d', '-c', configuration], {'Starting main loop'}, 'stdout'):
        yield port


def check_both_ways(pool: MakePool, agent: Any, origins: tuple[int, int], url: str, **options: Any) -> None:
    """Check forwarded requests and tunnels through the proxy at ``url``."""
    plain, tls = origins
    forwarding = agent(proxy=url, keep_alive=True, **options)
    for host in ('127.0.0.1', 'localhost'):
        response = http.request(
            f'http://{host}:{plain}/a?b', method='POST', body=b'x' * 300000, agent=forwarding
        ).get_response()
        assert response.read().decode() == f'POST /a?b {host}:{plain} [] 300000'
    assert forwarding.statistics()['opened'] == 1
    tunnelling = pool(proxy=url, **options)
    for _ in range(2):
        response = https.request(
            f'https://localhost:{tls}/a', method='POST', body=b'x' * 300000, agent=tunnelling
        ).get_response()
        assert response.read().decode() == f'POST /a localhost:{tls} [] 300000'
    assert tunnelling.statistics()['opened'] == 1


def refused(pool: MakePool, url: str, port: int, **options: Any) -> ProxyError:
    """Return the error of a tunnel to ``port``."""
    with pytest.raises(ProxyError) as caught:
        https.get(f'https://localhost:{port}/', agent=pool(proxy=url, **options)).get_response()
    assert 'secret' not in str(caught.value)
    return caught.value


def test_squid(pool: MakePool, agent: Any, origins: tuple[int, int], squid: tuple[int, int]) -> None:
    port, _ = squid
    url = f'http://user:secret@127.0.0.1:{port}'
    check_both_ways(pool, agent, origins, url)
    shown = f'proxy http://127.0.0.1:{port}: refused a tunnel to localhost'
    error = refused(pool, f'http://127.0.0.1:{port}', origins[1])
    assert str(error) == (
        f'{shown}:{origins[1]}: 407 Proxy Authentication Required; its URL needs a user and a password '
        '(Basic realm="tests")'
    )
    error = refused(pool, f'http://user:wrong@127.0.0.1:{port}', origins[1])
    assert 'it does not accept the credentials (Basic realm="tests")' in str(error)
    error = refused(pool, url, 9)
    assert str(error) == f'{shown}:9: 403 Forbidden'
    assert error.headers['x-squid-error'] == 'ERR_ACCESS_DENIED 0'
    (closed,) = ports(1)
    assert str(refused(pool, url, closed)) == f'{shown}:{closed}: 503 Service Unavailable'
    response = http.get('http://127.0.0.1:9/', agent=agent(proxy=url)).get_response()
    assert response.status_code == 403


def test_squid_over_tls(
    pool: MakePool, agent: Any, origins: tuple[int, int], squid: tuple[int, int], certificates: Certificates
) -> None:
    url = f'https://user:secret@localhost:{squid[1]}'
    check_both_ways(pool, agent, origins, url, proxy_tls={'ca': certificates.ca})
    error = refused(pool, url, origins[1])
    assert str(error).startswith(f'proxy https://localhost:{squid[1]}: no TLS to the proxy: ')
    assert isinstance(error.__cause__, CertificateError)
    assert '407' in str(refused(pool, f'https://localhost:{squid[1]}', origins[1], proxy_tls={'ca': certificates.ca}))


def test_requests_through_squid_over_tls(
    monkeypatch: pytest.MonkeyPatch, origins: tuple[int, int], squid: tuple[int, int], certificates: Certificates
) -> None:
    """For both kinds of URLs; tunnels are TLS within TLS."""
    for name in ('NO_PROXY', 'no_proxy', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'):
        monkeypatch.delenv(name, raising=False)
    url = f'https://user:secret@localhost:{squid[1]}'
    with requests.Session() as session:
        session.verify, session.proxies = certificates.ca, {'http': url, 'https': url}
        adapter = AgentAdapter()
        session.mount('http://', adapter)
        session.mount('https://', adapter)
        body = b'x' * 300000
        for _ in range(2):
            response = session.post(f'http://localhost:{origins[0]}/a', data=body)
            assert response.text == f'POST /a localhost:{origins[0]} [] 300000'
            response = session.post(f'https://localhost:{origins[1]}/a', data=body)
            assert response.text == f'POST /a localhost:{origins[1]} [] 300000'
        assert [adapter.poolmanager.agents.get(secure).statistics()['opened'] for secure in (False, True)] == [0, 2]
        wrong = url.replace('secret', 'wrong')
        with pytest.raises(requests.exceptions.ProxyError, match='407') as caught:
            session.get(f'https://localhost:{origins[1]}/', proxies={'https': wrong})
        assert 'wrong' not in str(caught.value)
        with pytest.raises(requests.exceptions.ProxyError, match='certificate'):
            session.get(f'https://localhost:{origins[1]}/', verify=certificates.self_signed)


def test_websockets_through_squid(
    serve: Serve, squid: tuple[int, int], agent: Any, pool: MakePool, certificates: Certificates
) -> None:
    """With and without TLS to the server, and to the proxy; squid lets the tunnel end with each side."""
    plain, secure = http.create_server(), https.create_server(certfile=certificates.server)
    for server in (plain, secure):
        server.on('upgrade', websocket.listener(lambda ws: ws.on('message', ws.send)))
    urls = f'ws://localhost:{serve(plain).where[1]}/', f'wss://localhost:{serve(secure).where[1]}/'
    for proxy, options in (
        (f'http://user:secret@127.0.0.1:{squid[0]}', {}),
        (f'https://user:secret@localhost:{squid[1]}', {'proxy_tls': {'ca': certificates.ca}}),
    ):
        for url, make in zip(urls, (agent, pool), strict=True):
            with websocket.connect(url, agent=make(proxy=proxy, **options), compression=True) as ws:
                for message in ('hello', bytes(300_000)):
                    ws.send(message)
                    assert ws.receive() == message
    with pytest.raises(ProxyError, match='407'):
        websocket.connect(urls[0], agent=agent(proxy=f'http://127.0.0.1:{squid[0]}'))


def test_tinyproxy(pool: MakePool, agent: Any, origins: tuple[int, int], tinyproxy: int) -> None:
    url = f'http://user:secret@127.0.0.1:{tinyproxy}'
    plain, tls = origins
    response = http.get(f'http://localhost:{plain}/', agent=agent(proxy=url)).get_response()
    assert response.read().decode() == f'GET / localhost:{plain} [] 0'
    response = https.get(f'https://localhost:{tls}/', agent=pool(proxy=url)).get_response()
    assert response.read().decode() == f'GET / localhost:{tls} [] 0'
    shown = f'proxy http://127.0.0.1:{tinyproxy}: refused a tunnel to localhost'
    assert str(refused(pool, url, plain)) == f'{shown}:{plain}: 403 Access violation'
    assert str(refused(pool, f'http://127.0.0.1:{tinyproxy}', tls)).startswith(
        f'{shown}:{tls}: 407 Proxy Authentication Required; its URL needs'
    )


def test_nginx_forwards_and_opens_no_tunnel(
    pool: MakePool, agent: Any, origins: tuple[int, int], tmp_path: Path, certificates: Certificates
) -> None:
    port, tls_port = ports(2)
    rest = NGINX.format(port=port, tls_port=tls_port, origin=origins[0], certificate=certificates.server)
    with nginx_with(tmp_path, rest):
        tls = {'proxy_tls': {'ca': certificates.ca}}
        for url, options in ((f'http://127.0.0.1:{port}', {}), (f'https://localhost:{tls_port}', tls)):
            forwarding = agent(proxy=url, keep_alive=True, **options)
            for name in ('a.example', 'b.example'):
                response = http.get(f'http://{name}/x', agent=forwarding).get_response()
                assert response.read().decode() == f'GET /x {name} [] 0'
            assert forwarding.statistics()['opened'] == 1
        error = refused(pool, f'http://127.0.0.1:{port}', origins[1])
        assert error.status_code in (400, 405)
        assert str(error).startswith(f'proxy http://127.0.0.1:{port}: refused a tunnel to localhost:{origins[1]}: 40')


def test_haproxy_adds_tls_to_a_proxy(
    pool: MakePool, agent: Any, origins: tuple[int, int], tinyproxy: int, tmp_path: Path, certificates: Certificates
) -> None:
    port, tls_port = ports(2)
    configuration = HAPROXY.format(port=port, tls_port=tls_port, proxy=tinyproxy, certificate=certificates.server)
    with haproxy_with(tmp_path, configuration):
        # its socket for the tests accepts connections before the ports do
        run('curl', '--silent', '--unix-socket', tmp_path / 'front', 'http://localhost/')
        url = f'https://user:secret@localhost:{tls_port}'
        response = https.get(
            f'https://localhost:{origins[1]}/', agent=pool(proxy=url, proxy_tls={'ca': certificates.ca})
        ).get_response()
        assert response.read().decode() == f'GET / localhost:{origins[1]} [] 0'
        error = refused(pool, f'http://127.0.0.1:{port}', origins[1])
        assert str(error) == (
            f'proxy http://127.0.0.1:{port}: refused a tunnel to localhost:{origins[1]}: 503 Service Unavailable'
        )
        # a proxy that speaks TLS, by a URL without
        error = refused(pool, f'http://127.0.0.1:{tls_port}', origins[1])
        assert error.phase == 'tunnel'


def test_requests_uses_one_proxy(
    monkeypatch: pytest.MonkeyPatch, origins: tuple[int, int], tinyproxy: int, certificates: Certificates
) -> None:
    """The adapter's agents take no proxy from the environment beside that of ``requests``."""
    for name in ('http_proxy', 'https_proxy'):
        monkeypatch.setenv(name, f'http://user:secret@127.0.0.1:{tinyproxy}')
    monkeypatch.delenv('no_proxy', raising=False)
    monkeypatch.delenv('NO_PROXY', raising=False)
    restore = http.set_global_proxy_from_env()
    try:
        with requests.Session() as session:
            adapter = AgentAdapter()
            session.mount('http://', adapter)
            session.mount('https://', adapter)
            response = session.get(f'http://localhost:{origins[0]}/')
            assert response.text == f'GET / localhost:{origins[0]} [] 0'
            response = session.get(f'https://localhost:{origins[1]}/', verify=certificates.ca)
            assert response.text == f'GET / localhost:{origins[1]} [] 0'
    finally:
        restore()
