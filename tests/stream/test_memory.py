"""Test the memory that reading takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZE = 128 << 20

PROGRAM = f"""
import resource
from geventnode.stream import Readable

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

stream = Readable.from_iterable(bytes(1 << 16) for _ in range({SIZE >> 16}))
before = peak()
body = stream.read()
print(len(body), peak() - before)
"""


@pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='the unit of ru_maxrss is that of Linux (getrusage(2))'
)
def test_read_needs_little_more_than_the_result() -> None:
    ran = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True, check=True)
    size, grown = map(int, ran.stdout.split())
    assert size == SIZE
    assert grown < 1.1 * SIZE
