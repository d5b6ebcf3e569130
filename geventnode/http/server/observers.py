"""Observing exchanges: what logs and statistics are made of.

A server that somebody observes makes its responses of a class that tells at their beginning and, once, at their end;
any other server has no code on its way that would ask. An exchange ends when the response has ended and everything was
handed to the socket, or when it can no longer be: its client went away, or the server answered in its place.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from geventnode.http.server.response import ServerResponse
from geventnode.interfaces import IExchangeObserver

if TYPE_CHECKING:
    from geventnode.http.server.server import Server

__all__ = ['CLIENT_CLOSED_REQUEST', 'ExchangeObserver', 'ExchangeSampler', 'ObservedResponse', 'observe_exchanges']

#: The status of an exchange that ended before a head was sent: nginx's number, because readers expect one there.
CLIENT_CLOSED_REQUEST = 499


@implementer(IExchangeObserver)
class ExchangeObserver:
    """See :class:`geventnode.interfaces.IExchangeObserver`: does nothing, to be subclassed."""

    def exchange_began(self, response: Any) -> None:
        pass

    def exchange_ended(self, response: Any, status_code: int) -> None:
        pass


class ObservedResponse(ServerResponse):
    """A response that tells observers, its class's own. Made by the server, never by its users."""

    observers: tuple[ExchangeObserver, ...] = ()

    _notified: bool = False

    def __init__(self, request: Any, exchange: Any) -> None:
        super().__init__(request, exchange)
        #: When the exchange began (monotonic).
        self.began = monotonic()
        for observer in self.observers:
            observer.exchange_began(self)

    def _notify(self, status_code: int) -> None:
        if not self._notified:
            self._notified = True
            for observer in self.observers:
                observer.exchange_ended(self, status_code)

    def _hijack(self) -> Any:
        handed_over = super()._hijack()
        self._notify(101)
        return handed_over

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
    """Tell ``observer``, an :class:`~geventnode.interfaces.IExchangeObserver`, of each exchange of ``server`` that
    begins from now on.

    Input that is no request has no exchange: see the logger ``geventnode.error``. Neither has a connection that was
    handed to an ``'upgrade'`` or ``'connect'`` listener: it has no end here.
    """
    base = server.response_class
    while (plain := base.__dict__.get('plain')) is not None:
        # who takes a sample at present begins anew
        base = plain
    server.response_class = _observed(base, observer)


def _observed(base: type[ServerResponse], observer: Any, **attributes: Any) -> type[ServerResponse]:
    """Return a subclass of ``base`` that tells ``observer``, after those that ``base`` tells."""
    bases = (base,) if issubclass(base, ObservedResponse) else (ObservedResponse, base)
    if base is ServerResponse:
        bases = (ObservedResponse,)
    attributes['observers'] = (*getattr(base, 'observers', ()), observer)
    return type(f'Observed{base.__name__.removeprefix("Observed")}', bases, attributes)


class ExchangeSampler(ExchangeObserver):
    """Tells an observer of some exchanges of a server: for statistics that need not see each of them.

    The class of responses is exchanged for so long, so that all other exchanges cost what they cost without it.

    :param observer: hears of the ends only.
    """

    def __init__(self, server: Server, observer: ExchangeObserver) -> None:
        self._server = server
        self._observer = observer
        self._left = 0
        #: The class that others want, and the one that is made of it.
        self._plain: type[ServerResponse] | None = None
        self._made: type[ServerResponse] | None = None

    def take(self, count: int) -> None:
        """Tell of the next ``count`` exchanges that begin, and of no more."""
        self._left = count
        present = self._server.response_class
        if present is self._made:
            return
        if present is not self._plain or self._made is None:
            self._plain = present
            self._made = _observed(present, self, plain=present)
        self._server.response_class = self._made

    def stop(self) -> None:
        """Tell of none that begins from now on."""
        if self._plain is not None and self._server.response_class is self._made:
            self._server.response_class = self._plain

    def exchange_began(self, response: Any) -> None:
        self._left -= 1
        if self._left <= 0:
            # again and again, should another one have been in the way
            self.stop()

    def exchange_ended(self, response: Any, status_code: int) -> None:
        self._observer.exchange_ended(response, status_code)
