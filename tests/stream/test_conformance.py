"""Every stream keeps the contract of streams: the conformance suites, check by check, for each kind of stream.

A message reports the end of its connection as its own. The tests of the HTTP layer check the events of its ``destroy``,
and the data that can be read afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.conformance.makers import READABLE_MAKERS, WRITABLE_MAKERS
from tests.conformance.suites import CLOGGED_CHECKS, HELD_BACK_CHECKS, READABLE_CHECKS, WRITABLE_CHECKS

Check = Callable[[Any], None]

MESSAGES = ('chunked', 'length', 'close')
# an interrupted read of a client's response aborts the exchange
OF_THE_EXCHANGE = (
    'a_killed_reader_loses_nothing',
    'a_timeout_loses_nothing',
    'a_timeout_loses_nothing_of_a_file',
    'a_timeout_loses_no_lines_of_a_file',
)
OF_THE_CONNECTION = ('destroy_emits_its_error', 'destroy_before_reading_discards_and_never_ends')


def _matrix(checks: Iterable[Check], kinds: Iterable[str]) -> list[Any]:
    return [
        pytest.param(check, kind, id=f'{check.__name__}-{kind}')
        for check in checks
        for kind in kinds
        if not (kind.startswith(MESSAGES) and check.__name__ in OF_THE_CONNECTION)
        and not ('answer' in kind and check.__name__ in OF_THE_EXCHANGE)
    ]


@pytest.mark.parametrize(('check', 'kind'), _matrix(READABLE_CHECKS, READABLE_MAKERS))
def test_readable(check: Check, kind: str) -> None:
    check(READABLE_MAKERS[kind])


@pytest.mark.parametrize(
    ('check', 'kind'),
    _matrix(HELD_BACK_CHECKS, [kind for kind in READABLE_MAKERS if kind not in ('Readable-free', 'Duplex-free')]),
)
def test_readable_that_is_held_back(check: Check, kind: str) -> None:
    check(READABLE_MAKERS[kind])


@pytest.mark.parametrize(('check', 'kind'), _matrix(WRITABLE_CHECKS, WRITABLE_MAKERS))
def test_writable(check: Check, kind: str) -> None:
    check(WRITABLE_MAKERS[kind])


@pytest.mark.parametrize(
    ('check', 'kind'), _matrix(CLOGGED_CHECKS, [kind for kind in WRITABLE_MAKERS if kind.endswith('clogged')])
)
def test_clogged_writable(check: Check, kind: str) -> None:
    check(WRITABLE_MAKERS[kind])
