"""What the clients' scripts share: many workers that ask until the time is over, or one download."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

__all__ = ['WINDOW', 'WORKERS', 'drive', 'fastest', 'report']

WORKERS = 32

#: Requests in one window, and the share of the windows that counts, see the README.
WINDOW = 64
SHARE = 0.1


def drive(
    ask: Callable[[str], int], download: Callable[[str], int], run: Callable[[Callable[[], None], int], object]
) -> None:
    """Do what the command line says, ``hello URL SIZE SECONDS`` or ``download URL SIZE``, and print what it took.

    :param ask: makes one request and returns how many bytes the body has.
    :param download: reads one large body and returns how many bytes it has.
    :param run: runs a function so many times at once and returns when all have ended.
    """
    what, url, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if what == 'download':
        began = time.perf_counter()
        found = download(url)
        assert found == size, found
        report([], [], began)
        return
    moments: list[float] = []
    used: list[float] = []

    def work() -> None:
        while time.perf_counter() < stop:
            assert ask(url) == size
            moments.append(time.perf_counter())
            used.append(time.process_time())

    assert ask(url) == size
    began = time.perf_counter()
    stop = began + float(sys.argv[4])
    run(work, WORKERS)
    report(moments, used, began)


def report(moments: list[float], used: list[float], began: float) -> None:
    """Print how many requests were answered, in what time, and what one took in the fastest windows: in time, and in
    time of the processor."""
    print(
        json.dumps(
            {
                'count': len(moments),
                'seconds': time.perf_counter() - began,
                'fastest': fastest(moments),
                'processor': fastest(used),
            }
        )
    )


def fastest(moments: list[float]) -> float:
    """Return seconds for a request in the fastest tenth of the windows, 0 when there is no window."""
    windows = sorted(after - before for before, after in zip(moments[::WINDOW], moments[WINDOW::WINDOW], strict=False))
    chosen = windows[: max(1, int(len(windows) * SHARE))] if windows else []
    return sum(chosen) / len(chosen) / WINDOW if chosen else 0.0
