"""What WSGI applications are told."""
from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from geventnode.errors import InvalidInput
from geventnode.integrations.wsgi import wsgi
from tests.applications import PLAIN, Environ, Run, environ_of, saying
from tests.servers import Serve, get, post

__all__: list[str] = []


def test_environ(run: Run) -> None:
    """What PEP 3333 and CGI ask for, and what others have, too."""
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


def test_every_request_has_its_own(run: Run) -> None:
    """What an application changes, the next one does not see, although the same bytes come."""
    seen = []

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(environ.pop('PATH_INFO'))
        environ['HTTP_COOKIE'] = 'secret'
        start_response('200 OK', PLAIN)
        return [environ.get('mine', b'')]
    client = run(application).connect()
    assert [client.get().body for _ in range(3)] == [b''] * 3
    assert seen == ['/'] * 3


@pytest.mark.parametrize(('fields', 'name', 'value'), [
    (['X_Forwarded_For: 1.2.3.4'], 'HTTP_X_FORWARDED_FOR', None),
    (['X_Forwarded_For: 1.2.3.4', 'X-Forwarded-For: 5.6.7.8'], 'HTTP_X_FORWARDED_FOR', '5.6.7.8'),
    (['Proxy: http://evil.example'], 'HTTP_PROXY', None),
    (['X-Many: a', 'X-Many: b'], 'HTTP_X_MANY', 'a, b'),
    (['Cookie: a=1', 'Cookie: b=2'], 'HTTP_COOKIE', 'a=1; b=2'),
    (['X-Latin: \xe9'], 'HTTP_X_LATIN', '\xe9'),
    (['Set-Cookie: a', 'Set-Cookie: b'], 'HTTP_SET_COOKIE', 'a, b'),
])
def test_fields(run: Run, fields: list[str], name: str, value: str | None) -> None:
    """Ambiguous and dangerous ones are dropped, repeated ones joined."""
    assert environ_of(run, get('/', *fields)).get(name) == value


@pytest.mark.parametrize(('target', 'path', 'query'), [
    ('/', '/', ''), ('/?', '/', ''), ('/a?b?c', '/a', 'b?c'), ('//a//b', '//a//b', ''), ('/%2f%00', '//\0', ''),
    ('http://x/a?b', '/a', 'b'), ('http://x', '/', ''), ('http://x?b', '/', 'b'), ('/%', '/%', ''),
    ('/%zz', '/%zz', ''),
])
def test_targets(run: Run, target: str, path: str, query: str) -> None:
    """Each form of a target (RFC 9112, section 3.2)."""
    environ = environ_of(run, get(target))
    assert (environ['PATH_INFO'], environ['QUERY_STRING'], environ['REQUEST_URI']) == (path, query, target)


def test_the_host_of_a_target(run: Run) -> None:
    """Is the one that counts (RFC 9112, section 3.2.2)."""
    assert environ_of(run, get('http://example.org:81/'))['HTTP_HOST'] == 'example.org:81'


def test_the_asterisk(run: Run) -> None:
    """It is no path."""
    environ = environ_of(run, get('*', method='OPTIONS'))
    assert (environ['PATH_INFO'], environ['REQUEST_URI']) == ('', '*')


def test_http_1_0(run: Run) -> None:
    """And a request without Host."""
    environ = environ_of(run, b'GET / HTTP/1.0\r\n\r\n')
    assert environ['SERVER_PROTOCOL'] == 'HTTP/1.0'
    assert 'HTTP_HOST' not in environ


@pytest.mark.parametrize(('path', 'status', 'script', 'rest'), [
    ('/app', 200, '/app', ''), ('/app/', 200, '/app', '/'), ('/app/a?b', 200, '/app', '/a'), ('/apple', 404, '', ''),
    ('/', 404, '', ''), ('/%61pp/x', 200, '/app', '/x'),
])
def test_script_name(run: Run, path: str, status: int, script: str, rest: str) -> None:
    """The path below which the application is."""
    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', PLAIN)
        return [f'{environ["SCRIPT_NAME"]} {environ["PATH_INFO"]}'.encode()]
    reply = run(application, script_name='/app').get(path)
    assert (reply.status, reply.body.decode()) == (status, f'{script} {rest}' if status == 200 else '')


@pytest.mark.parametrize('name', ['app', '/app/', '/'])
def test_a_bad_script_name(name: str) -> None:
    """It is refused where it is said."""
    with pytest.raises(InvalidInput, match='script_name'):
        wsgi(saying([]), script_name=name)


def test_what_cannot_be_called() -> None:
    """So is what is no application."""
    with pytest.raises(TypeError, match='must be callable, not int'):
        wsgi(5)  # type: ignore[arg-type]  # on purpose


def test_behind_a_proxy(run: Run) -> None:
    """What a trusted proxy tells is the truth: applications need no middleware for it."""
    environ = environ_of(
        run, get('/', 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: example.org'),
        trusted_proxies=('127.0.0.1',), forwarded_headers=('x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host'))
    assert (environ['REMOTE_ADDR'], environ['REMOTE_PORT']) == ('1.2.3.4', '')
    assert (environ['wsgi.url_scheme'], environ['HTTPS']) == ('https', 'on')
    assert environ['HTTP_HOST'] == 'example.org'


def test_nobody_is_trusted_unasked(run: Run) -> None:
    """The same without the settings: the proxy itself is the client."""
    environ = environ_of(run, get('/', 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Proto: https'))
    assert (environ['REMOTE_ADDR'], environ['wsgi.url_scheme']) == ('127.0.0.1', 'http')
    assert 'HTTPS' not in environ


def test_a_unix_socket(tmp_path: Path, serve: Serve) -> None:
    """There are no addresses then, and the variables that must be there are."""
    from geventnode import http
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


def test_errors_go_where_standard_error_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the time of writing."""
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
