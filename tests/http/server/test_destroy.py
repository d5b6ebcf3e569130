"""``destroy()`` of messages that share their connection, by the contracts of streams."""

from __future__ import annotations

import pytest

from tests.conformance import breaking, writable
from tests.conformance.makers import READABLE_MAKERS, WRITABLE_MAKERS


@pytest.mark.parametrize('kind', ['chunked-free', 'length-free'])
def test_request_emits_the_error_of_destroy(kind: str) -> None:
    breaking.destroy_emits_its_error(READABLE_MAKERS[kind])


@pytest.mark.parametrize('kind', ['chunked-free', 'length-free'])
def test_destroyed_request_cannot_be_read(kind: str) -> None:
    breaking.destroy_before_reading_discards_and_never_ends(READABLE_MAKERS[kind])


@pytest.mark.parametrize('kind', ['chunked-free', 'close-free'])
def test_response_emits_the_error_of_destroy(kind: str) -> None:
    writable.destroy_emits_its_error(WRITABLE_MAKERS[kind])
