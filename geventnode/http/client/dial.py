"""A connection that somebody else's function makes for a request: it may wait, and fail in every way.

It has a greenlet of its own, which is killed when the request needs no connection any more, and the times that the
request has for connecting and for everything. Where it leads is told once, unless the request was given up before:
what the function does afterwards, or on its way out, is no matter of the agent.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent

from geventnode.errors import GeventnodeError, RequestTimeout, SocketHangUp
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.socket import Socket
from geventnode.net.threads import check_thread

if TYPE_CHECKING:
    from geventnode.http.client.request import ClientRequest

__all__ = ['Dial']


class Dial:
    """Calls ``create``, and then ``made`` with the socket or ``failed`` with the error. Neither may switch."""

    def __init__(
        self,
        request: ClientRequest,
        create: Callable[..., Any],
        made: Callable[[Socket], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._request = request
        self._made = made
        self._failed = failed
        self._cancelled = False
        #: See :class:`geventnode.net.deadlines.HasDeadline`.
        self._expires = min(monotonic() + (request._connect_timeout or NEVER), request._deadline)
        deadlines(request.agent._hub).watch(self)
        self._greenlet = gevent.spawn(self._run, create)

    def cancel(self) -> None:
        """The request needs no connection any more."""
        self._over()
        self._cancelled = True
        self._greenlet.kill(block=False)

    def _over(self) -> None:
        deadlines(self._request.agent._hub).forget(self)

    def _run(self, create: Callable[..., Any]) -> None:
        try:
            socket = create(self._request._origin.options)
            if not isinstance(socket, Socket):
                raise TypeError(f'create_connection must return a net.Socket, not {type(socket).__name__}')
            check_thread(socket._hub, socket)
        except BaseException as error:
            self._over()
            if not self._cancelled:
                self._failed(self._explain(error))
            if not isinstance(error, (Exception, gevent.Timeout, SystemExit)):
                # gevent's to handle
                raise
            return
        self._over()
        if self._cancelled:
            socket.destroy()
        else:
            self._made(socket)

    def _explain(self, error: BaseException) -> BaseException:
        """Return what is told to those who wait for the response: nothing that would end their greenlet, or process."""
        if isinstance(error, Exception):
            return error
        found: GeventnodeError
        if isinstance(error, gevent.Timeout):
            found = RequestTimeout(f'{self._request._origin}: create_connection has run into a timeout ({error})')
        else:
            found = SocketHangUp(f'socket hang up: create_connection was left by {type(error).__name__}')
        found.__cause__ = error
        self._request._origin.locate(found, 'connect')
        return found

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`: the function takes too long."""
        self._expires = NEVER
        request = self._request
        where = request._origin
        error = (
            where.past_deadline() if request._deadline <= now else where.past_connect_timeout(request._connect_timeout)
        )
        where.locate(error, 'connect')
        request.destroy(error)
