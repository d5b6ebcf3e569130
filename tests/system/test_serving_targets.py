"""Targets that start a server while they are imported: the command refuses them instead of blocking."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needed import need
from tests.servers import Client
from tests.system.running import APPS, PATIENCE, PYTHONPATH, Served, run_program

need('flask')

#: The number of the last line of the file, which starts the server.
LINE = len((APPS / 'serving.py').read_text().splitlines())

HOW = ['geventnode', 'pywsgi', 'flask', 'flask-debug', 'wsgiref']


@pytest.mark.parametrize('how', HOW)
@pytest.mark.parametrize('command', ['serve', 'doctor'])
@pytest.mark.parametrize('target', ['serving.py', 'serving:listener'])
def test_file_that_serves_is_refused(command: str, how: str, target: str) -> None:
    """The message is one line with the place and a remedy."""
    status, _, errors = run_program(f'geventnode {command}', [command, target], env={'SERVES': how})
    line = errors.splitlines()[-1]
    assert status == 2
    assert 'Traceback' not in errors
    assert line == (
        f"geventnode: {target!r} starts a server itself while it is imported (serving.py, line {LINE}); "
        "run it with 'python serving.py', or put that line under if __name__ == '__main__':"
    )


def test_libraries_of_the_target_are_not_imported_for_it(tmp_path: Path) -> None:
    """Werkzeug is only watched for: a target that needs it finds it as it is without the command."""
    (tmp_path / 'site_.py').write_text(WATCHED)
    with Served('site_:listener', cwd=tmp_path) as served, Client(('127.0.0.1', served.port)) as client:
        assert json.loads(client.get('/').body) == [False, True, 'SourceFileLoader', 'SourceFileLoader', 'run_simple']


#: Whether Werkzeug was imported before and after its import, its loaders, and its function that serves.
WATCHED = """
import json
import sys

found = ['werkzeug' in sys.modules]
from werkzeug import serving
found += ['werkzeug' in sys.modules, type(serving.__loader__).__name__, type(serving.__spec__.loader).__name__]


def listener(request, response):
    response.end(json.dumps([*found, serving.run_simple.__name__]))
"""


def test_server_in_a_thread_is_allowed() -> None:
    """Such a server, for example one of metrics, is allowed, because it does not block."""
    with Served('serving.py', env={'SERVES': 'thread'}) as served:
        assert served.port


@pytest.mark.parametrize('command', ['serve', 'doctor'])
def test_interrupted_import_is_reported(command: str) -> None:
    """The message has the place, and there is no traceback."""
    with subprocess.Popen(
        [sys.executable, '-m', 'geventnode', command, 'serving.py'],
        cwd=APPS,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH, 'SERVES': 'waiting'},
    ) as process:
        assert process.stdout.readline() == 'waiting\n'
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT
    assert 'Traceback' not in errors
    line = errors.splitlines()[-1]
    assert line == f"geventnode: interrupted while 'serving.py' was being imported (serving.py, line {LINE})"


@pytest.mark.parametrize('command', ['serve', 'doctor'])
@pytest.mark.parametrize(('call', 'status'), [('sys.exit()', 0), ('sys.exit(3)', 3)])
def test_target_that_ends_the_process_is_reported(tmp_path: Path, command: str, call: str, status: int) -> None:
    """The server would otherwise end without a reason."""
    (tmp_path / 'ending.py').write_text(f'import sys\n{call}\n')
    ended, _, errors = run_program(f'geventnode {command}', [command, 'ending.py'], cwd=tmp_path)
    assert ended == status
    assert errors == f"geventnode: 'ending.py' called {call} while it was being imported (ending.py, line 2)\n"


def test_import_interrupted_in_the_import_system_is_reported() -> None:
    """The message names the file, not the import system, in which Ctrl+C can be pressed, too."""
    _, _, errors = run_program('geventnode serve', ['serve', 'serving.py'], env={'SERVES': 'finding'})
    line = errors.splitlines()[-1]
    assert line == f"geventnode: interrupted while 'serving.py' was being imported (serving.py, line {LINE})"


@pytest.mark.parametrize('command', ['serve', 'doctor'])
def test_slow_import_is_reported(command: str) -> None:
    """A line on standard error reports it while it continues."""
    program = (
        'import sys; import geventnode.cli.targets as targets; targets.SLOW_IMPORT = 0.1; '
        f'from geventnode.cli.main import main; sys.exit(main([{command!r}, "serving.py"]))'
    )
    with subprocess.Popen(
        [sys.executable, '-c', program],
        cwd=APPS,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH, 'SERVES': 'waiting'},
    ) as process:
        line = process.stderr.readline()
        process.kill()
    assert line == (
        "geventnode: 'serving.py' is still being imported; if it starts a server itself, run it with "
        "'python serving.py'\n"
    )
