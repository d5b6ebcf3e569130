"""Bodies that are far larger than the limits of memory, in both directions and in both ways of reading."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from geventnode.stream.readable import DEFAULT_HIGH_WATER_MARK
from tests.servers import Serve, get

PIECE = b'x' * 65536
PIECES = 800

#: The largest number of bytes in memory for one direction of one connection.
BOUND = 4 * DEFAULT_HIGH_WATER_MARK


def upload(client: Any) -> gevent.Greenlet:
    """Send a large chunked request."""

    def run() -> None:
        client.send(get('/', 'Transfer-Encoding: chunked', method='POST'))
        chunk = b'%x\r\n%b\r\n' % (len(PIECE), PIECE)
        for _ in range(PIECES):
            client.send(chunk)
        client.send(b'0\r\n\r\n')

    return gevent.spawn(run)


def held(request: Any) -> int:
    """Return the number of bytes of ``request`` in memory."""
    return int(request.socket._protocol.parser.buffered + request.readable_length)


def sequentially(request: Any, response: Any, most: list[int]) -> None:
    """Read with pauses."""
    total = 0
    for chunk in request:
        total += len(chunk)
        most[0] = max(most[0], held(request))
        if total % 16 == 0:
            gevent.sleep(0)
    response.end(str(total))


def by_events(request: Any, response: Any, most: list[int]) -> None:
    """Read by 'data' events, and pause after each chunk."""
    total = 0

    def on_data(chunk: bytes) -> None:
        nonlocal total
        total += len(chunk)
        most[0] = max(most[0], held(request))
        request.pause()
        gevent.spawn(request.resume)

    request.on('data', on_data)
    request.on('end', lambda: response.end(str(total)))


@pytest.mark.hangs_after(300)
@pytest.mark.parametrize('read', [sequentially, by_events])
def test_large_upload_is_never_in_memory(serve: Serve, read: Any) -> None:
    """With a slow reader."""
    most = [0]
    client = serve(lambda request, response: read(request, response, most)).connect()
    sending = upload(client)
    assert int(client.response().body) == PIECES * len(PIECE)
    sending.join()
    assert most[0] <= BOUND


@pytest.mark.hangs_after(300)
def test_large_download_is_never_in_memory(serve: Serve) -> None:
    """With a slow client, and a listener that ignores the result of ``write``."""
    most = 0

    def listener(request: Any, response: Any) -> None:
        nonlocal most
        for _ in range(PIECES):
            response.write(PIECE)
            most = max(most, response.writable_length)
        response.end()

    client = serve(listener).connect(receive_buffer=65536).send(get('/', version='1.0'))
    client.head()
    total = 0
    while data := client.receive():
        total += len(data)
    assert total == PIECES * len(PIECE)
    assert most <= BOUND


@pytest.mark.hangs_after(300)
def test_large_echo_is_never_in_memory(serve: Serve) -> None:
    """``request.pipe(response)`` reads no faster than it can write."""
    most = 0

    def listener(request: Any, response: Any) -> None:
        def look(chunk: bytes) -> None:
            nonlocal most
            most = max(most, held(request) + response.writable_length)

        request.pipe(response)
        request.on('data', look)

    client = serve(listener).connect()
    sending = upload(client)
    assert len(client.response().body) == PIECES * len(PIECE)
    sending.join()
    assert most <= 2 * BOUND
