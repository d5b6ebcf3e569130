"""``geventnode get`` beside curl: the same command line, the same request, the same output."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running import APPS, PATIENCE, Served, tool

ROOT = APPS.parent.parent.parent


@pytest.fixture(scope='module')
def served() -> Iterator[Served]:
    with Served('mirror:listener') as served:
        yield served


def both(*arguments: object, **options: object) -> list[subprocess.CompletedProcess[bytes]]:
    """Run curl and the command with the same arguments."""
    commands = [[tool('curl'), '--silent', '--show-error'], [sys.executable, '-m', 'geventnode', 'get']]
    return [
        subprocess.run(
            [*command, *map(str, arguments)], check=False, timeout=PATIENCE, capture_output=True, cwd=ROOT, **options
        )
        for command in commands
    ]


def comparable(output: bytes) -> list[bytes]:
    """Return the lines of a mirrored request in any order, without what each client says of itself."""
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
def test_the_same_request(served: Served, arguments: list[str]) -> None:
    theirs, ours = both(*arguments, f'{served.url}/a/b?c=d#e')
    assert (theirs.returncode, ours.returncode, ours.stderr) == (0, 0, b'')
    assert comparable(ours.stdout) == comparable(theirs.stdout)


def test_user_and_password(served: Served) -> None:
    theirs, ours = both(served.url.replace('://', '://us%40er:pass:word@'))
    assert b'Authorization: Basic ' in ours.stdout
    assert comparable(ours.stdout) == comparable(theirs.stdout)


def test_a_file_is_sent(served: Served, tmp_path: Path) -> None:
    (tmp_path / 'data').write_text('one line')
    theirs, ours = both('-d', f'@{tmp_path}/data', f'{served.url}/')
    assert comparable(ours.stdout) == comparable(theirs.stdout)


@pytest.mark.parametrize('arguments', [['--include'], ['--fail', '--include'], ['--fail']])
@pytest.mark.parametrize('status', [200, 302, 404, 500])
def test_the_same_output(served: Served, arguments: list[str], status: int) -> None:
    # so that the mirrored requests have one length
    theirs, ours = both(*arguments, '-H', 'User-Agent: any', '-H', 'Connection: close', f'{served.url}/status?{status}')
    assert ours.returncode == theirs.returncode
    assert comparable(ours.stdout) == comparable(theirs.stdout)
    assert ours.stderr.count(b'\n') == theirs.stderr.count(b'\n')


def test_the_same_trailers(served: Served) -> None:
    """And to standard output only."""
    theirs, ours = both('--include', '-H', 'Connection: close', f'{served.url}/trailers')
    assert ours.stdout.endswith(b'\r\n\r\nbodyX-Sum: 4\r\nX-Last: yes\r\n')
    assert comparable(ours.stdout) == comparable(theirs.stdout)
    assert [ran.stdout for ran in both(f'{served.url}/trailers')] == [b'body', b'body']


def test_a_file_is_written(served: Served, tmp_path: Path) -> None:
    theirs, ours = both('-o', tmp_path / 'file', f'{served.url}/')
    assert (theirs.stdout, ours.stdout, ours.stderr) == (b'', b'', b'')
    assert (tmp_path / 'file').read_bytes().startswith(b'GET / HTTP/1.1')
