"""Listeners that would never respond: refused when they are added, or reported when they return."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.integrations.wsgi import wsgi
from geventnode.monitor import Monitor
from tests.servers import Log, Serve, get, ok

# -- results of listeners --------------------------------------------------------------------------------------------


async def _coroutine() -> None:
    """A coroutine function, which is called and never awaited."""


ANSWERS = {
    'str': lambda: 'hello',
    'bytes': lambda: b'hello',
    'dict': lambda: {'a': 1},
    'tuple': lambda: ('hello', 404),
    'list': lambda: [b'hello'],
    'generator': lambda: (each for each in 'hello'),
    'coroutine': _coroutine,
}


@pytest.mark.parametrize('kind', ANSWERS)
@pytest.mark.parametrize('fields', [(), ('Expect: 100-continue', 'Content-Length: 1')])
def test_returned_response_is_a_500(
    kind: str, fields: tuple[str, ...], serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """At once; a log line gives the reason."""

    def listener(request: Any, response: Any) -> Any:
        return ANSWERS[kind]()

    reply = serve(listener).send(get('/path', *fields)).response()
    assert (reply.status, reply.closes) == (500, True)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ('geventnode.error', 'ERROR')
    message = record.getMessage()
    assert message.startswith("GET /path: the 'request' listener test_returned_response_is_a_500.<locals>.listener() ")
    assert f'returned {kind} without sending a response' in message


def test_returned_response_of_a_wrapped_listener_is_a_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Another listener was added before it."""
    site = serve(http.readiness(http.create_server(http.readiness(lambda request, response: 'hello'))))
    Monitor().mount(site.server)
    assert site.get().status == 500
    assert caplog.text.count('returned str without sending a response') == 1


@pytest.mark.parametrize(
    'make',
    [
        lambda response: None,
        lambda response: response,
        lambda response: 5,
        lambda response: gevent.spawn(int),
        lambda response: (None, None),
    ],
)
def test_other_returned_value_is_ignored(make: Callable[[Any], Any], serve: Serve) -> None:
    """The listener responds later."""

    def listener(request: Any, response: Any) -> Any:
        gevent.spawn(response.end, 'later')
        return make(response)

    assert serve(listener).get().body == b'later'


def test_returned_value_after_a_response_is_ignored(serve: Serve) -> None:
    """By the listener itself, or by the next one."""

    def listener(request: Any, response: Any) -> str:
        response.end('fine')
        return 'hello'

    assert serve(listener).get().body == b'fine'
    site = serve(lambda request, response: 'hello')
    site.server.on('request', ok)
    assert site.get().status == 200


def test_emit_of_a_subclass_sees_requests(serve: Serve) -> None:
    """As all other events."""
    log = Log()

    class Server(http.Server):
        def emit(self, event: str, *args: Any) -> bool:
            log.append(event)
            return super().emit(event, *args)

    assert serve(Server(ok)).get().status == 200
    assert 'request' in log


# -- other arguments of listeners ------------------------------------------------------------------------------------


def _application(environ: Any, start_response: Any) -> Any:
    yield b''


class _Framework:
    def __call__(self, environ: Any, start_response: Any) -> Any:
        return []


@pytest.mark.parametrize('application', [_application, _Framework()])
def test_wsgi_application_is_refused(application: Any) -> None:
    """The error shows the way to serve it."""
    server = http.Server()
    for add in (http.create_server, http.Server, partial(server.on, 'request'), partial(server.once, 'checkContinue')):
        with pytest.raises(
            TypeError, match=r'is a WSGI application, .*; use create_server\(wsgi\(app\)\), with wsgi from'
        ):
            add(application)
    assert server.event_names() == []
    assert http.create_server(wsgi(application)).listener_count('request') == 1
    server.on('own', application)


# -- functions that would never run ----------------------------------------------------------------------------------


async def _async(request: Any, response: Any) -> None:
    pass


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    """An application of the other kind."""


@pytest.mark.parametrize('accepting', [http.create_server, wsgi])
def test_asgi_application_is_refused(accepting: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=r'^_asgi\(\) is an ASGI application, .* with an ASGI server, such as uvicorn'):
        accepting(_asgi)


async def _async_generator(request: Any, response: Any) -> Any:
    yield b''


def _generator(request: Any, response: Any) -> Any:
    yield b''


class _AsyncCallable:
    async def __call__(self, request: Any, response: Any) -> None:
        pass


@pytest.mark.parametrize('listener', [_async, _async_generator, _generator, _AsyncCallable(), partial(_async)])
def test_listener_that_would_never_run_is_refused(listener: Any) -> None:
    """By every way of adding one; the error describes the remedy."""
    server = http.Server()
    for add in (
        http.create_server,
        partial(server.on, 'request'),
        server.on('request'),
        partial(server.once, 'request'),
        partial(server.prepend_listener, 'upgrade'),
    ):
        with pytest.raises(TypeError, match=r'must be a plain function, and .* would never run; write def'):
            add(listener)
    assert server.event_names() == []
    # the emitter of other events can await its listeners
    server.on('own', listener)
