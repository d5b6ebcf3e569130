"""Observers of exchanges, for logs and statistics.

An observed server makes its responses of a class that notifies the observers at the beginning of an exchange and, once,
at its end. A server without observers has no code on the path of a request that would check for them. An exchange ends
when the response has ended and was passed to the socket, or when that became impossible: the client disconnected, or
the server sent an error response instead.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from geventnode.http.notification import notify
from geventnode.http.server.response import ServerResponse
from geventnode.interfaces import IExchangeObserver

if TYPE_CHECKING:
    from geventnode.http.server.server import Server

__all__ = ['CLIENT_CLOSED_REQUEST', 'ExchangeObserver', 'ExchangeSampler', 'ObservedResponse', 'observe_exchanges']

#: The status of an exchange that ended before a head was sent, as in the logs of nginx: log readers expect a number.
CLIENT_CLOSED_REQUEST = 499


@implementer(IExchangeObserver)
class ExchangeObserver:
    """A listener for the exchanges of a server: override one method or both.

    See :func:`observe_exchanges`. The methods are called in the greenlet that drives the exchange, and
    :meth:`exchange_ended` in the hub as well: they must not block. An exception in them is logged
    (``geventnode.error``), and the exchange goes on.
    """

    def exchange_began(self, response: Any) -> None:
        """Do nothing. Called when a request has arrived, before its listener.

        :param response: the :class:`ServerResponse`; ``response.request`` is the request, ``response.began`` the time
            in seconds (``time.monotonic()``).
        """

    def exchange_ended(self, response: Any, status_code: int) -> None:
        """Do nothing. Called once, when the exchange has ended in any way.

        :param response: as in :meth:`exchange_began`.
        :param status_code: the status that the client received; 499 if it disconnected before a head was sent. If an
            ``'upgrade'`` or ``'connect'`` listener gets the connection, that is the end, and the status is 101 or 200,
            as if the listener accepts.
        """


class ObservedResponse(ServerResponse):
    """A response that notifies the observers of its class."""

    observers: tuple[ExchangeObserver, ...] = ()

    #: Whether a listener has the connection, and responds itself.
    passed_on: bool = False

    _notified: bool = False

    def __init__(self, request: Any, connection: Any) -> None:
        super().__init__(request, connection)
        #: When the exchange began (monotonic).
        self.began = monotonic()
        for observer in self.observers:
            notify(observer.exchange_began, self)

    def _notify(self, status_code: int) -> None:
        if not self._notified:
            self._notified = True
            for observer in self.observers:
                notify(observer.exchange_ended, self, status_code)

    def _hijack(self) -> Any:
        handed_over = super()._hijack()
        self._notify(101)
        return handed_over

    def _on_passed_on(self) -> None:
        self.passed_on = True
        self._notify(200 if self.request.method == 'CONNECT' else 101)

    def _on_complete(self) -> None:
        self._notify(self.status_code)
        super()._on_complete()

    def _on_short_body(self, missing: int) -> None:
        self._notify(self.status_code)
        super()._on_short_body(missing)

    def _on_aborted(self, status_code: int | None) -> None:
        super()._on_aborted(status_code)
        if status_code is None:
            status_code = self.status_code if self._head_sent else CLIENT_CLOSED_REQUEST
        self._notify(status_code)


def observe_exchanges(server: Server, observer: Any) -> None:
    """Notify ``observer`` of each exchange that ``server`` begins from now on.

    Input that is no request is no exchange; see the logger ``geventnode.error``. Another call with the same observer
    has no effect.

    :param observer: an :class:`ExchangeObserver`, or another :class:`~geventnode.interfaces.IExchangeObserver`.
    """
    base = server.response_class
    while (original := base.__dict__.get('unsampled')) is not None:
        # a sampler that is active begins again
        base = original
    if not any(each is observer for each in getattr(base, 'observers', ())):
        server.response_class = _observed(base, observer)


def _observed(base: type[ServerResponse], observer: Any, **attributes: Any) -> type[ServerResponse]:
    """Return a subclass of ``base`` that also notifies ``observer``."""
    bases = (base,) if issubclass(base, ObservedResponse) else (ObservedResponse, base)
    if base is ServerResponse:
        bases = (ObservedResponse,)
    attributes['observers'] = (*getattr(base, 'observers', ()), observer)
    return type(f'Observed{base.__name__.removeprefix("Observed")}', bases, attributes)


class ExchangeSampler(ExchangeObserver):
    """Notifies an observer of a sample of exchanges, for statistics.

    The class of responses is replaced while a sample is taken, so that no other exchange costs more.

    :param observer: notified of the ends only.
    """

    def __init__(self, server: Server, observer: ExchangeObserver) -> None:
        self._server = server
        self._observer = observer
        self._remaining = 0
        #: The class of responses without the sampler, and with it.
        self._original: type[ServerResponse] | None = None
        self._sampled: type[ServerResponse] | None = None

    def take(self, count: int) -> None:
        """Observe the next ``count`` exchanges that begin."""
        self._remaining = count
        present = self._server.response_class
        if present is self._sampled:
            return
        if present is not self._original or self._sampled is None:
            self._original = present
            self._sampled = _observed(present, self, unsampled=present)
        self._server.response_class = self._sampled

    def stop(self) -> None:
        """Observe no further exchange."""
        if self._original is not None and self._server.response_class is self._sampled:
            self._server.response_class = self._original

    def exchange_began(self, response: Any) -> None:
        self._remaining -= 1
        if self._remaining <= 0:
            # another observer can have replaced the class meanwhile: each later exchange tries again
            self.stop()

    def exchange_ended(self, response: Any, status_code: int) -> None:
        self._observer.exchange_ended(response, status_code)
