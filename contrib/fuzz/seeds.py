"""The seeds of mutations: the inputs of the case files, by kind of message."""

from __future__ import annotations

from functools import lru_cache

from tests.corpus.cases import load

__all__ = ['MAX_SEED', 'good_seeds', 'seeds']

#: The longest seed, in bytes. Longer cases test limits, and take the time of hundreds of short ones.
MAX_SEED = 1200

FILES = ('requests', 'responses', 'attacks')


@lru_cache(maxsize=2)
def seeds(kind: str) -> tuple[bytes, ...]:
    """Return the distinct inputs for ``'request'`` or ``'response'``, in the order of the files."""
    return _inputs(kind, ('accept', 'reject', 'incomplete'))


@lru_cache(maxsize=2)
def good_seeds(kind: str) -> tuple[bytes, ...]:
    """Return the valid inputs among the seeds."""
    return _inputs(kind, ('accept',))


def _inputs(kind: str, verdicts: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(
        dict.fromkeys(
            case.data
            for name in FILES
            for case in load(name)
            if case.kind == kind and case.verdict in verdicts and 0 < len(case.data) <= MAX_SEED
        )
    )
