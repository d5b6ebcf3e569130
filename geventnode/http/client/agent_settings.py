"""The settings of an agent, and what they are checked by."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar

from geventnode.errors import InvalidInput
from geventnode.options import Option, count, flag
from geventnode.options import seconds as checked_seconds

__all__ = ['AgentSettings']

DEFAULT_MAX_SOCKETS = 5
#: A quarter of the descriptors that most systems let a process have.
DEFAULT_MAX_TOTAL_FREE_SOCKETS = 256


def _sockets(name: str, value: Any) -> float:
    """Return ``value`` as a limit; 0 and None are Node's way to say the default."""
    if value == inf:
        return inf
    return DEFAULT_MAX_SOCKETS if value is None else count(name, value) or DEFAULT_MAX_SOCKETS


def _total(name: str, value: Any) -> float:
    if value is None or value == inf:
        return inf
    if not count(name, value):
        raise InvalidInput(f'{name} must be at least 1, not 0: with None there is no limit')
    return count(name, value)


def _total_free(name: str, value: Any) -> float:
    """Return ``value`` as a limit; None is the way to say that there is none."""
    return inf if value is None or value == inf else count(name, value)


def _queued(name: str, value: Any) -> int | None:
    return None if value is None else count(name, value)


def _scheduling(name: str, value: Any) -> str:
    if value not in ('lifo', 'fifo'):
        raise InvalidInput(f"{name} must be 'lifo' or 'fifo', not {value!r}")
    return str(value)


def _seconds_or_none(name: str, value: Any) -> float | None:
    return None if value is None else checked_seconds(name, value) or None


class AgentSettings:
    """What can be set on an agent, at any time. See :class:`geventnode.interfaces.IAgent`."""

    _plain_options: ClassVar[tuple[str, ...]] = ()

    max_sockets = Option(_sockets, float(DEFAULT_MAX_SOCKETS), 'Connections to one destination at once.')
    max_total_sockets = Option(_total, inf, 'Connections at once, of all destinations together.')
    max_free_sockets = Option(count, 256, 'Idle connections to one destination that are kept.')
    max_total_free_sockets: Option[float] = Option(
        _total_free, DEFAULT_MAX_TOTAL_FREE_SOCKETS, 'Idle connections to all destinations that are kept.'
    )
    max_queued = Option(_queued, None, 'Requests that may wait for one destination; None: any number.')
    keep_alive = Option(flag, False, 'Whether connections that nobody waits for are kept.')
    scheduling = Option(_scheduling, 'lifo', "Which idle connection is taken: 'lifo' or 'fifo'.")
    timeout = Option(_seconds_or_none, None, 'Seconds that an idle connection is kept; None: as long as it lives.')
    keep_alive_initial_delay: Option[float | None] = Option(
        _seconds_or_none, 60.0, 'Seconds before an idle connection is probed; None: never.'
    )
    debug_connections = Option(flag, False, 'Log what happens on each connection.')

    def _on_option_changed(self) -> None:
        """See :class:`geventnode.options.Configurable`. Overridden by the agent."""
