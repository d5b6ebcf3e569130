"""Checks of every writable while the peer reads nothing."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode.errors import ConnectionClosed
from tests.conformance.writable import MANY, PIECE, Maker, listen, promise_clogged, write_all
from tests.sockets import settle, until


def fill(stream: Any) -> int:
    """Write pieces until some data is queued, so that ``'drain'`` follows; return the number of written bytes."""
    written = 0
    full = False

    def write() -> None:
        nonlocal written
        while not full:
            written += len(PIECE)
            if not stream.write(PIECE):
                return

    writing = gevent.spawn(write)
    while not stream.writable_length:
        if writing.ready():
            # the kernel has taken the queue after the last write: its buffers were not yet full
            writing = gevent.spawn(write)
        settle()
    full = True
    if not writing.ready():
        # the function of a Writable has the first piece, and the writer waits for it
        assert stream.write(PIECE) is False
        written += len(PIECE)
    return written


@promise_clogged
def drain_follows_a_false_once(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        stream = sink.stream
        drained: list[int] = []
        stream.on('drain', lambda: drained.append(stream.writable_length))
        written = fill(stream)
        assert stream.writable_need_drain
        assert drained == []
        sink.unclog()
        until(lambda: drained)
        settle()
        assert drained == [0]
        assert not stream.writable_need_drain
        assert stream.writable_length == 0
        assert write_all(sink, [bytes(MANY * len(PIECE) - written)])[:written] == PIECE * (written // len(PIECE))


@promise_clogged
def a_drain_listener_can_write_and_end(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        stream = sink.stream
        written = fill(stream)
        rest = MANY * len(PIECE) - written

        @stream.once('drain')
        def write_rest() -> None:
            stream.write(bytes(rest))
            stream.end()

        assert sink.collect() == PIECE * (written // len(PIECE)) + bytes(rest)
        until(lambda: stream.writable_finished)


@promise_clogged
def destroy_wakes_the_writers(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        fill(sink.stream)
        error = KeyError('enough')
        writers = [gevent.spawn(sink.stream.write, PIECE) for _ in range(3)]
        settle()
        waiting = [each for each in writers if not each.ready()]
        assert waiting
        sink.stream.destroy(error)
        for each in waiting:
            with pytest.raises(ConnectionClosed) as caught:
                each.get()
            assert caught.value.__cause__ is error
        assert sink.stream.writable_length == 0


@promise_clogged
def a_disconnect_wakes_the_writers(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        fill(sink.stream)
        writers = [gevent.spawn(sink.stream.write, PIECE) for _ in range(3)]
        settle()
        waiting = [each for each in writers if not each.ready()]
        assert waiting
        sink.cut()
        for each in waiting:
            with pytest.raises(ConnectionClosed):
                each.get()
        with pytest.raises(ConnectionClosed):
            sink.stream.write(b'x')


@promise_clogged
def a_killed_writer_does_not_affect_others(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        written = fill(sink.stream)
        first, second = (gevent.spawn(sink.stream.write, bytes([number]) * 100) for number in range(2))
        settle()
        late = [each for each in (first, second) if not each.ready()]
        first.kill()
        sink.unclog()
        second.get()
        lost = 100 if first in late else 0
        rest = MANY * len(PIECE) - written - 200 + lost
        found = write_all(sink, [bytes(rest)])
        assert len(found) == MANY * len(PIECE)
        assert found[written:].count(b'\1' * 100) == 1


@promise_clogged
def a_timeout_leaves_the_stream_usable(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        written = fill(sink.stream)
        late = True
        with gevent.Timeout(0.001, False):
            sink.stream.write(b'x' * 100)
            late = False
        if not late:
            written += 100
        assert len(write_all(sink, [bytes(MANY * len(PIECE) - written)])) == MANY * len(PIECE)


@promise_clogged
def a_callback_waits_for_its_chunk(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        written = fill(sink.stream)
        happened: list[str] = []
        writing = gevent.spawn(sink.stream.write, PIECE, callback=lambda: happened.append('written'))
        settle()
        assert happened == []
        sink.unclog()
        writing.get()
        until(lambda: happened)
        assert len(write_all(sink, [bytes(MANY * len(PIECE) - written - len(PIECE))])) == MANY * len(PIECE)
        assert happened == ['written']


@promise_clogged
def end_waits_for_the_queue(make: Maker) -> None:
    with make(MANY * len(PIECE)) as sink:
        written = fill(sink.stream)
        happened = listen(sink.stream, 'finish', 'drain')
        rest = MANY * len(PIECE) - written
        ending = gevent.spawn(sink.stream.end, bytes(rest))
        settle()
        assert happened == []
        assert len(sink.collect()) == MANY * len(PIECE)
        ending.get()
        until(lambda: 'finish' in happened)
        assert happened.count('finish') == 1
