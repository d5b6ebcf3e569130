"""The commands of the documentation: each server is started, requested and stopped.

The applications have the names of the pages, and the kernel chooses the ports. Packages to install are compared with
the metadata. ``tests/system/test_start.py`` follows the first page.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.code_blocks import BLOCKS, ROOT
from tests.needed import need
from tests.system.gunicorns import WORKER
from tests.system.running import PATIENCE, Served, start

APPLICATION = """
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'hello']


def listener(request, response):
    response.end('hello')
"""
COMMANDS = [
    (block.where, line.removeprefix('$ ').partition('  #')[0])
    for block in BLOCKS
    if block.language == 'console' and block.reason is None and block.page != 'docs/start.rst'
    for line in block.source.splitlines()
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of the applications of the pages."""
    for name in ('app.py', 'myapp.py'):
        (tmp_path / name).write_text(APPLICATION)
    return tmp_path


@pytest.mark.parametrize(('where', 'command'), COMMANDS)
def test_command_works(where: str, command: str, directory: Path) -> None:
    words = shlex.split(command)
    environment = dict(word.split('=', 1) for word in words if re.match(r'[A-Z_]+=', word))
    program, *arguments = words[len(environment) :]
    if program == 'geventnode' and arguments[0] == 'serve':
        with Served(*arguments[1:], cwd=directory, env=environment) as served:
            ask(served.port)
            served.signal(signal.SIGTERM)
            _, errors = served.finish()
        assert served.process.returncode == 0
        # on a busy machine, gevent's monitor can report that imports block the loop
        assert errors == '' or 'GEVENT_MONITOR_THREAD_ENABLE' in environment
    elif program == 'gunicorn':
        serve_with_gunicorn(arguments, directory)
    elif (program, *arguments[:1]) == ('pip', 'install'):
        wanted = re.fullmatch(r'geventnode(?:\[([\w,]+)\])?', arguments[1])
        assert wanted, command
        offered = re.findall(r"^        '(\w+)': \[", (ROOT / 'setup.py').read_text('utf-8'), re.MULTILINE)
        assert set((wanted[1] or 'test').split(',')) <= set(offered)
    else:
        pytest.fail(f'{where}: this test cannot run {command!r}')


def ask(port: int) -> None:
    """Request a page."""
    with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
        client.request('GET', '/')
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b'hello')


def serve_with_gunicorn(arguments: list[str], directory: Path) -> None:
    """Start gunicorn, request a page, and stop it."""
    need('gunicorn')
    gunicorn = start(
        'gunicorn',
        ['--bind', '127.0.0.1:0', *arguments],
        cwd=directory,
        env={'HOME': str(directory)},
        stderr=subprocess.STDOUT,
        forks=WORKER in arguments,
    )
    try:
        lines = []
        for line in gunicorn.stdout:
            lines.append(line)
            found = re.search(r'Listening at: http://127\.0\.0\.1:(\d+)', line)
            if found:
                break
        else:
            pytest.fail(''.join(lines))
        ask(int(found[1]))
    finally:
        gunicorn.terminate()
        gunicorn.communicate(timeout=PATIENCE)
    assert gunicorn.returncode == 0
