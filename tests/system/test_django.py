"""An unchanged Django project: uploads, streams, sessions, errors, files and concurrent requests."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.code_blocks import BLOCKS
from tests.needed import need
from tests.servers import Client, get, post
from tests.system.frameworks import LARGE, Framework, Gate, framework, large_file, sha256
from tests.system.running import APPS, PATIENCE, Served

need('django')
websocket = pytest.importorskip('websocket', reason='websocket-client is not installed; it is in the extra "test"')

site = framework('django_site:application')

#: More requests than a thread pool would run.
MANY = 200

LANGUAGES = {'en': 'No', 'de': 'Nein', 'fr': 'Non'}


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_form(site: Framework) -> None:
    assert json.loads(site.curl('/form', '--data-urlencode', 'a=ä&=', '-d', 'b=2')) == {'a': 'ä&=', 'b': '2'}


def test_an_upload_of_a_form(site: Framework, tmp_path: Path) -> None:
    """A large file among other fields: Django writes it to a temporary file."""
    path = large_file(tmp_path)
    answer = json.loads(site.curl('/upload', '-F', f'file=@{path};filename=ä.bin', '-F', 'note=first'))
    assert answer == {'size': LARGE, 'sha256': sha256(path), 'name': 'ä.bin', 'note': 'first'}


def test_an_upload(site: Framework, tmp_path: Path) -> None:
    path = large_file(tmp_path)
    answer = site.curl('/raw', '-X', 'POST', '-T', path)
    assert json.loads(answer) == {'size': LARGE, 'sha256': sha256(path)}


@pytest.mark.parametrize(('path', 'status'), [('/refused', 401), ('/form', 400), ('/nowhere', 404)])
def test_an_early_error(site: Framework, path: str, status: int) -> None:
    """The response arrives during the upload; Django responds with 400 to a form that is too long."""
    form = 'Content-Type: application/x-www-form-urlencoded'
    with site.connect(post(bytes(100_000), path, form, length=4 * 2**30)) as client:
        assert client.response().status == status


# -- responses --------------------------------------------------------------------------------------------------------


def test_head(site: Framework) -> None:
    """The headers of a GET, on a connection that is kept."""
    with site.connect(get(method='HEAD')) as client:
        answer = client.response('HEAD')
        assert (answer.status, answer.values('Content-Length')) == (200, ['6'])
        assert client.get().body == b'hello\n'


def test_a_redirect(site: Framework) -> None:
    with site.connect(b'GET /moved HTTP/1.1\r\nHost: www.example:81\r\n\r\n') as client:
        answer = client.response()
    assert (answer.status, answer.values('Location')) == (302, ['http://www.example:81/user'])


def test_a_stream(site: Framework) -> None:
    """Each item is sent before the next one is made."""
    with site.connect(get('/stream?name=x')) as client:
        assert client.head().values('Transfer-Encoding') == ['chunked']
        assert client.until(b'one x\n')
        site.gate.wait_for('stream')
        site.gate.open('stream')
        assert client.until(b'two x\n')
        assert client.until(b'\r\n0\r\n\r\n')


def test_a_client_that_disconnects_during_a_stream(site: Framework) -> None:
    """The generator is closed, and Django finishes the request and releases its connection to the database."""
    before = site.gate.said('finished')
    with site.connect(get('/endless')) as client:
        client.until(b'more\n')
    site.gate.wait_for('closed')
    site.gate.wait_for('finished', before + 1)


def test_a_file(site: Framework) -> None:
    path = large_file(site.directory)
    answer = site.get('/file')
    assert (answer.values('Content-Length'), answer.body) == ([str(LARGE)], path.read_bytes())


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


# -- WebSockets -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def websocket_of(site: Framework) -> Iterator[Any]:
    """Yield a WebSocket of the view ``echo``, by the client of another library."""
    client = websocket.WebSocket(enable_multithread=False)
    client.connect(f'ws://127.0.0.1:{site.port}/echo', timeout=PATIENCE)
    try:
        yield client
    finally:
        client.shutdown()


def test_a_websocket(site: Framework) -> None:
    """The example of the documentation: messages return, the limit applies, and a disconnect is not logged."""
    before = site.gate.said('finished')
    with websocket_of(site) as client:
        for message in 'ä', b'\0\xff':
            client.send(message, 2 if isinstance(message, bytes) else 1)
            assert client.recv() == message
        client.send('x' * 4097)
        assert client.recv_data_frame()[1].data[:2] == (1009).to_bytes(2, 'big')
    for resets in False, True:
        with websocket_of(site) as client:
            client.send('last')
            assert client.recv() == 'last'
            if resets:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    with websocket_of(site) as client:
        client.send_close(1000)
        assert client.recv_data_frame(control_frame=True)[1].data[:2] == (1000).to_bytes(2, 'big')
    assert site.get('/echo').status == 400
    # five requests have ended, and Django has logged their errors
    site.gate.wait_for('finished', before + 4)
    assert 'WebSocketClosed' not in site.logged()
    assert 'MessageTooBig' not in site.logged()


def test_the_example_of_a_websocket() -> None:
    """The view is that of the documentation."""
    (source,) = (block.source for block in BLOCKS if "request.META.get('geventnode.websocket')" in block.source)
    view = source[source.index('def echo') :]
    assert textwrap.dedent(view).strip() in (APPS / 'django_site.py').read_text()


# -- errors -----------------------------------------------------------------------------------------------------------


def test_not_found(site: Framework) -> None:
    answer = site.get('/nowhere')
    assert (answer.status, b'Not Found' in answer.body, b'urlpatterns' in answer.body) == (404, True, False)


def test_an_exception(site: Framework) -> None:
    """Django's page and log; the connection is kept."""
    with site.connect() as client:
        answer = client.get('/fail')
        assert (answer.status, b'a part of the test' in answer.body) == (500, False)
        assert client.get().body == b'hello\n'
    assert 'ValueError: a part of the test' in site.logged()


def test_with_debugging(tmp_path: Path) -> None:
    """Django's pages have the error and the details of the request."""
    with contextlib.closing(Gate()) as gate, contextlib.ExitStack() as stack:
        env = {'GATE': str(gate.port), 'DIRECTORY': str(tmp_path), 'DEBUG': '1'}
        served = stack.enter_context(Served('django_site:application', env=env))
        client = stack.enter_context(contextlib.closing(Client(('127.0.0.1', served.port))))
        failed = client.get('/fail?x=1')
        missing = client.get('/nowhere')
    assert (failed.status, b'a part of the test' in failed.body, b'wsgi.file_wrapper' in failed.body) == (
        500,
        True,
        True,
    )
    assert (missing.status, b'urlpatterns' in missing.body or b'URLconf' in missing.body) == (404, True)


# -- behind a proxy ---------------------------------------------------------------------------------------------------


def test_behind_a_trusted_proxy(site: Framework) -> None:
    """Django knows the client's URL without ``SECURE_PROXY_SSL_HEADER``."""
    told = site.get('/where', 'X-Forwarded-Proto: https')
    assert json.loads(told.body) == {'secure': True, 'client': '127.0.0.1', 'url': 'https://x/user'}
    plain = site.get('/where')
    assert json.loads(plain.body) == {'secure': False, 'client': '127.0.0.1', 'url': 'http://x/user'}


# -- many at a time ---------------------------------------------------------------------------------------------------


def test_concurrent_requests(site: Framework) -> None:
    """All of them wait in their views; each has its own language and connection to the database."""
    wanted = [list(LANGUAGES)[number % len(LANGUAGES)] for number in range(MANY)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.connect(get(f'/together?language={each}'))) for each in wanted]
        site.gate.wait_for('together', MANY)
        # waiting views do not delay other requests
        assert site.get().body == b'hello\n'
        site.gate.open('together')
        answers = [json.loads(client.response().body) for client in clients]
    assert [answer['language'] for answer in answers] == wanted
    assert [answer['no'] for answer in answers] == [LANGUAGES[each] for each in wanted]
    assert all(answer['same'] for answer in answers)
    assert len({(answer['process'], answer['connection']) for answer in answers}) == MANY
