"""Finding code that blocks the loop, as documented: gevent's monitor thread, enabled by the environment."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.servers import Client, get
from tests.system.running import PATIENCE, PYTHONPATH, ROOT

APPLICATION = """
def application(environ, start_response):
    # reading a file blocks
    with open('fifo', 'rb') as file:
        body = file.read()
    start_response('200 OK', [])
    return [body]
"""


def _program() -> str:
    """Return the guide's program that starts the monitor thread, with a free port."""
    text = (ROOT / 'docs' / 'blocking.rst').read_text('utf-8')
    (found,) = (
        each for each in re.findall(r'\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)', text) if 'listen(' in each
    )
    # as if imports took longer than the time until the first check
    started = 'start_periodic_monitoring_thread()'
    return (
        textwrap.dedent(found)
        .replace(started, f'{started}\nmonkey.get_original("time", "sleep")(0.6)')
        .replace('server.listen(8000)', 'print(server.listen(0, "127.0.0.1").address()["port"], flush=True)')
    )


def test_program_of_the_guide_reports_the_line(tmp_path: Path) -> None:
    """The guide's program blocks on a named pipe, and the monitor reports the line."""
    (tmp_path / 'program.py').write_text(_program())
    os.mkfifo(tmp_path / 'report.txt')
    with subprocess.Popen(
        [sys.executable, 'program.py'],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
    ) as process:
        port = int(process.stdout.readline())
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            assert client.get().body == b'hello\n'
            client.send(get('/report'))
            lines = []
            for line in process.stderr:
                lines.append(line)
                if 'in listener' in line:
                    break
            assert any('appears to be blocked' in line for line in lines), lines
            assert 'program.py", line 17, in listener' in lines[-1], lines
            with (tmp_path / 'report.txt').open('wb') as file:
                file.write(b'at last')
            assert client.response().body == b'at last'
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_blocking_line_is_reported(tmp_path: Path) -> None:
    """The monitor reports the file and the line while the code blocks."""
    (tmp_path / 'blocking.py').write_text(APPLICATION)
    os.mkfifo(tmp_path / 'fifo')
    with subprocess.Popen(
        [sys.executable, '-m', 'geventnode', 'serve', 'blocking.py', '--bind', '127.0.0.1:0', '--no-access-log'],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            'PYTHONPATH': PYTHONPATH,
            'GEVENT_MONITOR_THREAD_ENABLE': '1',
            'GEVENT_MAX_BLOCKING_TIME': '0.1',
        },
    ) as process:
        port = int(re.search(r':(\d+)/$', process.stdout.readline())[1])
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            client.send(get())
            lines = []
            for line in process.stderr:
                lines.append(line)
                if 'in application' in line:
                    break
            assert any('appears to be blocked' in line for line in lines), lines
            assert 'blocking.py", line 4, in application' in lines[-1], lines
            with (tmp_path / 'fifo').open('wb') as file:
                file.write(b'at last')
            assert client.response().body == b'at last'
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
