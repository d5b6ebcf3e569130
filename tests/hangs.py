"""Fail tests that hang: a timer in the loop raises in the test, or a signal where the test blocks the loop.

The handler of the signal runs in the greenlet that blocks, for example while it reads the output of a program. While
the loop runs, it would run in the hub, which only prints exceptions, but the timer has ended the test before. A thread
would be a greenlet after the standard library is patched. If a test blocks in a call that no signal interrupts,
``faulthandler`` ends the process. pytest's ``faulthandler_timeout`` would start and join a thread for each test, which
takes as long as a small test does: :class:`_LastGuard` starts one a minute.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from time import monotonic

import gevent
import pytest

from tests.leaks import describe, live_greenlets

__all__ = [
    'HungTest',
    'pytest_configure',
    'pytest_enter_pdb',
    'pytest_exception_interact',
    'pytest_runtest_call',
    'pytest_runtest_protocol',
    'pytest_runtest_setup',
    'pytest_runtest_teardown',
    'pytest_unconfigure',
]

#: Long enough for a busy machine.
DEFAULT_SECONDS = 120.0

#: The least limit for the fixtures of a test, which can install packages.
SETUP_SECONDS = 480.0

#: Seconds by which the end of a process that no signal interrupts can be late.
SLACK = 60.0

#: Seconds from the limit to the first signal, and between two of them: contexts that a signal ends can block, too.
GRACE = 10.0


class HungTest(BaseException):
    """The test did not end in time. Not an ``Exception``, so that the code under test does not catch it."""


class _LastGuard:
    """End the process, with the stacks of its threads, if a test blocks far beyond its limit.

    :param file: the descriptor for the stacks.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._ends = 0.0

    def allow(self, seconds: float) -> None:
        """Let the process run for these seconds at least, and for :data:`SLACK` more at most."""
        now = monotonic()
        if not now + seconds <= self._ends <= now + seconds + SLACK:
            self._ends = now + seconds + SLACK
            faulthandler.dump_traceback_later(seconds + SLACK, file=self._file, exit=True)

    def cancel(self) -> None:
        """Let the process run for any time, until the next test."""
        faulthandler.cancel_dump_traceback_later()
        self._ends = 0.0

    def close(self) -> None:
        """Let the process run for any time, to its end."""
        self.cancel()
        os.close(self._file)


_last_guard = pytest.StashKey[_LastGuard]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the standard error of the process: pytest replaces it while tests run."""
    # xdist replaces the object as well
    config.stash[_last_guard] = _LastGuard(os.dup(sys.__stderr__.fileno()))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the process take any time for its end."""
    # another plugin can have refused the configuration before
    if (guard := config.stash.get(_last_guard, None)) is not None:
        guard.close()


def pytest_enter_pdb(config: pytest.Config) -> None:
    """Let a user take any time in the debugger."""
    config.stash[_last_guard].cancel()


def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Set the limit again for the next test: pytest cancels it after a failure, which can start the debugger."""
    node.config.stash[_last_guard].cancel()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Let the process run as long as the test is allowed to."""
    item.config.stash[_last_guard].allow(max(_limit(item), SETUP_SECONDS) + 2 * (_limit(item) + GRACE))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Raise :class:`HungTest` in a fixture that takes too long to begin."""
    with _limited(max(_limit(item), SETUP_SECONDS)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Raise :class:`HungTest` in a test that takes too long, with the stacks of the other greenlets."""
    with _limited(_limit(item)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Raise :class:`HungTest` in a fixture that takes too long to end."""
    with _limited(_limit(item)):
        return (yield)


def _limit(item: pytest.Item) -> float:
    marker = item.get_closest_marker('hangs_after')
    return float(marker.args[0]) if marker else DEFAULT_SECONDS


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    hung = HungTest(f'after {seconds} seconds')
    # The loop does not count the timer: a test that waits for nothing still ends with LoopExit immediately.
    with gevent.Timeout(seconds, hung, ref=False), _raised_where_blocked(seconds + GRACE, hung):
        try:
            yield
        except HungTest as raised:
            if raised is not hung:
                raise
            others = '\n'.join(describe(each) for each in live_greenlets())
            pytest.fail(f'the test hung: {raised}; other greenlets:\n{others}')


@contextlib.contextmanager
def _raised_where_blocked(seconds: float, error: BaseException) -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, GRACE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
