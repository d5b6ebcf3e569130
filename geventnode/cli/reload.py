"""``geventnode serve --reload-on-hup``: a parent process that replaces the serving process on SIGHUP.

The parent has the listening socket and imports no target. It executes its own command line again for each serving
process, which so loads new code of the target, of this package and of all others. A new process accepts connections
before its predecessor stops, and the socket stays open: no connection is refused. If the new process ends before it
serves, the old one continues.

The two processes share one end each of a socket pair: the serving process writes a byte when it serves, and stops when
the parent has died. The parent waits for signals, for that byte and for the end of its children, with the standard
library alone.

A serving process that ends by itself is not restarted: the parent ends with its exit status, and a supervisor such as
systemd decides.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
from typing import Any, NamedTuple, TextIO

from geventnode.cli.lines import say

__all__ = ['Parent', 'ReloadingServer', 'Supervised', 'supervised']

#: The variable in the environment of a serving process: its listening socket and its end of the pair, as descriptors.
VARIABLE = 'GEVENTNODE_SUPERVISED'

READY = b'\n'

#: The exit status of a process that was killed by a signal is this number more than the signal's, as in a shell.
SIGNALLED = 128


class Supervised(NamedTuple):
    """The descriptors that a serving process has from its parent."""

    listener: int
    channel: int


def supervised() -> Supervised | None:
    """Return the descriptors of a serving process; None in any other. A second call returns None.

    Programs that the target starts inherit neither the descriptors nor the variable.
    """
    value = os.environ.pop(VARIABLE, None)
    if value is None:
        return None
    found = Supervised(*map(int, value.split(',')))
    for descriptor in found:
        os.set_inheritable(descriptor, False)
    return found


class Parent:
    """The parent of this serving process."""

    def __init__(self, descriptors: Supervised) -> None:
        self._descriptors = descriptors
        self._watcher: Any = None

    def forget_listener(self) -> None:
        """Close the inherited descriptor, of which the server has a copy: the port is closed with the server's."""
        os.close(self._descriptors.listener)

    def notify_ready(self, when_dead: Any) -> None:
        """Let the parent stop the predecessor of this process.

        :param when_dead: called without arguments, in the hub, if the parent has died.
        """
        from gevent import get_hub

        channel = self._descriptors.channel
        with contextlib.suppress(OSError):
            os.write(channel, READY)

        def on_end() -> None:
            self._watcher.stop()
            when_dead()

        # nothing is ever sent to this end
        self._watcher = get_hub().loop.io(channel, 1, ref=False)
        self._watcher.start(on_end)


class _Child:
    """A serving process."""

    def __init__(self, command: list[str], directory: str, listener: Any) -> None:
        self.channel, other = socket.socketpair()
        with other:
            try:
                self.process = subprocess.Popen(
                    command,
                    cwd=directory,
                    env={**os.environ, VARIABLE: f'{listener.fileno()},{other.fileno()}'},
                    pass_fds=(listener.fileno(), other.fileno()),
                    # Ctrl+C is for the parent, which passes it on: two signals would abort the requests
                    start_new_session=True,
                )
            except BaseException:
                self.channel.close()
                raise
        self.stopping = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def stop(self, number: int) -> None:
        """Send a signal that stops the process."""
        self.stopping = True
        self.process.send_signal(number)

    def said_ready(self) -> bool:
        """Return whether the process has reported since the last call."""
        try:
            return self.channel.recv(1, socket.MSG_DONTWAIT) == READY
        except OSError:
            return False

    def exit_status(self) -> int | None:
        """Return the exit status in the form of a shell.

        It is None while the process runs.
        """
        status = self.process.poll()
        return status if status is None or status >= 0 else SIGNALLED - status


class ReloadingServer:
    """Serving processes, of which one serves and its predecessors finish their requests.

    :param command: the command line of a serving process.
    :param listener: the listening socket.
    :param path: the path of a Unix socket, which is removed at the end; None for another one.
    :param notices: the output for the line that says how new code is loaded.
    """

    def __init__(self, command: list[str], listener: Any, path: str | None, notices: TextIO) -> None:
        self._command = command
        self._listener = listener
        self._path = path
        self._notices = notices
        # a path with symbolic links leads to the new release, where the directory itself is the old one
        named = os.environ.get('PWD')
        self._directory = named if named and os.path.isdir(named) and os.path.samefile(named, '.') else os.getcwd()
        self._children: list[_Child] = []
        #: The process that accepts connections, and the one that loads the target.
        self._serving: _Child | None = None
        self._starting: _Child | None = None
        #: Whether the log of connections is to be switched when a process serves.
        self._switches_log = False
        self._stopped = False
        self._status = 0
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Serve until a signal stops the server, or it stops by itself.

        Blocks until all processes have ended. Returns the exit status.
        """
        wakeup, waking = socket.socketpair()
        for end in (wakeup, waking):
            end.setblocking(False)
        self._selector.register(wakeup, selectors.EVENT_READ)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            # a handler, so that the number is written to the socket
            signal.signal(number, lambda number, frame: None)
        self._start()
        while self._children:
            for key, _ in self._selector.select():
                if key.fileobj is wakeup:
                    for received in wakeup.recv(4096):
                        self._on_signal(received)
                else:
                    if key.data.said_ready():
                        self._on_ready(key.data)
                    # the byte has been read, here or before a signal of this turn, or the process has ended: SIGCHLD
                    # reports that, and nothing else is ever sent
                    self._unregister(key.data)
        self._close_listener()
        signal.set_wakeup_fd(-1)
        return self._status

    def _on_signal(self, number: int) -> None:
        starting = self._starting
        if starting is not None and starting.said_ready():
            # it served before the signal
            self._on_ready(starting)
        if number == signal.SIGCHLD:
            for child in tuple(self._children):
                status = child.exit_status()
                if status is not None:
                    self._on_exit(child, status)
        elif number == signal.SIGHUP:
            self._reload()
        elif number == signal.SIGUSR1:
            if self._serving is not None:
                self._serving.process.send_signal(number)
            else:
                # the process that loads the target has no handler yet, and would be killed
                self._switches_log = not self._switches_log
        elif number in (signal.SIGINT, signal.SIGTERM):
            self._stop(number)

    def _start(self) -> None:
        child = _Child(self._command, self._directory, self._listener)
        self._children.append(child)
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        self._starting = child

    def _reload(self) -> None:
        if self._stopped:
            return
        if self._starting is not None:
            # the code has changed again
            self._starting.stop(signal.SIGTERM)
            self._starting = None
        try:
            self._start()
        except OSError as error:
            _say(f'no new process could be started ({error}); {self._present()}')

    def _present(self) -> str:
        if self._serving is None:
            return 'no process serves'
        return f'process {self._serving.pid} continues to serve'

    def _unregister(self, child: _Child) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(child.channel)

    def _on_ready(self, child: _Child) -> None:
        if child is not self._starting:
            return
        self._starting = None
        before, self._serving = self._serving, child
        if before is None:
            say(f'To load new code, send SIGHUP to process {os.getpid()}.', self._notices)
        else:
            before.stop(signal.SIGTERM)
            _say(f'reloaded: process {child.pid} serves, and process {before.pid} finishes its requests')
        if self._switches_log:
            self._switches_log = False
            child.process.send_signal(signal.SIGUSR1)

    def _on_exit(self, child: _Child, status: int) -> None:
        self._children.remove(child)
        self._unregister(child)
        child.channel.close()
        if status > SIGNALLED and not child.stopping:
            _say(f'process {child.pid} was killed by signal {status - SIGNALLED}')
        if child is self._starting:
            self._starting = None
            if self._serving is None:
                self._status = status
            else:
                _say(f'not reloaded: the new process has ended with status {status}; {self._present()}')
        elif child is self._serving:
            self._serving = None
            self._status = status
        # a process that still loads the target takes over
        if self._serving is None and self._starting is None:
            self._close_listener()

    def _stop(self, number: int) -> None:
        """Stop all processes; a second signal stops them at once."""
        again, self._stopped = self._stopped, True
        self._close_listener()
        if self._serving is not None:
            self._starting = None
        for child in self._children:
            if again or not child.stopping:
                child.stop(number)

    def _close_listener(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._listener.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _say(text: str) -> None:
    say(f'geventnode: {text}', sys.stderr)
