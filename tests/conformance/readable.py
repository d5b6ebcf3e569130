"""Checks of every readable, for each sentence of the docstrings of ``geventnode.stream.Readable``.

A maker takes the number of bytes of the whole stream, and returns a context manager that yields a :class:`Source`.
There are two kinds of makers. The buffers of free ones are never full. Clogged ones have a high-water mark of a few
bytes, so that the source is paused and resumed all the time. This module has the checks of sequential reads and of
text; events and incomplete streams have modules of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gevent
import pytest

from geventnode.errors import StreamModeError
from tests.sockets import settle, until

__all__ = [
    'BODY',
    'ENCODED',
    'HELD_BACK_CHECKS',
    'READABLE_CHECKS',
    'TEXT',
    'Maker',
    'Source',
    'fed',
    'listen',
    'promise',
    'promise_held_back',
]

BODY = bytes(range(256)) * 40
TEXT = 'aé€😀\n' * 5
ENCODED = TEXT.encode()


class Source(NamedTuple):
    """A stream and the control over its data."""

    stream: Any
    #: Make bytes arrive soon, without blocking.
    feed: Callable[[bytes], object]
    #: End the stream after the fed bytes.
    finish: Callable[[], object]
    #: Cut the stream off after the fed bytes.
    cut: Callable[[], object]


Maker = Callable[[int], contextlib.AbstractContextManager[Source]]

#: The checks; each takes a maker.
READABLE_CHECKS: list[Callable[[Maker], None]] = []


#: The checks for makers with a source that can be paused.
HELD_BACK_CHECKS: list[Callable[[Maker], None]] = []


def promise(function: Callable[[Maker], None]) -> Callable[[Maker], None]:
    """Make ``function`` a check of every readable."""
    READABLE_CHECKS.append(function)
    return function


def promise_held_back(function: Callable[[Maker], None]) -> Callable[[Maker], None]:
    """Make ``function`` a check of every readable with a source that can be paused."""
    HELD_BACK_CHECKS.append(function)
    return function


@contextlib.contextmanager
def fed(make: Maker, body: bytes = BODY, pieces: int = 1) -> Iterator[Any]:
    """Yield a stream with the data ``body``."""
    with make(len(body)) as source:
        size = -(-len(body) // pieces)
        for start in range(0, len(body), size):
            source.feed(body[start : start + size])
        source.finish()
        yield source.stream


def listen(stream: Any, *events: str) -> list[Any]:
    """Return a list to which names of events, and chunks, are appended."""
    found: list[Any] = []
    for event in events:
        stream.on(event, lambda *args, event=event: found.append(args[0] if event == 'data' else event))
    return found


# -- sequential -------------------------------------------------------------------------------------------------------


@promise
def read_returns_all_data(make: Maker) -> None:
    with fed(make, pieces=7) as stream:
        assert stream.readable
        assert stream.read() == BODY
        assert not stream.readable


@promise
def reads_after_the_end_are_empty(make: Maker) -> None:
    with fed(make) as stream:
        stream.read()
        assert stream.readable_ended
        for _ in range(2):
            assert (stream.read(), stream.read(5), stream.read1(), stream.readinto(bytearray(5)), list(stream)) == (
                b'',
                b'',
                b'',
                0,
                [],
            )


@promise
def read_returns_exactly_the_given_size(make: Maker) -> None:
    with fed(make, pieces=333) as stream:
        found = [stream.read(size) for size in (1, 2, 0, 100, 5000)]
        assert [len(piece) for piece in found] == [1, 2, 0, 100, 5000]
        rest = stream.read(len(BODY))
        assert b''.join(found) + rest == BODY


@promise
def read_of_the_exact_rest_returns_it(make: Maker) -> None:
    with fed(make, pieces=3) as stream:
        assert stream.read(len(BODY)) == BODY
        assert stream.read(1) == b''
        assert stream.readable_ended


@promise
def read_waits_until_it_has_enough(make: Maker) -> None:
    with make(10) as source:
        reading = gevent.spawn(source.stream.read, 10)
        source.feed(b'01234')
        settle()
        assert not reading.ready()
        source.feed(b'56789')
        assert reading.get() == b'0123456789'


@promise
def read_returns_less_only_at_the_end(make: Maker) -> None:
    with make(5) as source:
        reading = gevent.spawn(source.stream.read, 10)
        source.feed(b'0123')
        settle()
        assert not reading.ready()
        source.feed(b'4')
        source.finish()
        assert reading.get() == b'01234'


@promise
def read1_returns_the_available_bytes(make: Maker) -> None:
    with make(10) as source:
        reading = gevent.spawn(source.stream.read1)
        settle()
        assert not reading.ready()
        source.feed(b'01234')
        first = reading.get()
        assert first
        assert b'01234'.startswith(first)


@promise
def read1_returns_at_most_the_given_size(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        found = [b'x']
        while found[-1]:
            found.append(stream.read1(3))
        assert max(map(len, found)) <= 3
        assert b''.join(found[1:]) == BODY


@promise
def reading_zero_bytes_returns_nothing(make: Maker) -> None:
    with fed(make) as stream:
        assert (stream.read1(0), stream.read(0)) == (b'', b'')
        assert not stream.readable_ended
        assert stream.read() == BODY


@promise
def readinto_fills_from_the_start(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        found = bytearray()
        buffer = bytearray(100)
        while size := stream.readinto(buffer):
            found += buffer[:size]
        assert found == BODY


@promise
def readinto_takes_a_memoryview(make: Maker) -> None:
    with fed(make) as stream:
        buffer = bytearray(b'....')
        assert stream.readinto(memoryview(buffer)[1:3]) in (1, 2)
        assert (buffer[:2], buffer[3:]) == (b'.\0', b'.')


@promise
def iteration_yields_chunks_until_the_end(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        chunks = list(stream)
        assert all(chunks)
        assert b''.join(chunks) == BODY


@promise
def iteration_can_be_left_and_begun_again(make: Maker) -> None:
    with fed(make, pieces=5) as stream:
        first = next(iter(stream))
        assert first + b''.join(stream) == BODY


@promise
def makefile_gives_lines(make: Maker) -> None:
    with fed(make, b'one\ntwo\r\n\nlast', pieces=4) as stream, stream.makefile() as file:
        assert list(file) == [b'one\n', b'two\r\n', b'\n', b'last']
        assert file.read() == b''


@promise
def closing_a_file_leaves_the_stream(make: Maker) -> None:
    with make(10) as source:
        source.stream.makefile().close()
        assert not source.stream.destroyed
        source.feed(b'0123456789')
        source.finish()
        assert source.stream.read() == b'0123456789'


@promise
def two_readers_at_once_are_rejected(make: Maker) -> None:
    with make(5) as source:
        stream = source.stream
        reading = gevent.spawn(stream.read)
        until(lambda: stream._reading)
        for call in (stream.read, stream.read1, lambda: stream.readinto(bytearray(1)), lambda: next(iter(stream))):
            with pytest.raises(StreamModeError):
                call()
        source.feed(b'01234')
        source.finish()
        assert reading.get() == b'01234'


@promise
def end_is_emitted_once_after_everything(make: Maker) -> None:
    with fed(make, pieces=3) as stream:
        happened = listen(stream, 'end')
        stream.read(len(BODY) - 1)
        settle()
        assert happened == []
        stream.read()
        stream.read()
        settle()
        assert happened == ['end']


@promise
def readable_length_counts_the_buffered_bytes(make: Maker) -> None:
    with make(10) as source:
        source.feed(b'0123456789')
        source.stream.read(3)
        settle()
        assert source.stream.readable_length == 7
        source.finish()
        assert source.stream.read() == b'3456789'
        assert source.stream.readable_length == 0


@promise_held_back
def memory_is_bounded_without_a_reader(make: Maker) -> None:
    body = BODY * 200
    with fed(make, body, pieces=100) as stream:
        settle()
        assert stream.readable_length <= stream.readable_high_water_mark + 65536
        assert stream.read() == body


# -- text -------------------------------------------------------------------------------------------------------------


@promise
def characters_cut_by_chunk_borders_are_put_together(make: Maker) -> None:
    with make(len(ENCODED)) as source:
        assert source.stream.set_encoding('utf-8') is source.stream
        reading = gevent.spawn(source.stream.read)
        for byte in ENCODED:
            source.feed(bytes([byte]))
            gevent.idle()
        source.finish()
        assert reading.get() == TEXT


@promise
def sizes_count_characters(make: Maker) -> None:
    with fed(make, ENCODED, pieces=len(ENCODED)) as stream:
        stream.set_encoding('utf-8')
        found = [stream.read(size) for size in (1, 2, 3, 4)]
        assert [len(piece) for piece in found] == [1, 2, 3, 4]
        assert len(stream.read1(1)) == 1
        assert ''.join(found) == TEXT[:10]
        assert stream.read() == TEXT[11:]


@promise
def the_end_of_text_is_an_empty_string(make: Maker) -> None:
    with fed(make, ENCODED) as stream:
        stream.set_encoding('utf-8')
        assert ''.join(stream) == TEXT
        assert (stream.read(), stream.read1(), stream.read(0)) == ('', '', '')


@promise
def encoding_can_be_set_in_the_middle(make: Maker) -> None:
    with fed(make, b'head:' + ENCODED) as stream:
        assert stream.read(5) == b'head:'
        stream.set_encoding('utf-8')
        assert stream.read() == TEXT


@promise
def undecodable_bytes_raise(make: Maker) -> None:
    with fed(make, b'abc\xffdef', pieces=7) as stream:
        stream.set_encoding('utf-8')
        for _ in range(3):
            with pytest.raises(UnicodeDecodeError):
                stream.read()
        assert not stream.readable_ended


@promise
def undecodable_buffered_bytes_raise(make: Maker) -> None:
    with fed(make, b'abc\xffdef') as stream:
        stream.read(1)
        stream.set_encoding('utf-8')
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError):
                stream.read()


@promise
def a_character_cut_by_the_end_raises(make: Maker) -> None:
    with fed(make, 'é'.encode()[:1]) as stream:
        stream.set_encoding('utf-8')
        happened = listen(stream, 'end')
        with pytest.raises(UnicodeDecodeError):
            stream.read()
        assert happened == []


@promise
def text_is_not_binary(make: Maker) -> None:
    with fed(make, ENCODED) as stream:
        stream.set_encoding('utf-8')
        with pytest.raises(TypeError):
            stream.readinto(bytearray(5))
        with pytest.raises(TypeError):
            stream.makefile()
        assert stream.read() == TEXT


@promise
def an_unknown_encoding_is_rejected(make: Maker) -> None:
    with fed(make) as stream:
        with pytest.raises(LookupError):
            stream.set_encoding('klingon')
        assert stream.read() == BODY


@promise
def data_events_carry_text(make: Maker) -> None:
    with fed(make, ENCODED, pieces=len(ENCODED)) as stream:
        stream.set_encoding('utf-8')
        happened = listen(stream, 'data', 'end')
        until(lambda: 'end' in happened)
        assert ''.join(happened) == TEXT + 'end'
