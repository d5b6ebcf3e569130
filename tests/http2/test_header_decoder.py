"""Test the decoder of header blocks with the encoder, and the decoder, of ``hpack``."""

from __future__ import annotations

import random

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from geventnode.http2 import header_decoder
from geventnode.http2.fields import field_problem
from geventnode.http2.header_decoder import BlockError, HeaderDecoder, ListTooLarge, decode_huffman

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
HEAD = [(':method', 'GET'), (':path', '/'), ('user-agent', 'test/1.0'), ('x-own', 'a value')]


def as_bytes(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode('latin-1'), value.encode('latin-1')) for name, value in fields]


@pytest.mark.parametrize('huffman', [True, False])
def test_fields_and_their_size(huffman: bool) -> None:
    encoder, decoder = Encoder(), HeaderDecoder(1000)
    size = sum(len(name) + len(value) + 32 for name, value in HEAD)
    for _ in range(3):
        assert decoder.decode(encoder.encode(as_bytes(HEAD), huffman)) == (HEAD, size, None)


def test_every_field_of_the_static_table() -> None:
    for number, field in enumerate(HeaderTable.STATIC_TABLE, 1):
        [found], _, problem = HeaderDecoder(10_000).decode(bytes((0x80 | number,)))
        assert as_bytes([found]) == [field]
        assert problem == field_problem(*found)
        # the table has one field that no request can have
        assert (problem is not None) == (field[0] == b'transfer-encoding')


BAD = {
    'index zero': b'\x80',
    'index beyond the table': b'\xbe',
    'index of a name beyond the table': b'\x7e\x01x',
    'integer without an end': b'\xff\xff',
    'large integer': b'\xff' + b'\xff' * 5 + b'\x01',
    'name without an end': b'\x00\x05abc',
    'field without a name': b'\x00',
    'field without a value': b'\x00\x01a',
    'value without an end': b'\x00\x01a\x05abc',
    'length beyond the block': b'\x00\x01a\x7f\xff\xff\xff\xff\x0f',
    'Huffman code of the end of a string': b'\x00\x01a\x84\xff\xff\xff\xff',
    'padding with zeros': b'\x00\x01a\x81\x00',
    'padding of a whole byte': b'\x00\x01a\x82\x1f\xff',
    'large table': b'\x3f\xe2\x1f',
    'size of the table after a field': b'\x82\x20',
}


@pytest.mark.parametrize('block', BAD.values(), ids=BAD)
def test_invalid_blocks(block: bytes) -> None:
    with pytest.raises(BlockError):
        HeaderDecoder(1000).decode(block)
    # as another decoder sees it
    with pytest.raises((HPACKError, IndexError)):
        list(Decoder().decode(block, raw=True))


def test_size_of_the_table_changes_twice_at_most() -> None:
    """RFC 7541, section 4.2: to the smallest size since the last block, and to the present one."""
    head = Encoder().encode(as_bytes(HEAD))
    decoder = HeaderDecoder(1000)
    for _ in range(2):
        assert decoder.decode(b'\x20\x3f\xe1\x1f' + head)[0] == HEAD
    with pytest.raises(BlockError, match='more than twice'):
        decoder.decode(b'\x20\x3f\xe1\x1f\x20' + head)


def test_list_above_the_limit() -> None:
    block = Encoder().encode(as_bytes(HEAD))
    size = sum(len(name) + len(value) + 32 for name, value in HEAD)
    assert HeaderDecoder(size).decode(block)[1] == size
    with pytest.raises(ListTooLarge):
        HeaderDecoder(size - 1).decode(block)


def test_list_above_the_limit_is_not_decoded() -> None:
    # one entry of 4 KiB, and 16,000 references to it
    block = b'\x40\x01a\x7f\xa1\x1e' + b'x' * 4000 + b'\xbe' * 16_000
    with pytest.raises(ListTooLarge):
        HeaderDecoder(65536).decode(block)


@pytest.mark.parametrize(
    ('field', 'problem'),
    [
        ((b'Upper', b'x'), 'a field name has upper-case characters'),
        ((b'a b', b'x'), 'a field name is not a token'),
        ((b'', b'x'), 'a field name is not a token'),
        ((b'connection', b'close'), 'a request has connection, a field about the connection'),
        ((b'te', b'gzip'), 'the value of te is not trailers'),
        ((b'x', b'a\r\nb'), 'the value of x has control characters, or blanks around it'),
    ],
)
def test_problem_is_found_again_in_the_table(field: tuple[bytes, bytes], problem: str) -> None:
    encoder, decoder = Encoder(), HeaderDecoder(1000)
    for _ in range(3):
        fields, _, found = decoder.decode(encoder.encode([(b':method', b'GET'), field, (b'x-last', b'1')]))
        assert found == problem
        assert as_bytes(fields)[1] == field
    # other fields of the connection are as good as before
    assert decoder.decode(encoder.encode([(b':method', b'GET'), (b'x-last', b'1')]))[2] is None


def test_any_fields_are_decoded_as_they_were(seed: int) -> None:
    chance = random.Random(seed)
    names = ['x' * size for size in (1, 30, 126, 127, 128, 300)] + ['cookie', ':path', 'te', 'etag']
    values = [''.join(chr(chance.randrange(256)) for _ in range(size)) for size in (0, 1, 9, 126, 127, 128, 300, 4100)]
    encoder, decoder = Encoder(), HeaderDecoder(1 << 20)
    for _ in range(300):
        if not chance.randrange(30):
            encoder.header_table_size = chance.choice((0, 40, 300, 4096))
        fields = [(chance.choice(names), chance.choice(values)) for _ in range(chance.randrange(6))]
        sensitive = [(name, value, not chance.randrange(5)) for name, value in as_bytes(fields)]
        assert decoder.decode(encoder.encode(sensitive, chance.random() < 0.5))[0] == fields


def test_mutated_blocks_are_read_as_by_another_decoder(seed: int) -> None:
    """Both accept a block, with the same fields, or neither does."""
    chance = random.Random(seed)
    encoder = Encoder()
    blocks = [
        encoder.encode(as_bytes([*HEAD, ('x-number', str(number)), ('cookie', 'a=b' * number)])) for number in range(20)
    ]
    for _ in range(1500):
        mine, other = HeaderDecoder(65536), Decoder()
        for block in blocks[: chance.randrange(1, 4)]:
            mutated = bytearray(block)
            for _ in range(chance.randrange(3)):
                mutated[chance.randrange(len(mutated))] = chance.choice((chance.randrange(256), 0xFF, 0x80, 0x3F, 0x20))
            try:
                expected = [(bytes(name), bytes(value)) for name, value in other.decode(bytes(mutated), raw=True)]
            except (HPACKError, IndexError):
                with pytest.raises((BlockError, ListTooLarge)):
                    mine.decode(bytes(mutated))
                break
            assert as_bytes(mine.decode(bytes(mutated))[0]) == expected


def test_huffman_code_of_every_text(seed: int) -> None:
    chance = random.Random(seed)
    for size in (0, 1, 2, 50, 1000):
        for _ in range(20):
            text = chance.randbytes(size)
            assert decode_huffman(HUFFMAN.encode(text)) == text.decode('latin-1')


def test_steps_of_huffman_code_are_bounded(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    states = header_decoder._State
    most = states.steps + 10
    monkeypatch.setattr(header_decoder, 'MAX_STEPS', most)
    text = random.Random(seed).randbytes(5000)
    assert decode_huffman(HUFFMAN.encode(text)) == text.decode('latin-1')
    assert sum(len(state) for state in states.states.values()) == states.steps <= most
    assert len(states.states) <= 512


def test_rare_text_does_not_keep_others_from_being_remembered(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_decoder, 'MAX_STEPS', 1000)
    chance = random.Random(seed)
    decode_huffman(HUFFMAN.encode(chance.randbytes(5000)))
    usual = HUFFMAN.encode(b'text/html,application/xhtml+xml')
    for _ in range(2):
        decode_huffman(usual)
    state = header_decoder._START
    forgotten = 0
    for byte in usual:
        # no assertion about a state: its repr has all others
        forgotten += byte not in state
        state, _ = state[byte]
    assert forgotten == 0


def test_names_are_shared_by_all_connections() -> None:
    block = Encoder().encode([(b'x-some-name', b'1')])
    [first], [second] = (HeaderDecoder(1000).decode(block)[0] for _ in range(2))
    assert first[0] is second[0]
