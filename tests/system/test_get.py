"""``geventnode get`` as a process: standard streams, signals, and a pipe that loses its reader."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from gevent import subprocess
from gevent.event import Event
from gevent.os import nb_read

from tests.fetching import popen, url
from tests.servers import Serve


def answer_at_length(request: Any, response: Any) -> None:
    for _ in range(64):
        response.write(bytes(65536))
    response.end()


def test_standard_streams_are_streamed(serve: Serve) -> None:
    """Input is sent while more of it is still to arrive."""

    def echo(request: Any, response: Any) -> None:
        for chunk in request:
            response.write(chunk)
        response.end()

    with popen(url(serve(echo)), '-d', '@-', stdin=subprocess.PIPE) as command:
        for piece in (b'abc', b'def'):
            command.stdin.write(piece)
            command.stdin.flush()
            assert nb_read(command.stdout.fileno(), 100) == piece
        assert command.communicate() == (b'', b'')
        assert command.returncode == 0


def test_standard_input_from_a_file_has_a_length(serve: Serve, tmp_path: Path) -> None:
    """The rest of the file is sent, from the current position, with its length."""
    (tmp_path / 'data').write_bytes(b'0123456789')

    def listener(request: Any, response: Any) -> None:
        response.end(f'{request.headers.get("content-length")} {request.read().decode()}')

    with open(tmp_path / 'data', 'rb', buffering=0) as file:
        file.read(4)
        with popen(url(serve(listener)), '-d', '@-', stdin=file) as command:
            assert command.communicate() == (b'6 456789', b'')
            assert command.returncode == 0


@pytest.mark.parametrize(('arguments', 'status'), [(['--timeout', '0.2'], 1), ([], 0)])
def test_endless_input_delays_neither_deadline_nor_end(serve: Serve, arguments: list[str], status: int) -> None:
    """Waiting for input delays neither the deadline nor the end of the command."""
    over = Event()

    def listener(request: Any, response: Any) -> None:
        if status:
            over.wait()
        response.status_code = 413
        response.end('too much')

    with popen(url(serve(listener)), '-d', '@-', *arguments, stdin=subprocess.PIPE) as command:
        assert command.wait() == status
        over.set()
        assert command.stdout.read() == (b'' if status else b'too much')
        assert command.stderr.read().count(b'\n') == status


def test_broken_pipe_ends_the_process_by_sigpipe(serve: Serve) -> None:
    """SIGPIPE ends the command silently, as any command in a pipeline."""
    with popen(url(serve(answer_at_length))) as command:
        nb_read(command.stdout.fileno(), 1)
        command.stdout.close()
        assert command.wait() == -signal.SIGPIPE
        assert command.stderr.read() == b''


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_removes_the_incomplete_file(serve: Serve, tmp_path: Path, number: int) -> None:
    begun, over = Event(), Event()

    def listener(request: Any, response: Any) -> None:
        response.write('begun')
        begun.set()
        over.wait()

    # the signal can be ignored if this suite runs in the background of a shell
    with popen(
        url(serve(listener)), '-o', tmp_path / 'file', preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    ) as command:
        begun.wait()
        command.send_signal(number)
        assert command.wait() == -number
        over.set()
        assert (command.stdout.read(), command.stderr.read()) == (b'', b'')
    assert list(tmp_path.iterdir()) == []


def test_ignored_signal_stays_ignored(serve: Serve) -> None:
    """The signal is ignored in the background of a shell, and under nohup."""
    command: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        command[0].send_signal(signal.SIGINT)
        response.end('done')

    site = serve(listener)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        command.append(popen(url(site)))
    finally:
        signal.signal(signal.SIGINT, before)
    with command[0]:
        assert command[0].communicate() == (b'done', b'')
        assert command[0].returncode == 0
