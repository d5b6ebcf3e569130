"""Call functions in another native thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.threadpool import ThreadPool

__all__ = ['in_another_thread']


def in_another_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in a new thread, and return or raise its result. Blocks until it has ended."""

    def run() -> Any:
        try:
            return function(*arguments)
        finally:
            # a rejected call creates a hub in order to detect the wrong thread
            gevent.get_hub().destroy(destroy_loop=True)

    threads = ThreadPool(1)
    try:
        return threads.apply(run)
    finally:
        threads.kill()
