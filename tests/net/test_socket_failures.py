"""Test failing sockets: resets, timeouts, calls from other threads, late writers."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event

from geventnode.errors import ConnectionClosed, WriteAfterEnd, WrongThread
from tests.other_threads import in_another_thread
from tests.sockets import pair, reset, settle, until

#: Much more than the kernel's buffers hold.
MUCH = bytes(range(256)) * 16384


def test_reset_while_reading() -> None:
    with pair() as (socket, far):
        reading = gevent.spawn(socket.read)
        settle()
        reset(far)
        with pytest.raises(ConnectionClosed) as caught:
            reading.get()
        assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_reset_while_writing() -> None:
    with pair(small=True) as (socket, far):
        socket.write(MUCH)
        writing = gevent.spawn(socket.write, b'x')
        settle()
        reset(far)
        with pytest.raises(ConnectionClosed):
            writing.get()


def test_reset_while_idle_is_emitted() -> None:
    with pair() as (socket, far):
        errors: list[BaseException] = []
        socket.on('error', errors.append)
        reset(far)
        until(lambda: errors)
        assert isinstance(errors[0], ConnectionResetError)
        with pytest.raises(ConnectionClosed):
            socket.write(b'x')


def test_data_before_a_reset_can_be_read() -> None:
    with pair() as (socket, far):
        far.sendall(b'abc')
        until(lambda: socket.readable_length == 3)
        reset(far)
        until(lambda: socket.destroyed)
        assert socket.read(3) == b'abc'
        with pytest.raises(ConnectionClosed):
            socket.read(1)
        assert not socket.readable_ended


# -- timeouts -------------------------------------------------------------------------------------------------------


def test_a_timeout_is_never_early_and_comes_once() -> None:
    with pair() as (socket, _):
        happened: list[float] = []
        began = monotonic()
        assert socket.set_timeout(0.01) is socket
        socket.on('timeout', lambda: happened.append(monotonic() - began))
        other = Event()
        socket.once('timeout', other.set)
        other.wait()
        settle()
        assert len(happened) == 1
        assert happened[0] >= 0.01
        assert not socket.destroyed


def test_a_timeout_comes_again_after_traffic() -> None:
    with pair() as (socket, far):
        happened: list[str] = []
        socket.set_timeout(0.001).on('timeout', lambda: happened.append('timeout'))
        until(lambda: happened)
        far.sendall(b'x')
        assert socket.read(1) == b'x'
        until(lambda: len(happened) == 2)


def test_the_callback_of_a_timeout_is_called_once(must_call: Callable[..., Any]) -> None:
    with pair() as (socket, _):
        over = Event()
        socket.set_timeout(0.001, must_call(over.set))
        over.wait()
        assert socket.listener_count('timeout') == 0


@pytest.mark.parametrize('off', [0, None])
def test_a_timeout_can_be_taken_back(off: float | None) -> None:
    with pair() as (socket, _):
        happened: list[str] = []
        socket.on('timeout', lambda: happened.append('timeout'))
        socket.set_timeout(0.001).set_timeout(off)
        assert socket.timeout is None
        over = Event()
        with pair() as (other, _):
            other.set_timeout(0.002, over.set)
            over.wait()
        assert happened == []


@pytest.mark.parametrize('wrong', [-1, float('inf'), float('nan')])
def test_a_timeout_must_be_a_time(wrong: float) -> None:
    with pair() as (socket, _), pytest.raises(ValueError, match='finite'):
        socket.set_timeout(wrong)


def test_what_arrived_while_the_loop_was_blocked_counts_before_the_timeout() -> None:
    with pair() as (socket, far):
        happened: list[str] = []
        socket.set_timeout(0.05).on('timeout', lambda: happened.append('timeout'))
        # on a slow machine another 0.05 s can pass before the test ends
        socket.on('data', lambda data: (happened.append('data'), socket.set_timeout(None)))
        settle()
        far.setblocking(False)
        far.send(b'x')
        until_then = monotonic() + 0.06
        while monotonic() < until_then:
            pass
        until(lambda: happened)
        assert happened == ['data']


# -- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'use',
    [
        lambda socket: socket.read(),
        lambda socket: socket.write(b'x'),
        lambda socket: socket.end(),
        lambda socket: socket.resume(),
        lambda socket: socket.set_timeout(1),
        lambda socket: socket.destroy(),
    ],
    ids=['read', 'write', 'end', 'resume', 'set_timeout', 'destroy'],
)
def test_use_from_another_thread(use: Callable[[Any], Any]) -> None:
    with pair() as (socket, _):
        with pytest.raises(WrongThread) as raised:
            in_another_thread(use, socket)
        assert raised.type is WrongThread


def test_no_data_is_written_after_that_of_end() -> None:
    with pair(small=True) as (near, far):
        written = 0
        while near.writable_length < near.writable_high_water_mark:
            near.write(bytes(65536))
            written += 65536
        waiting = gevent.spawn(near.write, b'waiting')
        settle()
        near.end(b'last')
        assert near.writable_ended
        with pytest.raises(WriteAfterEnd):
            near.write(b'late')
        received = bytearray()
        while data := far.recv(65536):
            received += data
        assert received == bytes(written) + b'last'
        with pytest.raises(WriteAfterEnd):
            waiting.get()


def test_data_given_to_end_after_the_peers_end_is_refused() -> None:
    with pair() as (near, far):
        refused: list[BaseException] = []

        @near.on('end')
        def answer() -> None:
            with pytest.raises(ConnectionClosed) as caught:
                near.end(b'too late')
            refused.append(caught.value)

        near.resume()
        far.shutdown(gevent.socket.SHUT_WR)
        until(lambda: refused)
        assert 'ended by the other party' in str(refused[0])
