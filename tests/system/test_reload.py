"""``geventnode serve --reload-on-hup``: SIGHUP replaces the serving process, and no request fails."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.servers import Client
from tests.system.running import PATIENCE, PYTHONPATH, Served, run_program

#: A target that responds with its version and its process.
SOURCE = """
import os

VERSION = {version!r}


def listener(request, response):
    if request.url == '/slow':
        response.write('begun ')
        response.write(request.read())
    response.end(f'{{VERSION}} {{os.getpid()}}')
"""
RELOADED = r'geventnode: reloaded: process \d+ serves, and process \d+ finishes its requests'


def write(directory: Path, version: str, before: str = '') -> None:
    """Write the target. Each version is one of a different length: Python compares the time only in seconds."""
    (directory / 'site_.py').write_text(f'{before}{SOURCE.format(version=version)}')


def serving(directory: Path, *arguments: str, **options: object) -> Served:
    """Return a command that serves ``site_.py`` and reloads it. Its errors are among its output."""
    options = {'program': 'geventnode serve --reload-on-hup', 'stderr': subprocess.STDOUT, **options}
    served = Served('site_:listener', '--reload-on-hup', *arguments, cwd=directory, **options)
    assert served.next_line() == f'To load new code, send SIGHUP to process {served.process.pid}.'
    return served


def wait_for(served: Served, pattern: str) -> list[str]:
    """Wait until the command prints a line that matches; return the lines before it."""
    lines = []
    while re.fullmatch(pattern, line := served.next_line()) is None:
        assert line or served.process.poll() is None, '\n'.join(lines)
        lines.append(line)
    return lines


def reload(served: Served) -> list[str]:
    """Send SIGHUP, and wait until a new process serves; return the lines that were printed meanwhile."""
    served.signal(signal.SIGHUP)
    return wait_for(served, RELOADED)


def ask(served: Served, path: str = '/') -> tuple[str, int]:
    """Return the version and the process that respond to a request on a new connection."""
    with contextlib.closing(HTTPConnection('127.0.0.1', served.port, timeout=PATIENCE)) as client:
        client.request('GET', path)
        version, pid = client.getresponse().read().decode().split()
    return version, int(pid)


def wait_for_end(pid: int) -> None:
    """Wait until a process that is no child of this one has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            assert select.select([descriptor], [], [], PATIENCE)[0]
        finally:
            os.close(descriptor)


def test_no_request_fails_under_load(tmp_path: Path) -> None:
    """Three reloads while six clients send requests, half of them on connections that are kept alive."""
    clients = 6
    write(tmp_path, '1')
    seen: list[str] = []
    over = threading.Event()

    def load(number: int) -> None:
        with contextlib.closing(HTTPConnection('127.0.0.1', served.port, timeout=PATIENCE)) as client:
            while not over.is_set():
                client.request('GET', '/', headers={'Connection': 'close'} if number % 2 else {})
                response = client.getresponse()
                assert response.status == 200
                seen.append(response.read().decode().split()[0])

    with serving(tmp_path) as served, ThreadPoolExecutor(clients) as pool:
        loads = [pool.submit(load, number) for number in range(clients)]
        for version in ('22', '333', '4444'):
            done = len(seen)
            write(tmp_path, version)
            reload(served)
            while version not in seen[done:] and not any(each.done() for each in loads):
                assert ask(served)[0] in ('1', '22', '333', '4444')
        over.set()
        for each in loads:
            each.result()
    assert set(seen) == {'1', '22', '333', '4444'}
    assert len(seen) > 100


def test_active_requests_finish_in_the_old_process(tmp_path: Path) -> None:
    write(tmp_path, 'old')
    with serving(tmp_path) as served:
        with contextlib.closing(Client(('127.0.0.1', served.port))) as client:
            client.send(b'POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n')
            client.until(b'begun ')
            write(tmp_path, 'newer')
            reload(served)
            version, pid = ask(served)
            while version == 'old':
                version, pid = ask(served)
            assert version == 'newer'
            assert b'old ' in client.send(b'ab').rest()
        served.signal(signal.SIGTERM)
        served.process.wait(PATIENCE)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_lines_are_written_in_one_piece(tmp_path: Path) -> None:
    """Processes share the pipe. One in packet mode is read write by write (pipe(7))."""
    write(tmp_path, 'old')
    reading, writing = os.pipe2(os.O_DIRECT)
    command = [
        sys.executable,
        '-m',
        'geventnode',
        'serve',
        'site_:listener',
        '--bind',
        '127.0.0.1:0',
        '--no-access-log',
    ]
    environment = {**os.environ, 'PYTHONPATH': PYTHONPATH, 'PYTHONUNBUFFERED': '1'}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=writing, stderr=writing) as process:
        os.close(writing)
        pieces = [os.read(reading, select.PIPE_BUF)]
        port = int(re.match(rb'Serving site_:listener on http://127.0.0.1:(\d+)/\n', pieces[0])[1])
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            client.send(b'POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n')
            client.until(b'begun ')
            process.terminate()
            pieces.append(os.read(reading, select.PIPE_BUF))
            assert b'old ' in client.send(b'ab').rest()
            assert os.read(reading, select.PIPE_BUF) == b''
    os.close(reading)
    assert pieces[0].count(b'\n') == 2
    assert pieces[1] == b'Stopping: 1 open connection(s)\n'


def test_new_code_that_fails_is_not_served(tmp_path: Path) -> None:
    """The old process continues, the error is reported, and corrected code is served later."""
    write(tmp_path, 'good')
    with serving(tmp_path) as served:
        first = ask(served)
        write(tmp_path, 'never served', before='1 / 0')
        served.signal(signal.SIGHUP)
        lines = wait_for(
            served,
            f'geventnode: not reloaded: the new process has ended with status 1; process {first[1]} continues to serve',
        )
        assert lines[-1] == 'ZeroDivisionError: division by zero'
        assert ask(served) == first
        write(tmp_path, 'corrected')
        reload(served)
        wait_for_end(first[1])
        assert ask(served)[0] == 'corrected'


def test_signal_during_a_reload_begins_anew(tmp_path: Path) -> None:
    """A process that does not end its import is replaced by one with the newest code."""
    os.mkfifo(tmp_path / 'pipe')
    write(tmp_path, 'old')
    with serving(tmp_path) as served:
        _, pid = ask(served)
        write(tmp_path, 'waiting', before="open('pipe', 'rb').read()")
        served.signal(signal.SIGHUP)
        # blocks until the import has opened it for reading
        writer = os.open(tmp_path / 'pipe', os.O_WRONLY)
        write(tmp_path, 'newest')
        reload(served)
        os.close(writer)
        wait_for_end(pid)
        assert ask(served)[0] == 'newest'


def test_the_release_that_a_link_names_is_loaded(tmp_path: Path) -> None:
    """After ``cd current``, the next process is in the directory that the link names by then."""
    for release in ('one', 'second'):
        (tmp_path / release).mkdir()
        write(tmp_path / release, release)
    current = tmp_path / 'current'
    current.symlink_to('one')
    with serving(current, env={'PWD': str(current)}) as served:
        version, pid = ask(served)
        assert version == 'one'
        (tmp_path / 'next').symlink_to('second')
        (tmp_path / 'next').rename(current)
        reload(served)
        wait_for_end(pid)
        assert ask(served)[0] == 'second'


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    write(tmp_path, 'only')
    with serving(tmp_path) as served, contextlib.closing(Client(('127.0.0.1', served.port))) as client:
        client.send(b'POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n')
        client.until(b'begun ')
        served.signal(signal.SIGTERM)
        assert served.next_line() == 'Stopping: 1 open connection(s)'
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', served.port))
        served.signal(signal.SIGTERM)
        served.finish()
    assert served.process.returncode == 128 + signal.SIGTERM


def test_signal_of_the_terminal_stops_once(tmp_path: Path) -> None:
    """Ctrl+C is sent to the whole process group: requests have their time, nevertheless."""
    write(tmp_path, 'only')
    with (
        serving(tmp_path, start_new_session=True) as served,
        contextlib.closing(Client(('127.0.0.1', served.port))) as client,
    ):
        client.send(b'POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n')
        client.until(b'begun ')
        os.killpg(served.process.pid, signal.SIGINT)
        assert served.next_line() == 'Stopping: 1 open connection(s)'
        assert b'only ' in client.send(b'ab').rest()
        served.process.wait(PATIENCE)


def test_killed_process_ends_the_parent(tmp_path: Path) -> None:
    """A supervisor decides about a restart."""
    write(tmp_path, 'only')
    with serving(tmp_path) as served:
        os.kill(ask(served)[1], signal.SIGKILL)
        wait_for(served, r'geventnode: process \d+ was killed by signal 9')
        served.finish()
    assert served.process.returncode == 128 + signal.SIGKILL


def test_killed_parent_ends_the_process(tmp_path: Path) -> None:
    write(tmp_path, 'only')
    with serving(tmp_path) as served:
        _, pid = ask(served)
        served.signal(signal.SIGKILL)
        served.finish()
        wait_for_end(pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', served.port))


def test_log_of_connections_is_switched_in_the_serving_process(tmp_path: Path) -> None:
    write(tmp_path, 'only')
    with serving(tmp_path) as served:
        served.signal(signal.SIGUSR1)
        wait_for(served, 'geventnode: debug_connections is on')
        ask(served)
        wait_for(served, r'.+ DEBUG .+: request 1: GET .+')


def test_unix_socket_stays_and_is_removed_at_the_end(tmp_path: Path) -> None:
    write(tmp_path, 'first')
    path = tmp_path / 'socket'
    with serving(tmp_path, bind=f'unix:{path}') as served:
        assert served.url == f'unix:{path}'
        inode = path.stat().st_ino
        reload(served)
        assert path.stat().st_ino == inode
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
            assert b'first ' in client.makefile('rb').read()
    assert not path.exists()


@pytest.mark.parametrize(
    ('source', 'status', 'complaint'),
    [
        ('1 / 0\n', 1, 'ZeroDivisionError'),
        (
            'from geventnode import http\nlistener = http.create_server().listen(0, "127.0.0.1")\n',
            2,
            'remove --reload-on-hup, or the call of listen()',
        ),
    ],
)
def test_first_process_that_fails_ends_the_command(tmp_path: Path, source: str, status: int, complaint: str) -> None:
    (tmp_path / 'site_.py').write_text(source)
    command = ['serve', 'site_:listener', '--reload-on-hup', '--bind', '127.0.0.1:0']
    ended_with, _, errors = run_program('geventnode serve --reload-on-hup', command, cwd=tmp_path)
    assert ended_with == status
    assert complaint in errors
    assert 'reloaded' not in errors


def test_port_in_use_is_reported_once() -> None:
    with socket.create_server(('127.0.0.1', 0)) as taken:
        bind = f'127.0.0.1:{taken.getsockname()[1]}'
        status, _, errors = run_program(
            'geventnode serve --reload-on-hup', ['serve', 'handlers:listener', '--reload-on-hup', '--bind', bind]
        )
    assert status == 2
    assert errors.count('\n') == 1
    assert 'another process is listening there' in errors
