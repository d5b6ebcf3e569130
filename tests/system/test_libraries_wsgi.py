"""Libraries for WSGI applications, in the versions that ``docs/libraries.rst`` names.

All of them are installed into one directory, without their dependencies on frameworks, which are those of the tests.
Flask-SocketIO, Flask-Sock and gunicorn's helpers have their own files.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event

from tests.code_blocks import ROOT
from tests.needed import need
from tests.servers import Serve, get
from tests.system.frameworks import LARGE, Framework, Gate, large_file, sha256
from tests.system.gunicorns import Gunicorn
from tests.system.installed import installed
from tests.system.running import APPS, PYTHONPATH, Served

need('django', 'flask')

NEEDED = [
    'a2wsgi==1.10.10',
    'anyio==4.16.0',
    'backports.zstd==1.8.0',
    'brotli==1.2.0',
    'flask-compress==1.25',
    'idna==3.20',
    'sentry-sdk==2.75.0',
    'starlette==1.10.0',
    'whitenoise==6.12.0',
]
WAYS = ['serve', 'gunicorn']


@pytest.fixture(scope='module')
def packages(pytestconfig: pytest.Config) -> Path:
    """The directory of the libraries."""
    return installed(pytestconfig, 'libraries-wsgi', *NEEDED)


def site_of(target: str, *ways: str) -> Any:
    """Return a fixture for a module: the application ``target``, in each of the ways."""

    @pytest.fixture(scope='module', params=ways or WAYS)
    def site(
        request: pytest.FixtureRequest, packages: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Framework]:
        directory = tmp_path_factory.mktemp(request.param)
        # Python complains when the process ends: a response that a client has left is still suspended in a2wsgi
        errors = '(?s:.*)'
        with (
            contextlib.closing(Gate()) as gate,
            served(request.param, target, packages, directory, gate, errors) as port,
        ):
            yield Framework(port, gate, directory)

    return site


@contextlib.contextmanager
def served(
    way: str, target: str, packages: Path, directory: Path, gate: Gate, errors: str = '', **more: str
) -> Iterator[int]:
    """Run an application, and yield its port."""
    path = os.pathsep.join(map(str, (packages, PYTHONPATH, APPS)))
    env = {'GATE': str(gate.port), 'DIRECTORY': str(directory), 'PYTHONPATH': path, **more}
    if way == 'serve':
        made: Any = Served(target, env=env, errors=errors)
    else:
        made = Gunicorn(directory, target, env=env)
    with made as running:
        yield running.port


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_versions_of_the_page() -> None:
    """The table names the versions that are tested here."""
    page = (ROOT / 'docs' / 'libraries.rst').read_text('utf-8')
    for name, version in (each.split('==') for each in NEEDED):
        for found in re.findall(rf'^{name} +(\d[\d.]*) ', page, re.MULTILINE | re.IGNORECASE):
            assert found == version, name


# -- a2wsgi -----------------------------------------------------------------------------------------------------------

asgi = site_of('asgi_site:app')


def test_a2wsgi_responds(asgi: Framework) -> None:
    """The greeting is set by the beginning of the lifespan, which the application runs itself."""
    with asgi.connect() as client:
        assert json.loads(client.get('/').body) == {'message': 'hello'}
        assert client.get('/nowhere').status == 404
        assert client.get('/fail').status == 500
        assert client.get('/').status == 200


def test_a2wsgi_with_an_upload(asgi: Framework, tmp_path: Path) -> None:
    """The application gets the body in pieces."""
    path = large_file(tmp_path)
    got = json.loads(asgi.curl('/upload', '-X', 'POST', '-T', path))
    assert (got['size'], got['sha256']) == (LARGE, sha256(path))
    assert got['largest'] < LARGE / 10


def test_a2wsgi_with_a_stream(asgi: Framework) -> None:
    """Each item is sent before the next one is made."""
    with asgi.connect(get('/stream')) as client:
        assert client.until(b'one\n')
        asgi.gate.wait_for('stream')
        asgi.gate.open('stream')
        assert client.until(b'two\n')
        assert client.until(b'0\r\n\r\n')


def test_a2wsgi_with_a_client_that_disconnects(asgi: Framework) -> None:
    """The response ends, but a2wsgi does not notify the ASGI application, which stays suspended."""
    before = asgi.gate.said('ended')
    with asgi.connect(get('/endless')) as client:
        client.until(b'x' * 1000)
    asgi.gate.wait_for('ended', before + 1)
    assert asgi.get('/streams').body == b'1'


@pytest.mark.parametrize('path', ['together', 'plain'])
def test_a2wsgi_with_many_requests(asgi: Framework, path: str) -> None:
    """They wait beside each other, in coroutines and in Starlette's threads, all in the thread of the server."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asgi.connect(get(f'/{path}'))) for _ in range(19)]
        with asgi.connect() as other:
            assert other.get('/').status == 200
        clients.append(stack.enter_context(asgi.connect(get(f'/{path}'))))
        assert [client.response().body for client in clients] == [b'true'] * 20


def test_a2wsgi_beside_a_deferred_view_of_flask(asgi: Framework) -> None:
    """Flask cannot start a second loop in the thread."""
    assert asgi.get('/flask').status == 500
    assert asgi.get('/').status == 200


def test_a2wsgi_with_a_websocket(asgi: Framework) -> None:
    """It is an ordinary request."""
    fields = ('Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: AAAA')
    with asgi.connect(get('/ws', *fields)) as client:
        assert client.response().status == 404


# -- WhiteNoise -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module', params=['app', 'application'])
def files(
    request: pytest.FixtureRequest, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Framework]:
    """WhiteNoise before a plain application, and in Django's middleware."""
    directory = tmp_path_factory.mktemp(request.param)
    large_file(directory)
    (directory / 'a.css').write_text('body {}\n' * 100)
    (directory / 'a.css.gz').write_bytes(gzip.compress((directory / 'a.css').read_bytes()))
    with (
        contextlib.closing(Gate()) as gate,
        served('serve', f'whitenoised:{request.param}', packages, directory, gate) as port,
    ):
        yield Framework(port, gate, directory)


def test_whitenoise(files: Framework) -> None:
    """A file and its compressed form, the validators, HEAD, ranges, and the application itself."""
    css = (files.directory / 'a.css').read_bytes()
    with files.connect() as client:
        plain = client.get('/static/a.css')
        assert (plain.status, plain.body) == (200, css)
        packed = client.send(get('/static/a.css', 'Accept-Encoding: gzip')).response()
        assert (packed.values('Content-Encoding'), gzip.decompress(packed.body)) == (['gzip'], css)
        changed, etag = plain.values('Last-Modified')[0], plain.values('ETag')[0]
        for field in f'If-Modified-Since: {changed}', f'If-None-Match: {etag}':
            unchanged = client.send(get('/static/a.css', field)).response()
            assert (unchanged.status, unchanged.body) == (304, b'')
        head = client.send(get('/static/a.css', method='HEAD')).response('HEAD')
        assert (head.status, head.values('Content-Length')) == (200, [str(len(css))])
        part = client.send(get('/static/a.css', 'Range: bytes=5-9')).response()
        assert (part.status, part.body) == (206, css[5:10])
        beyond = client.send(get('/static/a.css', 'Range: bytes=99999-')).response()
        assert (beyond.status, beyond.values('Content-Range')) == (416, [f'bytes */{len(css)}'])
        assert client.get('/').body == b'hello\n'
        assert client.get('/static/nothing').status in (200, 404)


def test_whitenoise_with_a_large_file(files: Framework) -> None:
    """It arrives complete, and so does a range of it."""
    content = (files.directory / 'large').read_bytes()
    with files.connect() as client:
        assert hashlib.sha256(client.get('/static/large').body).hexdigest() == sha256(files.directory / 'large')
        part = client.send(get('/static/large', 'Range: bytes=1000000-8999999')).response()
        assert (part.status, part.body) == (206, content[1_000_000:9_000_000])


# -- Flask-Compress and Sentry ----------------------------------------------------------------------------------------


class Collector:
    """Receives the events of Sentry's client."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._changed = Event()

    def __call__(self, request: Any, response: Any) -> None:
        for line in request.read().splitlines():
            self.items.append(json.loads(line))
        self._changed.set()
        response.end('{}')

    def errors(self, count: int) -> list[dict[str, Any]]:
        """Wait for ``count`` errors, and return them."""
        while len(found := [item for item in self.items if 'exception' in item]) < count:
            self._changed.clear()
            self._changed.wait()
        return found


@pytest.fixture
def extended(packages: Path, tmp_path: Path, serve: Serve) -> Iterator[tuple[Framework, Collector]]:
    """A Flask application with extensions."""
    collector = Collector()
    where = serve(collector).where
    dsn = f'http://key@127.0.0.1:{where[1]}/1'
    with (
        contextlib.closing(Gate()) as gate,
        served('serve', 'added:app', packages, tmp_path, gate, '(?s).*', SENTRY=dsn) as port,
    ):
        yield Framework(port, gate, tmp_path), collector


Extended = tuple[Framework, Collector]


def test_flask_compress(extended: Extended) -> None:
    """Large responses and streams are compressed, and files are sent as they are."""
    site, _ = extended
    with site.connect() as client:
        large = client.send(get('/large', 'Accept-Encoding: br, gzip;q=0.5')).response()
        assert (large.values('Content-Encoding'), len(large.body) < 1000) == (['br'], True)
        large = client.send(get('/large', 'Accept-Encoding: gzip')).response()
        assert gzip.decompress(large.body) == b'x' * 100_000
        assert large.values('Content-Length') == [str(len(large.body))]
        assert client.get('/large').values('Content-Length') == ['100000']
        head = client.send(get('/large', 'Accept-Encoding: gzip', method='HEAD')).response('HEAD')
        assert head.status == 200
        file = client.send(get('/file', 'Accept-Encoding: gzip')).response()
        assert (file.values('Content-Encoding'), file.body) == ([], (APPS / 'added.py').read_bytes())
        client.send(get('/stream', 'Accept-Encoding: gzip'))
        client.head()
        site.gate.wait_for('stream')
        site.gate.open('stream')
        assert client.until(b'0\r\n\r\n')
        assert client.get('/').body == b'hello\n'


def test_event_streams_with_flask_extensions(extended: Extended) -> None:
    """Each event is sent at once, without compression, and a client that disconnects ends the generator."""
    site, _ = extended
    with site.connect(get('/events', 'Accept-Encoding: gzip')) as client:
        assert client.until(b'data: one\n\n')
        site.gate.wait_for('events')
    site.gate.open('events')
    site.gate.wait_for('ended')


def test_sentry(extended: Extended) -> None:
    """Each of two concurrent errors arrives with its own request and tags; other requests are served."""
    site, collector = extended
    with site.connect(get('/fail/first')) as first, site.connect(get('/fail/second')) as second:
        site.gate.wait_for('fail', 2)
        assert site.get('/').status == 200
        site.gate.open('fail')
        assert (first.response().status, second.response().status) == (500, 500)
        errors = collector.errors(2)
    found = {each['exception']['values'][0]['value']: each for each in errors}
    for name in 'first', 'second':
        assert found[name]['tags']['name'] == name
        assert found[name]['request']['url'].endswith(f'/fail/{name}')


# -- Pyramid ----------------------------------------------------------------------------------------------------------


def test_a_paste_configuration(packages: Path, tmp_path: Path) -> None:
    """Pyramid's ``production.ini`` is served under gunicorn; its section on waitress has no effect."""
    pytest.importorskip('paste.deploy', reason='PasteDeploy is not installed; pyramid requires it')
    (tmp_path / 'production.ini').write_text(
        '[app:main]\nuse = call:pyramids:main\ngreeting = hello\n'
        '[server:main]\nuse = egg:waitress#main\nlisten = localhost:6543\n'
    )
    (tmp_path / 'pyramids.py').write_text(
        'from pyramid.config import Configurator\nfrom pyramid.response import Response\n'
        'def main(global_config, **settings):\n'
        '    with Configurator(settings=settings) as config:\n'
        "        config.add_route('home', '/')\n"
        "        config.add_view(lambda request: Response(settings['greeting']), route_name='home')\n"
        '        return config.make_wsgi_app()\n'
    )
    path = os.pathsep.join(map(str, (tmp_path, PYTHONPATH)))
    with Gunicorn(
        tmp_path, 'production.ini', '', '--paste', tmp_path / 'production.ini', cwd=tmp_path, env={'PYTHONPATH': path}
    ) as gunicorn:
        assert gunicorn.ask('/') == (200, 'hello')
