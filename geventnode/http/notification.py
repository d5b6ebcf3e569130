"""Notify observers: one that raises does not end the exchange of which it is notified."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from geventnode.net.rate_limited_log import log_from_hub

__all__ = ['notify']

log = logging.getLogger('geventnode.error')


def notify(method: Callable[..., object], *args: object) -> None:
    """Call ``method`` of an observer, and log an exception in it.

    The exchange goes on: its peer and its waiters would wait for ever.
    """
    try:
        method(*args)
    except Exception as error:
        name = getattr(method, '__qualname__', repr(method))
        log_from_hub(partial(log.error, exc_info=error), 'observer failed: %s raised %r', name, error)
