"""The processes with faults: starting them, and reading their status.

They are processes of the benchmarks with other scripts and arguments. Each prints a second port, at which another
server reports the resources of the process, without counting its own connections.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from bench import workers
from bench.results import Samples
from bench.servers import RunningServer, Server, ServerFailed

__all__ = ['FAILURES', 'LEFT', 'WORKERS', 'RunningTarget', 'Status', 'Target', 'reasons']

HERE = Path(__file__).parent.parent

#: The directory of the scripts that inject the faults.
WORKERS = HERE / 'workers'

#: Exceptions that make a part of the report invalid.
FAILURES = (ServerFailed, workers.WorkerFailed, OSError, http.client.HTTPException)

#: The resources that must all be released.
LEFT = ('connections', 'greenlets', 'descriptors')

STATUS_TIMEOUT = 60.0

Self = TypeVar('Self', bound='RunningTarget')

#: Seconds in which a server must have accepted its clients, or released their resources.
SETTLE_TIMEOUT = 30.0
#: Seconds between two checks of that.
SETTLE_INTERVAL = 0.1


@dataclass(frozen=True)
class Target(Server):
    """A process that can be started: a script in ``servers/``."""

    @classmethod
    def of(cls, script: str, *arguments: object, certificate: str | None = None) -> Target:
        """Return the script with these arguments, after the certificate if there is one."""
        return cls(
            'geventnode',
            'geventnode',
            str(HERE / 'servers' / script),
            ('gevent', 'zope'),
            certificate,
            tuple(map(str, arguments)),
        )


@dataclass(frozen=True)
class Status:
    """The resources of a process, after a garbage collection.

    :ivar connections: connections of its server.
    :ivar greenlets: greenlets, without idle workers.
    :ivar descriptors: open files.
    :ivar objects: objects that the garbage collector tracks.
    """

    connections: int
    greenlets: int
    descriptors: int
    objects: int


def reasons(samples: Samples) -> list[str]:
    """Return the reasons for missing measurements, each once."""
    return [f'Invalid: {reason}' for reason in dict.fromkeys(samples.faults.values())]


class RunningTarget(RunningServer):
    """A started target."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._status_port = 0

    def __enter__(self: Self) -> Self:
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)

    @property
    def descriptors(self) -> int:
        """The number of its open files, according to /proc."""
        return len(os.listdir(f'/proc/{self.pid}/fd'))

    @property
    def logged(self) -> int:
        """The number of lines that it has written to standard error."""
        descriptor = self._log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).count(b'\n')

    def status(self) -> Status:
        """Return its resources."""
        connection = http.client.HTTPConnection('127.0.0.1', self._status_port, timeout=STATUS_TIMEOUT)
        try:
            connection.request('GET', '/', headers={'Connection': 'close'})
            return Status(**json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def wait_for(self, connections: int) -> None:
        """Wait until it has that number of connections. Raises ``ServerFailed``."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while (found := self.status().connections) < connections:
            if time.monotonic() > deadline:
                raise ServerFailed(f'{found} of {connections} connections were accepted')
            time.sleep(SETTLE_INTERVAL)

    def settled(self, before: Status) -> Status:
        """Return its resources once they are no more than ``before``, or after a timeout."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while True:
            now = self.status()
            left = any(getattr(now, name) > getattr(before, name) for name in LEFT)
            if not left or time.monotonic() > deadline:
                return now
            time.sleep(SETTLE_INTERVAL)

    def answers(self) -> bool:
        """Return whether it responds to a normal request."""
        try:
            return self.request('GET', '/') == (200, b'hello world')
        except (OSError, http.client.HTTPException):
            return False

    def _check(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._status_port = int(self._process.stdout.readline())
        self.status()
