"""An unchanged Flask application: uploads, streams, sessions, errors, files and concurrent requests."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest

from tests.needed import need
from tests.servers import Client, get, post
from tests.system.frameworks import LARGE, TRUST, Framework, framework, large_file, sha256
from tests.system.running import Served

need('flask')

site = framework('flask_site:app')

#: More requests than a thread pool would run.
MANY = 200


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_form(site: Framework) -> None:
    assert json.loads(site.curl('/form', '--data-urlencode', 'a=ä&=', '-d', 'b=2')) == {'a': 'ä&=', 'b': '2'}


@pytest.mark.parametrize('options', [[], ['-H', 'Transfer-Encoding: chunked'], ['-H', 'Expect:']])
def test_an_upload_of_a_form(site: Framework, tmp_path: Path, options: list[str]) -> None:
    """A large file among other fields, with and without 100-continue."""
    path = large_file(tmp_path)
    answer = json.loads(site.curl('/upload', '-F', f'file=@{path};filename=ä.bin', '-F', 'note=first', *options))
    assert answer == {'size': LARGE, 'sha256': sha256(path), 'name': 'ä.bin', 'note': 'first'}


def test_a_chunked_body(site: Framework, tmp_path: Path) -> None:
    """It has a length, and so a framework reads it."""
    path = large_file(tmp_path)
    answer = site.curl('/raw', '-X', 'POST', '-T', path, '-H', 'Transfer-Encoding: chunked')
    assert json.loads(answer) == {'size': LARGE, 'sha256': sha256(path)}


@pytest.mark.parametrize(('path', 'status'), [('/refused', '401'), ('/limited', '413'), ('/nowhere', '404')])
def test_an_early_error(site: Framework, tmp_path: Path, path: str, status: str) -> None:
    """The response arrives during the upload."""
    with site.connect(post(bytes(100_000), path, length=4 * 2**30)) as client:
        assert str(client.response().status) == status
    # Werkzeug truncates a chunked body that is too long
    chunked = [] if path == '/limited' else [['-H', 'Transfer-Encoding: chunked']]
    for options in ([], ['-H', 'Expect:'], *chunked):
        assert (
            site.curl(
                path,
                '-X',
                'POST',
                '-T',
                large_file(tmp_path),
                '-o',
                tmp_path / 'answer',
                '-w',
                '%{http_code}',
                *options,
            )
            == status
        )


def test_an_incomplete_upload(site: Framework) -> None:
    """It never looks complete, and other requests succeed."""
    with site.connect(post(b'half', '/raw', length=8)) as client:
        client.half_close()
        assert b'"size"' not in client.rest()
    assert site.get().body == b'hello\n'


# -- responses --------------------------------------------------------------------------------------------------------


def test_head(site: Framework) -> None:
    """The headers of a GET, on a connection that is kept."""
    with site.connect(get(method='HEAD')) as client:
        answer = client.response('HEAD')
        assert (answer.status, answer.values('Content-Length')) == (200, ['6'])
        assert client.get().body == b'hello\n'


def test_options(site: Framework) -> None:
    allowed = site.get('/form', method='OPTIONS').values('Allow')
    assert sorted(allowed[0].split(', ')) == ['OPTIONS', 'POST']


def test_a_redirect(site: Framework) -> None:
    with site.connect(b'GET /moved HTTP/1.1\r\nHost: www.example:81\r\n\r\n') as client:
        answer = client.response()
    assert (answer.status, answer.values('Location')) == (302, ['http://www.example:81/user'])


def test_a_stream(site: Framework) -> None:
    """Each item is sent before the next one is made, and the request context lasts until the end."""
    with site.connect(get('/stream?name=x')) as client:
        assert client.head().values('Transfer-Encoding') == ['chunked']
        assert client.until(b'one x\n')
        site.gate.wait_for('stream')
        site.gate.open('stream')
        assert client.until(b'two x\n')
        assert client.until(b'\r\n0\r\n\r\n')


def test_a_client_that_disconnects_during_a_stream(site: Framework) -> None:
    """The generator is closed, and so are its files and connections to databases."""
    with site.connect(get('/endless')) as client:
        client.until(b'more\n')
    site.gate.wait_for('closed')


def test_a_client_that_disconnects_between_items(site: Framework) -> None:
    """A waiting generator is closed at its next item."""
    with site.connect(get('/stuck')) as client:
        client.until(b'begun\n')
        site.gate.wait_for('stuck')
        client.abort()
    site.gate.open('stuck')
    site.gate.wait_for('stuck-closed')


def test_a_file(site: Framework) -> None:
    """``send_file`` uses ``sendfile``; whole, with a range, and with a validator."""
    path = large_file(site.directory)
    before = site.gate.said('sendfile')
    answer = site.get('/file')
    assert (answer.values('Content-Length'), answer.body) == ([str(LARGE)], path.read_bytes())
    assert site.gate.said('sendfile') > before
    part = site.get('/file', 'Range: bytes=1000-1999')
    assert (part.status, part.values('Content-Range')) == (206, [f'bytes 1000-1999/{LARGE}'])
    assert part.body == path.read_bytes()[1000:2000]
    known = site.get('/file', f'If-None-Match: {answer.values("ETag")[0]}')
    assert (known.status, known.body) == (304, b'')
    head = site.get('/file', method='HEAD')
    assert head.values('Content-Length') == [str(LARGE)]


def test_a_static_file(site: Framework) -> None:
    """A file of Flask's static folder."""
    assert site.get('/static/note.txt').body == b'A static file.\n'
    assert site.get('/static/../flask_site.py').status == 404


def test_a_file_in_memory(site: Framework) -> None:
    answer = site.get('/memory')
    assert (answer.values('Content-Length'), answer.body) == (['11'], b'from memory')


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session(site: Framework, tmp_path: Path) -> None:
    """It begins and ends with a cookie."""
    jar = ['-b', tmp_path / 'jar', '-c', tmp_path / 'jar']
    assert site.curl('/user', *jar) == 'no name'
    assert site.curl('/login', '-d', 'name=Ä', '--location', *jar) == 'Ä'
    assert site.curl('/user', *jar) == 'Ä'
    assert site.curl('/user') == 'no name'
    assert site.curl('/logout', *jar) == 'gone'
    assert site.curl('/user', *jar) == 'no name'


# -- errors -----------------------------------------------------------------------------------------------------------


def test_not_found(site: Framework) -> None:
    answer = site.get('/nowhere%20at%20all')
    assert (answer.status, answer.body) == (404, b'there is no /nowhere at all\n')


def test_an_exception(site: Framework) -> None:
    """Flask's page and log; the connection is kept."""
    with site.connect() as client:
        answer = client.get('/fail')
        assert (answer.status, b'Internal Server Error' in answer.body) == (500, True)
        assert client.get().body == b'hello\n'
    assert 'ValueError: a part of the test' in site.logged()


def test_an_exception_with_debugging(tmp_path: Path) -> None:
    """Werkzeug's page and standard error have the traceback."""
    with Served('flask_site:debugged', env={'DIRECTORY': str(tmp_path), 'FLASK_DEBUG': '1'}) as served:
        with contextlib.closing(Client(('127.0.0.1', served.port))) as client:
            answer = client.get('/fail')
            assert client.get().body == b'hello\n'
        served.process.terminate()
        _, errors = served.finish()
    assert (answer.status, b'ValueError: a part of the test' in answer.body) == (500, True)
    assert errors.splitlines()[-1] == 'ValueError: a part of the test'


def test_the_console_of_the_debugger(tmp_path: Path) -> None:
    """Werkzeug's debugger evaluates an expression in a frame of the error."""
    env = {'DIRECTORY': str(tmp_path), 'FLASK_DEBUG': '1'}
    with Served('flask_site:console', env=env, errors='(?s).*ValueError: a part of the test\n') as served:
        with contextlib.closing(Client(('127.0.0.1', served.port))) as client:
            client.send(b'GET /fail HTTP/1.1\r\nHost: localhost\r\n\r\n')
            page = client.response().body.decode()
            secret = re.search(r'SECRET = "(\w+)"', page)[1]
            frame = re.findall(r'id="frame-(\d+)"', page)[-1]
            query = f'/fail?__debugger__=yes&cmd=6*7&frm={frame}&s={secret}'
            client.send(f'GET {query} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
            assert b'42' in client.response().body


def test_an_exception_during_a_stream(tmp_path: Path) -> None:
    """The response does not look complete, and the reason is in the log."""
    with Served('flask_site:app', env={'DIRECTORY': str(tmp_path)}) as served:
        with contextlib.closing(Client(('127.0.0.1', served.port))) as client:
            received = client.send(get('/fail-late')).rest()
        served.process.terminate()
        _, errors = served.finish()
    assert received.startswith(b'HTTP/1.1 200 OK\r\n')
    assert not received.endswith(b'0\r\n\r\n')
    assert errors.splitlines()[-1] == 'ValueError: late, and a part of the test'


# -- behind a proxy ---------------------------------------------------------------------------------------------------


def test_behind_a_trusted_proxy(site: Framework) -> None:
    """Flask knows the client's URL without ``ProxyFix``."""
    told = site.get('/where', 'X-Forwarded-Proto: https')
    assert json.loads(told.body) == {'secure': True, 'client': '127.0.0.1', 'url': 'https://x/user'}
    plain = site.get('/where')
    assert json.loads(plain.body) == {'secure': False, 'client': '127.0.0.1', 'url': 'http://x/user'}


def test_behind_a_proxy_with_all_fields(tmp_path: Path) -> None:
    """The command line names the trusted fields; gunicorn has settings for the scheme only."""
    fields = ['X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: www.example']
    with Served('flask_site:app', *TRUST, env={'DIRECTORY': str(tmp_path)}) as served:
        with contextlib.closing(Client(('127.0.0.1', served.port))) as client:
            told = client.get('/where', *fields)
    assert json.loads(told.body) == {'secure': True, 'client': '1.2.3.4', 'url': 'https://www.example/user'}


# -- many at a time ---------------------------------------------------------------------------------------------------


def test_concurrent_requests(site: Framework) -> None:
    """All of them wait in their views; each has its own ``g``, request and session."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.connect(get(f'/together?name={number}'))) for number in range(MANY)]
        site.gate.wait_for('together', MANY)
        # waiting views do not delay other requests
        assert site.get().body == b'hello\n'
        site.gate.open('together')
        for number, client in enumerate(clients):
            assert client.response().body.decode() == f'{number} {number} {number} flask_site'
