"""Test the five lines at the end of a run: in one process and in several, after success and after a failure."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.summary import SKIPPED, TESTS

LastLines = Callable[..., list[str]]

INNER = f"""
    import os
    import pytest

    @pytest.mark.parametrize('number', range(4))
    def test_passes(number):
        pass

    @pytest.mark.parametrize('number', range(3))
    def test_skips(number):
        pytest.skip('this machine has no\\nmodem' if number else 'it is too late')

    def test_of_others(record_property):
        record_property({TESTS!r}, 1500)
        record_property({SKIPPED!r}, 'it is too late')
        record_property({SKIPPED!r}, 'it is too late')

    @pytest.mark.xfail(reason='expected')
    def test_xfails():
        assert False

    def test_seed():
        assert os.environ['GEVENTNODE_SEED'] == '12345'

    def test_fails():
        assert not os.environ.get('FAILS')

    @pytest.fixture
    def broken():
        assert not os.environ.get('FAILS')

    def test_error(broken):
        pass
"""


@pytest.fixture
def last_lines(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> LastLines:
    """Return a function that runs tests with a plugin and arguments, and returns the lines after the last heading."""
    root = os.path.dirname(os.path.dirname(__file__))
    monkeypatch.setenv('GEVENTNODE_SEED', '12345')
    monkeypatch.delenv('GEVENTNODE_NO_SKIPS', raising=False)
    monkeypatch.delenv('PYTEST_XDIST_WORKER', raising=False)
    monkeypatch.setenv('PYTHONPATH', root)
    monkeypatch.setenv('COLUMNS', '100')

    def run(source: str, *arguments: str, plugin: str = 'tests.summary') -> list[str]:
        pytester.makepyfile(test_inner=source)
        settings = ['-p', plugin, '-c', os.path.join(root, 'pyproject.toml'), f'--rootdir={pytester.path}']
        ran = pytester.runpytest_subprocess(*settings, '-q', *arguments, 'test_inner.py')
        lines = ran.stdout.lines
        (heading,) = (number for number, line in enumerate(lines) if line.strip('= ') == 'summary')
        return lines[heading + 1 :]

    return run


@pytest.mark.parametrize('processes', [0, 2])
def test_success(last_lines: LastLines, processes: int) -> None:
    results, skipped, slowest, seed, again, last = last_lines(INNER, f'-n{processes}')
    assert results == 'results: 8 passed, 1 failed as expected, 1,500 more passed in processes of these tests'
    assert skipped == 'skipped: 5: it is too late (3); this machine has no modem (2)'
    assert slowest.startswith('slowest: test_inner.py::test_')
    assert slowest.count(' s)') == 3
    assert seed == 'seed:    GEVENTNODE_SEED=12345 repeats the random choices'
    assert again.startswith('again:   GEVENTNODE_SEED=12345 ')
    assert again.endswith(f' -q -n{processes} test_inner.py')
    assert '--last-failed' not in again
    assert last.startswith('8 passed, 3 skipped, 1 xfailed')


@pytest.mark.parametrize(('processes', 'plugin'), [(0, 'tests.summary'), (2, 'tests.conftest')])
def test_failure(last_lines: LastLines, monkeypatch: pytest.MonkeyPatch, processes: int, plugin: str) -> None:
    """The processes of the suite leave out reports, but none of a failure."""
    monkeypatch.setenv('FAILS', 'yes')
    results, _, _, _, again, _ = last_lines(INNER, f'-n{processes}', plugin=plugin)
    assert results.startswith('results: 6 passed, 1 failed, 1 failed outside the test itself, 1 failed as expected')
    assert again.endswith(' test_inner.py --last-failed')


def test_module_that_is_skipped(last_lines: LastLines) -> None:
    results, skipped, slowest, *_ = last_lines("import pytest; pytest.importorskip('modem')", '-n0')
    assert results == 'results: no test has run'
    assert skipped.startswith('skipped: 1: could not import ')
    assert slowest == 'slowest: none'
