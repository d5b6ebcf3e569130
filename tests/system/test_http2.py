"""HTTP/2 with clients of others: curl, nghttp, h2load, Node, Chromium, httpx, niquests; and under gunicorn."""

from __future__ import annotations

import ast
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from tests.certificates import Certificates
from tests.http2.frames import ACK, DATA, END_STREAM, GOAWAY, PING, RST_STREAM, FrameClient, frame, request
from tests.system.gunicorns import Gunicorn
from tests.system.installed import installed
from tests.system.running import APPS, PATIENCE, Served, peak_memory, run
from tests.system.webdriver import Browser
from tests.system.zeros import zeros

GIB = 2**30
MIB = 2**20

#: The last stream of a GOAWAY that only announces the end.
LAST_STREAM = 2**31 - 1

CLEARTEXT = "http_protocols = 'h2,h1'\nhttp2_cleartext = 'prior-knowledge'\n"

NIQUESTS = [
    'charset-normalizer==3.5.3',
    'jh2==5.0.15',
    'niquests==3.21.2',
    # it takes the place of urllib3, and so must not be in the environment of the other tests
    'urllib3-future==2.25.904',
    'wassima==2.1.5',
]


@pytest.fixture(scope='module')
def served() -> Iterator[Served]:
    with Served('handlers:listener', '--http2') as served:
        yield served


@pytest.fixture(scope='module')
def secure(certificates: Certificates) -> Iterator[Served]:
    with Served('handlers:listener', '--http2', '--certfile', certificates.server) as served:
        yield served


def url_of(secure: Served) -> str:
    return f'https://localhost:{secure.port}'


def asked(*arguments: object) -> str:
    """Return the output of curl, which ends with the version of HTTP."""
    return run(
        'curl', '--silent', '--show-error', '--max-time', PATIENCE, '--write-out', ' %{http_version}', *arguments
    )


# -- curl -------------------------------------------------------------------------------------------------------------


def test_curl_with_prior_knowledge(served: Served, tmp_path: Path) -> None:
    assert asked('--http2-prior-knowledge', f'{served.url}/some?thing=1') == 'GET /some?thing=1 HTTP/2.0 2'
    assert asked('--http2-prior-knowledge', '--head', f'{served.url}/some').startswith('HTTP/2 200 \n')
    (tmp_path / 'body').write_bytes(bytes(3_000_000))
    assert (
        asked('--http2-prior-knowledge', '--data-binary', f'@{tmp_path / "body"}', f'{served.url}/count') == '3000000 2'
    )
    assert asked('--http2-prior-knowledge', '--upload-file', tmp_path / 'body', f'{served.url}/count') == '3000000 2'


def test_curl_with_http_1_on_the_same_port(served: Served) -> None:
    assert asked(f'{served.url}/') == 'GET / HTTP/1.1 1.1'
    # Upgrade: h2c is ignored
    assert asked('--http2', f'{served.url}/') == 'GET / HTTP/1.1 1.1'


def test_curl_chooses_by_alpn(secure: Served, certificates: Certificates) -> None:
    for option, version in (('--http2', '2.0 2'), ('--http1.1', '1.1 1.1'), ('--no-alpn', '1.1 1.1')):
        assert asked('--cacert', certificates.ca, option, f'{url_of(secure)}/') == f'GET / HTTP/{version}'


def test_one_gibibyte_each_way_in_constant_memory() -> None:
    """nghttp sends it, because curl polls while it waits for the window: it takes six times the processor time."""
    with zeros(GIB) as file, Served('handlers:listener', '--http2') as served:
        assert asked('--http2-prior-knowledge', '--upload-file', __file__, f'{served.url}/count').endswith(' 2')
        before = peak_memory(served.process.pid)
        assert run('nghttp', '--data', file, f'{served.url}/count') == f'{GIB}'
        assert (
            asked(
                '--http2-prior-knowledge',
                '--output',
                '/dev/null',
                '--write-out',
                '%{size_download}',
                f'{served.url}/download?{GIB}',
            )
            == f'{GIB}'
        )
        assert peak_memory(served.process.pid) - before < 8 * MIB


# -- nghttp2 ----------------------------------------------------------------------------------------------------------


def test_nghttp(served: Served, tmp_path: Path) -> None:
    (tmp_path / 'body').write_bytes(b'the body')
    said = run('nghttp', '--verbose', '--data', tmp_path / 'body', '--trailer', 'x-sent: yes', f'{served.url}/echo')
    assert 'the body' in said
    assert 'x-seen: yes' in said
    assert ':status: 200' in said
    assert 'RST_STREAM' not in said


def test_three_requests_of_a_connection_run_at_once() -> None:
    """Each gets its response only when all three are in progress."""
    with Served('multiplexed:listener', '--http2') as served:
        said = run('nghttp', '--multiply', 3, f'{served.url}/together')
        ports = set(re.findall(r'^2\.0 (\d+)$', said, re.MULTILINE))
        assert len(ports) == 1


@pytest.mark.parametrize('secured', [False, True])
def test_h2load(served: Served, secure: Served, secured: bool) -> None:
    url = url_of(secure) if secured else served.url
    said = run('h2load', '-n', 3000, '-c', 8, '-m', 16, f'{url}/')
    assert '3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout' in said
    assert 'status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx' in said


# -- other clients ----------------------------------------------------------------------------------------------------


def test_node(served: Served) -> None:
    assert run('node', APPS / 'client2.js', served.url).splitlines() == [
        'ninety requests at the same time',
        'a large body and trailers both ways',
        'HEAD has the headers and no body',
        'a stream that was cancelled leaves the others alone',
        'Expect: 100-continue',
        'PING',
    ]


def test_httpx(served: Served, secure: Served, certificates: Certificates) -> None:
    httpx = pytest.importorskip('httpx', reason='httpx is not installed; it is in the extra "test"')
    for url, options in (
        (served.url, {'http1': False}),
        (url_of(secure), {'verify': ssl.create_default_context(cafile=certificates.ca)}),
    ):
        with httpx.Client(http2=True, trust_env=False, timeout=PATIENCE, **options) as client:
            found = [client.get(f'{url}/{number}') for number in range(20)]
            assert [(each.http_version, each.text) for each in found] == [
                ('HTTP/2', f'GET /{number} HTTP/2.0') for number in range(20)
            ]
            assert client.post(f'{url}/count', content=bytes(300_000)).text == '300000'
            with client.stream('GET', f'{url}/download?1000000000') as response:
                # leaving the block resets the stream
                next(response.iter_raw())
            assert client.get(f'{url}/next').text == 'GET /next HTTP/2.0'


@pytest.mark.parametrize('secured', [False, True])
def test_niquests(
    served: Served, secure: Served, certificates: Certificates, secured: bool, pytestconfig: pytest.Config
) -> None:
    packages = installed(pytestconfig, 'niquests', *NIQUESTS)
    url = url_of(secure) if secured else served.url
    ran = subprocess.run(
        [
            sys.executable,
            Path(__file__).parent / 'libraries' / 'niquests_http2.py',
            url,
            certificates.ca if secured else '',
        ],
        check=False,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, 'PYTHONPATH': str(packages)},
    )
    assert ran.returncode == 0, ran.stderr
    several, posted = (ast.literal_eval(line) for line in ran.stdout.splitlines())
    assert several == [(20, 200, f'GET /{number} HTTP/2.0') for number in range(20)]
    assert posted == (20, '300000')


def test_chromium_with_ten_event_streams(certificates: Certificates, chromium: Browser) -> None:
    """Ten tabs of one origin have a stream each at the same time; HTTP/1.1 has six connections for all of them."""
    with (
        Served('multiplexed:listener', '--http2', '--certfile', certificates.server) as served,
        chromium.lent() as page,
    ):
        page.open(f'{url_of(served)}/')
        page.evaluate("Array.from({length: 9}, () => open('/')).length")
        # all pages are loaded when one of them has its event
        page.wait_for("document.querySelector('#told').textContent !== ''")
        assert len(page.tabs) == 10
        for tab in page.tabs:
            page.switch(tab)
            page.wait_for("document.querySelector('#told').textContent !== ''")
            assert page.evaluate('document.title') == 'ten at once by HTTP/2.0'


def test_demo_page_names_the_protocol(certificates: Certificates, chromium: Browser) -> None:
    with (
        Served('--http2', '--certfile', certificates.server) as demo,
        chromium.lent() as page,
    ):
        page.open(f'{url_of(demo)}/')
        page.wait_for("document.querySelector('#protocol').textContent === 'HTTP/2'")
        assert page.evaluate("document.querySelector('#line').textContent") == 'GET /request HTTP/2.0'
        page.wait_for("Number(document.querySelector('#ticks').textContent) > 1")
        page.evaluate("document.querySelector('#size').value = 8")
        page.click('#send')
        page.wait_for("document.querySelector('#result').textContent.startsWith('Complete')")
        assert page.console() == []


def test_access_log_has_the_version() -> None:
    with Served('handlers:listener', '--http2', access_log=True) as served:
        asked('--http2-prior-knowledge', f'{served.url}/logged')
        assert '"GET /logged HTTP/2.0" 200 ' in served.next_line()


def test_sigterm_loses_no_stream() -> None:
    """Streams in progress finish, and so does one on its way; GOAWAY names it, and a later one is not served."""
    with Served('handlers:listener', '--http2') as served:
        client = FrameClient(('127.0.0.1', served.port))
        for stream in (1, 3, 5):
            client.send(request(stream, '/slow', method='POST', end=False))
            assert client.until(DATA, stream) == b'begun\n'
        served.signal(signal.SIGTERM)
        assert client.goaway() == (LAST_STREAM, 0)
        client.send(request(7, '/late'))
        ping = client.until(PING)
        client.send(frame(PING, ACK, 0, ping))
        assert client.goaway() == (7, 0)
        client.send(request(9, '/refused'))
        for stream in (1, 3, 5):
            client.send(frame(DATA, END_STREAM, stream, b'12345'))
        client.wait_closed()
        client.close()
        printed, errors = served.finish()
    bodies = dict.fromkeys((1, 3, 5, 7), b'')
    for kind, _, stream, payload in client.frames:
        if kind == DATA:
            bodies[stream] += payload
    assert bodies == {**dict.fromkeys((1, 3, 5), b'begun\n5\n'), 7: b'GET /late HTTP/2.0'}
    ended = [stream for kind, flags, stream, _ in client.frames if kind == DATA and flags & END_STREAM]
    assert sorted(ended) == [1, 3, 5, 7]
    assert not [each for each in client.frames if each[0] == RST_STREAM]
    assert (served.process.returncode, printed, errors) == (0, 'Stopping: 1 open connection(s)\n', '')


def test_limit_of_streams_is_an_option() -> None:
    with Served('handlers:listener', '--http2', '--http2-max-concurrent-streams', 7) as served:
        said = run('nghttp', '--verbose', '--null-out', f'{served.url}/')
        assert 'SETTINGS_MAX_CONCURRENT_STREAMS(0x03):7' in said


# -- gunicorn ---------------------------------------------------------------------------------------------------------


def test_gunicorn_over_tls(certificates: Certificates, tmp_path: Path) -> None:
    configuration = f"http_protocols = 'h2,h1'\ncertfile = keyfile = {certificates.server!r}\n"
    with Gunicorn(tmp_path, 'multiplexed:application', configuration) as gunicorn:
        url = f'https://localhost:{gunicorn.port}'
        assert asked('--cacert', certificates.ca, '--http2', f'{url}/').startswith('HTTP/2.0 ')
        assert asked('--cacert', certificates.ca, '--http1.1', f'{url}/').startswith('HTTP/1.1 ')


def test_gunicorn_serves_streams_beside_each_other(tmp_path: Path) -> None:
    """Three views sleep at the same time: none ends before the others have begun."""
    with Gunicorn(tmp_path, 'multiplexed:application', CLEARTEXT) as gunicorn:
        url = f'http://127.0.0.1:{gunicorn.port}'
        said = run('nghttp', '--multiply', 3, f'{url}/sleep')
        assert len(re.findall(r'^HTTP/2\.0 \d+$', said, re.MULTILINE)) == 3
        assert asked('--http1.1', f'{url}/').startswith('HTTP/1.1 ')


def test_settings_of_gunicorn(tmp_path: Path) -> None:
    configuration = (
        f'{CLEARTEXT}http2_max_concurrent_streams = 7\nhttp2_initial_window_size = 100000\n'
        'http2_max_frame_size = 20000\nhttp2_max_header_list_size = 30000\n'
    )
    with Gunicorn(tmp_path, configuration=configuration) as gunicorn:
        said = run('nghttp', '--verbose', '--null-out', f'http://127.0.0.1:{gunicorn.port}/')
    received = said[said.index('recv SETTINGS frame') :].partition('\n[')[0]
    assert dict(re.findall(r'SETTINGS_(\w+)\(0x\d+\):(\d+)', received)) == {
        'MAX_CONCURRENT_STREAMS': '7',
        'INITIAL_WINDOW_SIZE': '100000',
        'MAX_FRAME_SIZE': '20000',
        'MAX_HEADER_LIST_SIZE': '30000',
    }


def test_hup_of_gunicorn_under_load(tmp_path: Path) -> None:
    """Two workers are replaced twice during 20,000 requests, and none fails."""
    total, connections = 20_000, 8
    done: list[int] = []
    reached = {total // 4: Event(), total // 2: Event()}
    with Gunicorn(tmp_path, configuration=f'{CLEARTEXT}keepalive = 60\n', workers=2) as gunicorn:
        gunicorn.booted(2)
        greenlets = [
            gevent.spawn(Load(gunicorn.port, total // connections, done, reached).run) for _ in range(connections)
        ]
        for share in reached.values():
            gevent.wait([share, *greenlets], count=1)
            gunicorn.signal(signal.SIGHUP)
        gevent.joinall(greenlets, raise_error=True)
        assert len(done) == total
        pids = {gunicorn.booted() for _ in range(4)}
        assert len(pids) == 4


class Load:
    """A client that sends requests on one connection after the other, sixteen at a time.

    A request is sent again only if GOAWAY says that it was not served.

    :param done: the streams of all clients' responses.
    :param reached: the events that are set when there are as many of them.
    """

    def __init__(self, port: int, count: int, done: list[int], reached: dict[int, Event]) -> None:
        self._port = port
        self._left = count
        self._done = done
        self._reached = reached

    def run(self) -> None:
        """Make the requests. Blocks until all have their responses."""
        while self._left:
            client = FrameClient(('127.0.0.1', self._port))
            try:
                self._use(client)
            finally:
                client.close()

    def _use(self, client: FrameClient) -> None:
        waiting: set[int] = set()
        stream, ending = 1, False
        while waiting or (self._left and not ending):
            while self._left > len(waiting) and len(waiting) < 16 and not ending:
                client.send(request(stream))
                waiting.add(stream)
                stream += 2
            found = client.read()
            assert found is not None, f'the connection has ended, and {len(waiting)} requests wait'
            kind, flags, number, payload = found
            assert kind != RST_STREAM
            if kind == DATA and flags & END_STREAM:
                waiting.remove(number)
                self._left -= 1
                self._done.append(number)
                if share := self._reached.get(len(self._done)):
                    share.set()
            elif kind == PING and not flags & ACK:
                client.send(frame(PING, ACK, 0, payload))
            elif kind == GOAWAY:
                last, code = int.from_bytes(payload[:4], 'big'), int.from_bytes(payload[4:8], 'big')
                assert code == 0
                ending = True
                waiting = {each for each in waiting if each <= last}
            client.frames.clear()
