"""Skip tests that need a library which is not installed, without importing it: often only their servers use it."""

from __future__ import annotations

import importlib.util

import pytest

__all__ = ['need']


def need(*libraries: str) -> None:
    """Skip the test, or the file that calls this at its beginning, unless all libraries are installed.

    :param libraries: names of modules; distributions of the extra "test" have them.
    """
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f'{library} is not installed; it is in the extra "test"', allow_module_level=True)
