"""Test the distribution of tests over processes: fixtures, results, warnings, and processes that end early."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

#: Each file has a fixture of its own; all tests of the file use the same one.
SHARED = """
    import os
    import pytest

    @pytest.fixture(scope='session')
    def directory(tmp_path_factory):
        yield tmp_path_factory.getbasetemp()
        (tmp_path_factory.getbasetemp() / f'ended-{os.getpid()}').touch()

    @pytest.fixture(scope='module')
    def process():
        return os.getpid()

    @pytest.mark.parametrize('number', range(3))
    def test_shares(directory, process, number):
        assert process == os.getpid()
        (directory / f'ran-{process}').touch()
"""

#: The one test of the other file runs in another process.
ENDS = """
    import os

    def test_before():
        pass

    def test_ends():
        os._exit(3)

    def test_after():
        pass
"""

WARNS = """
    import warnings

    def test_warns():
        print('printed')
        warnings.warn('the text of the warning')

    def test_fails():
        print('printed')
        assert [1] == [2]
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs two processes with tests in files of the given names."""
    root = os.path.dirname(os.path.dirname(__file__))
    monkeypatch.setenv('PYTHONPATH', root)
    monkeypatch.setenv('GEVENTNODE_SEED', '12345')

    def run(*arguments: str, **files: str) -> pytest.RunResult:
        pytester.makepyfile(**files)
        settings = [
            '-p',
            'tests.processes',
            '-p',
            'tests.summary',
            '-c',
            os.path.join(root, 'pyproject.toml'),
            f'--rootdir={pytester.path}',
        ]
        return pytester.runpytest_subprocess(*settings, '--processes=2', *arguments, '.')

    return run


def test_files_are_shares(run: Run, pytester: pytest.Pytester) -> None:
    """The tests of a file share its fixtures, and each process ends its session's fixtures."""
    ran = run('--basetemp=made', test_first=SHARED, test_second=SHARED, test_third=SHARED)
    ran.assert_outcomes(passed=9)
    made = {path.name for path in (pytester.path / 'made').iterdir()}
    processes = {name.partition('-')[2] for name in made if name.startswith('ran-')}
    assert processes
    assert {f'ended-{process}' for process in processes} <= made


def test_process_that_ends_fails_its_test(run: Run) -> None:
    """The other process runs the other files."""
    ran = run(test_first=ENDS, test_second=SHARED, test_third=SHARED)
    ran.assert_outcomes(passed=7, failed=1)
    ran.stdout.fnmatch_lines(
        [
            'the process of the test ended with 3; the tests after it in its file have not been run',
            'FAILED test_first.py::test_ends*',
        ]
    )


def test_run_without_processes_fails(run: Run) -> None:
    ran = run(test_first=ENDS, test_second=ENDS, test_third=SHARED)
    ran.assert_outcomes(passed=2, failed=2)
    ran.stdout.fnmatch_lines(['*every process ended before all tests were run*'])
    assert ran.ret == pytest.ExitCode.INTERRUPTED


def test_output_and_warnings_are_reported(run: Run) -> None:
    ran = run('-Wdefault', test_first=WARNS, test_second=SHARED)
    ran.assert_outcomes(passed=4, failed=1, warnings=1)
    ran.stdout.fnmatch_lines(
        ['E*assert [[]1[]] == [[]2[]]*', '*Captured stdout call*', 'printed', '*the text of the warning*']
    )


def test_first_failure_can_end_the_run(run: Run) -> None:
    ran = run(
        '-x', test_first='def test_fails(): assert False', test_second='import gevent\ndef test(): gevent.sleep(1000)'
    )
    assert ran.parseoutcomes()['failed'] == 1
    ran.stdout.fnmatch_lines(['*stopping after 1 failures*'])
