"""Check every test for leaks and hangs, distribute the tests, turn skips into failures on request, define fixtures.

The suite runs twice, with and without a patched standard library (``tests/patched.py``); this file works in both.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import itertools
import os
import random
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.monkey
import greenlet
import pytest
from _pytest.runner import runtestprotocol

from tests.leaks import LeakCheck

__all__ = ['must_call', 'no_leaks', 'no_switch', 'seed']

pytest_plugins = [
    'pytester',
    'tests.emitters',
    'tests.hangs',
    'tests.summary',
    'tests.servers',
    'tests.origins',
    'tests.http2.client',
    'tests.https_sites',
    'tests.applications',
    'tests.sessions',
    'tests.transitions',
]
# Assertions in modules that several test files share then show their values.
pytest.register_assert_rewrite('tests.conformance', 'tests.corpus', 'tests.sockets')

#: Number of tests after which the objects that pytest keeps are hidden from the collector.
TESTS_HIDDEN = 5
#: Seconds of a successful preparation that ``--durations`` does not show.
SHORT = 0.005
SEED = int(os.environ.get('GEVENTNODE_SEED') or random.SystemRandom().getrandbits(32))
# The processes of xdist, and those that tests start, have the same.
os.environ['GEVENTNODE_SEED'] = str(SEED)
# Images of containers often forbid bytecode. Hundreds of interpreters would then compile this package anew.
if os.environ.pop('PYTHONDONTWRITEBYTECODE', None) is not None:
    sys.dont_write_bytecode = False
ROOT = Path(__file__).parent.parent
# Interpreters that tests start read the entry points of the installed packages once: see the file there.
STARTUP = str(ROOT / 'tests' / 'system' / 'startup')
_paths = [path for path in os.environ.get('PYTHONPATH', '').split(os.pathsep) if path]
os.environ['PYTHONPATH'] = os.pathsep.join(dict.fromkeys([STARTUP, *_paths]))
#: The beginning of the paths of the system tests.
SYSTEM = f'{ROOT / "tests" / "system"}{os.sep}'
NO_SKIPS = bool(os.environ.get('GEVENTNODE_NO_SKIPS'))
_finished = itertools.count(1)

# Programs that tests start inherit ignored signals (``nohup pytest``, or ``pytest &`` in a script), and would not end.
# A handler is not inherited.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)


def pytest_report_header() -> str:
    """Return the values that are needed to repeat the run."""
    patched = 'patched' if gevent.monkey.is_module_patched('socket') else 'not patched'
    return f'geventnode: standard library {patched}, gevent {gevent.__version__}, GEVENTNODE_SEED={SEED}'


def pytest_collection_finish() -> None:
    """Create the objects of the process itself, and hide them from the collector, before the first test."""
    hub = gevent.get_hub()
    hub.threadpool.apply(int)
    hub.resolver.gethostbyname('localhost')
    hub.loop.install_sigchld()
    gevent.idle()
    _hide()


def _hide() -> None:
    """Hide all live objects from the collector, and so from the leak check, which visits every object three times."""
    gc.collect()
    gc.freeze()


# -- distribution ---------------------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return the number of processes: two for a processor, because tests wait for other programs and for timers."""
    if os.environ.get('PYTEST_XDIST_AUTO_NUM_WORKERS'):
        return None
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the files, so that each process begins with long tests and those of programs, and ends with short ones.

    xdist gives each process an equal part of the list; a process without work takes the end of another one's part. The
    tests of a file stay together, because they can share servers, as do those that share the browser; the longest ones
    are dealt one by one.
    """
    _leave_out_checks(items)
    items.sort(key=_precedence)
    shares: defaultdict[object, list[pytest.Item]] = defaultdict(list)
    for item in items:
        shares[_share(item)].append(item)
    processes = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    dealt = [list(shares.values())[number::processes] for number in range(processes)]
    items[:] = [item for part in dealt for share in part for item in share]


def _share(item: pytest.Item) -> object:
    if item.get_closest_marker('hangs_after'):
        return item
    # documentation tests have no fixtures
    return 'chromium' if 'chromium' in getattr(item, 'fixturenames', ()) else item.path


def _precedence(item: pytest.Item) -> tuple[float, bool]:
    marker = item.get_closest_marker('hangs_after')
    return -marker.args[0] if marker else 0.0, not str(item.path).startswith(SYSTEM)


def pytest_collection(session: pytest.Session) -> None:
    """Import another part of the files first in each process of xdist, so that none is compiled twice.

    pytest rewrites the assertions when it compiles a file, which takes longer than all else before the first test.
    """
    if hasattr(session.config, 'workerinput') and session.config.args == session.config.getini('testpaths'):
        number, processes = session.config.workerinput['workerid'][2:], session.config.workerinput['workercount']
        for path in sorted(ROOT.glob('tests/**/test_*.py'))[int(number) :: processes]:
            # the collection reports it
            with contextlib.suppress(Exception, pytest.skip.Exception):
                importlib.import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test as pytest does, without the messages that xdist's controller would not show.

    A fourth of the time of a short test would be that of the reports about its successful preparation and end. Only
    ``-v`` shows its beginning, with the same line as its result.
    """
    if not hasattr(item.config, 'workerinput'):
        return None
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        if report.when == 'call' or not report.passed or report.duration > SHORT:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


# -- skips ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Turn a skipped test into a failed one if ``GEVENTNODE_NO_SKIPS`` is set."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Turn a skipped module into a failed one if ``GEVENTNODE_NO_SKIPS`` is set."""
    return _refuse_skip((yield))


def _refuse_skip(report: Any) -> Any:
    if NO_SKIPS and report.outcome == 'skipped' and not hasattr(report, 'wasxfail'):
        report.outcome = 'failed'
        report.longrepr = f'skipped, and GEVENTNODE_NO_SKIPS is set: {report.longrepr}'
    return report


# -- fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves greenlets, watchers or descriptors behind."""
    # without ``request``: three objects would be made for it, which takes as long as half of the check
    check = LeakCheck()
    yield
    leaks = check.leaks()
    if leaks:
        pytest.fail('the test leaked:\n' + '\n'.join(leaks), pytrace=False)


def _leave_out_checks(items: list[pytest.Item]) -> None:
    """Leave out the check of tests that leak on purpose."""
    for item in items:
        if item.get_closest_marker('leaks') is not None:
            # a new list: those with other parameters share the old one
            item.fixturenames = [name for name in item.fixturenames if name != 'no_leaks']


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """Regularly hide the objects that pytest and new modules keep: they would slow the leak check down."""
    if next(_finished) % TESTS_HIDDEN == 0:
        _hide()


@pytest.fixture
def seed() -> int:
    """Return the seed for random choices of the test: printed, and set by ``GEVENTNODE_SEED``."""
    print(f'GEVENTNODE_SEED={SEED}')  # noqa: T201 - a failing test shows it
    return SEED


@pytest.fixture
def no_switch() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return a context manager that fails if its block switches to another greenlet or to the hub."""
    return _no_switch


@contextlib.contextmanager
def _no_switch() -> Iterator[None]:
    current = greenlet.getcurrent()
    targets = []

    def trace(event: str, args: tuple[greenlet.greenlet, greenlet.greenlet]) -> None:
        origin, target = args
        if origin is current and event in ('switch', 'throw'):
            targets.append(repr(target))

    # A collection can end suspended greenlets; the block did not cause these switches.
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
    """Wrap a function (or none) that must be called ``exactly`` the given number of times, once by default."""
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
