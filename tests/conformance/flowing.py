"""Checks of every readable that is consumed by events, piped, or given data back."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import StreamError, StreamModeError
from geventnode.stream import Writable
from tests.conformance.readable import BODY, Maker, fed, listen, promise
from tests.sockets import settle, until

# -- events -----------------------------------------------------------------------------------------------------------


@promise
def data_and_end_are_emitted_from_the_next_turn_on(make: Maker) -> None:
    with fed(make, pieces=3) as stream:
        assert stream.readable_flowing is None
        happened = listen(stream, 'data', 'end')
        assert happened == []
        assert stream.readable_flowing is True
        until(lambda: 'end' in happened)
        assert b''.join(happened[:-1]) == BODY
        assert happened[-1] == 'end'
        assert stream.readable_ended


@promise
def pause_stops_the_data(make: Maker) -> None:
    with make(10) as source:
        happened = listen(source.stream, 'pause', 'resume', 'data', 'end')
        assert happened == ['resume']
        source.feed(b'01234')
        until(lambda: len(b''.join(happened[1:])) == 5)
        assert source.stream.pause() is source.stream
        source.stream.pause()
        assert source.stream.is_paused()
        assert source.stream.readable_flowing is False
        source.feed(b'56789')
        source.finish()
        settle()
        assert happened[-1] == 'pause'
        assert source.stream.resume() is source.stream
        source.stream.resume()
        assert not source.stream.is_paused()
        until(lambda: 'end' in happened)
        assert b''.join(each for each in happened if isinstance(each, bytes)) == b'0123456789'
        assert [each for each in happened if isinstance(each, str)] == ['resume', 'pause', 'resume', 'end']


@promise
def a_listener_can_pause(make: Maker) -> None:
    with fed(make, pieces=20) as stream:
        chunks = []

        def on_data(chunk: bytes) -> None:
            chunks.append(chunk)
            stream.pause()

        stream.on('data', on_data)
        until(lambda: chunks)
        while b''.join(chunks) != BODY:
            count = len(chunks)
            settle()
            assert len(chunks) == count
            stream.resume()
            until(lambda count=count: len(chunks) > count)


@promise
def pause_before_data_keeps_the_stream_paused(make: Maker) -> None:
    with fed(make) as stream:
        stream.pause()
        happened = listen(stream, 'data', 'end')
        settle()
        assert happened == []
        stream.resume()
        until(lambda: 'end' in happened)
        assert b''.join(happened[:-1]) == BODY


@promise
def resume_without_a_listener_discards(make: Maker) -> None:
    with fed(make) as stream:
        happened = listen(stream, 'end')
        stream.resume()
        until(lambda: happened)
        assert stream.readable_ended


@promise
def readable_and_read1_give_everything(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        chunks: list[bytes] = []
        happened = listen(stream, 'end')
        stream.on('readable', lambda: chunks.append(stream.read1()))
        until(lambda: happened)
        assert b''.join(chunks) == BODY


@promise
def readable_wakes_another_greenlet(make: Maker) -> None:
    with make(5) as source:
        available = Event()
        source.stream.on('readable', available.set)
        settle()
        assert not available.is_set()
        source.feed(b'01234')
        available.wait()
        assert source.stream.readable_length > 0
        first = source.stream.read1()
        source.finish()
        until(lambda: source.stream.readable_length or source.stream.readable_ended)
        assert first


@promise
def sequential_reads_exclude_events(make: Maker) -> None:
    with fed(make) as stream:
        stream.read(1)
        for call in (
            lambda: stream.on('data', print),
            lambda: stream.on('readable', print),
            stream.resume,
            stream.pause,
            lambda: stream.pipe(Writable(print)),
        ):
            with pytest.raises(StreamModeError):
                call()
        assert stream.listener_count('data') == stream.listener_count('readable') == 0
        assert stream.read() == BODY[1:]


@promise
def events_exclude_sequential_reads(make: Maker) -> None:
    with fed(make) as stream:
        happened = listen(stream, 'data', 'end')
        for call in (stream.read, stream.read1, lambda: stream.readinto(bytearray(1)), lambda: next(iter(stream))):
            with pytest.raises(StreamModeError):
                call()
        until(lambda: 'end' in happened)
        assert b''.join(happened[:-1]) == BODY


# -- pipe -------------------------------------------------------------------------------------------------------------


@promise
def pipe_writes_all_data_and_ends_the_destination(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        chunks: list[bytes] = []
        destination = Writable(chunks.append)
        happened = listen(destination, 'pipe', 'unpipe', 'finish')
        assert stream.pipe(destination) is destination
        assert happened == ['pipe']
        until(lambda: destination.writable_finished)
        assert b''.join(chunks) == BODY
        settle()
        assert sorted(happened) == ['finish', 'pipe', 'unpipe']


@promise
def pipe_can_leave_the_destination_open(make: Maker) -> None:
    with fed(make) as stream:
        chunks: list[bytes] = []
        destination = Writable(chunks.append)
        stream.pipe(destination, end=False)
        until(lambda: stream.readable_ended)
        settle()
        assert b''.join(chunks) == BODY
        assert destination.writable


@promise
def pipe_follows_the_pace_of_the_destination(make: Maker) -> None:
    body = BODY * 100
    with fed(make, body, pieces=50) as stream:
        gate = Event()
        chunks: list[bytes] = []

        def write(data: bytes) -> None:
            gate.wait()
            chunks.append(data)

        destination = Writable(write, high_water_mark=1000)
        stream.pipe(destination)
        settle()
        assert chunks == []
        assert destination.writable_length <= 1000 + 65536
        gate.set()
        until(lambda: destination.writable_finished)
        assert b''.join(chunks) == body


@promise
def pipe_to_two_destinations(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        first: list[bytes] = []
        second: list[bytes] = []
        destinations = [Writable(first.append), Writable(second.append)]
        for destination in destinations:
            stream.pipe(destination)
        until(lambda: all(each.writable_finished for each in destinations))
        assert b''.join(first) == b''.join(second) == BODY


@promise
def unpipe_stops_and_pauses(make: Maker) -> None:
    with make(10) as source:
        stream = source.stream
        first: list[bytes] = []
        second: list[bytes] = []
        destination = Writable(first.append)
        sources: list[Any] = []
        destination.on('pipe', sources.append).on('unpipe', sources.append)
        stream.pipe(destination)
        source.feed(b'01234')
        until(lambda: len(b''.join(first)) == 5)
        assert stream.unpipe(destination) is stream
        assert sources == [stream, stream]
        assert stream.readable_flowing is False
        source.feed(b'56789')
        source.finish()
        settle()
        assert (b''.join(first), destination.writable) == (b'01234', True)
        other = stream.pipe(Writable(second.append))
        until(lambda: other.writable_finished)
        assert b''.join(second) == b'56789'


@promise
def unpipe_of_all_and_of_an_unknown_destination(make: Maker) -> None:
    with fed(make) as stream:
        assert stream.unpipe() is stream
        destinations = [Writable(print), Writable(print)]
        happened = [listen(each, 'unpipe') for each in destinations]
        for each in destinations:
            stream.pipe(each)
        stream.unpipe(Writable(print))
        assert happened == [[], []]
        stream.unpipe()
        assert happened == [['unpipe'], ['unpipe']]


@promise
def an_error_of_the_destination_ends_the_pipe(make: Maker) -> None:
    with fed(make) as stream:

        def write(data: bytes) -> None:
            raise KeyError('full')

        destination = Writable(write)
        errors: list[BaseException] = []
        happened = listen(destination, 'unpipe', 'close')
        destination.on('error', errors.append)
        stream.pipe(destination)
        until(lambda: 'close' in happened)
        assert [type(each) for each in errors] == [KeyError]
        assert 'unpipe' in happened
        assert not stream.destroyed
        assert not stream.readable_ended


# -- unshift ----------------------------------------------------------------------------------------------------------


@promise
def unshift_prepends_a_chunk(make: Maker) -> None:
    with fed(make) as stream:
        first = stream.read(10)
        stream.unshift(first[5:])
        stream.unshift(bytearray(first[:5]))
        assert stream.readable_length >= 10
        assert stream.read(12) == BODY[:12]
        stream.unshift(b'')
        assert stream.read() == BODY[12:]


@promise
def unshift_after_the_end_is_rejected(make: Maker) -> None:
    with fed(make) as stream:
        stream.read()
        with pytest.raises(StreamError):
            stream.unshift(b'x')


@promise
def unshift_comes_before_data_events(make: Maker) -> None:
    with fed(make) as stream:
        stream.unshift(b'first')
        happened = listen(stream, 'data', 'end')
        until(lambda: 'end' in happened)
        assert b''.join(happened[:-1]) == b'first' + BODY


@promise
def unshift_is_readable(make: Maker) -> None:
    with fed(make) as stream:
        stream.unshift(b'first')
        chunks: list[bytes] = []
        happened = listen(stream, 'end')
        stream.on('readable', lambda: chunks.append(stream.read1()))
        until(lambda: happened)
        assert b''.join(chunks) == b'first' + BODY


def unshift_between(make: Maker, paused: bool) -> None:
    """Put data back after half of the stream has arrived."""
    with make(10) as source:
        happened = listen(source.stream, 'data', 'end')
        source.feed(b'01234')
        until(lambda: b''.join(happened) == b'01234')
        if paused:
            source.stream.pause()
        source.stream.unshift(b'again')
        source.feed(b'56789')
        source.finish()
        if paused:
            settle()
            source.stream.resume()
        until(lambda: 'end' in happened)
        assert b''.join(happened[:-1]) == b'01234again56789'
        assert source.stream.readable_length == 0


@promise
def unshift_while_the_stream_waits_is_read_first(make: Maker) -> None:
    unshift_between(make, paused=False)


@promise
def unshift_while_paused_is_read_first(make: Maker) -> None:
    unshift_between(make, paused=True)


@promise
def unshift_while_a_readable_event_is_awaited(make: Maker) -> None:
    with make(10) as source:
        chunks: list[bytes] = []
        happened = listen(source.stream, 'end')
        source.stream.on('readable', lambda: chunks.append(source.stream.read1()))
        source.feed(b'01234')
        until(lambda: b''.join(chunks) == b'01234')
        settle()
        source.stream.unshift(b'again')
        source.feed(b'56789')
        source.finish()
        until(lambda: happened)
        assert b''.join(chunks) == b'01234again56789'


@promise
def unshift_while_a_read_waits_is_read_first(make: Maker) -> None:
    with make(5) as source:
        reading = gevent.spawn(source.stream.read)
        settle()
        source.stream.unshift(b'again')
        source.feed(b'01234')
        source.finish()
        assert reading.get() == b'again01234'
