"""An incomplete body that ends with its connection: the client gets a reset (RFC 9112, section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import stream
from geventnode.errors import ContentLengthMismatch, PrematureClose
from tests.servers import Log, Serve, get


def unchunked(response: Any) -> Any:
    """Make the body of ``response`` end with the connection, even for a client of HTTP/1.1."""
    response.remove_header('Transfer-Encoding')
    return response


def fail(response: Any) -> None:
    """Raise an error, as a faulty listener does."""
    raise LookupError('a fault of the test')


@pytest.mark.parametrize('version', ['1.0', '1.1'])
@pytest.mark.parametrize(
    'cut',
    [
        lambda response: response.destroy(),
        lambda response: response.socket.destroy(),
        fail,
    ],
    ids=['destroyed', 'socket destroyed', 'listener failed'],
)
def test_incomplete_body_ends_with_a_reset(serve: Serve, cut: Any, version: str) -> None:
    read = Event()

    def listener(request: Any, response: Any) -> None:
        unchunked(response).write(b'part')
        read.wait()
        cut(response)

    client = serve(listener).send(get(version=version))
    assert client.head().values('Transfer-Encoding') == []
    assert client.exactly(4) == b'part'
    read.set()
    assert (client.rest(), client.reset) == (b'', True)


def test_body_aborted_by_the_server_ends_with_a_reset(serve: Serve) -> None:
    """The server has no time left."""
    never = Event()
    site = serve(lambda request, response: (unchunked(response).write(b'part'), never.wait()))
    client = site.send(get())
    client.until(b'part')
    site.server.close_all_connections()
    assert (client.rest(), client.reset) == (b'', True)
    never.set()


@pytest.mark.parametrize('version', ['1.0', '1.1'])
def test_complete_body_ends_without_a_reset(serve: Serve, version: str) -> None:
    def listener(request: Any, response: Any) -> None:
        unchunked(response).write(b'part')
        response.end(b' and rest')

    client = serve(listener).send(get(version=version))
    assert client.response().body == b'part and rest'
    assert not client.reset


def test_complete_body_for_a_half_closed_client_ends_without_a_reset(serve: Serve) -> None:
    """The connection is closed at once."""
    aborted = Event()

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', aborted.set)
        unchunked(response).write(b'part')
        aborted.wait()
        response.end()

    client = serve(listener).send(get(version='1.0')).half_close()
    assert client.response().body == b'part'
    assert not client.reset


def test_queued_bytes_arrive_before_the_end(serve: Serve) -> None:
    """The server was closed long before."""
    body = bytes(3_000_000)

    def listener(request: Any, response: Any) -> None:
        response.write(body)
        response.end()

    client = serve(listener).connect(receive_buffer=65536).send(get(version='1.0')).half_close()
    assert client.response().body == body
    assert not client.reset


def test_failed_pipeline_is_reported_once(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """By its caller: the response has no listener, and the loop reports nothing."""
    errors: list[BaseException] = []

    def source() -> Iterator[bytes]:
        yield b'part'
        raise LookupError('a fault of the test')

    def listener(request: Any, response: Any) -> None:
        try:
            stream.pipeline(source(), response)
        except LookupError as error:
            errors.append(error)

    client = serve(listener).send(get(version='1.0'))
    client.rest()
    while not errors:
        gevent.idle()
    for _ in range(5):
        gevent.idle()
    assert capsys.readouterr().err == ''


def short(response: Any) -> None:
    """End a response before its declared length."""
    response.set_header('Content-Length', '10')
    stream.pipeline([b'abc'], response)


ENDS = {'short': (short, ContentLengthMismatch), 'failed': (fail, PrematureClose)}


@pytest.mark.parametrize(('end', 'error'), ENDS.values(), ids=ENDS)
def test_response_that_does_not_finish_is_closed(serve: Serve, end: Any, error: type[Exception]) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('finish', log.note('finish')).on('close', log.note('close')).on('error', log.note('error'))
        stream.finished(response, lambda error: log.append(type(error)), readable=False)
        end(response)

    serve(listener).send(get()).rest()
    log.wait_for(error)
    assert log == ['close', error]


@pytest.mark.parametrize(('end', 'error'), ENDS.values(), ids=ENDS)
def test_response_that_does_not_finish_after_a_disconnect_is_closed(
    serve: Serve, end: Any, error: type[Exception]
) -> None:
    """The disconnect has emitted ``'close'`` before; it is emitted once to each listener."""
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('close', log.note('close'))
        log.append('waits')
        log.wait_for('close')
        stream.finished(response, lambda error: log.append(type(error)), readable=False)
        end(response)

    client = serve(listener).send(get())
    log.wait_for('waits')
    client.half_close().rest()
    log.wait_for(error)
    assert log == ['waits', 'close', error]


def test_request_that_was_aborted_before_is_finished(serve: Serve) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        request.on('close', log.note('close'))
        log.append('waits')
        log.wait_for('close')
        stream.finished(request, lambda error: log.append(type(error)))

    client = serve(listener).send(get('/', 'Content-Length: 9', method='POST'))
    log.wait_for('waits')
    client.half_close()
    log.wait_for_length(3)
    assert log == ['waits', 'close', PrematureClose]
