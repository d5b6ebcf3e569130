"""Test how small writes are divided into DATA frames, and that none waits."""

from __future__ import annotations

import os
import select
from typing import Any

import gevent
import pytest
from gevent.event import Event

from tests.http2.client import Client, Connect, Response
from tests.servers import GUARD, Log


def frames(client: Client, number: int) -> list[bytes]:
    """Return the payloads of the DATA frames of a response."""
    return [
        event.data
        for event in client.events
        if type(event).__name__ == 'DataReceived' and event.stream_id == number  # type: ignore[attr-defined]
    ]


def test_writes_of_one_turn_are_one_frame(connect_h2: Connect) -> None:
    results: list[bool] = []

    def listener(request: Any, response: Any) -> None:
        results.extend(response.write(b'%d,' % index) for index in range(100))
        response.end(b'end')

    client = connect_h2(listener)
    number = client.get()
    expected = b''.join(b'%d,' % index for index in range(100)) + b'end'
    assert client.response(number).body == expected
    assert frames(client, number) == [expected]
    assert all(results)


def test_writes_before_a_wait_are_one_frame_and_are_sent(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        for piece in (b'a', b'b', b'c'):
            response.write(piece)
        go_on.wait()
        response.end(b'd')

    client = connect_h2(listener)
    number = client.get()
    client.until(lambda: client.responses[number].body)
    assert frames(client, number) == [b'abc']
    go_on.set()
    assert client.response(number).body == b'abcd'


def test_event_is_sent_at_once(connect_h2: Connect) -> None:
    """A listener that blocks the loop after an event does not delay it."""
    received = bytearray()
    done = Event()

    def listener(request: Any, response: Any) -> None:
        response.flush_headers()
        gevent.sleep(0)
        for piece in (b'data: 1\n\n', b'data: 2\n\n'):
            response.write(piece)
            # the loop does not run until the kernel has delivered it
            while piece not in received:
                received.extend(receive_without_the_loop(client))
        response.end()
        done.set()

    client = connect_h2(listener)
    client.get()
    done.wait()


def receive_without_the_loop(client: Client) -> bytes:
    """Return the next bytes of a connection. Blocks the whole thread until there are some."""
    descriptor = client._socket.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(GUARD * 1000)
    return os.read(descriptor, 65536)


def test_reset_follows_the_writes_before_it(connect_h2: Connect) -> None:
    """Writes that were reported as sent are sent."""
    results: list[bool] = []

    def listener(request: Any, response: Any) -> None:
        results.append(response.write(b'begun'))
        response.destroy()

    client = connect_h2(listener)
    number = client.get()
    response = client.response(number)
    assert results == [True]
    assert (response.status, response.body, response.reset) == (200, b'begun', 8)


def test_writes_beyond_the_window_are_reported_as_queued(connect_h2: Connect) -> None:
    """Streams that write in one turn share the window of the connection."""
    results: dict[str, list[bool]] = {}

    def listener(request: Any, response: Any) -> None:
        results[request.url] = [response.write(bytes(10_000)) for _ in range(4)]
        response.end()

    client = connect_h2(listener, client={'credit': False})
    numbers = [client.h2.get_next_available_stream_id()]
    client.h2.send_headers(numbers[0], client.head('GET', '/1'), end_stream=True)
    numbers.append(client.h2.get_next_available_stream_id())
    client.h2.send_headers(numbers[1], client.head('GET', '/2'), end_stream=True)
    for number in numbers:
        client.responses[number] = Response()
    client.flush()
    client.until(lambda: sum(len(client.responses[number].body) for number in numbers) == 65535)
    assert results == {'/1': [True] * 4, '/2': [True, True, False, False]}
    client.h2.increment_flow_control_window(65535)
    client.flush()
    assert [len(client.response(number).body) for number in numbers] == [40_000, 40_000]


def test_queued_writes_are_joined(connect_h2: Connect) -> None:
    """Writes that wait for the window are sent in frames as large as usual."""
    written = Event()

    def listener(request: Any, response: Any) -> None:
        response.flush_headers()
        gevent.sleep(0)
        response.write(bytes(65535))
        for index in range(6000):
            response.write(b'%09d' % index)
        written.set()
        response.end()

    client = connect_h2(listener, client={'credit': False})
    number = client.get()
    written.wait()
    client.until(lambda: len(client.responses[number].body) == 65535)
    client.h2.increment_flow_control_window(1_000_000)
    client.h2.increment_flow_control_window(1_000_000, number)
    client.flush()
    assert client.response(number).body[65535:] == b''.join(b'%09d' % index for index in range(6000))
    assert len(frames(client, number)) < 12


def test_trailers_follow_joined_writes(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        for _ in range(3):
            response.write(b'x')
        response.add_trailers({'x-sum': '3'})
        response.end()

    client = connect_h2(listener)
    response = client.response(client.get())
    assert (response.body, response.trailers) == (b'xxx', {'x-sum': '3'})


def test_callbacks_of_joined_writes_are_called_in_order(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        for index in range(3):
            response.write(b'x', callback=log.note(index))
        response.on('finish', log.note('finish'))
        response.end(callback=log.note('end'))

    client = connect_h2(listener)
    assert client.response(client.get()).body == b'xxx'
    log.wait_for('end')
    log.wait_for('finish')
    assert log[:3] == [0, 1, 2]


@pytest.mark.parametrize('waits', [0, 5])
def test_several_writers_of_one_response(connect_h2: Connect, waits: int) -> None:
    """All of them continue when there is room; one that was killed meanwhile is left alone."""
    finished: list[int] = []

    def listener(request: Any, response: Any) -> None:
        def write(index: int) -> None:
            for _ in range(3):
                response.write(bytes(50_000))
            finished.append(index)

        writers = [gevent.spawn(write, index) for index in range(5)]
        for _ in range(waits):
            gevent.idle()
        killed = gevent.spawn(response.write, bytes(100_000))
        gevent.idle()
        killed.kill()
        go_on.set()
        gevent.joinall(writers, raise_error=True)
        response.end()

    go_on = Event()
    client = connect_h2(listener, client={'credit': False})
    number = client.get()
    go_on.wait()
    client.credit = True
    client.h2.increment_flow_control_window(65536)
    client.h2.increment_flow_control_window(65536, number)
    client.flush()
    assert len(client.response(number).body) == 15 * 50_000
    assert sorted(finished) == list(range(5))
