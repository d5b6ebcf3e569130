"""Let interpreters of tests read the entry points of the installed packages once.

``gevent.monkey.patch_all()`` reads them 25 times (``findings/gevent_patching_reads_every_distribution.sh``), which is a
fifth of the time in which a server starts, and these tests start hundreds.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata

_read = cache(metadata.entry_points)


def entry_points(**selected: str) -> object:
    """Replace ``importlib.metadata.entry_points``."""
    return _read().select(**selected) if selected else _read()


metadata.entry_points = entry_points
