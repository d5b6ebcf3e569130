"""Make requests of the demo to itself, through a small pool.

It is too small on purpose, so that requests wait. The pool sends to the address at which the server listens, never to
one that a client names. Both numbers that a client chooses are bounded, and so is the queue: a request that finds it
full raises :class:`geventnode.errors.QueueFull`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from geventnode import http

__all__ = ['DEFAULT_SOCKETS', 'MAX_BATCH', 'MAX_QUEUED', 'MAX_SOCKETS', 'DemoPool']

#: The most requests of one batch, and the most that wait.
MAX_BATCH, MAX_QUEUED = 100, 200

#: The connections of the pool, and the most that a client can choose.
DEFAULT_SOCKETS, MAX_SOCKETS = 4, 10

#: Seconds after which a request of a batch fails.
DEADLINE = 60.0


class DemoPool:
    """The demo's client: an agent, and the batches of requests that it sends.

    :param agent: the agent; its limits are set here.
    :param get: the function that makes a request: :func:`geventnode.http.get` or :func:`geventnode.https.get`.
    :param on_change: is called when a batch has begun, after each response, and when a batch has ended.
    """

    def __init__(
        self, agent: http.Agent, get: Callable[..., http.ClientRequest], on_change: Callable[[], object]
    ) -> None:
        self._agent = agent
        agent.keep_alive = True
        agent.max_sockets = DEFAULT_SOCKETS
        agent.max_queued = MAX_QUEUED
        self._get = get
        self._on_change = on_change

    def send(
        self, target: dict[str, Any], number: int, max_sockets: int, on_begun: Callable[[Callable[[], None]], object]
    ) -> dict[str, Any]:
        """Make ``number`` requests at the same time, and return the result.

        Blocks until the last response has arrived. Returns the number of responses, of connections that were opened
        for them, and the seconds that they took.

        :param target: the options of each request.
        :param max_sockets: the new limit of the pool.
        :param on_begun: is called with a function that gives up the requests.
        :raises QueueFull: too many requests wait already.
        :raises OSError: a request failed, or was given up.
        """
        began = monotonic()
        self._agent.max_sockets = max_sockets
        requests: list[http.ClientRequest] = []

        def give_up() -> None:
            for each in requests:
                each.destroy()

        try:
            for _ in range(number):
                requests.append(self._get({**target, 'agent': self._agent, 'deadline': DEADLINE}))
            on_begun(give_up)
            self._on_change()
            for each in requests:
                each.get_response().read()
                self._on_change()
        except BaseException:
            give_up()
            raise
        finally:
            self._on_change()
        opened = sum(not each.reused_socket for each in requests)
        return {'responses': number, 'opened': opened, 'seconds': round(monotonic() - began, 6)}

    def state(self) -> dict[str, Any]:
        """Return the limit, the connections, and the number of queued requests."""
        counted = self._agent.statistics()
        return {
            'max_sockets': self._agent.max_sockets,
            **{name: counted[name] for name in ('active', 'idle', 'queued')},
        }

    def close(self) -> None:
        """Close all connections; requests that are not complete fail."""
        self._agent.destroy()
