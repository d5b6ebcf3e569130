"""The demo's server, in the same process: its registry is bounded, and its streams end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from gevent.socket import create_connection

from geventnode.cli.demo import DemoServer, create_server, pool, site, uploads
from geventnode.cli.demo.uploads import TooManyUploads, Upload, Uploads
from tests.certificates import Certificates


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


def events_of(answer: Any) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream, each with its name; the head of the response is left out."""
    for line in answer:
        if line.startswith(b'event: '):
            name = line.removeprefix(b'event: ').strip().decode()
            yield {name: json.loads(answer.readline().removeprefix(b'data: '))}
        elif line.startswith(b'data: '):
            yield json.loads(line.removeprefix(b'data: '))


def pool_states(answer: Any) -> Iterator[dict[str, Any]]:
    """Yield the states of the pool that a stream reports."""
    return (event['state']['pool'] for event in events_of(answer) if 'state' in event)


def posted(demo: DemoServer, query: str, *fields: str) -> tuple[int, str]:
    """Send a batch to the pool; return the status and the body of the response."""
    request = '\r\n'.join((f'POST /pool{query} HTTP/1.0', 'Content-Length: 0', *fields))
    with opened(demo, request) as answer:
        head, _, body = answer.read().decode().partition('\r\n\r\n')
    return int(head.split()[1]), body


def test_ticks_end_when_the_client_disconnects(demo: DemoServer) -> None:
    with opened(demo, 'GET /events HTTP/1.0') as answer:
        lines = iter(answer.readline, b'\r\n')
        assert next(lines) == b'HTTP/1.1 200 OK\r\n'
        list(lines)
        assert json.loads(answer.readline().removeprefix(b'data: '))['listeners'] == 1
    demo.stop()
    assert demo.get_connections() == 0


# -- foreign names ----------------------------------------------------------------------------------------------------


def status_of(demo: DemoServer, host: str) -> int:
    """Return the status of a batch for the pool, which looks as if it was from a page of the server itself."""
    fields = f'Host: {host}', f'Origin: http://{host}', 'Sec-Fetch-Site: same-origin'
    return posted(demo, '?requests=1', *fields)[0]


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize(
    ('host', 'status'),
    [
        ('localhost:8000', 200),
        ('LOCALHOST.', 200),
        ('127.1.2.3:8000', 200),
        ('[::1]:8000', 200),
        ('evil.example:8000', 403),
        ('localhost.evil.example', 403),
        ('127.0.0.1.evil.example', 403),
        ('192.0.2.1', 403),
    ],
)
def test_local_server_has_no_foreign_names(demo: DemoServer, host: str, status: int) -> None:
    """A page of another site can let its own name resolve to 127.0.0.1."""
    assert status_of(demo, host) == status


def test_response_names_the_foreign_host(demo: DemoServer) -> None:
    with opened(demo, 'GET /request HTTP/1.1\r\nHost: evil.example\r\nConnection: close') as answer:
        body = answer.read().partition(b'\r\n\r\n')[2]
    assert body == b"The demo is shown as localhost, not as 'evil.example'; for other names, use --bind :PORT\n"


def test_foreign_names_are_refused_while_the_server_stops(demo: DemoServer) -> None:
    with opened(demo, 'GET /events HTTP/1.0') as ticks:
        assert ticks.readline()
        demo.close()
        assert not demo._serves('evil.example')
        assert demo._serves('localhost')


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize('host', ['0.0.0.0', None])
def test_public_server_has_any_name(host: str | None, tmp_path: Path) -> None:
    """Everything in it is public anyway; and the client of a Unix socket is a proxy."""
    with create_server() as demo:
        if host is None:
            demo.listen(str(tmp_path / 'demo'))
            assert demo._serves('demo.example')
        else:
            demo.listen(0, host)
            assert status_of(demo, 'demo.example') == 200


@pytest.mark.parametrize('path', ['/events', f'/progress?id={identifier(1)}'])
def test_streams_end_when_the_server_stops(demo: DemoServer, path: str) -> None:
    with opened(demo, f'GET {path} HTTP/1.1\r\nHost: localhost') as answer:
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
        with opened(
            demo, f'POST /upload?id={identifier(1)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc'
        ):
            pass
        *_, last = (json.loads(line.removeprefix(b'data: ')) for line in reports if line.startswith(b'data: '))
    assert last['state'] == 'failed'


# -- the pool ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make slow responses quick."""
    monkeypatch.setattr(site, 'SLOWNESS', 0.001)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make slow responses so slow that a test would hang."""
    monkeypatch.setattr(site, 'SLOWNESS', 3600)


@pytest.mark.usefixtures('quick')
def test_pool_reuses_its_connections(demo: DemoServer) -> None:
    results = []
    for _ in range(2):
        status, body = posted(demo, '?requests=6&max_sockets=2')
        assert status == 200
        results.append(json.loads(body))
    assert [(each['responses'], each['opened']) for each in results] == [(6, 2), (6, 0)]
    assert all(each['seconds'] > 0 for each in results)


@pytest.mark.usefixtures('slow')
def test_queue_of_the_pool_is_reported(demo: DemoServer) -> None:
    """The stream of ticks reports server and pool when they change; a client that disconnects ends its batch."""
    with opened(demo, 'GET /events HTTP/1.0') as answer:
        states = pool_states(answer)
        assert next(states) == {'max_sockets': pool.DEFAULT_SOCKETS, 'active': 0, 'idle': 0, 'queued': 0}
        with opened(demo, 'POST /pool?requests=9&max_sockets=3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0'):
            busy = {'max_sockets': 3, 'active': 3, 'idle': 0, 'queued': 6}
            assert busy in states
        assert {'max_sockets': 3, 'active': 0, 'idle': 0, 'queued': 0} in states
        demo.stop()
        assert demo.get_connections() == 0


@pytest.mark.parametrize(
    ('query', 'reason'),
    [
        ('?requests=0', 'requests must be a whole number from 1 to 100'),
        ('?requests=101', 'requests must be a whole number from 1 to 100'),
        ('?requests=-1', 'requests must be a whole number from 1 to 100'),
        ('?requests=99999999999', 'requests must be a whole number from 1 to 100'),
        ('?requests=\u0661', 'requests must be a whole number from 1 to 100'),
        ('?max_sockets=11', 'max_sockets must be a whole number from 1 to 10'),
    ],
)
def test_batch_is_bounded(demo: DemoServer, query: str, reason: str) -> None:
    status, body = posted(demo, quote(query, safe='?=&'))
    assert status == 400
    assert body.startswith(reason)


@pytest.mark.parametrize('field', ['Sec-Fetch-Site: cross-site', 'Origin: http://evil.example', 'Origin: null'])
def test_other_sites_cannot_use_the_pool(demo: DemoServer, field: str) -> None:
    """Browsers send no Sec-Fetch-Site to a plain HTTP address of another machine."""
    status, body = posted(demo, '', field)
    assert (status, body) == (403, 'The pool makes no requests for pages of other sites\n')
    assert demo._pool.state()['active'] == 0


@pytest.mark.parametrize(
    'fields', [('Host: localhost:80', 'Origin: http://localhost'), ('Origin: null', 'Sec-Fetch-Site: same-origin')]
)
def test_own_page_can_use_the_pool(demo: DemoServer, fields: tuple[str, ...]) -> None:
    assert posted(demo, '?requests=1', *fields)[0] == 200


@pytest.mark.parametrize(
    ('target', 'status'),
    [
        ('//[', 404),
        ('//x/slow', 404),
        ('http://localhost./slow?a', 200),
        ('HTTP://[::1]?a', 200),
        ('http://[v1.x]/slow?a', 403),
        ('/a//[', 404),
    ],
)
def test_unusual_targets(demo: DemoServer, target: str, status: int) -> None:
    with opened(demo, f'GET {target} HTTP/1.0') as answer:
        assert int(answer.readline().split()[1]) == status


def test_pool_needs_connections_without_a_proxy_header(demo: DemoServer) -> None:
    demo.trusted_proxies = ['127.0.0.1']
    demo.proxy_protocol = True
    with opened(demo, 'PROXY UNKNOWN\r\nPOST /pool HTTP/1.0\r\nContent-Length: 0') as answer:
        assert b' 503 ' in answer.readline()


@pytest.mark.usefixtures('slow')
def test_full_queue_of_the_pool_is_a_503(demo: DemoServer) -> None:
    """The requests of the batch that were queued before are given up."""
    demo._pool._agent.max_queued = 5
    status, body = posted(demo, '?requests=10&max_sockets=2')
    assert status == 503
    assert '5 requests wait for' in body
    state = demo._pool.state()
    assert (state['active'], state['queued']) == (0, 0)


@pytest.mark.usefixtures('slow')
def test_batch_ends_when_the_server_stops(demo: DemoServer) -> None:
    with opened(demo, 'GET /events HTTP/1.0') as ticks:
        with opened(demo, 'POST /pool?requests=9 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0') as answer:
            assert any(state['queued'] == 5 for state in pool_states(ticks))
            demo.close()
            assert b' 502 ' in answer.readline()
            assert b'A request of the pool failed: ' in answer.read()
    demo.stop()


@pytest.mark.usefixtures('quick')
def test_pool_reaches_a_unix_socket(tmp_path: Path) -> None:
    with create_server().listen(str(tmp_path / 'demo')) as demo:
        assert demo._pool.send(demo._own_target(), 3, 1, lambda give_up: None)['opened'] == 1


@pytest.mark.usefixtures('quick')
@pytest.mark.parametrize('host', ['0.0.0.0', '::'])
def test_pool_reaches_a_server_over_tls_at_all_addresses(certificates: Certificates, host: str) -> None:
    with create_server(certfile=certificates.server).listen(0, host) as demo:
        assert demo._pool.send(demo._own_target(), 3, 1, lambda give_up: None)['opened'] == 1
