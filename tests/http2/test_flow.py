"""Test flow control: the streams that wait, and those that go on."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import ConnectionClosed, IncompleteBody
from geventnode.http2.codes import ErrorCode
from geventnode.http2.connection import TURN
from tests.http2.client import Connect
from tests.servers import Log, Serve
from tests.sockets import settle, shrink, until

BIG = 1_000_000


def test_unread_body_stops_its_client_at_the_window(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(str(len(request.read())))

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.send_data(number, bytes(65535))
    assert client.h2.local_flow_control_window(number) == 0
    # other streams go on
    other = client.start('POST', '/')
    client.send_data(other, bytes(65535))
    settle()
    assert client.h2.local_flow_control_window(number) == 0
    assert client.site.server.statistics()['buffered'] == 2 * 65535
    go_on.set()
    client.send_data(number, bytes(100_000), end=True)
    assert client.response(number).body == b'165535'
    client.send_data(other, b'', end=True)
    assert client.response(other).body == b'65535'
    assert client.site.server.statistics()['buffered'] == 0


@pytest.mark.parametrize('size', [1, 100_000, 1_000_000])
def test_window_of_the_server_is_an_option(connect_h2: Connect, size: int) -> None:
    client = connect_h2(lambda request, response: response.end(request.read()), http2_initial_window_size=size)
    number = client.start('POST', '/')
    client.until(lambda: client.h2.outbound_flow_control_window >= size)
    client.until(lambda: client.h2.local_flow_control_window(number) == size)
    client.send_data(number, b'abc', end=True)
    assert client.response(number).body == b'abc'


def test_window_grows_while_the_body_is_read(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        size = len(request.read(BIG))
        go_on.wait()
        response.end(str(size + len(request.read())))

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.send_data(number, bytes(BIG))
    # as much as has been unread at any time
    client.until(lambda: client.h2.local_flow_control_window(number) > 500_000)
    client.send_data(number, bytes(client.h2.local_flow_control_window(number)))
    settle()
    assert client.h2.local_flow_control_window(number) == 0
    assert 500_000 < client.site.server.statistics()['buffered'] <= 1048576
    go_on.set()
    client.send_data(number, b'x', end=True)
    assert int(client.response(number).body) > BIG + 500_000


def test_writer_waits_for_the_window(connect_h2: Connect) -> None:
    log = Log()
    drained = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/small':
            response.end(b'small')
            return
        response.on('drain', drained.set)
        log.append(response.write(bytes(65535)))
        log.append(response.write(bytes(65536)))
        log.append(response.writable_length)
        log.append('blocks')
        response.write(b'x')
        log.append('goes on')
        drained.wait()
        response.end()

    client = connect_h2(listener, client={'credit': False})
    number = client.get()
    log.wait_for('blocks')
    assert log == [True, False, 65536, 'blocks']
    client.until(lambda: len(client.responses[number].body) == 65535)
    settle()
    assert log[-1] == 'blocks'
    # the window of the connection is closed, too
    other = client.get('/small')
    client.until(lambda: client.responses[other].status)
    client.h2.increment_flow_control_window(65536)
    client.flush()
    assert client.response(other).body == b'small'
    client.h2.increment_flow_control_window(65536, number)
    client.flush()
    log.wait_for('goes on')
    client.credit = True
    client.h2.increment_flow_control_window(65536)
    client.h2.increment_flow_control_window(65536, number)
    client.flush()
    assert len(client.response(number).body) == 131072


def test_stalled_stream_stops_no_other(connect_h2: Connect) -> None:
    def listener(request: Any, response: Any) -> None:
        response.end(bytes(int(request.url[1:])))

    client = connect_h2(listener, client={'credit': False})
    stalled = [client.get('/65536') for _ in range(2)]
    client.h2.increment_flow_control_window(10_000_000)
    client.flush()
    client.until(lambda: all(len(client.responses[number].body) == 65535 for number in stalled))
    assert client.response(client.get('/1000')).body == bytes(1000)
    for number in stalled:
        client.h2.increment_flow_control_window(1, number)
    client.flush()
    assert [len(client.response(number).body) for number in stalled] == [65536, 65536]


def test_frames_of_streams_alternate(connect_h2: Connect) -> None:
    all_there = Event()
    arrived: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        arrived.append(request)
        if len(arrived) == 3:
            all_there.set()
        all_there.wait()
        response.end(bytes(BIG))

    client = connect_h2(listener)
    numbers = []
    for _ in range(3):
        number = client.get()
        client.h2.increment_flow_control_window(BIG, number)
        numbers.append(number)
    client.credit = False
    client.flush()
    # the window of the connection is closed until all streams have output
    client.until(lambda: sum(len(client.responses[number].body) for number in numbers) == 65535)
    client.h2.increment_flow_control_window(3 * BIG)
    client.flush()
    for number in numbers:
        assert len(client.response(number).body) == BIG
    order = [event.stream_id for event in client.events if type(event).__name__ == 'DataReceived']
    # from the second turn on, no stream has two turns while another one waits
    middle = order[len(order) // 4 : len(order) // 2]
    turns = [len(list(frames)) for _, frames in itertools.groupby(middle)]
    assert len(turns) > 5
    assert max(turns) <= TURN // 16384


def test_small_credits_of_a_connection_reach_all_streams_in_turn(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: response.end(bytes(BIG)), client={'credit': False})
    numbers = []
    for _ in range(4):
        number = client.get()
        client.h2.increment_flow_control_window(BIG, number)
        numbers.append(number)
    client.flush()
    client.until(lambda: sum(len(client.responses[number].body) for number in numbers) == 65535)
    client.until(lambda: all(client.responses[number].status for number in numbers))
    before = [len(client.responses[number].body) for number in numbers]
    for count in range(1, 9):
        # one frame at a time, as a client with small buffers gives credit
        client.h2.increment_flow_control_window(16384)
        client.flush()
        while sum(len(client.responses[number].body) for number in numbers) < 65535 + count * 16384:
            assert client.receive()
    after = [len(client.responses[number].body) for number in numbers]
    assert [end - start for start, end in zip(before, after, strict=True)] == [2 * 16384] * 4


@pytest.mark.parametrize('window', [65535, 1048576])
def test_body_larger_than_all_buffers_in_both_directions(connect_h2: Connect, window: int) -> None:
    sizes: list[int] = []

    def listener(request: Any, response: Any) -> None:
        connection = request._connection
        for chunk in request:
            sizes.append(connection.buffered + connection.writable_length)
            response.write(chunk)
        response.end()

    client = connect_h2(listener, http2_max_window_size=window)
    number = client.start('POST', '/')
    piece = bytes(50_000)
    total = 200 * len(piece)
    for index in range(200):
        client.send_data(number, piece, end=index == 199)
    assert len(client.response(number).body) == total
    assert max(sizes) <= window + 65536 + 16384


def test_reset_wakes_a_blocked_writer(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        try:
            while True:
                response.write(bytes(50_000))
                log.append('written')
        except ConnectionClosed:
            log.append('closed')

    client = connect_h2(listener, client={'credit': False})
    number = client.get()
    log.wait_for_length(2)
    settle()
    client.reset(number)
    log.wait_for('closed')
    other = client.get('/x')
    client.reset(other)


def test_finish_follows_the_last_byte(connect_h2: Connect) -> None:
    log = Log()

    def listener(request: Any, response: Any) -> None:
        response.on('finish', log.note('finish'))
        response.end(bytes(65536))
        log.append('ended')

    client = connect_h2(listener, client={'credit': False})
    number = client.get()
    log.wait_for('ended')
    settle()
    assert log == ['ended']
    client.h2.increment_flow_control_window(65536)
    client.h2.increment_flow_control_window(65536, number)
    client.flush()
    assert len(client.response(number).body) == 65536
    log.wait_for('finish')


def test_smaller_window_can_make_a_stream_wait(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: response.end(bytes(100)), client={'settings': {4: 10}})
    client.credit = False
    number = client.get()
    client.until(lambda: len(client.responses[number].body) == 10)
    client.h2.update_settings({4: 90})
    client.flush()
    client.until(lambda: len(client.responses[number].body) == 90)
    client.h2.increment_flow_control_window(10, number)
    client.flush()
    assert client.response(number).body == bytes(100)


def test_limit_of_all_buffers_pauses_reading(connect_h2: Connect) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        response.end(str(len(request.read())))

    client = connect_h2(listener, max_buffered=50_000)
    server = client.site.server
    number = client.start('POST', '/')
    client.send_data(number, bytes(60_000))
    until(lambda: server.statistics()['buffered'] > 50_000)
    [connection] = server._connections()
    until(lambda: connection._paused)
    go_on.set()
    client.send_data(number, b'', end=True)
    assert client.response(number).body == b'60000'
    assert not connection._paused
    assert client.response(client.get()).status == 200


def test_unread_bodies_do_not_stop_the_windows_of_others(connect_h2: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit, the client's windows are behind the bytes that are not read."""
    monkeypatch.setattr('geventnode.http2.connection.STALL_TIME', 0.01)
    monkeypatch.setattr('geventnode.http2.deadlines.STALL_TIME', 0.01)
    errors: list[Any] = []

    def listener(request: Any, response: Any) -> None:
        if request.url == '/download':
            response.end(bytes(70_000))
            return
        go_on.wait()
        try:
            request.read()
        except IncompleteBody as error:
            errors.append(error)

    go_on = Event()
    client = connect_h2(listener, max_buffered=50_000, client={'credit': False})
    server = client.site.server
    download = client.get('/download')
    client.until(lambda: len(client.responses[download].body) == 65535)
    upload = client.start('POST', '/upload')
    client.send_data(upload, bytes(60_000))
    [connection] = server._connections()
    until(lambda: connection._paused)
    client.h2.increment_flow_control_window(100_000)
    client.h2.increment_flow_control_window(100_000, download)
    client.flush()
    assert len(client.response(download).body) == 70_000
    assert client.response(upload).reset == ErrorCode.ENHANCE_YOUR_CALM
    go_on.set()
    until(lambda: errors)
    assert 'max_buffered' in str(errors[0])
    assert server.statistics()['buffered'] == 0
    assert server.refusals == {'max_buffered': 1}


def test_received_body_above_the_limit_can_wait_for_its_own_window(
    connect_h2: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('geventnode.http2.connection.STALL_TIME', 0.01)
    monkeypatch.setattr('geventnode.http2.deadlines.STALL_TIME', 0.01)

    def listener(request: Any, response: Any) -> None:
        if request.url == '/other':
            go_on.wait()
            response.end(str(len(request.read())))
            return
        with contextlib.suppress(ConnectionClosed):
            while True:
                response.write(bytes(65535))

    go_on = Event()
    client = connect_h2(listener, max_buffered=50_000, client={'credit': False})
    other = client.post(bytes(20_000), '/other')
    number = client.post(bytes(60_000))
    assert client.response(number).reset == ErrorCode.ENHANCE_YOUR_CALM
    client.h2.increment_flow_control_window(10)
    client.flush()
    go_on.set()
    assert client.response(other).body == b'20000'


def test_informational_responses_wait_for_the_client(serve: Serve, connect_h2: Connect) -> None:
    lengths: list[int] = []

    def listener(request: Any, response: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                response.write_early_hints({'link': '<' + 'x' * 10_000 + '>'})
                lengths.append(response.writable_length)

    site = serve(listener, http2=True)
    # else the kernel takes megabytes first
    site.server.on('connection', lambda socket: shrink(socket._raw))
    client = connect_h2(site, client={'receive_buffer': 4096})
    client.get()
    until(lambda: lengths and lengths[-1] >= 65536)
    before = len(lengths)
    settle()
    assert len(lengths) == before
    assert lengths[-1] < 65536 + 11_000
    client.close()


def test_client_that_does_not_read_its_answers_is_not_read(connect_h2: Connect) -> None:
    client = connect_h2(
        lambda request, response: response.end(bytes(int(request.url[1:]))),
        client={'credit': False},
        http2_max_control_frames=1_000_000,
    )
    client.h2.increment_flow_control_window(100_000_000)
    client.flush()
    assert client.response(client.get('/1')).ended
    number = client.get('/12000000')
    client.h2.increment_flow_control_window(100_000_000, number)
    client.flush()
    [connection] = client.site.server._connections()
    socket = connection.socket
    until(lambda: socket.writable_length >= socket.writable_high_water_mark)
    count = 30_000
    pings = b'\x00\x00\x08\x06\x00\x00\x00\x00\x00geventno' * count
    sending = gevent.spawn(client.send_raw, pings)
    settle()
    assert 0 < socket.writable_length < 450_000 < len(pings)
    # once it reads, nothing is missing
    assert len(client.response(number).body) == 12_000_000
    sending.join()
    assert client.response(client.get('/1')).ended
    assert sum(type(event).__name__ == 'PingAckReceived' for event in client.events) == count


def test_small_pieces_without_a_reader_are_joined(connect_h2: Connect) -> None:
    go_on = Event()
    pieces: list[bytes] = []

    def listener(request: Any, response: Any) -> None:
        go_on.wait()
        pieces.extend(request)
        response.end()

    client = connect_h2(listener)
    number = client.start('POST', '/')
    client.send_raw((b'\x00\x00\x02\x00\x00' + number.to_bytes(4, 'big') + b'ab') * 2001)
    server = client.site.server
    until(lambda: server.statistics()['buffered'] == 4002)
    client.send_data(number, b'', end=True)
    go_on.set()
    assert client.response(number).ended
    assert b''.join(pieces) == b'ab' * 2001
    assert len(pieces) < 10
