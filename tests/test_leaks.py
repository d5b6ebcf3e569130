"""Test the guards of the suite: leaks, hangs, calls, switches, seeds and skips."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import gevent
import greenlet
import pytest

from tests.leaks import LeakCheck


def test_no_leak() -> None:
    check = LeakCheck()
    gevent.spawn(gevent.idle).join()
    assert check.leaks() == []


def test_greenlet_that_ends_by_itself_is_no_leak() -> None:
    check = LeakCheck()
    gevent.spawn(gevent.idle)
    assert check.leaks() == []


def test_timer_that_switched_here_is_no_leak() -> None:
    """During its callback, the loop counts an uncounted timer as -1."""
    hub = gevent.get_hub()
    # the first timer keeps the loop running
    other, timer = hub.loop.timer(1000), hub.loop.timer(0, ref=False)
    other.start(int)
    timer.start(greenlet.getcurrent().switch)
    hub.switch()
    check = LeakCheck()
    gevent.idle()
    found = check.leaks()
    for each in (other, timer):
        each.close()
    assert found == []


def test_pending_timer_is_no_leak() -> None:
    """Between expiry and callback, the loop counts an uncounted timer as -1. A low priority delays the callback."""
    timer = gevent.get_hub().loop.timer(0, ref=False, priority=-1)
    timer.start(int)
    check = LeakCheck()
    gevent.idle()
    found = check.leaks()
    timer.close()
    assert found == []


def test_waiting_greenlet_is_a_leak() -> None:
    check = LeakCheck()
    event = gevent.event.Event()
    leaked = gevent.spawn(lambda: event.wait())
    found = check.leaks()
    leaked.kill()
    assert len(found) == 1
    assert found[0].startswith('greenlet <Greenlet at')
    assert 'event.wait()' in found[0]


def test_raw_greenlet_is_a_leak() -> None:
    check = LeakCheck()
    leaked = greenlet.greenlet(lambda: greenlet.getcurrent().parent.switch())
    leaked.switch()
    found = check.leaks()
    leaked.throw()
    assert len(found) == 1


def test_watcher_is_a_leak() -> None:
    check = LeakCheck()
    timer = gevent.get_hub().loop.timer(1000)
    timer.start(int)
    found = check.leaks()
    described = repr(timer)
    timer.close()
    assert len(found) == 1
    assert found[0].startswith('1 active watcher(s): ')
    assert described in found[0]


def test_descriptor_is_a_leak() -> None:
    check = LeakCheck()
    leaked = os.open(os.devnull, os.O_RDONLY)
    found = check.leaks()
    os.close(leaked)
    assert found == [f'descriptor {leaked}: {os.devnull}']


def test_descriptor_with_a_reused_number_is_a_leak() -> None:
    first = os.open(os.devnull, os.O_RDONLY)
    check = LeakCheck()
    left, right = socket.socketpair()
    os.dup2(left.fileno(), first)
    found = check.leaks()
    for each in (left, right):
        each.close()
    os.close(first)
    assert any(each.startswith(f'descriptor {first}: socket:') for each in found)


INNER = """
    import gevent, os, pytest, signal, subprocess, sys
    from tests import hangs

    hangs.GRACE = 1

    def test_leaks():
        gevent.spawn(gevent.event.Event().wait)

    def test_clean():
        pass

    @pytest.mark.leaks('on purpose')
    def test_marked():
        os.dup(0)

    @pytest.mark.parametrize('given', [pytest.param(0, marks=pytest.mark.leaks('on purpose'))])
    def test_marked_parameter(given):
        os.dup(given)

    @pytest.mark.hangs_after(0.01)
    def test_hangs():
        gevent.sleep(1000)

    @pytest.mark.hangs_after(0.01)
    def test_blocks_the_loop():
        output, other = os.pipe()
        try:
            os.read(output, 1)
        finally:
            os.close(output)
            os.close(other)

    def test_waits_for_nothing():
        with pytest.raises(gevent.exceptions.LoopExit):
            gevent.get_hub().switch()

    def test_must_call_not_called(must_call):
        must_call()

    def test_must_call_called(must_call):
        called = must_call(lambda value: value + 1, exactly=2)
        assert [called(1), called(2)] == [2, 3]

    def test_switches(no_switch):
        with no_switch():
            gevent.sleep(0)

    def test_does_not_switch(no_switch):
        with no_switch():
            gevent.spawn(int)

    def test_seed(seed):
        assert seed == 12345

    def test_skips():
        pytest.skip('because')

    @pytest.mark.xfail(reason='expected')
    def test_xfails():
        assert False

    def test_program_does_not_inherit_ignored_signals():
        program = 'import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)'
        ran = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
        assert ran.stdout == 'True\\n'
"""

#: The plugins for tests of hangs: the other ones take three times as long to import.
HANGS = ('tests.hangs', 'tests.summary')


def _run_inside(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    which: str = 'test_inner.py',
    *,
    plugins: tuple[str, ...] = ('tests.conftest',),
    processes: int = 0,
) -> pytest.RunResult:
    """Run the tests in ``source`` with the settings and plugins of this suite."""
    root = os.path.dirname(os.path.dirname(__file__))
    monkeypatch.setenv('PYTHONPATH', root)
    pytester.makepyfile(test_inner=source)
    return pytester.runpytest_subprocess(
        *(f'-p{plugin}' for plugin in plugins),
        '-c',
        os.path.join(root, 'pyproject.toml'),
        f'--rootdir={pytester.path}',
        f'-n{processes}',
        which,
        '-q',
    )


@pytest.fixture
def ignored_signal() -> Iterator[None]:
    """Ignore a signal, as ``nohup`` does: programs inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures('ignored_signal')
def test_guards_report_their_findings(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GEVENTNODE_NO_SKIPS', '1')
    monkeypatch.setenv('GEVENTNODE_SEED', '12345')
    ran = _run_inside(pytester, monkeypatch, INNER)
    ran.assert_outcomes(passed=10, failed=4, errors=2, xfailed=1)
    ran.stdout.fnmatch_lines_random(
        [
            'the test leaked:',
            '> *gevent.sleep(1000)',
            'E*the test hung: after 0.01 seconds*',
            '> *os.read(output, 1)',
            'E*the test hung: after 0.01 seconds*',
            '*was called 0 time(s) instead of 1*',
            'E*switched 1 time(s), to *Hub*',
            'skipped, and GEVENTNODE_NO_SKIPS is set: *because*',
        ]
    )


UNINTERRUPTIBLE = """
    import os, pytest, signal
    from tests import hangs

    hangs.GRACE = hangs.SETUP_SECONDS = 0.1
    hangs.SLACK = 3

    @pytest.mark.hangs_after(0.1)
    def test_fails():
        assert False

    @pytest.mark.hangs_after(0.1)
    def test_blocks_without_signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        os.read(os.pipe()[0], 1)
"""


def test_a_process_that_nothing_interrupts_ends(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """It also ends after another test has failed, when pytest cancels the limit."""
    ran = _run_inside(pytester, monkeypatch, UNINTERRUPTIBLE, plugins=HANGS)
    assert ran.ret == 1
    ran.stderr.fnmatch_lines(['Timeout (*)!'])
    ran.stdout.no_fnmatch_line('results: *')


REFUSED = """
    import pytest

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure():
        raise pytest.UsageError('the reason')
"""


def test_a_refused_configuration_is_reported(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeconftest(REFUSED)
    ran = _run_inside(pytester, monkeypatch, '', plugins=HANGS)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(['ERROR: the reason'])


@pytest.mark.usefixtures('ignored_signal')
def test_processes_of_xdist_do_not_inherit_ignored_signals(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that their tests start end at these signals, too."""
    which = 'test_inner.py::test_program_does_not_inherit_ignored_signals'
    ran = _run_inside(pytester, monkeypatch, INNER, which, processes=1)
    ran.assert_outcomes(passed=1)
