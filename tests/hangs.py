"""The guard against tests that hang: a timer in the loop, which raises in the test itself.

A signal would be no use, because its handler runs inside the hub while the test waits, and the hub only prints what
is raised there; a thread would be a greenlet once the standard library is patched. What blocks the loop as well is left
to pytest's ``faulthandler_timeout``, which ends the process.
"""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from tests.leaks import describe, live_greenlets

__all__ = ['HungTest', 'pytest_runtest_call']

#: A machine that is busy with other things takes its time; a hang takes for ever.
DEFAULT_SECONDS = 120.0


class HungTest(BaseException):
    """The test did not end in time. No ``Exception``, so that code under test does not swallow it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Raise :class:`HungTest` in a test that takes too long, with the stacks of the other greenlets."""
    marker = item.get_closest_marker('hangs_after')
    seconds = marker.args[0] if marker else DEFAULT_SECONDS
    # Not counted by the loop: one that waits for nothing else still ends with LoopExit at once.
    with gevent.Timeout(seconds, HungTest(f'after {seconds} seconds'), ref=False) as timeout:
        try:
            return (yield)
        except HungTest as raised:
            if raised is not timeout.exception:
                raise
            others = '\n'.join(describe(each) for each in live_greenlets())
            pytest.fail(f'the test hung: {raised}; other greenlets:\n{others}')
