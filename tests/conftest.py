"""What every test gets: a leak check, a guard against hangs, skips that count where they must not, and fixtures.

The suite runs twice, with the standard library patched and without (``tests/patched.py``); nothing here depends on it.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.monkey
import greenlet
import pytest

from tests.leaks import LeakCheck

__all__ = ['must_call', 'no_leaks', 'no_switch', 'seed']

pytest_plugins = [
    'pytester',
    'tests.emitters',
    'tests.hangs',
    'tests.servers',
    'tests.origins',
    'tests.certificates',
    'tests.https_sites',
    'tests.applications',
    'tests.sessions',
]
# So that failed assertions in the suites that several modules share explain themselves.
pytest.register_assert_rewrite('tests.conformance', 'tests.corpus', 'tests.sockets')

#: Tests after which what pytest keeps of them is hidden from the collector.
TESTS_HIDDEN = 50
SEED = int(os.environ.get('GEVENTNODE_SEED') or random.SystemRandom().getrandbits(32))
NO_SKIPS = bool(os.environ.get('GEVENTNODE_NO_SKIPS'))
_finished = itertools.count(1)


def pytest_report_header() -> str:
    """Say what a reader needs to repeat the run."""
    patched = 'patched' if gevent.monkey.is_module_patched('socket') else 'not patched'
    return f'geventnode: standard library {patched}, gevent {gevent.__version__}, GEVENTNODE_SEED={SEED}'


def pytest_collection_finish() -> None:
    """Make everything that the process has of its own exist, and hide it from the collector, before the first test."""
    hub = gevent.get_hub()
    hub.threadpool.apply(int)
    hub.resolver.gethostbyname('localhost')
    hub.loop.install_sigchld()
    gevent.idle()
    _hide()


def _hide() -> None:
    """Hide what is alive from the collector, and so from the leak check, which looks at every object three times."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those that take longest begin first, so that nobody waits for them in the end."""
    items.sort(key=_allowed_time, reverse=True)


def _allowed_time(item: pytest.Item) -> float:
    marker = item.get_closest_marker('hangs_after')
    return marker.args[0] if marker else 0.0


# -- skips ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Turn a skipped test into a failed one where nothing may be skipped."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Turn a skipped module into a failed one where nothing may be skipped."""
    return _refuse_skip((yield))


def _refuse_skip(report: Any) -> Any:
    if NO_SKIPS and report.outcome == 'skipped' and not hasattr(report, 'wasxfail'):
        report.outcome = 'failed'
        report.longrepr = f'skipped, and GEVENTNODE_NO_SKIPS is set: {report.longrepr}'
    return report


# -- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves greenlets, watchers or descriptors behind."""
    check = LeakCheck()
    yield
    if request.node.get_closest_marker('leaks') is None:
        leaks = check.leaks()
        if leaks:
            pytest.fail('the test leaked:\n' + '\n'.join(leaks), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Hide what pytest and the modules imported meanwhile keep, now and then: the leak check would take ever longer."""
    if next(_finished) % TESTS_HIDDEN == 0:
        _hide()


@pytest.fixture
def seed() -> int:
    """The seed for whatever the test does at random: printed, and set by ``GEVENTNODE_SEED``."""
    print(f'GEVENTNODE_SEED={SEED}')  # noqa: T201 - a failing test shows it
    return SEED


@pytest.fixture
def no_switch() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context manager whose block must not switch to another greenlet, not even to the hub."""
    return _no_switch


@contextlib.contextmanager
def _no_switch() -> Iterator[None]:
    current = greenlet.getcurrent()
    targets = []

    def trace(event: str, args: tuple[greenlet.greenlet, greenlet.greenlet]) -> None:
        origin, target = args
        if origin is current and event in ('switch', 'throw'):
            targets.append(repr(target))

    # A collection may end suspended greenlets, which is a switch that is not the block's own.
    gc.disable()
    before = greenlet.settrace(trace)
    try:
        yield
    finally:
        greenlet.settrace(before)
        gc.enable()
    if targets:
        pytest.fail(f'switched {len(targets)} time(s), to {", ".join(targets)}')


@pytest.fixture
def must_call() -> Iterator[Callable[..., Callable[..., Any]]]:
    """Wrap a function (or none) that must be called ``exactly`` so many times, once unless said otherwise, before the
    test is over."""
    wanted: list[tuple[Callable[..., Any], int, list[tuple[Any, ...]]]] = []

    def wrap(function: Callable[..., Any] | None = None, exactly: int = 1) -> Callable[..., Any]:
        function = function or (lambda *args, **options: None)
        calls: list[tuple[Any, ...]] = []
        wanted.append((function, exactly, calls))

        @functools.wraps(function)
        def counted(*args: Any, **options: Any) -> Any:
            calls.append(args)
            return function(*args, **options)

        return counted

    yield wrap
    wrong = [
        f'{function!r} was called {len(calls)} time(s) instead of {exactly}, with {calls}'
        for function, exactly, calls in wanted
        if len(calls) != exactly
    ]
    if wrong:
        pytest.fail('\n'.join(wrong), pytrace=False)
