"""WSGI applications on the server: as a whole."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import gevent
import pytest

from geventnode.errors import BodyNotAllowed, InvalidInput
from geventnode.integrations.wsgi import is_wsgi, wsgi
from tests.applications import PLAIN, Environ, Run, saying
from tests.servers import get, post

# -- conformance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('body', [[b'body'], iter([b'bo', b'dy'])])
def test_the_validator_finds_nothing(run: Run, body: Any) -> None:
    """wsgiref's checks of PEP 3333, for both sides."""

    def application(environ: Environ, start_response: Any) -> Any:
        while environ['wsgi.input'].read(2):
            pass
        environ['wsgi.errors'].flush()
        write = start_response('200 OK', [*PLAIN, ('Content-Length', '4')])
        assert callable(write)
        return body

    reply = run(validator(application)).send(post(b'sent')).response()
    assert reply.body == b'body'


def test_more_heads_than_the_caches_hold(run: Run) -> None:
    """Heads of requests and of responses."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response('200 OK', [*PLAIN, ('X-Path', environ['PATH_INFO'])])
        return [environ['HTTP_X_NUMBER'].encode()]

    client = run(application).connect()
    for number in range(600):
        reply = client.get(f'/{number}', f'X-Number: {number}')
        assert (reply.body, reply.values('X-Path')) == (str(number).encode(), [f'/{number}'])


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_slow_view_has_no_timeout(run: Run) -> None:
    """Limits apply to clients."""

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        gevent.sleep(0.6)
        start_response('200 OK', PLAIN)
        yield b'one'
        gevent.sleep(0.6)
        yield environ['wsgi.input'].read()

    client = run(application, timeout=0.1, request_timeout=0.1).send(post(b'two'))
    assert client.response().body == b'onetwo'


def test_a_slow_client_has_a_timeout(run: Run) -> None:
    """408, while the view waits for the body."""
    client = run(lambda environ, start_response: [environ['wsgi.input'].read()], request_timeout=0.1).send(
        post(b'', length=10)
    )
    assert client.response().status == 408


# -- beyond WSGI -----------------------------------------------------------------------------------------------------


def test_an_upgrade(run: Run) -> None:
    """The application gets the connection, and the server adds no byte."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        socket, head = environ['geventnode.response'].upgrade()
        socket.write(head)
        for chunk in socket:
            socket.write(chunk)
        socket.end()
        return []

    client = run(application).send(get('/', 'Connection: Upgrade', 'Upgrade: echo') + b'one ')
    assert client.head().status == 101
    client.send(b'two')
    assert client.exactly(7) == b'one two'
    client.half_close()
    assert client.rest() == b''


HINTS = [('Link', '</a.css>; rel=preload'), ('X-Mark', 'a'), ('Link', '</b.css>; rel=preload')]


@pytest.mark.parametrize(
    'make', [list, tuple, iter, lambda pairs: [(name.encode(), value.encode()) for name, value in pairs]]
)
def test_early_hints_as_gunicorn_has_them(run: Run, make: Callable[[Any], Any]) -> None:
    """A function of the environ takes a list of pairs, any number of times before the response begins."""

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        hint = environ['wsgi.early_hints']
        hint(make(HINTS))
        start_response('200 OK', PLAIN)
        hint([('Link', '</c.css>')])
        hint([])
        yield b'the '
        # ignored after the head
        hint([('Link', '</d.css>')])
        yield b'body'

    client = run(application).connect()
    for _ in range(2):
        client.send(get())
        head = client.head()
        assert (head.status, head.values('Link'), head.values('X-Mark')) == (
            103,
            ['</a.css>; rel=preload', '</b.css>; rel=preload'],
            ['a'],
        )
        assert client.head().values('Link') == ['</c.css>']
        assert client.response().body == b'the body'
    assert run(application).send(b'GET / HTTP/1.0\r\n\r\n').response().body == b'the body'


@pytest.mark.parametrize(
    'hints',
    [
        [('Link', 'a\r\nb: c')],
        [('a b', 'c')],
        [('Content-Length', '1')],
        [('Link',)],
        [('Link', 5)],
        ['ab'],
        {'Link': 'a'},
        'ab',
        None,
    ],
)
def test_invalid_early_hints_are_refused(run: Run, hints: Any) -> None:
    """No byte of them is sent."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        with pytest.raises((InvalidInput, BodyNotAllowed, TypeError)):
            environ['wsgi.early_hints'](hints)
        start_response('200 OK', PLAIN)
        return [b'refused']

    assert run(application).get().body == b'refused'


def test_early_hints_and_trailers(run: Run) -> None:
    """Both with methods of the response."""

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        response = environ['geventnode.response']
        response.write_early_hints({'Link': '</style.css>; rel=preload'})
        start_response('200 OK', [*PLAIN, ('Trailer', 'X-Sum')])
        yield b'body'
        response.add_trailers({'X-Sum': '5'})

    client = run(application).send(get())
    assert client.head().values('Link') == ['</style.css>; rel=preload']
    reply = client.response()
    assert (reply.body, reply.trailers) == (b'body', [('X-Sum', '5')])


def test_an_application_that_uses_the_response(run: Run) -> None:
    """It ends the response itself, and its return value is ignored."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ['geventnode.response'].end('by itself')
        return []

    client = run(application).connect()
    assert client.get().body == client.get().body == b'by itself'


# -- which it is ------------------------------------------------------------------------------------------------------


class Framework:
    """A callable object, as in frameworks."""

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        return []


class PerRequest:
    """An application that is a class."""

    def __init__(self, env: Environ, start: Any) -> None:
        pass


@pytest.mark.parametrize(
    ('target', 'answer'),
    [
        (Framework(), True),
        (PerRequest, True),
        (saying([]), True),
        (validator(saying([])), None),
        (lambda env, sr: [], True),
        (lambda e, start_response: [], True),
        (lambda _environ, _start: [], True),
        (functools.partial(lambda extra, environ, start_response: [], 1), True),
        (lambda request, response: None, False),
        (lambda req, res: None, False),
        (lambda a, b, c=1: None, None),
        (lambda e, sr: [], None),
        (lambda _, response: None, False),
        (lambda request, _: None, False),
        (lambda request, start_response: [], True),
        (lambda *args, **options: None, None),
        (lambda *args: None, None),
        (lambda request: None, None),
        (wsgi(saying([])), False),
        (5, None),
        (dict, None),
    ],
)
def test_is_wsgi(target: Any, answer: bool | None) -> None:
    """By the names of the parameters; None for other names."""
    assert is_wsgi(target) is answer


def test_repr_of_a_listener_names_the_application() -> None:
    """For logs and debuggers."""
    assert repr(wsgi(Framework())).startswith('<Listener for <')
