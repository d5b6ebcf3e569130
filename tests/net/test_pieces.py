"""Test that pieces of output arrive in their order if the kernel takes only a part of them."""

from __future__ import annotations

import random
from typing import Any

import gevent
import pytest

from geventnode.errors import ConnectionClosed
from tests.sockets import Taker, pair, until

FAMILIES = ['tcp', 'unix', 'tls', 'memory']


def pieces_of(data: bytes, sizes: list[int]) -> list[Any]:
    """Return ``data`` in pieces, every second one a view; the sizes are repeated."""
    view, found = memoryview(data), []
    while view:
        size = sizes[len(found) % len(sizes)]
        found.append(view[:size] if len(found) % 2 else bytes(view[:size]))
        view = view[size:]
    return found


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('sizes', [[9, 16384], [9], [1, 100_000, 7]], ids=str)
def test_pieces_arrive_in_order(family: str, sizes: list[int], seed: int) -> None:
    """The first call finds room, the second one takes a part, and the others are queued."""
    data = random.Random(seed).randbytes(1_200_000)
    with pair(family, small=True) as (near, far):
        taker = Taker(far)
        results = []
        for start in range(0, len(data), 100_000):
            part = data[start : start + 100_000]
            results.append(near._send_pieces(pieces_of(part, sizes), len(part)))
            assert results[-1] == (not near._has_queued)
        assert not all(results)
        assert near.bytes_written == len(data)
        taker.start()
        until(lambda: not near.writable_length)
        near.end()
        assert taker.all() == data


@pytest.mark.parametrize('family', FAMILIES)
def test_more_pieces_than_one_system_call_takes(family: str, seed: int) -> None:
    data = random.Random(seed).randbytes(1025 * 2048)
    with pair(family) as (near, far):
        taker = Taker(far)
        taker.start()
        near._send_pieces(pieces_of(data, [2048]), len(data))
        until(lambda: not near.writable_length)
        near.end()
        assert taker.all() == data


@pytest.mark.parametrize('family', FAMILIES)
def test_destroyed_socket_takes_no_pieces(family: str) -> None:
    with pair(family) as (near, _):
        near.destroy()
        with pytest.raises(ConnectionClosed):
            near._send_pieces([b'x' * 9000, b'y' * 9000], 18_000)
        with pytest.raises(ConnectionClosed):
            near._send_pieces([b'x', b'y'], 2)


@pytest.mark.parametrize('family', ['tcp', 'unix'])
def test_pieces_to_a_closed_peer(family: str) -> None:
    """The socket ends as with any other failure to send."""
    pieces = [b'x' * 20_000, b'y' * 20_000]
    with pair(family) as (near, far):
        far.close()
        errors = 0
        while not errors:
            try:
                near._send_pieces(pieces, 40_000)
                gevent.idle()
            except ConnectionClosed:
                errors += 1
        with pytest.raises(ConnectionClosed):
            near._send_pieces(pieces, 40_000)
