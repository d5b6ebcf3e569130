"""Test frames that break a rule of RFC 9113, sections 3 to 8: the error code of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.http2.frames import (
    ACK,
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
    PRIORITY_FIELDS,
    PUSH_PROMISE,
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

PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, COMPRESSION_ERROR = 1, 3, 5, 6, 9

#: A request with a body that has not ended, and its continuation.
OPEN = request(1, '/upload', end=False, method='POST')
HALF = block()[:10]
BEGUN = frame(HEADERS, END_STREAM, 1, HALF)
LARGEST = 2**31 - 1
PRIORITY_UPDATE = 0x10

#: The frames after the preface, and the code of GOAWAY.
CONNECTION_ERRORS = {
    # section 4
    'a frame above the limit': (frame(DATA, 0, 1, bytes(16385)), FRAME_SIZE_ERROR),
    'a frame above the limit on no stream': (frame(UNKNOWN, 0, 0, bytes(16385)), FRAME_SIZE_ERROR),
    'SETTINGS above the limit': (frame(SETTINGS, 0, 0, setting(0xF0, 1) * 2731), FRAME_SIZE_ERROR),
    'an index beyond the table': (frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\xff\xff\x7f'), COMPRESSION_ERROR),
    'index zero': (frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x80'), COMPRESSION_ERROR),
    'a field that is cut off': (frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x00\x05abc'), COMPRESSION_ERROR),
    'an integer without an end': (frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\xff' * 50), COMPRESSION_ERROR),
    'bad Huffman code': (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x00\x84\xff\xff\xff\xff\x00'),
        COMPRESSION_ERROR,
    ),
    'a table above its limit': (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x3f\xe1\xff\x03' + block()),
        COMPRESSION_ERROR,
    ),
    'a table above its limit after a smaller one': (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x20\x3f\xe2\x1f' + block()),
        COMPRESSION_ERROR,
    ),
    'a table changed within a head': (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, block() + b'\x20'),
        COMPRESSION_ERROR,
    ),
    'a table changed three times': (
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x20' * 3 + block()),
        COMPRESSION_ERROR,
    ),
    'bad trailers': (OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x80'), COMPRESSION_ERROR),
    'PING within a head': (BEGUN + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    'DATA within a head': (BEGUN + frame(DATA, 0, 1, b'x'), PROTOCOL_ERROR),
    'SETTINGS within a head': (BEGUN + frame(SETTINGS), PROTOCOL_ERROR),
    'WINDOW_UPDATE within a head': (BEGUN + frame(WINDOW_UPDATE, 0, 1, number(1)), PROTOCOL_ERROR),
    'another head within a head': (BEGUN + request(3), PROTOCOL_ERROR),
    'the same head within a head': (BEGUN + request(1), PROTOCOL_ERROR),
    'an unknown frame within a head': (BEGUN + frame(UNKNOWN), PROTOCOL_ERROR),
    'CONTINUATION of another stream': (
        BEGUN + frame(CONTINUATION, END_HEADERS, 3, block()[10:]),
        PROTOCOL_ERROR,
    ),
    # section 5
    'DATA on an idle stream': (frame(DATA, 0, 1, b'x'), PROTOCOL_ERROR),
    'RST_STREAM on an idle stream': (frame(RST_STREAM, 0, 1, number(8)), PROTOCOL_ERROR),
    'WINDOW_UPDATE on an idle stream': (frame(WINDOW_UPDATE, 0, 1, number(1)), PROTOCOL_ERROR),
    'CONTINUATION on an idle stream': (frame(CONTINUATION, END_HEADERS, 1, block()), PROTOCOL_ERROR),
    'DATA on a stream of the server': (OPEN + frame(DATA, 0, 2, b'x'), PROTOCOL_ERROR),
    'WINDOW_UPDATE on a stream of the server': (OPEN + frame(WINDOW_UPDATE, 0, 2, number(1)), PROTOCOL_ERROR),
    'an even stream': (request(2), PROTOCOL_ERROR),
    'a stream below the last one': (request(5, '/upload', end=False) + request(3), PROTOCOL_ERROR),
    'a stream below the first one': (request(5, '/upload', end=False) + request(1), PROTOCOL_ERROR),
    # section 6.1
    'DATA on no stream': (frame(DATA, 0, 0, b'x'), PROTOCOL_ERROR),
    'DATA with too much padding': (OPEN + frame(DATA, PADDED, 1, b'\x05abcd'), PROTOCOL_ERROR),
    'DATA without the length of its padding': (OPEN + frame(DATA, PADDED, 1), FRAME_SIZE_ERROR),
    # section 6.2
    'HEADERS on no stream': (request(0), PROTOCOL_ERROR),
    'HEADERS with too much padding': (
        frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b'\xff' + block()),
        PROTOCOL_ERROR,
    ),
    'HEADERS with padding instead of its priority': (
        frame(
            HEADERS,
            END_HEADERS | END_STREAM | PADDED | PRIORITY_FIELDS,
            1,
            bytes([len(block()) + 1, *bytes(5)]) + block(),
        ),
        PROTOCOL_ERROR,
    ),
    'HEADERS without the length of its padding': (frame(HEADERS, END_HEADERS | PADDED, 1), FRAME_SIZE_ERROR),
    'HEADERS without its priority': (frame(HEADERS, END_HEADERS | PRIORITY_FIELDS, 1, bytes(4)), FRAME_SIZE_ERROR),
    # section 6.3: a stream error can be treated as one of the connection (section 5.4.1)
    'PRIORITY on no stream': (frame(PRIORITY, 0, 0, number(0) + b'\x10'), PROTOCOL_ERROR),
    'short PRIORITY': (frame(PRIORITY, 0, 1, bytes(4)), FRAME_SIZE_ERROR),
    'long PRIORITY': (frame(PRIORITY, 0, 1, bytes(6)), FRAME_SIZE_ERROR),
    # section 6.4
    'RST_STREAM on no stream': (frame(RST_STREAM, 0, 0, number(8)), PROTOCOL_ERROR),
    'short RST_STREAM': (OPEN + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    'long RST_STREAM': (OPEN + frame(RST_STREAM, 0, 1, bytes(5)), FRAME_SIZE_ERROR),
    # section 6.5
    'SETTINGS on a stream': (OPEN + frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    'SETTINGS with a part of a value': (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    'an acknowledgement with values': (frame(SETTINGS, ACK, 0, setting(3, 100)), FRAME_SIZE_ERROR),
    'ENABLE_PUSH of 2': (frame(SETTINGS, 0, 0, setting(2, 2)), PROTOCOL_ERROR),
    'INITIAL_WINDOW_SIZE above the limit': (frame(SETTINGS, 0, 0, setting(4, LARGEST + 1)), FLOW_CONTROL_ERROR),
    'MAX_FRAME_SIZE below the limit': (frame(SETTINGS, 0, 0, setting(5, 16383)), PROTOCOL_ERROR),
    'MAX_FRAME_SIZE above the limit': (frame(SETTINGS, 0, 0, setting(5, 2**24)), PROTOCOL_ERROR),
    # section 6.6
    'PUSH_PROMISE': (OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + block()), PROTOCOL_ERROR),
    # section 6.7
    'PING on a stream': (OPEN + frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    'short PING': (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    'long PING': (frame(PING, 0, 0, bytes(9)), FRAME_SIZE_ERROR),
    # section 6.8
    'GOAWAY on a stream': (OPEN + frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    'short GOAWAY': (frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    # section 6.9
    'short WINDOW_UPDATE': (frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    'long WINDOW_UPDATE': (frame(WINDOW_UPDATE, 0, 0, bytes(5)), FRAME_SIZE_ERROR),
    'WINDOW_UPDATE of zero': (frame(WINDOW_UPDATE, 0, 0, number(0)), PROTOCOL_ERROR),
    'the window of the connection above the limit': (
        frame(WINDOW_UPDATE, 0, 0, number(LARGEST)),
        FLOW_CONTROL_ERROR,
    ),
    'the window of a stream above the limit by SETTINGS': (
        OPEN + frame(WINDOW_UPDATE, 0, 1, number(LARGEST - 65535)) + frame(SETTINGS, 0, 0, setting(4, 65536)),
        FLOW_CONTROL_ERROR,
    ),
    # section 6.10
    'CONTINUATION on no stream': (frame(CONTINUATION, END_HEADERS, 0, block()), PROTOCOL_ERROR),
    'CONTINUATION after the end of a head': (OPEN + frame(CONTINUATION, END_HEADERS, 1, block()), PROTOCOL_ERROR),
    'CONTINUATION after DATA': (
        OPEN + frame(DATA, 0, 1, b'x') + frame(CONTINUATION, END_HEADERS, 1, block()),
        PROTOCOL_ERROR,
    ),
}

#: The frames after the preface, and the code of RST_STREAM on stream 1.
STREAM_ERRORS = {
    # section 5.1
    'DATA after the end of a request': (request(1, '/wait') + frame(DATA, 0, 1, b'x'), STREAM_CLOSED),
    'HEADERS after the end of a request': (request(1, '/wait') + request(1), STREAM_CLOSED),
    # section 6.9
    'WINDOW_UPDATE of zero': (OPEN + frame(WINDOW_UPDATE, 0, 1, number(0)), PROTOCOL_ERROR),
    'the window of a stream above the limit': (
        OPEN + frame(WINDOW_UPDATE, 0, 1, number(LARGEST)),
        FLOW_CONTROL_ERROR,
    ),
    'DATA beyond the window': (
        request(1, '/wait', end=False) + frame(DATA, 0, 1, bytes(16384)) * 4,
        FLOW_CONTROL_ERROR,
    ),
    # section 8.1
    'trailers that do not end the stream': (
        OPEN + frame(HEADERS, END_HEADERS, 1, literal('x-sum', '1')),
        PROTOCOL_ERROR,
    ),
    'trailers with a pseudo-header field': (
        OPEN + frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(':path', '/')),
        PROTOCOL_ERROR,
    ),
    'no fields': (frame(HEADERS, END_HEADERS | END_STREAM, 1), PROTOCOL_ERROR),
    # section 8.1.1
    'a body above its Content-Length': (
        request(1, '/upload', ('content-length', '3'), end=False) + frame(DATA, 0, 1, b'four'),
        PROTOCOL_ERROR,
    ),
    'a body below its Content-Length': (
        request(1, '/upload', ('content-length', '3'), end=False) + frame(DATA, END_STREAM, 1, b'a'),
        PROTOCOL_ERROR,
    ),
    'trailers before the Content-Length': (
        request(1, '/upload', ('content-length', '3'), end=False)
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, literal('x-sum', '1')),
        PROTOCOL_ERROR,
    ),
    # section 8.3
    'an extended CONNECT': (
        frame(
            HEADERS,
            END_HEADERS,
            1,
            b''.join(
                literal(*pair)
                for pair in [
                    (':method', 'CONNECT'),
                    (':protocol', 'websocket'),
                    (':scheme', 'http'),
                    (':authority', 'localhost:80'),
                    (':path', '/'),
                ]
            ),
        ),
        PROTOCOL_ERROR,
    ),
}

#: The options of the cases that exceed a limit.
LIMITS = {
    'a frame above the limit': 'http2_max_frame_size',
    'a frame above the limit on no stream': 'http2_max_frame_size',
    'SETTINGS above the limit': 'http2_max_frame_size',
    'DATA beyond the window': 'http2_initial_window_size',
}

#: Frames that are unusual, and not errors.
LEGAL = {
    'an unknown frame': frame(UNKNOWN, 0xFF, 77, b'anything'),
    'unknown flags': frame(PING, 0xFE, 0, bytes(8)),
    'the reserved bit of a stream': frame(PING, 0, 2**31, bytes(8)),
    'an unknown setting': frame(SETTINGS, 0, 0, setting(0xF0F0, 2**32 - 1)),
    'a setting twice': frame(SETTINGS, 0, 0, setting(4, 1) + setting(4, 65535)),
    'PRIORITY on an idle stream': frame(PRIORITY, 0, 9, number(0) + b'\x10'),
    'PRIORITY on a stream of the server': frame(PRIORITY, 0, 2, number(0) + b'\x10'),
    'a stream that depends on itself': frame(PRIORITY, 0, 1, number(1) + b'\x10'),
    'an acknowledgement of a PING that was not sent': frame(PING, ACK, 0, bytes(8)),
    'a GOAWAY of the client': frame(GOAWAY, 0, 0, number(0) + number(0) + b'the client will end'),
    'RST_STREAM of an unknown code': request(1, '/wait', end=False) + frame(RST_STREAM, 0, 1, number(0xFFFF)),
    'padding': request(1, '/wait', end=False) + frame(DATA, PADDED, 1, b'\x03abc\x00\x00\x00'),
    'trailers of nothing but padding': request(1, '/upload', end=False)
    + frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, b'\x03\x00\x00\x00'),
    'a large window': frame(WINDOW_UPDATE, 0, 0, number(LARGEST - 65535)),
    'no window at all': frame(SETTINGS, 0, 0, setting(4, 0)) + frame(SETTINGS, 0, 0, setting(4, 65535)),
    'WINDOW_UPDATE after the end': request(1, '/') + frame(WINDOW_UPDATE, 0, 1, number(1)),
    'RST_STREAM after the end': request(1, '/') + frame(RST_STREAM, 0, 1, number(8)),
    'a table changed twice': frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x20\x3f\xe1\x1f' + block()),
    # RFC 9218: all streams have the same turns
    'PRIORITY_UPDATE': request(1, '/wait', ('priority', 'u=7, i')) + frame(PRIORITY_UPDATE, 0, 0, number(1) + b'u=0'),
    'PRIORITY_UPDATE before its request': frame(PRIORITY_UPDATE, 0, 0, number(1) + b'u=0') + request(1),
    'PRIORITY_UPDATE after the end': request(1) + frame(PRIORITY_UPDATE, 0, 0, number(1) + b'i'),
    'no priorities of HTTP/2': frame(SETTINGS, 0, 0, setting(9, 1)),
}

Dial = Callable[..., FrameClient]


def listener(request: Any, response: Any) -> None:
    if request.url == '/wait':
        # until the stream ends in another way
        response.write(b'x')
        return
    response.end(str(len(request.read())))


@pytest.fixture
def site(serve: Serve) -> Site:
    return serve(listener, http2=True, http2_flood_window=3600)


@pytest.fixture
def dial(site: Site) -> Iterator[Dial]:
    clients: list[FrameClient] = []

    def connect(*arguments: Any) -> FrameClient:
        clients.append(FrameClient(site.where, *arguments))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def check_serves(client: FrameClient) -> None:
    """Check that the connection serves requests."""
    client.send(request(101))
    assert client.until(DATA, 101, END_STREAM) == b'0'


def check_log(caplog: pytest.LogCaptureFixture) -> None:
    """Check that bad input is no error of the server."""
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize('case', CONNECTION_ERRORS)
def test_connection_error(site: Site, dial: Dial, case: str, caplog: pytest.LogCaptureFixture) -> None:
    data, code = CONNECTION_ERRORS[case]
    other, client = dial(), dial()
    client.send(data)
    found = client.goaway()
    assert found is not None
    assert found[1] == code
    client.wait_closed()
    check_serves(other)
    assert site.server.refusals == {LIMITS.get(case, 'http2_protocol'): 1}
    check_log(caplog)


def test_log_line_names_the_error_of_a_header_block(dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = dial()
    client.send(CONNECTION_ERRORS['an integer without an end'][0])
    client.wait_closed()
    assert caplog.messages == [
        '127.0.0.1: a header block cannot be decoded: an integer is too large (COMPRESSION_ERROR)'
    ]


@pytest.mark.parametrize('case', STREAM_ERRORS)
def test_stream_error(site: Site, dial: Dial, case: str, caplog: pytest.LogCaptureFixture) -> None:
    data, code = STREAM_ERRORS[case]
    client = dial()
    client.send(data)
    payload = client.until(RST_STREAM, 1)
    assert payload is not None
    assert int.from_bytes(payload, 'big') == code
    check_serves(client)
    assert site.server.refusals == {LIMITS.get(case, 'malformed'): 1}
    check_log(caplog)


@pytest.mark.parametrize('case', LEGAL)
def test_legal_input(site: Site, dial: Dial, case: str, caplog: pytest.LogCaptureFixture) -> None:
    client = dial()
    client.send(LEGAL[case])
    check_serves(client)
    assert not [found for found in client.frames if found[0] == GOAWAY]
    assert site.server.refusals == {}
    check_log(caplog)


@pytest.mark.parametrize(
    'greeting',
    [
        PREFACE + frame(PING, 0, 0, bytes(8)),
        PREFACE + frame(SETTINGS, ACK),
        PREFACE + request(1),
        PREFACE + frame(DATA, 0, 1, b'x'),
        PREFACE[:18] + b'XX\r\n\r\n' + frame(SETTINGS),
    ],
)
def test_first_frame_is_settings(site: Site, dial: Dial, greeting: bytes) -> None:
    client = dial(greeting)
    assert client.goaway() == (0, PROTOCOL_ERROR)
    client.wait_closed()
    assert site.server.refusals == {'http2_protocol': 1}


def test_goaway_names_the_last_request(dial: Dial) -> None:
    client = dial()
    client.send(request(1) + request(3, '/wait') + request(7, '/wait') + frame(PING))
    assert client.goaway() == (7, FRAME_SIZE_ERROR)


def test_head_in_many_frames(dial: Dial) -> None:
    client = dial()
    data = block('/', 'GET')
    parts = [data[start : start + 9] for start in range(0, len(data), 9)]
    frames = [frame(HEADERS, END_STREAM, 1, parts[0])]
    frames += [frame(CONTINUATION, 0, 1, part) for part in parts[1:-1]]
    client.send(b''.join([*frames, frame(CONTINUATION, END_HEADERS, 1, parts[-1])]))
    assert client.until(DATA, 1) == b'0'


@pytest.mark.parametrize('after', [frame(DATA, 0, 1, b'x'), request(1)])
def test_frame_on_a_stream_that_was_closed(dial: Dial, after: bytes) -> None:
    client = dial()
    client.send(request(1))
    assert client.until(DATA, 1, END_STREAM) == b'0'
    client.send(after)
    while (found := client.read()) is not None and found[0] not in (RST_STREAM, GOAWAY):
        pass
    assert found is not None
    # of the stream, or of the connection
    assert int.from_bytes(found[3][-4:], 'big') == STREAM_CLOSED


def test_frames_that_were_sent_before_a_reset_are_ignored(dial: Dial, site: Site) -> None:
    client = dial()
    client.send(OPEN + frame(WINDOW_UPDATE, 0, 1, number(0)))
    client.send(frame(DATA, 0, 1, b'x') + frame(HEADERS, END_HEADERS | END_STREAM, 1, literal('x-sum', '1')))
    check_serves(client)
    assert site.server.refusals == {'malformed': 1}
