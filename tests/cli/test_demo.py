"""The demo's server, in the same process: its registry is bounded, and its streams end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from gevent.socket import create_connection

from geventnode.cli.demo import DemoServer, create_server, uploads
from geventnode.cli.demo.uploads import TooManyUploads, Upload, Uploads


def identifier(number: int) -> str:
    return f'{number:032x}'


# -- the registry of uploads -------------------------------------------------------------------------------------------


def test_upload_is_found_by_its_identifier() -> None:
    known = Uploads()
    assert known.get(identifier(1)) is known.get(identifier(1))
    assert known.get(identifier(1)) is not known.get(identifier(2))


@pytest.mark.parametrize('wrong', ['', 'ab', 'x' * 32, 'AB' * 16, identifier(0) + '0', '\u0661' * 32])
def test_invalid_identifier_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match='32 hexadecimal digits'):
        Uploads().get(wrong)


def test_registry_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle uploads are removed for new ones; active or watched uploads are not."""
    known = Uploads()
    for number in range(uploads.MAX_UPLOADS):
        known.get(identifier(number))
    with pytest.raises(TooManyUploads):
        known.get(identifier(1000))
    known.get(identifier(0)).begin(None)
    watcher = uploads.Event()
    watched = known.get(identifier(1))
    watched.watch(watcher)
    # every idle upload has expired now
    monkeypatch.setattr(uploads, 'IDLE_TIMEOUT', -1)
    known.get(identifier(1000))
    assert known.get(identifier(0)).state == 'receiving'
    assert known.get(identifier(1)) is watched
    assert known.get(identifier(2)).state == 'waiting'


def test_watchers_are_woken_for_each_step() -> None:
    upload = Upload()
    watcher = uploads.Event()
    upload.watch(watcher)
    upload.begin(uploads.MIN_STEP * 10)
    woken = 0
    for _ in range(uploads.MIN_STEP // 1024 * 10):
        upload.add(1024)
        woken += watcher.is_set()
        watcher.clear()
    assert woken == 10
    upload.end(complete=False)
    assert watcher.is_set()
    assert (upload.state, upload.ended) == ('failed', True)


# -- over the wire ----------------------------------------------------------------------------------------------------


@pytest.fixture
def demo() -> Iterator[DemoServer]:
    with create_server().listen(0, '127.0.0.1') as server:
        yield server


def opened(demo: DemoServer, request: str) -> Any:
    """Send a request, and return a file that reads the response."""
    with create_connection(('127.0.0.1', demo.address()['port'])) as client:
        client.sendall(f'{request}\r\n\r\n'.encode())
        return client.makefile('rb')


def test_content_security_policy_allows_the_page(demo: DemoServer) -> None:
    with opened(demo, 'GET / HTTP/1.0') as answer:
        head, _, page = answer.read().partition(b'\r\n\r\n')
    assert len(re.findall(rb"'sha256-[\w+/]+='", head)) == page.count(b'<script>') + page.count(b'<style>') == 2
    assert b'http://' not in page
    assert b'https://' not in page


def test_ticks_end_when_the_client_disconnects(demo: DemoServer) -> None:
    with opened(demo, 'GET /events HTTP/1.0') as answer:
        lines = iter(answer.readline, b'\r\n')
        assert next(lines) == b'HTTP/1.1 200 OK\r\n'
        list(lines)
        assert json.loads(answer.readline().removeprefix(b'data: '))['listeners'] == 1
    demo.stop()
    assert demo.get_connections() == 0


@pytest.mark.parametrize('path', ['/events', f'/progress?id={identifier(1)}'])
def test_streams_end_when_the_server_stops(demo: DemoServer, path: str) -> None:
    with opened(demo, f'GET {path} HTTP/1.1\r\nHost: a') as answer:
        while not answer.readline().startswith(b'data: '):
            pass
        demo.close()
        assert answer.read().endswith(b'0\r\n\r\n')
    demo.stop()


def test_full_registry_is_a_503(demo: DemoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, 'MAX_UPLOADS', 0)
    with opened(demo, f'GET /progress?id={identifier(1)} HTTP/1.0') as answer:
        head = answer.read()
    assert head.startswith(b'HTTP/1.1 503 ')
    assert b'\r\nRetry-After: 60\r\n' in head


def test_aborted_upload_has_failed(demo: DemoServer) -> None:
    """The progress stream reports the failure."""
    with opened(demo, f'GET /progress?id={identifier(1)} HTTP/1.0') as reports:
        while not reports.readline().startswith(b'data: '):
            pass
        with opened(demo, f'POST /upload?id={identifier(1)} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc'):
            pass
        *_, last = (json.loads(line.removeprefix(b'data: ')) for line in reports if line.startswith(b'data: '))
    assert last['state'] == 'failed'
