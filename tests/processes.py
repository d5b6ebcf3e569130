"""Run the tests in several processes: forks of this one, which has imported and collected everything once.

A process that has ended a share of the tests takes the next one, so that all processes end at about the same time. The
tests of a file are a share, because they can share servers; each long test is a share of its own. Reports go through a
pipe to this process, which prints them. Processes that import and collect for themselves, as those of pytest-xdist,
need longer for it than for many of the tests; ``-n`` still uses xdist, if it is installed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import struct
import sys
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, NoReturn

import gevent
import pytest
from gevent.monkey import get_original

__all__ = ['pytest_addoption', 'pytest_runtestloop']

Share = list[pytest.Item]

#: A number in the queue of shares.
NUMBER = struct.Struct('i')

# gevent's would create a hub in this process, and every child would inherit it.
_fork, _waitpid = get_original('os', ['fork', 'waitpid'])


class _Message(NamedTuple):
    """The results of a test, and the next test of the process."""

    reports: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    running: tuple[str, Any] | None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the number of processes."""
    parser.addoption(
        '--processes',
        type=int,
        metavar='NUMBER',
        default=int(os.environ.get('GEVENTNODE_PROCESSES') or 2 * len(os.sched_getaffinity(0))),
        help='number of processes; by default two for a processor, because tests wait for other programs and for '
        'timers; 1 runs everything in this one, for a debugger',
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in other processes, unless one process is enough or was requested."""
    option = session.config.option
    shares = _shares(session.items)
    processes = min(option.processes, len(shares))
    if processes < 2 or session.testsfailed or option.collectonly or option.usepdb or _uses_xdist(session.config):
        return None
    _Processes(session, shares).run(processes)
    return True


def _uses_xdist(config: pytest.Config) -> bool:
    return hasattr(config, 'workerinput') or getattr(config.option, 'numprocesses', None) is not None


def _shares(items: list[pytest.Item]) -> list[Share]:
    shares: defaultdict[object, Share] = defaultdict(list)
    for item in items:
        shares[item if item.get_closest_marker('hangs_after') else item.path].append(item)
    return list(shares.values())


class _Processes:
    """The processes, as seen by the one that prints."""

    def __init__(self, session: pytest.Session, shares: list[Share]) -> None:
        self._session = session
        self._shares = shares
        self._children: dict[Connection, int] = {}
        self._running: dict[Connection, tuple[str, Any] | None] = {}
        self._queue, writing = os.pipe()
        for number in range(len(shares)):
            os.write(writing, NUMBER.pack(number))
        os.close(writing)

    def run(self, processes: int) -> None:
        """Run all tests."""
        terminal = self._session.config.pluginmanager.getplugin('terminalreporter')
        # Tests of different files alternate.
        terminal.showfspath = False
        # The first call makes the directory of all temporary ones, and removes one of the same name.
        self._session.config._tmp_path_factory.getbasetemp()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            for _ in range(processes):
                self._start()
            while self._children:
                for each in wait(list(self._children)):
                    self._receive(each)
            if os.read(self._queue, 1):
                raise self._session.Interrupted('every process ended before all tests were run')
        finally:
            for process in self._children.values():
                os.kill(process, signal.SIGINT)
            for process in self._children.values():
                _waitpid(process, 0)
            os.close(self._queue)

    def _start(self) -> None:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of other threads, which the child does not use.
            warnings.simplefilter('ignore', DeprecationWarning)
            process = _fork()
        if not process:
            # Without a reader, writing fails: the processes end if this one was killed.
            os.close(reading)
            for other in self._children:
                other.close()
            _Child(self._session, self._shares, self._queue, Connection(writing, readable=False)).main()
        os.close(writing)
        self._children[Connection(reading, writable=False)] = process

    def _receive(self, connection: Connection) -> None:
        try:
            message = connection.recv()
        except EOFError:
            self._on_end(connection)
            return
        self._running[connection] = message.running
        hook, config = self._session.config.hook, self._session.config
        for values in message.warnings:
            hook.pytest_warning_recorded.call_historic(kwargs=values)
        for data in message.reports:
            hook.pytest_runtest_logreport(report=hook.pytest_report_from_serializable(config=config, data=data))
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _on_end(self, connection: Connection) -> None:
        connection.close()
        process = self._children.pop(connection)
        _, status = _waitpid(process, 0)
        running = self._running.pop(connection, None)
        problem = f'the process of the test ended with {os.waitstatus_to_exitcode(status)}'
        if running is not None:
            node, location = running
            problem += '; the tests after it in its file have not been run'
            report = pytest.TestReport(node, location, {}, 'failed', problem, 'call')
            self._session.config.hook.pytest_runtest_logreport(report=report)
        elif status:
            raise RuntimeError(problem)


class _Next:
    """Stand for the next test, which is chosen when the fixtures of the current one are torn down."""

    def __init__(self, items: Iterator[pytest.Item]) -> None:
        self._items = items
        #: The chosen test, or None at the end.
        self.item: pytest.Item | None = None

    def listchain(self) -> list[Any]:
        """Return the nodes that stay set up for the next test."""
        self.item = next(self._items, None)
        return [] if self.item is None else self.item.listchain()


class _Child:
    """One process, as a plugin of its own copy of pytest."""

    def __init__(self, session: pytest.Session, shares: list[Share], queue: int, output: Connection) -> None:
        self._session, self._shares, self._queue, self._output = session, shares, queue, output
        self._reports: list[dict[str, Any]] = []
        self._warnings: list[dict[str, Any]] = []

    def main(self) -> NoReturn:
        """Run shares until there is none left, and end the process."""
        status = 1
        try:
            # These functions are for the end of the other process.
            atexit._clear()
            if gevent.hub._get_hub() is not None:
                gevent.reinit()
            self._prepare_pytest()
            self._run()
            status = 0
        except KeyboardInterrupt:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                atexit._run_exitfuncs()
            os._exit(status)

    def _prepare_pytest(self) -> None:
        plugins = self._session.config.pluginmanager
        plugins.unregister(name='terminalreporter')
        # The files with the captured output have one position for all processes.
        capture = plugins.getplugin('capturemanager')
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture(in_=True)
        plugins.register(self, 'geventnode-process')

    def _run(self) -> None:
        items = self._items()
        item = next(items, None)
        while item is not None:
            self._send(item)
            following = _Next(items)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            item = following.item
        self._send(None)

    def _items(self) -> Iterator[pytest.Item]:
        while chosen := os.read(self._queue, NUMBER.size):
            yield from self._shares[NUMBER.unpack(chosen)[0]]

    def _send(self, following: pytest.Item | None) -> None:
        running = None if following is None else (following.nodeid, following.location)
        self._output.send(_Message(self._reports, self._warnings, running))
        self._reports, self._warnings = [], []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the report until the end of its test."""
        config = self._session.config
        self._reports.append(config.hook.pytest_report_to_serializable(config=config, report=report))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        """Keep the warning, without the object that has caused it, until the end of its test."""
        plain = warnings.WarningMessage(
            str(warning_message.message), warning_message.category, warning_message.filename, warning_message.lineno
        )
        self._warnings.append({'warning_message': plain, 'when': when, 'nodeid': nodeid, 'location': location})
