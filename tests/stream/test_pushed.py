"""The plain streams: producers that push or are called, iterables, and functions that take chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import ConnectionClosed, PrematureClose, StreamError, WriteAfterEnd
from geventnode.stream import Duplex, Readable, Writable
from geventnode.stream.readable import ReadableBase
from tests.sockets import settle, until

TEXT = 'aé€😀'


# -- Readable ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('cut', range(len(TEXT.encode()) + 1))
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16', 'latin-1'])
def test_text_cut_anywhere(cut: int, encoding: str) -> None:
    text = TEXT[:2] if encoding == 'latin-1' else TEXT
    data = text.encode(encoding)
    stream = Readable().set_encoding(encoding)
    for piece in (data[:cut], data[cut:], None):
        stream.push(piece)
    assert stream.read() == text


def test_push_returns_whether_the_buffer_has_room() -> None:
    stream = Readable(high_water_mark=4)
    assert stream.push(b'123') is True
    assert stream.push('é') is False
    assert stream.readable_length == 5
    assert stream.read(5) == b'123\xc3\xa9'
    assert stream.push(bytearray(b'x')) is True


def test_push_after_the_end_is_rejected() -> None:
    stream = Readable()
    stream.push(None)
    with pytest.raises(StreamError, match='after the end'):
        stream.push(b'x')


def test_push_to_a_destroyed_stream_is_discarded() -> None:
    stream = Readable().destroy()
    assert stream.push(b'x') is False
    assert stream.readable_length == 0
    with pytest.raises(PrematureClose):
        stream.read()


def test_push_of_other_types_is_rejected() -> None:
    with pytest.raises(TypeError, match='str or bytes-like, not int'):
        Readable().push(7)


def test_read_is_called_when_more_data_is_needed() -> None:
    asked: list[int] = []

    def read(stream: Readable, size: int) -> None:
        asked.append(size)
        stream.push(b'x' if len(asked) < 3 else None)

    stream = Readable(read, high_water_mark=10)
    assert asked == []
    assert stream.read() == b'xx'
    assert asked == [10, 10, 10]


def test_read_is_not_called_again_before_a_push() -> None:
    asked: list[int] = []
    stream = Readable(lambda stream, size: asked.append(size))
    reading = gevent.spawn(stream.read, 2)
    settle()
    assert len(asked) == 1
    stream.push(b'1')
    settle()
    assert len(asked) == 2
    stream.push(b'')
    settle()
    assert len(asked) == 3
    stream.push(b'2')
    assert reading.get() == b'12'


def test_an_exception_of_read_is_raised_by_every_read() -> None:
    def read(stream: Readable, size: int) -> None:
        raise KeyError('x')

    stream = Readable(read)
    for _ in range(2):
        with pytest.raises(KeyError):
            stream.read()
    assert stream.destroyed
    assert not stream.readable_ended


def test_an_exception_of_read_is_an_error_event() -> None:
    def source() -> Iterator[bytes]:
        yield b'x'
        raise KeyError('x')

    happened: list[Any] = []
    stream = Readable.from_iterable(source()).on('error', happened.append).on('data', happened.append)
    stream.on('end', lambda: happened.append('end')).on('close', lambda: happened.append('close'))
    until(lambda: 'close' in happened)
    assert [each if isinstance(each, bytes | str) else type(each) for each in happened] == [b'x', KeyError, 'close']


def test_a_timeout_in_an_iterable_does_not_make_it_look_complete() -> None:
    def source() -> Iterator[bytes]:
        yield b'x'
        gevent.sleep(1000)

    stream = Readable.from_iterable(source())
    with gevent.Timeout(0.001, False):
        stream.read()
    assert not stream.readable_ended
    assert stream.destroyed
    assert stream.read(1) == b'x'
    with pytest.raises(PrematureClose):
        stream.read()


def test_generator_is_closed_with_its_stream() -> None:
    happened: list[str] = []

    def source() -> Iterator[bytes]:
        try:
            yield from (b'ab', b'cd')
        finally:
            happened.append('released')

    stream = Readable.from_iterable(source()).on('close', lambda: happened.append('close'))
    assert stream.read(2) == b'ab'
    stream.destroy()
    until(lambda: 'close' in happened)
    assert happened == ['released', 'close']


def test_generator_that_waits_is_closed_when_it_goes_on() -> None:
    happened: list[str] = []
    arrived = Event()

    def source() -> Iterator[bytes]:
        try:
            arrived.wait()
            yield b'x'
        finally:
            happened.append('released')

    stream = Readable.from_iterable(source())
    reading = gevent.spawn(stream.read)
    settle()
    stream.destroy()
    settle()
    assert happened == []
    arrived.set()
    with pytest.raises(PrematureClose):
        reading.get()
    assert happened == ['released']


def test_encoding_can_be_set_while_the_pump_waits() -> None:
    chunks: list[Any] = []
    stream = Readable().on('data', chunks.append)
    settle()
    stream.set_encoding('utf-8')
    for byte in TEXT.encode():
        stream.push(bytes([byte]))
        settle()
    stream.push(None)
    until(lambda: stream.readable_ended)
    assert chunks == list(TEXT)


def test_encoding_can_be_set_once() -> None:
    stream = Readable().set_encoding('utf-8')
    with pytest.raises(StreamError):
        stream.set_encoding('latin-1')


def test_a_text_stream_unshifts_only_text() -> None:
    stream = Readable().set_encoding('utf-8')
    stream.unshift('é')
    with pytest.raises(TypeError, match='takes str, not bytes'):
        stream.unshift(b'x')
    assert stream.read(1) == 'é'


def test_a_base_without_a_source() -> None:
    with pytest.raises(StreamError, match='has no source'):
        ReadableBase().read()


def test_reading_byte_by_byte() -> None:
    stream = Readable()
    stream.push(b'abc')
    assert [stream.read1(1) for _ in range(3)] == [b'a', b'b', b'c']
    stream.unshift(b'de')
    stream.read(1)
    stream.unshift(b'f')
    assert stream.read(2) == b'fe'


def test_unshift_while_paused_is_read_before_the_end() -> None:
    happened: list[Any] = []
    stream = Readable().on('data', happened.append).on('end', lambda: happened.append('end'))
    stream.push(b'x')
    until(lambda: happened)
    stream.pause()
    stream.unshift(b'again')
    stream.push(None)
    settle()
    assert happened == [b'x']
    stream.resume()
    until(lambda: 'end' in happened)
    assert happened == [b'x', b'again', 'end']
    assert stream.readable_length == 0


def test_unshift_while_a_read_waits_is_read_before_the_end() -> None:
    stream = Readable()
    reading = gevent.spawn(stream.read1)
    settle()
    stream.unshift(b'again')
    stream.unshift(b'and ')
    stream.push(None)
    assert reading.get() == b'and again'
    assert not stream.readable_ended
    assert stream.read() == b''


# -- Writable ---------------------------------------------------------------------------------------------------------


def test_chunks_are_bytes_and_written_one_at_a_time() -> None:
    working = 0
    chunks: list[bytes] = []

    def write(data: bytes) -> None:
        nonlocal working
        working += 1
        assert working == 1
        gevent.idle()
        chunks.append(data)
        working -= 1

    stream = Writable(write)
    gevent.joinall([gevent.spawn(stream.write, chunk) for chunk in (b'a', 'b', bytearray(b'c'))], raise_error=True)
    assert chunks == [b'a', b'b', b'c']
    assert {type(chunk) for chunk in chunks} == {bytes}


def test_final_is_called_once_before_finish() -> None:
    happened: list[str] = []
    stream = Writable(lambda data: happened.append('write'), lambda: happened.append('final'))
    stream.on('finish', lambda: happened.append('finish'))
    stream.end(b'x')
    stream.end()
    assert happened == ['write', 'final', 'finish']


def test_a_drain_listener_can_write_and_end() -> None:
    gate = Event()
    chunks: list[bytes] = []

    def write(data: bytes) -> None:
        gate.wait()
        chunks.append(data)

    stream = Writable(write)
    stream.on('drain', lambda: (stream.write(b'2'), stream.end(b'3')))
    writing = gevent.spawn(stream.write, b'0')
    settle()
    assert stream.write(b'1') is False
    gate.set()
    writing.get()
    assert b''.join(chunks) == b'0123'
    assert stream.writable_finished


def test_an_exception_of_the_function_destroys_the_stream() -> None:
    error = KeyError('x')
    errors: list[BaseException] = []

    def write(data: bytes) -> None:
        raise error

    stream = Writable(write).on('error', errors.append)
    with pytest.raises(KeyError):
        stream.write(b'x')
    assert stream.destroyed
    until(lambda: errors)
    assert errors == [error]
    with pytest.raises(ConnectionClosed) as caught:
        stream.write(b'x')
    assert caught.value.__cause__ is error


def test_an_error_of_a_destination_without_listener_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    def write(data: bytes) -> None:
        raise KeyError('no listener')

    stream = Readable.from_iterable([b'x'])
    destination = stream.pipe(Writable(write))
    until(lambda: destination.destroyed)
    settle()
    assert 'no listener' in capfd.readouterr().err


@pytest.mark.parametrize('error', [OSError('disk full'), gevent.Timeout(5)])
def test_a_destination_that_fails_does_not_stop_the_others(
    error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(data: bytes) -> None:
        raise error

    chunks: list[bytes] = []
    stream = Readable.from_iterable([b'1', b'2', b'3'])
    failing = stream.pipe(Writable(fail))
    other = stream.pipe(Writable(chunks.append))
    until(lambda: other.writable_finished)
    settle()
    assert chunks == [b'1', b'2', b'3']
    assert failing.destroyed
    assert type(error).__name__ in capfd.readouterr().err


def test_a_listener_that_fails_for_a_destination_does_not_stop_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    chunks: list[bytes] = []
    stream = Readable.from_iterable([b'1', b'2'])
    ended = Writable(print).end().on('error', lambda error: {}['no such key'])
    stream.pipe(ended)
    other = stream.pipe(Writable(chunks.append))
    until(lambda: other.writable_finished)
    settle()
    assert chunks == [b'1', b'2']
    assert 'no such key' in capfd.readouterr().err


def test_nothing_is_written_after_end_while_its_data_is_written() -> None:
    gate = Event()
    chunks: list[bytes] = []

    def write(data: bytes) -> None:
        gate.wait()
        chunks.append(data)

    stream = Writable(write)
    ending = gevent.spawn(stream.end, b'last')
    settle()
    assert stream.writable_ended
    with pytest.raises(WriteAfterEnd):
        stream.write(b'late')
    gate.set()
    ending.get()
    assert chunks == [b'last']
    assert stream.writable_finished


def test_drain_is_not_emitted_after_close() -> None:
    gate = Event()
    stream = Writable(lambda data: gate.wait())
    happened: list[str] = []
    for event in ('drain', 'close'):
        stream.on(event, lambda event=event: happened.append(event))
    writing = gevent.spawn(stream.write, b'1')
    settle()
    assert stream.write(b'2') is False
    stream.destroy()
    settle()
    gate.set()
    writing.get()
    settle()
    assert happened == ['close']


def test_a_killed_writer_destroys_the_stream() -> None:
    stream = Writable(lambda data: gevent.sleep(1000))
    first, second = gevent.spawn(stream.write, b'x'), gevent.spawn(stream.end, b'y')
    settle()
    first.kill()
    assert stream.destroyed
    second.get()
    assert not stream.writable_finished


# -- Duplex -----------------------------------------------------------------------------------------------------------


def test_the_sides_of_a_duplex_are_independent() -> None:
    chunks: list[bytes] = []
    stream = Duplex(write=chunks.append)
    stream.push(None)
    assert stream.read() == b''
    assert stream.write(b'x')
    stream.end()
    assert (chunks, stream.destroyed) == ([b'x'], False)


def test_both_sides_of_a_duplex_are_destroyed() -> None:
    stream = Duplex(write=lambda data: gevent.sleep(1000), high_water_mark=1)
    waiting = [gevent.spawn(stream.read), gevent.spawn(stream.write, b'x'), gevent.spawn(stream.write, b'y')]
    settle()
    stream.destroy()
    for each in (waiting[0], waiting[2]):
        with pytest.raises(ConnectionError):
            each.get()
    waiting[1].kill()


def test_a_duplex_without_a_write_function_raises() -> None:
    with pytest.raises(TypeError, match='without a write function'):
        Duplex().write(b'x')
