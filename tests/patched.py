"""Run the suite, or a part of it, with the standard library patched: ``python -m tests.patched [ARGUMENT ...]``.

This is a program and not an option of pytest because the library must be patched before pytest is imported. Test
files that start processes, only read files, or do not use gevent are left out: patching does not affect them. The
others are dealt out to :data:`PARTS` parts of about the same length, so that several processes can share the work.
"""

from __future__ import annotations

from gevent import monkey

if __name__ == '__main__':
    monkey.patch_all()

import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

__all__ = ['PARTS', 'SAME_EITHER_WAY', 'files', 'main', 'part_of_files']

TESTS = Path(__file__).parent
SAME_EITHER_WAY = [
    'system/*',
    'test_benchmark_*.py',
    'test_contributing.py',
    'net/test_descriptors.py',
    'test_differential.py',
    'test_docs*.py',
    'test_errors.py',
    'http/client/test_exit.py',
    'net/test_forks.py',
    'test_fuzz.py',
    'test_language.py',
    'test_layers.py',
    'test_leaks.py',
    'test_packaging.py',
    'test_patched.py',
    'test_platforms.py',
    'protocol/*',
    'net/test_short_threads.py',
    'stream/test_memory.py',
    'test_summary.py',
    'testing/test_pytest.py',
    'http/test_body_framing.py',
    'http/client/test_no_proxy.py',
    'http2/test_engine.py',
    'http2/test_header_*.py',
    'integrations/wsgi/test_head.py',
    'net/test_resets.py',
    'tls/test_truststore.py',
    'websocket/test_deflate.py',
    'websocket/test_frames.py',
]

#: Each part starts an interpreter, which takes a second; the longest part is the granularity of the distribution.
PARTS = 8


@cache
def files() -> list[Path]:
    """Return the test files that patching affects."""
    return sorted(
        path for path in TESTS.rglob('test_*.py') if not any(fnmatch(str(path), pattern) for pattern in _patterns())
    )


def _patterns() -> list[str]:
    return [str(TESTS / name) for name in SAME_EITHER_WAY]


def part_of_files(number: int) -> list[Path]:
    """Return the files of a part; the first one has the number 0."""
    # Neighbours test the same object, and have about the same length: each part gets every eighth file.
    return files()[number::PARTS]


def main(arguments: list[str]) -> int:
    """Run pytest with ``arguments`` and return its exit status."""
    ignored = [f'--ignore-glob={pattern}' for pattern in _patterns()]
    # xdist would start processes that are not patched.
    return pytest.main(['-p', 'no:cacheprovider', '--numprocesses=0', *ignored, *arguments])


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
