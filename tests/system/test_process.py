"""``geventnode serve`` as a process: listening, stopping, and error messages at the start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path

import pytest

from tests.servers import Client
from tests.system.running import APPS, PATIENCE, PYTHONPATH, Served, run_program, start, tool

STARTED = b'POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345'


@contextlib.contextmanager
def slow_request(served: Served) -> Iterator[tuple[socket.socket, HTTPResponse]]:
    """Yield the client and the begun response of a request that ends after five more bytes."""
    with socket.create_connection(('127.0.0.1', served.port), PATIENCE) as client:
        client.sendall(STARTED)
        with contextlib.closing(HTTPResponse(client, method='POST')) as response:
            response.begin()
            assert response.read1(100) == b'begun\n'
            yield client, response


def get(port: int, path: str = '/') -> str:
    with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
        client.request('GET', path)
        return client.getresponse().read().decode()


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_lets_requests_finish(number: int) -> None:
    with Served('handlers:listener') as served, slow_request(served) as (client, response):
        served.signal(number)
        assert served.next_line() == 'Stopping: 1 open connection(s)'
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', served.port))
        client.sendall(b'67890')
        assert response.read() == b'10\n'
        _, errors = served.finish()
    assert (served.process.returncode, errors) == (0, '')


def test_sighup_is_ignored_under_nohup() -> None:
    """SIGHUP stays ignored if the process was started so."""
    ignoring = (
        'import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); '
        'os.execv(sys.executable, [sys.executable, *sys.argv[1:]])'
    )
    with subprocess.Popen(
        [sys.executable, '-c', ignoring, '-m', 'geventnode', 'serve', 'handlers:listener', '--bind', '127.0.0.1:0'],
        cwd=APPS,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        text=True,
        stdout=subprocess.PIPE,
    ) as process:
        port = int(process.stdout.readline().rstrip('/\n').rpartition(':')[2])
        process.send_signal(signal.SIGHUP)
        assert get(port) == 'GET / HTTP/1.1'
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_second_signal_stops_at_once() -> None:
    with Served('handlers:listener') as served, slow_request(served) as (_, response):
        served.signal(signal.SIGTERM)
        assert served.next_line() == 'Stopping: 1 open connection(s)'
        served.signal(signal.SIGTERM)
        with pytest.raises((ConnectionError, IncompleteRead)):
            response.read()
        served.finish()
    assert served.process.returncode == 128 + signal.SIGTERM


def test_requests_are_aborted_after_the_grace() -> None:
    with Served('handlers:listener', '--grace', '0.1') as served, slow_request(served):
        served.signal(signal.SIGTERM)
        _, errors = served.finish()
    assert (served.process.returncode, errors) == (0, 'geventnode: 1 connection(s) aborted after 0.1 s\n')


def test_streams_of_the_demo_end_when_the_server_stops() -> None:
    with Served() as demo, contextlib.closing(HTTPConnection('127.0.0.1', demo.port, timeout=PATIENCE)) as client:
        client.request('GET', '/events')
        response = client.getresponse()
        assert response.readline().startswith(b'data: ')
        demo.signal(signal.SIGTERM)
        # the chunked body is complete, or else read() raises
        response.read()
        _, errors = demo.finish()
    assert (demo.process.returncode, errors) == (0, '')


# -- targets and addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('target', 'keep_alive'), [('handlers:listener', 65), (str(APPS / 'handlers.py'), 7)])
def test_target_is_served(target: str, keep_alive: int, tmp_path: Path) -> None:
    """A listener gets a server with default settings; a server keeps its own."""
    with (
        Served(target, cwd=tmp_path if target.startswith('/') else APPS) as served,
        contextlib.closing(HTTPConnection('127.0.0.1', served.port, timeout=PATIENCE)) as client,
    ):
        client.request('GET', '/here')
        response = client.getresponse()
        assert response.getheader('Keep-Alive') == f'timeout={keep_alive}'
        assert response.read() == b'GET /here HTTP/1.1'


def test_ipv6_address_is_listened_on() -> None:
    try:
        socket.create_server(('::1', 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f'no IPv6 here: {error}')
    with Served('handlers:listener', bind='[::1]:0') as served:
        assert served.url.startswith('http://[::1]:')
        socket.create_connection(('::1', served.port), PATIENCE).close()


def test_descriptor_is_listened_on() -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening:
        port = listening.getsockname()[1]
        with Served('handlers:listener', bind=f'fd:{listening.fileno()}', pass_fds=[listening.fileno()]) as served:
            assert served.port == port
            assert get(port) == 'GET / HTTP/1.1'


#: Pass a descriptor to the command as number 3, as systemd does.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])
os.execv(sys.executable, [sys.executable, '-m', 'geventnode', *sys.argv[3:]])
"""


def activate(listening: socket.socket, count: int, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-c', ACTIVATE, str(listening.fileno()), str(count), 'serve', 'handlers:listener', *arguments],
        cwd=APPS,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        pass_fds=[listening.fileno()],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_socket_of_systemd_is_used() -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening, activate(listening, 1) as process:
        port = listening.getsockname()[1]
        assert process.stdout.readline() == f'Serving handlers:listener on http://127.0.0.1:{port}/\n'
        assert get(port) == 'GET / HTTP/1.1'
        process.terminate()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def test_several_sockets_of_systemd_are_refused() -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening, activate(listening, 2) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert errors == (
        'geventnode: systemd passed 2 sockets (LISTEN_FDS), but a server listens on one; choose it with '
        '--bind fd:N, N from 3 to 4\n'
    )


# -- errors ---------------------------------------------------------------------------------------------------------


def program_of(arguments: Sequence[str]) -> str:
    """Return the name of the program with these arguments, for ``start()``."""
    return 'geventnode serve --workers' if '--workers' in arguments else 'geventnode serve'


def refused(*arguments: str) -> tuple[int, str]:
    """Run the command until it ends; return its status and standard error."""
    status, output, errors = run_program(program_of(arguments), arguments)
    assert output == ''
    return status, errors


#: The error messages are the same for one process and for the workers of gunicorn.
WAYS = pytest.mark.parametrize('workers', [(), ('--workers', '1')], ids=['serve', 'workers'])


@WAYS
def test_port_in_use_is_reported(workers: tuple[str, ...]) -> None:
    with socket.create_server(('127.0.0.1', 0)) as listening:
        address = f'127.0.0.1:{listening.getsockname()[1]}'
        assert refused('serve', '--bind', address, *workers) == (
            2,
            (
                f'geventnode: cannot listen on {address}: Address already in use; another process is listening '
                'there: stop it, or choose another port with --bind\n'
            ),
        )


@pytest.mark.parametrize(
    ('kind', 'complaint'),
    [
        ('file', 'Address already in use; it is a file, not a socket that a server has left'),
        ('server', 'Address already in use; another process is listening there'),
        ('nothing', 'No such file or directory; create the directory {directory} first'),
    ],
)
@WAYS
def test_bad_path_is_reported(tmp_path: Path, workers: tuple[str, ...], kind: str, complaint: str) -> None:
    directory = tmp_path / 'missing' if kind == 'nothing' else tmp_path
    path = directory / 'socket'
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == 'file':
            path.write_text('')
        elif kind == 'server':
            listening.bind(str(path))
            listening.listen()
        status, errors = refused('serve', '--bind', f'unix:{path}', *workers)
    assert (status, errors) == (
        2,
        f'geventnode: cannot listen on unix:{path}: {complaint.format(directory=directory)}\n',
    )


@WAYS
@pytest.mark.parametrize(('mask', 'mode'), [(0o022, 0o755), (0o007, 0o770), (0, 0o777)])
def test_mode_of_a_path_follows_the_umask(tmp_path: Path, workers: tuple[str, ...], mask: int, mode: int) -> None:
    """The umask decides the mode, with workers and without."""
    path = tmp_path / 'socket'
    arguments = ['serve', 'handlers:listener', '--bind', f'unix:{path}', *workers]
    process = start(program_of(workers), arguments, cwd=APPS, env={}, stderr=subprocess.STDOUT, umask=mask)
    try:
        for line in process.stdout:
            if str(path) in line:
                break
        assert path.stat().st_mode & 0o777 == mode
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert not path.exists()


@WAYS
def test_max_header_size_is_applied(workers: tuple[str, ...]) -> None:
    """Cookies longer than the default limit are accepted."""
    with socket.create_server(('127.0.0.1', 0)) as listening:
        bind = f'fd:{listening.fileno()}'
        process = start(
            program_of(workers),
            ['serve', 'handlers:listener', '--max-header-size', '40000', '--bind', bind, *workers],
            cwd=APPS,
            env={},
            stderr=subprocess.STDOUT,
            pass_fds=[listening.fileno()],
        )
        address = listening.getsockname()
    try:
        for size, status in ((17_000, 200), (50_000, 431)):
            client = Client(address)
            assert client.get('/', f'Cookie: {"x" * size}').status == status
            client.close()
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


RATE = """
from geventnode import http

def listener(request, response):
    response.end(str(response.server.min_body_rate))

server = http.create_server(listener)
"""


@pytest.mark.parametrize(
    ('target', 'options', 'rate'),
    [('listener', [], '500'), ('listener', ['--min-body-rate', '0'], '0'), ('server', [], '0')],
)
def test_uploads_have_a_minimum_rate(tmp_path: Path, target: str, options: list[str], rate: str) -> None:
    """The command sets a rate, unless the target is a server with its own settings."""
    (tmp_path / 'rate.py').write_text(RATE)
    with Served(f'rate:{target}', *options, cwd=tmp_path) as served:
        client = Client(('127.0.0.1', served.port))
        assert client.get('/').body == rate.encode()
        client.close()


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    """The socket is replaced, because no server accepts connections on it."""
    path = tmp_path / 'socket'
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    with Served('handlers:listener', bind=f'unix:{path}'), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@WAYS
def test_address_of_another_machine_is_reported(workers: tuple[str, ...]) -> None:
    assert refused('serve', '--bind', '192.0.2.1:8000', *workers) == (
        2,
        (
            'geventnode: cannot listen on 192.0.2.1:8000: Cannot assign requested address; no interface of this '
            'machine has the address: use 0.0.0.0 or [::] for all of them\n'
        ),
    )


@WAYS
def test_bad_descriptor_is_reported(workers: tuple[str, ...]) -> None:
    assert refused('serve', '--bind', 'fd:999', *workers) == (
        2,
        'geventnode: cannot listen on fd:999: Bad file descriptor\n',
    )


@WAYS
def test_unknown_host_is_reported(workers: tuple[str, ...]) -> None:
    status, errors = refused('serve', '--bind', 'host.invalid:80', *workers)
    assert status == 2
    assert errors.startswith('geventnode: cannot listen on host.invalid:80: ')
    assert errors.endswith('; use an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them\n')


def unprivileged(bind: str, *arguments: str) -> tuple[int, str]:
    """Run the command without the privileges of root; return its status and standard error."""
    dropping = [tool('setpriv'), '--bounding-set', '-dac_override'] if os.geteuid() == 0 else []
    ran = subprocess.run(
        [*dropping, sys.executable, '-m', 'geventnode', 'serve', '--bind', bind, *arguments],
        cwd=APPS,
        check=False,
        text=True,
        env={**os.environ, 'PYTHONPATH': PYTHONPATH},
        capture_output=True,
        timeout=PATIENCE,
    )
    return ran.returncode, ran.stderr


@WAYS
def test_read_only_directory_is_reported(tmp_path: Path, workers: tuple[str, ...]) -> None:
    tmp_path.chmod(0o555)
    assert unprivileged(f'unix:{tmp_path}/socket', *workers) == (
        2,
        (
            f'geventnode: cannot listen on unix:{tmp_path}/socket: Permission denied; this user has no write '
            f'permission in the directory {tmp_path}\n'
        ),
    )


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (
            ['nowhere:listener'],
            (
                f"no module is named 'nowhere', neither in the current directory, {APPS}, nor among the "
                f'packages of {sys.executable}'
            ),
        ),
        (['handlers:nothing'], "'handlers' has no 'nothing'; did you mean 'server'?"),
        (
            ['--bind', 'localhost'],
            (
                "--bind must be HOST:PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH or fd:N, not 'localhost'; did you mean "
                "'localhost:8000'?"
            ),
        ),
        (['--bind', 'fd:999'], 'cannot listen on fd:999: Bad file descriptor'),
        (
            ['handlers:listener', '--proxy-protocol'],
            '--proxy-protocol without --trusted-proxy ADDRESS would refuse every connection; add it',
        ),
        (
            ['handlers:listener', '--trusted-proxy', 'proxy', '--forwarded', 'forwarded'],
            (
                "--trusted-proxy: 'proxy' is neither an IP address, nor a network in CIDR notation (without host "
                "bits), nor 'unix'"
            ),
        ),
        (
            ['handlers:server', '--max-header-size', '20000'],
            "'handlers:server' is an http.Server, which has its own settings; remove --max-header-size",
        ),
        (
            ['handlers:server', '--trusted-proxy', '::1', '--forwarded', 'forwarded'],
            "'handlers:server' is an http.Server, which has its own settings; remove --trusted-proxy",
        ),
    ],
)
def test_usage_error_is_one_line(arguments: list[str], complaint: str) -> None:
    assert refused('serve', *arguments) == (2, f'geventnode: {complaint}\n')


def test_exception_of_the_target_is_shown() -> None:
    """The traceback begins in the target."""
    status, errors = refused('serve', 'broken:listener')
    assert status == 1
    first, where, *_, error, remedy = errors.splitlines()
    assert first == 'Traceback (most recent call last):'
    assert 'broken.py", line' in where
    assert error == "ModuleNotFoundError: No module named 'not_installed'"
    assert remedy.startswith(f'geventnode: the command runs with {sys.executable}; install the missing package there')
