"""Fail tests that hang: a timer in the loop raises in the test, or a signal where the test blocks the loop.

The handler of the signal runs in the greenlet that blocks, for example while it reads the output of a program. While
the loop runs, it would run in the hub, which only prints exceptions, but the timer has ended the test before. A thread
would be a greenlet after the standard library is patched. If a test blocks in a call that no signal interrupts,
pytest's ``faulthandler_timeout`` ends the process.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import gevent
import pytest

from tests.leaks import describe, live_greenlets

__all__ = ['HungTest', 'pytest_runtest_call', 'pytest_runtest_setup', 'pytest_runtest_teardown']

#: Long enough for a busy machine.
DEFAULT_SECONDS = 120.0

#: The least limit for the fixtures of a test, which can install packages; less than pytest's own limit.
SETUP_SECONDS = 480.0

#: Seconds from the limit to the first signal, and between two of them: contexts that a signal ends can block, too.
GRACE = 10.0


class HungTest(BaseException):
    """The test did not end in time. Not an ``Exception``, so that the code under test does not catch it."""


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
