"""Shared code of the clients' scripts: many workers that make requests for a time, or one download."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import count

__all__ = ['WINDOW', 'WORKERS', 'drive', 'fastest', 'item', 'report']

WORKERS = 32

#: Requests in one window.
WINDOW = 64
#: The share of the windows that counts; see the README.
SHARE = 0.1


def drive(
    ask: Callable[[str], int],
    download: Callable[[str], int],
    run: Callable[[Callable[[], None], int], object],
    ask_item: Callable[[str, dict[str, str]], int] | None = None,
) -> None:
    """Run the command line, and print the times.

    It is ``hello URL SIZE SECONDS``, ``items URL SIZE SECONDS`` or ``download URL SIZE``.

    :param ask: makes one request and returns the size of the body.
    :param download: reads one large body and returns its size.
    :param run: runs a function the given number of times at once, and returns when all have ended.
    :param ask_item: as ``ask``, with a path and with fields that no other request has.
    """
    command, url, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if command == 'download':
        began = time.perf_counter()
        found = download(url)
        assert found == size, found
        report([], [], began)
        return
    moments: list[float] = []
    used: list[float] = []
    numbers = count(1)

    def ask_one() -> int:
        if command == 'hello' or ask_item is None:
            return ask(url)
        return ask_item(*item(url, next(numbers)))

    def work() -> None:
        while time.perf_counter() < stop:
            assert ask_one() == size
            moments.append(time.perf_counter())
            used.append(time.process_time())

    assert ask_one() == size
    began = time.perf_counter()
    stop = began + float(sys.argv[4])
    run(work, WORKERS)
    report(moments, used, began)


def item(url: str, number: int) -> tuple[str, dict[str, str]]:
    """Return the URL and the fields of a request that is like no other."""
    mixed = f'{number * 2654435761 % 2**32:08x}'
    fields = {
        'X-Request-Id': f'{number:08x}-{mixed}',
        'traceparent': f'00-{mixed}{mixed}{number:016x}-{mixed}{number:08x}-01',
    }
    return f'{url}item/{number}?q={mixed}', fields


def report(moments: list[float], used: list[float], began: float) -> None:
    """Print the number of responses, the time, and the wall and processor time of one in the fastest windows."""
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
    """Return the seconds per request in the fastest tenth of the windows; 0 without windows."""
    windows = sorted(after - before for before, after in zip(moments[::WINDOW], moments[WINDOW::WINDOW], strict=False))
    chosen = windows[: max(1, int(len(windows) * SHARE))] if windows else []
    return sum(chosen) / len(chosen) / WINDOW if chosen else 0.0
