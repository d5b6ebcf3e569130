"""``geventnode serve`` with curl: methods, bodies of every kind, keep-alive, a Unix socket, live streams."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.running import PATIENCE, Served, run, tool

MEGABYTE = 1_000_000


@pytest.fixture(scope='module')
def served() -> Iterator[Served]:
    with Served('handlers:listener') as served:
        yield served


@pytest.fixture(scope='module')
def demo() -> Iterator[Served]:
    with Served() as demo:
        yield demo


def curl(*arguments: object, **options: object) -> str:
    return run('curl', '--silent', '--show-error', '--max-time', PATIENCE, *arguments, **options)


def sized(path: Path, size: int) -> Path:
    """Make a sparse file of ``size`` bytes."""
    with path.open('wb') as file:
        file.truncate(size)
    return path


def test_get_has_a_body(served: Served) -> None:
    answer = curl('--include', f'{served.url}/some?thing=1')
    head, _, body = answer.partition('\n\n')
    assert head.startswith('HTTP/1.1 200 OK\n')
    assert body == 'GET /some?thing=1 HTTP/1.1'
    assert f'Content-Length: {len(body)}' in head.splitlines()


def test_head_has_no_body(served: Served) -> None:
    answer = curl('--head', f'{served.url}/some')
    assert answer.startswith('HTTP/1.1 200 OK\n')
    assert f'Content-Length: {len("HEAD /some HTTP/1.1")}' in answer.splitlines()


def test_http_1_0_connection_closes(served: Served) -> None:
    head, _, body = curl('--http1.0', '--include', f'{served.url}/').partition('\n\n')
    assert body == 'GET / HTTP/1.0'
    assert 'Connection: close' in head.splitlines()


def test_http_1_0_body_ends_with_the_connection(served: Served) -> None:
    """The body ends with the connection."""
    head, _, body = curl('--http1.0', '--include', '--data', 'abc', f'{served.url}/echo').partition('\n\n')
    assert body == 'abc'
    assert 'chunked' not in head


def test_connection_is_kept(served: Served) -> None:
    urls = [f'{served.url}/port'] * 5
    ports = curl('--write-out', '%{num_connects} ', *urls).split()
    assert len(set(ports[::2])) == 1
    assert ports[1::2] == ['1', '0', '0', '0', '0']


def test_large_post_is_counted(served: Served, tmp_path: Path) -> None:
    file = sized(tmp_path / 'large', 100 * MEGABYTE)
    assert curl('--data-binary', f'@{file}', f'{served.url}/count') == str(100 * MEGABYTE)


def test_expect_gets_a_100(served: Served, tmp_path: Path) -> None:
    """curl waits for the 100 before it sends a body of this size."""
    file = sized(tmp_path / 'large', 5 * MEGABYTE)
    ran = subprocess.run(
        [
            tool('curl'),
            '--silent',
            '--verbose',
            '--expect100-timeout',
            str(PATIENCE),
            '--data-binary',
            f'@{file}',
            '-H',
            'Expect: 100-continue',
            f'{served.url}/count',
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.stdout == str(5 * MEGABYTE)
    assert '< HTTP/1.1 100 Continue' in ran.stderr


def test_chunked_upload_is_counted(served: Served, tmp_path: Path) -> None:
    """curl sends chunks, because a pipe has no length."""
    with sized(tmp_path / 'large', 20 * MEGABYTE).open('rb') as file:
        assert curl('-T', '-', '-X', 'POST', f'{served.url}/count', stdin=file) == str(20 * MEGABYTE)


def test_echo_is_unchanged(served: Served, tmp_path: Path) -> None:
    sent = tmp_path / 'sent'
    sent.write_bytes(bytes(range(256)) * 40_000)
    received = tmp_path / 'received'
    curl('--data-binary', f'@{sent}', '--output', received, f'{served.url}/echo')
    assert received.read_bytes() == sent.read_bytes()


def test_failing_listener_is_a_500(tmp_path: Path) -> None:
    """The client gets only a 500, and the traceback is on standard error."""
    with Served('handlers:listener') as served:
        assert curl('--write-out', '%{http_code}', f'{served.url}/fail') == '500 Internal Server Error\n500'
        served.process.terminate()
        _, errors = served.finish()
    assert 'GET /fail: the request listener failed' in errors
    assert 'Failing: on purpose' in errors


def test_unix_socket_is_served(tmp_path: Path) -> None:
    path = tmp_path / 'socket'
    with Served('handlers:listener', bind=f'unix:{path}', access_log=True) as served:
        assert served.url == f'unix:{path}'
        assert curl('--unix-socket', path, 'http://localhost/over/unix') == 'GET /over/unix HTTP/1.1'
        assert served.next_line().startswith('- - - [')
    assert not path.exists()


def test_demo_answers_its_paths(demo: Served) -> None:
    seen = json.loads(curl('-H', 'X-Case: Kept', f'{demo.url}/request?a=1'))
    assert (seen['method'], seen['url'], seen['http_version']) == ('GET', '/request?a=1', '1.1')
    assert ['X-Case', 'Kept'] in seen['raw_headers']
    for path, method, status in [
        ('/', 'GET', 200),
        ('/', 'HEAD', 200),
        ('/events', 'HEAD', 200),
        ('/none', 'GET', 404),
        ('/', 'POST', 405),
        ('/events', 'DELETE', 405),
        ('/upload', 'GET', 405),
        ('/pool', 'GET', 405),
        ('/pool?requests=0', 'POST', 400),
        ('/progress', 'GET', 400),
        ('/upload?id=x', 'POST', 400),
    ]:
        head = ['--head'] if method == 'HEAD' else ['-X', method]
        answer = curl('--include', *head, f'{demo.url}{path}')
        assert answer.startswith(f'HTTP/1.1 {status} '), (path, method)
        assert ('\nAllow: ' in answer) == (status == 405), (path, method)


def test_event_stream_ends_with_its_reader() -> None:
    """Ticks arrive one by one, and the handler ends when the reader disconnects."""
    with Served(access_log=True) as demo:
        reader = subprocess.Popen(
            [tool('curl'), '--silent', '--no-buffer', f'{demo.url}/events'], text=True, stdout=subprocess.PIPE
        )
        with reader:
            ticks = [json.loads(reader.stdout.readline().removeprefix('data: '))]
            # the state of the server has a name, and only ticks have a time
            data = (line.removeprefix('data: ') for line in reader.stdout if line.startswith('data: '))
            ticks.append(next(event for event in map(json.loads, data) if 'time' in event))
            reader.terminate()
        assert [tick['listeners'] for tick in ticks] == [1, 1]
        assert ticks[0]['time'] < ticks[1]['time']
        assert '"GET /events HTTP/1.1" 200 ' in demo.next_line()


def test_progress_of_an_upload_is_streamed(demo: Served, tmp_path: Path) -> None:
    """Another connection receives the progress of the upload."""
    identifier = 'ab' * 16
    watcher = subprocess.Popen(
        [tool('curl'), '--silent', '--no-buffer', f'{demo.url}/progress?id={identifier}'],
        text=True,
        stdout=subprocess.PIPE,
    )
    with watcher:
        assert json.loads(watcher.stdout.readline().removeprefix('data: '))['state'] == 'waiting'
        sender = subprocess.Popen(
            [tool('curl'), '--silent', '-T', '-', '-X', 'POST', '--no-buffer', f'{demo.url}/upload?id={identifier}'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with sender:
            sender.stdin.write(bytes(MEGABYTE))
            sender.stdin.flush()
            reports = (json.loads(line.removeprefix('data: ')) for line in watcher.stdout if line.strip())
            assert next(report for report in reports if report['received'])['state'] == 'receiving'
            sender.stdin.write(bytes(MEGABYTE))
            answer, _ = sender.communicate()
        *_, last = reports
    assert json.loads(answer)['received'] == 2 * MEGABYTE
    assert last == {'state': 'complete', 'received': 2 * MEGABYTE, 'total': None}
    assert (
        curl(
            '--write-out',
            '%{http_code}',
            '--output',
            tmp_path / 'answer',
            '--data',
            'again',
            f'{demo.url}/upload?id={identifier}',
        )
        == '409'
    )
