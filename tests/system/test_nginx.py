"""``geventnode serve`` behind nginx with kept connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running import Served, nginx_with, run, tool

BACKEND = """
    client_max_body_size 0;
    upstream geventnode {{
        server 127.0.0.1:{port};
        keepalive 4;
    }}
    server {{
        listen unix:{directory}/nginx;
        location / {{
            proxy_pass http://geventnode;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
        }}
    }}
"""


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Path]:
    """The socket of an nginx before a server."""
    tool('nginx')
    with (
        Served('handlers:listener') as served,
        nginx_with(tmp_path, BACKEND.format(directory=tmp_path, port=served.port)),
    ):
        yield tmp_path / 'nginx'


def test_behind_nginx(front: Path, tmp_path: Path) -> None:
    """Two hundred requests share the connections, and a large body is forwarded without buffering."""
    ports = run('curl', '--silent', '--fail', '--unix-socket', front, 'http://localhost/port?[1-200]').split()
    assert len(ports) == 200
    assert len(set(ports)) <= 4
    large = tmp_path / 'large'
    with large.open('wb') as file:
        file.truncate(20_000_000)
    for options in (['--data-binary', f'@{large}'], ['-T', large, '-X', 'POST', '-H', 'Transfer-Encoding: chunked']):
        counted = run('curl', '--silent', '--fail', '--unix-socket', front, *options, 'http://localhost/count')
        assert counted == '20000000'
