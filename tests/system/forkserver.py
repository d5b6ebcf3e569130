"""Start servers as forks of an interpreter that has loaded their modules: tests start hundreds of them.

A fork server (:class:`ForkServer`) is a process that has taken the first steps of a program: it has, for example,
patched the standard library and imported this package. Each start of the program is a fork of that process, which
begins with its own arguments, directory, environment and descriptors, and finds these steps already done.
``test_forkserver.py`` compares such a start with one by ``python -m``.

The fork server waits for the ends of its forks, and reports their statuses.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

__all__ = ['PROGRAMS', 'ForkServer', 'Forked', 'main']

# Those of the standard library before it is patched: a fork server has no hub that could wait.
_fork, _waitpid, _poll = os.fork, os.waitpid, select.poll

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

    # Its settings have defaults from the directory and the environment: forks import these modules anew.
    for name in [name for name in sys.modules if 'gunicorn' in name]:
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

    Its process begins with the first start.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._control, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None

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
        if self._process is None:
            self._process = self._run(paths)
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

    def _run(self, paths: str) -> subprocess.Popen[bytes]:
        with self._other:
            return subprocess.Popen(
                [sys.executable, __file__, self._program, str(self._other.fileno())],
                pass_fds=[self._other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, 'PYTHONPATH': paths},
            )

    def close(self) -> None:
        """End the fork server, and the processes that it has started: a test that fails can leave them."""
        self._control.close()
        self._other.close()
        if self._process is not None:
            self._process.wait()


# -- the fork server --------------------------------------------------------------------------------------------------


def _next_fork(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each request, and return it in the fork, with the received descriptors.

    Reports the status of each fork that ends. Blocks until there is a request. At the end of the requests, kills the
    forks, and exits.
    """
    # the tests' terminal can send it
    interrupt = signal.signal(signal.SIGINT, lambda number, frame: None)
    #: The process, and the descriptor for its status, by its own descriptor.
    running: dict[int, tuple[int, int]] = {}
    poll = _poll()
    poll.register(control, select.POLLIN)
    while True:
        for each, _ in poll.poll():
            if each in running:
                poll.unregister(each)
                os.close(each)
                _report(*running.pop(each))
                continue
            message, descriptors, _, _ = socket.recv_fds(control, REQUEST, 250)
            if not message:
                for pid, reporting in running.values():
                    # not yet waited for, so that no other process has its number
                    os.kill(pid, signal.SIGKILL)
                    _report(pid, reporting)
                sys.exit()
            *inherited, reporting = descriptors
            pid = _fork()
            if not pid:
                signal.signal(signal.SIGINT, interrupt)
                control.close()
                for number in (reporting, *running, *(reported for _, reported in running.values())):
                    os.close(number)
                return json.loads(message), inherited
            for number in inherited:
                os.close(number)
            control.send(b'%d' % pid)
            process = os.pidfd_open(pid)
            running[process] = pid, reporting
            poll.register(process, select.POLLIN)


def _report(pid: int, reporting: int) -> None:
    """Report the status of a process that has ended."""
    _, status = _waitpid(pid, 0)
    # the test's process can have ended
    with suppress(OSError):
        os.write(reporting, b'%d' % os.waitstatus_to_exitcode(status))
    os.close(reporting)


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


def main(name: str, descriptor: int) -> None:
    """Load a program, and run it in each fork. Blocks until the test's process has ended; in a fork, until that has."""
    control = socket.socket(fileno=descriptor)
    given = [os.path.dirname(__file__), *os.environ['PYTHONPATH'].split(os.pathsep)]
    path = [each for each in sys.path if each not in given]
    module, load = PROGRAMS[name]
    load()
    # Collections in the forks, those at their end among them, would visit the loaded objects, and copy their pages.
    gc.collect()
    gc.freeze()
    request, received = _next_fork(control)
    _become(module, request, received, path)
    runpy.run_module(module, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
