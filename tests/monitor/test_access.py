"""The clients that the monitor allows and denies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geventnode.errors import InvalidInput
from geventnode.monitor import Monitor, sampler
from tests.monitors import answer, monitored
from tests.servers import Serve


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the interval between snapshots."""
    monkeypatch.setattr(sampler, 'INTERVAL', 0.01)


@pytest.mark.parametrize(
    ('host', 'field'),
    [
        ('localhost:8000', 'X-Other: 1'),
        ('localhost.:8000', 'X-Other: 1'),
        ('127.0.0.1', 'X-Other: 1'),
        ('[::1]:80', 'X-Other: 1'),
        ('LOCALHOST', 'Sec-Fetch-Site: same-origin'),
        ('localhost', 'Sec-Fetch-Site: none'),
    ],
)
@pytest.mark.parametrize('url', ['/monitor', '/monitor?state'])
def test_allowed_clients(serve: Serve, url: str, host: str, field: str) -> None:
    assert answer(serve(monitored()), url, field, host=host).status == 200


@pytest.mark.parametrize(
    ('host', 'field'),
    [
        ('example.com', 'X-Other: 1'),
        ('localhost.example.com', 'X-Other: 1'),
        ('192.0.2.1', 'X-Other: 1'),
        ('0.0.0.0', 'X-Other: 1'),
        ('localhost', 'X-Forwarded-For: 127.0.0.1'),
        ('localhost', 'Forwarded: for=127.0.0.1'),
        ('localhost', 'Via: 1.1 proxy'),
        ('localhost', 'X-Real-IP: 127.0.0.1'),
    ],
)
@pytest.mark.parametrize('url', ['/monitor', '/monitor?state', '/monitor?stream'])
def test_denied_clients(serve: Serve, url: str, host: str, field: str) -> None:
    """Also a page of another host that resolves to this machine, and clients of a proxy."""
    reply = answer(serve(monitored()), url, field, host=host)
    assert (reply.status, reply.values('Cache-Control')) == (403, ['no-store'])
    assert b'{' not in reply.body


@pytest.mark.parametrize('url', ['/monitor?state', '/monitor?stream'])
@pytest.mark.parametrize(
    'field', ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Site: same-site', 'Origin: http://evil.example', 'Origin: null']
)
def test_pages_of_other_sites_are_denied(serve: Serve, url: str, field: str) -> None:
    """They could not read the response, and must not count as watchers."""
    assert answer(serve(monitored()), url, field).status == 403
    assert answer(serve(monitored()), '/monitor', field).status == 200


@pytest.mark.parametrize(
    ('clients', 'status'),
    [(('127.0.0.1',), 200), (('0.0.0.0/0',), 200), ('127.0.0.0/8', 200), (('192.0.2.0/24', 'unix'), 403), ((), 403)],
)
def test_named_clients_are_allowed(serve: Serve, clients: Any, status: int) -> None:
    """For any host and with fields of proxies."""
    assert answer(serve(monitored(clients=clients)), '/monitor', 'Via: 1.1 x', host='example.com').status == status


def test_invalid_clients_are_refused() -> None:
    with pytest.raises(InvalidInput, match='clients'):
        Monitor(clients=['localhost'])


@pytest.mark.parametrize(('clients', 'status'), [(None, 403), (['unix'], 200)])
def test_unix_sockets_are_denied_by_default(serve: Serve, tmp_path: Path, clients: Any, status: int) -> None:
    """The client is usually a proxy."""
    server = monitored(clients=clients).listen(path=str(tmp_path / 'socket'))
    assert answer(serve(server), '/monitor').status == status


def test_clients_that_a_trusted_proxy_reports(serve: Serve) -> None:
    server = monitored(clients=['192.0.2.1'])
    server.trusted_proxies, server.forwarded_headers = ['127.0.0.1'], ['x-forwarded-for']
    site = serve(server)
    assert answer(site, '/monitor', 'X-Forwarded-For: 192.0.2.1').status == 200
    assert answer(site, '/monitor', 'X-Forwarded-For: 192.0.2.2').status == 403
