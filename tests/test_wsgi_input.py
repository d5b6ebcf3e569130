"""What WSGI applications read."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from geventnode.errors import IncompleteBody
from tests.applications import PLAIN, Environ, Run, saying
from tests.servers import Log, get, post

__all__: list[str] = []


LINES = b'first\nsecond\r\nthird'


@pytest.mark.parametrize(('ask', 'expected'), [
    (lambda file: file.read(), LINES),
    (lambda file: file.read(-1), LINES),
    (lambda file: file.read(None), LINES),
    (lambda file: file.read(5) + file.read(100) + file.read(5), LINES),
    (lambda file: file.read(0), b''),
    (lambda file: file.readline() + file.read(), LINES),
    (lambda file: file.readline(3), b'fir'),
    (lambda file: file.read(3) + file.readline(), b'first\n'),
    (lambda file: b'|'.join(file), b'first\n|second\r\n|third'),
    (lambda file: b'|'.join(file.readlines()), b'first\n|second\r\n|third'),
    (lambda file: b'|'.join(file.readlines(7)), b'first\n|second\r\n'),
    (lambda file: file.readline(None), b'first\n'),
    (lambda file: b'|'.join(file.readlines(None)), b'first\n|second\r\n|third'),
])
@pytest.mark.parametrize('chunked', [False, True])
def test_input(run: Run, ask: Callable[[Any], bytes], expected: bytes, chunked: bool) -> None:
    """It is a file that ends with the body, however that is framed; what is behind it is another request."""
    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        file = environ['wsgi.input']
        answer = ask(file)
        assert ('CONTENT_LENGTH' in environ) is not chunked
        start_response('200 OK', PLAIN)
        return [answer]
    if chunked:
        body = b''.join(b'1\r\n%c\r\n' % byte for byte in LINES) + b'0\r\n\r\n'
        request = get('/', 'Transfer-Encoding: chunked', method='POST') + body
    else:
        request = post(LINES)
    client = run(application).send(request, request)
    assert client.response().body == client.response().body == expected


@pytest.mark.parametrize('method', ['GET', 'POST'])
def test_no_input(run: Run, method: str) -> None:
    """Every call finds the end at once."""
    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        file = environ['wsgi.input']
        assert [file.read(), file.read(5), file.readline(), file.readline(5), file.readlines(), list(file)] == [
            b'', b'', b'', b'', [], []]
        start_response('200 OK', PLAIN)
        return []
    fields = ['Content-Length: 0'] if method == 'POST' else []
    assert run(application).send(get('/', *fields, method=method)).response().status == 200


def test_input_streams(run: Run) -> None:
    """What has arrived can be read before the rest is sent."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        for line in environ['wsgi.input']:
            log.append(line)
            yield line
    client = run(application).send(post(b'', length=8))
    for line in (b'one\n', b'two\n'):
        client.send(line)
        log.wait_for(line)
    assert client.response().body == b'one\ntwo\n'


def test_input_that_is_cut_short(run: Run) -> None:
    """It raises, and never looks complete."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        try:
            environ['wsgi.input'].read()
        except OSError as error:
            log.append(type(error))
            raise
        return []
    client = run(application, raise_body_errors=True).send(post(b'half', length=8))
    client.half_close()
    assert client.response().status == 400
    assert log == [IncompleteBody]


@pytest.mark.parametrize(('reads', 'continues'), [(True, True), (False, False)])
def test_demand_25_100_continue_when_the_body_is_read(run: Run, reads: bool, continues: bool) -> None:
    """Once, and not when the application answers without reading."""
    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        data = environ['wsgi.input'].read(2) + environ['wsgi.input'].read() if reads else b''
        start_response('200 OK' if reads else '401 Unauthorized', PLAIN)
        return [data]
    client = run(application).send(get('/', 'Expect: 100-continue', 'Content-Length: 4', method='PUT'))
    if continues:
        assert client.head().status == 100
        client.send(b'body')
    assert client.head().status == (200 if reads else 401)


def test_demand_27_an_early_answer_to_a_large_upload(run: Run) -> None:
    """The rest of it is not received."""
    site = run(saying([b'no'], '403 Forbidden'))
    client = site.send(post(b'x' * 1000, length=4 << 30))
    reply = client.response()
    assert (reply.status, reply.body, reply.closes) == (403, b'no', True)
    assert client.rest() == b''


def test_demand_29_input_terminated(run: Run) -> None:
    """A framework may read a body of unknown length to its end."""
    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        assert environ['wsgi.input_terminated'] is True
        start_response('200 OK', PLAIN)
        return [environ['wsgi.input'].read()]
    request = get('/', 'Transfer-Encoding: chunked', method='POST') + b'4\r\nbody\r\n0\r\n\r\n'
    client = run(application).send(request, get())
    assert client.response().body == b'body'
    assert client.response().body == b''
