"""Test the engine without a socket: error codes, and the same events for every division of the input."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import Frame

from geventnode.http2.codes import ErrorCode
from geventnode.http2.engine import PREFACE, ConnectionFailed, DataReceived, Engine, HeadReceived, StreamFailed
from geventnode.http2.limits import ConnectionLimits
from geventnode.protocol import Limits

SETTINGS = b'\x00\x00\x00\x04\x00\x00\x00\x00\x00'
HEAD = [(b':method', b'POST'), (b':scheme', b'http'), (b':authority', b'x'), (b':path', b'/')]
CODES = {code.name: code for code in ErrorCode}


def engine(**limits: Any) -> Engine:
    made = Engine(ConnectionLimits(Limits(), **limits))
    made.take_output()
    return made


def frame(kind: int, flags: int, number: int, payload: bytes = b'') -> bytes:
    return len(payload).to_bytes(3, 'big') + bytes((kind, flags)) + number.to_bytes(4, 'big') + payload


def head(number: int = 1, end: bool = False, flags: int = 4) -> bytes:
    """Return HEADERS of a POST, without HPACK's dynamic table."""
    block = b'\x83\x86\x84\x01\x01x'
    return frame(1, flags | end, number, block)


def frames_of(output: bytes) -> list[Any]:
    found = []
    while output:
        each, length = Frame.parse_frame_header(memoryview(output[:9]))
        each.parse_body(memoryview(output[9 : 9 + length]))
        found.append(each)
        output = output[9 + length :]
    return found


def described(events: Iterable[Any]) -> list[Any]:
    """Return ``events`` without the division of bodies."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, DataReceived):
            if found and found[-1][0] == 'data' and found[-1][1] == event.stream.id and not found[-1][3]:
                event.data = found.pop()[2] + event.data
            found.append(['data', event.stream.id, event.data, event.ended])
        elif isinstance(event, HeadReceived):
            found.append(['head', event.stream.id, event.head.method, event.head.url, event.head.headers])
        else:
            found.append([type(event).__name__, getattr(event, 'code', None), getattr(event, 'message', None)])
    return found


def exchange() -> bytes:
    """Return the bytes of a client of ``h2`` with several requests."""
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    for number in (1, 3, 5):
        client.send_headers(number, [*HEAD, (b'x-long', b'x' * 100)])
        client.send_data(number, b'abc' * number, pad_length=number)
        client.ping(b'12345678')
    client.send_headers(1, [(b'x-trailer', b'1')], end_stream=True)
    client.end_stream(3)
    client.reset_stream(5)
    return client.data_to_send()


def test_division_of_the_input_does_not_matter() -> None:
    data = exchange()
    whole = engine()
    expected = described(whole.receive(data, 0.0))
    assert [entry[0] for entry in expected] == [
        'head',
        'data',
        'head',
        'data',
        'head',
        'data',
        'TrailersReceived',
        'data',
        'StreamReset',
    ]
    output = whole.take_output()
    for cut in range(1, len(data)):
        divided = engine()
        events = [*divided.receive(data[:cut], 0.0), *divided.receive(data[cut:], 0.0)]
        assert described(events) == expected
        assert divided.take_output() == output
    single = engine()
    assert described(event for byte in data for event in single.receive(bytes((byte,)), 0.0)) == expected


BAD: dict[str, tuple[bytes, str]] = {
    'no preface': (b'GET / HTTP/1.1\r\n\r\n', 'PROTOCOL_ERROR'),
    'no settings': (PREFACE + head(), 'PROTOCOL_ERROR'),
    'ping first': (PREFACE + frame(6, 0, 0, bytes(8)), 'PROTOCOL_ERROR'),
    'acknowledgement first': (PREFACE + frame(4, 1, 0), 'PROTOCOL_ERROR'),
}
AFTER_SETTINGS: dict[str, tuple[bytes, str]] = {
    'large frame': (frame(0, 0, 1, bytes(16385)), 'FRAME_SIZE_ERROR'),
    'data on stream 0': (frame(0, 0, 0, b'x'), 'PROTOCOL_ERROR'),
    'data on an idle stream': (frame(0, 0, 1, b'x'), 'PROTOCOL_ERROR'),
    'padding longer than data': (head() + frame(0, 8, 1, b'\x05abc'), 'PROTOCOL_ERROR'),
    'head on stream 0': (head(0), 'PROTOCOL_ERROR'),
    'head on an even stream': (head(2), 'PROTOCOL_ERROR'),
    'head on an earlier stream': (head(3) + head(1), 'PROTOCOL_ERROR'),
    'head on a stream that has ended': (head(1) + frame(3, 0, 1, bytes(4)) + head(1), 'STREAM_CLOSED'),
    'head without its priority': (frame(1, 0x24, 1, b'\x00\x00'), 'FRAME_SIZE_ERROR'),
    'head with broken compression': (frame(1, 4, 1, b'\xff\xff\xff\xff\xff\xff'), 'COMPRESSION_ERROR'),
    'head with an unknown index': (frame(1, 4, 1, b'\xfe'), 'COMPRESSION_ERROR'),
    'frame within a head': (head(flags=0) + frame(6, 0, 0, bytes(8)), 'PROTOCOL_ERROR'),
    'continuation of another stream': (head(flags=0) + frame(9, 4, 3), 'PROTOCOL_ERROR'),
    'continuation without a head': (frame(9, 4, 1), 'PROTOCOL_ERROR'),
    'reset on stream 0': (frame(3, 0, 0, bytes(4)), 'PROTOCOL_ERROR'),
    'reset of an idle stream': (frame(3, 0, 1, bytes(4)), 'PROTOCOL_ERROR'),
    'reset of a wrong length': (head() + frame(3, 0, 1, bytes(3)), 'FRAME_SIZE_ERROR'),
    'settings on a stream': (frame(4, 0, 1), 'PROTOCOL_ERROR'),
    'settings with a part of a value': (frame(4, 0, 0, bytes(5)), 'FRAME_SIZE_ERROR'),
    'acknowledgement with values': (frame(4, 1, 0, bytes(6)), 'FRAME_SIZE_ERROR'),
    'push is neither on nor off': (frame(4, 0, 0, b'\x00\x02\x00\x00\x00\x02'), 'PROTOCOL_ERROR'),
    'large initial window': (frame(4, 0, 0, b'\x00\x04\x80\x00\x00\x00'), 'FLOW_CONTROL_ERROR'),
    'small maximum frame': (frame(4, 0, 0, b'\x00\x05\x00\x00\x00\x01'), 'PROTOCOL_ERROR'),
    'push promise': (frame(5, 4, 1, bytes(8)), 'PROTOCOL_ERROR'),
    'ping on a stream': (frame(6, 0, 1, bytes(8)), 'PROTOCOL_ERROR'),
    'ping of a wrong length': (frame(6, 0, 0, bytes(7)), 'FRAME_SIZE_ERROR'),
    'goaway on a stream': (frame(7, 0, 1, bytes(8)), 'PROTOCOL_ERROR'),
    'short goaway': (frame(7, 0, 0, bytes(7)), 'FRAME_SIZE_ERROR'),
    'window update of a wrong length': (frame(8, 0, 0, bytes(3)), 'FRAME_SIZE_ERROR'),
    'window update of nothing': (frame(8, 0, 0, bytes(4)), 'PROTOCOL_ERROR'),
    'window update of an idle stream': (frame(8, 0, 1, b'\x00\x00\x00\x01'), 'PROTOCOL_ERROR'),
    'large window': (frame(8, 0, 0, b'\x7f\xff\xff\xff'), 'FLOW_CONTROL_ERROR'),
    'priority of a wrong length': (frame(2, 0, 1, bytes(4)), 'FRAME_SIZE_ERROR'),
}


@pytest.mark.parametrize(
    ('data', 'code'),
    [*BAD.values(), *((PREFACE + SETTINGS + data, code) for data, code in AFTER_SETTINGS.values())],
    ids=[*BAD, *AFTER_SETTINGS],
)
def test_errors_of_the_connection(data: bytes, code: str) -> None:
    tested = engine()
    *_, event = tested.receive(data, 0.0)
    assert isinstance(event, ConnectionFailed)
    assert event.code is CODES[code]
    goaway = frames_of(tested.take_output())[-1]
    assert (goaway.type, goaway.error_code, goaway.last_stream_id) == (7, CODES[code], tested.last_stream_id)
    # further input is ignored
    assert list(tested.receive(PREFACE + SETTINGS + head(99), 0.0)) == []
    assert tested.take_output() == b''


STREAM_ERRORS: dict[str, tuple[bytes, str]] = {
    'data after the end': (head(end=True) + frame(0, 0, 1, b'x'), 'STREAM_CLOSED'),
    'head after the end': (head(end=True) + head(end=True), 'STREAM_CLOSED'),
    'trailers without the end': (head() + frame(1, 4, 1, b''), 'PROTOCOL_ERROR'),
    'window update of nothing': (head() + frame(8, 0, 1, bytes(4)), 'PROTOCOL_ERROR'),
    'large window': (head() + frame(8, 0, 1, b'\x7f\xff\xff\xff'), 'FLOW_CONTROL_ERROR'),
    'more than the window': (head() + frame(0, 0, 1, bytes(16384)) * 4, 'FLOW_CONTROL_ERROR'),
}


@pytest.mark.parametrize(('data', 'code'), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_errors_of_a_stream(data: bytes, code: str) -> None:
    tested = engine()
    *_, event = tested.receive(PREFACE + SETTINGS + data, 0.0)
    assert isinstance(event, StreamFailed)
    assert event.code is CODES[code]
    reset = frames_of(tested.take_output())[-1]
    assert (reset.type, reset.stream_id, reset.error_code) == (3, 1, CODES[code])
    # the connection goes on
    [event] = tested.receive(head(3, end=True), 0.0)
    assert isinstance(event, HeadReceived)


@pytest.mark.parametrize(
    'late', [frame(0, 0, 1, b'x'), frame(3, 0, 1, bytes(4)), frame(8, 0, 1, b'\x00\x00\x00\x01'), frame(1, 5, 1, b'')]
)
def test_frames_that_were_on_their_way_are_ignored(late: bytes) -> None:
    tested = engine()
    [event] = tested.receive(PREFACE + SETTINGS + head(), 0.0)
    assert isinstance(event, HeadReceived)
    tested.reset(event.stream, ErrorCode.CANCEL)
    tested.take_output()
    assert list(tested.receive(late, 0.0)) == []
    assert tested.take_output() == b''


def test_late_frames_of_many_reset_streams_are_ignored() -> None:
    tested = engine(max_resets=10_000, max_control_frames=10_000)
    list(tested.receive(PREFACE + SETTINGS, 0.0))
    numbers = range(1, 2 * 1000, 2)
    for number in numbers:
        [event] = tested.receive(head(number), 0.0)
        assert isinstance(event, HeadReceived)
        tested.reset(event.stream, ErrorCode.CANCEL)
    tested.take_output()
    for number in numbers:
        late = frame(0, 0, number, b'x') + frame(8, 0, number, b'\x00\x00\x00\x01') + frame(1, 5, number, b'')
        assert list(tested.receive(late, 0.0)) == []
    assert frames_of(tested.take_output()) == []
    # only some of them are remembered
    assert len(tested._reset_streams) <= 256


def test_late_frames_are_counted() -> None:
    tested = engine(max_resets=10_000, max_control_frames=100)
    list(tested.receive(PREFACE + SETTINGS, 0.0))
    for number in range(1, 2 * 600, 2):
        [event] = tested.receive(head(number), 0.0)
        assert isinstance(event, HeadReceived)
        tested.reset(event.stream, ErrorCode.CANCEL)
    *_, event = tested.receive(frame(1, 5, 1, b'') * 101, 0.0)
    assert isinstance(event, ConnectionFailed)
    assert event.limit == 'http2_max_control_frames'


def test_stream_in_a_gap_is_an_error_after_many_resets() -> None:
    tested = engine(max_resets=10_000)
    list(tested.receive(PREFACE + SETTINGS, 0.0))
    for number in [*range(1, 2 * 600, 2), 1203]:
        [event] = tested.receive(head(number), 0.0)
        assert isinstance(event, HeadReceived)
        tested.reset(event.stream, ErrorCode.CANCEL)
    *_, event = tested.receive(head(1201), 0.0)
    assert isinstance(event, ConnectionFailed)
    assert event.code is ErrorCode.PROTOCOL_ERROR


def test_larger_frames_are_sent_to_clients_that_accept_them() -> None:
    tested = engine()
    setting = b'\x00\x05' + (1 << 20).to_bytes(4, 'big')
    window = b'\x00\x04' + (1 << 20).to_bytes(4, 'big')
    events = list(tested.receive(PREFACE + frame(4, 0, 0, setting + window) + head(end=True), 0.0))
    list(tested.receive(frame(8, 0, 0, (1 << 20).to_bytes(4, 'big')), 0.0))
    received = events[-1]
    assert isinstance(received, HeadReceived)
    tested.take_output()
    tested.send_data(received.stream, bytes(150_000), True)
    frames = frames_of(tested.take_output())
    assert [len(each.data) for each in frames] == [65536, 65536, 150_000 - 131_072]
    assert ['END_STREAM' in each.flags for each in frames] == [False, False, True]


@pytest.mark.parametrize('size', [0, 1, 1024, 1025, 16384, 16385, 32768, 65535])
def test_data_is_divided_into_frames(size: int) -> None:
    tested = engine()
    [received] = tested.receive(PREFACE + SETTINGS + head(end=True), 0.0)
    assert isinstance(received, HeadReceived)
    tested.take_output()
    body = random.Random(size).randbytes(size)
    tested.send_data(received.stream, body, True)
    assert tested.send_window == received.stream.send_window == 65535 - size
    size_of_output = tested.output_size
    output = tested.take_output()
    assert len(output) == size_of_output
    frames = frames_of(output)
    assert b''.join(each.data for each in frames) == body
    assert [len(each.data) for each in frames[:-1]] == [16384] * (len(frames) - 1)
    assert ['END_STREAM' in each.flags for each in frames] == [False] * (len(frames) - 1) + [True]
    assert received.stream.closed


def test_discarded_bytes_are_credited_to_the_connection() -> None:
    tested = engine(max_concurrent_streams=1)
    [event] = tested.receive(PREFACE + SETTINGS + head(), 0.0)
    assert isinstance(event, HeadReceived)
    tested.reset(event.stream, ErrorCode.CANCEL)
    for _ in range(100):
        assert list(tested.receive(frame(0, 0, 1, bytes(16384)), 0.0)) == []
    assert not tested.failed


def test_mutated_input_raises_nothing(seed: int) -> None:
    chance = random.Random(seed)
    data = exchange()
    for _ in range(2000):
        mutated = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(PREFACE), len(mutated))
            mutated[place] = chance.randrange(256)
        tested = engine()
        for event in tested.receive(bytes(mutated), 0.0):
            if isinstance(event, HeadReceived):
                tested.send_head(event.stream, [(b':status', b'200')], False)
                if tested.sendable(event.stream) > 0:
                    tested.send_data(event.stream, b'x', True)


def test_unread_bodies_of_all_other_streams_stop_none() -> None:
    tested = engine(max_concurrent_streams=8)
    list(tested.receive(PREFACE + SETTINGS, 0.0))
    for number in range(1, 2 * 7, 2):
        # without a reader, up to its window
        list(tested.receive(head(number) + b''.join(frame(0, 0, number, bytes(13107)) for _ in range(5)), 0.0))
    [begun] = tested.receive(head(15), 0.0)
    assert isinstance(begun, HeadReceived)
    for _ in range(100):
        [event] = tested.receive(frame(0, 0, 15, bytes(13107)), 0.0)
        assert isinstance(event, DataReceived)
        tested.consumed(event.stream, len(event.data))


@pytest.mark.parametrize(
    ('limits', 'sizes'),
    [
        ({}, [131_070, 262_140, 524_280, 1_048_560, 1_048_576]),
        ({'max_window_size': 100_000}, [100_000, 100_000]),
        ({'max_window_size': 1}, [65535, 65535]),
    ],
)
def test_window_grows_while_all_is_consumed(limits: dict[str, int], sizes: list[int]) -> None:
    tested = engine(**limits)
    [begun] = tested.receive(PREFACE + SETTINGS + head(), 0.0)
    assert isinstance(begun, HeadReceived)
    stream = begun.stream
    seen = []
    while len(seen) < len(sizes):
        before = stream.receive_window
        [_] = tested.receive(frame(0, 0, 1, bytes(16384)), 0.0)
        tested.consumed(stream, 16384)
        if stream.receive_window > before - 16384:
            assert stream.receive_window == stream.window_size
            seen.append(stream.window_size)
    assert seen == sizes


def test_small_window_that_is_not_acknowledged_gets_its_credit() -> None:
    tested = engine(initial_window_size=1, max_window_size=1)
    # SETTINGS_INITIAL_WINDOW_SIZE is on its way, so that the client sends as much as without it
    [begun, *_] = tested.receive(PREFACE + SETTINGS + head() + frame(0, 0, 1, bytes(16384)) * 3, 0.0)
    assert isinstance(begun, HeadReceived)
    tested.take_output()
    tested.consumed(begun.stream, 3 * 16384)
    assert [update.window_increment for update in frames_of(tested.take_output())] == [3 * 16384] * 2


def test_window_does_not_grow_for_a_slow_reader() -> None:
    tested = engine()
    [begun, _] = tested.receive(PREFACE + SETTINGS + head() + frame(0, 0, 1, bytes(1)), 0.0)
    assert isinstance(begun, HeadReceived)
    for _ in range(100):
        list(tested.receive(frame(0, 0, 1, bytes(16384)), 0.0))
        tested.consumed(begun.stream, 16384)
    assert begun.stream.window_size == 65535


def test_no_bytes_are_no_credit() -> None:
    tested = engine(max_concurrent_streams=1)
    [begun, *_] = tested.receive(PREFACE + SETTINGS + head() + frame(0, 0, 1, bytes(13107)) * 5, 0.0)
    assert isinstance(begun, HeadReceived)
    tested.take_output()
    tested.consumed(begun.stream, 0)
    assert tested.take_output() == b''


def test_repeated_reset_is_a_control_frame() -> None:
    tested = engine(max_resets=1, max_control_frames=10)
    # SETTINGS is the first one
    list(tested.receive(PREFACE + SETTINGS + head() + frame(3, 0, 1, bytes(4)), 0.0))
    assert list(tested.receive(frame(3, 0, 1, bytes(4)) * 9, 0.0)) == []
    [event] = tested.receive(frame(3, 0, 1, bytes(4)), 0.0)
    assert isinstance(event, ConnectionFailed)
    assert event.limit == 'http2_max_control_frames'


def test_long_head_is_divided() -> None:
    tested = engine()
    [event] = tested.receive(PREFACE + SETTINGS + head(end=True), 0.0)
    assert isinstance(event, HeadReceived)
    tested.take_output()
    value = bytes(random.Random(1).choices(range(33, 127), k=40000))
    tested.send_head(event.stream, [(b':status', b'200'), (b'x-long', value)], True)
    frames = frames_of(tested.take_output())
    assert [each.type for each in frames] == [1, 9, 9]
    assert ['END_HEADERS' in each.flags for each in frames] == [False, False, True]
    assert 'END_STREAM' in frames[0].flags


def test_error_after_goaway_names_no_later_stream() -> None:
    made = engine()
    list(made.receive(PREFACE + SETTINGS + head(1), 0.0))
    made.go_away()
    made.take_output()
    list(made.receive(head(3) + frame(0, 0, 0), 0.0))
    [goaway] = frames_of(made.take_output())
    # its client repeats request 3, which was not served
    assert goaway.last_stream_id == 1


def test_first_part_of_a_header_block_can_be_too_large() -> None:
    made = engine(max_header_list_size=100)
    events = described(made.receive(PREFACE + SETTINGS + frame(1, 0, 1, bytes(401)), 0.0))
    message = 'a header block is larger than 4 times http2_max_header_list_size (100 bytes)'
    assert events == [['ConnectionFailed', ErrorCode.ENHANCE_YOUR_CALM, message]]


def test_size_of_the_output_is_that_of_its_bytes() -> None:
    made = engine()
    [received] = made.receive(PREFACE + SETTINGS + head(1), 0.0)
    assert isinstance(received, HeadReceived)
    stream = received.stream
    made.send_head(stream, [(b':status', b'200'), (b'x-long', b'\xff' * 20_000)], False)
    made.send_data(stream, b'abc', False)
    made.send_head(stream, [(b'x', b'y')], True)
    made.reset(stream, ErrorCode.NO_ERROR)
    made.go_away(announce=True)
    size = made.output_size
    assert size == len(made.take_output())
    assert made.output_size == 0


def test_every_size_of_the_table_in_a_frame_counts() -> None:
    """The decoder of a client that has set 0 and another size has forgotten its entries."""
    tested = engine()
    list(tested.receive(PREFACE + SETTINGS, 0.0))
    sizes = b'\x00\x01' + bytes(4) + b'\x00\x01\x00\x00\x10\x00'
    [*_, received] = tested.receive(frame(4, 0, 0, sizes) + head(), 0.0)
    assert isinstance(received, HeadReceived)
    tested.take_output()
    tested.send_head(received.stream, [(b':status', b'200')], True)
    [response] = frames_of(tested.take_output())
    # two updates: to 0, and to 4096
    assert response.data == b'\x20\x3f\xe1\x1f\x88'


def test_values_of_settings_are_checked_one_by_one() -> None:
    for wrong, right in (
        (b'\x00\x02\x00\x00\x00\x02', b'\x00\x02\x00\x00\x00\x01'),
        (b'\x00\x04\x80\x00\x00\x00', b'\x00\x04\x00\x00\x00\x01'),
        (b'\x00\x05\x00\x00\x00\x01', b'\x00\x05\x00\x00\x40\x00'),
    ):
        [event] = engine().receive(PREFACE + frame(4, 0, 0, wrong + right), 0.0)
        assert isinstance(event, ConnectionFailed)


def test_last_window_of_a_frame_counts() -> None:
    tested = engine()
    [received] = tested.receive(PREFACE + SETTINGS + head(), 0.0)
    assert isinstance(received, HeadReceived)
    windows = b'\x00\x04' + bytes(4) + b'\x00\x04\x00\x00\x00\x07'
    list(tested.receive(frame(4, 0, 0, windows), 0.0))
    assert tested.sendable(received.stream) == 7
