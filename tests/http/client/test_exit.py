"""The log at the end of a program about its unsent requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.prepared import prepared

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
    'begun': "request = http.request(url, method='POST'); request.write('x')",
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


@pytest.fixture(scope='module')
def run() -> Iterator[Callable[[str], str]]:
    """Return a function that returns the standard error of the program, which ends after the given line."""
    with prepared('tests.sources', loop='libev-cext') as execute:

        def run(line: str) -> str:
            ran = execute(PROGRAM.format(line))
            ran.check_returncode()
            return ran.stderr

        yield run


@pytest.mark.parametrize('line', UNSENT.values(), ids=UNSENT.keys())
def test_unsent_requests_are_logged_at_exit(run: Callable[[str], str], line: str) -> None:
    """One line each has the request and the remedy."""
    lines = run(line).splitlines()
    assert len(lines) == line.count('http.')
    for each in lines:
        assert 'http://127.0.0.1:' in each
        assert 'was not sent before the program ended: call get_response()' in each


def test_forgotten_request_is_logged_at_exit(run: Callable[[str], str]) -> None:
    """The loop, which would have reported it, did not run again."""
    (line,) = run("http.request(url, method='POST').write('x')").splitlines()
    assert 'a request to 127.0.0.1:' in line
    assert 'was not sent before the program ended: call get_response()' in line


@pytest.mark.parametrize('line', SILENT.values(), ids=SILENT.keys())
def test_ordinary_program_logs_nothing_at_exit(run: Callable[[str], str], line: str) -> None:
    assert run(line) == ''
