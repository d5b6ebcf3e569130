"""Test clients that exceed the limits of HTTP/2: each gets the right error, one log line and one counter.

The limits have their defaults, except that their period does not end within a test. Other clients are served meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geventnode.net.rate_limited_log import LINES
from tests.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    UNKNOWN,
    WINDOW_UPDATE,
    FrameClient,
    block,
    frame,
    literal,
    number,
    request,
    setting,
)
from tests.servers import Serve, Site
from tests.sockets import until

REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 7, 8, 11

OPEN = request(1, '/slow', end=False)


def resets(stream: int) -> bytes:
    """Return a request, and its reset (CVE-2023-44487)."""
    return request(stream, '/slow') + frame(RST_STREAM, 0, stream, number(8))


def provoked(stream: int) -> bytes:
    """Return a request, and an error of its stream, for which the server resets it (CVE-2025-8671)."""
    return request(stream, '/slow', end=False) + frame(WINDOW_UPDATE, 0, stream, number(0))


def streams(made: Callable[[int], bytes], count: int) -> list[bytes]:
    return [made(2 * index + 1) for index in range(count)]


def malformed(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, literal('x', 'y'))


#: A field of 4000 bytes that is stored in the table, and a reference to it.
STORED, REFERENCE = literal('x', 'y' * 4000, 0x40), b'\xbe'

#: The frames after the preface, and the option that they exceed.
FLOODS = {
    'rapid reset': (streams(resets, 501), 'http2_max_resets'),
    'resets by the server': (streams(provoked, 501), 'http2_max_resets'),
    'malformed requests': (streams(malformed, 501), 'http2_max_resets'),
    'RST_STREAM on a stream that ended': (
        [OPEN, *[frame(RST_STREAM, 0, 1, number(8))] * 1002],
        'http2_max_control_frames',
    ),
    'HEADERS on a stream that was reset': (
        [OPEN, frame(WINDOW_UPDATE, 0, 1, number(0)), *[frame(HEADERS, END_HEADERS | END_STREAM, 1, block())] * 1001],
        'http2_max_control_frames',
    ),
    'PING': ([frame(PING, 0, 0, bytes(8))] * 1001, 'http2_max_control_frames'),
    'SETTINGS': ([frame(SETTINGS)] * 1001, 'http2_max_control_frames'),
    'SETTINGS that change windows': (
        [OPEN, *[frame(SETTINGS, 0, 0, setting(4, 1)), frame(SETTINGS, 0, 0, setting(4, 2))] * 501],
        'http2_max_control_frames',
    ),
    'PRIORITY': (
        [frame(PRIORITY, 0, 2 * index + 1, number(0) + b'\x10') for index in range(1001)],
        'http2_max_control_frames',
    ),
    'unknown frames': ([frame(UNKNOWN)] * 1001, 'http2_max_control_frames'),
    'GOAWAY': ([frame(GOAWAY, 0, 0, bytes(8))] * 1001, 'http2_max_control_frames'),
    'empty DATA': ([OPEN, *[frame(DATA, 0, 1)] * 101], 'http2_max_empty_frames'),
    'padding': ([OPEN, *[frame(DATA, PADDED, 1, b'\xff' + bytes(255))] * 101], 'http2_max_empty_frames'),
    'empty DATA on a stream that was reset': (
        [OPEN, frame(WINDOW_UPDATE, 0, 1, number(0)), *[frame(DATA, 0, 1)] * 101],
        'http2_max_empty_frames',
    ),
    'WINDOW_UPDATE': ([frame(WINDOW_UPDATE, 0, 0, number(1))] * 1001, 'http2_max_window_updates'),
    'WINDOW_UPDATE of a stream': (
        [OPEN, *[frame(WINDOW_UPDATE, 0, 1, number(1))] * 1001],
        'http2_max_window_updates',
    ),
    'WINDOW_UPDATE of a stream that ended': (
        [request(1), *[frame(WINDOW_UPDATE, 0, 1, number(1))] * 1101],
        'http2_max_window_updates',
    ),
    'CONTINUATION': (
        [frame(HEADERS, END_STREAM, 1, block()), *[frame(CONTINUATION, 0, 1, literal('x', 'y'))] * 17],
        'http2_max_continuations',
    ),
    'empty CONTINUATION': (
        [frame(HEADERS, END_STREAM, 1, block()), *[frame(CONTINUATION, 0, 1)] * 17],
        'http2_max_continuations',
    ),
    'a large head in fragments': (
        [frame(HEADERS, END_STREAM, 1, block()), *[frame(CONTINUATION, 0, 1, bytes(16384))] * 4],
        'http2_max_header_list_size',
    ),
    'an HPACK bomb': (
        [frame(HEADERS, END_HEADERS | END_STREAM, 1, block() + STORED + REFERENCE * 10_000)],
        'http2_max_header_list_size',
    ),
    'an HPACK bomb in the next request': (
        [
            frame(HEADERS, END_HEADERS | END_STREAM, 1, block() + STORED),
            frame(HEADERS, END_HEADERS | END_STREAM, 3, block() + REFERENCE * 10_000),
        ],
        'http2_max_header_list_size',
    ),
    'an HPACK bomb in trailers': (
        [OPEN, frame(HEADERS, END_HEADERS | END_STREAM, 1, STORED + REFERENCE * 10_000)],
        'http2_max_header_list_size',
    ),
    'many small fields': (
        [frame(HEADERS, END_HEADERS | END_STREAM, 1, block() + b'\x90' * 10_000)],
        'http2_max_header_list_size',
    ),
}

Dial = Callable[..., FrameClient]


@pytest.fixture
def go_on() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


@pytest.fixture
def make_site(serve: Serve, go_on: Event) -> Callable[..., Site]:
    def make(**options: Any) -> Site:
        def listener(request: Any, response: Any) -> None:
            if request.url == '/slow':
                go_on.wait()
            elif request.url == '/large':
                response.end(bytes(100_000))
                return
            elif request.url == '/upload':
                request.read()
            response.end('ok')

        return serve(listener, http2=True, http2_flood_window=3600, **options)

    return make


@pytest.fixture
def dial() -> Iterator[Dial]:
    clients: list[FrameClient] = []

    def connect(site: Site, *arguments: Any) -> FrameClient:
        clients.append(FrameClient(site.where, *arguments))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def check_serves(client: FrameClient, stream: int) -> None:
    client.send(request(stream))
    assert client.until(DATA, stream, END_STREAM) == b'ok'


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == 'geventnode.error']


@pytest.mark.parametrize('case', FLOODS)
def test_flood_ends_its_connection(
    make_site: Callable[..., Site], dial: Dial, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames, option = FLOODS[case]
    caplog.set_level(logging.INFO)
    site = make_site()
    other, attacker = dial(site), dial(site)
    half = len(frames) // 2
    attacker.send(b''.join(frames[:half]))
    check_serves(other, 1)
    attacker.send(b''.join(frames[half:]))
    check_serves(other, 3)
    found = attacker.goaway()
    assert found is not None
    assert found[1] == ENHANCE_YOUR_CALM
    attacker.wait_closed()
    check_serves(other, 5)
    assert site.server.refusals[option] == 1
    if sum(site.server.refusals.values()) == 1:
        [line] = lines(caplog)
        assert line.startswith('127.0.0.1: ')
        assert option in line
        assert line.endswith('(ENHANCE_YOUR_CALM)')
    else:
        # each stream has a line, and their number is limited
        assert len(lines(caplog)) <= 2 * LINES
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_requests_within_the_limits_are_served(make_site: Callable[..., Site], dial: Dial) -> None:
    site = make_site()
    client = dial(site)
    for stream in range(1, 2001, 2):
        check_serves(client, stream)
    assert site.server.refusals == {}


def test_streams_above_the_limit_are_refused(
    make_site: Callable[..., Site], dial: Dial, go_on: Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = make_site()
    other, attacker = dial(site), dial(site)
    attacker.send(b''.join(streams(lambda stream: request(stream, '/slow'), 100)))
    attacker.send(request(201, '/slow'))
    assert attacker.until(RST_STREAM, 201) == number(REFUSED_STREAM)
    check_serves(other, 1)
    assert site.server.refusals == {'http2_max_concurrent_streams': 1}
    assert len(lines(caplog)) == 1
    go_on.set()
    for stream in range(1, 201, 2):
        assert attacker.until(DATA, None, END_STREAM) == b'ok', stream
    check_serves(attacker, 203)


def test_streams_above_the_limit_without_end_are_a_flood(make_site: Callable[..., Site], dial: Dial) -> None:
    site = make_site()
    attacker = dial(site)
    attacker.send(b''.join(streams(lambda stream: request(stream, '/slow'), 601)))
    found = attacker.goaway()
    assert found is not None
    assert found[1] == ENHANCE_YOUR_CALM
    assert site.server.refusals == {'http2_max_concurrent_streams': 500, 'http2_max_resets': 1}


def test_head_above_the_limit_gets_431(
    make_site: Callable[..., Site], dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = make_site()
    attacker = dial(site)
    # an error response has no body that its client could not take
    attacker.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block() + STORED + REFERENCE * 5))
    assert attacker.until(HEADERS, 1) is not None
    check_serves(attacker, 3)
    assert site.server.refusals == {'head_too_large': 1}
    assert len(lines(caplog)) == 1


def test_head_request_above_the_limit_gets_431_without_a_body(make_site: Callable[..., Site], dial: Dial) -> None:
    client = dial(make_site())
    # a body would be an error of the protocol to its client, which would end all of its requests
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block('/', 'HEAD') + STORED + REFERENCE * 5))
    check_serves(client, 3)
    [head] = [found for found in client.frames if found[0] == HEADERS and found[2] == 1]
    assert head[1] & END_STREAM
    assert not [found for found in client.frames if found[0] in (DATA, RST_STREAM) and found[2] == 1]


def test_head_that_does_not_end(make_site: Callable[..., Site], dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    site = make_site(headers_timeout=0.1)
    attacker = dial(site)
    attacker.send(frame(HEADERS, END_STREAM, 1, block()[:20]))
    assert attacker.goaway() == (0, ENHANCE_YOUR_CALM)
    attacker.wait_closed()
    check_serves(dial(site), 1)
    assert site.server.refusals == {'timeout': 1}
    assert len(lines(caplog)) == 1


def test_preface_that_does_not_end(make_site: Callable[..., Site], dial: Dial) -> None:
    site = make_site(headers_timeout=0.1)
    for greeting in (PREFACE[:10], PREFACE[:-1], PREFACE):
        dial(site, greeting).wait_closed()
    check_serves(dial(site), 1)


@pytest.mark.parametrize('path', ['/upload', '/slow'])
def test_stream_that_does_not_end(
    make_site: Callable[..., Site], dial: Dial, path: str, go_on: Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = make_site(request_timeout=0.2)
    attacker, other = dial(site), dial(site)
    attacker.send(request(1, path, end=False) + frame(DATA, 0, 1, b'a part'))
    check_serves(other, 1)
    if path == '/slow':
        # the time of the listener is not the client's
        go_on.set()
    found = attacker.read()
    while found is not None and found[0] not in (DATA, RST_STREAM):
        found = attacker.read()
    # an error response, or the response of the listener and a reset: the rest of the body was not needed
    assert found is not None
    check_serves(attacker, 3)
    if path == '/upload':
        assert site.server.refusals == {'timeout': 1}
        assert len(lines(caplog)) == 1


def test_window_of_a_stream_that_is_never_opened(
    make_site: Callable[..., Site], dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = make_site(timeout=0.2)
    attacker, other = dial(site, PREFACE + frame(SETTINGS, 0, 0, setting(4, 0))), dial(site)
    attacker.send(request(1))
    check_serves(other, 1)
    assert attacker.until(RST_STREAM, 1) == number(CANCEL)
    # the stream was ended, not the connection
    attacker.send(frame(SETTINGS, 0, 0, setting(4, 100)))
    check_serves(attacker, 3)
    assert site.server.refusals == {'timeout': 1}
    until(lambda: lines(caplog))
    assert len(lines(caplog)) == 1


def test_window_of_a_connection_that_is_never_opened(
    make_site: Callable[..., Site], dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = make_site(timeout=0.2)
    attacker, other = dial(site, PREFACE + frame(SETTINGS, 0, 0, setting(4, 10**6))), dial(site)
    attacker.send(request(1, '/large') + request(3, '/large'))
    check_serves(other, 1)
    assert attacker.goaway() == (3, ENHANCE_YOUR_CALM)
    attacker.wait_closed()
    assert site.server.refusals['timeout'] == 1
    until(lambda: lines(caplog))
    assert len(lines(caplog)) == 1


def test_flood_after_goaway_is_ignored(make_site: Callable[..., Site], dial: Dial) -> None:
    site = make_site()
    attacker = dial(site)
    attacker.send(frame(PING, 0, 0, bytes(7)))
    assert attacker.goaway() == (0, 6)
    attacker.send(b''.join(FLOODS['rapid reset'][0]))
    attacker.wait_closed()
    assert site.server.refusals == {'http2_protocol': 1}
    gevent.sleep(0)
    assert site.server.statistics()['handling'] == 0
