"""What the contracts of streams promise of ``destroy()``, kept by messages whose connection goes with them."""

from __future__ import annotations

import pytest

from tests.conformance import breaking, writable
from tests.conformance.makers import READABLE_MAKERS, WRITABLE_MAKERS


@pytest.mark.parametrize('kind', ['chunked-free', 'length-free'])
def test_a_request_destroyed_with_an_error_tells_it(kind: str) -> None:
    breaking.destroy_emits_its_error(READABLE_MAKERS[kind])


@pytest.mark.parametrize('kind', ['chunked-free', 'length-free'])
def test_a_destroyed_request_is_not_read(kind: str) -> None:
    breaking.destroy_before_reading_discards_and_never_ends(READABLE_MAKERS[kind])


@pytest.mark.parametrize('kind', ['chunked-free', 'close-free'])
def test_a_response_destroyed_with_an_error_tells_it(kind: str) -> None:
    writable.destroy_emits_its_error(WRITABLE_MAKERS[kind])
