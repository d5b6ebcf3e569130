"""Clients with the wrong protocol: their responses, and the lines for the operator."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.servers import Client, get
from tests.system.running import PATIENCE, Served, tool


def curl(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool('curl'), '--silent', '--show-error', '--max-time', str(PATIENCE), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize('method', ['GET', 'DELETE'])
def test_plain_http_to_a_tls_port_is_refused(certificates: Certificates, method: str) -> None:
    with Served('handlers:listener', '--certfile', certificates.server) as served:
        ran = curl('-X', method, '--write-out', '%{http_code}', served.url.replace('https:', 'http:'))
        assert ran.stdout == '400 Bad Request\nPlain HTTP was sent to a port that speaks TLS: use https.\n400'
        served.process.terminate()
        _, errors = served.finish()
    (line,) = errors.splitlines()
    assert line.endswith(' INFO 127.0.0.1: plain HTTP on a TLS port (its URL begins with https, not http)')


def test_refusals_are_logged() -> None:
    """Each refusal is one line: of curl with TLS, and of invalid requests."""
    with Served('handlers:listener') as served:
        assert curl(served.url.replace('http:', 'https:')).returncode == 35
        for data in (b'nonsense\r\n\r\n', b'GET / HTTP/1.1\r\n\r\n', get('/', 'Cookie: ' + 'x' * 17_000)):
            client = Client(('127.0.0.1', served.port))
            client.send(data).rest()
            client.close()
        served.process.terminate()
        _, errors = served.finish()
    reasons = [line.partition(' INFO 127.0.0.1: ')[2] for line in errors.splitlines()]
    assert [line.partition(':')[0] for line in reasons] == [
        'TLS on a plain HTTP port (its URL begins with http, not https)',
        'request line is not a method, a target and a version',
        'HTTP/1.1 request without Host',
        'header section longer than max_header_size (16384 bytes)',
    ]
