"""Decoding and encoding of frames: both ways of decoding agree, for every cut, and the limits hold.

The fast way is compared with wsproto alone: its decoder gets the same frames. Payloads of frames are made and masked by
``tests/websocket/frames.py``.
"""

from __future__ import annotations

import itertools
import random
import tracemalloc
import zlib
from typing import Any

import pytest

wsproto_frames = pytest.importorskip('wsproto.frame_protocol', reason='wsproto is not installed; it is in "test"')

from geventnode.errors import (  # noqa: E402 - wsproto can be missing
    MessageTooBig,
    TooManyFragments,
    WebSocketClosed,
    WebSocketProtocolError,
)
from geventnode.websocket.deflate import Deflate, accept_offer  # noqa: E402
from geventnode.websocket.frames import (  # noqa: E402
    UNLIMITED,
    CloseFrame,
    FragmentFrame,
    FrameReader,
    PingFrame,
    PongFrame,
    encode_close,
    encode_frame,
)
from tests.websocket.frames import close_frame, frame, masked  # noqa: E402

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
RSV1 = 0x40


def reader(client: bool = False, **options: Any) -> FrameReader:
    return FrameReader(
        client, options.get('max_size', UNLIMITED), options.get('max_fragments', UNLIMITED), options.get('deflate')
    )


def received(decoder: FrameReader, pieces: list[bytes]) -> list[Any]:
    """Return the messages and control frames in ``pieces``, and the class and code of the error."""
    found: list[Any] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (each := decoder.next()) is not None:
                if not isinstance(each, FragmentFrame):
                    found.append(each)
                if isinstance(each, CloseFrame):
                    return found
    except WebSocketClosed as error:
        found.append((type(error), error.close_code))
    return found


def by_wsproto(client: bool, data: bytes) -> list[Any]:
    """Return the messages and control frames that wsproto decodes, and the code of its error."""
    protocol = wsproto_frames.FrameProtocol(client, [])
    protocol.receive_bytes(data)
    found: list[Any] = []
    parts: list[Any] = []
    kinds = {wsproto_frames.Opcode.PING: PingFrame, wsproto_frames.Opcode.PONG: PongFrame}
    try:
        for each in protocol.received_frames():
            if each.opcode is wsproto_frames.Opcode.CLOSE:
                found.append(CloseFrame(*each.payload))
                return found
            if each.opcode in kinds:
                found.append(kinds[each.opcode](bytes(each.payload)))
                continue
            parts.append(each.payload)
            if each.message_finished:
                found.append(type(each.payload)().join(parts))
                parts = []
    except wsproto_frames.ParseFailed as error:
        found.append((WebSocketProtocolError, int(error.code)))
    return found


def pieces_of(data: bytes, *cuts: int) -> list[bytes]:
    """Return ``data`` cut at the positions."""
    return [data[start:end] for start, end in itertools.pairwise([0, *cuts, len(data)])]


def example(client: bool) -> bytes:
    """Return frames of every kind."""
    options: dict[str, Any] = {'mask': None} if client else {}
    return b''.join(
        [
            frame(b'', TEXT, **options),
            frame('ä€😀'.encode(), TEXT, **options),
            frame(b'\x00\xff' * 70, BINARY, **options),
            frame(b'one ', TEXT, fin=False, **options),
            frame(b'ping', PING, **options),
            frame(b'', CONTINUATION, fin=False, **options),
            frame('mess€'.encode()[:-1], CONTINUATION, fin=False, **options),
            frame('€'.encode()[-1:] + b'age', CONTINUATION, **options),
            frame(b'', PONG, **options),
            frame(b'x' * 200, BINARY, fin=False, **options),
            frame(b'y' * 3, CONTINUATION, **options),
            close_frame(1001, 'später'.encode(), **options),
        ]
    )


EXPECTED = [
    '',
    'ä€😀',
    b'\x00\xff' * 70,
    PingFrame(b'ping'),
    'one mess€age',
    PongFrame(b''),
    b'x' * 200 + b'yyy',
    CloseFrame(1001, 'später'),
]


@pytest.mark.parametrize('client', [False, True])
def test_frames_of_every_kind(client: bool) -> None:
    assert received(reader(client), [example(client)]) == EXPECTED == by_wsproto(client, example(client))


@pytest.mark.parametrize('client', [False, True])
def test_every_cut_gives_the_same(client: bool) -> None:
    data = example(client)
    for cut in range(1, len(data)):
        assert received(reader(client), pieces_of(data, cut)) == EXPECTED
    assert received(reader(client), [bytes([byte]) for byte in data]) == EXPECTED


@pytest.mark.parametrize('size', [0, 1, 124, 125, 126, 127, 255, 65534, 65535, 65536, 200_000])
def test_payloads_of_every_length(size: int) -> None:
    payload = random.Random(size).randbytes(size)
    assert received(reader(), [frame(payload, BINARY)]) == [payload]
    assert received(reader(True), [frame(payload, BINARY, mask=None)]) == [payload]
    assert encode_frame(0x82, payload, False) == frame(payload, BINARY, mask=None)
    sent = encode_frame(0x82, payload, True)
    key = sent[-size - 4 : -size] if size else sent[-4:]
    assert sent == frame(payload, BINARY, mask=key)


def test_masks_are_new_and_random() -> None:
    """RFC 6455, section 5.3: a fresh mask for each frame."""
    masks = {encode_frame(0x81, b'', True)[2:] for _ in range(100)}
    assert len(masks) > 95


def test_an_idle_reader_keeps_nothing() -> None:
    decoder = reader()
    assert received(decoder, [example(False)[:-20]])
    decoder = reader()
    received(decoder, [frame(b'x', TEXT), frame(b'x' * 100_000, BINARY)])
    assert (decoder._data, decoder._protocol, decoder._parts) == (b'', None, None)


MALFORMED = {
    'unmasked': (frame(b'x', TEXT, mask=None), 1002),
    'long and unmasked': (frame(b'x' * 300, TEXT, mask=None), 1002),
    'rsv1': (frame(b'x', TEXT, rsv=0x40), 1002),
    'rsv2': (frame(b'x', TEXT, rsv=0x20), 1002),
    'rsv3': (frame(b'x', BINARY, rsv=0x10), 1002),
    'reserved opcode': (frame(b'x', 3), 1002),
    'reserved control opcode': (frame(b'x', 11), 1002),
    'size in 2 bytes': (frame(b'x' * 125, TEXT, size=2), 1002),
    'size in 8 bytes': (frame(b'x' * 300, TEXT, size=8), 1002),
    'size over 63 bits': (b'\x82\xff' + b'\x80' + bytes(7) + bytes(4), 1002),
    'continuation of nothing': (frame(b'x', CONTINUATION), 1002),
    'message in a message': (frame(b'x', TEXT, fin=False) + frame(b'x', TEXT), 1002),
    'fragmented ping': (frame(b'x', PING, fin=False), 1002),
    'long ping': (frame(b'x' * 126, PING), 1002),
    'close of one byte': (frame(b'x', CLOSE), 1002),
    'close 999': (close_frame(999), 1002),
    'close 1004': (close_frame(1004), 1002),
    'close 1005': (close_frame(1005), 1002),
    'close 1006': (close_frame(1006), 1002),
    'close 1016': (close_frame(1016), 1002),
    'close 2000': (close_frame(2000), 1002),
    'close 5000': (close_frame(5000), 1002),
    'reason is not UTF-8': (close_frame(1000, b'\xff'), 1007),
    'text is not UTF-8': (frame(b'\xce\xba\xff', TEXT), 1007),
    'text ends in a character': (frame(b'\xce', TEXT), 1007),
    'surrogates': (frame(b'\xed\xa0\x80', TEXT), 1007),
    'long text is not UTF-8': (frame(b'x' * 300 + b'\xff', TEXT), 1007),
    'fragment is not UTF-8': (frame(b'\xf4', TEXT, fin=False) + frame(b'\x90', CONTINUATION, fin=False), 1007),
}


@pytest.mark.parametrize('name', MALFORMED)
def test_malformed_frames_are_refused(name: str) -> None:
    data, code = MALFORMED[name]
    good = frame(b'first', TEXT)
    expected = ['first', (WebSocketProtocolError, code)]
    assert received(reader(), [good + data]) == expected == by_wsproto(False, good + data)
    for cut in range(1, len(data)):
        assert received(reader(), pieces_of(good + data, len(good) + cut)) == expected


def test_a_client_refuses_masked_frames() -> None:
    assert received(reader(True), [frame(b'x', TEXT)]) == [(WebSocketProtocolError, 1002)]
    assert received(reader(True), [frame(b'x' * 300, BINARY)]) == [(WebSocketProtocolError, 1002)]


def test_invalid_text_is_refused_before_its_end() -> None:
    """Text is checked as it arrives (RFC 6455, section 8.1)."""
    decoder = reader()
    start = frame(b'\xff' + b'x' * 1000, TEXT)[:20]
    assert received(decoder, [start]) == [(WebSocketProtocolError, 1007)]


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [100, 300, 70_000])
def test_the_size_of_a_message_is_limited(size: int) -> None:
    exact, more = frame(b'x' * size, BINARY), frame(b'x' * (size + 1), BINARY)
    assert received(reader(max_size=size), [exact]) == [b'x' * size]
    assert received(reader(max_size=size), [more]) == [(MessageTooBig, 1009)]
    half = frame(b'x' * (size // 2), BINARY, fin=False)
    rest = frame(b'x' * (size // 2 + 1), CONTINUATION)
    assert received(reader(max_size=size), [half + rest]) == [(MessageTooBig, 1009)]


def test_a_big_message_is_refused_by_its_header() -> None:
    """Nothing of the payload must have arrived."""
    head = b'\x82\xff' + (2**40).to_bytes(8, 'big') + bytes(4)
    assert received(reader(max_size=1000), [head]) == [(MessageTooBig, 1009)]
    largest = b'\x82\xff' + (2**63 - 1).to_bytes(8, 'big') + bytes(4)
    assert received(reader(), [largest]) == []


def test_the_size_of_text_is_counted_in_bytes() -> None:
    assert received(reader(max_size=10), [frame('€€€'.encode(), TEXT)]) == ['€€€']
    assert received(reader(max_size=8), [frame('€€€'.encode(), TEXT)]) == [(MessageTooBig, 1009)]
    fragments = frame('€€'.encode(), TEXT, fin=False) + frame('€'.encode(), CONTINUATION)
    assert received(reader(max_size=8), [fragments]) == [(MessageTooBig, 1009)]


def test_each_fragment_is_returned() -> None:
    """So that a long series of them can be interrupted."""
    decoder = reader()
    decoder.feed(
        frame(b'a', TEXT, fin=False)
        + frame(b'b', CONTINUATION, fin=False)
        + frame(b'', PING)
        + frame(b'', CONTINUATION)
    )
    assert [decoder.next() for _ in range(5)] == [FragmentFrame(), FragmentFrame(), PingFrame(b''), 'ab', None]


def test_the_number_of_fragments_is_limited() -> None:
    """Empty fragments count: they have no size that another limit could count."""
    fragments = frame(b'', BINARY, fin=False) + frame(b'', CONTINUATION, fin=False) * 8
    last = frame(b'', CONTINUATION)
    assert received(reader(max_fragments=10), [fragments + last, fragments + last]) == [b'', b'']
    assert received(reader(max_fragments=9), [fragments + last]) == [(TooManyFragments, 1008)]


# -- compression ------------------------------------------------------------------------------------------------------


def deflate(field: str = 'permessage-deflate; client_max_window_bits', **options: Any) -> Any:
    agreed = accept_offer(field, Deflate(options))
    assert agreed is not None
    return agreed[1]


def compressed(data: bytes, wbits: int = -12) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def stored(data: bytes) -> bytes:
    """Return a message in a block without compression."""
    packer = zlib.compressobj(0, zlib.DEFLATED, -12)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def resetting() -> Any:
    """Return an extension that begins each message of the client with an empty window."""
    return deflate('permessage-deflate; client_no_context_takeover')


def test_compressed_messages() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    frames = b''
    for message in (b'hello' * 100, b'hello' * 100, b''):
        payload = (packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        frames += frame(payload, TEXT, rsv=RSV1) + frame(b'plain', TEXT)
    expected = ['hello' * 100, 'plain', 'hello' * 100, 'plain', '', 'plain']
    assert received(reader(deflate=deflate()), [frames]) == expected
    assert received(reader(deflate=deflate()), [bytes([byte]) for byte in frames]) == expected


def test_compressed_fragments_with_a_ping_between() -> None:
    payload = compressed(b'x' * 1000)
    frames = (
        frame(payload[:3], BINARY, rsv=RSV1, fin=False)
        + frame(b'p', PING)
        + frame(b'', CONTINUATION, fin=False)
        + frame(payload[3:], CONTINUATION)
    )
    assert received(reader(deflate=deflate()), [frames]) == [PingFrame(b'p'), b'x' * 1000]


@pytest.mark.parametrize(
    'data',
    [
        frame(b'x', PING, rsv=RSV1),
        frame(b'x', TEXT, fin=False) + frame(b'x', CONTINUATION, rsv=RSV1),
        frame(b'x', TEXT, rsv=0x60),
    ],
)
def test_the_bit_for_compression_has_its_place(data: bytes) -> None:
    assert received(reader(deflate=deflate()), [data]) == [(WebSocketProtocolError, 1002)]


def test_a_continuation_of_nothing_is_not_decompressed() -> None:
    """Also after a compressed message."""
    data = frame(compressed(b'x'), TEXT, rsv=RSV1) + frame(b'\xff\xff\xff', CONTINUATION)
    for cut in range(1, len(data)):
        assert received(reader(deflate=deflate()), pieces_of(data, cut)) == ['x', (WebSocketProtocolError, 1002)]


def test_a_message_within_a_message_is_not_decompressed() -> None:
    """Its data has no influence on the code."""
    data = frame(b'x', BINARY, fin=False) + frame(b'\xff\xff\xff', BINARY, rsv=RSV1)
    for cut in range(1, len(data)):
        assert received(reader(deflate=deflate()), pieces_of(data, cut)) == [(WebSocketProtocolError, 1002)]


def test_malformed_compressed_data_is_refused() -> None:
    assert received(reader(deflate=deflate()), [frame(b'\xff\xff\xff', BINARY, rsv=RSV1)]) == [
        (WebSocketProtocolError, 1007)
    ]
    assert received(reader(deflate=deflate()), [frame(compressed(b'\xff'), TEXT, rsv=RSV1)]) == [
        (WebSocketProtocolError, 1007)
    ]


def test_a_final_block_ends_no_message() -> None:
    """The example of RFC 7692, section 7.2.3.4: a block with BFINAL."""
    hello = bytes.fromhex('f348cdc9c9070000')
    decoder = reader(deflate=deflate())
    frames = frame(hello, TEXT, rsv=RSV1) + frame(compressed(b'next'), TEXT, rsv=RSV1)
    assert received(decoder, [frames]) == ['Hello', 'next']


@pytest.mark.parametrize('resets', [False, True])
def test_a_final_block_can_end_a_message(resets: bool) -> None:
    """The next message has a new window."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    payload = packer.compress(b'first') + packer.flush()
    decoder = reader(deflate=resetting() if resets else deflate())
    for _ in range(2):
        fragments = frame(payload, TEXT, rsv=RSV1, fin=False) + frame(b'', CONTINUATION)
        assert received(decoder, [fragments, frame(compressed(b'next'), TEXT, rsv=RSV1)]) == ['first', 'next']


@pytest.mark.parametrize('resets', [False, True])
@pytest.mark.parametrize('fragmented', [False, True])
def test_a_part_of_a_compressed_message_is_refused(resets: bool, fragmented: bool) -> None:
    """It would look like a whole one; also no bytes at all, because an empty message has a block."""
    text = random.Random(1).randbytes(300).hex().encode()
    for payload in (compressed(text), compressed(text, -9), compressed(b''), stored(text)):
        # b'\0' alone is an empty message
        for size in (size for size in range(len(payload)) if payload[:size] != b'\0'):
            data = frame(payload[:size], BINARY, rsv=RSV1, fin=not fragmented)
            if fragmented:
                data += frame(b'', CONTINUATION)
            found = received(reader(deflate=resetting() if resets else deflate()), [data])
            assert found == [(WebSocketProtocolError, 1007)], (payload, size)


def test_the_end_of_a_block_is_not_sent_twice() -> None:
    """A peer that does not remove it (RFC 7692, section 7.2.1) would break the next message."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    payload = packer.compress(b'x') + packer.flush(zlib.Z_SYNC_FLUSH)
    assert received(reader(deflate=deflate()), [frame(payload, BINARY, rsv=RSV1)]) == [(WebSocketProtocolError, 1007)]


@pytest.mark.parametrize(
    ('data', 'problem'),
    [
        (frame(b'\xff\xff\xff', BINARY, rsv=RSV1), 'malformed compressed data: '),
        (frame(b'', BINARY, rsv=RSV1), 'ends within a block'),
        (frame(b'x', PING, rsv=RSV1), 'the bit for compression'),
    ],
)
def test_errors_name_the_problem(data: bytes, problem: str) -> None:
    decoder = reader(deflate=deflate())
    decoder.feed(data)
    with pytest.raises(WebSocketProtocolError, match=problem):
        decoder.next()


def test_many_final_blocks_are_refused() -> None:
    """Each of them costs a new decompressor."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    block = packer.compress(b'') + packer.flush()
    assert received(reader(deflate=deflate()), [frame(block * 100, BINARY, rsv=RSV1)]) == [
        (WebSocketProtocolError, 1007)
    ]


def test_a_compressed_bomb_stops_at_the_limit() -> None:
    """64 KiB become 64 MiB, of which little more than the limit is ever in memory."""
    bomb = compressed(bytes(64 * 2**20), -15)
    assert len(bomb) < 70_000
    decoder = reader(deflate=deflate(client_max_window_bits=15), max_size=2**20)
    tracemalloc.start()
    try:
        assert received(decoder, [frame(bomb, BINARY, rsv=RSV1)]) == [(MessageTooBig, 1009)]
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_compressed_messages_up_to_the_limit() -> None:
    for size, expected in ((1000, b'x' * 1000), (1001, (MessageTooBig, 1009))):
        data = frame(compressed(b'x' * size), BINARY, rsv=RSV1)
        for pieces in ([data], pieces_of(data, len(data) - 1), [bytes([byte]) for byte in data]):
            assert received(reader(deflate=deflate(), max_size=1000), pieces) == [expected]


def test_compressed_data_longer_than_its_message() -> None:
    """The limit is one for the message."""
    payload = stored(b'x' * 1000)
    assert len(payload) > 1000
    data = frame(payload, BINARY, rsv=RSV1)
    for pieces in ([data], pieces_of(data, 500)):
        assert received(reader(deflate=deflate(), max_size=1000), pieces) == [b'x' * 1000]


# -- sending ----------------------------------------------------------------------------------------------------------


def test_close_frames() -> None:
    assert encode_close(None, '', False) == b'\x88\x00' == encode_close(1005, '', False)
    assert encode_close(1000, 'bye', False) == b'\x88\x05\x03\xe8bye'
    # a reason is shortened at a character
    shortened = encode_close(1000, 'ä' * 100, False)
    assert shortened[1] == 2 + 122
    assert shortened[4:].decode() == 'ä' * 61


def test_masking_agrees_with_a_loop() -> None:
    from geventnode.websocket.frames import _mask

    for size in (0, 1, 2, 3, 4, 5, 63, 64, 65, 1001):
        payload = random.Random(size).randbytes(size)
        assert _mask(payload, b'\x01\x02\x03\xff') == masked(payload, b'\x01\x02\x03\xff')
