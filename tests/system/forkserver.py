"""Start servers as forks of an interpreter that has loaded their modules: tests start hundreds of them.

A fork server (:class:`ForkServer`) is a process that has taken the first steps of a program: it has, for example,
patched the standard library and imported this package. Each start of the program is a fork of that process, which
begins with its own arguments, directory, environment and descriptors, and finds these steps already done.
``test_forkserver.py`` compares such a start with one by ``python -m``.

The processes of xdist share the fork servers, each of which has loaded its modules once. A fork server waits for the
ends of its forks, and reports their statuses; it kills those of a process that ends, and ends with the last one.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

__all__ = ['PROGRAMS', 'ForkServer', 'Forked', 'main']

# Those of the standard library before it is patched: a fork server has no hub that could wait.
_fork, _waitpid, _poll, _socket = os.fork, os.waitpid, select.poll, socket.socket

#: The largest size of a request in bytes, with its arguments and its environment.
REQUEST = 200_000


def _load_serve() -> None:
    """Take the steps of ``geventnode serve`` before it loads its target."""
    from gevent import monkey

    monkey.patch_all()

    import geventnode.cli.main
    import geventnode.http
    import geventnode.loggers  # noqa: F401


def _load_serve_with_flask() -> None:
    """Take the steps of ``geventnode serve``, and import Flask with the extensions for WebSockets."""
    _load_serve()

    import geventnode.integrations.wsgi  # noqa: F401

    for name in ('flask_sock', 'flask_socketio'):
        # tests of the missing one are skipped
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)

    import gevent

    # urllib3 makes a socket when it is imported, and thereby a hub; each fork has to make its own
    gevent.get_hub().destroy(destroy_loop=True)


def _load_gunicorn() -> None:
    """Import the modules of gunicorn's master with this package's worker, and those that patch the workers."""
    from importlib import metadata

    import gevent.selectors
    import gevent.signal
    import gevent.ssl
    import gevent.subprocess  # noqa: F401
    import gunicorn.app.wsgiapp  # noqa: F401
    from gevent import events

    import geventnode.integrations.gunicorn.worker  # noqa: F401

    # gevent reads them when it patches, and the tests' interpreters keep them
    metadata.entry_points()
    events.subscribers.append(_show_objects)

    # Its settings have defaults from the directory and the environment: forks import them, and their users, anew.
    for name in list(sys.modules):
        if name.startswith(('gunicorn.config', 'gunicorn.app', 'geventnode.integrations.gunicorn')):
            del sys.modules[name]


def _show_objects(event: object) -> None:
    """Let gevent find early imports of ``ssl``: it searches the objects that the collector knows."""
    from gevent import events

    if isinstance(event, events.GeventWillPatchModuleEvent) and event.module_name == 'ssl':
        gc.unfreeze()
    elif isinstance(event, events.GeventDidPatchAllEvent):
        gc.freeze()


def _load_workers() -> None:
    """Take the steps of ``geventnode serve --workers`` before it runs gunicorn."""
    import geventnode.cli.main  # noqa: F401

    _load_gunicorn()


def _load_parent() -> None:
    """Import the modules of the parent of ``geventnode serve --reload-on-hup``, which does not patch."""
    import geventnode.cli.main
    import geventnode.cli.reload
    import geventnode.net.listen  # noqa: F401


def _load_get() -> None:
    """Import the modules of ``geventnode get``, with those that gevent imports when it begins."""
    import gevent

    import geventnode.cli.get
    import geventnode.cli.main  # noqa: F401

    assert gevent.config.loop
    assert gevent.config.threadpool


def _load_doctor() -> None:
    """Take the steps of ``geventnode doctor`` before it loads its target."""
    import geventnode.cli.doctor
    import geventnode.cli.main  # noqa: F401


#: The module of each program, for ``python -m``, and the steps before a fork.
PROGRAMS: dict[str, tuple[str, Callable[[], None]]] = {
    'geventnode doctor': ('geventnode', _load_doctor),
    'geventnode get': ('geventnode', _load_get),
    'geventnode serve': ('geventnode', _load_serve),
    'geventnode serve with Flask': ('geventnode', _load_serve_with_flask),
    'geventnode serve --reload-on-hup': ('geventnode', _load_parent),
    'geventnode serve --workers': ('geventnode', _load_workers),
    'gunicorn': ('gunicorn', _load_gunicorn),
    'oldest gunicorn': ('gunicorn', _load_gunicorn),
}


# -- the test's process -----------------------------------------------------------------------------------------------


class Forked:
    """A started program: the part of :class:`subprocess.Popen` that the tests use, with text.

    :param pid: the process.
    :param stdout: its standard output.
    :param status: a descriptor that yields its exit status as text.
    """

    def __init__(self, args: Sequence[str], pid: int, stdout: TextIO, status: int) -> None:
        self.args = args
        self.pid = pid
        self.stdout = stdout
        #: Its exit status, or minus the number of a signal; None before :meth:`poll` or :meth:`wait` noticed its end.
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return its exit status, None if it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit status. Raises ``subprocess.TimeoutExpired``."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            self.returncode = int(os.read(self._status, 100))
            os.close(self._status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Return the rest of its output, after its end.

        :param timeout: the seconds for its end, after that of its output.
        """
        rest = ''
        if not self.stdout.closed:
            with self.stdout:
                rest = self.stdout.read()
        self.wait(timeout)
        return rest, None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Start a program of :data:`PROGRAMS`, any number of times.

    Its process begins with the first start, unless another process has begun it.

    :param directory: of the sockets of all fork servers of a run.
    """

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._address = directory / program.replace(' ', '-')
        # before any test, which would seem to have left the descriptors
        self._control, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connected = False

    def start(
        self,
        arguments: Sequence[str],
        *,
        paths: str,
        cwd: Path,
        env: Mapping[str, str],
        stderr: int,
        pass_fds: Sequence[int] = (),
        start_new_session: bool = False,
        umask: int = -1,
    ) -> Forked:
        """Start the program without input, and with a pipe for its output.

        :param paths: the variable PYTHONPATH with which the fork server loads modules, the same for each start.
        :param stderr: a descriptor, or ``subprocess.STDOUT``.
        """
        if not self._connected:
            self._connect(paths)
            self._connected = True
        nothing = os.open(os.devnull, os.O_RDONLY)
        output, writing = os.pipe()
        status, reporting = os.pipe()
        given = [nothing, writing, writing if stderr == subprocess.STDOUT else stderr, *pass_fds, reporting]
        request = {
            'arguments': arguments,
            'cwd': str(cwd),
            'env': dict(env),
            'descriptors': [0, 1, 2, *pass_fds],
            'start_new_session': start_new_session,
            'umask': umask,
        }
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], given)
        finally:
            for each in (nothing, writing, reporting):
                os.close(each)
        pid = int(self._control.recv(100))
        module, _ = PROGRAMS[self._program]
        return Forked([sys.executable, '-m', module, *arguments], pid, os.fdopen(output, 'r'), status)

    def _connect(self, paths: str) -> None:
        """Connect to the fork server, and begin it before if there is none."""
        with _locked(self._address), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            with _shortened(self._address) as address:
                try:
                    door.connect(address)
                except (FileNotFoundError, ConnectionRefusedError):
                    self._begin(address, paths)
                    door.connect(address)
            socket.send_fds(door, [b'connect'], [self._other.fileno()])
        self._other.close()

    def _begin(self, address: str, paths: str) -> None:
        """Begin the process of the fork server. It is in the background, as others can use it longer."""
        self._address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.bind(address)
            subprocess.run(
                [sys.executable, __file__, self._program, str(door.fileno()), str(self._address)],
                check=True,
                pass_fds=[door.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, 'PYTHONPATH': paths},
            )

    def close(self) -> None:
        """End the processes that this object has started: a test that fails can leave them. Blocks until they ended."""
        with self._control, self._other:
            if self._connected:
                self._control.shutdown(socket.SHUT_WR)
                self._control.recv(1)


@contextmanager
def _locked(address: Path) -> Iterator[None]:
    """Let no other process connect to a fork server, begin it, or end it. Blocks while another one has the lock."""
    with open(f'{address}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _shortened(address: Path) -> Iterator[str]:
    """Yield another path of a socket: one has at most 107 bytes (unix(7)), and directories can have long names."""
    directory = os.open(address.parent, os.O_RDONLY)
    try:
        yield f'/proc/self/fd/{directory}/{address.name}'
    finally:
        os.close(directory)


# -- the fork server --------------------------------------------------------------------------------------------------


class _Forks:
    """The running forks, and the processes that have started them.

    :param door: a socket that receives a connection of each of the latter; ``accept()`` would make patched sockets.
    :param address: of this socket.
    """

    def __init__(self, door: socket.socket, address: Path) -> None:
        self._door = door
        # recv_fds() ignores its flags (CPython 3.13), MSG_DONTWAIT among them
        self._door.setblocking(False)
        self._address = address
        self._poll = _poll()
        self._poll.register(door, select.POLLIN)
        #: The connections, by their descriptors.
        self._clients: dict[int, socket.socket] = {}
        #: The process, the descriptor for its status, and the connection, by the descriptor of the process.
        self._running: dict[int, tuple[int, int, socket.socket]] = {}

    def next(self) -> tuple[dict[str, Any], list[int]]:
        """Fork for each request, and return it in the fork, with the received descriptors.

        Reports the status of each fork that ends. Blocks until there is a request. Exits after the last connection.
        """
        # the tests' terminal can send it
        interrupt = signal.signal(signal.SIGINT, lambda number, frame: None)
        while True:
            # only the first event: it can be the end of other descriptors
            ready, _ = self._poll.poll()[0]
            if ready in self._running:
                self._report(ready)
            elif ready in self._clients:
                client = self._clients[ready]
                try:
                    message, descriptors, _, _ = socket.recv_fds(client, REQUEST, 250)
                except ConnectionResetError:
                    # it was killed before it read an answer
                    message = b''
                if not message:
                    self._disconnect(client)
                elif not self._fork(client, descriptors):
                    signal.signal(signal.SIGINT, interrupt)
                    *inherited, _ = descriptors
                    return json.loads(message), inherited
            else:
                self._accept()

    def _accept(self) -> None:
        _, (descriptor,), _, _ = socket.recv_fds(self._door, 100, 1)
        client = self._clients[descriptor] = _socket(fileno=descriptor)
        self._poll.register(client, select.POLLIN)

    def _fork(self, client: socket.socket, descriptors: Sequence[int]) -> int:
        """Fork, with the given descriptors in the fork; return the process there, and 0 in the fork."""
        *inherited, reporting = descriptors
        pid = _fork()
        if not pid:
            for each in (self._door, *self._clients.values()):
                each.close()
            for number in (reporting, *self._running, *(reported for _, reported, _ in self._running.values())):
                os.close(number)
            return 0
        for number in inherited:
            os.close(number)
        process = os.pidfd_open(pid)
        self._running[process] = pid, reporting, client
        self._poll.register(process, select.POLLIN)
        # the test's process can have ended
        with suppress(OSError):
            client.send(b'%d' % pid)
        return pid

    def _report(self, process: int) -> None:
        """Report the status of a fork that has ended."""
        pid, reporting, _ = self._running.pop(process)
        self._poll.unregister(process)
        os.close(process)
        _, status = _waitpid(pid, 0)
        # as above
        with suppress(OSError):
            os.write(reporting, b'%d' % os.waitstatus_to_exitcode(status))
        os.close(reporting)

    def _disconnect(self, client: socket.socket) -> None:
        """Kill the forks of a process that has ended; exit after the last one."""
        for process, (pid, _, owner) in tuple(self._running.items()):
            if owner is client:
                # not yet waited for, so that no other process has its number
                os.kill(pid, signal.SIGKILL)
                self._report(process)
        del self._clients[client.fileno()]
        self._poll.unregister(client)
        if not self._clients:
            self._end()
        client.close()

    def _end(self) -> None:
        """Exit, unless another process has connected meanwhile."""
        # the directory can be gone: no process finds this one then
        with suppress(FileNotFoundError), _locked(self._address):
            try:
                self._accept()
            except BlockingIOError:
                self._address.unlink()
            else:
                return
        sys.exit()


def _become(module: str, request: dict[str, Any], received: Sequence[int], path: Sequence[str]) -> None:
    """Take the descriptors, directory, environment and arguments of a request, as ``execve`` would."""
    numbers = request['descriptors']
    # out of the way of the numbers that the process is to have
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, max(numbers) + 1) for each in received]
    for each in received:
        os.close(each)
    for each, number in zip(moved, numbers, strict=True):
        os.dup2(each, number)
        os.close(each)
    if request['start_new_session']:
        os.setsid()
    if request['umask'] >= 0:
        os.umask(request['umask'])
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['env'])
    paths = request['env'].get('PYTHONPATH', '')
    sys.path[:] = [os.getcwd(), *filter(None, paths.split(os.pathsep)), *path]
    sys.argv[:] = ['-m', *request['arguments']]
    sys.orig_argv[:] = [sys.executable, '-m', module, *request['arguments']]


def main(name: str, descriptor: int, address: str) -> None:
    """Load a program in the background, and run it in each fork. Blocks until the tests' processes have ended."""
    if _fork():
        os._exit(0)
    door = _socket(fileno=descriptor)
    given = [os.path.dirname(__file__), *os.environ['PYTHONPATH'].split(os.pathsep)]
    path = [each for each in sys.path if each not in given]
    module, load = PROGRAMS[name]
    load()
    # Collections in the forks, those at their end among them, would visit the loaded objects, and copy their pages.
    gc.collect()
    gc.freeze()
    request, received = _Forks(door, Path(address)).next()
    _become(module, request, received, path)
    runpy.run_module(module, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
