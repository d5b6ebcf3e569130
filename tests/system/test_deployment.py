"""``contrib/deploy``: the configurations are good, and what they promise about restarts and kills is kept."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.gunicorns import Gunicorn
from tests.system.running import PATIENCE, ROOT, tool

__all__: list[str] = []

DEPLOY = ROOT / 'contrib' / 'deploy'


@pytest.mark.parametrize('proxy', ['haproxy', 'nginx'])
def test_restarts_and_kills_under_load(proxy: str) -> None:
    """Restarts lose nothing, kills only what is in work in the killed worker. # demand 8, 12, 14, 24"""
    tool(proxy)
    ran = subprocess.run(
        [sys.executable, DEPLOY / 'rolling.py', '--proxy', proxy, '--requests', '1000', '--restarts', '2', '--kills',
         '2'], env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True, capture_output=True, timeout=PATIENCE,
        check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r'2 restarts, \d+ requests: 0 failed', ran.stdout)
    assert re.search(r'2 kills, \d+ requests: \d+ failed, 0 of all failures unexplained', ran.stdout)


def test_the_site(tmp_path: Path) -> None:
    """gunicorn's configuration and the application, as they are."""
    configuration = (DEPLOY / 'gunicorn.conf.py').read_text().replace('from __future__ import annotations', '')
    with Gunicorn(tmp_path, 'web:listener', configuration, cwd=DEPLOY, env={'PYTHONPATH': f'{DEPLOY}:{ROOT}'}
                  ) as gunicorn:
        assert gunicorn.ask('/page') == (200, 'You asked for /page\n')
        assert gunicorn.ask('/healthz') == (200, 'ready\n')
        with gunicorn.connect() as client:
            assert client.get().response().getheader('Keep-Alive') == 'timeout=75'


def test_times_that_fit() -> None:
    """Whoever is in front closes first, and whoever may kill waits longest."""
    def number(file: str, pattern: str) -> int:
        return int(re.search(pattern, (DEPLOY / file).read_text(), re.MULTILINE)[1])

    kept = number('gunicorn.conf.py', r'^keepalive = (\d+)')
    grace = number('gunicorn.conf.py', r'^graceful_timeout = (\d+)')
    assert kept > number('nginx.conf', r'keepalive_timeout (\d+)s')
    assert kept > 60
    assert grace < number('site.service', r'^TimeoutStopSec=(\d+)')
    stop = number('kubernetes.yaml', r'"sleep", "(\d+)"')
    assert grace + stop < number('kubernetes.yaml', r'terminationGracePeriodSeconds: (\d+)')
