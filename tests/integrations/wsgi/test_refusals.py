"""The server responds instead of the application to a body that is too large, malformed or incomplete."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
import pytest

from geventnode.errors import BodyTooLarge, IncompleteBody, ParseError, RequestRefused, RequestTimeout
from tests.applications import PLAIN, Environ, Run
from tests.servers import Client, Log, get, post

CHUNKED = get('/', 'Transfer-Encoding: chunked', method='POST')

#: Faulty bodies as bytes on the wire, with the response and the error.
FAILURES = {
    'too large': (CHUNKED + b'5\r\nhello\r\n64\r\n' + b'x' * 100, 413, BodyTooLarge),
    'malformed': (CHUNKED + b'5\r\nhello\r\nno size\r\n', 400, ParseError),
    'late': (post(b'hello', length=6), 408, RequestTimeout),
    'cut short': (post(b'hello', length=6), 400, IncompleteBody),
}
#: The application is called before the body fails.
OPTIONS = {'max_body_size': 50, 'request_timeout': 0.2, 'buffer_chunked': False}


def _page(start_response: Any, exc_info: Any = None) -> list[bytes]:
    """The error page of a framework."""
    if exc_info is None:
        start_response('500 Internal Server Error', PLAIN)
    else:
        start_response('500 Internal Server Error', PLAIN, exc_info)
    return [b'an error ', b'page']


def _plain(environ: Environ, start_response: Any) -> Iterable[bytes]:
    environ['wsgi.input'].read()
    raise AssertionError('the body has failed')


def _in_lines(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return list(environ['wsgi.input'])


def _framework(environ: Environ, start_response: Any) -> Iterable[bytes]:
    try:
        environ['wsgi.input'].read()
    except Exception:
        logging.getLogger('framework').exception('an error in a view')
        return _page(start_response)
    raise AssertionError('the body has failed')


def _bare_except(environ: Environ, start_response: Any) -> Iterable[bytes]:
    try:
        environ['wsgi.input'].read()
    except:  # noqa: E722
        return _page(start_response, sys.exc_info())
    raise AssertionError('the body has failed')


def _late_start(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response('200 OK', [('Content-Length', '5')])
    try:
        environ['wsgi.input'].read()
    except BaseException:
        return _page(start_response, sys.exc_info())
    raise AssertionError('the body has failed')


def _generator(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response('200 OK', PLAIN)
    yield environ['wsgi.input'].read()


def _catching_generator(environ: Environ, start_response: Any) -> Iterator[bytes]:
    try:
        environ['wsgi.input'].read()
    except BaseException:
        yield from _page(start_response, sys.exc_info())


APPLICATIONS = (_plain, _in_lines, _framework, _bare_except, _late_start, _generator, _catching_generator)


def _begin(client: Client, failure: str) -> None:
    """Let the body fail."""
    client.send(FAILURES[failure][0])
    if failure == 'cut short':
        client.half_close()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """Return the logged lines."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.records


@pytest.mark.parametrize('failure', FAILURES)
@pytest.mark.parametrize('application', APPLICATIONS)
def test_the_server_answers(run: Run, application: Any, failure: str, lines: Callable[[], list[Any]]) -> None:
    """For every way to handle the error. It logs one line, or none for a disconnected client."""
    log = Log()

    def watched(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ['geventnode.response'].on('close', log.note('close'))
        try:
            yield from application(environ, start_response)
        finally:
            log.append('over')

    client = run(watched, **OPTIONS).connect()
    _begin(client, failure)
    reply = client.response()
    assert (reply.status, reply.closes) == (FAILURES[failure][1], True)
    assert reply.body.startswith(str(reply.status).encode())
    client.assert_closed()
    log.wait_for('over')
    gevent.idle()
    assert [record.name for record in lines()] == ([] if failure == 'cut short' else ['geventnode.error'])
    assert [record.exc_info for record in lines() if record.exc_info] == []


@pytest.mark.parametrize('failure', FAILURES)
def test_flask_does_not_handle_the_error(run: Run, failure: str, lines: Callable[[], list[Any]]) -> None:
    """Flask logs nothing, sends no page, and tears its request down."""
    flask = pytest.importorskip('flask', reason='Flask is not installed; it is in the extra "test"')
    app = flask.Flask('refusing')
    log = Log()

    @app.route('/', methods=['POST'])  # type: ignore[untyped-decorator]
    def view() -> str:
        return str(len(flask.request.get_data()))

    @app.teardown_request  # type: ignore[untyped-decorator]
    def teardown(error: BaseException | None) -> None:
        log.append(type(error.__cause__) if error is not None else None)

    client = run(app, **OPTIONS).connect()
    _begin(client, failure)
    assert client.response().status == FAILURES[failure][1]
    log.wait_for_length(1)
    assert log == [FAILURES[failure][2]]
    assert [record.name for record in lines()] == ([] if failure == 'cut short' else ['geventnode.error'])


@pytest.mark.parametrize('failure', FAILURES)
def test_the_error_of_a_reader(run: Run, failure: str) -> None:
    """It is no Exception, and its cause is the reason; with an option, it is the reason itself."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        try:
            environ['wsgi.input'].read()
        except BaseException as error:
            log.append(error)
        start_response('422 Unprocessable Content', PLAIN)
        return [b'the answer of the application']

    status, kind = FAILURES[failure][1:]
    for own, expected in ((False, status), (True, 422)):
        client = run(application, raise_body_errors=own, **OPTIONS).connect()
        _begin(client, failure)
        reply = client.response()
        assert (reply.status, reply.closes) == (expected, True)
    assert [type(each) for each in log] == [RequestRefused, kind]
    assert type(log[0].__cause__) is kind


@pytest.mark.parametrize('failure', FAILURES)
def test_a_response_that_has_begun(run: Run, failure: str) -> None:
    """It is aborted and never looks complete, and the application gets the reason."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response('200 OK', PLAIN)
        yield b'begun'
        try:
            yield environ['wsgi.input'].read()
        except Exception as error:
            log.append(type(error))
            raise

    client = run(application, **OPTIONS).connect()
    client.send(FAILURES[failure][0])
    assert client.head().status == 200
    if failure == 'cut short':
        client.half_close()
    assert not client.rest().endswith(b'0\r\n\r\n')
    log.wait_for(FAILURES[failure][2])


def test_a_disconnected_client(run: Run, lines: Callable[[], list[Any]]) -> None:
    """The view ends, without a response."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        log.append('called')
        try:
            return [environ['wsgi.input'].read()]
        except RequestRefused as error:
            log.append(type(error.__cause__))
            raise

    client = run(application).send(post(b'hello', length=6))
    log.wait_for('called')
    client.abort()
    log.wait_for(IncompleteBody)
    gevent.idle()
    assert lines() == []


def test_a_client_that_has_disconnected_before_the_body_is_read(run: Run, lines: Callable[[], list[Any]]) -> None:
    """Also if it waits for 100 Continue, which can no longer be sent."""
    log = Log()

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        request = environ['geventnode.request']
        request.once('aborted', log.note('aborted'))
        log.append('called')
        log.wait_for('aborted')
        for _ in range(2):
            with pytest.raises(RequestRefused) as caught:
                environ['wsgi.input'].read()
            log.append(type(caught.value.__cause__))
        raise caught.value

    client = run(application).send(get('/', 'Expect: 100-continue', 'Content-Length: 6', method='POST'))
    log.wait_for('called')
    client.abort()
    log.wait_for_length(4)
    assert log == ['called', 'aborted', IncompleteBody, IncompleteBody]
    gevent.idle()
    assert lines() == []


def test_an_error_while_a_view_ends_is_not_hidden(run: Run, lines: Callable[[], list[Any]]) -> None:
    """The log has it as an error of the application."""

    def application(environ: Environ, start_response: Any) -> Iterable[bytes]:
        try:
            return [environ['wsgi.input'].read()]
        finally:
            raise RuntimeError('cleaning up fails')

    client = run(application, **OPTIONS).connect()
    _begin(client, 'malformed')
    assert client.response().status == 400
    client.assert_closed()
    assert [bool(record.exc_info) for record in lines()] == [False, True]
