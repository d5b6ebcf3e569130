"""Finding what blocks the loop, as the documentation says: gevent's monitor thread, switched on from outside."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.servers import Client, get
from tests.system.running import PATIENCE, ROOT

APPLICATION = """
def application(environ, start_response):
    # nothing of this is cooperative
    with open('fifo', 'rb') as file:
        body = file.read()
    start_response('200 OK', [])
    return [body]
"""


def _program() -> str:
    """Return the program in the guide that switches the monitor thread on, with a port that is free."""
    text = (ROOT / 'docs' / 'blocking.rst').read_text('utf-8')
    (found,) = (
        each for each in re.findall(r'\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)', text) if 'listen(' in each
    )
    # as if more were imported than there is time for before the first look
    started = 'start_periodic_monitoring_thread()'
    return (
        textwrap.dedent(found)
        .replace(started, f'{started}\nmonkey.get_original("time", "sleep")(0.6)')
        .replace('server.listen(8000)', 'print(server.listen(0, "127.0.0.1").address()["port"], flush=True)')
    )


def test_the_guide(tmp_path: Path) -> None:
    """Its program blocks where it says, and says where: the file is one that waits for its writer."""
    (tmp_path / 'program.py').write_text(_program())
    os.mkfifo(tmp_path / 'report.txt')
    with subprocess.Popen(
        [sys.executable, 'program.py'],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    ) as process:
        port = int(process.stdout.readline())
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            assert client.get().body == b'hello\n'
            client.send(get('/report'))
            said = []
            for line in process.stderr:
                said.append(line)
                if 'in listener' in line:
                    break
            assert any('appears to be blocked' in line for line in said), said
            assert 'program.py", line 17, in listener' in said[-1], said
            with (tmp_path / 'report.txt').open('wb') as file:
                file.write(b'at last')
            assert client.response().body == b'at last'
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_what_blocks_is_named(tmp_path: Path) -> None:
    """With the file and the line, while it does so."""
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
            'PYTHONPATH': str(ROOT),
            'GEVENT_MONITOR_THREAD_ENABLE': '1',
            'GEVENT_MAX_BLOCKING_TIME': '0.1',
        },
    ) as process:
        port = int(re.search(r':(\d+)/$', process.stdout.readline())[1])
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            client.send(get())
            said = []
            for line in process.stderr:
                said.append(line)
                if 'in application' in line:
                    break
            assert any('appears to be blocked' in line for line in said), said
            assert 'blocking.py", line 4, in application' in said[-1], said
            with (tmp_path / 'fifo').open('wb') as file:
                file.write(b'at last')
            assert client.response().body == b'at last'
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
