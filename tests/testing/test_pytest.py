"""The fixtures for pytest, used as a user would: in runs of their own, which ask for them or do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = '-pgeventnode.testing.pytest'

TESTS = """
from geventnode import http

def listener(request, response):
    response.end('hello')

def test_serving(serving):
    site = serving(listener, keep_alive_timeout=3)
    assert site.port
    assert http.get(site.url, agent=False).get_response().read() == b'hello'
    assert serving(listener).get('/').body == b'hello'

def test_in_memory(serving_in_memory):
    assert serving_in_memory(listener).get('/').body == b'hello'

def test_pairs(memory_pair):
    one, other = memory_pair(allow_half_open=True)
    one.end('x')
    assert other.read() == b'x'
"""

PATCHING = """
import sys
assert not [name for name in sys.modules if name.partition('.')[0] in ('gevent', 'greenlet')]
from gevent import monkey
monkey.patch_all()
"""


@pytest.fixture(autouse=True)
def uncovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage would import greenlet in each process before anything else."""
    for name in [name for name in os.environ if name.startswith('COVERAGE_')]:
        monkeypatch.delenv(name)


def _run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # a process of its own, without what our own tests are run with; every warning is an error, as gevent's about
    # patching too late
    pytester.makeini('[pytest]\naddopts = -p no:cacheprovider -p no:xdist -W error')
    return pytester.runpytest_subprocess(*arguments)


@pytest.fixture(autouse=True)
def _from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', str(ROOT))


def test_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    _run(pytester, PLUGIN).assert_outcomes(passed=3)


def test_named_in_a_conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['geventnode.testing.pytest']")
    pytester.makepyfile(TESTS)
    _run(pytester).assert_outcomes(passed=3)


def test_nothing_is_there_unasked(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    _run(pytester).assert_outcomes(errors=3)


def test_a_conftest_can_patch(pytester: pytest.Pytester) -> None:
    """The plugin is loaded first, and has imported nothing that patching would come too late for."""
    pytester.makeconftest(PATCHING)
    pytester.makepyfile(TESTS)
    _run(pytester, PLUGIN).assert_outcomes(passed=3)


def test_what_a_test_leaves_is_closed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        sites = []

        def test_one(serving, serving_in_memory, memory_pair):
            sites[:] = [serve(lambda request, response: None) for serve in (serving, serving_in_memory)]
            sites.append(memory_pair()[0])
            for site in sites[:2]:
                site.send(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
            raise RuntimeError('on purpose')

        def test_two():
            assert not sites[0].server.listening
            assert [site.server.get_connections() for site in sites[:2]] == [0, 0]
            assert sites[2].destroyed
    """)
    _run(pytester, PLUGIN).assert_outcomes(passed=1, failed=1)


def test_importing_loads_no_gevent() -> None:
    source = f'import sys, geventnode.testing.pytest as kit{PATCHING}assert kit.__all__'
    ran = subprocess.run(
        [sys.executable, '-W', 'error', '-c', source], cwd=ROOT, text=True, check=False, capture_output=True
    )
    assert (ran.returncode, ran.stderr) == (0, '')


def test_it_is_not_registered() -> None:
    """pytest loads what is an entry point of the group ``pytest11`` by itself."""
    assert [each for each in entry_points(group='pytest11') if each.value.startswith('geventnode')] == []
    declared = re.search(r'entry_points=\{(.*)\}', (ROOT / 'setup.py').read_text('utf-8'))
    assert declared is not None
    assert 'pytest11' not in declared[1]
