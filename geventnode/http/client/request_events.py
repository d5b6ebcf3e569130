"""How a request ends: in a response or in one error, told to those who wait for it and to those who listen.

Who waits in ``get_response()`` is switched to as soon as the head is here. Events come from one greenlet of the
request, in the order of :class:`~geventnode.interfaces.IClientRequest`; it lives only while there is something to
tell, and a request that nobody listens to has none. What has happened before somebody listens is told to them
afterwards.
"""

from __future__ import annotations

import enum
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from gevent import get_hub, getcurrent

from geventnode.errors import RequestAborted, RequestTimeout, SocketHangUp, copy_for_raising
from geventnode.http.client.write_buffer import WriteBuffer
from geventnode.http.outgoing import OutgoingMessage
from geventnode.net.threads import wrong_thread_error

if TYPE_CHECKING:
    from geventnode.http.client.agent import Agent
    from geventnode.http.client.origin import Origin
    from geventnode.http.incoming import IncomingMessage
    from geventnode.net.socket import Socket
    from geventnode.protocol import ResponseHead

__all__ = ['RequestOutcome']

log = logging.getLogger('geventnode.error')


class _Told(enum.Flag):
    """Which of the events that come once were emitted."""

    NOTHING = 0
    SOCKET = enum.auto()
    FINISH = enum.auto()
    RESPONSE = enum.auto()
    ERROR = enum.auto()
    CLOSE = enum.auto()


class _Unasked:
    """Logs an error when the request goes that nobody has asked for it."""

    __slots__ = ('error', 'what')

    def __init__(self, what: str, error: BaseException) -> None:
        self.what = what
        self.error: BaseException | None = error

    def __del__(self) -> None:
        if self.error is not None:
            log.error('%s failed, and nobody asked: %s: %s', self.what, type(self.error).__name__, self.error)


class _Unclaimed:
    """Closes a connection that was handed over when the request goes that nobody has asked for it."""

    __slots__ = ('socket',)

    def __init__(self, socket: Socket) -> None:
        self.socket: Socket | None = socket

    def __del__(self) -> None:
        if self.socket is not None:
            self.socket._hub.loop.run_callback_threadsafe(self.socket.destroy)


class RequestOutcome(OutgoingMessage):
    """The receiving side of a request."""

    events: ClassVar[frozenset[str]] = OutgoingMessage.events | {
        'socket',
        'continue',
        'information',
        'response',
        'connect',
        'upgrade',
    }

    agent: Agent
    method: str
    _origin: Origin

    response: IncomingMessage | None = None
    aborted: bool = False
    #: Why there is no response.
    _failure: BaseException | None = None
    #: Whether 100 Continue has come.
    _continued: bool = False

    _waiters: list[Any] | None = None
    _informed: deque[ResponseHead] | None = None
    _told: _Told = _Told.NOTHING
    _telling: bool = False
    #: Whether the connection went, or was handed over.
    _closed: bool = False
    _unasked: _Unasked | None = None
    _unclaimed: _Unclaimed | None = None

    # -- called by the connection and the agent -------------------------------------------------------------------

    def _on_informational(self, head: ResponseHead) -> None:
        """An informational response has come."""
        if head.status_code == 100:
            self._continued = True
            self._wake_soon()
        if self._listeners is not None:
            if self._informed is None:
                self._informed = deque()
            self._informed.append(head)
            self._tell()

    def _on_response(self, response: IncomingMessage) -> None:
        """The head of the response is here. Runs in the hub. May switch to those who wait."""
        self.response = response
        if self._listeners is not None:
            self._tell()
            if self._informed:
                # after the greenlet that calls the listeners for them, which is about to start
                self._wake_soon()
                return
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.switch()

    def _on_upgrade(self, response: IncomingMessage) -> None:
        """The response hands over the connection. Runs in the hub. May switch to those who wait."""
        if self._waiters is None and not self.listener_count(self._handover_event) and self.listener_count('response'):
            response.socket.destroy()
            self._fail(
                SocketHangUp(
                    f'socket hang up: {self._origin} has switched protocols, and nobody listens for '
                    f'{self._handover_event!r}'
                )
            )
            return
        self._closed = True
        self._unclaimed = _Unclaimed(response.socket)
        self._on_response(response)

    def _on_send_aborted(self, error: BaseException | None) -> None:
        """The connection has gone after the response was complete, while the request was being sent."""
        self.destroyed = True
        self._error = error
        self._closed = True
        self._tell()

    def _fail(self, error: BaseException) -> None:
        """There will be no response."""
        if self._failure is not None or self.response is not None:
            return
        self._origin.locate(error, 'queue')
        self._failure = self._error = error
        self.destroyed = self._closed = True
        self._failed()
        if isinstance(self._out, WriteBuffer):
            self._out.destroy(error)
        self._unasked = _Unasked(repr(self), error)
        self._wake_soon()
        self._tell()

    def _failed(self) -> None:
        """For subclasses: the request has failed."""

    # -- waiting --------------------------------------------------------------------------------------------------

    def get_response(self, timeout: float | None = None) -> IncomingMessage:
        if get_hub() is not self._hub:
            raise wrong_thread_error(self)
        response = self.response
        if response is None:
            if not self.writable_ended and not self._head_sent and self._failure is None:
                raise RuntimeError('get_response() before end(): nothing was sent yet')
            if timeout is None and self._waiters is None and self._failure is None:
                # the commonest case, without what the others need
                current = getcurrent()
                self._waiters = [current]
                try:
                    self.agent._hub.switch()
                except BaseException:
                    self._leave()
                    raise
                finally:
                    if self._waiters is not None:
                        self._wait_no_more(current)
                response = self.response
            if response is None:
                self._wait_for('get_response', timeout)
                response = self.response
        if response is None:
            self._ask_no_more()
            assert self._failure is not None
            raise copy_for_raising(self._failure)
        if self._informed:
            # the greenlet that calls the listeners for them is about to start
            gevent.sleep(0)
        self._claim()
        return response

    def wait_continue(self, timeout: float | None = None) -> bool:
        self.flush_headers()
        try:
            self._wait_for('wait_continue', timeout, continued=True)
        except RequestTimeout as error:
            if error.phase != 'wait_continue':
                raise
            return True
        if self._failure is not None:
            self.get_response()
        return self.response is None

    def _wait_for(self, call: str, timeout: float | None, continued: bool = False) -> None:
        """Wait for the outcome, or for 100 Continue."""
        timer = None
        if timeout is not None:
            timer = gevent.Timeout(timeout)
            timer.start()
        try:
            while self.response is None and self._failure is None and not (continued and self._continued):
                self._wait_once()
        except BaseException as error:
            if error is timer:
                late = RequestTimeout(f'{self._origin}: no answer within the timeout of {call}() ({timeout} seconds)')
                self._origin.locate(late, call)
                if continued:
                    raise late from None
                late.phase = 'response'
                self._abandon(late)
            else:
                self._leave()
                raise
        finally:
            if timer is not None:
                timer.close()

    def _leave(self) -> None:
        """Who waited for the response was thrown out."""
        self._abandon(SocketHangUp('socket hang up: who waited for the response has left'))
        self._ask_no_more()

    @property
    def _has_waiters(self) -> bool:
        """Whether a greenlet waits for the response."""
        return self._waiters is not None

    def _wait_once(self) -> None:
        current = getcurrent()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(current)
        try:
            get_hub().switch()
        finally:
            if self._waiters is not None:
                self._wait_no_more(current)

    def _wait_no_more(self, greenlet: Any) -> None:
        if self._waiters is not None and greenlet in self._waiters:
            self._waiters.remove(greenlet)
            if not self._waiters:
                self._waiters = None

    def _wake(self) -> None:
        """Switch to those who wait. Runs in the hub."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            waiter.switch()

    def _wake_soon(self) -> None:
        if self._waiters is not None:
            get_hub().loop.run_callback(self._wake)

    def _claim(self) -> None:
        """Somebody has got the connection that was handed over, if there is one."""
        if self._unclaimed is not None:
            self._unclaimed.socket = None

    def _ask_no_more(self) -> None:
        """Nobody needs to be told of the failure any more."""
        if self._unasked is not None:
            self._unasked.error = None

    def __enter__(self) -> IncomingMessage:
        return self.get_response()

    def __exit__(self, *args: object) -> None:
        if self.response is None or not self.response.complete:
            self._abandon(SocketHangUp('socket hang up: the block that used the response was left'))
            self._ask_no_more()

    # -- giving up ------------------------------------------------------------------------------------------------

    def _abandon(self, error: BaseException) -> None:
        """For subclasses: leave the queue, or the connection, because of ``error``."""

    def abort(self) -> None:
        self._check_thread()
        if not self.aborted:
            self.aborted = True
            self._abandon(RequestAborted(f'{self.method} to {self._origin} was aborted'))
            self._ask_no_more()

    def destroy(self, error: BaseException | None = None) -> Any:
        self._check_thread()
        self._abandon(error or SocketHangUp('socket hang up: the request was destroyed'))
        if error is None:
            self._ask_no_more()
        return self

    # -- telling --------------------------------------------------------------------------------------------------

    @property
    def _handover_event(self) -> str:
        return 'connect' if self.method == 'CONNECT' else 'upgrade'

    def _listener_added(self, event: str) -> None:
        if self.socket is not None or self._failure is not None:
            self._tell()

    def _on_finished(self) -> None:
        self.writable_finished = True
        self._tell()

    def _tell(self) -> None:
        """Emit what is due, from a greenlet."""
        if self._listeners is not None and not self._telling:
            self._telling = True
            gevent.spawn(self._tell_all)

    def _tell_all(self) -> None:
        try:
            while (due := self._next_event()) is not None:
                self.emit(*due)
                if due[0] == 'response':
                    self._on_response_delivered()
        except BaseException as error:
            self._abandon(SocketHangUp(f'socket hang up: a listener of the request has raised {type(error).__name__}'))
            self._ask_no_more()
            raise
        finally:
            self._telling = False

    def _on_response_delivered(self) -> None:
        """For subclasses: the ``'response'`` listeners have returned."""

    def _next_event(self) -> tuple[Any, ...] | None:
        """Return the next event that is due and that somebody listens for."""
        listened = self._listeners or {}
        # after abort() at once there is nothing that a listener could do with it
        if (
            self.socket is not None
            and not (self.aborted and self.socket.destroyed)
            and (self._is_due('socket', _Told.SOCKET, listened))
        ):
            return 'socket', self.socket
        if self._informed:
            return self._next_information()
        if self.writable_finished and self._is_due('finish', _Told.FINISH, listened):
            return ('finish',)
        response = self.response
        if response is not None:
            if not response._upgraded:
                if self._is_due('response', _Told.RESPONSE, listened):
                    return 'response', response
            elif self._is_due(self._handover_event, _Told.RESPONSE, listened):
                self._claim()
                response.socket.emit('agentRemove')
                return self._handover_event, response, response.socket, response.head
        if self._failure is not None and not self.aborted and self._is_due('error', _Told.ERROR, listened):
            self._ask_no_more()
            return 'error', self._failure
        if self._closed and self._is_due('close', _Told.CLOSE, listened):
            return ('close',)
        return None

    def _is_due(self, event: str, once: _Told, listened: dict[str, Any]) -> bool:
        if event not in listened or once in self._told:
            return False
        self._told |= once
        return True

    def _next_information(self) -> tuple[Any, ...] | None:
        assert self._informed is not None
        head = self._informed[0]
        if head.status_code == 100 and self.listener_count('continue') and not self._continue_told:
            self._continue_told = True
            return ('continue',)
        self._continue_told = False
        self._informed.popleft()
        if self.listener_count('information'):
            return 'information', head
        return self._next_event()

    _continue_told: bool = False
