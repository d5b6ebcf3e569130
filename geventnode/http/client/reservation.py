"""A place among the connections of an agent, for an exchange that takes several requests on one connection.

Authentication that is bound to a connection, as NTLM's and Negotiate's (RFC 4559, section 6), takes up to three
requests that no other may interrupt, and the connection is its user's afterwards. So a place is not a connection of the
pool: it counts as one, and the connection is another agent's, which has only this one and closes it at the end.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from gevent.event import AsyncResult

from geventnode.errors import RequestTimeout, copy_for_raising
from geventnode.net.deadlines import NEVER

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Origin

__all__ = ['Reservation']


class Reservation:
    """Waits in an agent's queue as a request does, and holds its place until it is released."""

    _queued_at: float = 0.0
    #: The time in the queue is limited by :meth:`wait`.
    _expires: float = NEVER

    def __init__(self, agent: Agent, origin: Origin) -> None:
        self._agent = agent
        self._origin = origin
        #: The agent that has the place, once there is one.
        self.holder: Agent | None = None
        self._granted: AsyncResult = AsyncResult()

    def wait(self, timeout: float | None) -> None:
        """Block until there is a place, ``timeout`` seconds at most.

        Raises ``RequestTimeout``, and the error given to :meth:`fail`. Leaving it by any exception leaves the queue.
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

    def release(self) -> None:
        """Give the place back, or leave the queue."""
        self._agent._cancel(self)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} for {self._origin}>'

    # -- called by the agent ------------------------------------------------------------------------------------------

    def _on_queued(self) -> None:
        """There is no place yet."""
        self._queued_at = monotonic()

    def _on_granted(self, holder: Agent) -> None:
        """There is a place, for a connection of ``holder``."""
        self.holder = holder
        self._granted.set(None)

    def _fail(self, error: BaseException) -> None:
        """There will be no place, because of ``error``."""
        self._origin.locate(error, 'queue')
        self._granted.set(error)

    def destroy(self) -> None:
        """Give up the place, because the agent is destroyed."""
        if self.holder is not None:
            self.holder.destroy()
