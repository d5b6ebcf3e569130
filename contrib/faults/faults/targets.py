"""The processes that get into trouble: how they are started, and what they tell about themselves.

They are the benchmarks' processes with scripts, and arguments, of ours. Each prints a second port, behind which another
server tells what the process holds: what is asked there is not counted among the connections of the first.
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

#: Where the scripts are that make the trouble.
WORKERS = HERE / 'workers'

#: What makes a part of the report invalid.
FAILURES = (ServerFailed, workers.WorkerFailed, OSError, http.client.HTTPException)

#: Of what a process holds, that of which nothing may be left.
LEFT = ('connections', 'greenlets', 'descriptors')

STATUS_TIMEOUT = 60.0

Self = TypeVar('Self', bound='RunningTarget')

#: Seconds in which a server must have got rid of what its clients have left, or have accepted them, and between two
#: looks.
SETTLE_TIMEOUT, SETTLE_INTERVAL = 30.0, 0.1


@dataclass(frozen=True)
class Target(Server):
    """A process that can be started: a script in ``servers/``."""

    @classmethod
    def of(cls, script: str, *arguments: object, certificate: str | None = None) -> Target:
        """Return the script with these arguments, behind the certificate if there is one."""
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
    """What a process holds, after a collection of its garbage.

    :ivar connections: connections of its server.
    :ivar greenlets: greenlets, without workers that idle in their pool.
    :ivar descriptors: open files.
    :ivar objects: objects that the collector knows.
    """

    connections: int
    greenlets: int
    descriptors: int
    objects: int


def reasons(samples: Samples) -> list[str]:
    """Return why something was not measured, each reason once."""
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
        """How many files it has open, seen from outside."""
        return len(os.listdir(f'/proc/{self.pid}/fd'))

    @property
    def logged(self) -> int:
        """How many lines it has written to its standard error so far."""
        descriptor = self._log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).count(b'\n')

    def status(self) -> Status:
        """Return what it holds."""
        connection = http.client.HTTPConnection('127.0.0.1', self._status_port, timeout=STATUS_TIMEOUT)
        try:
            connection.request('GET', '/', headers={'Connection': 'close'})
            return Status(**json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def wait_for(self, connections: int) -> None:
        """Return when it has so many connections. Raises ``ServerFailed``."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while (found := self.status().connections) < connections:
            if time.monotonic() > deadline:
                raise ServerFailed(f'{found} of {connections} connections were accepted')
            time.sleep(SETTLE_INTERVAL)

    def settled(self, before: Status) -> Status:
        """Return what it holds as soon as that is no more than ``before``, or else after some time."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while True:
            now = self.status()
            left = any(getattr(now, name) > getattr(before, name) for name in LEFT)
            if not left or time.monotonic() > deadline:
                return now
            time.sleep(SETTLE_INTERVAL)

    def answers(self) -> bool:
        """Return whether it answers a normal request."""
        try:
            return self.request('GET', '/') == (200, b'hello world')
        except (OSError, http.client.HTTPException):
            return False

    def _check(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._status_port = int(self._process.stdout.readline())
        self.status()
