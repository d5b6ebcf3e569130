"""Test that a large body is received several times in a turn of the loop, up to a limit."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from geventnode import http
from geventnode.errors import ClientDisconnected, IncompleteBody
from geventnode.net.socket import EXTRA_RECEIVE_SIZE, LARGE_INPUT, MAX_EXTRA_RECEIVES, RECEIVE_SIZE
from tests.servers import Serve, get
from tests.sockets import pair, settle, until

NoSwitch = Callable[[], Any]
Told = Callable[[], list[int]]


class Script:
    """Replace a socket's ``recv``: return or raise the given results, then report no input."""

    def __init__(self, *results: int | BaseException) -> None:
        self._results: Iterator[int | BaseException] = iter(results)
        self.asked: list[int] = []

    def recv(self, size: int) -> bytes:
        self.asked.append(size)
        result = next(self._results, BlockingIOError())
        if isinstance(result, BaseException):
            raise result
        return bytes(result)


ENDLESS = [RECEIVE_SIZE, *[EXTRA_RECEIVE_SIZE] * MAX_EXTRA_RECEIVES]


def read_rows(stream: Any, no_switch: NoSwitch) -> None:
    """Read the input of ``ENDLESS`` in two turns of the loop."""
    for _ in range(2):
        turned: list[int] = []
        gevent.spawn(turned.append, 1)
        assert len(stream.read1()) == RECEIVE_SIZE
        assert turned
        with no_switch():
            assert [len(stream.read1()) for _ in range(MAX_EXTRA_RECEIVES)] == [EXTRA_RECEIVE_SIZE] * MAX_EXTRA_RECEIVES


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Return the sizes that ``debug_connections`` logs for received input, without heads."""
    caplog.set_level(logging.DEBUG, 'geventnode.connection')

    def sizes() -> list[int]:
        settle()
        found = [int(size) for size in re.findall(r'received (\d+) bytes', caplog.text)]
        return [size for size in found if size >= RECEIVE_SIZE]

    return sizes


def begun(serve: Serve, sent: list[Any], agent: http.Agent | None = None) -> http.ClientRequest:
    """Return a request with a response of which only the head is sent; the server's response is put into ``sent``."""

    def listener(request: Any, response: Any) -> None:
        response.write_head(200, {'Content-Length': '10000000'})
        response.flush_headers()
        sent.append(response)

    return http.get(f'http://127.0.0.1:{serve(listener).where[1]}/', agent=agent)


def test_a_socket(no_switch: NoSwitch) -> None:
    with pair() as (near, far):
        near._receiver = script = Script(*ENDLESS * 2)
        # the input is not taken: the kernel continues to report it
        far.sendall(b'!')
        read_rows(near, no_switch)
        assert script.asked == ENDLESS * 2
        assert near.bytes_read == sum(ENDLESS * 2)


def test_a_request(serve: Serve, no_switch: NoSwitch) -> None:
    def listener(request: Any, response: Any) -> None:
        request.socket._receiver = Script(*ENDLESS * 2)
        response.write(b'go on')
        read_rows(request, no_switch)
        response.end(b', enough')

    client = serve(listener).send(get('/', 'Content-Length: 10000000', method='POST'))
    client.head()
    client.send(b'!')
    assert client.rest().count(b'enough') == 1


def test_a_response(serve: Serve, no_switch: NoSwitch) -> None:
    sent: list[Any] = []
    with begun(serve, sent) as response:
        response.socket._receiver = Script(*ENDLESS * 2)
        sent[0].write(b'!')
        read_rows(response, no_switch)


@pytest.mark.parametrize('size', [LARGE_INPUT - 1, LARGE_INPUT])
def test_a_small_input_ends_the_reads_before_they_begin(size: int) -> None:
    with pair() as (near, far):
        near._receiver = script = Script(size, size, 1)
        far.sendall(b'!')
        assert [len(near.read1()) for _ in range(3)] == [size, size, 1]
        assert script.asked[:2] == [RECEIVE_SIZE, EXTRA_RECEIVE_SIZE if size == LARGE_INPUT else RECEIVE_SIZE]


def test_a_small_input_ends_repeated_reads() -> None:
    with pair() as (near, far):
        near._receiver = script = Script(RECEIVE_SIZE, 1, RECEIVE_SIZE)
        far.sendall(b'!')
        assert [len(near.read1()) for _ in range(3)] == [RECEIVE_SIZE, 1, RECEIVE_SIZE]
        assert script.asked == [RECEIVE_SIZE, EXTRA_RECEIVE_SIZE, RECEIVE_SIZE]


def test_no_input_ends_repeated_reads() -> None:
    with pair() as (near, far):
        near._receiver = script = Script(RECEIVE_SIZE, BlockingIOError(), RECEIVE_SIZE)
        far.sendall(b'!')
        assert [len(near.read1()) for _ in range(2)] == [RECEIVE_SIZE] * 2
        assert script.asked == [RECEIVE_SIZE, EXTRA_RECEIVE_SIZE, RECEIVE_SIZE]


def test_the_end_of_the_input_during_repeated_reads() -> None:
    with pair() as (near, far):
        near._receiver = Script(RECEIVE_SIZE, 0, 0)
        far.sendall(b'!')
        assert len(near.read()) == RECEIVE_SIZE


@pytest.mark.parametrize('failure', [0, ConnectionResetError()])
def test_a_request_is_aborted_during_repeated_reads(serve: Serve, failure: Any) -> None:
    caught: list[BaseException] = []

    def listener(request: Any, response: Any) -> None:
        request.socket._receiver = Script(RECEIVE_SIZE, failure, failure)
        response.write(b'go on')
        with pytest.raises(IncompleteBody) as raised:
            request.read()
        caught.append(raised.value)

    client = serve(listener).send(get('/', 'Content-Length: 10000000', method='POST'))
    client.head()
    client.send(b'!')
    until(lambda: caught)


@pytest.mark.parametrize('failure', [0, ConnectionResetError()])
def test_a_response_is_aborted_during_repeated_reads(serve: Serve, failure: Any) -> None:
    sent: list[Any] = []
    with begun(serve, sent) as response:
        response.socket._receiver = Script(RECEIVE_SIZE, failure, failure)
        sent[0].write(b'!')
        with pytest.raises(IncompleteBody):
            response.read()


def test_a_cancelled_listener_gets_no_other_error(serve: Serve) -> None:
    """The hub reports the broken connection once, to the reader and to all others."""
    caught: list[type[BaseException]] = []

    def listener(request: Any, response: Any) -> None:
        request.socket._receiver = Script(RECEIVE_SIZE, ConnectionResetError())
        response.write(b'go on')
        for wait in (request.read, settle):
            try:
                wait()
            except BaseException as error:
                caught.append(type(error))
        caught.append(Exception)

    client = serve(listener, cancel_on_disconnect=True).send(get('/', 'Content-Length: 10000000', method='POST'))
    client.head()
    client.send(b'!')
    until(lambda: Exception in caught)
    assert caught == [ClientDisconnected, Exception]


def test_an_error_is_not_a_clean_end(serve: Serve) -> None:
    """The kernel reports a clean end after the error, which would complete a body that ends with the connection."""

    def listener(request: Any, response: Any) -> None:
        response.remove_header('Transfer-Encoding')
        response.flush_headers()
        sent.append(response)

    sent: list[Any] = []
    with http.get(f'http://127.0.0.1:{serve(listener).where[1]}/') as response:
        response.socket._receiver = Script(RECEIVE_SIZE, ConnectionResetError(), 0, 0)
        sent[0].write(b'!')
        with pytest.raises(IncompleteBody):
            response.read()


def test_a_server_traces_repeated_reads(serve: Serve, no_switch: NoSwitch, told: Told) -> None:
    def listener(request: Any, response: Any) -> None:
        # after the response; without an end, the kernel would report the input that is not taken, again and again
        request.socket._receiver = Script(*ENDLESS * 2, ConnectionResetError())
        response.write(b'go on')
        read_rows(request, no_switch)
        response.end(b', enough')

    client = serve(listener, debug_connections=True).send(get('/', 'Content-Length: 10000000', method='POST'))
    client.head()
    client.send(b'!')
    assert client.rest().count(b'enough') == 1
    assert told() == ENDLESS * 2


def test_an_agent_traces_repeated_reads(serve: Serve, no_switch: NoSwitch, told: Told) -> None:
    sent: list[Any] = []
    with begun(serve, sent, http.Agent(debug_connections=True)) as response:
        response.socket._receiver = Script(*ENDLESS * 2)
        sent[0].write(b'!')
        read_rows(response, no_switch)
    assert told() == ENDLESS * 2


def test_a_socket_breaks_during_repeated_reads() -> None:
    with pair() as (near, far):
        near._receiver = Script(RECEIVE_SIZE, ConnectionResetError())
        far.sendall(b'!')
        near.read1()
        with pytest.raises(ConnectionError):
            near.read1()
