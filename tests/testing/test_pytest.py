"""The fixtures for pytest, in runs of pytest with and without the plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.code_blocks import blocks_of
from tests.needed import need

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
    # a separate process, without the options of this run; every warning is an error, such as gevent's about patching
    # too late: the plugin of anyio, for example, imports ssl
    pytester.makeini('[pytest]\naddopts = -p no:cacheprovider --disable-plugin-autoload -W error')
    return pytester.runpytest_subprocess(*arguments)


@pytest.fixture(autouse=True)
def _from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', str(ROOT), prepend=os.pathsep)


def test_fixtures_work(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    _run(pytester, PLUGIN).assert_outcomes(passed=3)


def test_plugin_can_be_named_in_a_conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['geventnode.testing.pytest']")
    pytester.makepyfile(TESTS)
    _run(pytester).assert_outcomes(passed=3)


def test_fixtures_need_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    _run(pytester).assert_outcomes(errors=3)


def test_conftest_can_patch_after_the_plugin(pytester: pytest.Pytester) -> None:
    """The plugin is loaded before, and has imported no module that must be patched first."""
    pytester.makeconftest(PATCHING)
    pytester.makepyfile(TESTS)
    _run(pytester, PLUGIN).assert_outcomes(passed=3)


def test_documented_patching_works_with_xdist(pytester: pytest.Pytester) -> None:
    """Its controller is not patched, and its workers keep their threads."""
    need('xdist')
    [recipe] = [block.source for block in blocks_of(ROOT / 'docs' / 'testing.rst') if 'workerinput' in block.source]
    pytester.makeconftest(recipe)
    pytester.makepyfile(f"""{TESTS}
def test_patched():
    import socket
    from gevent import socket as cooperative
    assert socket.socket is cooperative.socket
""")
    _run(pytester, PLUGIN, '-pxdist', '-n1').assert_outcomes(passed=4)


def test_end_of_a_test_closes_everything(pytester: pytest.Pytester) -> None:
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


def test_import_of_the_plugin_loads_no_gevent() -> None:
    source = f'import sys, geventnode.testing.pytest as kit{PATCHING}assert kit.__all__'
    ran = subprocess.run(
        [sys.executable, '-W', 'error', '-c', source], cwd=ROOT, text=True, check=False, capture_output=True
    )
    assert (ran.returncode, ran.stderr) == (0, '')


def test_plugin_is_no_entry_point() -> None:
    """pytest loads each entry point of the group ``pytest11`` automatically."""
    assert [each for each in entry_points(group='pytest11') if each.value.startswith('geventnode')] == []
    declared = re.search(r'entry_points=\{(.*)\}', (ROOT / 'setup.py').read_text('utf-8'))
    assert declared is not None
    assert 'pytest11' not in declared[1]
