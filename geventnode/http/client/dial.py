"""Connect through a user's ``create_connection``, which can block.

The function runs in a greenlet of its own, within the ``connect_timeout`` and ``deadline`` of the request. The greenlet
is killed when the request needs no connection any more. The result is reported once, unless the request was given up
before.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent

from geventnode.errors import GeventnodeError, RequestTimeout, SocketHangUp, without_traceback
from geventnode.net.deadlines import NEVER, deadlines
from geventnode.net.socket import Socket
from geventnode.net.threads import check_thread

if TYPE_CHECKING:
    from geventnode.http.client.request import ClientRequest

__all__ = ['Dial']


class Dial:
    """Call ``create`` in a greenlet, and report the socket or the error.

    Neither of the two callbacks can block.
    """

    def __init__(
        self,
        request: ClientRequest,
        create: Callable[..., Any],
        on_connected: Callable[[Socket], object],
        on_failed: Callable[[BaseException], object],
    ) -> None:
        self._request = request
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._cancelled = False
        #: See :class:`geventnode.net.deadlines.HasDeadline`.
        self._expires = min(monotonic() + (request._connect_timeout or NEVER), request._deadline)
        deadlines(request.agent._hub).watch(self, awaited=self._expires != NEVER)
        self._greenlet = gevent.spawn(self._run, create)

    def cancel(self) -> None:
        """Kill the greenlet: the request needs no connection any more."""
        self._stop_timer()
        self._cancelled = True
        self._greenlet.kill(block=False)

    def _stop_timer(self) -> None:
        deadlines(self._request.agent._hub).forget(self)

    def _run(self, create: Callable[..., Any]) -> None:
        try:
            socket = create(self._request._connect_options())
            if not isinstance(socket, Socket):
                raise TypeError(f'create_connection must return a net.Socket, not {type(socket).__name__}')
            check_thread(socket._hub, socket)
        except BaseException as error:
            self._stop_timer()
            if not self._cancelled:
                self._on_failed(self._explain(error))
            if not isinstance(error, (Exception, gevent.Timeout, SystemExit)):
                # gevent handles these
                raise
            return
        self._stop_timer()
        if self._cancelled:
            socket.destroy()
        else:
            self._on_connected(socket)

    def _explain(self, error: BaseException) -> BaseException:
        """Return the error for the request: never one that would end a waiting greenlet, or the process."""
        if isinstance(error, GeventnodeError):
            # its frames refer to the request, which keeps the error
            return without_traceback(error)
        if isinstance(error, Exception):
            return error
        found: GeventnodeError
        if isinstance(error, gevent.Timeout):
            found = RequestTimeout(f'{self._request._origin}: create_connection has raised a timeout ({error})')
        else:
            found = SocketHangUp(f'socket hang up: create_connection has raised {type(error).__name__}')
        found.__cause__ = error
        self._request._origin.locate(found, 'connect')
        return found

    def _on_deadline(self, now: float) -> None:
        """See :class:`geventnode.net.deadlines.HasDeadline`: the function has taken too long."""
        self._expires = NEVER
        request = self._request
        origin = request._origin
        error = (
            origin.deadline_error(request._connect_step)
            if request._deadline <= now
            else origin.connect_timeout_error(request._connect_timeout, request._connect_step)
        )
        origin.locate(error, 'connect')
        request.destroy(error)
