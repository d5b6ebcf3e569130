"""Reserve a place among the connections of an agent.

Authentication that is bound to a connection, as NTLM's and Negotiate's (RFC 4559, section 6), takes up to three
requests without any other in between. The connection belongs to its user afterwards. So a reservation is not a
connection of the pool. It counts as one, and the connection belongs to another agent, which has only this one and
closes it at the end.

A program can forget that agent without destroying it. Its open connection refers to it, so it lives until the server,
or the idle timeout, has closed the connection. Then the place is given back, and a warning is logged.
"""

from __future__ import annotations

import logging
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent.event import AsyncResult

from geventnode.errors import RequestTimeout, copy_for_raising
from geventnode.net.deadlines import NEVER

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Origin

__all__ = ['Reservation']

log = logging.getLogger('geventnode.error')


class Reservation:
    """Wait in the queue of an agent, then keep a place."""

    _queued_at: float = 0.0
    #: The time in the queue is limited by :meth:`wait`.
    _expires: float = NEVER

    def __init__(self, parent: Agent, origin: Origin) -> None:
        self._parent = parent
        self._origin = origin
        #: The agent that has the place: kept until :meth:`wait` returns it, and then a weak reference to it.
        self._new_agent: Agent | None = None
        self._agent: weakref.ref[Agent] | None = None
        self._granted: AsyncResult = AsyncResult()

    def wait(self, timeout: float | None) -> Agent:
        """Return the agent that has the place. Blocks until there is one, at most ``timeout`` seconds.

        Raises ``RequestTimeout``, and the error that :meth:`_fail` got. Any exception leaves the queue.
        """
        try:
            self._granted.wait(timeout)
        except BaseException:
            self.release()
            raise
        if not self._granted.ready():
            self.release()
            late = RequestTimeout(f'{self._origin}: no connection could be reserved within {timeout} seconds')
            self._origin.locate(late, 'queue')
            raise late
        error = self._granted.get_nowait()
        if error is not None:
            raise copy_for_raising(error)
        agent, self._new_agent = self._new_agent, None
        assert agent is not None
        return agent

    def release(self) -> None:
        """Give the place back, or leave the queue."""
        self._new_agent = self._agent = None
        self._parent._cancel(self)

    def _on_forgotten(self, reference: weakref.ref[Any]) -> None:
        """Give the place back soon. Runs wherever the garbage collector does."""
        loop = self._parent._hub.loop
        if loop is not None and reference is self._agent:
            loop.run_callback_threadsafe(self._release_forgotten)

    def _release_forgotten(self) -> None:
        if self._agent is not None:
            log.warning(
                '%s: an agent that reserve() returned was never destroyed, and its place was lost until now: '
                'use reserve() in a with block',
                self._origin,
            )
            self.release()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} for {self._origin}>'

    # -- called by the agent ------------------------------------------------------------------------------------------

    def _enter_queue(self) -> None:
        """Note the time: there is no place yet."""
        self._queued_at = monotonic()

    def _on_granted(self, agent: Agent) -> None:
        """Wake :meth:`wait`: there is a place for the connection of ``agent``."""
        self._new_agent = agent
        self._agent = weakref.ref(agent, self._on_forgotten)
        self._granted.set(None)

    def _fail(self, error: BaseException) -> None:
        """Raise ``error`` in :meth:`wait`: there will be no place."""
        self._origin.locate(error, 'queue')
        self._granted.set(error)

    def destroy(self) -> None:
        """Destroy the connection, because the parent agent is destroyed."""
        agent = None if self._agent is None else self._agent()
        if agent is not None:
            agent.destroy()
