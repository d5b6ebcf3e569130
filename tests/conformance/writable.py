"""Checks of every writable, for each sentence of the docstrings of ``geventnode.stream.Writable``.

A maker takes the number of bytes that will be written, and returns a context manager that yields a :class:`Sink`. There
are two kinds of makers. With free ones, all data is sent at once. With clogged ones, the peer reads nothing before
:attr:`Sink.unclog` is called. Each kind has its own list of checks.
"""

from __future__ import annotations

import array
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
import pytest

from geventnode.errors import ConnectionClosed, WriteAfterEnd
from geventnode.stream import Readable
from tests.conftest import _no_switch
from tests.sockets import settle, until

__all__ = [
    'CLOGGED_CHECKS',
    'MANY',
    'PIECE',
    'WRITABLE_CHECKS',
    'Maker',
    'Sink',
    'listen',
    'promise',
    'promise_clogged',
    'write_all',
]

PIECE = bytes(range(256)) * 16
MANY = 1000


class Sink(NamedTuple):
    """A stream and the control over its peer."""

    stream: Any
    #: Make the peer read.
    unclog: Callable[[], object]
    #: Read all data up to a complete end and return it.
    collect: Callable[[], bytes]
    #: Disconnect the peer.
    cut: Callable[[], object]


Maker = Callable[[int], contextlib.AbstractContextManager[Sink]]

#: The checks for both kinds; each takes a maker.
WRITABLE_CHECKS: list[Callable[[Maker], None]] = []

#: The checks for clogged makers.
CLOGGED_CHECKS: list[Callable[[Maker], None]] = []


def promise(function: Callable[[Maker], None]) -> Callable[[Maker], None]:
    """Make ``function`` a check of every writable."""
    WRITABLE_CHECKS.append(function)
    return function


def promise_clogged(function: Callable[[Maker], None]) -> Callable[[Maker], None]:
    """Make ``function`` a check of every clogged writable."""
    CLOGGED_CHECKS.append(function)
    return function


def listen(stream: Any, *events: str) -> list[str]:
    """Return a list to which names of events are appended."""
    found: list[str] = []
    for event in events:
        stream.on(event, lambda *args, event=event: found.append(event))
    return found


def write_all(sink: Sink, pieces: list[Any]) -> bytes:
    """Write ``pieces``, end, and return the data that the peer read."""

    def write() -> None:
        for piece in pieces:
            sink.stream.write(piece)
        sink.stream.end()

    writing = gevent.spawn(write)
    found = sink.collect()
    writing.get()
    return found


# -- writing ----------------------------------------------------------------------------------------------------------


@promise
def everything_arrives_in_order(make: Maker) -> None:
    pieces = [bytes([number % 256]) * (number * 37 % 5000) for number in range(100)]
    with make(sum(map(len, pieces))) as sink:
        assert write_all(sink, pieces) == b''.join(pieces)


@promise
def text_is_encoded(make: Maker) -> None:
    with make(7) as sink:

        def write() -> None:
            sink.stream.write('é')
            sink.stream.write('é', 'latin-1')
            sink.stream.write('é', encoding='utf-16-le')
            sink.stream.end('é')

        writing = gevent.spawn(write)
        assert sink.collect() == 'éé'.encode()[:2] + b'\xe9' + b'\xe9\0' + 'é'.encode()
        writing.get()


@promise
def bytes_like_objects_are_accepted(make: Maker) -> None:
    pieces = [
        b'a',
        bytearray(b'b'),
        memoryview(b'c'),
        memoryview(bytearray(b'd.'))[:1],
        array.array('B', b'e'),
        array.array('H', [0x6666]),
    ]
    with make(7) as sink:
        assert write_all(sink, pieces) == b'abcdeff'


@promise
def other_objects_are_rejected(make: Maker) -> None:
    with make(0) as sink:
        for wrong in (7, None, 1.5, ['x'], object()):
            with pytest.raises(TypeError):
                sink.stream.write(wrong)
        assert write_all(sink, []) == b''


@promise
def empty_writes_send_nothing(make: Maker) -> None:
    with make(2) as sink:
        assert write_all(sink, [b'', b'a', '', bytearray(), b'b', b'']) == b'ab'


@promise
def a_buffer_can_be_changed_after_the_write(make: Maker) -> None:
    with make(MANY * 4096) as sink:
        buffer = bytearray(4096)

        def write() -> None:
            for number in range(MANY):
                buffer[:] = bytes([number % 256]) * 4096
                sink.stream.write(memoryview(buffer) if number % 2 else buffer)
            buffer[:] = bytes(4096)
            sink.stream.end()

        gevent.spawn(write)
        settle()
        assert sink.collect() == b''.join(bytes([number % 256]) * 4096 for number in range(MANY))


@promise
def memory_is_bounded(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        longest = 0

        def write() -> None:
            nonlocal longest
            for _ in range(MANY):
                sink.stream.write(PIECE)
                longest = max(longest, sink.stream.writable_length)
            sink.stream.end()

        writing = gevent.spawn(write)
        settle()
        assert sink.collect() == PIECE * MANY
        writing.get()
        # the framing of messages adds some bytes
        assert longest <= sink.stream.writable_high_water_mark + len(PIECE) + 512


@promise
def several_writers_are_served_in_order(make: Maker) -> None:
    with make(30 * len(PIECE)) as sink:
        order: list[int] = []

        def write(number: int) -> None:
            for _ in range(10):
                sink.stream.write(bytes([number]) * len(PIECE))

        writers = [gevent.spawn(write, number) for number in range(3)]
        ending = gevent.spawn(lambda: (gevent.joinall(writers, raise_error=True), sink.stream.end()))
        found = sink.collect()
        ending.get()
        for start in range(0, len(found), len(PIECE)):
            piece = found[start : start + len(PIECE)]
            assert piece == piece[:1] * len(PIECE)
            order.append(piece[0])
        assert sorted(order) == sorted([0, 1, 2] * 10)


@promise
def callbacks_are_called_in_order_and_before_finish(make: Maker) -> None:
    with make(3 * len(PIECE)) as sink:
        happened = listen(sink.stream, 'finish')

        def write() -> None:
            for number in range(3):
                sink.stream.write(PIECE, callback=lambda number=number: happened.append(f'written {number}'))
            sink.stream.end(callback=lambda: happened.append('ended'))

        writing = gevent.spawn(write)
        sink.collect()
        writing.get()
        until(lambda: 'ended' in happened)
        assert happened == ['written 0', 'written 1', 'written 2', 'finish', 'ended']


# -- the end ----------------------------------------------------------------------------------------------------------


@promise
def end_takes_the_last_piece(make: Maker) -> None:
    with make(10) as sink:

        def write() -> None:
            sink.stream.write(b'01234')
            assert sink.stream.end(bytearray(b'56789')) is sink.stream

        writing = gevent.spawn(write)
        assert sink.collect() == b'0123456789'
        writing.get()


@promise
def end_alone_is_an_empty_stream(make: Maker) -> None:
    with make(0) as sink:
        assert write_all(sink, []) == b''


@promise
def finish_is_emitted_once_after_end(make: Maker) -> None:
    with make(len(PIECE)) as sink:
        stream = sink.stream
        happened = listen(stream, 'finish')
        gevent.spawn(stream.write, PIECE)
        settle()
        assert (stream.writable, stream.writable_ended, stream.writable_finished) == (True, False, False)
        ending = gevent.spawn(stream.end)
        settle()
        assert (stream.writable, stream.writable_ended) == (False, True)
        sink.collect()
        ending.get()
        until(lambda: happened)
        stream.end()
        settle()
        assert happened == ['finish']
        assert stream.writable_finished
        assert not stream.writable


@promise
def end_again_calls_its_callback(make: Maker) -> None:
    with make(0) as sink:
        happened: list[str] = []
        ending = gevent.spawn(sink.stream.end, callback=lambda: happened.append('first'))
        sink.collect()
        ending.get()
        until(lambda: happened)
        sink.stream.end(callback=lambda: happened.append('second'))
        until(lambda: len(happened) == 2)
        assert happened == ['first', 'second']


@promise
def writing_after_the_end_raises(make: Maker) -> None:
    with make(0) as sink:
        sink.stream.end()
        with pytest.raises((WriteAfterEnd, ConnectionClosed)):
            sink.stream.write(b'x')
        with pytest.raises((WriteAfterEnd, ConnectionClosed)):
            sink.stream.end(b'x')
        assert sink.collect() == b''


@promise
def a_finish_listener_cannot_write(make: Maker) -> None:
    with make(0) as sink:
        errors: list[BaseException] = []

        def on_finish() -> None:
            try:
                sink.stream.write(b'x')
            except Exception as error:
                errors.append(error)

        sink.stream.on('finish', on_finish)
        gevent.spawn(sink.stream.end)
        assert sink.collect() == b''
        until(lambda: errors)
        assert isinstance(errors[0], WriteAfterEnd | ConnectionClosed)


# -- corks ------------------------------------------------------------------------------------------------------------


@promise
def a_cork_queues_the_writes(make: Maker) -> None:
    with make(6) as sink:
        stream = sink.stream
        stream.cork()
        stream.cork()
        assert stream.writable_corked == 2
        assert stream.write(b'abc') is False
        assert stream.write(bytearray(b'def')) is False
        assert stream.writable_length >= 6
        stream.uncork()
        assert stream.writable_length >= 6
        writing = gevent.spawn(stream.uncork)
        settle()
        assert stream.writable_corked == 0
        ending = gevent.spawn(stream.end)
        assert sink.collect() == b'abcdef'
        gevent.joinall([writing, ending], raise_error=True)
        stream.uncork()
        assert stream.writable_corked == 0


@promise
def end_removes_the_cork(make: Maker) -> None:
    with make(6) as sink:
        sink.stream.cork()
        sink.stream.write(b'abc')
        ending = gevent.spawn(sink.stream.end, b'def')
        assert sink.collect() == b'abcdef'
        ending.get()


@promise
def a_cork_does_not_block_a_writer_for_ever(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        sink.stream.cork()
        assert write_all(sink, [PIECE] * MANY) == PIECE * MANY


# -- pipe -------------------------------------------------------------------------------------------------------------


@promise
def a_readable_can_be_piped_into_it(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        source = Readable.from_iterable([PIECE] * MANY)
        happened = listen(sink.stream, 'pipe', 'unpipe', 'finish')
        source.pipe(sink.stream)
        assert happened == ['pipe']
        settle()
        assert sink.collect() == PIECE * MANY
        until(lambda: 'finish' in happened)
        settle()
        assert sorted(happened) == ['finish', 'pipe', 'unpipe']


# -- destroying -------------------------------------------------------------------------------------------------------


@promise
def destroy_closes_once(make: Maker) -> None:
    with make(len(PIECE)) as sink:
        happened = listen(sink.stream, 'close', 'finish')
        with _no_switch():
            assert sink.stream.destroy() is sink.stream
            sink.stream.destroy()
        assert sink.stream.destroyed
        assert not sink.stream.writable
        until(lambda: happened)
        settle()
        assert happened == ['close']


@promise
def destroy_emits_its_error(make: Maker) -> None:
    with make(len(PIECE)) as sink:
        happened = listen(sink.stream, 'error', 'close', 'finish')
        errors: list[BaseException] = []
        sink.stream.on('error', errors.append)
        error = KeyError('enough')
        sink.stream.destroy(error)
        until(lambda: 'close' in happened)
        settle()
        assert happened == ['error', 'close']
        assert errors == [error]


@promise
def writing_after_destroy_raises(make: Maker) -> None:
    with make(len(PIECE)) as sink:
        sink.stream.destroy()
        with pytest.raises(ConnectionClosed):
            sink.stream.write(b'x')
        with pytest.raises(ConnectionClosed):
            sink.stream.end(b'x')
