"""``geventnode get`` compared with curl: the same command line, request and output."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.running import APPS, PATIENCE, Served, start, tool


class Ran(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: bytes
    stderr: bytes


@pytest.fixture(scope='module')
def served() -> Iterator[Served]:
    with Served('mirror:listener') as served:
        yield served


def by_curl(*arguments: object) -> Ran:
    """Run curl."""
    command = [tool('curl'), '--silent', '--show-error', *map(str, arguments)]
    ran = subprocess.run(command, check=False, timeout=PATIENCE, capture_output=True, cwd=APPS)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def by_get(*arguments: object) -> Ran:
    """Run ``geventnode get``."""
    with tempfile.TemporaryFile() as errors:
        process = start('geventnode get', ['get', *map(str, arguments)], cwd=APPS, env={}, stderr=errors.fileno())
        with process.stdout:
            output = process.stdout.buffer.read()
        status = process.wait(PATIENCE)
        errors.seek(0)
        return Ran(status, output, errors.read())


def both(*arguments: object) -> list[Ran]:
    """Run curl and the command with the same arguments."""
    return [by_curl(*arguments), by_get(*arguments)]


def comparable(output: bytes) -> list[bytes]:
    """Return the sorted lines of a mirrored request, without fields that name the client."""
    own = re.compile(rb'user-agent: (curl|geventnode)|connection: close|date: |keep-alive: |connection: keep-alive')
    return sorted(line for line in output.splitlines() if not own.match(line.lower()))


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['-X', 'DELETE'],
        ['-d', 'a=b&c'],
        ['--data', ''],
        ['-d', 'a', '-X', 'PUT', '-H', 'Content-Type: text/plain', '-H', 'X-One: é', '-H', 'X-Two;'],
        ['-H', 'Accept:', '-H', 'User-Agent:', '-H', 'X-None:'],
        ['-H', 'accept: text/html', '-H', 'User-Agent: me'],
        ['-d', 'abc', '-H', 'Content-Type:'],
        ['-d', 'abc', '-H', 'Transfer-Encoding: chunked'],
        ['-d', 'abc', '-H', 'Expect: 100-continue'],
        ['-H', 'Host: other'],
    ],
)
def test_request_is_the_same(served: Served, arguments: list[str]) -> None:
    curl, get = both(*arguments, f'{served.url}/a/b?c=d#e')
    assert (curl.returncode, get.returncode, get.stderr) == (0, 0, b'')
    assert comparable(get.stdout) == comparable(curl.stdout)


def test_user_and_password_are_sent(served: Served) -> None:
    curl, get = both(served.url.replace('://', '://us%40er:pass:word@'))
    assert b'Authorization: Basic ' in get.stdout
    assert comparable(get.stdout) == comparable(curl.stdout)


@pytest.mark.parametrize(
    ('environment', 'arguments', 'url'),
    [
        # the mirror is also the proxy: it shows the target that it has received
        ({'http_proxy': 'PROXY'}, [], 'http://a.example:81/x?y'),
        ({'http_proxy': 'PROXY/'}, ['-d', 'body'], 'http://user:secret@a.example/'),
        ({'http_proxy': 'SITE'}, [], 'http://a.example/'),
        ({'http_proxy': 'us%FFer:p%40%3A%2Fss@SITE'}, [], 'http://us%FFer:%E4@a.example/'),
        ({'HTTP_PROXY': 'PROXY'}, [], 'http://SITE/'),
        ({'all_proxy': 'PROXY', 'ALL_PROXY': 'http://127.0.0.1:1'}, [], 'http://a.example/'),
        ({'ALL_PROXY': 'PROXY', 'http_proxy': ''}, [], 'http://a.example/'),
        ({'http_proxy': 'http://127.0.0.1:1', 'no_proxy': 'a.example, 127.0.0.1'}, [], 'http://SITE/'),
        ({'http_proxy': 'http://127.0.0.1:1', 'no_proxy': '', 'NO_PROXY': '127.0.0.0/8'}, [], 'http://SITE/'),
        ({'http_proxy': 'http://127.0.0.1:1', 'NO_PROXY': '*'}, [], 'http://SITE/'),
        ({'http_proxy': 'PROXY', 'no_proxy': '.example'}, ['--noproxy', 'b.example'], 'http://a.example/'),
        ({'http_proxy': 'PROXY', 'no_proxy': 'a.example'}, ['--noproxy', ''], 'http://a.example/'),
        ({'http_proxy': 'PROXY', 'no_proxy': 'xa.example,a.example.org'}, [], 'http://a.example/'),
        ({'http_proxy': 'http://127.0.0.1:1', 'no_proxy': 'LOCALHOST'}, [], 'http://localhost:PORT/'),
        ({'http_proxy': 'http://127.0.0.1:1', 'no_proxy': 'localhost.'}, [], 'http://localhost:PORT/'),
        ({'no_proxy': '127.0.0.1'}, ['-x', 'http://127.0.0.1:1'], 'http://SITE/'),
        ({'http_proxy': 'http://127.0.0.1:1'}, ['-x', 'PROXY'], 'http://a.example/'),
        ({'http_proxy': 'http://127.0.0.1:1', 'no_proxy': '*'}, ['-x', ''], 'http://SITE/'),
        ({'no_proxy': '192.168.*'}, [], 'http://SITE/'),
    ],
)
def test_proxies_are_the_same(
    served: Served, environment: dict[str, str], arguments: list[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def filled(text: str) -> str:
        host = f'127.0.0.1:{served.port}'
        return text.replace('PROXY', f'http://{host}').replace('SITE', host).replace('PORT', str(served.port))

    for name in [name for name in os.environ if name.lower().endswith('_proxy')]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, filled(value))
    curl, get = both(*map(filled, arguments), filled(url))
    assert (curl.returncode, get.returncode, get.stderr) == (0, 0, b'')
    own = b'proxy-connection:'
    assert comparable(get.stdout) == [line for line in comparable(curl.stdout) if not line.lower().startswith(own)]


def test_file_is_sent(served: Served, tmp_path: Path) -> None:
    (tmp_path / 'data').write_text('one line')
    curl, get = both('-d', f'@{tmp_path}/data', f'{served.url}/')
    assert comparable(get.stdout) == comparable(curl.stdout)


@pytest.mark.parametrize('arguments', [['--include'], ['--fail', '--include'], ['--fail']])
@pytest.mark.parametrize('status', [200, 302, 404, 500])
def test_output_is_the_same(served: Served, arguments: list[str], status: int) -> None:
    # so that the mirrored requests have the same length
    curl, get = both(*arguments, '-H', 'User-Agent: any', '-H', 'Connection: close', f'{served.url}/status?{status}')
    assert get.returncode == curl.returncode
    assert comparable(get.stdout) == comparable(curl.stdout)
    assert get.stderr.count(b'\n') == curl.stderr.count(b'\n')


def test_trailers_are_the_same(served: Served) -> None:
    """Trailers are written only with --include."""
    curl, get = both('--include', '-H', 'Connection: close', f'{served.url}/trailers')
    assert get.stdout.endswith(b'\r\n\r\nbodyX-Sum: 4\r\nX-Last: yes\r\n')
    assert comparable(get.stdout) == comparable(curl.stdout)
    assert [ran.stdout for ran in both(f'{served.url}/trailers')] == [b'body', b'body']


def test_file_is_written(served: Served, tmp_path: Path) -> None:
    curl, get = both('-o', tmp_path / 'file', f'{served.url}/')
    assert (curl.stdout, get.stdout, get.stderr) == (b'', b'', b'')
    assert (tmp_path / 'file').read_bytes().startswith(b'GET / HTTP/1.1')
