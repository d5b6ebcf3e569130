"""Chunked request bodies in frameworks that read nothing without a length, or would decode it again."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needed import need
from tests.servers import Client, get
from tests.system.frameworks import WAYS
from tests.system.running import run

need('bottle', 'cherrypy', 'django', 'dulwich', 'falcon', 'flask', 'pyramid')


@pytest.fixture(scope='module', params=list(WAYS))
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the application in each way, with an empty repository."""
    directory = tmp_path_factory.mktemp(request.param)
    repository = directory / 'repository'
    run('git', 'init', '--quiet', '--bare', repository)
    env = {'REPOSITORY': str(repository)}
    with WAYS[request.param]('many_frameworks:application', directory, env) as served:
        yield served.port


@pytest.mark.parametrize('size', [0, 1_000, 3_000_000])
@pytest.mark.parametrize('kind', ['raw', 'form'])
@pytest.mark.parametrize('name', ['bottle', 'cherrypy', 'django', 'falcon', 'flask', 'pyramid'])
def test_a_chunked_body(port: int, name: str, kind: str, size: int) -> None:
    """It arrives complete, and the connection is kept."""
    value = b'0123456789' * (size // 10)
    body = b'value=' + value if kind == 'form' else value
    media_type = 'application/x-www-form-urlencoded' if kind == 'form' else 'application/octet-stream'
    pieces = [body[place : place + 50_000] for place in range(0, len(body), 50_000)]
    chunks = b''.join(b'%x\r\n%b\r\n' % (len(piece), piece) for piece in pieces) + b'0\r\n\r\n'
    request = get(f'/{name}/{kind}', 'Transfer-Encoding: chunked', f'Content-Type: {media_type}', method='POST')
    client = Client(('127.0.0.1', port))
    for _ in range(2):
        reply = client.send(request, chunks).response()
        assert (reply.status, reply.body.decode()) == (200, f'{size} {hashlib.sha256(value).hexdigest()}')
    client.close()


def test_git_push(port: int, tmp_path: Path) -> None:
    """git sends bodies over its buffer size in chunks; dulwich receives them."""
    work, clone = tmp_path / 'work', tmp_path / 'clone'
    url, branch = f'http://127.0.0.1:{port}/dulwich/', f'branch-{port}'
    content = hashlib.shake_256(b'seed').digest(3_000_000)

    def git(*arguments: object) -> None:
        subprocess.run(
            ['git', '-c', 'user.name=a', '-c', 'user.email=a@example.org', '-C', work, *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
        )

    run('git', 'init', '--quiet', '--initial-branch', branch, work)
    (work / 'large').write_bytes(content)
    git('add', 'large')
    git('commit', '--quiet', '--message', 'large')
    git('push', '--quiet', url, branch)
    run('git', 'clone', '--quiet', '--branch', branch, url, clone)
    assert (clone / 'large').read_bytes() == content
