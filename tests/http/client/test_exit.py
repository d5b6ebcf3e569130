"""The log at the end of a program about its unsent requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PROGRAM = """
import gevent
from gevent.event import Event
from geventnode import http
server = http.create_server(lambda request, response: response.end('hello')).listen(0, '127.0.0.1')
url = 'http://127.0.0.1:%d/' % server.address()['port']
agent = http.Agent(keep_alive=True, max_sockets=1)
{}
"""

UNSENT = {
    'connecting': 'http.get(url)',
    'with a listener': 'http.get(url, print)',
    'queued': 'http.get(url, agent=agent); http.get(url, agent=agent)',
    'made by a function': 'http.get(url, create_connection=lambda options: gevent.sleep(60))',
    'begun': "http.request(url, method='POST').write('x')",
}

SILENT = {
    'read': 'http.get(url, agent=agent).get_response().read()',
    'unread': 'http.get(url, agent=agent).get_response()',
    'by events': "done = Event(); http.get(url, lambda response: response.on('end', done.set).resume()); done.wait()",
    'not begun': 'http.request(url)',
    'aborted': 'http.get(url).abort()',
    'awaited': 'gevent.spawn(lambda: http.get(url).get_response()); gevent.sleep(0)',
    'failed': "try: http.get('http://127.0.0.1:1/').get_response()\nexcept OSError: pass",
    'no request': '',
}


def run(line: str) -> str:
    """Return the standard error of the program, which ends after ``line``."""
    ran = subprocess.run(
        [sys.executable, '-c', PROGRAM.format(line)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return ran.stderr


@pytest.mark.parametrize('line', UNSENT.values(), ids=UNSENT.keys())
def test_unsent_requests_are_logged_at_exit(line: str) -> None:
    """One line each has the request and the remedy."""
    lines = run(line).splitlines()
    assert len(lines) == line.count('http.')
    for each in lines:
        assert 'http://127.0.0.1:' in each
        assert 'was not sent before the program ended: call get_response()' in each


@pytest.mark.parametrize('line', SILENT.values(), ids=SILENT.keys())
def test_ordinary_program_logs_nothing_at_exit(line: str) -> None:
    assert run(line) == ''
