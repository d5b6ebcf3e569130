"""The command as a process: errors of targets and of options, and the modules that are patched before a target."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.running import PYTHONPATH, ROOT, run_program


def serve(*arguments: str) -> tuple[int, str, str]:
    """Run ``geventnode serve`` until it ends; return its status, its output and its errors."""
    return run_program('geventnode serve', ['serve', *arguments])


# -- targets ----------------------------------------------------------------------------------------------------------


def test_coroutine_function_is_refused(tmp_path: Path) -> None:
    """The message is one line with a remedy."""
    (target := tmp_path / 'target.py').write_text('async def listener(request, response): pass')
    status, output, errors = serve(str(target))
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert errors.startswith(f"geventnode: {str(target)!r}: a listener for 'request' must be a plain function")


def test_application_with_listener_option_is_refused(tmp_path: Path) -> None:
    """The application would fail at every request."""
    (target := tmp_path / 'target.py').write_text('def app(environ, start_response): pass')
    status, output, errors = serve(str(target), '--listener')
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert errors.endswith(' is a WSGI application, as the names of its parameters show; remove --listener\n')


def test_file_of_a_package_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / '__init__.py').write_text('')
    (target := tmp_path / 'target.py').write_text('from . import listener')
    status, _, errors = serve(str(target))
    assert status == 1
    assert errors.endswith(
        'geventnode: a file is loaded without its package; name its module, as in '
        'package.module:name, and run the command in the directory of the package\n'
    )


def test_bind_of_a_listening_server_is_refused(tmp_path: Path) -> None:
    target = tmp_path / 'listening.py'
    target.write_text("from geventnode import http\nserver = http.create_server().listen(0, '127.0.0.1')")
    status, _, errors = serve(str(target), '--bind', '127.0.0.1:0')
    assert status == 2
    assert errors.startswith(f'geventnode: {str(target)!r} is already listening on http://127.0.0.1:')
    assert errors.count('\n') == 1


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--monitor', 'site:app'], '--monitor: the path of a monitor must begin with a slash'),
        (['--monitor-client', '10.0.0.1'], '--monitor-client has no effect without --monitor; add it'),
        (
            ['--monitor', '--monitor-client', 'localhost'],
            "--monitor-client: 'localhost' is neither an IP address, nor",
        ),
    ],
)
def test_bad_monitor_option_is_refused(arguments: list[str], complaint: str) -> None:
    status, output, errors = serve(*arguments)
    assert (status, output, errors.count('\n')) == (2, '', 1)
    assert errors.startswith(f'geventnode: {complaint}')


# -- the process ------------------------------------------------------------------------------------------------------


def start(*arguments: str, paths: str) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter, which imports nothing for the tests."""
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        text=True,
        capture_output=True,
        env={**os.environ, 'PYTHONPATH': paths},
    )


def test_no_blocking_module_is_imported_before_patching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sockets nor threads nor TLS are imported early, so that later imports get the patched functions."""
    # coverage would measure the process, and load them for it
    monkeypatch.delenv('COVERAGE_PROCESS_CONFIG', raising=False)
    program = (
        'import sys; import geventnode.cli.main; '
        "print([each for each in ('socket', 'ssl', 'threading', 'select', 'subprocess', 'gevent') "
        'if each in sys.modules])'
    )
    ran = start('-c', program, paths=str(ROOT))
    assert (ran.stdout, ran.stderr) == ('[]\n', '')


def test_target_is_imported_after_patching(tmp_path: Path) -> None:
    target = tmp_path / 'patched.py'
    target.write_text(
        'from gevent import monkey\n'
        "modules = 'socket', 'ssl', 'threading', 'time'\n"
        'raise SystemExit(3 if all(map(monkey.is_module_patched, modules)) else 4)'
    )
    assert start('-m', 'geventnode', 'serve', str(target), paths=PYTHONPATH).returncode == 3


def test_access_log_ends_when_its_reader_closes(tmp_path: Path) -> None:
    """A closed standard output ends the access log, with one line on standard error, and nothing else."""
    target = tmp_path / 'target.py'
    target.write_text("""
import gevent, os, signal
from geventnode import http

def listener(request, response):
    response.end('hello')

def drive():
    from urllib.request import urlopen
    port = server.address()['port']
    for _ in range(3):
        assert urlopen(f'http://127.0.0.1:{port}/').read() == b'hello'
    os.kill(os.getpid(), signal.SIGTERM)

server = http.create_server(listener)
server.on('listening', drive)
""")
    program = (
        f'import os, runpy, sys; read, write = os.pipe(); os.close(read); os.dup2(write, 1); '
        f'sys.argv = ["geventnode", "serve", {str(target)!r}, "--bind", "127.0.0.1:0"]; '
        'import geventnode.cli.main; geventnode.cli.main.say = lambda *args: None; '
        'sys.exit(geventnode.cli.main.main())'
    )
    ran = start('-c', program, paths=PYTHONPATH)
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.endswith('ERROR the access log ends here: [Errno 32] Broken pipe')


def test_closed_output_is_accepted(tmp_path: Path) -> None:
    """The interpreter then has None instead of the file."""
    target = tmp_path / 'target.py'
    target.write_text(
        'import os, signal\n'
        'from geventnode import http\n'
        'server = http.create_server(print)\n'
        'server.on("listening", lambda: os.kill(os.getpid(), signal.SIGTERM))\n'
    )
    command = [sys.executable, '-m', 'geventnode', 'serve', str(target), '--bind', '127.0.0.1:0']
    ran = subprocess.run(
        ['sh', '-c', 'exec "$@" >&-', 'sh', *command],
        check=False,
        text=True,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
    )
    assert (ran.returncode, ran.stderr) == (0, '')
