"""The complete suites: :func:`check_readable`, :func:`check_writable` and :func:`check_duplex` run every check."""

from __future__ import annotations

from tests.conformance import breaking, clogged, flowing, readable, writable

__all__ = [
    'CLOGGED_CHECKS',
    'HELD_BACK_CHECKS',
    'READABLE_CHECKS',
    'WRITABLE_CHECKS',
    'check_duplex',
    'check_readable',
    'check_writable',
]

#: Importing a module adds its checks.
MODULES = (breaking, clogged, flowing, readable, writable)

READABLE_CHECKS, HELD_BACK_CHECKS = readable.READABLE_CHECKS, readable.HELD_BACK_CHECKS
WRITABLE_CHECKS, CLOGGED_CHECKS = writable.WRITABLE_CHECKS, writable.CLOGGED_CHECKS


def check_readable(make: readable.Maker, *, held_back: bool = True) -> None:
    """Run every check on the streams of ``make``; ``held_back`` is whether its source can be paused."""
    for check in READABLE_CHECKS + (HELD_BACK_CHECKS if held_back else []):
        check(make)


def check_writable(free: writable.Maker, clogged: writable.Maker) -> None:
    """Run every check on the streams of both makers."""
    for check in WRITABLE_CHECKS:
        check(free)
        check(clogged)
    for check in CLOGGED_CHECKS:
        check(clogged)


def check_duplex(readable_side: readable.Maker, free: writable.Maker, clogged: writable.Maker) -> None:
    """Run every check on both sides of one kind of stream."""
    check_readable(readable_side)
    check_writable(free, clogged)
