"""The ends of gunicorn's workers, by a signal, at ``max_requests`` or blocked, without lost requests."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.gunicorns import Gunicorn

#: Idle connections without a timeout.
FOREVER = 'keepalive = 1000\ngraceful_timeout = 200\n'

#: The first worker gets a signal while gunicorn resets its handlers.
TOLD_AT_ONCE = """
import os
import signal
from gunicorn.workers.base import Worker

def post_fork(server, worker):
    def init_signals(self):
        signal.signal({0}, signal.SIG_DFL)
        if self.age == 1:
            os.kill(os.getpid(), {0})
        reset(self)
    reset, Worker.init_signals = Worker.init_signals, init_signals
"""


@pytest.mark.parametrize('target', ['gunicorned:application', 'gunicorned:listener'])
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_requests_in_flight_finish(tmp_path: Path, target: str, number: int) -> None:
    """Responses that had begun are complete, and close their connections."""
    with Gunicorn(tmp_path, target, FOREVER) as gunicorn, gunicorn.slow_request() as (client, response):
        gunicorn.signal(number)
        gunicorn.wait_for('Handling signal')
        if number == signal.SIGHUP:
            gunicorn.booted()
        client.send(b'67890')
        assert response.read() == b'1234567890'
        assert client.closed()
        gunicorn.exited()


def test_requests_in_flight_say_that_the_connection_closes(tmp_path: Path) -> None:
    """A head that is sent after the signal has ``Connection: close``."""
    with Gunicorn(tmp_path, 'gunicorned:application', FOREVER) as gunicorn, gunicorn.connect() as client:
        client.send(b'POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345')
        gunicorn.ask()
        gunicorn.signal(signal.SIGTERM)
        gunicorn.wait_until_refused()
        response = client.send(b'67890').response()
        assert (response.read(), response.getheader('Connection')) == (b'1234567890', 'close')
        assert client.closed()
        gunicorn.exited()


def test_pipelined_requests_in_flight(tmp_path: Path) -> None:
    """A request after an active one is not served: the response before it closes the connection."""
    with Gunicorn(tmp_path, 'gunicorned:listener', FOREVER) as gunicorn, gunicorn.slow_request() as (client, response):
        client.get('/behind')
        gunicorn.signal(signal.SIGTERM)
        gunicorn.wait_for('Handling signal: term')
        # the missing body follows the other request: it is the first five bytes of that
        assert response.read() == b'12345GET /'


def test_a_client_that_keeps_sending(tmp_path: Path) -> None:
    """The next response closes the connection."""
    with Gunicorn(tmp_path, 'gunicorned:application', FOREVER) as gunicorn, gunicorn.connect() as client:
        client.get('/pid')
        response = client.response()
        assert response.getheader('Connection') == 'keep-alive'
        response.read()
        gunicorn.signal(signal.SIGTERM)
        while response.getheader('Connection') != 'close':
            client.get('/pid')
            response = client.response()
            response.read()
        assert client.closed()
        gunicorn.exited()


def test_idle_connections_do_not_delay_a_worker(tmp_path: Path) -> None:
    """The worker waits neither for ``keepalive`` nor for ``graceful_timeout``."""
    with Gunicorn(tmp_path, 'gunicorned:application', 'keepalive = 1000\ngraceful_timeout = 300\n') as gunicorn:
        with gunicorn.connect() as client, gunicorn.connect() as silent:
            client.get('/pid')
            client.response().read()
            gunicorn.signal(signal.SIGHUP)
            gunicorn.exited()
            assert client.closed()
            assert silent.closed()
        assert 'graceful timeout' not in ''.join(gunicorn.said)


def test_a_starting_worker(tmp_path: Path) -> None:
    """The signal arrives while gunicorn resets the handlers, and the hooks are called nevertheless."""
    with Gunicorn(tmp_path, 'gunicorned:application', TOLD_AT_ONCE.format('signal.SIGTERM')) as gunicorn:
        first = gunicorn.booted()
        ended = gunicorn.wait_for(rf'Worker exiting \(pid: {first}\)|Worker \(pid:{first}\) was sent')
        assert ended[0].startswith('Worker exiting')
        gunicorn.booted()
        assert gunicorn.ask('/')[0] == 200


def test_log_rotation_while_a_worker_starts(tmp_path: Path) -> None:
    """SIGUSR1 arrives while gunicorn resets the handlers, and the worker survives."""
    with Gunicorn(tmp_path, 'gunicorned:application', TOLD_AT_ONCE.format('signal.SIGUSR1')) as gunicorn:
        first = gunicorn.booted()
        assert int(gunicorn.ask('/pid')[1]) == first


def test_the_backlog_is_served(tmp_path: Path) -> None:
    """Clients in the queue of the kernel at the signal get a response."""
    os.mkfifo(tmp_path / 'pipe')
    with Gunicorn(tmp_path, 'gunicorned:application', FOREVER) as gunicorn, ExitStack() as stack:
        worker = gunicorn.booted()
        blocking = stack.enter_context(gunicorn.connect()).get(f'/block?{tmp_path / "pipe"}')
        # opening a pipe waits for its other end: the loop is blocked from here on
        with open(tmp_path / 'pipe', 'wb'):
            waiting = [stack.enter_context(gunicorn.connect()).get('/pid') for _ in range(20)]
            gunicorn.signal(signal.SIGTERM)
            gunicorn.wait_for('Handling signal: term')
            # the master logs this before it signals the worker, which must have the signal when the pipe is closed
            os.kill(worker, signal.SIGTERM)
        assert blocking.response().status == 200
        for client in waiting:
            response = client.response()
            assert response.getheader('Connection') == 'close'
            assert response.read().isdigit()
        gunicorn.exited()


@pytest.mark.parametrize('number', [signal.SIGQUIT, signal.SIGINT])
def test_a_quick_stop(tmp_path: Path, number: int) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', FOREVER + HOOK.format('worker_int', 'worker')) as gunicorn:
        with gunicorn.slow_request() as (_, response):
            gunicorn.signal(number)
            gunicorn.wait_for('worker_int was called')
            gunicorn.exited()
            with pytest.raises(Exception):  # noqa: B017, PT011 - a reset, or a chunk that is missing
                response.read()


def test_no_longer_than_graceful_timeout(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', 'graceful_timeout = 1\n') as gunicorn, gunicorn.slow_request():
        # gunicorn itself kills no worker then
        gunicorn.signal(signal.SIGHUP)
        gunicorn.wait_for(r'Worker graceful timeout \(pid:\d+\): 1 connection')
        gunicorn.exited()


def test_the_master_dies(tmp_path: Path) -> None:
    """The worker notices, and stops gracefully."""
    with Gunicorn(tmp_path, 'gunicorned:application', FOREVER, status=-signal.SIGKILL) as gunicorn:
        with gunicorn.slow_request() as (client, response):
            gunicorn.process.kill()
            gunicorn.wait_for('Parent changed, shutting down')
            client.send(b'67890')
            assert response.read() == b'1234567890'
        gunicorn.exited()


# -- max_requests ---------------------------------------------------------------------------------------------------


def test_max_requests_under_keep_alive(tmp_path: Path) -> None:
    """The last response closes the connection; idle connections neither delay the worker nor lose a request."""
    with Gunicorn(tmp_path, 'gunicorned:application', FOREVER + 'max_requests = 3\n') as gunicorn:
        with gunicorn.connect() as idle, gunicorn.connect() as client:
            idle.get('/pid')
            first = int(idle.response().read())
            seen = []
            for _ in range(2):
                client.get('/pid')
                response = client.response()
                seen.append((int(response.read()), response.getheader('Connection')))
            assert seen == [(first, 'keep-alive'), (first, 'close')]
            gunicorn.wait_for('Autorestarting worker after current request')
            gunicorn.exited()
            assert idle.closed()
            assert gunicorn.ask('/pid') != (200, str(first))


def test_max_requests_and_a_client_that_keeps_its_side_open(tmp_path: Path) -> None:
    """The response closed the connection, so the next worker need not wait for the client."""
    with Gunicorn(tmp_path, 'gunicorned:application', LINGERING) as gunicorn, gunicorn.connect() as client:
        response = client.get('/pid').response()
        assert response.getheader('Connection') == 'close'
        first = response.read()
        gunicorn.wait_for('Autorestarting worker after current request')
        gunicorn.exited()
        assert gunicorn.ask('/pid') != (200, first.decode())
        assert 'graceful timeout' not in ''.join(gunicorn.said)


#: No timeout closes a connection, only the end of ``graceful_timeout``.
LINGERING = """
max_requests = 1
graceful_timeout = 5

def post_worker_init(worker):
    from geventnode.http.server import deadlines
    deadlines.LINGER_TIME = 1000
"""


def test_jitter(tmp_path: Path) -> None:
    """It is gunicorn's own: between ``max_requests`` and ``max_requests_jitter`` more."""
    with (
        Gunicorn(
            tmp_path, 'gunicorned:application', FOREVER + 'max_requests = 2\nmax_requests_jitter = 2\n'
        ) as gunicorn,
        gunicorn.connect() as client,
    ):
        kept = []
        while 'close' not in kept:
            client.get('/pid')
            response = client.response()
            response.read()
            kept.append(response.getheader('Connection'))
        assert 2 <= len(kept) <= 4


# -- timeout --------------------------------------------------------------------------------------------------------


def test_only_a_blocked_loop_is_killed(tmp_path: Path) -> None:
    """Of two equally slow requests, the worker survives the one that waits cooperatively."""
    os.mkfifo(tmp_path / 'pipe')
    # long enough for a worker to start, and for the other one to notify the master, on a busy machine
    configuration = FOREVER + 'timeout = 20\n' + HOOK.format('worker_abort', 'worker')
    with Gunicorn(tmp_path, 'gunicorned:application', configuration, workers=2) as gunicorn, ExitStack() as stack:
        client, response = stack.enter_context(gunicorn.slow_request())
        slow = response.getheader('X-Pid')
        while True:
            other = stack.enter_context(gunicorn.connect()).get('/pid')
            blocked = other.response().read().decode()
            if blocked != slow:
                break
        other.get(f'/block?{tmp_path / "pipe"}')
        with open(tmp_path / 'pipe', 'wb'):
            assert gunicorn.wait_for(r'WORKER TIMEOUT \(pid:(\d+)\)')[1] == blocked
            # the stack of the blocked loop
            gunicorn.wait_for('The event loop is blocked in')
            gunicorn.wait_for(r'pipe\.read\(\)')
            gunicorn.wait_for('worker_abort was called')
            gunicorn.exited()
        client.send(b'67890')
        assert response.read() == b'1234567890'


HOOK = """
def {0}({1}):
    print('{0} was called', flush=True)
"""
