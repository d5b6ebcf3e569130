"""A call in another native thread, as a program makes it whose threads share what belongs to one loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.threadpool import ThreadPool

__all__ = ['in_another_thread']


def in_another_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``function`` returns in a thread of its own, or raise what it raises. Blocks until it has ended."""

    def run() -> Any:
        try:
            return function(*arguments)
        finally:
            # a refused call makes a hub to find out that the thread is not the right one
            gevent.get_hub().destroy(destroy_loop=True)

    threads = ThreadPool(1)
    try:
        return threads.apply(run)
    finally:
        threads.kill()
