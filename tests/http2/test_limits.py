"""Test the limits by name: a client that exceeds one loses its connection, and others notice nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.http2.codes import ErrorCode
from tests.http2.client import Client, Connect
from tests.servers import ok

CALM = ErrorCode.ENHANCE_YOUR_CALM
PING = b'\x00\x00\x08\x06\x00\x00\x00\x00\x00abcdefgh'
SETTINGS = b'\x00\x00\x00\x04\x00\x00\x00\x00\x00'
PRIORITY = b'\x00\x00\x05\x02\x00\x00\x00\x00\x01\x00\x00\x00\x00\x10'
UNKNOWN = b'\x00\x00\x00\x63\x00\x00\x00\x00\x00'
WINDOW_UPDATE = b'\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01'


def frame(kind: int, flags: int, number: int, payload: bytes = b'') -> bytes:
    return len(payload).to_bytes(3, 'big') + bytes((kind, flags)) + number.to_bytes(4, 'big') + payload


def flood_resets(client: Client) -> None:
    for _ in range(12):
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, client.head('GET', '/'), end_stream=True)
        client.h2.reset_stream(number, 8)
    client.flush_acks()


def flood_malformed(client: Client) -> None:
    for _ in range(12):
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, [*client.head('GET', '/'), (b'connection', b'x')], end_stream=True)
    client.flush_acks()


def flood_empty_data(client: Client) -> None:
    number = client.start('POST', '/')
    client.send_raw(frame(0, 0, number) * 12)


def flood_continuations(client: Client) -> None:
    block = client.h2.encoder.encode(client.head('GET', '/'))
    client.send_raw(frame(1, 1, 1, block) + frame(9, 0, 1, b'\x00') * 12)


def flood_header_list(client: Client) -> None:
    # one indexed field, repeated: 8 KiB of bytes are a list of 8 MiB
    block = client.h2.encoder.encode([*client.head('GET', '/'), (b'x-bomb', b'x' * 1000)])
    client.send_raw(frame(1, 5, 1, block + b'\xbe' * 8000))


FLOODS: dict[str, tuple[str, Callable[[Client], None]]] = {
    'pings': ('http2_max_control_frames', lambda client: client.send_raw(PING * 12)),
    'settings': ('http2_max_control_frames', lambda client: client.send_raw(SETTINGS * 12)),
    'priorities': ('http2_max_control_frames', lambda client: client.send_raw(PRIORITY * 12)),
    'unknown frames': ('http2_max_control_frames', lambda client: client.send_raw(UNKNOWN * 12)),
    'window updates': ('http2_max_window_updates', lambda client: client.send_raw(WINDOW_UPDATE * 12)),
    'empty data': ('http2_max_empty_frames', flood_empty_data),
    'resets': ('http2_max_resets', flood_resets),
    'malformed requests': ('http2_max_resets', flood_malformed),
    'continuations': ('http2_max_continuations', flood_continuations),
    'header list': ('http2_max_header_list_size', flood_header_list),
}


@pytest.mark.parametrize(('option', 'flood'), FLOODS.values(), ids=FLOODS)
def test_flood_ends_its_connection(connect_h2: Connect, option: str, flood: Callable[[Client], None]) -> None:
    limit = 10000 if option == 'http2_max_header_list_size' else 10
    client = connect_h2(ok, **{option: limit})
    site: Any = client.site
    other = connect_h2(site)
    flood(client)
    assert client.goaway() == CALM
    client.wait_closed()
    assert site.server.refusals[option] == 1
    assert site.server.statistics()['refused'] >= 1
    assert other.response(other.get('/other')).body == b'GET /other'


@pytest.mark.parametrize('count', [5, 10])
def test_fewer_frames_are_accepted(connect_h2: Connect, count: int) -> None:
    client = connect_h2(ok, http2_max_control_frames=count + 2)
    client.send_raw(PING * count)
    assert client.response(client.get()).status == 200


def test_requests_at_a_time_are_limited(connect_h2: Connect) -> None:
    go_on = Event()
    served: list[str] = []

    def listener(request: Any, response: Any) -> None:
        served.append(request.url)
        go_on.wait()
        response.end(b'x')

    client = connect_h2(listener, http2_max_concurrent_streams=2)
    # the client has not seen the setting yet
    numbers = [client.get(f'/{index}') for index in range(3)]
    assert client.response(numbers[2]).reset == ErrorCode.REFUSED_STREAM
    go_on.set()
    assert [client.response(number).body for number in numbers[:2]] == [b'x', b'x']
    assert client.response(client.get('/again')).body == b'x'
    assert served == ['/0', '/1', '/again']


def test_late_head_ends_the_connection(connect_h2: Connect) -> None:
    client = connect_h2(ok, headers_timeout=0.1)
    client.response(client.get())
    client.send_raw(frame(1, 0, 3, b'\x82'))
    assert client.goaway() == CALM
    client.wait_closed()


def test_late_body_gets_408(connect_h2: Connect) -> None:
    client = connect_h2(lambda request, response: response.end(request.read()), request_timeout=0.1)
    late = client.start('POST', '/late', ('content-length', '5'))
    assert client.response(late).status == 408
    assert client.response(client.post(b'in time')).body == b'in time'


def test_slow_listener_gets_503(connect_h2: Connect, caplog: pytest.LogCaptureFixture) -> None:
    go_on = Event()

    def listener(request: Any, response: Any) -> None:
        if request.url == '/slow':
            go_on.wait()
        response.end(b'x')

    client = connect_h2(listener, timeout=0.1)
    assert client.response(client.get('/slow')).status == 503
    go_on.set()
    assert client.response(client.get()).body == b'x'


@pytest.mark.parametrize('window', ['stream', 'connection'])
def test_window_that_is_never_opened(connect_h2: Connect, window: str) -> None:
    lost: list[str] = []

    def listener(request: Any, response: Any) -> None:
        response.on('close', lambda: lost.append(request.url))
        response.end(bytes(100_000))

    client = connect_h2(listener, client={'credit': False}, timeout=0.1)
    number = client.get('/stalled')
    if window == 'stream':
        client.h2.increment_flow_control_window(1_000_000)
        client.flush()
        assert client.response(number).reset == ErrorCode.CANCEL
        assert client.goaways == []
    else:
        assert client.goaway() == CALM
        client.wait_closed()
    gevent.sleep(0)
    assert client.site.server.refusals == {'timeout': 1}
    assert lost == ['/stalled']


def test_client_that_does_not_read_at_all(connect_h2: Connect) -> None:
    closed = Event()

    def listener(request: Any, response: Any) -> None:
        response.on('close', closed.set)
        response.end(bytes(50_000_000))

    client = connect_h2(listener, timeout=0.2)
    client.h2.increment_flow_control_window(100_000_000)
    client.flush()
    number = client.get()
    client.h2.increment_flow_control_window(100_000_000, number)
    client.flush()
    closed.wait()
