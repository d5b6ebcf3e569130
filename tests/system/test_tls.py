"""TLS with independent peers: curl, Node and OpenSSL as clients, nginx as a server."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent.subprocess
import pytest
import trustme

from geventnode import https, tls
from geventnode.errors import CertificateError, IncompleteBody
from tests.certificates import Certificates
from tests.https_sites import Secure
from tests.system.running import PATIENCE, Served, nginx_with, run, tool

SIZE = 3_000_000


@pytest.fixture(scope='module')
def served(certificates: Certificates) -> Iterator[Served]:
    refusals = r'(.+ INFO 127\.0\.0\.1: the TLS handshake failed: .+\n)*'
    with Served('handlers:listener', '--certfile', certificates.server, errors=refusals) as served:
        yield served


# -- clients ----------------------------------------------------------------------------------------------------------


def curl(certificates: Certificates, *arguments: object) -> str:
    return run('curl', '--silent', '--show-error', '--max-time', PATIENCE, '--cacert', certificates.ca, *arguments)


def test_printed_url_is_https(served: Served) -> None:
    assert re.fullmatch(r'https://127\.0\.0\.1:\d+', served.url)


@pytest.mark.parametrize('version', ['1.2', '1.3'])
def test_curl_verifies_the_server(served: Served, certificates: Certificates, version: str) -> None:
    answer = curl(certificates, f'--tlsv{version}', '--tls-max', version, '--include', f'{served.url}/some?thing=1')
    head, _, body = answer.partition('\n\n')
    assert head.startswith('HTTP/1.1 200 OK\n')
    assert body == 'GET /some?thing=1 HTTP/1.1'


def test_curl_reuses_the_connection(served: Served, certificates: Certificates) -> None:
    output = curl(certificates, '--write-out', '%{num_connects} ', f'{served.url}/1', f'{served.url}/2')
    assert output == 'GET /1 HTTP/1.11 GET /2 HTTP/1.10 '


def test_curl_gets_a_close_notify(served: Served, certificates: Certificates) -> None:
    # curl fails if the end has no close_notify
    assert curl(certificates, '--http1.0', f'{served.url}/') == 'GET / HTTP/1.0'


def test_curl_refuses_an_unknown_authority(served: Served) -> None:
    ran = subprocess.run([tool('curl'), '--silent', served.url], check=False, timeout=PATIENCE)
    assert ran.returncode == 60, 'curl: peer certificate cannot be authenticated'


NODE = """
const https = require('https'), fs = require('fs')
const [url, ca] = process.argv.slice(1)
const agent = new https.Agent({ca: fs.readFileSync(ca), keepAlive: true, maxSockets: 1})
let reused = 0
function next(left) {
  const request = https.get(url + '/' + left, {agent}, response => {
    let body = ''
    const socket = response.socket  // response.socket is null once the agent has it back
    response.on('data', chunk => body += chunk).on('end', () => {
      if (request.reusedSocket) reused += 1
      if (body !== `GET /${left} HTTP/1.1`) throw new Error(body)
      if (left) setImmediate(next, left - 1)
      else { console.log(socket.getProtocol(), socket.authorized, reused); agent.destroy() }
    })
  })
}
next(9)
"""


def test_node_reuses_the_connection(served: Served, certificates: Certificates) -> None:
    assert run('node', '-e', NODE, served.url, certificates.ca) == 'TLSv1.3 true 9\n'


UNVERIFIED = """
const tls = require('tls'), fs = require('fs')
const [port, ca, host] = process.argv.slice(1)
const options = {port, host: '127.0.0.1', rejectUnauthorized: false}
if (ca) options.ca = fs.readFileSync(ca)
if (host) options.servername = host
const socket = tls.connect(options, () => {
  console.log(socket.authorized, String(socket.authorizationError))
  socket.destroy()
})
"""


@pytest.mark.parametrize(
    ('which', 'trusting'),
    [
        ('server', True),
        ('other', True),
        ('expired', True),
        ('self_signed', True),
        ('server', False),
        ('self_signed', False),
    ],
)
def test_node_reports_the_same_error(secure: Secure, certificates: Certificates, which: str, trusting: bool) -> None:
    site = secure(certfile=getattr(certificates, which))
    ca = certificates.ca if trusting else ''
    ran = gevent.subprocess.run(
        [tool('node'), '-e', UNVERIFIED, str(site.where[1]), ca, 'localhost'],
        check=True,
        timeout=PATIENCE,
        capture_output=True,
    )
    with tls.connect(
        site.where[1], '127.0.0.1', servername='localhost', ca=ca or None, reject_unauthorized=False
    ) as socket:
        socket.wait_connected()
        found = f'{str(socket.authorized).lower()} {"null" if socket.authorized else socket.authorization_error}'
    # Node names the last error of several, Python the first one
    expected = (
        ran.stdout.decode().strip().replace('UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY')
    )
    assert found == expected


def s_client(served: Served, certificates: Certificates, *arguments: str, request: str = '') -> str:
    ran = subprocess.run(
        [
            tool('openssl'),
            's_client',
            '-connect',
            served.url.removeprefix('https://'),
            '-CAfile',
            certificates.ca,
            '-servername',
            'localhost',
            '-verify_return_error',
            *arguments,
        ],
        check=False,
        input=request,
        text=True,
        timeout=PATIENCE,
        capture_output=True,
    )
    return ran.stdout + ran.stderr


def test_openssl_makes_a_request(served: Served, certificates: Certificates) -> None:
    output = s_client(
        served,
        certificates,
        '-quiet',
        '-no_ign_eof',
        '-ign_eof',
        request='GET /openssl HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    )
    assert 'HTTP/1.1 200 OK' in output
    assert 'GET /openssl HTTP/1.1' in output


@pytest.mark.parametrize('version', ['-tls1', '-tls1_1'])
def test_openssl_with_an_old_version_is_refused(served: Served, certificates: Certificates, version: str) -> None:
    assert re.search(
        'alert protocol version|no protocols available',
        s_client(served, certificates, version, '-cipher', 'ALL@SECLEVEL=0'),
    )


def test_openssl_resumes(served: Served, certificates: Certificates, tmp_path: Path) -> None:
    request = 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    session = str(tmp_path / 'session')
    assert 'New, TLSv1.3' in s_client(served, certificates, '-ign_eof', '-sess_out', session, request=request)
    assert 'Reused, TLSv1.3' in s_client(served, certificates, '-ign_eof', '-sess_in', session, request=request)


@pytest.mark.parametrize('version', ['-tls1_2', '-tls1_3'])
def test_openssl_client_certificates_depend_on_the_name(
    secure: Secure, certificates: Certificates, tmp_path: Path, version: str
) -> None:
    site = secure(
        sni_contexts={
            'a.example': {
                'certfile': certificates.other,
                'request_cert': True,
                'ca': certificates.ca,
                'minimum_version': version.replace('-tls1_', 'TLSv1.'),
            }
        }
    )

    def ask(servername: str, *arguments: str, host: str = '') -> str:
        ran = gevent.subprocess.run(
            [
                tool('openssl'),
                's_client',
                '-connect',
                f'127.0.0.1:{site.where[1]}',
                '-CAfile',
                certificates.ca,
                '-servername',
                servername,
                '-ign_eof',
                *arguments,
            ],
            check=False,
            timeout=PATIENCE,
            capture_output=True,
            input=f'GET / HTTP/1.1\r\nHost: {host or servername}\r\nConnection: close\r\n\r\n'.encode(),
        )
        return (ran.stdout + ran.stderr).decode(errors='replace')

    shown = '-cert', certificates.client, '-key', certificates.client
    session = str(tmp_path / 'session')
    assert 'HTTP/1.1 200 OK' in ask('a.example', version, *shown)
    assert 'HTTP/1.1 200 OK' in ask('localhost', version, '-sess_out', session)
    refused = 'alert (handshake failure|certificate required)'
    assert re.search(refused, ask('a.example', version))
    assert re.search(refused, ask('a.example', version, '-sess_in', session))
    assert 'HTTP/1.1 421 Misdirected Request' in ask('localhost', version, host='a.example')
    # the minimum version depends on the name
    assert 'HTTP/1.1 200 OK' in ask('localhost', '-tls1_2')
    assert ('HTTP/1.1 200 OK' in ask('a.example', '-tls1_2', *shown)) is (version == '-tls1_2')


def test_renewed_certificate_is_used(certificates: Certificates, tmp_path: Path) -> None:
    path = tmp_path / 'site.pem'
    shutil.copy(certificates.expired, path)
    with Served('handlers:listener', '--certfile', path) as served:
        shown = ssl.get_server_certificate(('127.0.0.1', served.port), timeout=PATIENCE)
        assert shown in Path(certificates.expired).read_text()
        shutil.copy(certificates.server, path)
        assert curl(certificates, f'{served.url}/') == 'GET / HTTP/1.1'


# -- the command's own client -----------------------------------------------------------------------------------------


def test_get_verifies_the_server(served: Served, certificates: Certificates) -> None:
    assert (
        run(sys.executable, '-m', 'geventnode', 'get', '--cacert', certificates.ca, f'{served.url}/get')
        == 'GET /get HTTP/1.1'
    )
    assert run(sys.executable, '-m', 'geventnode', 'get', '--insecure', f'{served.url}/get') == 'GET /get HTTP/1.1'


def test_get_reports_a_refused_certificate(served: Served) -> None:
    ran = subprocess.run(
        [sys.executable, '-m', 'geventnode', 'get', served.url],
        check=False,
        text=True,
        timeout=PATIENCE,
        capture_output=True,
    )
    assert (ran.returncode, ran.stdout) == (1, '')
    assert re.fullmatch(r'geventnode: certificate of the peer refused: .+\n', ran.stderr)


# -- nginx ------------------------------------------------------------------------------------------------------------

SERVER = """
    keepalive_requests 1000;
    server {{
        listen unix:{directory}/socket ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        root {directory};
        location /hello {{ return 200 "hello world"; }}
        location /slow/ {{ alias {directory}/; limit_rate 100k; }}
    }}
"""


def test_nginx_is_read(certificates: Certificates, tmp_path: Path) -> None:
    data = bytes(range(250)) * (SIZE // 250)
    (tmp_path / 'file').write_bytes(data)
    rest = SERVER.format(certificate=certificates.server, directory=tmp_path)
    with nginx_with(tmp_path, rest) as process, https.Agent(ca=certificates.ca, keep_alive=True) as agent:
        options = {'socket_path': str(tmp_path / 'socket'), 'agent': agent}
        requests = [https.get(path='/hello', **options) for _ in range(100)]
        assert {request.get_response().read() for request in requests} == {b'hello world'}
        assert agent.statistics()['opened'] == 5
        assert https.get(path='/file', **options).get_response().read() == data
        slow = https.get(path='/slow/file', **options).get_response()
        slow.read(1000)
        process.kill()
        with pytest.raises(IncompleteBody):
            slow.read()


VERIFYING = """
    server {{
        listen unix:{directory}/socket ssl;
        server_name localhost;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_client_certificate {directory}/ca.pem;
        ssl_verify_client on;
        location / {{ return 200 "$ssl_server_name $http_host $ssl_client_s_dn"; }}
    }}
"""


def test_nginx_verifies_the_client(tmp_path: Path) -> None:
    """nginx sees the name without the root's dot, and a renewed certificate on the next connection."""
    authority = trustme.CA()
    (tmp_path / 'ca.pem').write_bytes(authority.cert_pem.bytes())
    server, client = tmp_path / 'server.pem', tmp_path / 'client.pem'
    server.write_bytes(authority.issue_cert('localhost').private_key_and_cert_chain_pem.bytes())

    def renew(name: str) -> None:
        made = authority.issue_cert('client@example.org', common_name=name)
        client.with_suffix('.new').write_bytes(made.private_key_and_cert_chain_pem.bytes())
        client.with_suffix('.new').rename(client)

    renew('first')
    options = {'socket_path': str(tmp_path / 'socket'), 'ca': tmp_path / 'ca.pem', 'host': 'localhost.'}
    with nginx_with(tmp_path, VERIFYING.format(certificate=server, directory=tmp_path)), https.Agent() as agent:

        def ask(**more: Any) -> str:
            return https.get(agent=agent, **options, **more).get_response().read().decode()

        assert '400 No required SSL certificate was sent' in ask()
        assert re.fullmatch('localhost localhost. CN=first,.*', ask(certfile=client))
        renew('second')
        # the session of the first certificate is not resumed
        assert [re.search('CN=(.*?),', ask(certfile=client))[1] for _ in range(2)] == ['second'] * 2


@pytest.mark.parametrize(
    ('which', 'message'),
    [
        ('expired', 'certificate has expired'),
        ('self_signed', 'self.signed certificate'),
        ('other', "not valid for 'localhost'"),
    ],
)
def test_certificate_of_nginx_is_refused(certificates: Certificates, tmp_path: Path, which: str, message: str) -> None:
    rest = SERVER.format(certificate=getattr(certificates, which), directory=tmp_path)
    with nginx_with(tmp_path, rest), pytest.raises(CertificateError, match=message):
        https.get(socket_path=str(tmp_path / 'socket'), ca=certificates.ca).get_response()
