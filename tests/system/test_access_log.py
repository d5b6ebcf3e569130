"""The access log as JSON, written by ``geventnode serve`` with and without workers, and read by ``jq`` and Python."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.code_blocks import BLOCKS
from tests.servers import Client, get
from tests.system.gunicorns import OLDEST, Gunicorn
from tests.system.running import APPS, PATIENCE, Served, run, start
from tests.system.test_serve_workers import workers

#: Requests with characters that break lines, quotes or encodings, as far as HTTP allows them in a target or a field.
HOSTILE = [
    get('/plain?a=b', 'User-Agent: curl/8'),
    get('/"quoted\\\\"}{', 'Referer: "}\\'),
    get('/field', 'User-Agent: \t\xff\xfe\x80 tab and bytes that are no UTF-8'),
    get('/field', 'User-Agent: \xe2\x82\xac \xed\xa0\x80 \xc2\x85 \xe2\x80\xa8'),
    get('/%00%0A%ff', 'Referer: \\u0022\\x22\\n'),
]
FIELDS = [
    *('time', 'client_address', 'method', 'target', 'http_version', 'scheme', 'host', 'status', 'body_size'),
    *('duration', 'complete', 'referer', 'user_agent'),
]


def send_all(port: int) -> None:
    """Send the hostile requests on one connection, and check the responses."""
    with contextlib.closing(Client(('127.0.0.1', port))) as client:
        for request in HOSTILE:
            assert client.send(request).response().status == 200


def check(lines: list[str], directory: Path) -> None:
    """Check that both readers find the same objects, with the values that were sent."""
    assert len(lines) == len(HOSTILE)
    assert all(line.isascii() and line.isprintable() for line in lines)
    log = directory / 'access.log'
    log.write_text(''.join(f'{line}\n' for line in lines))
    objects = [json.loads(line) for line in lines]
    assert [list(each) for each in objects] == [FIELDS] * len(lines)
    assert [json.loads(line) for line in run('jq', '-c', '.', log).rstrip('\n').split('\n')] == objects
    for sent, found in zip(HOSTILE, objects, strict=True):
        line, _, rest = sent.decode('latin-1').partition('\r\n')
        assert line == f'{found["method"]} {found["target"]} HTTP/{found["http_version"]}'
        for name, key in (('User-Agent', 'user_agent'), ('Referer', 'referer')):
            value = rest.partition(f'{name}: ')[2].partition('\r\n')[0].strip('\t ')
            assert found[key] == (value or None)
    # the expression of the documentation, and the types of the figures
    (example,) = (block.source for block in BLOCKS if block.page == 'docs/logging.rst' and 'jq -c' in block.source)
    expression = example.partition("jq -c '")[2].partition("'")[0]
    assert run('jq', '-c', expression, log) == ''
    everything = expression.replace('.duration > 1', '.duration >= 0')
    assert run('jq', '-c', everything, log).count('\n') == len(lines)


def test_json_of_one_process(tmp_path: Path) -> None:
    options = '--access-log-format', 'json'
    with Served('handlers:listener', *options, access_log=True, stderr=subprocess.STDOUT) as served:
        send_all(served.port)
        check([served.next_line() for _ in HOSTILE], tmp_path)


@pytest.mark.parametrize('more', [(), ('--monitor',), ('--reload-on-hup',), ('--workers', '1')])
def test_standard_output_is_json_only(more: tuple[str, ...]) -> None:
    """The notices are on standard error, so that ``jq`` can read the log."""
    command = ['serve', 'handlers:listener', '--bind', '127.0.0.1:0', '--access-log-format', 'json', *more]
    program = ' '.join(['geventnode serve', *(option for option in more if option in ('--reload-on-hup', '--workers'))])
    reading, writing = os.pipe()
    with open(reading) as notices:
        try:
            process = start(program, command, cwd=APPS, env={}, stderr=writing)
        finally:
            os.close(writing)
        greeting = next(line for line in notices if 'http://127.0.0.1:' in line)
        port = int(re.search(r'127\.0\.0\.1:(\d+)', greeting)[1])
        with contextlib.closing(Client(('127.0.0.1', port))) as client:
            assert client.send(get('/plain')).response().status == 200
        assert json.loads(process.stdout.readline())['target'] == '/plain'
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=PATIENCE)[0] == ''


def test_json_of_workers(tmp_path: Path) -> None:
    with workers('gunicorned:application', '--access-log-format', 'json') as (process, port):
        send_all(port)
        lines: list[str] = []
        while len(lines) < len(HOSTILE):
            # those of gunicorn's error log have another format
            line = process.stdout.readline().rstrip('\n')
            lines += [line] if line.startswith('{') else []
        check(lines, tmp_path)


def test_long_lines_of_workers_are_not_mixed() -> None:
    """Also when the reader of the pipe is slow: the pipe has room for one page."""
    target = '/plain?' + '%' * 14_000
    count, clients = 50, 4

    def load() -> None:
        for _ in range(count):
            with contextlib.closing(HTTPConnection('127.0.0.1', port, timeout=PATIENCE)) as client:
                client.request('GET', target, headers={'User-Agent': '\xff' * 1000})
                assert client.getresponse().status == 200

    with workers('handlers:listener', '--access-log-format', 'json') as (process, port):
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        with ThreadPoolExecutor(clients) as pool:
            loads = [pool.submit(load) for _ in range(clients)]
            # of mixed lines, each has its line end, too
            lines = [process.stdout.readline() for _ in range(count * clients)]
            for each in loads:
                each.result()
    (found,) = {json.loads(line)['target'] for line in lines}
    assert target.startswith(found)


@pytest.mark.parametrize('version', [OLDEST, None], ids=['oldest', 'installed'])
def test_json_of_gunicorn(tmp_path: Path, version: str | None) -> None:
    log = tmp_path / 'lines'
    configuration = f"logger_class = 'geventnode.integrations.gunicorn.JSONAccessLogger'\naccesslog = {str(log)!r}\n"
    with Gunicorn(tmp_path, configuration=configuration, version=version) as gunicorn:
        send_all(gunicorn.port)
    check([line for line in log.read_text().splitlines() if '"/pid"' not in line], tmp_path)
