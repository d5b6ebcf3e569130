"""Large files of zeros that take neither disk nor memory.

They are holes of files in memory. Reading the hole of a file on disk fills the page cache, which takes a second or two
of processor time for a gibibyte.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ['zeros']


@contextlib.contextmanager
def zeros(size: int) -> Iterator[Path]:
    """Yield the path of such a file, for all processes."""
    with open(os.memfd_create('zeros'), 'wb') as file:
        file.truncate(size)
        yield Path(f'/proc/{os.getpid()}/fd/{file.fileno()}')
