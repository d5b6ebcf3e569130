"""``geventnode serve`` behind HAProxy and nginx, which report a client at another address.

The proxies listen on a Unix socket and expect a PROXY header, in which the test names the client.
"""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest

from tests.proxies import V1
from tests.system.running import PATIENCE, Served, haproxy_with, nginx_with, tool

HAPROXY = """
defaults
    mode {mode}
    timeout connect 60s
    timeout client 60s
    timeout server 60s
frontend front
    bind {{front}} accept-proxy
    default_backend back
backend back
    {rules}
    server one 127.0.0.1:{port} {sends}
"""

#: The fields that a proxy sets, in addition to X-Forwarded-For.
RULES = """
    option forwardfor
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
"""

NGINX = """
    server {{
        listen unix:{directory}/front proxy_protocol;
        set_real_ip_from unix:;
        real_ip_header proxy_protocol;
        location / {{
            proxy_pass http://127.0.0.1:{port};
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
"""

#: Forged fields of the client.
FORGED = (
    b'X-Forwarded-For: 6.6.6.6, 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n'
    b'Forwarded: for=6.6.6.6;proto=https;host=evil\r\nForwarded: for="\r\n'
)


def haproxy(
    directory: Path, port: int, mode: str = 'http', rules: str = '', sends: str = ''
) -> contextlib.AbstractContextManager[object]:
    """Run an HAProxy before the server at ``port``."""
    return haproxy_with(directory, HAPROXY.format(port=port, mode=mode, rules=rules, sends=sends))


def ask(directory: Path, *fields: bytes, client: bytes = V1) -> str:
    """Return the response of the server behind the proxy to ``client``, a PROXY header."""
    request = b''.join((b'GET / HTTP/1.1\r\nHost: www.example:81\r\nConnection: close\r\n', *fields, b'\r\n'))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(directory / 'front'))
        connection.sendall(client + request)
        received = b''.join(iter(lambda: connection.recv(65536), b''))
    head, _, body = received.partition(b'\r\n\r\n')
    assert head.startswith(b'HTTP/1.1 200 OK'), received
    # an old proxy could chunk it
    assert b'transfer-encoding' not in head.lower()
    return body.decode().strip()


@pytest.mark.parametrize(
    ('mode', 'sends'),
    [
        ('tcp', 'send-proxy'),
        ('tcp', 'send-proxy-v2'),
        ('tcp', 'send-proxy-v2-ssl-cn'),
        ('http', 'send-proxy-v2'),
        ('http', 'send-proxy-v2 proxy-v2-options crc32c,unique-id,authority'),
    ],
)
def test_haproxy_forwards_connections(tmp_path: Path, mode: str, sends: str) -> None:
    """Both versions of the header; the client's own fields have no effect."""
    with Served('proxied:by_connection') as served, haproxy(tmp_path, served.port, mode, sends=sends):
        assert ask(tmp_path) == '1.2.3.4 http www.example:81 127.0.0.1'
        assert ask(tmp_path, FORGED) == '1.2.3.4 http www.example:81 127.0.0.1'
        six = b'PROXY TCP6 2001:db8::1 ::2 1000 443\r\n'
        assert ask(tmp_path, client=six) == '2001:db8::1 http www.example:81 127.0.0.1'
        # for HAProxy this is its own connection, from a Unix socket
        assert ask(tmp_path, client=b'PROXY UNKNOWN\r\n') == '127.0.0.1 http www.example:81 None'


def test_haproxy_forwards_requests(tmp_path: Path) -> None:
    with Served('proxied:by_fields', access_log=True) as served:
        with haproxy(tmp_path, served.port, rules=RULES):
            assert ask(tmp_path) == '1.2.3.4 http www.example:81 None'
            assert ask(tmp_path, FORGED) == '1.2.3.4 http www.example:81 None'
        assert [served.next_line().partition(' - - [')[0] for _ in range(2)] == ['1.2.3.4', '1.2.3.4']


def test_health_checks_of_haproxy(tmp_path: Path) -> None:
    """They have a header without a client (LOCAL), and HAProxy is the client."""
    with Served('proxied:by_connection', access_log=True) as served:
        with haproxy(
            tmp_path,
            served.port,
            rules='option httpchk GET /health',
            sends='send-proxy-v2 check check-send-proxy inter 100ms',
        ):
            assert re.match(r'127\.0\.0\.1 - - \[.+\] "GET /health HTTP/1\.0" 200 ', served.next_line())
            assert ask(tmp_path) == '1.2.3.4 http www.example:81 127.0.0.1'


def test_nginx_forwards_requests(tmp_path: Path) -> None:
    tool('nginx')
    with (
        Served('proxied:by_fields') as served,
        nginx_with(tmp_path, NGINX.format(directory=tmp_path, port=served.port)),
    ):
        assert ask(tmp_path) == '1.2.3.4 http www.example:81 None'
        assert ask(tmp_path, FORGED) == '1.2.3.4 http www.example:81 None'


def test_options_of_the_command(tmp_path: Path) -> None:
    """The command has the options of a server for a function."""
    with Served(
        'proxied:tell',
        '--trusted-proxy',
        '10.0.0.0/8',
        '--trusted-proxy',
        '127.0.0.1',
        '--proxy-protocol',
        '--forwarded',
        'x-forwarded-for',
    ) as served:
        with haproxy(tmp_path, served.port, 'tcp', sends='send-proxy'):
            assert ask(tmp_path, FORGED) == '1.2.3.4 http www.example:81 127.0.0.1'
            inner = V1.replace(b'1.2.3.4', b'10.1.1.1')
            assert ask(tmp_path, b'X-Forwarded-For: 5.6.7.8\r\n', client=inner) == (
                '5.6.7.8 http www.example:81 127.0.0.1'
            )


def test_connection_without_a_header(tmp_path: Path) -> None:
    """A connection from a trusted address without a header gets no response."""
    refused = r'.+ INFO 127\.0\.0\.1: the connection does not begin with a PROXY header: .+\n'
    with Served('proxied:by_connection', errors=refused) as served:
        with socket.create_connection(('127.0.0.1', served.port)) as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
            assert connection.recv(1) == b''
