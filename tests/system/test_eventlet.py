"""``docs/moving/eventlet.rst``: its application on eventlet and on geventnode gives the same responses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.code_blocks import BLOCKS
from tests.servers import Client, get, post
from tests.system.gunicorns import OLDEST, Gunicorn, folder_of
from tests.system.installed import installed
from tests.system.running import PATIENCE, PYTHONPATH, ROOT, Served, run_program
from tests.websocket.frames import HANDSHAKE, TOKEN, close_frame, frame, read_frame

#: The last version that the page was compared with. It resolves names with dnspython.
EVENTLET = 'eventlet==0.41.3', 'dnspython==2.8.0'
BODY = b'body' * 20_000
REQUESTS = [
    get('/squares'),
    get('/pile'),
    get('/upper?some-text'),
    post(BODY, '/digest'),
    get('/late'),
]


@pytest.fixture(scope='module')
def eventlet(pytestconfig: pytest.Config) -> Path:
    """The directory of the package eventlet."""
    return installed(pytestconfig, 'eventlet', *EVENTLET)


def program(name: str) -> str:
    """Return the application of the page that uses ``name``."""
    (found,) = (
        block.source
        for block in BLOCKS
        if block.page == 'docs/moving/eventlet.rst'
        and 'def square' in block.source
        and f'{name}.spawn(work)' in block.source
    )
    return found


@contextlib.contextmanager
def on_eventlet(directory: Path, packages: Path) -> Iterator[int]:
    """Run the first application on eventlet's own server; yield the port."""
    (directory / 'before.py').write_text(program('eventlet').replace('8000', '0'))
    with subprocess.Popen(
        [sys.executable, 'before.py'],
        cwd=directory,
        text=True,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': f'{packages}:{ROOT}'},
    ) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r'wsgi starting up on http://127\.0\.0\.1:(\d+)', line)
            if found is not None:
                break
        else:
            pytest.fail(''.join(lines))
        try:
            yield int(found[1])
        finally:
            process.kill()
            process.communicate(timeout=PATIENCE)


@contextlib.contextmanager
def on_eventlets_worker(directory: Path, packages: Path) -> Iterator[int]:
    """Run it with gunicorn's worker for eventlet, which the page replaces."""
    (directory / 'before.py').write_text(program('eventlet'))
    paths = f'{folder_of(OLDEST)}:{packages}:{directory}'
    with Gunicorn(
        directory, 'before:app', version=OLDEST, worker='eventlet', cwd=directory, env={'PYTHONPATH': paths}
    ) as gunicorn:
        yield gunicorn.port


@contextlib.contextmanager
def by_command(directory: Path, packages: Path) -> Iterator[int]:
    (directory / 'after.py').write_text(program('gevent'))
    with Served('after.py:app', cwd=directory) as served:
        yield served.port


@contextlib.contextmanager
def by_worker(directory: Path, packages: Path) -> Iterator[int]:
    (directory / 'after.py').write_text(program('gevent'))
    with Gunicorn(directory, 'after:app', cwd=directory, env={'PYTHONPATH': f'{ROOT}:{directory}'}) as gunicorn:
        yield gunicorn.port


def responses(port: int) -> list[Any]:
    """Return all that the application sends, without the fields that servers add."""
    found: list[Any] = []
    with contextlib.closing(Client(('127.0.0.1', port))) as client:
        for request in REQUESTS:
            response = client.send(request).response()
            found.append((response.status, response.values('Content-Type'), response.body))
    with contextlib.closing(Client(('127.0.0.1', port))) as client:
        head = client.send(get('/echo', *HANDSHAKE)).head()
        found.append((head.status, head.values('Sec-WebSocket-Accept')))
        for data, opcode in (('text \u20ac'.encode(), 1), (b'\x00\xff', 2), (b'x' * 70_000, 2), (b'ping', 9)):
            client.send(frame(data, opcode))
            found.append(read_frame(client))
        client.send(close_frame(1000))
        found.append(read_frame(client)[0])
    return found


#: The data of the application, in the order of :func:`responses`.
EXPECTED = [
    (200, ['text/plain'], b'[0, 1, 4, 9, 16]'),
    (200, ['text/plain'], b'[0, 1, 4, 9, 16]'),
    (200, ['text/plain'], b'SOME-TEXT'),
    (200, ['text/plain'], hashlib.sha256(BODY).hexdigest().encode()),
    (200, ['text/plain'], b'late'),
    (101, [TOKEN]),
    (0x81, 'text \u20ac'.encode()),
    (0x82, b'\x00\xff'),
    (0x82, b'x' * 70_000),
    (0x8A, b'ping'),
    0x88,
]


@pytest.mark.parametrize('way', [on_eventlet, on_eventlets_worker, by_command, by_worker], ids=lambda way: way.__name__)
def test_responses_are_the_same(way: Callable[..., Any], tmp_path: Path, eventlet: Path) -> None:
    """Each of the four ways responds as the others do."""
    with way(tmp_path, eventlet) as port:
        found = responses(port)
    assert found == EXPECTED


@pytest.mark.parametrize(
    ('patches', 'expected'),
    [
        ('eventlet.monkey_patch()', ('problem', 'os, select, socket, subprocess, thread, time')),
        ('eventlet.monkey_patch(socket=True)', ('problem', 'socket')),
        ('', ('advice', None)),
    ],
    ids=['all', 'socket', 'none'],
)
def test_doctor_reports_eventlet(
    patches: str, expected: tuple[str, str | None], tmp_path: Path, eventlet: Path
) -> None:
    """The doctor itself works in such a process, and reports the modules, or the import alone."""
    (tmp_path / 'before.py').write_text(program('eventlet').replace('eventlet.monkey_patch()', patches))
    status, output, _ = run_program(
        'geventnode doctor',
        ['doctor', 'before.py:app', '--json'],
        cwd=tmp_path,
        env={'PYTHONPATH': f'{eventlet}:{PYTHONPATH}'},
    )
    (found,) = (each for each in json.loads(output)['findings'] if each['check'] == 'eventlet')
    level, modules = expected
    assert found['level'] == level
    assert modules is None or f'has patched {modules}:' in found['message']
    assert modules is None or status == 1
