"""The agreement about permessage-deflate (RFC 7692, section 7.1)."""

from __future__ import annotations

import itertools
import random
import zlib
from typing import Any

import pytest

pytest.importorskip('wsproto', reason='wsproto is not installed; it is in the extra "test"')

from geventnode.websocket.deflate import (
    NAME,
    Deflate,
    MalformedExtensions,
    accept_offer,
    accept_response,
    make_offer,
)
from geventnode.websocket.frames import FragmentFrame, FrameReader, PingFrame
from tests.websocket.frames import MASK, frame


def agreed(field: str, **options: Any) -> str | None:
    """Return the response of a server to an offer."""
    found = accept_offer(field, Deflate(options))
    return None if found is None else found[0]


@pytest.mark.parametrize(
    ('offer', 'options', 'response'),
    [
        ('permessage-deflate', {}, 'permessage-deflate; server_max_window_bits=12'),
        ('permessage-deflate', {'server_max_window_bits': 15}, 'permessage-deflate'),
        ('PERMESSAGE-DEFLATE', {'server_max_window_bits': 15}, 'permessage-deflate'),
        (
            'permessage-deflate; client_max_window_bits',
            {'server_max_window_bits': 15},
            'permessage-deflate; client_max_window_bits=12',
        ),
        (
            'permessage-deflate; client_max_window_bits=10; server_max_window_bits=9',
            {},
            'permessage-deflate; server_max_window_bits=9; client_max_window_bits=10',
        ),
        (
            'permessage-deflate; server_no_context_takeover; client_no_context_takeover',
            {'server_max_window_bits': 15},
            'permessage-deflate; server_no_context_takeover; client_no_context_takeover',
        ),
        (
            'permessage-deflate',
            {'server_max_window_bits': 15, 'client_no_context_takeover': True},
            'permessage-deflate; client_no_context_takeover',
        ),
        # the first one that can be accepted
        ('other, permessage-deflate; x, permessage-deflate; server_max_window_bits="10"', {}, None),
        # the client's window can have 8 bits: zlib decompresses that with a larger one
        (
            'permessage-deflate; client_max_window_bits=8',
            {'server_max_window_bits': 15},
            'permessage-deflate; client_max_window_bits=8',
        ),
        # the server's cannot: zlib has no compressor for it
        ('permessage-deflate; server_max_window_bits=8', {}, None),
        ('permessage-deflate; server_max_window_bits=8, permessage-deflate', {}, None),
        ('permessage-deflate; server_max_window_bits', {}, None),
        ('permessage-deflate; server_max_window_bits=16', {}, None),
        ('permessage-deflate; server_max_window_bits=010', {}, None),
        ('permessage-deflate; server_no_context_takeover=1', {}, None),
        ('permessage-deflate; client_max_window_bits=9; client_max_window_bits=9', {}, None),
        ('permessage-deflate; unknown', {}, None),
        ('x-webkit-deflate-frame', {}, None),
    ],
)
def test_offers(offer: str, options: dict[str, Any], response: str | None) -> None:
    found = agreed(offer, **options)
    if response is None and ', permessage-deflate' in offer:
        response = f'permessage-deflate; server_max_window_bits={10 if "10" in offer else 12}'
    assert found == response


@pytest.mark.parametrize('field', [';', 'a;', 'a b', 'a, ;', 'a,b c', 'a; b=', 'a; b="c', 'a; b=""', 'a;=', 'ä'])
def test_malformed_fields_raise(field: str) -> None:
    with pytest.raises(MalformedExtensions):
        accept_offer(field, Deflate({}))


def test_a_long_field_raises() -> None:
    """Parsing thousands of elements would take longer than the rest of a handshake."""
    assert agreed('a,' * 500 + NAME) is not None
    with pytest.raises(MalformedExtensions, match='longer than 1024 characters'):
        accept_offer('a,' * 600 + NAME, Deflate({}))


@pytest.mark.parametrize(
    'field',
    [',permessage-deflate', 'permessage-deflate,', ' ,\t, permessage-deflate ,, other,', 'other,,permessage-deflate'],
)
def test_empty_elements_are_ignored(field: str) -> None:
    """A recipient must accept them (RFC 9110, section 5.6.1.2)."""
    assert agreed(field, server_max_window_bits=15) == 'permessage-deflate'


@pytest.mark.parametrize('field', ['', ',', ' , ,'])
def test_a_list_without_elements_has_no_extension(field: str) -> None:
    assert agreed(field) is None
    assert accept_response(field, Deflate({})) is None
    assert accept_response(field, None) is None


def test_both_sides_agree() -> None:
    for options in ({}, {'server_no_context_takeover': True}, {'client_max_window_bits': 9}):
        client = Deflate(options)
        found = accept_offer(make_offer(client), Deflate({'server_max_window_bits': 10}))
        assert found is not None
        field, server_side = found
        client_side = accept_response(f',{field} ,', client)
        assert client_side is not None
        for _ in range(2):
            for sender, receiver in ((client_side, server_side), (server_side, client_side)):
                packed = sender.compress(b'hello' * 1000)
                assert packed is not None
                receiver.begin(5000)
                assert receiver._decompress(packed + b'\x00\x00\xff\xff') == b'hello' * 1000


@pytest.mark.parametrize('server_resets', [False, True])
@pytest.mark.parametrize('client_resets', [False, True])
@pytest.mark.parametrize('bits', range(9, 16))
def test_every_agreement_carries_messages(bits: int, client_resets: bool, server_resets: bool) -> None:
    """Also repetitions at every distance, up to the window and beyond."""
    client = Deflate(
        {
            'server_max_window_bits': bits,
            'client_max_window_bits': 24 - bits,
            'server_no_context_takeover': server_resets,
            'client_no_context_takeover': client_resets,
            'minimum_size': 0,
        }
    )
    server = Deflate({'server_max_window_bits': 15, 'client_max_window_bits': 15, 'minimum_size': 0})
    found = accept_offer(make_offer(client), server)
    assert found is not None
    field, server_side = found
    client_side = accept_response(field, client)
    assert client_side is not None
    source = random.Random(bits)
    block = source.randbytes(40_000)
    for size in (0, 1, 300, 2**bits - 262, 2**bits, 40_000):
        message = block[:size] * 2
        for sender, receiver, is_client in ((client_side, server_side, False), (server_side, client_side, True)):
            packed = sender.compress(message)
            assert packed is not None
            cuts = sorted(source.randrange(len(packed) + 1) for _ in range(3))
            pieces = [packed[start:end] for start, end in itertools.pairwise([0, *cuts, len(packed)])]
            mask = None if is_client else MASK
            frames = [
                frame(pieces[0], 2, rsv=0x40, fin=False, mask=mask),
                *(frame(piece, 0, fin=False, mask=mask) for piece in pieces[1:3]),
                frame(pieces[3], 0, mask=mask),
            ]
            ping = frame(b'between', 9, mask=mask)
            decoder = FrameReader(is_client, len(message), 4, receiver)
            decoder.feed(ping.join(frames))
            between = [FragmentFrame(), PingFrame(b'between')]
            assert [decoder.next() for _ in range(8)] == [*between * 3, message, None]


@pytest.mark.parametrize(
    ('field', 'problem'),
    [
        ('permessage-deflate, permessage-deflate', 'not offered'),
        ('permessage-deflate; client_max_window_bits', 'invalid parameters'),
        ('permessage-deflate; server_max_window_bits=9; client_max_window_bits=8', '8 bits'),
        ('permessage-deflate', 'offered limits'),
        ('permessage-deflate; server_max_window_bits=13', 'offered limits'),
    ],
)
def test_responses_beyond_the_offer_raise(field: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        accept_response(field, Deflate({'server_max_window_bits': 12}))


@pytest.mark.parametrize(
    ('options', 'offer'),
    [
        (
            {},
            (
                'permessage-deflate; client_max_window_bits; server_max_window_bits=12, '
                'permessage-deflate; client_max_window_bits'
            ),
        ),
        ({'server_max_window_bits': 12}, 'permessage-deflate; client_max_window_bits; server_max_window_bits=12'),
        ({'server_max_window_bits': 15}, 'permessage-deflate; client_max_window_bits'),
        (
            {'server_no_context_takeover': True, 'client_no_context_takeover': True},
            (
                'permessage-deflate; client_max_window_bits; server_max_window_bits=12; server_no_context_takeover; '
                'client_no_context_takeover, permessage-deflate; client_max_window_bits; server_no_context_takeover; '
                'client_no_context_takeover'
            ),
        ),
    ],
)
def test_only_a_stated_window_is_required(options: dict[str, Any], offer: str) -> None:
    assert make_offer(Deflate(options)) == offer


@pytest.mark.parametrize('response', ['permessage-deflate', 'permessage-deflate; server_max_window_bits=15'])
def test_a_server_with_a_constant_response_is_accepted(response: str) -> None:
    """It compresses with the largest window, and the client decompresses that."""
    client_side = accept_response(response, Deflate({}))
    assert client_side is not None
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    far = random.Random(1).randbytes(20_000)
    packed = compressor.compress(far + far) + compressor.flush(zlib.Z_SYNC_FLUSH)
    # the second half is a reference to the first one, farther back than a window of 12 bits
    assert len(packed) < 21_000
    client_side.begin(len(far) * 2)
    assert client_side._decompress(packed) == far + far


def test_a_response_without_the_wanted_reset_raises() -> None:
    options = Deflate({'server_max_window_bits': 15, 'server_no_context_takeover': True})
    with pytest.raises(ValueError, match='offered limits'):
        accept_response('permessage-deflate', options)
