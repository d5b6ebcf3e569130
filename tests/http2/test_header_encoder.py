"""Test the encoder of header blocks with the decoder of ``hpack``."""

from __future__ import annotations

import random

import pytest
from hpack import Decoder
from hpack.table import HeaderTable

from geventnode.http2.header_encoder import MAX_REMEMBERED, HeaderEncoder

Fields = list[tuple[bytes, bytes]]

HEAD: Fields = [(b':status', b'200'), (b'content-type', b'text/plain'), (b'x-frame-options', b'DENY')]


def decoded(decoder: Decoder, block: bytes) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


def table(decoder: Decoder) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in decoder.header_table.dynamic_entries]


def test_field_is_one_byte_from_its_third_time_on() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    blocks = [encoder.encode(HEAD) for _ in range(4)]
    assert [decoded(decoder, block) for block in blocks] == [HEAD] * 4
    assert min(len(block) for block in blocks[:2]) > 30
    assert blocks[2] == blocks[3]
    assert len(blocks[2]) == len(HEAD)


def test_field_that_is_always_different_is_not_indexed() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for number in range(200):
        fields = [*HEAD, (b'x-request-id', b'%d' % number), (b'content-length', b'%d' % (number * 7))]
        assert decoded(decoder, encoder.encode(fields)) == fields
    assert sorted(table(decoder)) == sorted(HEAD[1:])


@pytest.mark.parametrize('name', [b'set-cookie', b'authorization', b'proxy-authorization', b'cookie'])
def test_secrets_are_never_indexed(name: bytes) -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for _ in range(4):
        [field] = decoder.decode(encoder.encode([(name, b'secret')]), raw=True)
        assert tuple(field) == (name, b'secret')
        # a proxy must not index it either
        assert not field.indexable
    assert table(decoder) == []


def test_oldest_fields_are_replaced() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for number in range(300):
        fields = [(b'x-number-%d' % (number % 50), b'%d' % number + b'x' * 60)]
        for _ in range(2):
            assert decoded(decoder, encoder.encode(fields)) == fields
    assert decoder.header_table._current_size <= 4096
    assert table(decoder)[0] == fields[0]


def test_size_of_the_table_changes() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for _ in range(3):
        decoded(decoder, encoder.encode(HEAD))
    assert len(table(decoder)) == 2
    # the smallest size empties the table of the decoder, too
    encoder.resize(0)
    encoder.resize(100)
    assert decoded(decoder, encoder.encode(HEAD)) == HEAD
    assert decoder.header_table_size == 100
    assert table(decoder) == [(b'x-frame-options', b'DENY')]
    encoder.resize(0)
    for _ in range(3):
        assert decoded(decoder, encoder.encode(HEAD)) == HEAD
    assert table(decoder) == []
    encoder.resize(4096)
    for _ in range(3):
        assert decoded(decoder, encoder.encode(HEAD)) == HEAD
    assert len(table(decoder)) == 2


def test_size_that_does_not_change_is_not_reported() -> None:
    encoder = HeaderEncoder()
    encoder.resize(4096)
    assert encoder.encode([(b':status', b'200')]) == b'\x88'


def test_size_that_returned_is_reported() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for _ in range(3):
        decoded(decoder, encoder.encode(HEAD))
    encoder.resize(0)
    encoder.resize(4096)
    assert decoded(decoder, encoder.encode(HEAD)) == HEAD
    # both sides have forgotten the entries
    assert table(decoder) == HEAD[:0:-1]


def test_field_larger_than_the_table_replaces_none() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    large = (b'x-large', b'x' * 5000)
    for _ in range(3):
        assert decoded(decoder, encoder.encode([*HEAD, large])) == [*HEAD, large]
    assert len(table(decoder)) == 2


def test_names_of_many_fields_are_forgotten() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for number in range(10 * MAX_REMEMBERED):
        decoded(decoder, encoder.encode([(b'x-%d' % number, b'1')]))
        assert len(encoder._last) <= MAX_REMEMBERED


def test_every_field_of_the_static_table() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    fields = list(HeaderTable.STATIC_TABLE)
    block = encoder.encode(fields)
    assert decoded(decoder, block) == fields
    assert len(block) == len(fields)


def test_any_fields_are_decoded_as_they_were(seed: int) -> None:
    chance = random.Random(seed)
    names = [b'x' * size for size in (1, 30, 126, 127, 128, 300)] + [b'content-type', b'etag', b'set-cookie', b'date']
    values = [bytes(chance.choices(range(32, 256), k=size)) for size in (0, 1, 9, 126, 127, 128, 255, 256, 900, 5000)]
    encoder, decoder = HeaderEncoder(), Decoder()
    for _ in range(2000):
        if not chance.randrange(50):
            for _ in range(chance.randrange(1, 4)):
                encoder.resize(chance.choice((0, 40, 300, 4096)))
        fields = [(chance.choice(names), chance.choice(values)) for _ in range(chance.randrange(6))]
        assert decoded(decoder, encoder.encode(fields)) == fields
