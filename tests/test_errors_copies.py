"""Every exception of the package, raised by real failures, survives ``pickle``, ``copy`` and ``deepcopy``."""

from __future__ import annotations

import pickle

import pytest
import requests

from geventnode import errors
from tests import failures


def test_every_class_has_a_failure() -> None:
    """tests/failures.py has a failure for each exception."""
    assert failures.exception_classes() == set(failures.FAILURES)


@pytest.mark.parametrize('kind', [*failures.FAILURES, *failures.ADAPTED], ids=lambda kind: kind.__name__)
def test_copies_are_equal(kind: type[BaseException]) -> None:
    error = failures.failure(kind)
    error.note = 'an attribute of another library'  # type: ignore[attr-defined]
    expected = failures.described(error)
    for copied in failures.copies(error):
        assert copied is not error
        assert failures.described(copied) == expected


def test_a_pickled_error_does_not_contain_the_connection() -> None:
    error = failures.failure(requests.ConnectTimeout)
    assert len(pickle.dumps(error)) < 3000


class ServiceError(errors.ConnectError):
    """A user's exception that is derived from one of the package."""

    def __init__(self, service: str) -> None:
        super().__init__(111, 'no', 'host', 80)
        self.service = service


def test_copies_of_a_derived_class_are_equal() -> None:
    error = ServiceError('billing')
    for copied in failures.copies(error):
        assert failures.described(copied) == failures.described(error)
        assert copied.service == 'billing'  # type: ignore[attr-defined]
