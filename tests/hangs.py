"""Fail tests that hang: a timer in the loop raises in the test.

A signal handler would run in the hub while the test waits, and the hub only prints exceptions. A thread would be a
greenlet after the standard library is patched. If a test blocks the loop, too, pytest's ``faulthandler_timeout`` ends
the process.
"""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from tests.leaks import describe, live_greenlets

__all__ = ['HungTest', 'pytest_runtest_call']

#: Long enough for a busy machine.
DEFAULT_SECONDS = 120.0


class HungTest(BaseException):
    """The test did not end in time. Not an ``Exception``, so that the code under test does not catch it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Raise :class:`HungTest` in a test that takes too long, with the stacks of the other greenlets."""
    marker = item.get_closest_marker('hangs_after')
    seconds = marker.args[0] if marker else DEFAULT_SECONDS
    # The loop does not count the timer: a test that waits for nothing still ends with LoopExit immediately.
    with gevent.Timeout(seconds, HungTest(f'after {seconds} seconds'), ref=False) as timeout:
        try:
            return (yield)
        except HungTest as raised:
            if raised is not timeout.exception:
                raise
            others = '\n'.join(describe(each) for each in live_greenlets())
            pytest.fail(f'the test hung: {raised}; other greenlets:\n{others}')
