"""Checks of every readable that is cut short, destroyed or interrupted, and of methods that do not block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from geventnode.stream import Writable
from tests.conformance.readable import Maker, fed, listen, promise
from tests.conftest import _no_switch
from tests.sockets import settle, until

# -- incomplete streams -----------------------------------------------------------------------------------------------


@promise
def a_stream_cut_short_raises_and_never_ends(make: Maker) -> None:
    with make(10) as source:
        happened = listen(source.stream, 'end')
        source.stream.on('error', lambda error: None)
        reading = gevent.spawn(source.stream.read)
        source.feed(b'01234')
        settle()
        source.cut()
        with pytest.raises(ConnectionError):
            reading.get()
        with pytest.raises(ConnectionError):
            source.stream.read()
        settle()
        assert happened == []
        assert not source.stream.readable_ended


@promise
def data_before_the_cut_can_be_read(make: Maker) -> None:
    with make(10) as source:
        source.feed(b'01234')
        assert source.stream.read(5) == b'01234'
        source.cut()
        with pytest.raises(ConnectionError):
            source.stream.read1()


@promise
def a_cut_is_an_error_event_once(make: Maker) -> None:
    with make(10) as source:
        happened = listen(source.stream, 'data', 'end', 'error')
        source.feed(b'01234')
        until(lambda: b''.join(happened) == b'01234')
        source.cut()
        until(lambda: 'error' in happened)
        settle()
        assert happened[-1:] == ['error']
        assert 'end' not in happened
        assert not source.stream.readable_ended


@promise
def destroy_wakes_the_reader(make: Maker) -> None:
    with make(10) as source:
        reading = gevent.spawn(source.stream.read)
        source.feed(b'01234')
        settle()
        happened = listen(source.stream, 'end', 'close')
        assert source.stream.destroy() is source.stream
        assert source.stream.destroyed
        assert not source.stream.readable
        with pytest.raises(ConnectionError):
            reading.get()
        source.stream.destroy()
        settle()
        assert happened == ['close']
        with pytest.raises(ConnectionError):
            source.stream.read()


@promise
def destroy_emits_its_error(make: Maker) -> None:
    with make(10) as source:
        error = KeyError('enough')
        reading = gevent.spawn(source.stream.read)
        settle()
        happened = listen(source.stream, 'error', 'close', 'end')
        errors: list[BaseException] = []
        source.stream.on('error', errors.append)
        source.stream.destroy(error)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the exception is checked below
            reading.get()
        assert error in (caught.value, caught.value.__cause__)
        settle()
        assert happened == ['error', 'close']
        assert errors == [error]


@promise
def destroy_before_reading_discards_and_never_ends(make: Maker) -> None:
    with fed(make) as stream:
        settle()
        happened = listen(stream, 'end', 'close')
        stream.destroy()
        with pytest.raises(ConnectionError):
            stream.read()
        settle()
        assert happened == ['close']


@promise
def destroy_stops_data_events(make: Maker) -> None:
    with make(10) as source:
        happened = listen(source.stream, 'data', 'end', 'close')
        source.feed(b'01234')
        until(lambda: b''.join(happened) == b'01234')
        count = len(happened)
        source.stream.destroy()
        settle()
        assert happened[count:] == ['close']


@promise
def a_data_listener_that_raises_stops_the_stream(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        chunks = []

        def fail(chunk: bytes) -> None:
            chunks.append(chunk)
            raise KeyError('x')

        happened = listen(stream, 'end')
        stream.on('data', fail)
        until(lambda: chunks)
        settle()
        assert len(chunks) == 1
        assert happened == []


# -- interrupted reads ------------------------------------------------------------------------------------------------


@promise
def a_killed_reader_loses_nothing(make: Maker) -> None:
    with make(10) as source:
        reading = gevent.spawn(source.stream.read, 10)
        source.feed(b'01234')
        settle()
        reading.kill()
        source.feed(b'56789')
        source.finish()
        assert source.stream.read(10) == b'0123456789'


@promise
def a_timeout_loses_nothing(make: Maker) -> None:
    with make(10) as source:
        source.feed(b'01234')
        settle()
        with gevent.Timeout(0.001, False):
            source.stream.read()
        source.feed(b'56789')
        source.finish()
        assert source.stream.read() == b'0123456789'


@promise
def a_timeout_loses_nothing_of_a_file(make: Maker) -> None:
    calls: list[Callable[[Any], object]] = [
        lambda file: file.read(8),
        lambda file: file.read(),
        lambda file: file.readline(),
        lambda file: file.readinto(bytearray(8)),
        next,
        list,
    ]
    for call in calls:
        with make(10) as source:
            file = source.stream.makefile()
            source.feed(b'01234')
            settle()
            interrupted = gevent.Timeout(0.001)
            with pytest.raises(gevent.Timeout) as caught, interrupted:
                call(file)
            assert caught.value is interrupted
            source.feed(b'567\n9')
            source.finish()
            assert file.readline() == b'01234567\n'
            assert file.read() == b'9'


@promise
def a_timeout_loses_no_lines_of_a_file(make: Maker) -> None:
    with make(10) as source:
        file = source.stream.makefile()
        source.feed(b'0\n2\n4')
        settle()
        with gevent.Timeout(0.001, False):
            file.readlines()
        source.feed(b'567\n9')
        source.finish()
        assert file.readlines(1) == [b'0\n']
        # as of any file: it reads on until the lines exceed the size
        assert file.readlines(2) == [b'2\n', b'4567\n']
        assert file.readlines() == [b'9']


# -- blocking ---------------------------------------------------------------------------------------------------------


@promise
def only_reads_block(make: Maker) -> None:
    with fed(make) as stream, _no_switch():
        stream.makefile()
        stream.set_encoding('utf-8')
        stream.unshift('x')
        stream.pause()
        stream.resume()
        stream.is_paused()
        stream.pipe(Writable(print))
        stream.unpipe()
        stream.destroy()


@promise
def buffered_data_is_read_without_blocking(make: Maker) -> None:
    with make(10) as source:
        source.feed(b'0123456789')
        assert source.stream.read(1) == b'0'
        settle()
        with _no_switch():
            assert source.stream.read1(1) == b'1'
