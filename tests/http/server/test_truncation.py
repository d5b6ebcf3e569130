"""A body that ends with its connection, and is cut short: the client is told by a reset (RFC 9112, section 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode import stream
from tests.servers import Serve, get


def unchunked(response: Any) -> Any:
    """Let the body of ``response`` end with the connection for a client of HTTP/1.1, too."""
    response.remove_header('Transfer-Encoding')
    return response


def fail(response: Any) -> None:
    """As listeners do that have not thought of everything."""
    raise LookupError('as told')


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
def test_cut_short(serve: Serve, cut: Any, version: str) -> None:
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


def test_cut_short_by_the_server(serve: Serve) -> None:
    """Which has no time left."""
    never = Event()
    site = serve(lambda request, response: (unchunked(response).write(b'part'), never.wait()))
    client = site.send(get())
    client.until(b'part')
    site.server.close_all_connections()
    assert (client.rest(), client.reset) == (b'', True)
    never.set()


@pytest.mark.parametrize('version', ['1.0', '1.1'])
def test_complete(serve: Serve, version: str) -> None:
    def listener(request: Any, response: Any) -> None:
        unchunked(response).write(b'part')
        response.end(b' and rest')

    client = serve(listener).send(get(version=version))
    assert client.response().body == b'part and rest'
    assert not client.reset


def test_complete_for_a_client_that_says_no_more(serve: Serve) -> None:
    """The connection is closed at once then."""
    told = Event()

    def listener(request: Any, response: Any) -> None:
        request.on('aborted', told.set)
        unchunked(response).write(b'part')
        told.wait()
        response.end()

    client = serve(listener).send(get(version='1.0')).half_close()
    assert client.response().body == b'part'
    assert not client.reset


def test_what_is_still_queued_arrives(serve: Serve) -> None:
    """Although the server has closed long since."""
    body = bytes(3_000_000)

    def listener(request: Any, response: Any) -> None:
        response.write(body)
        response.end()

    client = serve(listener).connect(receive_buffer=65536).send(get(version='1.0')).half_close()
    assert client.response().body == body
    assert not client.reset


def test_a_pipeline_that_fails_is_told_of_once(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """By whoever runs it: nobody else listens to the response, and the loop has nothing to complain of."""
    errors: list[BaseException] = []

    def source() -> Iterator[bytes]:
        yield b'part'
        raise LookupError('as told')

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
