"""The environ of WSGI applications."""

from __future__ import annotations

import gc
import socket
import sys
import weakref
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from geventnode import http
from geventnode.errors import InvalidInput
from geventnode.integrations.wsgi import environ as wsgi_environ
from geventnode.integrations.wsgi import wsgi
from tests.applications import PLAIN, Environ, Run, environ_of, saying
from tests.servers import Client, Serve, get, post


def test_environ(run: Run) -> None:
    """The variables of PEP 3333, of CGI, and of other servers."""
    environ = environ_of(run, post(b'body', '/a%20path/%C3%A9?q=%20&r', 'Content-Type: text/plain', 'X-Own: 1'))
    assert type(environ) is dict
    assert (environ['REQUEST_METHOD'], environ['SCRIPT_NAME']) == ('POST', '')
    assert environ['PATH_INFO'] == '/a path/\xc3\xa9'
    assert environ['QUERY_STRING'] == 'q=%20&r'
    assert environ['REQUEST_URI'] == environ['RAW_URI'] == '/a%20path/%C3%A9?q=%20&r'
    assert environ['SERVER_PROTOCOL'] == 'HTTP/1.1'
    assert (environ['CONTENT_TYPE'], environ['CONTENT_LENGTH']) == ('text/plain', '4')
    assert environ['HTTP_HOST'] == 'x'
    assert environ['HTTP_X_OWN'] == '1'
    assert environ['REMOTE_ADDR'] == environ['SERVER_NAME'] == '127.0.0.1'
    assert int(environ['REMOTE_PORT']) == environ['geventnode.request'].remote_port
    assert int(environ['SERVER_PORT']) > 0
    assert environ['SERVER_SOFTWARE'].startswith('geventnode/')
    assert environ['wsgi.version'] == (1, 0)
    assert environ['wsgi.url_scheme'] == 'http'
    assert environ['wsgi.multithread'] is True
    assert environ['wsgi.multiprocess'] is environ['wsgi.run_once'] is False
    assert environ['wsgi.input_terminated'] is True
    assert environ['geventnode.response'].request is environ['geventnode.request']
    assert not {'HTTP_CONTENT_TYPE', 'HTTP_CONTENT_LENGTH', 'HTTPS'} & environ.keys()


def test_every_request_has_its_own_environ(run: Run) -> None:
    """A change has no effect on the next request with the same bytes."""
    seen = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(environ.pop('PATH_INFO'))
        environ['HTTP_COOKIE'] = 'secret'
        start_response('200 OK', PLAIN)
        return [environ.get('mine', b'')]

    client = run(application).connect()
    assert [client.get().body for _ in range(3)] == [b''] * 3
    assert seen == ['/'] * 3


@pytest.mark.parametrize(
    ('fields', 'name', 'value'),
    [
        (['X_Forwarded_For: 1.2.3.4'], 'HTTP_X_FORWARDED_FOR', None),
        (['X_Forwarded_For: 1.2.3.4', 'X-Forwarded-For: 5.6.7.8'], 'HTTP_X_FORWARDED_FOR', '5.6.7.8'),
        (['Proxy: http://evil.example'], 'HTTP_PROXY', None),
        (['X-Many: a', 'X-Many: b'], 'HTTP_X_MANY', 'a, b'),
        (['Cookie: a=1', 'Cookie: b=2'], 'HTTP_COOKIE', 'a=1; b=2'),
        (['X-Latin: \xe9'], 'HTTP_X_LATIN', '\xe9'),
        (['Set-Cookie: a', 'Set-Cookie: b'], 'HTTP_SET_COOKIE', 'a, b'),
    ],
)
def test_fields(run: Run, fields: list[str], name: str, value: str | None) -> None:
    """Ambiguous and dangerous ones are dropped, repeated ones joined."""
    assert environ_of(run, get('/', *fields)).get(name) == value


@pytest.mark.parametrize(
    ('target', 'path', 'query'),
    [
        ('/', '/', ''),
        ('/?', '/', ''),
        ('/a?b?c', '/a', 'b?c'),
        ('//a//b', '//a//b', ''),
        ('/%2f%00', '//\0', ''),
        ('http://x/a?b', '/a', 'b'),
        ('http://x', '/', ''),
        ('http://x?b', '/', 'b'),
        ('/%', '/%', ''),
        ('/%zz', '/%zz', ''),
    ],
)
def test_forms_of_targets(run: Run, target: str, path: str, query: str) -> None:
    """Each form of a target (RFC 9112, section 3.2)."""
    environ = environ_of(run, get(target))
    assert (environ['PATH_INFO'], environ['QUERY_STRING'], environ['REQUEST_URI']) == (path, query, target)


def test_the_host_of_an_absolute_form_takes_precedence(run: Run) -> None:
    """See RFC 9112, section 3.2.2."""
    assert environ_of(run, get('http://example.org:81/'))['HTTP_HOST'] == 'example.org:81'


def test_the_asterisk(run: Run) -> None:
    """PATH_INFO is ``*``, as in other servers: an empty one would mean the root."""
    environ = environ_of(run, get('*', method='OPTIONS'))
    assert (environ['PATH_INFO'], environ['REQUEST_URI']) == ('*', '*')


def test_http_1_0(run: Run) -> None:
    """A request without Host."""
    environ = environ_of(run, b'GET / HTTP/1.0\r\n\r\n')
    assert environ['SERVER_PROTOCOL'] == 'HTTP/1.0'
    assert 'HTTP_HOST' not in environ


@pytest.mark.parametrize(
    ('path', 'status', 'script', 'rest'),
    [
        ('/app', 200, '/app', ''),
        ('/app/', 200, '/app', '/'),
        ('/app/a?b', 200, '/app', '/a'),
        ('/apple', 404, '', ''),
        ('/', 404, '', ''),
        ('/%61pp/x', 200, '/app', '/x'),
    ],
)
def test_script_name(run: Run, path: str, status: int, script: str, rest: str) -> None:
    """The path of the application, and other paths."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        return [f'{environ["SCRIPT_NAME"]} {environ["PATH_INFO"]}'.encode()]

    reply = run(application, script_name='/app').get(path)
    assert (reply.status, reply.body.decode()) == (status, f'{script} {rest}' if status == 200 else '')


@pytest.mark.parametrize('name', ['app', '/app/', '/'])
def test_a_bad_script_name(name: str) -> None:
    """``wsgi()`` raises."""
    with pytest.raises(InvalidInput, match='script_name'):
        wsgi(saying([]), script_name=name)


def test_an_invalid_application() -> None:
    """``wsgi()`` raises ``TypeError``."""
    with pytest.raises(TypeError, match='must be callable, not int'):
        wsgi(5)  # type: ignore[arg-type]  # on purpose


def test_behind_a_proxy(run: Run) -> None:
    """The variables are those that a trusted proxy reports, without middleware."""
    environ = environ_of(
        run,
        get('/', 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: example.org'),
        trusted_proxies=('127.0.0.1',),
        forwarded_headers=('x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host'),
    )
    assert (environ['REMOTE_ADDR'], environ['REMOTE_PORT']) == ('1.2.3.4', '')
    assert (environ['wsgi.url_scheme'], environ['HTTPS']) == ('https', 'on')
    assert environ['HTTP_HOST'] == 'example.org'


def test_no_proxy_is_trusted_by_default(run: Run) -> None:
    """Without the options, the client is the proxy itself."""
    environ = environ_of(run, get('/', 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https'))
    assert (environ['REMOTE_ADDR'], environ['wsgi.url_scheme']) == ('127.0.0.1', 'http')
    assert 'HTTPS' not in environ


def test_a_unix_socket(tmp_path: Path, serve: Serve) -> None:
    """It has no addresses, and the required variables are present."""
    seen = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(environ)
        start_response('200 OK', PLAIN)
        return [b'']

    path = str(tmp_path / 'socket')
    site = serve(http.create_server(wsgi(validator(application))).listen(path))
    assert site.get().status == 200
    assert (seen[0]['REMOTE_ADDR'], seen[0]['REMOTE_PORT']) == ('', '')
    assert (seen[0]['SERVER_NAME'], seen[0]['SERVER_PORT']) == (path, '')


def test_one_listener_for_two_servers(serve: Serve) -> None:
    """Each has its own address."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        return [environ['SERVER_PORT'].encode()]

    listener = wsgi(application)
    sites = [serve(listener), serve(listener)]
    for _ in range(2):
        for site in sites:
            assert site.get().body == str(site.where[1]).encode()


#: Variables that only some requests have.
_OPTIONAL = 'CONTENT_TYPE', 'CONTENT_LENGTH', 'HTTP_SET_COOKIE'


def _address(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """An application that responds with its address."""
    start_response('200 OK', PLAIN)
    return [f'{environ["SERVER_NAME"]} {environ["SERVER_PORT"]}'.encode()]


def test_a_server_on_several_sockets(serve: Serve) -> None:
    """Each connection has its own address, also on kept connections."""
    with socket.create_server(('127.0.0.2', 0)) as listening, serve(wsgi(_address)).server as server:
        server.also_listen(listening)
        with ExitStack() as stack:
            addresses = [('127.0.0.1', server.address()['port']), listening.getsockname()]
            clients = [
                (stack.enter_context(closing(Client(where))), f'{where[0]} {where[1]}'.encode())
                for where in 2 * addresses
            ]
            for client, place in 4 * clients:
                assert client.get().body == place


def test_two_applications_on_one_connection(serve: Serve) -> None:
    """Each has its own variables on the same connection."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        return [f'{environ["SCRIPT_NAME"]} {environ["PATH_INFO"]} {environ["wsgi.multiprocess"]}'.encode()]

    mounted = wsgi(application, script_name='/a', multiprocess=True)
    whole = wsgi(application)
    with closing(
        Client(serve(lambda request, response: (mounted if request.url == '/a/b' else whole)(request, response)).where)
    ) as client:
        for _ in range(3):
            assert client.get('/a/b').body == b'/a /b True'
            assert client.get('/a/c').body == b' /a/c False'


def test_environs_share_nothing_that_changes(serve: Serve) -> None:
    """An application that changes its environ changes no later one, whether the request repeats or not."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append((sorted(environ), environ['SERVER_NAME']))
        environ.clear()
        environ['SERVER_NAME'] = environ['HTTP_X'] = 'mine'
        start_response('200 OK', PLAIN)
        return [b'']

    seen: list[tuple[list[str], str]] = []
    with closing(Client(serve(wsgi(application)).where)) as client:
        for target in ('/', '/', '/', '/1', '/2'):
            client.get(target)
    assert seen == 5 * seen[:1]
    assert seen[0][1] == '127.0.0.1'


def test_no_variable_of_an_earlier_request_remains(serve: Serve) -> None:
    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append({name: environ.get(name) for name in (*_OPTIONAL, *wsgi_environ._OF_REQUEST)})
        start_response('200 OK', PLAIN)
        return [b'']

    seen: list[dict[str, Any]] = []
    with closing(Client(serve(wsgi(application)).where)) as client:
        client.get('/a?b', 'Content-Type: text/plain', 'Content-Length: 0', 'Set-Cookie: a', 'Set-Cookie: b', 'X_Y: z')
        client.get('/')
    assert [seen[0][name] for name in _OPTIONAL] == ['text/plain', '0', 'a, b']
    assert [seen[1][name] for name in _OPTIONAL] == [None, None, None]
    assert None not in [found[name] for found in seen for name in wsgi_environ._OF_REQUEST]


def test_a_server_on_all_addresses(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is that of the connection, and the cache is bounded."""
    monkeypatch.setattr(wsgi_environ, 'MAX_ADDRESSES', 2)
    site = serve(http.create_server(wsgi(_address)).listen(0, '0.0.0.0'))
    port = site.where[1]
    for number in (1, 2, 3, 1):
        with closing(Client((f'127.0.0.{number}', port))) as client:
            assert client.get().body == f'127.0.0.{number} {port}'.encode()


def test_connections_are_not_kept(serve: Serve) -> None:
    """The greenlet of the last one can still refer to it."""
    sockets: list[weakref.ref[Any]] = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        sockets.append(weakref.ref(environ['geventnode.request'].socket))
        return _address(environ, start_response)

    site = serve(wsgi(application))
    for _ in range(5):
        site.get()
    site.server.stop()
    gc.collect()
    assert sum(found() is not None for found in sockets) <= 1


@pytest.mark.parametrize(
    ('told', 'known', 'expected'), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_multiprocess(serve: Serve, told: bool, known: bool, expected: bool) -> None:
    """An option of ``wsgi()``, or an attribute of the server, sets it."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        return [str(environ['wsgi.multiprocess']).encode()]

    server = http.create_server(http.readiness(wsgi(application, multiprocess=told)))
    server.multiprocess = known
    assert serve(server).get().body == str(expected).encode()


def test_errors_are_written_to_standard_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the current ``sys.stderr``."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ['wsgi.errors'].write('one\n')
        environ['wsgi.errors'].writelines(['two\n', 'three\n'])
        environ['wsgi.errors'].flush()
        start_response('200 OK', PLAIN)
        return []

    written: list[str] = []

    class Standard:
        write = written.append
        writelines = written.extend

        def flush(self) -> None:
            written.append('flushed')

    monkeypatch.setattr(sys, 'stderr', Standard())
    assert run(application).get().status == 200
    assert written == ['one\n', 'two\n', 'three\n', 'flushed']
