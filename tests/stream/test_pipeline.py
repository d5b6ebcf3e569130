"""``pipeline`` and ``finished``: the parts end together, and the caller gets the first error."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.errors import ConnectionClosed, PrematureClose
from geventnode.stream import Duplex, Readable, Writable, finished, pipeline
from tests.servers import GUARD
from tests.sockets import Feeder, Taker, pair, reset, settle, until


def _upper() -> Duplex:
    """Return a transform."""

    def write(data: bytes) -> None:
        stream.push(data.upper())

    stream = Duplex(write=write, final=lambda: stream.push(None))
    return stream


def _stuck() -> Writable:
    """Return a writable with a function that never returns."""
    return Writable(lambda data: gevent.sleep(1000))


# -- pipeline ---------------------------------------------------------------------------------------------------------


def test_all_chunks_pass_through() -> None:
    chunks: list[bytes] = []
    last = Writable(chunks.append)
    assert pipeline([b'ab', 'c'], _upper(), last) is last
    assert b''.join(chunks) == b'ABC'
    assert last.writable_finished


def test_a_readable_is_a_source() -> None:
    chunks: list[bytes] = []
    source = Readable.from_iterable([b'ab'])
    pipeline(source, Writable(chunks.append))
    assert chunks == [b'ab']
    assert source.readable_ended


def test_a_callback_is_called_with_none() -> None:
    outcome: list[Any] = []
    last = Writable(lambda data: None)
    assert pipeline([b'ab'], last, callback=outcome.append) is last
    assert outcome == []
    until(lambda: outcome)
    assert outcome == [None]


def test_an_error_of_the_source_destroys_every_part() -> None:
    def source() -> Any:
        yield b'ab'
        raise KeyError('x')

    middle, last = _upper(), Writable(lambda data: None)
    with pytest.raises(KeyError):
        pipeline(source(), middle, last)
    assert middle.destroyed
    assert last.destroyed
    assert not last.writable_finished


def test_failed_pipeline_closes_its_generator() -> None:
    released: list[bool] = []

    def source() -> Any:
        try:
            yield b'ab'
            yield b'cd'
        finally:
            released.append(True)

    def fail(data: bytes) -> None:
        raise KeyError('x')

    # the traceback of its error refers to the generator
    with pytest.raises(KeyError):
        pipeline(source(), Writable(fail))
    settle()
    assert released == [True]


def test_an_error_of_the_destination_destroys_every_part() -> None:
    def fail(data: bytes) -> None:
        raise KeyError('x')

    source, middle = Readable.from_iterable([b'ab']), _upper()
    with pytest.raises(KeyError):
        pipeline(source, middle, Writable(fail))
    assert source.destroyed
    assert middle.destroyed


def test_an_error_at_the_very_end_is_raised() -> None:
    def fail() -> None:
        raise KeyError('x')

    last = Writable(lambda data: None, final=fail)
    with pytest.raises(KeyError):
        pipeline([b'ab'], last)
    assert not last.writable_finished


def test_the_callback_gets_the_error() -> None:
    outcome: list[Any] = []

    def fail(data: bytes) -> None:
        raise KeyError('x')

    pipeline([b'ab'], Writable(fail), callback=outcome.append)
    until(lambda: outcome)
    assert isinstance(outcome[0], KeyError)


def test_the_callback_gets_the_timeout() -> None:
    outcome: list[Any] = []
    last = _stuck()
    pipeline([b'ab'], last, callback=outcome.append, timeout=0.001)
    until(lambda: outcome)
    assert isinstance(outcome[0], gevent.Timeout)
    assert last.destroyed


def test_a_timeout_destroys_every_part() -> None:
    source, last = Readable.from_iterable([b'ab']), _stuck()
    with pytest.raises(gevent.Timeout):
        pipeline(source, last, timeout=0.001)
    assert source.destroyed
    assert last.destroyed


def test_timeout_in_a_part_is_raised() -> None:
    """Also one in a stream that is not destroyed by it."""

    class Late(Writable):
        def write(self, *args: Any, **options: Any) -> bool:
            raise gevent.Timeout(7)

    for last in (Late(lambda data: None), Writable(Late(lambda data: None).write)):
        source = Readable.from_iterable([b'ab'])
        with pytest.raises(gevent.Timeout, match='7 seconds'):
            pipeline(source, last, timeout=GUARD)
        assert (source.destroyed, last.destroyed) == (True, True)


def test_killing_the_waiter_destroys_every_part() -> None:
    source, last = Readable(), Writable(lambda data: None)
    waiting = gevent.spawn(pipeline, source, last)
    settle()
    waiting.kill()
    assert source.destroyed
    assert last.destroyed


def test_a_destroyed_source_is_premature() -> None:
    source, last = Readable(), Writable(lambda data: None)
    waiting = gevent.spawn(pipeline, source, last)
    settle()
    source.destroy()
    with pytest.raises(PrematureClose):
        waiting.get()
    assert last.destroyed


@pytest.mark.parametrize('which', [0, 1, 2])
def test_a_part_that_is_closed_while_the_source_is_silent(which: int) -> None:
    parts = [Readable(), _upper(), Writable(lambda data: None)]
    waiting = gevent.spawn(pipeline, *parts)
    settle()
    parts[which].destroy(KeyError('gone'))
    with pytest.raises(KeyError):
        waiting.get()
    assert all(part.destroyed for part in parts)


def test_a_source_that_was_destroyed_before_is_premature() -> None:
    with pytest.raises(PrematureClose):
        pipeline(Readable().destroy(), Writable(lambda data: None))


@pytest.mark.parametrize('parts', [(), ([b''],)])
def test_a_pipeline_has_at_least_two_streams(parts: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match='a source and a destination'):
        pipeline(*parts)


def test_the_source_must_be_readable() -> None:
    with pytest.raises(TypeError, match='must be readable, not int'):
        pipeline(7, Writable(lambda data: None))


def test_pipeline_through_sockets() -> None:
    with pair() as (source, far_source), pair() as (last, far_last):
        feeder, taker = Feeder(far_source), Taker(far_last)
        feeder.send(b'x' * 1000000)
        feeder.end()
        waiting = gevent.spawn(pipeline, source, _upper(), last)
        assert taker.all() == b'X' * 1000000
        waiting.get()


def test_a_source_that_is_reset() -> None:
    with pair() as (source, far):
        last = Writable(lambda data: None)
        waiting = gevent.spawn(pipeline, source, last)
        settle()
        reset(far)
        with pytest.raises(ConnectionError):
            waiting.get()
        assert last.destroyed


# -- finished ---------------------------------------------------------------------------------------------------------


def test_a_readable_is_finished_when_everything_was_consumed() -> None:
    stream = Readable()
    waiting = gevent.spawn(finished, stream)
    stream.push(b'x')
    stream.push(None)
    settle()
    assert not waiting.ready()
    stream.resume()
    assert waiting.get() is None
    assert finished(stream) is None


def test_a_writable_is_finished_when_everything_was_written() -> None:
    gate = Event()
    stream = Writable(lambda data: gate.wait())
    writing = gevent.spawn(stream.end, b'x')
    waiting = gevent.spawn(finished, stream)
    settle()
    assert not waiting.ready()
    gate.set()
    waiting.get()
    writing.get()


@pytest.mark.parametrize(('error', 'expected'), [(None, PrematureClose), (KeyError('x'), KeyError)])
@pytest.mark.parametrize('make', [Readable, lambda: Writable(print), Duplex])
def test_a_destroyed_stream_is_not_finished(make: Any, error: Any, expected: type[Exception]) -> None:
    stream = make()
    waiting = gevent.spawn(finished, stream)
    settle()
    stream.destroy(error)
    with pytest.raises(expected):
        waiting.get()
    with pytest.raises(expected):
        finished(stream)


def test_the_callback_is_called_once() -> None:
    outcome: list[Any] = []
    stream = Readable()
    finished(stream, outcome.append)
    stream.push(None)
    stream.resume()
    settle()
    stream.destroy()
    settle()
    assert outcome == [None]


def test_the_callback_can_be_cancelled() -> None:
    outcome: list[Any] = []
    stream = Readable()
    cancel = finished(stream, outcome.append)
    cancel()
    stream.destroy()
    settle()
    assert outcome == []
    assert stream.event_names() == []


def test_a_killed_waiter_leaves_no_listener() -> None:
    stream = Readable()
    waiting = gevent.spawn(finished, stream)
    settle()
    waiting.kill()
    assert stream.event_names() == []


def test_one_side_can_be_ignored() -> None:
    with pair(allow_half_open=True) as (socket, far):
        socket.end()
        assert finished(socket, readable=False) is None
        waiting = gevent.spawn(finished, socket)
        far.close()
        socket.read()
        waiting.get()


def test_a_socket_that_is_reset_is_not_finished() -> None:
    with pair() as (socket, far):
        waiting = gevent.spawn(finished, socket)
        settle()
        reset(far)
        with pytest.raises(ConnectionResetError):
            waiting.get()


def test_a_socket_destroyed_by_its_owner_is_not_finished() -> None:
    with pair() as (socket, _):
        waiting = gevent.spawn(finished, socket)
        settle()
        socket.destroy()
        with pytest.raises((PrematureClose, ConnectionClosed)):
            waiting.get()
