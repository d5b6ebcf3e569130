"""End a run with five lines: the results, the skips, the slowest tests, the seed, and the command to run it again.

Only the process that prints has them: the reports of xdist's processes, and the properties that tests record for runs
in other processes (:data:`TESTS`, :data:`SKIPPED`), are combined there.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

__all__ = ['SKIPPED', 'TESTS', 'pytest_terminal_summary', 'summary_lines']

#: The property of a test that ran others in another process: their number.
TESTS = 'tests in another process'

#: The property of a test for one skipped test in another process: the reason.
SKIPPED = 'skipped in another process'

#: The number of tests that the line of the slowest ones names.
SLOWEST = 3

#: The words for the outcomes in the first line, by the names that pytest has for them.
OUTCOMES = {
    'passed': 'passed',
    'failed': 'failed',
    'error': 'failed outside the test itself',
    'xfailed': 'failed as expected',
    'xpassed': 'passed unexpectedly',
}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """Print the lines after everything else that pytest prints at the end."""
    yield
    stats = terminalreporter.stats
    seed = f'GEVENTNODE_SEED={os.environ["GEVENTNODE_SEED"]}'
    # not pytest's own arguments: ``python -m tests.patched`` has others
    command = [sys.executable, *sys.orig_argv[1:]]
    if (stats.get('failed') or stats.get('error')) and config.pluginmanager.hasplugin('cacheprovider'):
        command.append('--last-failed')
    terminalreporter.section('summary')
    for line in summary_lines(stats, seed, command):
        terminalreporter.write_line(line)


def summary_lines(stats: Mapping[str, Sequence[Any]], seed: str, command: Sequence[str]) -> list[str]:
    """Return the five lines.

    :param stats: the reports by outcome, as pytest's ``TerminalReporter`` has them.
    :param seed: the assignment to a variable that repeats the random choices.
    :param command: the program that runs the tests again, and its arguments.
    """
    return [
        f'results: {_results(stats)}',
        f'skipped: {_skips(stats)}',
        f'slowest: {_slowest(stats)}',
        f'seed:    {seed} repeats the random choices',
        f'again:   {seed} {shlex.join(command)}',
    ]


def _results(stats: Mapping[str, Sequence[Any]]) -> str:
    found = [f'{len(stats[name]):,} {words}' for name, words in OUTCOMES.items() if stats.get(name)]
    elsewhere = sum(_properties(stats.get('passed', ()), TESTS))
    if elsewhere:
        found.append(f'{elsewhere:,} more passed in processes of these tests')
    return ', '.join(found) or 'no test has run'


def _skips(stats: Mapping[str, Sequence[Any]]) -> str:
    reasons = Counter(_reason(report.longrepr) for report in stats.get('skipped', ()))
    reasons.update(_properties(stats.get('passed', ()), SKIPPED))
    if not reasons:
        return 'none'
    return f'{reasons.total():,}: ' + '; '.join(f'{reason} ({count:,})' for reason, count in reasons.most_common())


def _reason(described: Any) -> str:
    """Return the reason of a skip in one line: pytest describes a skip by file, line and reason."""
    text = described[2] if isinstance(described, tuple | list) else str(described)
    return ' '.join(text.removeprefix('Skipped: ').split())


def _slowest(stats: Mapping[str, Sequence[Any]]) -> str:
    seconds: defaultdict[str, float] = defaultdict(float)
    # The reports of successful preparations have no outcome: their key is empty.
    for reports in stats.values():
        for report in reports:
            if hasattr(report, 'when') and hasattr(report, 'duration'):
                seconds[report.nodeid] += report.duration
    slowest = sorted(seconds.items(), key=lambda test: -test[1])[:SLOWEST]
    return '; '.join(f'{name} ({duration:.1f} s)' for name, duration in slowest) or 'none'


def _properties(reports: Iterable[Any], name: str) -> Iterator[Any]:
    for report in reports:
        yield from (value for key, value in getattr(report, 'user_properties', ()) if key == name)
