"""Observers of the requests of an agent, for traces and statistics.

An observed agent makes its requests of a class that notifies the observers. An agent without observers has no code on
the path of a request that would check for them; the server does the same. A request has begun when its head is about to
be rendered, so that an observer can add fields to it. It has ended when the head of the response has arrived, or when
it has failed.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from zope.interface import implementer

from geventnode.http.client.request import ClientRequest
from geventnode.http.notification import notify
from geventnode.interfaces import IRequestObserver

if TYPE_CHECKING:
    from collections.abc import Callable

    from geventnode.http.client.agent import Agent
    from geventnode.http.incoming import IncomingMessage

__all__ = ['ObservedRequest', 'RequestObserver', 'observe_requests', 'observed_class']


@implementer(IRequestObserver)
class RequestObserver:
    """A listener for the requests of an agent: override one method or both.

    See :func:`observe_requests`. The methods must not block. An exception in them is logged (``geventnode.error``), and
    the request goes on.
    """

    def request_began(self, request: Any) -> None:
        """Do nothing. Called once, before the head is rendered, in the greenlet that sends the request.

        :param request: the :class:`ClientRequest`. Its fields can be read and changed, by ``set_header()`` for
            instance. A request that is sent a second time, on a new connection, has the same fields. If the head
            cannot be rendered, the request ends with the error, and begins anew if the program sends it after all.
        """

    def request_ended(self, request: Any, error: BaseException | None) -> None:
        """Do nothing. Called once, when the head of the response has arrived or the request has failed.

        It is called in the hub or in the greenlet that sends the request.

        :param request: as in :meth:`request_began`; ``request.response`` is the response; its body can be
            incomplete.
        :param error: the reason why there is no response; None if there is one.
        """


class ObservedRequest(ClientRequest):
    """A request that notifies the observers of its class."""

    observers: tuple[Any, ...] = ()

    _began: bool = False
    _notified: bool = False
    #: Its observers are to be notified of its end.
    _can_be_forgotten: bool = False

    def _build_head(self, length: int | None) -> str:
        if not self._began:
            self._began = True
            for observer in self.observers:
                notify(observer.request_began, self)
        try:
            return super()._build_head(length)
        except Exception as error:
            self._notify_unsent(error)
            raise

    def _notify(self, error: BaseException | None) -> None:
        if self._began and not self._notified:
            self._notified = True
            for observer in self.observers:
                notify(observer.request_ended, self, error)

    def _notify_unsent(self, error: BaseException) -> None:
        """Notify the observers of an error that the caller gets: nothing is sent."""
        self._notify(error)
        self._began = self._notified = False

    def _render_message(self, body: bytes | memoryview) -> None:
        try:
            super()._render_message(body)
        except Exception as error:
            self._notify_unsent(error)
            raise

    def _on_refused(self, error: BaseException) -> None:
        super()._on_refused(error)
        self._notify(error)

    def _on_response(self, response: IncomingMessage) -> None:
        # before the waiters are switched to
        self.response = response
        self._notify(None)
        super()._on_response(response)

    def _fail(self, error: BaseException) -> None:
        super()._fail(error)
        if self._failure is error:
            self._notify(error)


def observed_class(base: type[ClientRequest], observers: tuple[Any, ...]) -> type[ClientRequest]:
    """Return a subclass of ``base`` that notifies ``observers``."""
    return type(f'Observed{base.__name__}', (ObservedRequest, base), {'observers': observers})


def observe_requests(agent: Agent, observer: Any) -> None:
    """Notify ``observer`` of each request of ``agent`` from now on.

    The requests of WebSockets are among them, and those of an ``AgentAdapter`` for ``requests`` that uses ``agent``. A
    CONNECT request that the agent itself sends to a proxy is not. Another call with the same observer has no effect.

    :param observer: a :class:`RequestObserver`, or another :class:`~geventnode.interfaces.IRequestObserver`.
    """
    if any(each is observer for each in agent._observers):
        return
    agent._observers = (*agent._observers, observer)
    agent._observed_class = cast(
        'Callable[[type[ClientRequest]], type[ClientRequest]]',
        cache(partial(observed_class, observers=agent._observers)),
    )
    agent._set_request_class()
