"""Run the suite, or a part of it, with the standard library patched: ``python -m tests.patched [ARGUMENT ...]``.

This is a program and not an option of pytest because the library must be patched before pytest is imported. Test
files that start processes, only read files, or do not use gevent are left out: patching does not affect them.
"""

from __future__ import annotations

from gevent import monkey

if __name__ == '__main__':
    monkey.patch_all()

import sys
from pathlib import Path

import pytest

__all__ = ['SAME_EITHER_WAY', 'main']

TESTS = Path(__file__).parent
SAME_EITHER_WAY = [
    'system',
    'test_benchmark_gate.py',
    'test_contributing.py',
    'net/test_descriptors.py',
    'test_differential.py',
    'test_docs*.py',
    'test_errors.py',
    'net/test_forks.py',
    'test_fuzz.py',
    'test_language.py',
    'test_layers.py',
    'test_leaks.py',
    'test_packaging.py',
    'test_patched.py',
    'protocol',
    'net/test_short_threads.py',
    'testing/test_pytest.py',
]


def main(arguments: list[str]) -> int:
    """Run pytest with ``arguments`` and return its exit status."""
    ignored = [f'--ignore-glob={TESTS / name}' for name in SAME_EITHER_WAY]
    # xdist would start processes that are not patched
    return pytest.main(['-p', 'no:cacheprovider', '--numprocesses=0', *ignored, *arguments])


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
