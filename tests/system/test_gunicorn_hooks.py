"""Gunicorn's loggers and hooks with geventnode's worker."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.system.gunicorns import Gunicorn
from tests.system.running import PATIENCE

ATOMS = (
    '%(h)s|%(l)s|%(u)s|%(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(b)s|%(B)s|%(f)s|%(a)s|%({x-in}i)s|%({x-mark}o)s|'
    '%({raw_uri}e)s|%(p)s'
)
TIMES = '%(t)s|%(T)s|%(M)s|%(D)s|%(L)s'


def test_the_access_log(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', f'accesslog = "-"\naccess_log_format = {ATOMS!r}\n') as gunicorn:
        pid = gunicorn.booted()
        gunicorn.ask('/a%20b?c=d', X_In='in', Referer='"quoted"', User_Agent='me', Authorization='Basic dTpw')
        gunicorn.wait_for(
            re.escape(
                f'127.0.0.1|-|u|GET /a%20b?c=d HTTP/1.1|GET|/a b|c=d|HTTP/1.1|200|5|5|\\"quoted\\"|me|in|wsgi|'
                f'/a%20b?c=d|<{pid}>'
            )
        )


def test_times_in_the_access_log(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:listener', f'accesslog = "-"\naccess_log_format = {TIMES!r}\n') as gunicorn:
        gunicorn.ask()
        gunicorn.wait_for(r'^\[\d\d/\w\w\w/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]\|\d+\|\d+\|\d+\|\d+\.\d{6}$')


def test_failed_exchanges_are_logged(tmp_path: Path) -> None:
    configuration = 'accesslog = "-"\naccess_log_format = "%(r)s %(s)s %(b)s"\n'
    with Gunicorn(tmp_path, 'gunicorned:application', configuration) as gunicorn:
        assert gunicorn.ask('/fail')[0] == 500
        gunicorn.wait_for(r'^GET /fail HTTP/1\.1 500 26')
        with gunicorn.slow_request():
            pass
        gunicorn.wait_for(r'^POST /slow HTTP/1\.1 200 6')


def test_errors_are_in_the_error_log(tmp_path: Path) -> None:
    with Gunicorn(tmp_path, 'gunicorned:application', f'errorlog = {str(tmp_path / "errors")!r}\n') as gunicorn:
        assert gunicorn.ask('/fail')[0] == 500
        os.kill(gunicorn.process.pid, signal.SIGTERM)
        gunicorn.finish()
    text = (tmp_path / 'errors').read_text()
    assert 'GET /fail' in text
    assert 'ValueError: on purpose' in text


def test_log_files_are_reopened(tmp_path: Path) -> None:
    """SIGUSR1, for programs that rotate logs."""
    log = tmp_path / 'access'
    with Gunicorn(tmp_path, 'gunicorned:application', f'accesslog = {str(log)!r}\n', status=0) as gunicorn:
        gunicorn.ask('/first')
        log.rename(tmp_path / 'old')
        gunicorn.signal(signal.SIGUSR1)
        gunicorn.wait_for('Handling signal: usr1')
        while not log.exists() or '/second' not in log.read_text():
            gunicorn.ask('/second')
    assert '/first' in (tmp_path / 'old').read_text()


def test_statsd(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statistics:
        statistics.bind(('127.0.0.1', 0))
        statistics.settimeout(PATIENCE)
        host, port = statistics.getsockname()
        with Gunicorn(tmp_path, 'gunicorned:application', f'statsd_host = "{host}:{port}"\n') as gunicorn:
            gunicorn.ask()
            seen = ''
            while 'gunicorn.request.status.200:1|c' not in seen:
                seen += statistics.recv(1000).decode()
    assert 'gunicorn.request.duration:' in seen


HOOKS = """
def say(*words):
    print(*words, flush=True)

def post_worker_init(worker):
    say('post_worker_init', worker.booted)

def pre_request(worker, req):
    req.mark = 'mine'
    say('pre_request', req.method, req.uri, req.path, req.query, dict(req.headers)['X-IN'], worker.nr)

def post_request(worker, req, environ, resp):
    say('post_request', req.mark, environ['PATH_INFO'], resp.status, resp.response_length, dict(resp.headers)['x-mark'])

def worker_exit(server, worker):
    say('worker_exit', worker.nr)

def child_exit(server, worker):
    say('child_exit')

def worker_int(worker):
    say('worker_int')
"""


@pytest.mark.parametrize(
    ('target', 'mark', 'size'), [('gunicorned:application', 'wsgi', 5), ('gunicorned:server', 'listener', None)]
)
def test_hooks(tmp_path: Path, target: str, mark: str, size: int | None) -> None:
    with Gunicorn(tmp_path, target, HOOKS) as gunicorn:
        gunicorn.wait_for('post_worker_init False')
        _, body = gunicorn.ask('/a%20b?c', X_In='in')
        gunicorn.wait_for(r'pre_request GET /a%20b\?c /a%20b c in 1')
        gunicorn.wait_for(f'post_request mine /a b 200 OK {size or len(body)} {mark}')
        gunicorn.signal(signal.SIGINT)
        gunicorn.wait_for('worker_int')
        gunicorn.wait_for('worker_exit 1')
        gunicorn.wait_for('child_exit')
