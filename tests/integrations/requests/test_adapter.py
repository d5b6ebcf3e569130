"""The adapter for ``requests``: bodies in both directions."""

from __future__ import annotations

import contextvars
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from gevent.event import Event

from geventnode import http, https
from geventnode.errors import InvalidInput
from geventnode.integrations.requests import AgentAdapter
from tests.origins import HELLO, MakeOrigin
from tests.servers import Log, Serve, Site, ok
from tests.sessions import Mounted, agent_of


def url(site: Site, path: str = '/') -> str:
    return f'http://127.0.0.1:{site.where[1]}{path}'


def echo(request: Any, response: Any) -> None:
    """Respond with the body, and with its framing in a header."""
    framing = request.headers.get('transfer-encoding') or request.headers.get('content-length')
    body = request.read()
    response.write_head(200, {'Framing': str(framing), 'Type': str(request.headers.get('content-type'))})
    response.end(body)


# -- responses --------------------------------------------------------------------------------------------------------


def test_response(serve: Serve, session: Mounted) -> None:
    def listener(request: Any, response: Any) -> None:
        response.write_head(
            203,
            'All is well',
            [
                ('Set-Cookie', 'a=1'),
                ('Set-Cookie', 'b=2'),
                ('X-Name', 'caf\xe9'),
                ('Content-Type', 'text/plain; charset=utf-8'),
            ],
        )
        response.end('sch\xf6n')

    client = session()
    response = client.get(url(serve(listener), '/path?query'))
    assert (response.status_code, response.reason, response.text) == (203, 'All is well', 'sch\xf6n')
    assert response.headers['x-name'] == 'caf\xe9'
    assert dict(response.cookies) == dict(client.cookies) == {'a': '1', 'b': '2'}
    assert response.raw.headers.getlist('set-cookie') == ['a=1', 'b=2']
    assert (response.raw.version, response.raw.version_string) == (11, 'HTTP/1.1')
    assert response.raw.closed
    assert response.raw.read() == b''


def test_early_hints_are_not_the_response(serve: Serve, session: Mounted) -> None:
    """The next request gets its own response, unlike with the default adapter."""

    def listener(request: Any, response: Any) -> None:
        response.write_early_hints({'Link': '</a.css>; rel=preload'})
        response.end(request.url)

    client, where = session(), serve(listener)
    for path in ('/first', '/second'):
        response = client.get(url(where, path))
        assert (response.status_code, response.text) == (200, path)


def test_cookies_redirects_and_auth_are_the_sessions(serve: Serve, session: Mounted) -> None:
    def listener(request: Any, response: Any) -> None:
        if request.url == '/':
            response.write_head(302, {'Location': '/there', 'Set-Cookie': 'seen=yes'})
            response.end('elsewhere')
        else:
            response.end(f'{request.headers["cookie"]} {request.headers["authorization"]}')

    response = session().get(url(serve(listener)), auth=('user', 'secret'))
    assert response.text == 'seen=yes Basic dXNlcjpzZWNyZXQ='
    assert [each.status_code for each in response.history] == [302]


@pytest.mark.parametrize(
    ('coding', 'encode'), [('gzip', gzip.compress), ('deflate', zlib.compress), ('identity', bytes)]
)
@pytest.mark.parametrize('chunked', [False, True])
def test_content_coding(serve: Serve, session: Mounted, coding: str, encode: Any, chunked: bool) -> None:
    text = b'all work and no play ' * 5000
    encoded = encode(text)

    def listener(request: Any, response: Any) -> None:
        response.set_header('Content-Encoding', coding)
        for start in range(0, len(encoded) if chunked else 0, 100):
            response.write(encoded[start : start + 100])
        response.end(None if chunked else encoded)

    client, address = session(), url(serve(listener))
    assert client.get(address).content == text
    with client.get(address, stream=True) as response:
        assert b''.join(response.iter_content(1000)) == text
    with client.get(address, stream=True) as response:
        assert response.raw.read(decode_content=False) == encoded


@pytest.mark.parametrize('method', ['HEAD', 'OPTIONS', 'DELETE', 'PATCH'])
def test_methods(serve: Serve, session: Mounted, method: str) -> None:
    response = session().request(method, url(serve(ok)))
    assert response.text == ('' if method == 'HEAD' else f'{method} /')
    assert response.raw.closed


def test_chunks_arrive_as_they_are_sent(serve: Serve, session: Mounted) -> None:
    """Available bytes are returned, even if more were requested."""
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        response.write('first')
        go_on.wait()
        response.end('second')

    with session().get(url(serve(listener)), stream=True) as response:
        pieces = response.iter_content(8192)
        assert next(pieces) == b'first'
        go_on.set()
        assert b''.join(pieces) == b'second'


def test_lines_and_files(serve: Serve, session: Mounted) -> None:
    client, address = session(), url(serve(lambda request, response: response.end('one\ntwo\nthree\n')))
    with client.get(address, stream=True) as response:
        assert list(response.iter_lines()) == [b'one', b'two', b'three']
    with client.get(address, stream=True) as response:
        assert io.BufferedReader(response.raw).readline() == b'one\n'
    with client.get(address, stream=True) as response:
        assert (response.raw.read(4), response.raw.read1(4), response.raw.read(100)) == (b'one\n', b'two\n', b'three\n')
        assert response.raw.tell() == 14


@pytest.mark.parametrize(
    'said', [HELLO, b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n']
)
def test_the_last_byte_frees_the_connection(origin: MakeOrigin, session: Mounted, said: bytes) -> None:
    """No further read is needed; for a chunked body, the last chunk decides."""
    client = session()
    response = client.get(origin(said).url, stream=True)
    assert response.raw.read(5 if b'Length' in said else 6) == b'hello'
    assert agent_of(client).statistics()['idle'] == 1


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('body', 'framing', 'sent'),
    [
        (b'bytes', '5', b'bytes'),
        ('caf\xe9', '5', 'caf\xe9'.encode()),
        ({'a': '1'}, '3', b'a=1'),
        (None, '0', b''),
        (io.BytesIO(b'file'), '4', b'file'),
        (io.StringIO('text'), '4', b'text'),
        (iter([b'one', b'two']), 'chunked', b'onetwo'),
        ((piece for piece in ('a', 'b')), 'chunked', b'ab'),
        (b'x' * 1000000, '1000000', b'x' * 1000000),
    ],
)
def test_bodies(serve: Serve, session: Mounted, body: Any, framing: str, sent: bytes) -> None:
    response = session().post(url(serve(echo)), data=body)
    assert response.content == sent
    assert response.headers['framing'] == framing


def test_multipart(serve: Serve, session: Mounted) -> None:
    response = session().post(url(serve(echo)), files={'file': ('name', b'content')})
    assert b'name="file"; filename="name"\r\n\r\ncontent' in response.content
    assert response.headers['type'].startswith('multipart/form-data')


def test_large_file(serve: Serve, session: Mounted, tmp_path: Any) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'0123456789' * 100000)
    with path.open('rb') as file:
        file.seek(10)
        response = session().put(url(serve(echo)), data=file)
    assert response.headers['framing'] == '999990'
    assert len(response.content) == 999990


def test_a_generator_finds_the_callers_context(serve: Serve, session: Mounted) -> None:
    variable: contextvars.ContextVar[bytes] = contextvars.ContextVar('variable')

    def body() -> Iterator[bytes]:
        yield variable.get()

    variable.set(b'mine')
    assert session().post(url(serve(echo)), data=body()).content == b'mine'


def test_a_generator_that_raises(serve: Serve, session: Mounted) -> None:
    def body() -> Iterator[bytes]:
        yield b'begun'
        raise LookupError('mine')

    client = session()
    with pytest.raises(LookupError, match='mine'):
        client.post(url(serve(echo)), data=body())
    assert agent_of(client).total_socket_count == 0


def test_headers_as_bytes_and_subclasses(serve: Serve, session: Mounted) -> None:
    class Text(str):
        """A subclass of str."""

    def listener(request: Any, response: Any) -> None:
        response.end(' '.join(request.headers[name] for name in ('x-bytes', 'x-text', 'host')))

    response = session().get(
        url(serve(listener)), headers={'X-Bytes': b'a', b'X-Text': Text('b'), 'Host': 'somewhere.example'}
    )
    assert response.text == 'a b somewhere.example'


def test_early_answer_to_an_upload(serve: Serve, session: Mounted) -> None:
    """It is delivered, and the rest of the upload is not generated."""
    ended = Event()

    def body() -> Iterator[bytes]:
        try:
            while True:
                yield b'x' * 65536
        finally:
            ended.set()

    def listener(request: Any, response: Any) -> None:
        response.status_code = 413
        response.end('too much')

    client = session()
    response = client.post(url(serve(listener)), data=body())
    assert (response.status_code, response.text) == (413, 'too much')
    ended.wait()
    assert agent_of(client).statistics()['active'] == 0


def test_an_early_response_with_a_success_status(serve: Serve, session: Mounted) -> None:
    """The upload continues, and the response ends together with it."""
    log = Log()
    resume = Event()

    def body() -> Iterator[bytes]:
        yield b'first'
        resume.wait()
        yield b'last'
        log.append('sent')

    def listener(request: Any, response: Any) -> None:
        response.write(request.read1())
        response.end(b'!')
        log.append(request.read())

    with session().post(url(serve(listener)), data=body(), stream=True) as response:
        assert next(response.iter_content(5)) == b'first'
        resume.set()
        assert response.content == b'!'
        assert 'sent' in log
    log.wait_for(b'last')


def test_expect_continue(serve: Serve, session: Mounted) -> None:
    """The body is sent after 100 Continue only."""

    def refuse(request: Any, response: Any) -> None:
        response.status_code = 417
        response.end()

    site = serve(echo)
    site.server.on('checkContinue', lambda request, response: (response.write_continue(), echo(request, response)))
    client = session()
    assert client.post(url(site), data=b'body', headers={'Expect': '100-continue'}).content == b'body'
    site.server.remove_all_listeners('checkContinue')
    site.server.on('checkContinue', refuse)
    assert client.post(url(site), data=b'body', headers={'Expect': '100-continue'}).status_code == 417


# -- proxies of agents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('options', [{'proxy': 'http://proxy'}, {'proxy_env': {}}, {'no_proxy': '*'}])
def test_option_for_a_proxy_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f'{next(iter(options))} has no effect .* set the proxies of the session'):
        AgentAdapter(**options)


@pytest.mark.parametrize('options', [{'proxy': 'http://user:secret@proxy'}, {'proxy_env': {'http_proxy': 'x'}}])
def test_agent_with_a_proxy_is_refused(options: dict[str, Any]) -> None:
    for given in ({'agent': http.Agent(**options)}, {'https_agent': https.Agent(**options)}):
        with pytest.raises(InvalidInput, match='the agent has a proxy, but requests chooses proxies itself'):
            AgentAdapter(**given)
