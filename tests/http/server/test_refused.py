"""What an application may not put into a response: it raises before anything is sent, and the response stays usable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from geventnode.errors import BodyNotAllowed, InvalidHeader, InvalidInput
from tests.servers import Serve


@pytest.fixture
def refused(serve: Serve) -> Callable[..., BaseException]:
    """What a call on a response raises, checked not to have spoilt the response."""

    def call(action: Callable[[Any], object]) -> BaseException:
        raised: list[BaseException] = []

        def listener(request: Any, response: Any) -> None:
            try:
                action(response)
            except Exception as error:
                raised.append(error)
            response.end('fine')

        reply = serve(listener).get()
        assert reply.status == 200
        assert reply.body == b'fine'
        assert len(raised) == 1
        return raised[0]

    return call


@pytest.mark.parametrize('status', [0, 99, 100, 101, 199, 1000, -1])
def test_statuses_that_are_not_final(refused: Callable[..., BaseException], status: int) -> None:
    """Refused before anything changes."""
    error = refused(lambda response: response.write_head(status))
    assert isinstance(error, InvalidInput)
    assert error.code == 'ERR_HTTP_INVALID_STATUS_CODE'


@pytest.mark.parametrize('status', ['200', None, 200.0, True])
def test_statuses_that_are_no_numbers(refused: Callable[..., BaseException], status: Any) -> None:
    """A TypeError."""
    assert isinstance(refused(lambda response: response.write_head(status)), TypeError)


@pytest.mark.parametrize('value', [None, 1.5, object(), True, b'x', {'a': 'b'}])
def test_header_values_of_other_types(refused: Callable[..., BaseException], value: Any) -> None:
    """A TypeError, which leaves what was there."""
    assert isinstance(refused(lambda response: response.set_header('X-A', value)), TypeError)


@pytest.mark.parametrize('value', ['-1', '+1', '1.5', '', ' 1', '1_0', '١', ['1', '1'], '1, 1'])
def test_content_lengths_that_are_none(refused: Callable[..., BaseException], value: Any) -> None:
    """Refused by the call that received them."""
    assert isinstance(refused(lambda response: response.set_header('Content-Length', value)), InvalidHeader)


def test_content_length_together_with_transfer_encoding(refused: Callable[..., BaseException]) -> None:
    """A message has one of them."""
    both = {'Content-Length': 3, 'Transfer-Encoding': 'chunked'}
    assert isinstance(refused(lambda response: response.write_head(200, both)), InvalidHeader)


@pytest.mark.parametrize('value', ['gzip', 'chunked, gzip', 'chunked, chunked', ['chunked', 'chunked']])
def test_transfer_encodings_that_do_not_end_in_one_chunked(refused: Callable[..., BaseException], value: Any) -> None:
    """Nobody could tell the end of such a message."""
    assert isinstance(refused(lambda response: response.write_head(200, {'Transfer-Encoding': value})), InvalidHeader)


def test_hints_have_no_framing(refused: Callable[..., BaseException]) -> None:
    """RFC 9110, section 8.6."""
    assert isinstance(refused(lambda response: response.write_early_hints({'Content-Length': 1})), BodyNotAllowed)


def test_a_chunk_is_text_or_bytes(refused: Callable[..., BaseException]) -> None:
    """Anything else is a TypeError, and spoils nothing."""
    assert isinstance(refused(lambda response: response.write(3)), TypeError)
    assert isinstance(refused(lambda response: response.write(None)), TypeError)
    assert isinstance(refused(lambda response: response.end(['a'])), TypeError)
