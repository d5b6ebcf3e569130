"""The events of a request, emitted in order from one greenlet.

A request has none of this until its first listener is added. The greenlet lives only while there is an event to emit.
Events that were due before a listener was added are emitted to it afterwards. The order is that of
:class:`~geventnode.interfaces.IClientRequest`.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Any

import gevent

from geventnode.errors import SocketHangUp

if TYPE_CHECKING:
    from geventnode.http.client.request import ClientRequest
    from geventnode.protocol import ResponseHead

__all__ = ['RequestEvents']


class _Once(enum.Flag):
    """The events that are emitted once."""

    NONE = 0
    SOCKET = enum.auto()
    FINISH = enum.auto()
    RESPONSE = enum.auto()
    ERROR = enum.auto()
    CLOSE = enum.auto()


class RequestEvents:
    """The events of a request: emitted ones and due ones.

    It does not refer to the request, so that a request without users is freed at once.
    """

    __slots__ = ('_continue_emitted', '_emitted', '_informational', '_running')

    def __init__(self) -> None:
        self._informational: deque[ResponseHead] = deque()
        self._emitted = _Once.NONE
        #: Whether ``'continue'`` was emitted for the first of the informational responses.
        self._continue_emitted = False
        self._running = False

    def add_informational(self, head: ResponseHead) -> None:
        """Report the informational response with this head."""
        self._informational.append(head)

    @property
    def has_informational(self) -> bool:
        """Whether an informational response has still to be reported."""
        return bool(self._informational)

    def schedule(self, request: ClientRequest) -> None:
        """Emit the events of ``request`` that are due, from a greenlet."""
        if not self._running:
            self._running = True
            gevent.spawn(self._run, request)

    def _run(self, request: ClientRequest) -> None:
        try:
            while (due := self._next(request)) is not None:
                request.emit(*due)
                if due[0] == 'response':
                    request._on_response_delivered()
        except BaseException as error:
            request._abort_with(
                SocketHangUp(f'socket hang up: a listener of the request has raised {type(error).__name__}')
            )
            request._mark_error_retrieved()
            raise
        finally:
            self._running = False

    def _next(self, request: ClientRequest) -> tuple[Any, ...] | None:
        """Return the next due event that has a listener, with its arguments."""
        listeners = request._listeners or {}
        socket = request.socket
        # after abort() a listener can do nothing with a destroyed socket
        if (
            socket is not None
            and not (request.aborted and socket.destroyed)
            and self._take('socket', _Once.SOCKET, listeners)
        ):
            return 'socket', socket
        if self._informational:
            return self._next_informational(request)
        if request.writable_finished and self._take('finish', _Once.FINISH, listeners):
            return ('finish',)
        response = request.response
        if response is not None:
            if not response._upgraded:
                if self._take('response', _Once.RESPONSE, listeners):
                    return 'response', response
            elif self._take(request._upgrade_event, _Once.RESPONSE, listeners):
                request._claim_socket()
                response.socket.emit('agentRemove')
                return request._upgrade_event, response, response.socket, response.head
        failure = request._failure
        if failure is not None and not request.aborted and self._take('error', _Once.ERROR, listeners):
            request._mark_error_retrieved()
            return 'error', failure
        if request._closed and self._take('close', _Once.CLOSE, listeners):
            return ('close',)
        return None

    def _take(self, event: str, once: _Once, listeners: dict[str, Any]) -> bool:
        """Return whether to emit ``event`` now; after that it counts as emitted."""
        if event not in listeners or once in self._emitted:
            return False
        self._emitted |= once
        return True

    def _next_informational(self, request: ClientRequest) -> tuple[Any, ...] | None:
        head = self._informational[0]
        if head.status_code == 100 and request.listener_count('continue') and not self._continue_emitted:
            self._continue_emitted = True
            return ('continue',)
        self._continue_emitted = False
        self._informational.popleft()
        if request.listener_count('information'):
            return 'information', head
        return self._next(request)
